"""``report.html``: one self-contained page that shows whether a registration can be trusted."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid
from ..maps.determinant import LOG_FLOOR
from ..storage import atomic_path
from .charts import deformation_grid, factor_label, factor_ticks, fold_colour, jacobian_histogram, loss_chart
from .page import CSS, cell, colour_bar, image, number, picture_grid, section, swatches, text, with_unit
from .planes import FOLD_COLOUR, Plane, checkerboard, diverging, magenta_green, planes, window
from .tables import label_tables, metric_tables, provenance_table

_SAMPLE = 200_000


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


def write_html(path: Union[str, os.PathLike], report: Mapping, pictures: Pictures,
               history: Sequence[Mapping] = ()) -> None:
    """Write the page, completely or not at all.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    page = render_html(report, pictures, history)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_html(report: Mapping, pictures: Pictures, history: Sequence[Mapping] = ()) -> str:
    """The page as text.

    Args:
        report: from :func:`make_report`.
        pictures: what to show.
        history: one mapping for each recorded iteration with ``loss``, and ``level`` and ``iteration`` if known.
    """
    views = planes(pictures.grid, _subject(pictures))
    title = f"{pictures.fixed_name} ← {pictures.moving_name}"
    body = [
        _header(report, title), _alignment(pictures, views), _volume_change(pictures, views),
        _deformation(pictures, views), _charts(pictures, history), metric_tables(report),
        label_tables(report["metrics"]), provenance_table(report["provenance"]), _footer(report),
    ]
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>Registration report: {text(title)}</title><style>{CSS}</style></head>\n'
            f'<body><main>{"".join(body)}</main></body></html>\n')


# --------------------------------------------------------------------------------------------------- sections


def _header(report: Mapping, title: str) -> str:
    judged = report["verdict"]
    concerns = "".join(f"<li>{text(c[:1].upper() + c[1:])}.</li>" for c in judged["concerns"])
    tiles = "".join(f'<div class="tile"><span>{text(name)}</span><b>{value}</b></div>'
                    for name, value in _key_figures(report))
    return (f'<header><h1>Registration report</h1><p class="sub">{text(title)}</p>'
            f'<div class="verdict {text(judged["level"])}"><b>{text(judged["headline"])}</b>{text(judged["text"])}'
            f'{"<ul>" + concerns + "</ul>" if concerns else ""}</div><div class="tiles">{tiles}</div></header>')


def _key_figures(report: Mapping) -> list[tuple[str, str]]:
    metrics, runtime = report["metrics"], report["runtime"]
    figures = []
    if metrics.get("tre_mm"):
        figures.append(("Landmark error", with_unit(metrics["tre_mm"]["mean"], "mm", 2)))
    if metrics.get("dice"):
        figures.append(("Mean Dice", number(metrics["dice"]["mean"], 3)))
    figures.append(("Correlation", number(metrics["similarity"]["after"].get("ncc"), 3)))
    worst = max(v for side in metrics["folds_percent"].values() for v in side.values())
    figures.append(("Folds", "none" if worst == 0 else with_unit(worst, "%", 3)))
    figures.append(("Inverse consistency", with_unit(metrics["inverse_consistency_mm"]["mean"], "mm", 2)))
    figures.append(("Time", with_unit(runtime["seconds"], "s", 0 if (runtime["seconds"] or 0) >= 10 else 1)))
    if runtime["peak_memory_gb"] and len(figures) < 6:
        figures.append(("Peak memory", with_unit(runtime["peak_memory_gb"], "GB", 2)))
    return figures


def _alignment(pictures: Pictures, views: list[Plane]) -> str:
    grey = _Grey.of(pictures)
    rows = {"Before": pictures.before, "After": pictures.after}

    def cells(draw, light: bool = False) -> list[tuple[str, list[str]]]:
        return [(name, [cell(view, draw(view, moving), light) for view in views]) for name, moving in rows.items()]

    def checker(view: Plane, moving: Tensor) -> str:
        square = round(max(view.size_mm) / view.pixel_mm / 9)
        return image(checkerboard(grey.fixed(view.pixels(pictures.fixed)), grey.moving(view.pixels(moving)), square))

    def overlay(view: Plane, moving: Tensor) -> str:
        return image(magenta_green(grey.fixed(view.pixels(pictures.fixed)), grey.moving(view.pixels(moving))))

    def difference(view: Plane, moving: Tensor) -> str:
        return image(diverging(grey.moving(view.pixels(moving)) - grey.fixed(view.pixels(pictures.fixed)), 0.5))

    overlay_key = f'<div class="key">{swatches([("#f0f", "fixed"), ("#0f0", "moving"), ("#999", "both alike")])}</div>'
    difference_key = colour_bar([(-1, "fixed brighter"), (0, "same"), (1, "moving brighter")], 1.0)
    ranges = "in the fixed image's intensity range" if grey.shared else "each in its own intensity range"
    tilt = "" if views[0].tilt < 5 else f" The image is tilted by {views[0].tilt:.0f}° against the body's axes."
    sides = " The patient's right is on the left." if views[0].letters else ""
    return (section("Overlay", f"Grey where the images agree, coloured where they do not.{sides}{tilt}",
                    picture_grid(views, cells(overlay)) + overlay_key)
            + section("Checkerboard", "Fixed and moving in turn: edges should run on across the squares.",
                      picture_grid(views, cells(checker)))
            + section("Difference", f"Moving minus fixed, {ranges}; full colour at half of it.",
                      picture_grid(views, cells(difference, light=True)) + difference_key))


def _volume_change(pictures: Pictures, views: list[Plane]) -> str:
    limit = _jacobian_limit(pictures)
    cells = []
    for view in views:
        colours = diverging(view.pixels(pictures.log_jacobian), limit)
        folded = view.pixels(pictures.log_jacobian, nearest=True) <= 0.999 * math.log(LOG_FLOOR)
        colours[folded] = np.array(FOLD_COLOUR) / 255
        if pictures.mask is not None:
            colours[_outline(view.pixels(pictures.mask) > 0.5)] = 0.25
        cells.append(cell(view, image(colours), light=True))
    key = colour_bar([(t, factor_label(t)) for t in factor_ticks(limit)], limit, swatches([(fold_colour(), "fold")]))
    note = "The Jacobian determinant of the forward map: blue where the moving image is smaller than the fixed one, "
    note += "red where it is larger." + (" The thin line is the mask." if pictures.mask is not None else "")
    return section("Volume change", note, picture_grid(views, [("", cells)]) + key)


def _deformation(pictures: Pictures, views: list[Plane]) -> str:
    if pictures.deform is None:
        return ""
    grey, step = _Grey.of(pictures), float(max(pictures.grid.extent)) / 30
    cells = []
    for view in views:
        backdrop = image(1 - grey.fixed(view.pixels(pictures.fixed)), "faint")
        cells.append(cell(view, backdrop + deformation_grid(view, pictures.deform, step), light=True))
    return section("Deformation", "A regular grid on the fixed image as the forward map moves it, without the linear "
                   "part, seen straight onto each plane.", picture_grid(views, [("", cells)]))


def _charts(pictures: Pictures, history: Sequence[Mapping]) -> str:
    values = _inside(pictures, pictures.log_jacobian)
    where = "inside the mask" if pictures.mask is not None else "of the whole image"
    return section("Charts", "", f'<div class="charts"><div><h3>Loss by level</h3>{loss_chart(history)}</div>'
                   f'<div><h3>Volume change of the voxels {where}</h3>'
                   f'{jacobian_histogram(values, _jacobian_limit(pictures))}</div></div>')


def _footer(report: Mapping) -> str:
    schema = report["schema"]
    return (f'<footer>The same numbers are in report.json ({text(schema["name"])}, version {text(schema["version"])}).'
            f' For research; not a medical device.</footer>')


# ------------------------------------------------------------------------------------------- what is shown


@dataclass(frozen=True)
class _Grey:
    """Display ranges of the fixed and the moving image."""

    fixed_range: tuple[float, float]
    moving_range: tuple[float, float]
    shared: bool

    @classmethod
    def of(cls, pictures: Pictures) -> _Grey:
        """One range for both where they are of one kind, so that their difference means something."""
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
    """At most about :data:`_SAMPLE` values, evenly taken."""
    flat = values.detach().flatten()
    return flat[::max(1, flat.numel() // _SAMPLE)].cpu().to(torch.float32).numpy()


def _subject(pictures: Pictures) -> Tensor:
    """What slices should go through: the mask, or else what is brighter than the background."""
    if pictures.mask is not None and bool(pictures.mask.any()):
        return pictures.mask.cpu()
    fixed = pictures.fixed.detach().cpu()
    return fixed > float(_sampled(fixed).mean())


def _inside(pictures: Pictures, values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    return _sampled(values if pictures.mask is None else values[pictures.mask.cpu()])


def _jacobian_limit(pictures: Pictures) -> float:
    """The log-Jacobian at full colour: the 99th percentile inside, within 0.1 to 2.5."""
    values = np.abs(_inside(pictures, pictures.log_jacobian))
    return float(np.clip(np.percentile(values, 99) * 1.15, 0.1, 2.5)) if values.size else 0.5


def _outline(inside: np.ndarray) -> np.ndarray:
    """The pixels of a mask that border on its outside."""
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core
