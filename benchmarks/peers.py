"""Register one case with another program in this process: python peers.py ants|elastix CASE.json FOLDER.

Leaves in FOLDER result.json (time, memory, the landmarks mapped) and the displacements of the voxel centres,
forward.npy and, where the program has an inverse, inverse.npy: (k, j, i, d) LPS mm, which :mod:`judge` measures.
Neither the engine nor torch is imported, so that the memory is the peer's own.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import numpy as np

ENGINE = Path(__file__).resolve().parents[1] / "NePhiRegistration" / "NePhiRegistrationLib" / "nephi"
peak_memory_gb: Callable[[], float] = runpy.run_path(str(ENGINE / "report" / "memory.py"))["peak_memory_gb"]


class Stopwatch:
    """Wall time, processor time and peak memory of a registration."""

    def __init__(self) -> None:
        self._start, self._processor = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        """What it took."""
        seconds = time.perf_counter() - self._start
        return {"seconds": seconds, "seconds_warped": seconds,  # both peers warp the image within the one call
                "processor_seconds": time.process_time() - self._processor, "memory": peak_memory_gb()}


def ants_syn(case: dict, given: dict, folder: Path) -> dict:
    """antspyx's default registration: SyN after its own affine, with the pair's masks.

    By its default the affine stage does not look at the masks, which on the lung pair also gives the better affine.
    """
    import ants

    fixed, moving = (ants.image_read(case[role]) for role in ("fixed", "moving"))
    names = {"mask": "fixed_mask", "moving_mask": "moving_mask"}
    masks = {name: ants.image_read(case[role]) for name, role in names.items() if case[role]}
    with tempfile.TemporaryDirectory() as scratch:
        watch = Stopwatch()
        result = ants.registration(fixed, moving, type_of_transform="SyN", outprefix=os.path.join(scratch, "syn_"),
                                   random_seed=given["seed"] + 1, **masks)
        measured = watch.stop()
        # The forward list warps the moving image: as a map it takes fixed points to moving points.
        forward, inverse = result["fwdtransforms"], result["invtransforms"]
        np.save(folder / "forward.npy", _ants_field(ants, fixed, moving, forward, [False, False], scratch))
        np.save(folder / "inverse.npy", _ants_field(ants, moving, fixed, inverse, [True, False], scratch))
        points = ants_map_points(np.asarray(given["points"]), forward) if given["points"] else None
        return {**measured, "points": points, "version": ants.__version__}


def ants_map_points(points: np.ndarray, transforms: list[str]) -> list[list[float]]:
    """Fixed points (n, d) LPS mm through a forward list: the points' rule is the images' rule turned round."""
    import ants
    import pandas

    axes = list("xyz")[:points.shape[1]]
    mapped = ants.apply_transforms_to_points(len(axes), pandas.DataFrame(points, columns=axes), transforms)
    return mapped[axes].to_numpy().tolist()


def _ants_field(ants, onto, image, transforms: list[str], invert: list[bool], scratch: str) -> np.ndarray:
    """The displacements of the voxel centres of ``onto``, affine and deformation together."""
    path = ants.apply_transforms(onto, image, transforms, whichtoinvert=invert, compose=os.path.join(scratch, "sum_"))
    return _fields_first_axis_last(ants.image_read(path).numpy())


def _fields_first_axis_last(field: np.ndarray) -> np.ndarray:
    """(i, j, k, d) to (k, j, i, d)."""
    spatial = tuple(range(field.ndim - 1))
    return np.ascontiguousarray(field.transpose(*spatial[::-1], field.ndim - 1), dtype=np.float32)


def elastix_inputs(case: dict, itk) -> tuple:
    """The images, the masks by role, and itk-elastix's default parameter maps, affine then B-spline.

    One default is changed: the masks are not eroded at the coarse levels, where nothing of a lung's mask would be left
    and elastix would stop with "No valid voxels".
    """
    fixed, moving = (itk.imread(case[role], itk.F) for role in ("fixed", "moving"))
    masks = {role: itk.imread(case[role], itk.UC) for role in ("fixed_mask", "moving_mask") if case[role]}
    parameters = itk.ParameterObject.New()
    for kind in ("affine", "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind))
    parameters.SetParameter("ErodeMask", "false")
    return fixed, moving, masks, parameters


def elastix(case: dict, given: dict, folder: Path) -> dict:
    """itk-elastix with its default parameters and the pair's masks. It has no inverse.

    The threads come from the environment: with ``number_of_threads`` above 1 the process crashes (ITKElastix issues 160
    and 295).
    """
    import itk

    fixed, moving, masks, parameters = elastix_inputs(case, itk)
    if given["seed"]:
        parameters.SetParameter("RandomSeed", str(121212 + given["seed"]))  # 121212 is elastix's default
    watch = Stopwatch()
    _, transform = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=True,
                                                   **masks)
    measured = watch.stop()
    with tempfile.TemporaryDirectory() as scratch:  # it always writes the field to a file too
        field = itk.transformix_deformation_field(moving, transform, output_directory=scratch)
    np.save(folder / "forward.npy", np.asarray(itk.array_view_from_image(field), dtype=np.float32))
    points = elastix_map_points(np.asarray(given["points"]), moving, transform) if given["points"] else None
    return {**measured, "points": points, "version": _version("itk-elastix")}


def elastix_map_points(points: np.ndarray, moving, transform) -> list[list[float]]:
    """Fixed points (n, d) LPS mm to moving points."""
    import itk

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "points.txt"
        rows = "\n".join(" ".join(f"{value:.9g}" for value in point) for point in points)
        path.write_text(f"point\n{len(points)}\n{rows}\n")
        itk.transformix_pointset(moving, transform, fixed_point_set_file_name=str(path), output_directory=scratch)
        lines = (Path(scratch) / "outputpoints.txt").read_text().splitlines()
    return [[float(number) for number in line.split("OutputPoint = [")[1].split("]")[0].split()] for line in lines]


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


METHODS = {"ants": ants_syn, "elastix": elastix}


def main(method: str, case_file: Path, folder: Path) -> None:
    """Run a method on a case and leave what it gave."""
    given = json.loads(case_file.read_text(encoding="utf-8"))
    result = METHODS[method](given["case"], given, folder)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
