"""Several processes as one: started by torchrun, each takes its share of every batch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..device import pick_device


@dataclass(frozen=True)
class Group:
    """This process and its place among those of a training.

    Attributes:
        rank: its number from 0; the first one writes.
        size: how many there are.
        device: where it computes.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Group:
        """The group that torchrun's environment describes, or this process alone."""
        found = pick_device(device)
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size > 1 and found.type == "cuda":
            found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(found)
        if size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
        return cls(int(os.environ.get("RANK", "0")) if size > 1 else 0, size, found)

    def leave(self) -> None:
        """End what :meth:`join` started."""
        if self.size > 1 and dist.is_initialized():
            dist.barrier()  # a process that leaves early would crash those that still talk to it
            dist.destroy_process_group()

    def means(self, terms: dict[str, float], count: int) -> dict[str, float]:
        """The means over all pairs of sums over ``count`` pairs of each process; the names may differ between them."""
        gathered = [terms]
        if self.size > 1:
            gathered = [{} for _ in range(self.size)]
            dist.all_gather_object(gathered, terms)
        names = {name: None for part in gathered for name in part}
        return {name: sum(part.get(name, 0.0) for part in gathered) / (count * self.size) for name in names}

    def mean_gradients(self, module: nn.Module, count: int) -> None:
        """Turn the gradients' sums over ``count`` pairs of each process into means over all pairs."""
        for parameter in module.parameters():  # the same ones everywhere, or the messages would not match
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._average([parameter.grad for parameter in module.parameters()], count)

    def average_statistics(self, module: nn.Module) -> None:
        """Average the running statistics of batch norms, if there are any, over the processes."""
        self._average([buffer for name, buffer in module.named_buffers() if "running" in name], 1)

    def _average(self, tensors: list[Tensor], count: int) -> None:
        """Add tensors up over the processes, all in one message, and divide them by ``count`` per process."""
        if not tensors:
            return
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
                tensor.copy_(part.view_as(tensor))
        torch._foreach_div_(tensors, float(count * self.size))
