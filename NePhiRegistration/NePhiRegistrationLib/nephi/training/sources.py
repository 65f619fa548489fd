"""The source of pairs that a configuration describes."""

from __future__ import annotations

from pathlib import Path

from .config import Config, Data
from .datasets import ImagePairs, Mixture, Source
from .synthesis import Blobs, LabelMaps, Lungs, Shapes


def make_source(config: Config, root: Path, strict: bool) -> Source:
    """All [[data]] tables of a configuration as one source.

    Args:
        root: the folders in the configuration are relative to it.
        strict: an image that cannot be read is fatal.

    Raises:
        InputError: data that cannot be used.
    """
    sources = [_one(data, config, root, strict) for data in config.data]
    return sources[0] if len(sources) == 1 else Mixture(sources, [data.weight for data in config.data])


def _one(data: Data, config: Config, root: Path, strict: bool) -> Source:
    sizes = config.model.design.sizes
    if data.kind == "images":
        return ImagePairs(data, sizes, root, strict)
    if data.kind == "labels":
        return LabelMaps(data, sizes, root)
    return {"shapes": Shapes, "blobs": Blobs, "lungs": Lungs}[data.kind](data, sizes)
