"""``template.html``: a template round by round, how it came to rest, and how far the images still differ from it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional
from urllib.parse import quote

import numpy as np
from torch import Tensor

from .. import __version__
from ..cohort.cohort_csv import Result
from ..geometry import Grid
from ..images.reading import read_image
from ..judge.verdict import HEADLINES, LEVELS
from ..report.axes import COLOURS, Axes, svg, text
from ..report.number_tables import number
from ..report.page import page_template
from ..report.pictures import Section, layout
from ..report.planes import Plane, data_uri, planes, window
from ..storage import atomic_path
from .finish_template import Finished
from .make_template import TEMPLATE
from .round_record import RoundRecord
from .study import LINEAR, NEPHI, Study

MOST_SHOWN = 200
"""So many images have a thumbnail, those first that need a look; all are in cohort.html."""

_MEASURES = (("moved_mm", "Mean shape moved", "mm", 3), ("change_percent", "Template changed", "%", 2),
             ("similarity", "Correlation with the mean", "", 4), ("spread_percent", "Spread of the images", "%", 2),
             ("dice", "Dice with the majority", "", 3))
"""Of a round: name, title, unit and digits."""
_KINDS = {"start": "Start", LINEAR: "Linear", NEPHI: "Round"}


def write_template_page(path: Path, study: Study, records: Sequence[RoundRecord], finished: Finished) -> None:
    """Write the page, completely or not at all.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    page = render_template_page(study, records, finished)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_template_page(study: Study, records: Sequence[RoundRecord], finished: Finished) -> str:
    """The page as text."""
    values, labels, names = finished.template.values, finished.labels, _names(study)
    views = planes(study.grid, values > values.mean() if labels is None else labels.values != 0)
    templates = [read_image(study.round_folder(n) / TEMPLATE).values for n in range(len(records) - 1)] + [values]
    measures = [(name, title, unit, digits) for name, title, unit, digits in _MEASURES
                if any(getattr(record, name) is not None for record in records)]
    heads = [f"{title}, {unit}" if unit else title for _, title, unit, _ in measures]
    charts = [(head, _chart([getattr(record, measure[0]) for record in records], names, head))
              for head, measure in zip(heads, measures)]
    rows = [(name, [number(getattr(record, measure), digits) for measure, _, _, digits in measures])
            for name, record in zip(names, records)]
    results = sorted(finished.results, key=lambda result: (result.verdict not in LEVELS[1:], result.row.id))
    return page_template("template.html.j2", Path(__file__).parent / "templates").render(
        title=study.folder.name, views=views, layout=layout(views), charts=charts, rows=rows,
        sections=[_rounds(views, templates, names), *_differences(views, finished)],
        heads=heads, size=_size(study.grid), tiles=_tiles(records[-1], finished.results),
        images=[_image(result) for result in results[:MOST_SHOWN]],
        count=len(results), version=__version__, today=datetime.date.today().isoformat())


def _names(study: Study) -> list[str]:
    """Of the rounds, the start among them."""
    counts: Counter = Counter()
    names = ["Start"]
    for kind in study.plan:
        counts[kind] += 1
        names.append(f"{_KINDS[kind]} {counts[kind]}")
    return names


def _tiles(last: RoundRecord, results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """(name, number, unit) of what matters most."""
    verdicts = Counter(result.verdict for result in results)
    found = [(title, number(getattr(last, name), digits), unit) for name, title, unit, digits in _MEASURES
             if getattr(last, name) is not None]
    return found + [(HEADLINES[level], str(verdicts[level]), f"of {len(results)}")
                    for level in LEVELS if verdicts[level]]


def _size(grid: Grid) -> str:
    """Such as "35 × 50 × 36 voxels of 1 mm"."""
    steps = [f"{step:.3g}" for step in grid.spacing]
    return f"{' × '.join(map(str, grid.size))} voxels of {steps[0] if len(set(steps)) == 1 else ' × '.join(steps)} mm"


def _rounds(views: Sequence[Plane], templates: Sequence[Tensor], names: Sequence[str]) -> Section:
    low, high = np.percentile(templates[-1].numpy(), (0.5, 99.8))
    rows = {name: [(data_uri(window(view.pixels(values), low, high)), "") for view in views]
            for name, values in zip(names, templates)}
    return Section("Round by round", "The template at the end of each round, all on one intensity scale. It begins as "
                   "the mean of all images with their centres on each other; no image is preferred.", rows)


def _differences(views: Sequence[Plane], finished: Finished) -> list[Section]:
    deviation = finished.variance.values.sqrt()
    most = float(np.percentile(deviation.numpy(), 99.8))
    found = [Section("Spread", "The standard deviation of the images' intensities where they lie on the template, from "
                     f"0 (black) to {most:.3g} (white): bright edges are shapes that still differ.",
                     {"": [(data_uri(window(view.pixels(deviation), 0, most)), "") for view in views]})]
    if finished.labels is not None:
        found.append(Section("Labels", "The label that most images have at each voxel, in colour over the template.",
                             {"": [(data_uri(_painted(view, finished)), "") for view in views]}))
    return found


def _painted(view: Plane, finished: Finished) -> np.ndarray:
    """The template with its labels in colours, (rows, columns, 3)."""
    values = finished.template.values
    grey = window(view.pixels(values), *np.percentile(values.numpy(), (0.5, 99.8)))
    labels = view.pixels(finished.labels.values, nearest=True).astype(int)
    colours = np.array([[int(colour[n:n + 2], 16) / 255 for n in (1, 3, 5)] for colour in COLOURS])
    mixed = 0.55 * grey[..., None] + 0.45 * colours[labels % len(colours)]
    return np.where((labels != 0)[..., None], mixed, grey[..., None])


def _chart(values: Sequence[Optional[float]], names: Sequence[str], title: str) -> str:
    """A measure over the rounds, as SVG."""
    x = np.array([n for n, value in enumerate(values) if value is not None], float)
    y = np.array([value for value in values if value is not None], float)
    margin = 0.08 * max(float(np.ptp(y)), 1e-6)
    axes = Axes((-0.3, len(names) - 0.7), (min(float(y.min()) - margin, 0.0) if y.min() < 0.5 * y.max() else
                                           float(y.min()) - margin, float(y.max()) + margin), width=420, height=220)
    across, down = axes.place(x, y)
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{COLOURS[0]}"/>' for a, b in zip(across, down))
    every = max(1, round(len(names) / 8))
    marks = "".join(text(axes.place(n, 0)[0], axes.box[3] + 17, name) for n, name in enumerate(names)
                    if (len(names) - 1 - n) % every == 0)
    parts = [axes.rules(), axes.marks([]), axes.curve(x, y, COLOURS[0]), dots, marks]
    return svg(parts, axes.width, axes.height, title)


def _image(result: Result) -> tuple[str, str, str, str, str]:
    """(id, link, thumbnail, verdict, reason) of an image."""
    folder = quote(result.row.folder)
    picture = f"{folder}/{quote(result.files['after'])}" if "after" in result.files else ""
    return (result.row.id, f"{folder}/{quote(result.files.get('page', ''))}", picture, result.verdict or "unmeasured",
            result.reason)
