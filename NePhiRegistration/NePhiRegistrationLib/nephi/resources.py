"""Where presets, weights and training configurations lie."""

from __future__ import annotations

from pathlib import Path


def resources_folder() -> Path:
    """The folder that holds them: inside an installed package; in the source tree and in Slicer above it."""
    packaged = Path(__file__).parent / "resources"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "Resources"
