"""Landmarks: pairs placed with one click, listed with their distances, and taken as guidance."""

from __future__ import annotations

from typing import Any, Callable

import qt
import slicer
from slicer.i18n import tr as _

from ..mrml import landmark_pairs
from ..mrml.deformation_nodes import deformation
from .node_watch import NodeWatch


class LandmarksSection:
    """The tools of the section.

    Args:
        ui: the widgets of the .ui file.
        parameters: gives the parameter node, or None while there is none.
        pull: takes the result to the landmarks.
        changed: called when a pair has been placed, moved or removed.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any], pull: Callable[[], None], changed: Callable[[], None]
                 ) -> None:
        self._ui, self._parameters, self._changed = ui, parameters, changed
        self._pairs: list[landmark_pairs.PairDistance] = []
        self._nodes: tuple = (None, None)
        self._places: list = []
        self._waiting = self._completing = False
        self._points = NodeWatch(self.onPoints)
        self._can_pull = False
        self._begun: tuple = (self._nodes, self._places, False)
        self.news = False  # whether pairs have changed since those of the last result
        self.guiding = False  # whether they guided it
        titles = (_("Landmark"), _("Before (mm)"), _("Now (mm)"))
        ui.landmarksTable.setColumnCount(len(titles))
        ui.landmarksTable.setHorizontalHeaderLabels(list(titles))
        ui.landmarksTable.verticalHeader().hide()
        header = ui.landmarksTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)  # for names, which are long
        ui.landmarksTable.connect("cellDoubleClicked(int,int)", self.onRow)
        ui.placePairButton.connect("clicked()", self.onPlace)
        ui.pullButton.connect("clicked()", pull)
        self.update()

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def update(self) -> None:
        """Show the pairs that are chosen."""
        parameters, ui = self._parameters(), self._ui
        nodes = (None, None) if parameters is None else (parameters.fixedLandmarks, parameters.movingLandmarks)
        if nodes != self._nodes:
            self._nodes, self.news = nodes, True
            self._points.follow(nodes)
        self._measure()
        ui.placePairButton.enabled = parameters is not None and parameters.fixedVolume is not None

    def allow_pulling(self, allowed: bool) -> None:
        """Say whether there is a result that can be taken to the landmarks."""
        self._can_pull = allowed
        self._ui.pullButton.enabled = allowed and bool(self._pairs)

    def begin(self, guiding: bool) -> None:
        """A task begins with the pairs as they are now.

        Args:
            guiding: whether they guide its result.
        """
        self._begun = self._nodes, self._placed(), guiding

    def result(self) -> None:
        """There is a new result: the pairs are measured by it."""
        *begun, self.guiding = self._begun
        self.news = begun != [self._nodes, self._placed()]
        self._measure()

    def close(self) -> None:
        """The panel goes, or the scene."""
        self._points.follow(())
        self._nodes, self._waiting = (None, None), False

    def onPlace(self) -> None:
        """Have the user's next click make a pair, in lists that are made when there are none."""
        parameters = self._parameters()
        for name, title in (("fixedLandmarks", _("Landmarks, fixed")), ("movingLandmarks", _("Landmarks, moving"))):
            if getattr(parameters, name) is None:
                node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", title)
                node.CreateDefaultDisplayNodes()
                setattr(parameters, name, node)
        parameters.guideByLandmarks = True
        self.update()
        self._waiting = True
        landmark_pairs.start_placing(slicer.mrmlScene, parameters.fixedLandmarks)

    def onPoints(self) -> None:
        """A point was placed, moved or removed."""
        parameters = self._parameters()
        if parameters is None or self._completing:
            return
        if self._waiting and None not in self._nodes:
            self._completing = True
            self._waiting = not landmark_pairs.complete_pair(
                *self._nodes, parameters.movingVolume, _filled(parameters.forwardTransform),
                _filled(parameters.inverseTransform))
            self._completing = False
            if not self._waiting:
                landmark_pairs.stop_placing(slicer.mrmlScene)
        if self._moved():  # a point that follows the mouse until it is placed is no news
            self.news = True
            self._measure()
            self._changed()

    def onRow(self, row: int, _column: int) -> None:
        """Bring all views to a pair."""
        if row < len(self._pairs):
            landmark_pairs.show_pair(slicer.mrmlScene, self._pairs[row], self._parameters().movingVolume)

    def _moved(self) -> bool:
        """Whether points are elsewhere than when this was asked last."""
        before, self._places = self._places, self._placed()
        return self._places != before

    def _placed(self) -> list:
        return [[point.tolist() for point in landmark_pairs.placed(node)] for node in self._nodes if node is not None]

    def _measure(self) -> None:
        parameters, table = self._parameters(), self._ui.landmarksTable
        forward = None if parameters is None else _filled(parameters.forwardTransform)
        self._pairs = landmark_pairs.pair_distances(*self._nodes, forward)
        table.setRowCount(len(self._pairs))
        for row, pair in enumerate(self._pairs):
            now = "" if pair.now is None else f"{pair.now:.2f}"
            for column, text in enumerate((pair.name, f"{pair.before:.2f}", now)):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        self.allow_pulling(self._can_pull)


def _filled(transform: Any) -> Any:
    """A transform node that holds a deformation, else None."""
    return transform if transform is not None and deformation(transform) is not None else None
