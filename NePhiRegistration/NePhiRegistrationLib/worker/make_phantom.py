"""Makes the phantom lung pair for Slicer, whose process has no torch: ``python make_phantom.py FILE.npz SIZE SEED``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from NePhiRegistrationLib.nephi.images.phantom import lung_phantom


def main() -> None:
    path, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    phantom, arrays = lung_phantom(size, seed), {}
    for side in ("fixed", "moving"):
        image = getattr(phantom, side)
        arrays[side] = image.values.numpy().round().astype(np.int16)
        arrays[f"{side}_mask"] = getattr(phantom, f"{side}_mask").numpy()
        arrays[f"{side}_landmarks"] = getattr(phantom, f"landmarks_{side}").numpy()
        arrays.update({f"{side}_{name}": np.asarray(value) for name, value in image.grid.to_dict().items()})
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
