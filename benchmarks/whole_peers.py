"""Other programs from files to files: python whole_peers.py greedy|ants|elastix CASE.json FOLDER.

Each leaves in FOLDER the warped image and the map from fixed to moving points, forward.h5 or forward.nii.gz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from peers import elastix_inputs

sitk.ProcessObject.SetGlobalWarningDisplay(False)


def greedy(case: dict, folder: Path, threads: int) -> None:
    """Affine by mutual information from the images' centres, then local correlation, 100x50x10 iterations."""
    from picsl_greedy import Greedy2D, Greedy3D

    fixed, moving, dim = case["fixed"], case["moving"], sitk.ReadImage(case["fixed"]).GetDimension()
    program = (Greedy2D if dim == 2 else Greedy3D)()
    radius = "x".join("2" * dim)
    masks = " ".join(f"{flag} {case[role]}" for flag, role in (("-gm", "fixed_mask"), ("-mm", "moving_mask"))
                     if case[role])
    common = f"-d {dim} -threads {threads} -i {fixed} {moving} {masks} -n 100x50x10"
    affine, warp = folder / "affine.mat", folder / "warp.nii.gz"
    program.execute(f"{common} -a -dof 12 -m NMI -ia-image-centers -o {affine}")
    program.execute(f"{common} -m NCC {radius} -it {affine} -o {warp} -oinv {folder / 'inverse_warp.nii.gz'}")
    program.execute(f"-d {dim} -rf {fixed} -rm {moving} {folder / 'warped.nii.gz'} "
                    f"-rc {folder / 'forward.nii.gz'} -r {warp} {affine}")


def ants(case: dict, folder: Path, threads: int) -> None:
    """antspyx's default registration: SyN after its own affine, with the pair's masks."""
    import ants as program

    fixed, moving = (program.image_read(case[role]) for role in ("fixed", "moving"))
    names = {"mask": "fixed_mask", "moving_mask": "moving_mask"}
    masks = {name: program.image_read(case[role]) for name, role in names.items() if case[role]}
    result = program.registration(fixed, moving, type_of_transform="SyN", outprefix=f"{folder}/syn_", random_seed=1,
                                  **masks)
    program.image_write(result["warpedmovout"], f"{folder}/warped.nii.gz")
    warp, affine = result["fwdtransforms"]
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(warp, sitk.sitkVectorFloat64))
    sitk.WriteTransform(sitk.CompositeTransform([sitk.ReadTransform(affine), field]), f"{folder}/forward.h5")


def elastix(case: dict, folder: Path, threads: int) -> None:
    """elastix's default parameters, affine then B-spline, with the pair's masks; threads as the environment says."""
    import itk

    fixed, moving, masks, parameters = elastix_inputs(case, itk)
    warped, transform = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, **masks)
    itk.imwrite(warped, str(folder / "warped.nii.gz"))
    field = itk.transformix_deformation_field(moving, transform, output_directory=str(folder))
    image = sitk.GetImageFromArray(np.asarray(itk.array_view_from_image(field)), isVector=True)
    image.CopyInformation(sitk.ReadImage(case["fixed"]))
    sitk.WriteImage(image, str(folder / "forward.nii.gz"))


METHODS = {"greedy": greedy, "ants": ants, "elastix": elastix}

if __name__ == "__main__":
    METHODS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), Path(sys.argv[3]),
                         int(sys.argv[4]))
