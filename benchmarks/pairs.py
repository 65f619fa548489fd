"""The pairs of the benchmark, as files: every method reads them in a process of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional, Union

import SimpleITK as sitk
import torch
from nephi.errors import InputError
from nephi.files.points import read_landmark_pairs
from nephi.geometry import random_points
from nephi.images.image import Image
from nephi.images.pair import Pair
from nephi.images.phantom import lung_phantom, shapes_2d
from nephi.images.reading import read_image, read_labels, read_mask
from nephi.images.writing import write_image

# FreeSurfer's numbers of the 29 structures scored in the brain pair.
BRAIN_LABELS = (2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 28, 31, 41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54,
                60, 63)
SHAPE_SEEDS = range(5)
TRUTH_POINTS = 20_000


@dataclass(frozen=True)
class Case:
    """Two images to register and all there is to judge the result by; paths of files, None where there is none.

    Attributes:
        pair: the name in the table; cases of one name share a row.
        preset: of the engine.
        labels: which labels count; None means all of the fixed label image.
        truth: corresponding points of a phantom, in the format of landmarks, at voxel centres inside the mask.
    """

    pair: str
    preset: str
    fixed: str
    moving: str
    fixed_mask: Optional[str] = None
    moving_mask: Optional[str] = None
    landmarks: Optional[str] = None
    fixed_labels: Optional[str] = None
    moving_labels: Optional[str] = None
    labels: Optional[tuple[int, ...]] = None
    truth: Optional[str] = None

    def read(self) -> Pair:
        """The images and what judges them."""
        fixed, moving = read_image(self.fixed, "fixed"), read_image(self.moving, "moving")
        return Pair(
            fixed, moving,
            fixed_mask=read_mask(self.fixed_mask, fixed, "fixed") if self.fixed_mask else None,
            moving_mask=read_mask(self.moving_mask, moving, "moving") if self.moving_mask else None,
            landmarks=read_landmark_pairs(self.landmarks, fixed.grid, moving.grid) if self.landmarks else None,
            fixed_labels=read_labels(self.fixed_labels, "fixed") if self.fixed_labels else None,
            moving_labels=read_labels(self.moving_labels, "moving") if self.moving_labels else None,
            labels=self.labels)

    def save(self, path: Path, **extra: object) -> None:
        """Write this case, and what a method needs beside it, as JSON."""
        path.write_text(json.dumps({"case": asdict(self), **extra}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> tuple[Case, dict]:
        """A saved case and what was written beside it."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(**document.pop("case")), document


def lung(folder: Path) -> Case:
    """The CT pair of the data folder: one lung at two breath-holds, 25 landmarks."""
    names = {"fixed": "fixed.nrrd", "moving": "moving.nrrd", "fixed_mask": "fixed_mask.nrrd",
             "moving_mask": "moving_mask.nrrd", "landmarks": "landmarks.csv"}
    return Case("lung", "lung-ct", **_files(folder / "lung", names))


def brain(folder: Path) -> Case:
    """The T1 pair of the data folder: two people, skull-stripped, 29 labels."""
    names = {role: f"{role}.nii.gz" for role in ("fixed", "moving", "fixed_labels", "moving_labels")}
    return Case("brain", "brain-mri", **_files(folder / "brain", names), labels=BRAIN_LABELS)


def phantom(folder: Path, size: int) -> Case:
    """A generated chest at two breathing states, whose true deformation is known everywhere."""
    made = lung_phantom(size)
    files = {"fixed": made.fixed, "moving": made.moving, "fixed_mask": made.fixed_mask, "moving_mask": made.moving_mask}
    paths = {role: str(folder / f"phantom_{role}.nrrd") for role in files}
    for role, content in files.items():
        grid = (made.fixed if role.startswith("fixed") else made.moving).grid
        _write(content, grid, paths[role])
    inside = random_points(made.fixed.grid, TRUTH_POINTS, made.fixed_mask)
    centers = made.fixed.grid.to_world(made.fixed.grid.to_index(inside).round()).double()
    points = {"landmarks": (made.landmarks_fixed, made.landmarks_moving), "truth": (centers, made.forward(centers))}
    for role, both in points.items():
        paths[role] = str(folder / f"phantom_{role}.csv")
        _write_points(paths[role], *both)
    return Case("phantom lung", "lung-ct", **paths)


def shapes(folder: Path, size: int = 128) -> Iterator[Case]:
    """Triangles onto circles in 2D, one case for each seed."""
    for seed in SHAPE_SEEDS:
        contents = dict(zip(("fixed", "moving", "fixed_labels", "moving_labels"), shapes_2d(size, seed)))
        paths = {role: str(folder / f"shapes_{seed}_{role}.nrrd") for role in contents}
        for role, content in contents.items():
            _write(content, contents["fixed"].grid, paths[role])
        yield Case("2D shapes", "generic", **paths)


def _write(content: Union[Image, torch.Tensor], grid, path: str) -> None:
    """An image, or a mask on a grid."""
    mask = isinstance(content, torch.Tensor)
    image = Image(content.float(), grid) if mask else content
    write_image(image.to_sitk(sitk.sitkUInt8 if mask else sitk.sitkFloat32), path)


def _write_points(path: str, fixed: torch.Tensor, moving: torch.Tensor) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f"{image}_{axis}" for image in ("fixed", "moving") for axis in "xyz"])
        writer.writerows(torch.cat([fixed, moving], dim=1).tolist())


def _files(folder: Path, names: dict[str, str]) -> dict[str, str]:
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} has no {', '.join(missing)}; give the data folder with --data.")
    return {role: str(folder / name) for role, name in names.items()}
