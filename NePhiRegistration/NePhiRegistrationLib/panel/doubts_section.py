"""Doubtful places: the views are taken to where a result should be looked at, or all places become points."""

from __future__ import annotations

from typing import Any, Callable

import slicer
from slicer.i18n import tr as _

from ..mrml import doubtful_places


class DoubtsSection:
    """The buttons and the line below them.

    Args:
        ui: the widgets of the .ui file.
        table: gives the table node of the result, or None.
    """

    def __init__(self, ui: Any, table: Callable[[], Any]) -> None:
        self._ui, self._table = ui, table
        self._places: list[doubtful_places.Place] = []
        self._next = 0
        ui.doubtButton.connect("clicked()", self.onNext)
        ui.doubtPointsButton.connect("clicked()", self.onPoints)
        self.update()

    def update(self) -> None:
        """Begin again with the worst place when the result is another one."""
        places = doubtful_places.load(self._table())
        if places != self._places:
            self._places, self._next = places, 0
            self._ui.doubtLabel.text = ""
        self._ui.doubtButton.enabled = self._ui.doubtPointsButton.enabled = bool(self._places)

    def onNext(self) -> None:
        """Show the next place; after the last one the first."""
        self.update()
        if not self._places:
            return
        place = self._places[self._next]
        doubtful_places.show(slicer.mrmlScene, place)
        self._ui.doubtLabel.text = _("{number} of {count}: {reason}, {mm} mm").format(
            number=self._next + 1, count=len(self._places), mm=f"{place.mm:.1f}",
            reason=doubtful_places.reason_text(place.reason))
        self._next = (self._next + 1) % len(self._places)

    def onPoints(self) -> None:
        """Show all places as points, for Slicer's module Markups."""
        self.update()
        if self._places:
            node = doubtful_places.points(self._table())
            self._ui.doubtLabel.text = _("{count} places are in '{name}'.").format(
                count=len(self._places), name=node.GetName())
