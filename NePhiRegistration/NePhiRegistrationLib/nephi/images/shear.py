"""Images whose axes are not at right angles, brought onto a grid whose axes are."""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk


def straightened(image: sitk.Image) -> sitk.Image:
    """A sheared image resampled once, linearly, onto a grid at right angles that holds all of it.

    The first axis stays, and so does the plane of the first two: a stack of slices that lie at right angles among
    themselves is only shifted within each slice.

    Returns:
        float32; NaN where the image has nothing.
    """
    size = np.asarray(image.GetSize())
    steps = np.asarray(image.GetDirection()).reshape(len(size), -1) * image.GetSpacing()
    axes, mm = np.linalg.qr(steps)
    signs = np.sign(np.diag(mm))
    axes, mm = axes * signs, mm * signs[:, None]
    spacing = np.diag(mm)
    corners = np.asarray(list(itertools.product(*[(0, n - 1) for n in size]))) @ (mm / spacing[:, None]).T
    low, high = np.floor(corners.min(0) + 1e-6), np.ceil(corners.max(0) - 1e-6)
    origin = np.asarray(image.GetOrigin()) + axes @ (low * spacing)
    return sitk.Resample(image, (high - low + 1).astype(int).tolist(), sitk.Transform(len(size), sitk.sitkIdentity),
                         sitk.sitkLinear, origin.tolist(), spacing.tolist(), axes.ravel().tolist(), float("nan"),
                         sitk.sitkFloat32)
