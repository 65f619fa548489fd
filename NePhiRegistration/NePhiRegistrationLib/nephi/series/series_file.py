"""All transforms of a series in one file: an archive of the .nephi files of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np
import torch

from ..archive import ArchiveFormat
from ..errors import InputError
from ..maps.transform import Transform
from ..storage import PathLike

FORMAT = ArchiveFormat("nephi-series", 1, "the transforms of a series", "give the series.nephi of 'nephi series'",
                       compressed=False)


def write_series(transforms: Sequence[Transform], names: Sequence[str], path: PathLike) -> None:
    """Write the transforms of the frames of a series, completely or not at all.

    Args:
        names: of the frames.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    FORMAT.write(path, {"frames": list(names)},
                 {str(number): np.frombuffer(transform.to_bytes(), np.uint8)
                  for number, transform in enumerate(transforms)})


def read_series(path: PathLike, device: Union[str, torch.device] = "cpu") -> dict[str, Transform]:
    """The transforms of a series by the names of the frames, in their order.

    Raises:
        InputError: not a file of ours, truncated, or of a newer version.
    """
    header, arrays = FORMAT.read(path)
    try:
        return {str(name): Transform.from_bytes(arrays[str(number)].tobytes(), device, f"{path}, frame {name}")
                for number, name in enumerate(header["frames"])}
    except (LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); run 'nephi series' again.") from error
