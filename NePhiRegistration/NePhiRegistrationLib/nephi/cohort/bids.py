"""Rows from a folder in the Brain Imaging Data Structure, and names of results as its derivatives have them."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from .. import __version__
from ..errors import InputError
from ..storage import PathLike, atomic_path
from .image_folder import natural, stem_of
from .rows import Row

log = logging.getLogger(__name__)

VERSION = "1.10.0"
"""Of the standard."""

_ENTITIES = re.compile(r"sub-(?P<subject>[A-Za-z0-9]+)(_ses-(?P<session>[A-Za-z0-9]+))?_(.+_)?(?P<suffix>[A-Za-z0-9]+)")


def longitudinal(folder: PathLike, suffix: str) -> list[Row]:
    """Each later session of a subject to its first one.

    Raises:
        InputError: the folder is not as it should be, or no subject has two sessions with such an image.
    """
    rows, alone = [], 0
    for subject, images in _subjects(folder, suffix).items():
        (first, fixed), *later = images
        alone += not later
        rows += [_row(subject, session, moving, fixed, f"ses{first}" if first else suffix, suffix)
                 for session, moving in later]
    if not rows:
        raise InputError(f"No subject in {folder} has images with the suffix {suffix} of two sessions; give --template "
                         "to register each subject to one image.")
    if alone:
        log.warning("Subjects with one session are left out: %d.", alone)
    return rows


def to_template(folder: PathLike, suffix: str, template: PathLike) -> list[Row]:
    """One image of each subject, that of its first session, to a template.

    Raises:
        InputError: the folder is not as it should be, or has no such image.
    """
    fixed = Path(template).absolute()
    label = re.sub(r"[^A-Za-z0-9]", "", stem_of(fixed)) or "template"
    return [_row(subject, session, moving, fixed, label, suffix)
            for subject, ((session, moving), *_) in _subjects(folder, suffix).items()]


def write_description(folder: Path, name: str) -> None:
    """What a folder of derivatives says of itself.

    Raises:
        InputError: it cannot be written.
    """
    found = {"Name": f"Registrations of {name}", "BIDSVersion": VERSION, "DatasetType": "derivative",
             "GeneratedBy": [{"Name": "nephi-registration", "Version": __version__}]}
    with atomic_path(folder / "dataset_description.json") as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _subjects(folder: PathLike, suffix: str) -> dict[str, list[tuple[str, Path]]]:
    """subject -> its sessions in order, each with its first image; a subject without sessions has one named ""."""
    found: dict[str, dict[str, Path]] = {}
    several = 0
    paths = [path for pattern in ("sub-*/*", "sub-*/ses-*/*") for path in Path(folder).absolute().glob(
        f"{pattern}/sub-*_{suffix}.nii*") if path.name.endswith((".nii", ".nii.gz"))]
    for path in sorted(paths, key=lambda path: natural(path.name)):
        entities = _ENTITIES.fullmatch(stem_of(path))
        if entities is None or entities["suffix"] != suffix:
            continue
        sessions = found.setdefault(entities["subject"], {})
        several += sessions.setdefault(entities["session"] or "", path) != path
    if not found:
        raise InputError(f"There is no image in {folder} named as BIDS has it, sub-*/[ses-*/]*/sub-*_{suffix}.nii.gz; "
                         "check --bids and --suffix.")
    if several:
        log.warning("Of each session the first image with the suffix %s counts; further ones, left out: %d.", suffix,
                    several)
    return {subject: sorted(sessions.items(), key=lambda item: natural(item[0]))
            for subject, sessions in sorted(found.items(), key=lambda item: natural(item[0]))}


def _row(subject: str, session: str, moving: Path, fixed: Path, space: str, suffix: str) -> Row:
    """A pair whose results are named after its moving image."""
    whose = f"sub-{subject}" + f"_ses-{session}" * bool(session)
    source = f"ses{session}" if session and fixed.name.startswith(f"sub-{subject}_") else suffix
    there, back = (f"{whose}_from-{a}_to-{b}" for a, b in ((source, space), (space, source)))
    stems = {"transform": f"{there}_desc-nephi_xfm", "forward": f"{there}_mode-image_xfm",
             "inverse": f"{back}_mode-image_xfm", "warped": f"{whose}_space-{space}_desc-nephi_{suffix}",
             "log_jacobian": f"{whose}_space-{space}_desc-logjacobian_{suffix}",
             **{role: f"{whose}_space-{space}_desc-{role}_nephi"
                for role in ("report", "page", "before", "after", "pair")}}
    folder = "/".join([f"sub-{subject}", *([f"ses-{session}"] if session else []), moving.parent.name])
    return Row(f"{whose}_to_{space}", {"fixed": str(fixed), "moving": str(moving)}, folder=folder, stems=stems)
