"""The choice of one segment of a mask beside the mask's own selector."""

from __future__ import annotations

from typing import Any, Callable


class SegmentChoice:
    """A combo box with the segments of a segmentation; empty for a label map.

    Args:
        combo: a QComboBox.
        read: gives the mask node and the id of the chosen segment ("" for all).
        write: takes that id.
        everything: what the first item says.
    """

    def __init__(self, combo: Any, read: Callable[[], tuple[Any, str]], write: Callable[[str], None], everything: str
                 ) -> None:
        self._combo, self._read, self._write, self._everything = combo, read, write, everything
        combo.connect("currentIndexChanged(int)", self.onChosen)

    def update(self) -> None:
        """Show the segments of the mask that is chosen now."""
        node, chosen = self._read()
        segments = _segments(node)
        before = self._combo.blockSignals(True)
        self._combo.clear()
        self._combo.addItem(self._everything, "")
        for identifier, name in segments:
            self._combo.addItem(name, identifier)
        self._combo.setCurrentIndex(max(0, self._combo.findData(chosen)))
        self._combo.blockSignals(before)
        self._combo.enabled = bool(segments)
        if chosen and chosen not in dict(segments):
            self._write("")

    def onChosen(self, _index: int) -> None:
        """The user chose a segment."""
        self._write(self._combo.currentData or "")


def _segments(node: Any) -> list[tuple[str, str]]:
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    segmentation = node.GetSegmentation()
    return [(identifier, segmentation.GetSegment(identifier).GetName()) for identifier in segmentation.GetSegmentIDs()]
