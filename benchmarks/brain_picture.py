"""The brain of the tutorial: a T1 image and a copy of it that is bent, of another contrast and noisy, registered.

    python benchmarks/brain_picture.py T1.nii.gz PICTURE.png

Registers with the module's own logic on slicer-core, prints how far points are from where the known bending took them,
before and after, and draws slice views as the module sets them up. The picture in docs/images is of the ICBM 152
template (mni_icbm152_t1_tal_nlin_sym_09a, as the Python package nilearn ships it).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "NePhiRegistration"), str(ROOT / "Testing")]

import pythonqt  # noqa: E402

pythonqt.install()

from mrml_scene import add_colors, add_volume, new_scene  # noqa: E402
from NePhiRegistrationLib.mrml import deformation_display, log_jacobian_display, slice_views  # noqa: E402
from NePhiRegistrationLib.session.logic import RegistrationLogic  # noqa: E402
from slice_view import SliceView, save_picture  # noqa: E402

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NODES = 5  # along each axis, of the B-spline that bends
BEND = 5.0  # mm, standard deviation of its coefficients


def main(image_file: str, picture_file: str) -> None:
    fixed = sitk.ReadImage(image_file, sitk.sitkFloat32)
    fixed = sitk.RescaleIntensity(fixed, 0, 1000)
    bending = _bending(fixed)
    moving = _noisy(sitk.Resample(fixed, bending))
    scene = new_scene()
    add_colors(scene)
    nodes = [_node(image, name) for image, name in ((fixed, "fixed"), (moving, "moving"))]
    logic = RegistrationLogic()
    result = logic.register(*nodes, "brain-mri")
    points = _points_inside(fixed)
    true = np.array([bending.TransformPoint(point) for point in points.tolist()])
    found = logic.applyToPoints(points * [-1, -1, 1], to="fixed") * [-1, -1, 1]
    before, after = (np.linalg.norm(place - true, axis=1) for place in (points, found))
    print(f"before {before.mean():.2f} mm (largest {before.max():.2f}), after {after.mean():.2f} mm "
          f"(largest {after.max():.2f}); {result.report['verdict']['text']}")
    _draw(*nodes, result.nodes, Path(picture_file))
    logic.close()


def _bending(image: sitk.Image) -> sitk.Transform:
    """Where the points of the moving image lie in the fixed one."""
    bending = sitk.BSplineTransformInitializer(image, [NODES] * 3)
    size = len(bending.GetParameters())
    bending.SetParameters(np.random.default_rng(4).normal(scale=BEND, size=size).tolist())
    return bending


def _noisy(image: sitk.Image) -> sitk.Image:
    """Another contrast, and noise where there is something, as after the skull was taken away."""
    values = sitk.GetArrayFromImage(image)
    noise = np.random.default_rng(5).normal(scale=15, size=values.shape)
    values = np.where(values > 0, 1000 * (values / 1000).clip(0, 1) ** 0.6 + noise, 0.0)
    changed = sitk.GetImageFromArray(values.astype(np.float32))
    changed.CopyInformation(image)
    return changed


def _node(image: sitk.Image, name: str):
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    node = add_volume(sitk.GetArrayFromImage(image), LPS_TO_RAS @ matrix, name)
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(0, 1000)
    return node


def _points_inside(image: sitk.Image, count: int = 500) -> np.ndarray:
    """Points where there is something, (n, 3) LPS mm."""
    inside = np.argwhere(sitk.GetArrayFromImage(image) > 200)[:, ::-1]
    chosen = np.random.default_rng(6).choice(inside, count, replace=False)
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in chosen.tolist()])


def _draw(fixed, moving, outputs, path: Path) -> None:
    view = SliceView(orientation="Coronal")
    slice_views.show_layers([view.composite], fixed)
    view.fit()
    pictures = []
    for background, foreground in ((fixed, None), (moving, None), (fixed, moving), (fixed, outputs.warped)):
        slice_views.show_layers([view.composite], background, foreground)
        pictures.append(view.pixels())
    slice_views.overlay([view.composite], fixed, outputs.logJacobian)
    log_jacobian_display.show_legend(outputs.logJacobian)
    pictures.append(view.pixels())
    log_jacobian_display.show_legend(outputs.logJacobian, False)
    slice_views.show_layers([view.composite], fixed)
    deformation_display.show_grid(outputs.forward, 12.0)
    pictures.append(view.pixels())
    framed = [np.pad(picture, ((3, 3), (3, 3), (0, 0)), constant_values=255) for picture in pictures]
    save_picture(np.vstack([np.hstack(framed[:3]), np.hstack(framed[3:])]), path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
