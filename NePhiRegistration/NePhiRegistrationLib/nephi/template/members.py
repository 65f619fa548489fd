"""The images of a template: which they are, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cohort.finished import fingerprints
from ..cohort.image_folder import images_in, stem_of
from ..cohort.rows import wrong_id
from ..errors import Faults, InputError
from ..geometry import Grid
from ..images.reading import read_grid

_FAULTY = "The images cannot be used"


@dataclass(frozen=True)
class Member:
    """One image of a template.

    Attributes:
        id: its name, unique among the images.
        image: its absolute path.
        labels: the absolute path of its label map, or "".
        grid: where its voxels are.
        digest: of its content and that of its labels.
    """

    id: str
    image: str
    labels: str
    grid: Grid
    digest: str

    @property
    def files(self) -> dict[str, str]:
        """role -> path of what is read."""
        return {"moving": self.image, **({"moving_labels": self.labels} if self.labels else {})}


def members_of(images: Sequence[str], labels: Sequence[str]) -> list[Member]:
    """The images of a template in an order that does not depend on the one in which they were given, nor on their
    names, but on what is in them.

    Args:
        images: paths, or one folder.
        labels: as many paths in the same order, or one folder in which they have the names of the images, or nothing.

    Raises:
        InputError: what cannot be used, all of it in one list.
    """
    paths = _listed(images)
    if len(paths) < 2:
        raise InputError(f"A template needs at least two images, and {'one was' if paths else 'none were'} given; give "
                         "more, or their folder.")
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise Faults(_FAULTY, [f"{path} is given twice" for path in twice], "give each once")
    maps, faults = _labels_of(paths, labels)
    ids = _names(paths)
    faults += [f"{path}: {wrong}" for path, id in zip(paths, ids) if (wrong := wrong_id(id)) is not None]
    members = []
    for id, path, map_ in zip(ids, paths, maps):
        try:
            members.append(_member(id, path, map_))
        except InputError as error:
            faults.append(str(error).rstrip("."))
    dims = Counter(member.grid.dim for member in members)
    if len(dims) > 1:
        fewer, *_, more = sorted(dims, key=lambda dim: (dims[dim], dim))
        faults += [f"the image {Path(member.image).name} is {fewer}D and others are {more}D"
                   for member in members if member.grid.dim == fewer]
    if faults:
        raise Faults(_FAULTY, faults)
    return sorted(members, key=lambda member: (member.digest, member.id))


def _listed(images: Sequence[str]) -> list[Path]:
    """The paths; one folder stands for the images in it, unless it is a single image in DICOM."""
    return images_in(images[0]) if len(images) == 1 and Path(images[0]).is_dir() else [
        Path(path).absolute() for path in images]


def _labels_of(images: Sequence[Path], labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The label map of each image or "", and what is wrong with them."""
    if not labels:
        return [""] * len(images), []
    if len(labels) == 1 and Path(labels[0]).is_dir():
        found = {stem_of(path): path for path in images_in(labels[0])}
        maps = [found.get(stem_of(image), Path()) for image in images]
        return [str(path) for path in maps], [
            f"the folder {labels[0]} has no label map {image.name}, or of that name with another ending, as the image "
            "has it" for image, path in zip(images, maps) if path == Path()]
    if len(labels) != len(images):
        return [""] * len(images), [f"there are {len(images)} images and {len(labels)} label maps; give one for each "
                                    "image in the same order, or a folder of label maps named as the images"]
    maps = [Path(path).absolute() for path in labels]
    return [str(path) for path in maps], [f"the label map {path} does not exist" for path in maps if not path.exists()]


def _names(paths: Sequence[Path]) -> list[str]:
    """The stem of each image, with as many of the folders above it as tell them all apart."""
    stems = [stem_of(path) for path in paths]
    deepest = max(len(path.parts) for path in paths)
    for depth in range(deepest):
        names = ["_".join((*path.parts[1:-1][-depth:], stem) if depth else (stem,))
                 for path, stem in zip(paths, stems)]
        if len(set(names)) == len(names):
            return names
    return [path.name for path in paths]  # such as a.nii beside a.nrrd


def _member(id: str, image: Path, labels: str) -> Member:
    files = {"moving": str(image), **({"moving_labels": labels} if labels and Path(labels).exists() else {})}
    if not image.exists():
        raise InputError(f"the image {image} does not exist")
    grid = read_grid(image, "image")
    digests = [entry["sha256"] for entry in fingerprints(files).values()]
    return Member(id, str(image), labels, grid, "".join(digests))
