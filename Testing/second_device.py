"""A second device on the CPU: it computes right, and refuses what CUDA refuses of tensors on two devices.

It calls itself torch's "meta", the one device beside the CPU that every torch has; other than there its tensors have
values, which lie in an ordinary tensor inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

SECOND = torch.device("meta")

_ATEN = torch.ops.aten
_ACROSS = {_ATEN._to_copy, _ATEN.copy_}
_INDEXED = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_}


class SecondTensor(torch.Tensor):
    """A tensor on the second device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> SecondTensor:
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=SECOND)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Within the block there is a second device."""
    with _Factories(), ExitStack() as stack:
        for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")):
            stack.enter_context(mock.patch.object(owner, name, _keeping_values(getattr(owner, name))))
        yield SECOND


def _keeping_values(make: Callable) -> Callable:
    """What makes tensors of numbers, but for torch's habit to forget the numbers of one for "meta" at once."""
    def made(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if device is None and isinstance(args[0], SecondTensor):  # new_tensor, or the tensor itself
            device = SECOND
        if not _named(device):
            return make(*args, **kwargs, **({} if device is None else {"device": device}))
        if isinstance(args[0], torch.Tensor) and len(args) > 1:
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(device)
        return make(*args, **kwargs, device="cpu").to(device)

    return made


class _Factories(TorchDispatchMode):
    """Sees also what has no tensor of the second device among its arguments: making one, moving one there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


def _named(device: Any) -> bool:
    return device is not None and torch.device(device).type == SECOND.type


def _computed(function: Any, args: tuple, kwargs: dict) -> Any:
    """What an operation gives, on the device on which torch would have it.

    Raises:
        RuntimeError: its tensors are on two devices.
    """
    given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    ours = [tensor for tensor in given if isinstance(tensor, SecondTensor)]
    there = _named(kwargs["device"]) if kwargs.get("device") is not None else bool(ours)
    if ours:
        _check_devices(function, args, given)
    if there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{function} draws on the second device with a generator of the CPU.")
    if "device" in kwargs and there:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if function.overloadpacket is _ATEN.copy_ or not there:
        return args[0] if function.overloadpacket is _ATEN.copy_ else found
    if torch.Tag.inplace_view in function.tags:  # such as squeeze_, which gives the tensor itself another shape
        with no_dispatch():
            return function(*args, **kwargs)
    known = {id(tensor.inner): tensor for tensor in ours}  # what works in place gives back what it was given

    def outer(value: Any) -> Any:
        made = isinstance(value, torch.Tensor) and id(value) not in known
        return SecondTensor(value) if made else known.get(id(value), value)

    return tree_map(outer, found)


def _check_devices(function: Any, args: tuple, given: list[torch.Tensor]) -> None:
    """As CUDA does: one number may come from the CPU, indices may, and copies are what they are for."""
    packet = function.overloadpacket
    if packet in _ACROSS:
        return
    if packet in _INDEXED and isinstance(args[0], SecondTensor):
        given = [args[0], *args[2:3]]
    foreign = [tuple(tensor.shape) for tensor in given if not isinstance(tensor, SecondTensor) and tensor.dim()]
    if foreign:
        raise RuntimeError(f"{function}: Expected all tensors to be on the same device; of shape {foreign} are some on "
                           "the CPU.")


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, SecondTensor) else value
