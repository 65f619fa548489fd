"""The report of a registration: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

from ..judge.verdict import Verdict, verdict
from .memory import peak_memory_gb
from .number_tables import flattened
from .page import render_html, write_html
from .pictures import Pictures, thumbnails
from .record import SCHEMA_VERSION, make_metrics, make_report, plain, write_report

__all__ = ["SCHEMA_VERSION", "Pictures", "Verdict", "flattened", "make_metrics", "make_report", "peak_memory_gb",
           "plain", "render_html", "thumbnails", "verdict", "write_html", "write_report"]
