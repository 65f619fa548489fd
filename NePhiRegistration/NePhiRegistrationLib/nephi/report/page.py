"""``report.html``: one self-contained page that shows whether a registration can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..storage import PathLike, atomic_path
from .charts import jacobian_histogram, loss_chart
from .number_tables import key_figures, label_rows, number_tables, provenance_groups
from .pictures import Pictures, inside, jacobian_limit, layout, picture_sections, views_of
from .planes import diverging_css


def write_html(path: PathLike, report: Mapping, pictures: Pictures, history: Sequence[Mapping] = ()) -> None:
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
    views, log_jacobian = views_of(pictures), inside(pictures, pictures.log_jacobian)
    return page_template("report.html.j2").render(
        title=f"{pictures.fixed_name} ← {pictures.moving_name}", verdict=report["verdict"],
        figures=key_figures(report),
        views=views, layout=layout(views), sections=picture_sections(pictures, views), gradient=diverging_css(),
        loss_chart=loss_chart(history), histogram=jacobian_histogram(log_jacobian, jacobian_limit(pictures)),
        masked=pictures.mask is not None, tables=number_tables(report), labels=label_rows(report["metrics"]),
        provenance=provenance_groups(report["provenance"]), schema=report["schema"])


def page_template(name: str, *folders: Path) -> Any:
    """A template of a page, from the folders or from this room's, whose style all pages share."""
    import jinja2  # only for pages: the other commands start faster without it

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    return environment.get_template(name)
