"""Metrics: what a registration measured as a table and a histogram, and the files it can be saved to."""

from __future__ import annotations

from typing import Any, Callable, Optional

import qt
from slicer.i18n import tr as _

from ..mrml import metrics_table
from ..session import transform_files
from .plots import draw_histogram


class MetricsSection:
    """Shows the rows of a report, from a task or from a table node.

    Args:
        ui: the widgets of the .ui file.
        save, load: take the path of a .nephi file; they raise ValueError or OSError with one sentence. ``load`` returns
            at once, and :meth:`loaded` is to be called when it is done.
        say: takes a sentence for the user.
    """

    def __init__(self, ui: Any, save: Callable[[str], Any], load: Callable[[str], Any], say: Callable[[str], None]
                 ) -> None:
        self._ui, self._save, self._load, self._say = ui, save, load, say
        self._rows: list[metrics_table.Row] = []
        titles = (_("Measure"), _("Value"))
        ui.numbersTable.setColumnCount(len(titles))
        ui.numbersTable.setHorizontalHeaderLabels(list(titles))
        ui.numbersTable.verticalHeader().hide()
        ui.numbersTable.verticalHeader().setDefaultSectionSize(ui.numbersTable.fontMetrics().height() + 6)
        header = ui.numbersTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.csvButton.connect("clicked()", self.onSaveNumbers)
        ui.saveTransformButton.connect("clicked()", self.onSaveTransform)
        ui.loadTransformButton.connect("clicked()", self.onLoadTransform)
        self.show([], None)

    def show(self, rows: list[metrics_table.Row], histogram: Optional[dict]) -> None:
        """Show measurements, or nothing where there are none.

        Args:
            histogram: {"edges", "counts", "folds"} of the Jacobian determinant, or None.
        """
        self._rows, table = rows, self._ui.numbersTable
        table.setRowCount(len(rows))
        for index, cells in enumerate(lines(rows)):
            for column, text in enumerate(cells):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(index, column, item)
        self._ui.histogramLabel.visible = bool(histogram)
        if histogram:
            draw_histogram(self._ui.histogramLabel, histogram["edges"], histogram["counts"], histogram["folds"])
        self._ui.csvButton.enabled = bool(rows)

    def show_table(self, node: Any) -> None:
        """Show what a table node holds, when it is not what is shown already."""
        rows, histogram = metrics_table.read_metrics(node)
        if rows != self._rows:
            self.show(rows, histogram)

    def allow_saving(self, there_is_one: bool) -> None:
        """Whether there is a transform to save."""
        self._ui.saveTransformButton.enabled = there_is_one

    def onSaveNumbers(self) -> None:
        """Ask for a file and write the numbers."""
        path = qt.QFileDialog.getSaveFileName(self._ui.numbersTable, _("Save metrics"), "metrics.csv", "CSV (*.csv)")
        text = metrics_table.metrics_csv(self._rows)
        self._try(path, lambda: transform_files.write_bytes(path, text.encode("utf-8")),
                  _("Saved the metrics to {path}."))

    def onSaveTransform(self) -> None:
        """Ask for a file and write the transform."""
        path = qt.QFileDialog.getSaveFileName(self._ui.numbersTable, _("Save transform"), "transform.nephi",
                                              "NePhi (*.nephi)")
        self._try(path, lambda: self._save(path), _("Saved the transform to {path}."))

    def onLoadTransform(self) -> None:
        """Ask for a file and read the transform."""
        path = qt.QFileDialog.getOpenFileName(self._ui.numbersTable, _("Load transform"), "", "NePhi (*.nephi)")
        self._ui.loadTransformButton.enabled = not path
        if not self._try(path, lambda: self._load(path), _("Loading {path}…")):
            self._ui.loadTransformButton.enabled = True

    def loaded(self, outcome: str) -> None:
        """A file was read, or could not be."""
        self._ui.loadTransformButton.enabled = True
        self._say(outcome)

    def _try(self, path: str, action: Callable[[], Any], done: str) -> bool:
        if not path:
            return False
        try:
            action()
        except (ValueError, RuntimeError, OSError) as error:
            self._say(str(error))
            return False
        self._say(done.format(path=path))
        return True


def lines(rows: list[metrics_table.Row]) -> list[tuple[str, str]]:
    """Measure and value as people read them; the direction is named where both were measured."""
    directions: dict[str, set[str]] = {}
    for row in rows:
        directions.setdefault(row.measure, set()).add(row.direction)
    return [(f"{row.measure}, {row.direction}" if len(directions[row.measure]) > 1 else row.measure,
             f"{row.value:.4g} {row.unit}".rstrip()) for row in rows]
