"""The types in which files hold numbers, and numbers brought into them."""

from __future__ import annotations

from typing import Optional

import numpy as np
from torch import Tensor

INTEGERS = tuple(np.dtype(f"{sign}int{bits}") for bits in (8, 16, 32, 64) for sign in ("u", ""))
"""From small to large."""

PIXEL_TYPES = {kind.name: kind for kind in (*INTEGERS, np.dtype(np.float32), np.dtype(np.float64))}
"""What a user can ask for, by name."""


AT_ONCE = 1 << 20


def as_type(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Numbers as another type: integers by rounding, those beyond the type become the nearest that it has.

    Args:
        kind: of complex numbers the type of their parts is taken.
    """
    if kind.kind not in "iu":
        return values.astype(kind.type(0).real.dtype, copy=False)
    if values.dtype.kind in "iu":
        return values.astype(kind, copy=False)
    limits = np.iinfo(kind)
    last = np.nextafter(limits.max + 1.0, 0)  # the largest 64-bit integers are no floating-point numbers
    made = np.empty(values.shape, kind)
    source, target = values.reshape(-1), made.reshape(-1)
    for start in range(0, source.size, AT_ONCE):  # in double precision an image would take several times its memory
        part = slice(start, start + AT_ONCE)
        target[part] = np.round(source[part].astype(np.float64)).clip(limits.min, last).astype(kind)
    return made


def holding(labels: Tensor, kind: Optional[np.dtype]) -> np.dtype:
    """The integer type that holds labels: this one, or else the smallest that does."""
    low, high = int(labels.min()), int(labels.max())
    kinds = [*([kind] if kind is not None and kind.kind in "iu" else []), *INTEGERS]
    return next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
