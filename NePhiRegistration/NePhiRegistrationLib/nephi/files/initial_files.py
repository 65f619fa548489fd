"""The file of a transform to start from: ITK's, a displacement image, or a registration of our own."""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path
from typing import Optional, Union

import SimpleITK as sitk
import torch

from ..align.initial import Start, start_from, start_from_itk
from ..device import free_memory, within_free_memory
from ..errors import InputError, reason
from ..geometry import Grid
from ..maps.map import CPU
from ..maps.transform import Transform
from ..storage import PathLike

IMAGES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_HEAD = 4096  # bytes in which a text shows what it is
_ITK_TEXT = "#Insight Transform File"
_NO_ROOM = re.compile("alloc|memory", re.IGNORECASE)  # how ITK and its libraries say so
_COUNTED = "FixedCenterOfRotationAffine", "ScalableAffine"  # by ITK itself, as are those that bend
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_initial_transform(path: PathLike, fixed: Grid, device: Union[str, torch.device] = CPU) -> Start:
    """Read where a registration starts.

    Args:
        path: an ITK transform file (.tfm, .txt, .mat, .h5, linear or not), an image of displacements in LPS mm from
            fixed to moving points (:data:`IMAGES`), or the .nephi file of a registration.
        fixed: the fixed image's grid.
        device: where the stages are to be.

    Raises:
        InputError: it cannot be read or used, or is another program's matrix.
    """
    path = Path(path)
    name = f"initial transform {path.name}"
    if not path.is_file():
        raise InputError(f"The {name} does not exist ({path}); check the path.")
    lower = path.name.lower()
    if lower.endswith(".nephi"):
        return start_from(Transform.load(path, device), fixed, name)
    return start_from_itk(_field(path, name) if lower.endswith(IMAGES) else _itk(path, name), fixed, name, device)


def _itk(path: Path, name: str) -> sitk.Transform:
    text = _text(path)
    _refuse_others(text, path, name)
    try:
        with within_free_memory():
            return _from_text(path) if text.startswith(_ITK_TEXT) else sitk.ReadTransform(str(path))
    except (RuntimeError, ValueError, MemoryError) as error:
        if _NO_ROOM.search(str(error)):
            raise InputError(f"The {name} takes more than the {free_memory() / 1e9:.1f} GB of memory that are free; "
                             "check that the file is whole, or give a transform with fewer nodes.") from error
        raise InputError(f"The {name} cannot be read as an ITK transform ({reason(error)}); give an ITK transform as "
                         ".tfm, .txt, .mat or .h5, a displacement image, or a .nephi file.") from error


def _from_text(path: Path) -> sitk.Transform:
    """ITK's text form, whatever its file is called.

    A lone transform is made a composite of one: some of ITK's old transforms SimpleITK reads in no other way.

    Raises:
        ValueError: it holds several transforms that are no composite, or lacks numbers.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    kinds = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Transform:")]
    if kinds and not kinds[0].startswith("CompositeTransform"):
        if len(kinds) > 1:
            raise ValueError(f"it holds {len(kinds)} transforms and does not say how they belong together")
        lines[1:1] = ["#Transform 0", _composite(kinds[0])]
    _check_numbers(lines)
    return _read_lines(lines)


def _composite(kind: str) -> str:
    """The line of a composite, for transforms of a kind."""
    return "_".join(["Transform: CompositeTransform", *kind.split("_")[1:]])


def _check_numbers(lines: list[str]) -> None:
    """Refuse numbers that ITK takes for the end of its list. Where a list is too short it reads memory beyond it."""
    counts: list[tuple[str, int]] = []  # of parameters, with the kind of each transform
    for key, _, value in (line.partition(":") for line in lines if not line.startswith("#")):
        if key == "Transform":
            counts.append((value.strip(), 0))
        elif key in ("Parameters", "FixedParameters"):
            wrong = next((word for word in value.split() if not _finite(word)), None)
            if wrong is not None:
                raise ValueError(f"its {key} hold {wrong!r}, which is not a finite number")
            if key == "Parameters" and counts:
                counts[-1] = counts[-1][0], len(value.split())
    for kind, count in counts:
        bare = _read_lines([lines[0], "#Transform 0", _composite(kind), "#Transform 1", f"Transform: {kind}"])
        counted = not bare.IsLinear() or kind.startswith(_COUNTED)
        expected = 0 if counted else bare.GetNumberOfParameters()
        if count < expected:
            raise ValueError(f"its {kind.split('_')[0]} has {count} parameters and needs {expected}")


def _finite(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None and math.isfinite(float(word))


def _read_lines(lines: list[str]) -> sitk.Transform:
    with tempfile.TemporaryDirectory(prefix="nephi-") as folder:
        copy = Path(folder) / "transform.tfm"
        copy.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return sitk.ReadTransform(str(copy))


def _field(path: Path, name: str) -> sitk.Transform:
    """An image of displacements as a transform."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        dim, components = reader.GetDimension(), reader.GetNumberOfComponents()
        if components != dim or dim not in (2, 3):
            raise InputError(f"The {name} is a {dim}D image with {components} values in each voxel; give a "
                             "displacement image with 2 or 3, one for each axis.")
        need, room = 8.0 * dim * math.prod(reader.GetSize()), free_memory()
        if need > room:
            raise InputError(f"The {name} takes {need / 1e9:.1f} GB and {room / 1e9:.1f} GB of memory are free; give a "
                             "displacement image with larger voxels.")
        reader.SetOutputPixelType(sitk.sitkVectorFloat64)
        return sitk.DisplacementFieldTransform(reader.Execute())
    except RuntimeError as error:
        raise InputError(f"The {name} cannot be read as a displacement image ({reason(error)}); give a whole file."
                         ) from error


def _text(path: Path) -> str:
    """The beginning of a text file; of another file nothing."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    return "" if b"\0" in head else head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")


def _refuse_others(text: str, path: Path, name: str) -> None:
    remedy = _remedy(text, path.name)
    if remedy is not None:
        raise InputError(f"The {name} is {remedy}.")


def _remedy(text: str, file: str) -> Optional[str]:
    """What another program's text is, and how it becomes an ITK transform; None of a text that is none of these."""
    words = text.replace(",", " ").split()
    if len(words) in (9, 12, 16) and all(_NUMBER.fullmatch(word) for word in words):
        return ("a plain matrix, which does not say between which coordinates; convert one of greedy or c3d with "
                f"'c3d_affine_tool {file} -oitk out.txt', and one of FLIRT with 'c3d_affine_tool -ref FIXED "
                f"-src MOVING {file} -fsl2ras -oitk out.txt'")
    if re.search(r"^\s*\(Transform\s", text, re.MULTILINE):
        return ("a parameter file of elastix; have elastix write an ITK transform with "
                "'(ITKTransformOutputFileNameExtension \"h5\")', or transformix a displacement image with '-def all'")
    if re.search(r"^\s*nxforms\s*=", text, re.MULTILINE):
        return f"a transform of FreeSurfer; convert it with 'lta_convert --inlta {file} --outitk out.txt'"
    return None
