"""The pictures of ``report.html``: slices of both images, of the volume change and of the deformation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, some_of
from ..maps.determinant import LOG_FLOOR
from .charts import ERRORS, NOT_FOUND_COLOUR, deformation_grid, error_points, factor_label, factor_ticks
from .planes import (
    FOLD_COLOUR,
    Plane,
    checkerboard,
    data_uri,
    diverging,
    eight_bits,
    magenta_green,
    planes,
    png,
    window,
)

_SAMPLE = 200_000
_SCREEN_PX, _PAPER_PX = (960, 400), (590, 260)
"""The largest width and height of a row of pictures, on a screen and on paper or a narrow screen."""
THUMBNAIL = 120
"""Pixels along the longer side of a thumbnail, at most."""


@dataclass(frozen=True)
class Pictures:
    """What the page shows, all on one grid.

    Attributes:
        grid: the fixed image's grid.
        fixed: the fixed image, (*grid.shape).
        before: the moving image on that grid with no transform.
        after: the moving image carried through the transform.
        log_jacobian: the log-Jacobian of the forward map; folds at log(LOG_FLOOR).
        mask: (*grid.shape) bool; where slices are placed and the histogram counts.
        deform: the deformation without its affine, points (n, d) LPS mm -> (n, d), for the picture of the grid.
        errors: distinctive points (n, d) LPS mm, and the error estimated at each, voxels or None.
        fixed_name, moving_name: for the title.
    """

    grid: Grid
    fixed: Tensor
    before: Tensor
    after: Tensor
    log_jacobian: Tensor
    mask: Optional[Tensor] = None
    deform: Optional[Callable[[Tensor], Tensor]] = None
    fixed_name: str = "fixed image"
    moving_name: str = "moving image"
    errors: Optional[tuple[Tensor, Sequence[Optional[float]]]] = None


@dataclass(frozen=True)
class Section:
    """Pictures in rows, with their explanation and legend.

    Attributes:
        rows: name -> (PNG as a data URI, lines over it as SVG) for each plane.
        light: on white instead of black.
        bar: (percent from the left, label) below the diverging colours.
        swatches: (CSS colour, label).
    """

    title: str
    note: str
    rows: dict[str, list[tuple[str, str]]]
    light: bool = False
    bar: Sequence[tuple[float, str]] = ()
    swatches: Sequence[tuple[str, str]] = ()


def views_of(pictures: Pictures) -> list[Plane]:
    """The slices to show: through the mask, or without one through what is brighter than the background."""
    if pictures.mask is not None and bool(pictures.mask.any()):
        return planes(pictures.grid, pictures.mask.cpu())
    fixed = pictures.fixed.detach().cpu()
    return planes(pictures.grid, fixed > float(_sampled(fixed).mean()))


def layout(views: list[Plane]) -> str:
    """The grid of every section's pictures in CSS, all at one scale: one column per plane, or two in 2D."""
    widths = [view.size_mm[0] for view in views] * (2 if len(views) == 1 else 1)
    height = max(view.size_mm[1] for view in views)
    screen, paper = (min(px[0] / sum(widths), px[1] / height) for px in (_SCREEN_PX, _PAPER_PX))
    columns = "48px " * (len(views) > 1) + " ".join(f"calc({width:.2f}*var(--s))" for width in widths)
    return f"--screen:{screen:.4f}px;--paper:{paper:.4f}px;--ch:{height:.2f};grid-template-columns:{columns}"


def picture_sections(pictures: Pictures, views: list[Plane]) -> list[Section]:
    """Everything that is shown as slices."""
    return [*_alignment(pictures, views), *_errors(pictures, views), _volume_change(pictures, views),
            *_deformation(pictures, views)]


def thumbnails(pictures: Pictures) -> tuple[bytes, bytes]:
    """The overlay in the last plane, before and after, as small PNG files; see :data:`THUMBNAIL`."""
    grey, view = _Grey.of(pictures), views_of(pictures)[-1]
    fixed = grey.fixed(view.pixels(pictures.fixed))
    step = math.ceil(max(fixed.shape) / THUMBNAIL)
    before, after = (magenta_green(fixed, grey.moving(view.pixels(moving)))[::step, ::step]
                     for moving in (pictures.before, pictures.after))
    return png(eight_bits(before)), png(eight_bits(after))


def inside(pictures: Pictures, values: Tensor) -> np.ndarray:
    """Values inside the mask, or everywhere without one; evenly sampled if there are many."""
    if pictures.mask is None:
        return _sampled(values)
    voxels = torch.from_numpy(np.flatnonzero(pictures.mask.cpu().numpy()))
    return _sampled(values.detach().cpu().flatten()[voxels[some_of(len(voxels), _SAMPLE)]])


def jacobian_limit(pictures: Pictures) -> float:
    """The log-Jacobian at full colour: the 99th percentile inside, within 0.1 to 2.5."""
    values = np.abs(inside(pictures, pictures.log_jacobian))
    return float(np.clip(np.percentile(values, 99) * 1.15, 0.1, 2.5)) if values.size else 0.5


def _alignment(pictures: Pictures, views: list[Plane]) -> list[Section]:
    grey = _Grey.of(pictures)

    def rows(draw: Callable[[np.ndarray, np.ndarray, Plane], np.ndarray]) -> dict[str, list[tuple[str, str]]]:
        return {name: [(data_uri(draw(grey.fixed(view.pixels(pictures.fixed)), grey.moving(view.pixels(moving)), view)),
                        "") for view in views]
                for name, moving in (("Before", pictures.before), ("After", pictures.after))}

    tilt = "" if views[0].tilt < 5 else f" The image axes are tilted by {views[0].tilt:.0f}° against the patient's."
    sides = " The patient's right is on the left." if views[0].letters else ""
    ranges = "on the intensity scale of the fixed image" if grey.shared else "each image on its own intensity scale"
    return [
        Section("Overlay", f"Grey where the images agree, coloured where they differ.{sides}{tilt}",
                rows(lambda fixed, moving, _: magenta_green(fixed, moving)),
                swatches=[("#f0f", "fixed"), ("#0f0", "moving"), ("#999", "equal")]),
        Section("Checkerboard", "Alternating squares of the fixed and moving image; edges should continue across them.",
                rows(lambda fixed, moving, view: checkerboard(
                    fixed, moving, round(max(view.size_mm) / view.pixel_mm / 9)))),
        Section("Difference", f"Moving minus fixed, {ranges}; full colour at half the scale.",
                rows(lambda fixed, moving, _: diverging(moving - fixed, 0.5)), light=True,
                bar=[(0, "fixed brighter"), (50, "equal"), (100, "moving brighter")])]


def _errors(pictures: Pictures, views: list[Plane]) -> list[Section]:
    if pictures.errors is None:
        return []
    grey = _Grey.of(pictures)
    cells = [(data_uri(grey.fixed(view.pixels(pictures.fixed))), error_points(view, *pictures.errors))
             for view in views]
    return [Section("Estimated error", "Distinctive points of the fixed image near each plane, looked for in the "
                    "warped moving image: how far from their place they were found.", {"": cells}, light=True,
                    swatches=[*((colour, words) for _, colour, words in ERRORS),
                              (NOT_FOUND_COLOUR, "ring: not found nearby")])]


def _volume_change(pictures: Pictures, views: list[Plane]) -> Section:
    limit = jacobian_limit(pictures)
    cells = []
    for view in views:
        colours = diverging(view.pixels(pictures.log_jacobian), limit)
        folded = view.pixels(pictures.log_jacobian, nearest=True) <= 0.999 * math.log(LOG_FLOOR)
        colours[folded] = np.array(FOLD_COLOUR) / 255
        if pictures.mask is not None:
            colours[_outline(view.pixels(pictures.mask) > 0.5)] = 0.25
        cells.append((data_uri(colours), ""))
    note = ("The Jacobian determinant of the forward map: blue where the moving image is smaller than the fixed one, "
            "red where it is larger." + (" The thin line outlines the mask." if pictures.mask is not None else ""))
    return Section("Volume change", note, {"": cells}, light=True,
                   bar=[(50 + 50 * mark / limit, factor_label(mark)) for mark in factor_ticks(limit)],
                   swatches=[("rgb({},{},{})".format(*FOLD_COLOUR), "fold")])


def _deformation(pictures: Pictures, views: list[Plane]) -> list[Section]:
    if pictures.deform is None:
        return []
    grey, step = _Grey.of(pictures), float(max(pictures.grid.extent)) / 30
    cells = [(data_uri(1 - grey.fixed(view.pixels(pictures.fixed))), deformation_grid(view, pictures.deform, step))
             for view in views]
    return [Section("Deformation", "A regular grid on the fixed image, deformed by the forward map without its linear "
                    "part and projected onto each plane.", {"": cells}, light=True)]


@dataclass(frozen=True)
class _Grey:
    """Display ranges of the fixed and the moving image."""

    fixed_range: tuple[float, float]
    moving_range: tuple[float, float]
    shared: bool

    @classmethod
    def of(cls, pictures: Pictures) -> _Grey:
        """One range for both images where their contrasts are alike, so that their difference is meaningful."""
        fixed, after = _sampled(pictures.fixed), _sampled(pictures.after)
        ranges = [tuple(float(q) for q in np.percentile(v, (0.5, 99.5))) for v in (fixed, after)]
        spread = min(fixed.std(), after.std())
        alike = spread > 0 and float(np.corrcoef(fixed, after)[0, 1]) > 0.5 and _similar(*ranges)
        return cls(ranges[0], ranges[0] if alike else ranges[1], alike)

    def fixed(self, values: np.ndarray) -> np.ndarray:
        return window(values, *self.fixed_range)

    def moving(self, values: np.ndarray) -> np.ndarray:
        return window(values, *self.moving_range)


def _similar(a: tuple[float, float], b: tuple[float, float]) -> bool:
    span = max(a[1] - a[0], b[1] - b[0], 1e-12)
    return abs(a[0] - b[0]) < 0.15 * span and abs(a[1] - b[1]) < 0.15 * span


def _sampled(values: Tensor) -> np.ndarray:
    """At most :data:`_SAMPLE` values, evenly taken."""
    flat = values.detach().flatten()
    return flat[some_of(flat.numel(), _SAMPLE).to(flat.device)].cpu().to(torch.float32).numpy()


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that border on its outside."""
    padded = np.pad(mask, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~core
