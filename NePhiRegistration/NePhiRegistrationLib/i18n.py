"""``tr`` marks what users read for translation: Slicer's own, or one that changes nothing where Slicer has none.

Slicer's looks up the stack for the file that calls it, under whose name the translations are kept. So it is imported
and called as it is, never from another function.
"""

from __future__ import annotations

__all__ = ["tr"]

try:
    from slicer.i18n import tr
except ImportError:  # slicer-core, on which nodes are read and written without an application

    def tr(text: str) -> str:
        """The text as it is."""
        return text
