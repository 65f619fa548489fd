"""Double of slicer.i18n; what was marked for translation is kept, so that a test can compare it with what is shown."""

from __future__ import annotations

marked: set[str] = set()


def tr(text: str) -> str:
    marked.add(text)
    return text


def translate(_context: str, text: str) -> str:
    return text
