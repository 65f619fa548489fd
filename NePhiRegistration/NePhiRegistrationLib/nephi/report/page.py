"""The style and the building blocks of ``report.html``: light, for a laptop screen and for A4 or Letter paper."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from .planes import Plane, data_uri, diverging_css

SCREEN_PX = (960, 400)
"""The largest width of the pictures of a row together, and the largest height, on a screen."""

PAPER_PX = (590, 260)
"""The same on paper and on narrow screens."""

CSS = """
:root { --ink:#1d2733; --soft:#5d6b7a; --line:#e1e6eb; --tint:#f0f3f6; --good:#2f7d4f; --check:#b3601a }
* { box-sizing:border-box; print-color-adjust:exact; -webkit-print-color-adjust:exact }
body { margin:0; background:#fff; color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif }
main { max-width:1120px; margin:0 auto; padding:36px 28px 60px }
h1 { font-size:26px; font-weight:650; margin:0; letter-spacing:-.01em }
h2 { font-size:18px; font-weight:650; margin:44px 0 4px; break-after:avoid }
h3 { font-size:14px; font-weight:650; margin:22px 0 6px; break-after:avoid }
.sub, .note { color:var(--soft) }
.sub { margin:4px 0 0 }
.note { margin:0 0 14px; font-size:14px; max-width:78ch }
.verdict { margin:22px 0 0; padding:14px 18px; border-left:5px solid var(--good); background:#eff7f2;
  border-radius:0 6px 6px 0 }
.verdict.check { border-color:var(--check); background:#fdf4ea }
.verdict b { display:block; font-size:17px }
.verdict ul { margin:6px 0 0; padding-left:20px }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin:16px 0 0 }
.tile { border:1px solid var(--line); border-radius:6px; padding:10px 14px }
.tile span { color:var(--soft); font-size:13px; display:block }
.tile b { font-size:22px; font-weight:600; white-space:nowrap }
.tile b small { font-size:13px; font-weight:400; color:var(--soft) }
section { break-inside:avoid }
.planes { display:grid; gap:10px 12px; justify-content:start; --s:var(--screen) }
.planes .head, .planes .side { color:var(--soft); font-size:13px }
.planes .head { text-align:center }
.planes .side { align-self:center }
.cell { background:#000; border-radius:4px; display:flex; align-items:center; justify-content:center; overflow:hidden;
  height:calc(var(--ch)*var(--s)) }
.cell.light { background:#fff; box-shadow:inset 0 0 0 1px var(--line) }
.picture { position:relative; width:calc(var(--w)*var(--s)); height:calc(var(--h)*var(--s)); flex:none }
.picture img, .picture svg { position:absolute; inset:0; width:100%; height:100%; display:block }
.picture .lines { overflow:hidden }
.picture .faint { opacity:.32 }
.picture i { position:absolute; font:600 11px/1 system-ui,sans-serif; color:#ffd54a;
  text-shadow:0 0 3px #000,0 0 2px #000 }
.light .picture i { color:#44505c; text-shadow:0 0 3px #fff,0 0 2px #fff }
i.l { left:4px; top:50%; transform:translateY(-50%) }
i.r { right:4px; top:50%; transform:translateY(-50%) }
i.t { top:4px; left:50%; transform:translateX(-50%) }
i.b { bottom:4px; left:50%; transform:translateX(-50%) }
.key { display:flex; align-items:flex-start; gap:70px; margin:12px 0 0; font-size:13px; color:var(--soft) }
.key .bar { position:relative; height:12px; width:280px; border:1px solid var(--line); border-radius:2px;
  margin:4px 0 20px 48px }
.key .bar span { position:absolute; top:13px; transform:translateX(-50%); font-size:12px; white-space:nowrap }
.swatch { display:inline-block; width:12px; height:12px; border-radius:2px; border:1px solid #0003;
  vertical-align:-1px; margin:0 6px 0 0 }
.key .swatch:not(:first-child) { margin-left:18px }
.charts { display:grid; grid-template-columns:1fr 1fr; gap:24px }
.chart { width:100%; height:auto; display:block }
.chart text { font:11.5px system-ui,sans-serif; fill:var(--soft) }
.chart .rule { stroke:var(--line) }
.chart .axis { stroke:#9aa6b2 }
.chart .split { stroke:#9aa6b2; stroke-dasharray:3 3 }
.tables { columns:2; column-gap:40px }
.tables > div { break-inside:avoid; padding-top:14px }
.tables h3 { margin-top:0 }
table { border-collapse:collapse; width:100%; font-size:14px; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:400; color:var(--soft); vertical-align:top }
thead th { font-size:13px }
th, td { padding:4px 8px 4px 0; border-bottom:1px solid var(--line) }
td, thead th + th { text-align:right; padding:4px 0 4px 10px }
.labels { display:grid; grid-template-columns:repeat(3,1fr); gap:0 40px; align-items:start }
.bars { background:var(--tint); display:inline-block; width:84px; height:9px; border-radius:2px; margin-right:8px }
.meter { display:block; height:9px; background:#7fa6cf; border-radius:2px }
.provenance { font-size:13px }
.provenance td { text-align:left; overflow-wrap:anywhere }
.provenance th { width:240px; overflow-wrap:anywhere }
.provenance .group th { color:var(--ink); font-weight:650; padding-top:12px }
footer { margin-top:40px; color:var(--soft); font-size:13px }
@media (max-width:1080px) {
  .planes { --s:var(--paper) }
  .charts { grid-template-columns:1fr }
  .tables { columns:1 }
  .labels { grid-template-columns:repeat(2,1fr) }
}
@media print {
  @page { margin:14mm 13mm }
  body { font-size:12px }
  main { padding:0; max-width:none }
  h2 { margin-top:26px }
  table { font-size:11.5px }
  .planes { --s:var(--paper) }
  .charts { grid-template-columns:1fr 1fr; gap:14px }
  .tables { columns:2 }
  .labels { grid-template-columns:repeat(3,1fr); gap:0 22px }
  .bars { width:40px }
  .tile { padding:7px 9px }
  .tile b { font-size:16px }
  .tiles { grid-template-columns:repeat(auto-fit,minmax(100px,1fr)); gap:8px }
}
"""


def section(title: str, note: str, content: str) -> str:
    """A titled part of the page that is not split over two sheets of paper."""
    return f'<section><h2>{text(title)}</h2>{f"<p class=note>{text(note)}</p>" if note else ""}{content}</section>'


def picture_grid(views: list[Plane], rows: list[tuple[str, list[str]]]) -> str:
    """Pictures in rows (before, after) by columns (planes), all at one scale; in 2D the rows become columns."""
    widths = [view.size_mm[0] for view in views] * (2 if len(views) == 1 else 1)
    height = max(view.size_mm[1] for view in views)
    screen, paper = (min(px[0] / sum(widths), px[1] / height) for px in (SCREEN_PX, PAPER_PX))
    named = any(name for name, _ in rows)
    if len(views) == 1:
        heads = "".join(f'<div class="head">{text(name)}</div>' for name, _ in rows) if named else ""
        cells, widths, side = "".join(row[0] for _, row in rows), widths[:len(rows)], False
    else:
        heads = "<div></div>" * named + "".join(f'<div class="head">{text(view.name)}</div>' for view in views)
        cells = "".join((f'<div class="side">{text(name)}</div>' if named else "") + "".join(row) for name, row in rows)
        side = named
    columns = "48px " * side + " ".join(f"calc({width:.2f}*var(--s))" for width in widths)
    style = f"--screen:{screen:.4f}px;--paper:{paper:.4f}px;--ch:{height:.2f};grid-template-columns:{columns}"
    return f'<div class="planes" style="{style}">{heads}{cells}</div>'


def cell(view: Plane, content: str, light: bool = False) -> str:
    """One picture with its patient directions, on black, or on white when ``light``."""
    width, height = view.size_mm
    letters = "".join(f'<i class="{side}">{letter}</i>' for side, letter in zip("lrtb", view.letters))
    return (f'<div class="cell{" light" if light else ""}">'
            f'<div class="picture" style="--w:{width:.2f};--h:{height:.2f}">{content}{letters}</div></div>')


def image(picture: np.ndarray, css_class: str = "") -> str:
    """A picture of 0 to 1 as an inline PNG."""
    return f'<img alt=""{f" class={css_class}" if css_class else ""} src="{data_uri(picture)}">'


def colour_bar(labels: Sequence[tuple[float, str]], limit: float, extra: str = "") -> str:
    """The legend of the diverging colours over +-limit, with (value, label) marks."""
    marks = "".join(f'<span style="left:{50 + 50 * value / limit:.1f}%">{text(label)}</span>'
                    for value, label in labels)
    return f'<div class="key"><div class="bar" style="background:{diverging_css()}">{marks}</div>{extra}</div>'


def swatches(colours: Sequence[tuple[str, str]]) -> str:
    """A legend of (CSS colour, name)."""
    return "<span>" + "".join(f'<span class="swatch" style="background:{colour}"></span>{text(name)}'
                              for colour, name in colours) + "</span>"


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A titled table; ``rows`` are (name, cell, cell...), the cells already HTML."""
    head = "".join(f"<th>{text(h)}</th>" for h in heads)
    body = "".join(f"<tr><th>{text(name)}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
                   for name, *values in rows)
    return (f'<div><h3>{text(title)}</h3><table>{f"<thead><tr>{head}</tr></thead>" if any(heads) else ""}'
            f"<tbody>{body}</tbody></table></div>")


def flat(values: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text) rows."""
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", shown(value)))
    return rows


def shown(value) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value)
    return "none" if value is None else str(value)


def number(value, digits: int) -> str:
    """A number with so many decimals, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    rounded = f"{value:.{digits}f}"
    if value > 0 and float(rounded) == 0:
        return f"&lt; {10.0 ** -digits:.{digits}f}"
    return rounded


def with_unit(value, unit: str, digits: int) -> str:
    """A number and its unit, as HTML."""
    return f"{number(value, digits)} <small>{unit}</small>"


def text(value) -> str:
    """Anything as HTML text, escaped."""
    return html.escape(str(value))
