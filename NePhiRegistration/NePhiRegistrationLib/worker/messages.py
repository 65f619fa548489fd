"""What goes over the pipe, both ways: a type, plain JSON fields and named arrays; nothing in it is ever executed.

A frame is ``magic (4 bytes) | header length (uint32) | payload length (uint64) | header | payload``, little-endian. The
header is JSON, {"kind", "fields", "arrays": [{"name", "dtype", "shape"}]}; the payload is the arrays' bytes, in order,
each filled up to a multiple of 8 so that all are aligned.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np

MAGIC = b"NPh1"
DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8")
MAX_HEADER = 1 << 24
MAX_PAYLOAD = 1 << 35
MAX_AXES = 8
LONG = ("register", "continue", "series")
"""Requests beside which no other is possible."""

Bytes = Union[bytes, bytearray, memoryview]
_PREFIX = struct.Struct("<4sIQ")


class ProtocolError(ValueError):
    """What came is not a message of this protocol, or what is to be sent cannot be one; one sentence."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: its type, for instance "register" or "progress".
        fields: plain JSON values.
        arrays: name -> array of one of :data:`DTYPES`.
    """

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def encode(kind: str, fields: Optional[Mapping[str, Any]] = None, arrays: Optional[Mapping[str, np.ndarray]] = None
           ) -> list[Bytes]:
    """The pieces of a frame, to be written one after the other; contiguous arrays are not copied.

    Raises:
        ProtocolError: a field that is not JSON (NaN is not), an array of another type, too much of either.
    """
    listed, payload = [], []
    for name, array in (arrays or {}).items():
        array = np.asarray(array)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        if array.dtype.str not in DTYPES:
            raise ProtocolError(f"The array {name} has the type {array.dtype}, which cannot be sent; convert it first.")
        listed.append({"name": name, "dtype": array.dtype.str, "shape": array.shape})
        payload += [memoryview(array.reshape(-1).view(np.uint8)), bytes(_aligned(array.nbytes) - array.nbytes)]
    try:
        header = json.dumps({"kind": kind, "fields": fields or {}, "arrays": listed}, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"The message {kind} has fields that cannot be sent ({error}).") from error
    size = sum(len(part) for part in payload)
    _check_sizes(len(header), size)
    return [_PREFIX.pack(MAGIC, len(header), size) + header, *filter(len, payload)]


class Decoder:
    """Cuts a stream of bytes, in pieces of any size, into messages; time and memory are linear in what arrives.

    After a :class:`ProtocolError` the stream cannot be trusted any more: every further piece raises it again.
    """

    def __init__(self) -> None:
        self._error: Optional[ProtocolError] = None
        self._await(bytearray(_PREFIX.size), self._prefix)

    def feed(self, data: Bytes) -> list[Message]:
        """The messages that these bytes complete.

        Raises:
            ProtocolError: they are no messages.
        """
        if self._error is not None:
            raise self._error
        messages: list[Message] = []
        view = memoryview(data)
        try:
            while view.nbytes or not self._missing:
                taken = min(self._missing, view.nbytes)
                start = len(self._buffer) - self._missing
                self._buffer[start:start + taken] = view[:taken]
                self._missing -= taken
                view = view[taken:]
                if self._missing:
                    break
                messages += self._complete()
        except ProtocolError as error:
            self._error = error
            raise
        return messages

    def _await(self, buffer: Union[bytearray, np.ndarray], complete) -> None:
        self._buffer, self._missing, self._complete = buffer, len(buffer), complete

    def _prefix(self) -> list[Message]:
        magic, header, payload = _PREFIX.unpack(self._buffer)
        if magic != MAGIC:
            raise ProtocolError(f"Something that is not a message arrived ({bytes(self._buffer)!r}).")
        _check_sizes(header, payload)
        self._payload_size = payload
        self._await(bytearray(header), self._header)
        return []

    def _header(self) -> list[Message]:
        self._kind, self._fields, self._arrays = _parsed(self._buffer)
        size = sum(_aligned(dtype.itemsize * math.prod(shape)) for _, dtype, shape in self._arrays)
        if size != self._payload_size:
            raise ProtocolError(f"A message announces {self._payload_size} bytes for arrays that take {size}.")
        try:
            self._await(np.empty(size, np.uint8), self._payload)  # not filled: that takes 0.1 s for 200 MB
        except MemoryError as error:
            raise ProtocolError(f"There is no memory for a message of {size / 1e9:.2f} GB.") from error
        return []

    def _payload(self) -> list[Message]:
        arrays, offset = {}, 0
        for name, dtype, shape in self._arrays:
            count = math.prod(shape)
            arrays[name] = np.frombuffer(self._buffer, dtype, count, offset).reshape(shape) if count else \
                np.zeros(shape, dtype)
            offset += _aligned(count * dtype.itemsize)
        message = Message(self._kind, self._fields, arrays)
        self._await(bytearray(_PREFIX.size), self._prefix)
        return [message]


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _check_sizes(header: int, payload: int) -> None:
    if header > MAX_HEADER or payload > MAX_PAYLOAD:
        raise ProtocolError(f"A message of {header} + {payload} bytes is larger than the {MAX_HEADER} + {MAX_PAYLOAD} "
                            "bytes allowed.")


def _parsed(header: bytearray) -> tuple[str, dict, list[tuple[str, np.dtype, tuple[int, ...]]]]:
    try:
        values = json.loads(header.decode("utf-8"))
        kind, fields = values["kind"], values["fields"]
        if not isinstance(kind, str) or not isinstance(fields, dict):
            raise ValueError("its kind or its fields are of another type")
        return kind, fields, [_listed(entry) for entry in values["arrays"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"A message has an unreadable header ({error!r}).") from error


def _listed(entry: dict) -> tuple[str, np.dtype, tuple[int, ...]]:
    name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
    whole = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if not isinstance(name, str) or dtype not in DTYPES or not whole or len(shape) > MAX_AXES or \
            math.prod(filter(None, shape)) > MAX_PAYLOAD:  # NumPy refuses also empty arrays with such axes
        raise ValueError(f"no array is {entry}")
    return name, np.dtype(dtype), tuple(shape)
