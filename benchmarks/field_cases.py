"""Odd inputs as people have them, each run through the command line and judged by the truth it was made with.

    python ../shared/field/make_cases.py CASES     makes the inputs
    python benchmarks/field_cases.py CASES FOLDER  runs them, and prints a table in Markdown; what is done stays

An error is the mean distance between where the true points belong and where they are taken, in voxels of the fixed
image. What is expected of a case stands with it, here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import SimpleITK as sitk
import torch
from nephi.files.points import read_landmark_pairs, read_points
from nephi.maps.transform import Transform

CLOSE = 0.5  # voxels: what a pair of the same contrast is expected to reach
BRIEF = ("--resolution", "16,25", "--iterations", "30,30")  # where the reading counts, not the last tenth of a voxel
PLAIN = "c00_plain"
PHASES = "1.2.826.0.1.3680043.8.498.1.1"


@dataclass(frozen=True)
class Trial:
    """One registration.

    Attributes:
        case: the folder of the inputs.
        moving: its file there, as ``fixed`` is.
        flags: of ``nephi register``; ``{case}`` stands for the folder of the inputs and ``{out}`` for that of all
            results.
        limit: the largest error that is expected, voxels; None where the pair has to be refused.
        honest: whether a larger error is as expected too where the verdict is not "good".
        says: words that the program has to say, as an error or a warning.
        pairs: the file of the true points.
    """

    case: str
    moving: str
    fixed: str = "fixed.nii.gz"
    flags: tuple[str, ...] = ()
    limit: Optional[float] = CLOSE
    honest: bool = False
    says: str = ""
    pairs: str = "pairs.csv"

    @property
    def name(self) -> str:
        """Unique, and good for a folder."""
        file = "" if self.moving in ("moving", "moving.nii.gz") else self.moving
        words = self.case, file, *(Path(flag).name for flag in self.flags if flag not in BRIEF)
        return " ".join(word for word in words if word)

    @property
    def expected(self) -> str:
        """In words."""
        wanted = "refused" if self.limit is None else f"error below {self.limit:g}"
        wanted += ", or not called good" if self.honest else ""
        return f"{wanted}; says “{self.says}”" if self.says else wanted


def trials() -> Iterator[Trial]:
    """All registrations."""
    nifti, nrrd = "moving.nii.gz", {"fixed": "fixed.nrrd", "moving": "moving.nrrd"}
    yield Trial(PLAIN, nifti)
    yield Trial("c01_sheared_sform", nifti, says="sheared axes")
    yield Trial("c02_sform_rounded", nifti)
    yield Trial("c04_singleton_4d", nifti)
    yield Trial("c06_nan_background", nifti, says="NaN")
    for kind in ("_n2.nii.gz", "_pair.img", ".nrrd"):
        yield Trial("c06_nan_background", f"moving{kind}", f"fixed{kind}", BRIEF, 1.0, says="NaN")
    for case in ("c07_micron", "c07b_tenth", "c07c_micron_as_mm", "c07d_huge", "c08_far_origin"):
        yield Trial(case, **nrrd)
    yield Trial("c10_gantry_tilt", "moving", says="tilted by 20.0 degrees")
    yield Trial("c11_4dct_one_series", "moving", limit=None, says="holds 3 DICOM volumes")
    yield Trial("c11_4dct_one_series", "moving", flags=("--moving-series", f"{PHASES}/2"))
    yield Trial("c12c_one_file_of_series", "moving.dcm", limit=None, says="single DICOM slice")
    yield Trial("c12d_decreasing_no_suffix", "moving")
    yield Trial("c15_physical_space", **nrrd)
    yield Trial("c15b_sheared_nrrd", "moving.mha", "fixed.mha", says="sheared axes")
    yield Trial("c17_ct_cbct", **nrrd, limit=1.0, honest=True)
    yield Trial("c25_int16_ct", **nrrd)
    for file in ("itk.tfm", "itk.h5", "0GenericAffine.mat", "ants.txt", "float.tfm"):
        yield Trial("c27_initial", nifti, flags=("--initial-transform", f"{{case}}/{file}", *BRIEF), limit=1.0)
    for file in ("greedy_ras.mat", "flirt.mat"):
        yield Trial("c27_initial", nifti, flags=("--initial-transform", f"{{case}}/{file}"), limit=None,
                    says="plain matrix")
    yield Trial("c27_initial", nifti, flags=("--initial-transform", "{case}/bspline.h5"), limit=None,
                says="do not overlap")
    for angle in (30, 90):
        yield Trial("c28_turned", f"moving{angle}.nii.gz", pairs=f"pairs{angle}.csv")
    yield Trial("c32_mask_without_header", nifti, flags=("--fixed-mask", "{case}/mask.nii.gz"), says="lost its header")
    yield Trial("c32_mask_without_header", nifti, flags=("--fixed-mask", "{case}/good_mask.nii.gz"))
    yield Trial("c39_resection", nifti, limit=1.0, honest=True)
    yield Trial("c39_resection", nifti, flags=("--moving-exclude", "{out}/hole.nii.gz"))
    yield Trial("c39_resection", nifti, flags=("--fixed-exclude", "{out}/hole.nii.gz"))
    yield Trial("c40_t1_t2", nifti, limit=1.0, honest=True)
    yield Trial("c40_t1_t2", nifti, flags=("--similarity", "mind", "--global-ncc", "0"), limit=1.0)


def nephi(*words: str) -> tuple[int, str]:
    """Run the command line on one thread; its exit code, and what it said as one line."""
    done = subprocess.run([sys.executable, "-m", "nephi", *words], capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"})
    return done.returncode, " ".join(done.stderr.split())


def registered(trial: Trial, cases: Path, out: Path) -> tuple[str, str, bool]:
    """Register, unless that is done: what came of it, the verdict, and whether it is as expected."""
    folder, case = out / trial.name, cases / trial.case
    said = folder / "said.json"
    if not said.exists():
        folder.mkdir(parents=True, exist_ok=True)
        flags = [flag.format(case=case, out=out) for flag in trial.flags]
        ended = nephi("register", str(case / trial.fixed), str(case / trial.moving), "-o", str(folder), *flags)
        said.write_text(json.dumps(ended), encoding="utf-8")
    code, text = json.loads(said.read_text(encoding="utf-8"))
    spoken = trial.says in text
    if code:
        error = text[text.index("error:") + 7:] if "error:" in text else text
        return error, "", code == 2 and trial.limit is None and spoken
    transform = Transform.load(folder / "transform.nephi")
    verdict = json.loads((folder / "report.json").read_text(encoding="utf-8"))["verdict"]
    error = true_error(transform, case / trial.pairs)
    told = verdict["level"] if verdict["level"] == "good" else f"{verdict['level']}: {verdict['reason']}"
    near = trial.limit is not None and (error < trial.limit or (trial.honest and verdict["level"] != "good"))
    return f"{error:.2f}{'' if spoken or not trial.says else ' but says nothing'}", told, near and spoken


def true_error(transform: Transform, pairs: Path) -> float:
    """The mean error (voxels) at the true points."""
    fixed, moving = read_landmark_pairs(pairs)
    return float((transform.forward.map(fixed) - moving).norm(dim=1).mean()) / transform.fixed_grid.voxel


# ------------------------------------------------------------------------------------- what is carried along


@dataclass(frozen=True)
class Carried:
    """Something carried by the transform of the plain case, which is of the same two images.

    Attributes:
        judge: what the output is like, and whether that is as expected, from the folder of the case and the output.
    """

    case: str
    file: str
    output: str
    expected: str
    judge: Callable[[Path, Path], tuple[str, bool]]
    flags: tuple[str, ...] = ()


def values_at(path: Path, points: torch.Tensor) -> np.ndarray:
    """The values of an image file at points (n, 3) by linear interpolation; (n, components)."""
    image = sitk.ReadImage(str(path))
    return np.array([np.atleast_1d(image.EvaluateAtPhysicalPoint(point)) for point in points.tolist()])


def _series(case: Path, output: Path) -> tuple[str, bool]:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(output)))
    ratios = [float(volume.sum() / array[0].sum()) for volume in array]
    return f"{len(array)} volumes, {ratios[1]:.3f} and {ratios[2]:.3f} of the first", \
        np.allclose(ratios, (1, 1.1, 0.9), atol=5e-3)  # outside, all have the lowest value of the series


def _labels(source: str) -> Callable[[Path, Path], tuple[str, bool]]:
    def judge(case: Path, output: Path) -> tuple[str, bool]:
        before, after = (sitk.ReadImage(str(path)) for path in (case / source, output))
        known, found = (set(np.unique(sitk.GetArrayViewFromImage(image)).tolist()) for image in (before, after))
        here, there = read_landmark_pairs(case / "pairs.csv")
        label = [[image[image.TransformPhysicalPointToIndex(point)] for point in points.tolist()]
                 for image, points in ((after, here), (before, there))]
        same = float(np.mean(np.equal(*label)))
        return f"{len(found)} labels, {len(found - known)} of them new, {after.GetPixelIDTypeAsString()}, " \
            f"{same:.0%} right at the true points", found <= known and same > 0.8 and \
            after.GetPixelID() == before.GetPixelID()
    return judge


def _dose(case: Path, output: Path) -> tuple[str, bool]:
    here, there = read_landmark_pairs(case / "pairs.csv")
    true = 60 * np.exp(-((there.numpy() - (10, 5, 0)) ** 2).sum(1) / (2 * 20**2))  # as the case has it
    off = np.abs(values_at(output, here)[:, 0] - true).max()
    return f"at most {off:.2f} Gy off at the true points", bool(off < 3)


def _points(case: Path, output: Path) -> tuple[str, bool]:
    wanted, _ = read_landmark_pairs(case / "pairs.csv")
    error = float((read_points(output).points - wanted).norm(dim=1).mean()) / 3.4
    return f"error {error:.2f}", error < CLOSE


def _constant(low: float, high: float) -> Callable[[Path, Path], tuple[str, bool]]:
    def judge(case: Path, output: Path) -> tuple[str, bool]:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(output)))
        return f"{array.min():g} to {array.max():g}, {array.dtype}", bool(low <= array.min() <= array.max() <= high)
    return judge


def _alike(source: str, tolerance: float) -> Callable[[Path, Path], tuple[str, bool]]:
    """The values at the true points are those of the input."""
    def judge(case: Path, output: Path) -> tuple[str, bool]:
        here, there = read_landmark_pairs(case / "pairs.csv")
        after, before = values_at(output, here), values_at(case / source, there)
        known = np.isfinite(before).all(1) & np.isfinite(after).all(1)
        off = float(np.abs(after - before)[known].mean() / np.ptp(before[known]))
        return f"{after.shape[1]} components, {off:.1%} of the range off at {known.sum()} of {len(known)} true points",\
            off < tolerance and known.mean() > 0.9 and after.shape == before.shape
    return judge


def carried() -> Iterator[Carried]:
    """All that is carried."""
    label = ("--label-image",)
    yield Carried("c05_series_4d", "bold.nii.gz", "bold.nii.gz", "3 volumes, 1.1 and 0.9 of the first", _series)
    for file in ("annotation.nrrd", "annotation_u32.nrrd"):
        yield Carried("c09_allen_labels", file, file, "no new label, the same type, 80 % right", _labels(file), label)
    yield Carried("c13_rtdose", "dose.dcm", "dose.nii.gz", "less than 3 Gy of 60 off", _dose)
    yield Carried("c20_fcsv", "points.fcsv", "points.csv", f"error below {CLOSE:g}", _points,
                  ("--direction", "inverse"))
    yield Carried("c24_constant", "zero_dose.nii.gz", "zero.nii.gz", "0 everywhere", _constant(0, 0))
    yield Carried("c24_constant", "empty_lesion.nii.gz", "empty.nii.gz", "0 everywhere", _constant(0, 0), label)
    yield Carried("c24_constant", "fov.nii.gz", "fov.nii.gz", "0 and 1", _constant(0, 1), label)
    yield Carried("c24_constant", "tmap_nan.nii.gz", "tmap.nii.gz", "as the input, 10 % off", _alike(
        "tmap_nan.nii.gz", 0.1))
    yield Carried("c24_constant", "probability_mask.nii.gz", "probability.nii.gz", "as the input, 10 % off", _alike(
        "probability_mask.nii.gz", 0.1))
    yield Carried("c24_constant", "rgb.nrrd", "rgb.nrrd", "3 components, as the input, 10 % off", _alike(
        "rgb.nrrd", 0.1))


def applied(item: Carried, cases: Path, out: Path) -> tuple[str, bool]:
    """Carry something: what came of it, and whether it is as expected."""
    case, output = cases / item.case, out / item.output
    code, text = nephi("apply", str(out / PLAIN / "transform.nephi"), str(case / item.file), "-o", str(output),
                       *item.flags)
    return (text, False) if code else item.judge(case, output)


def same_space(cases: Path, out: Path) -> tuple[str, bool]:
    """Whether SimpleITK takes the warped image of c15 for one in the space of the fixed image, and makes the same
    one with the exported transform."""
    case, folder = cases / "c15_physical_space", out / "c15_physical_space moving.nrrd"
    fixed, moving = (sitk.ReadImage(str(case / f"{role}.nrrd"), sitk.sitkFloat32) for role in ("fixed", "moving"))
    warped = sitk.ReadImage(str(next(folder.glob("warped.*"))), sitk.sitkFloat32)
    try:
        fixed - warped
    except RuntimeError as error:
        return str(error), False
    with_itk = sitk.Resample(moving, fixed, sitk.ReadTransform(str(folder / "forward.h5")), sitk.sitkLinear, 0.0)
    arrays = [sitk.GetArrayViewFromImage(image) for image in (warped, with_itk)]
    off = float(np.abs(arrays[0] - arrays[1]).mean() / np.ptp(arrays[0]))
    return f"same space, images {off:.2%} of the range apart", off < 0.01


# ------------------------------------------------------------------------------------------------- the table


def rows(cases: Path, out: Path) -> Iterator[tuple[str, str, str, str, bool]]:
    """Case, expected, got, verdict, whether as expected."""
    valid = sitk.ReadImage(str(cases / "c39_resection" / "valid.nii.gz"))
    sitk.WriteImage(valid == 0, str(out / "hole.nii.gz"))
    for trial in trials():
        yield (trial.name, trial.expected, *registered(trial, cases, out))
    for item in carried():
        got, right = applied(item, cases, out)
        yield f"{item.case} apply {item.file}", item.expected, got, "", right
    got, right = same_space(cases, out)
    yield "c15_physical_space forward.h5 in SimpleITK", "the same space and the same image", got, "", right


def main() -> None:
    """Run everything that is not done and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, help="folder that make_cases.py filled")
    parser.add_argument("folder", type=Path, help="for the results")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print("| case | expected | got | verdict | |\n|---|---|---|---|---|", flush=True)
    for name, expected, got, verdict, right in rows(args.cases.resolve(), args.folder.resolve()):
        cells = (name, expected, got, verdict, "" if right else "**not as expected**")
        print("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
