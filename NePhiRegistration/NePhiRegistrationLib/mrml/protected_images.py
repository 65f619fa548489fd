"""Images that are not to be written into, because someone wants them back as they are."""

from __future__ import annotations

import weakref
from typing import Any

_protected: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # by identity: images have no hash


def protect(image: Any) -> None:
    """From now on, as long as somebody holds this image, those who write voxels put another one in its place."""
    _protected[id(image)] = image


def is_protected(image: Any) -> bool:
    """Whether another image must take the place of this one instead of new voxels."""
    return image is not None and _protected.get(id(image)) is image
