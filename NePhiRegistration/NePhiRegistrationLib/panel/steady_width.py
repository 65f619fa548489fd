"""The width of the panel: it does not shrink again when a section closes, which would move all views beside it."""

from __future__ import annotations

from typing import Any

import qt


class SteadyWidth:
    """Keeps the panel as wide as its widest section has made it.

    Args:
        ui: the widgets of the .ui file.
    """

    def __init__(self, ui: Any) -> None:
        self._root = ui.inputsCollapsibleButton.parentWidget()
        self._open = True
        for name, widget in vars(ui).items():
            if name.endswith("CollapsibleButton"):
                widget.connect("contentsCollapsed(bool)", self.onToggled)
            elif name.endswith("GroupBox"):
                widget.connect("toggled(bool)", self.onToggled)

    def onToggled(self, _state: bool) -> None:
        """A section opens or closes: look once the window has laid it out."""
        qt.QTimer.singleShot(0, self.keep)

    def keep(self) -> None:
        """From now on be at least as wide as now."""
        if self._open:
            self._root.minimumWidth = max(self._root.minimumWidth, self._root.minimumSizeHint.width())

    def close(self) -> None:
        """The panel goes."""
        self._open = False
