"""The panel put together: its sections, and what each tells the others."""

from __future__ import annotations

import logging
from typing import Any, Callable

import qt
import slicer
from slicer.i18n import tr as _

from ..mrml import metrics_table, transform_archive
from ..session.choices import check_outputs
from ..session.task import Task
from . import preset_files
from .apply_section import ApplySection
from .compute_section import ComputeSection
from .doubts_section import DoubtsSection
from .landmarks_section import LandmarksSection
from .metrics_section import MetricsSection
from .node_watch import NodeWatch
from .options_form import OptionsForm
from .review_section import ReviewSection
from .run_button import inputs, outputs
from .run_section import RunSection
from .segment_choice import SegmentChoice
from .series_section import SeriesSection
from .steady_width import SteadyWidth
from .torch_offer import TorchOffer

logger = logging.getLogger(__name__)


class Panel:
    """All sections.

    Args:
        ui: the widgets of the .ui file.
        logic: the module's logic.
        parameters: gives the parameter node, or None while there is none.
    """

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any]) -> None:
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._closed = False
        preset_files.fill(ui.presetComboBox)
        ui.presetComboBox.connect("currentIndexChanged(int)", self.onPreset)
        self.segments = [self._segments("fixedMask", "fixedSegment", ui.fixedSegmentComboBox),
                         self._segments("movingMask", "movingSegment", ui.movingSegmentComboBox),
                         self._segments("fixedExclude", "fixedExcludeSegment", ui.fixedExcludeSegmentComboBox),
                         self._segments("movingExclude", "movingExcludeSegment", ui.movingExcludeSegmentComboBox)]
        self.options = OptionsForm(ui, parameters)
        self.compute = ComputeSection(ui, logic, self.onPlace, self._say)
        self.torch = TorchOffer(ui, self.onTorch, self._say, lambda: self.compute.elsewhere)
        self.run = RunSection(ui, (self.start, self.resume, self.pull), parameters, self.torch.obstacle, self._pulls,
                              self._outdated)
        self.run.progressed.connect(self.onProgressed)
        self.run.shown.connect(self.onShown)
        self.run.finished.connect(self.onFinished)
        self.run.failed.connect(self.onFailed)
        ui.batchRowButton.connect("clicked()", self.onBatchRow)
        self.inputs = NodeWatch(self.run.outdate)
        self.review = ReviewSection(ui, parameters, self._say, self._error_map)
        self.landmarks = LandmarksSection(ui, parameters, self.run.pull, self.run.changed)
        self.run.updated.connect(lambda: self.landmarks.allow_pulling(self.run.can_pull))
        self.doubts = DoubtsSection(ui, self._table)
        self.carrying = ApplySection(ui, logic, parameters, self._forward)
        self.series = SeriesSection(ui, logic, parameters, self.torch.obstacle, self.run.log)
        self.numbers = MetricsSection(ui, self._save, self._load, self._say)
        self.width = SteadyWidth(ui)
        self._result = False  # whether the logic has one; a transform node may have its own beside
        self._update_numbers()
        if preset_files.problems():
            self._say(" ".join(preset_files.problems()))

    def enter(self) -> None:
        """The user opened the module: get the worker ready once the window has been drawn."""
        self.compute.update()
        self.torch.update()
        self.update()
        if self.torch.obstacle() is None:
            qt.QTimer.singleShot(0, self._warm_up)

    def update(self) -> None:
        """Show what the parameter node holds."""
        parameters = self._parameters()
        if parameters is None:
            return
        self.inputs.follow(getattr(parameters, side + kind) for side in ("fixed", "moving")
                           for kind in ("Volume", "Mask", "Exclude", "Labels"))
        combo = self._ui.presetComboBox
        if combo.currentData != parameters.preset:
            before = combo.blockSignals(True)
            combo.setCurrentIndex(combo.findData(parameters.preset))
            combo.blockSignals(before)
        combo.toolTip = preset_files.preset(parameters.preset)["description"] if combo.currentIndex >= 0 else ""
        for choice in self.segments:
            choice.update()
        self.options.update()
        self.review.update()
        self.landmarks.update()
        self.doubts.update()
        self.series.update()
        self._update_numbers()
        self.run.changed()

    def forget(self) -> None:
        """The scene is gone."""
        self.inputs.follow(())
        self.run.forget()
        self.series.forget()
        self.landmarks.close()
        self.landmarks.update()
        self.landmarks.allow_pulling(False)
        self.doubts.update()
        self.carrying.forget()
        self.review.forget()
        self.numbers.show([], None)
        self._result = False
        self._update_numbers()

    def close(self) -> None:
        """The panel goes: end what runs by itself."""
        self._closed = True
        self.width.close()
        self.run.close()
        self.series.close()
        self.inputs.follow(())
        self.landmarks.close()
        self.carrying.close()
        self.review.close()

    def onPreset(self, _index: int) -> None:
        """The user chose a preset: its values, without earlier changes."""
        parameters, chosen = self._parameters(), self._ui.presetComboBox.currentData
        if parameters is not None and chosen:
            with slicer.util.NodeModify(parameters):
                parameters.preset = chosen
                parameters.options = ""

    def onTorch(self) -> None:
        """PyTorch may have come."""
        self.run.update()
        self.series.update()
        if self.torch.obstacle() is None:
            self._warm_up()

    def onPlace(self) -> None:
        """Another place computes, whose worker knows nothing of the last result."""
        self.torch.update()
        self.run.outdate()
        self.onTorch()

    def onBatchRow(self) -> None:
        """Ask for a table and add what is chosen to it."""
        title = _("Export as batch row (rows of a table that is there stay)")
        path = qt.QFileDialog.getSaveFileName(self._ui.batchRowButton, title, "cohort.csv", "CSV (*.csv);;TSV (*.tsv)")
        if not path:
            return
        try:
            row = self._logic.exportFrom(self._parameters(), path)
        except (ValueError, OSError) as error:
            self._say(str(error))
        else:
            self._say(_("Added the row {row} to {path}.").format(row=row, path=path))

    def start(self) -> Task:
        """Register what is chosen."""
        task = self._logic.startFrom(self._parameters())
        self.landmarks.begin(self._parameters().guideByLandmarks)
        return task

    def resume(self, iterations: int) -> Task:
        """Go on from the last result: to the landmarks that shall guide it and do not yet, or for more iterations."""
        if self._pulls():
            return self.pull()
        chosen = inputs(self._parameters())
        task = self._logic.resume(iterations, outputs(self._parameters()),
                                  (chosen.landmarksFixed, chosen.landmarksMoving))
        self.landmarks.begin(self.landmarks.guiding)
        return task

    def pull(self) -> Task:
        """Take the last result to the landmarks."""
        parameters = self._parameters()
        task = self._logic.pull(parameters.fixedLandmarks, parameters.movingLandmarks, outputs(parameters))
        self.landmarks.begin(True)
        return task

    def _pulls(self) -> int:
        """How many pairs of landmarks Continue takes as guidance."""
        guides = self._parameters() is not None and self._parameters().guideByLandmarks
        return self.landmarks.count if guides and (self.landmarks.news or not self.landmarks.guiding) else 0

    def _outdated(self) -> bool:
        """Whether landmarks have changed that only judge the result."""
        return self.landmarks.news and not self._parameters().guideByLandmarks

    def onProgressed(self, task: Task) -> None:
        """Choose the outputs as they are made, and let the views follow them."""
        self._choose_outputs(task.outputs)
        if task.transform is None:
            self.review.follow()

    def onShown(self, task: Task) -> None:
        """Show the result while it is measured."""
        self._choose_outputs(task.outputs)
        self.carrying.news()
        self.review.result()

    def onFinished(self, task: Task) -> None:
        """Show the numbers and the result."""
        self._choose_outputs(task.outputs)
        self.numbers.show(metrics_table.rows(task.report or {}), task.histogram)
        self.landmarks.result()
        self.doubts.update()
        self._result = True
        self._update_numbers()
        self.review.result()

    def onFailed(self, _task: Task) -> None:
        """Show the scene as it was."""
        self.landmarks.update()
        self.review.result()

    def _choose_outputs(self, made: Any) -> None:
        parameters = self._parameters()
        if parameters is not None:
            for name, field in OUTPUTS.items():
                node = getattr(made, name)
                if node is not None and node.GetScene() is not None and getattr(parameters, field) is not node:
                    setattr(parameters, field, node)

    def _warm_up(self) -> None:
        if self._closed:  # in the moment between entering and this call
            return
        try:
            self._logic.warmUp()
        except (RuntimeError, OSError, ValueError) as error:
            self._say(str(error))

    def _update_numbers(self) -> None:
        parameters = self._parameters()
        if parameters is not None and parameters.metricsTable is not None:
            self.numbers.show_table(parameters.metricsTable)
        chosen = self._forward()
        exact = self._result if chosen is None else transform_archive.present(chosen)
        self.numbers.allow_saving(exact)
        self.carrying.update(exact)

    def _table(self) -> Any:
        parameters = self._parameters()
        return parameters.metricsTable if parameters is not None else None

    def _error_map(self) -> Any:
        return self._logic.errorMap(self._table(), self._parameters().fixedVolume, self._forward())

    def _forward(self) -> Any:
        parameters = self._parameters()
        return parameters.forwardTransform if parameters is not None else None

    def _save(self, path: str) -> None:
        """The chosen transform, or the last result when none is chosen."""
        self._logic.saveTransform(path, self._forward())

    def _load(self, path: str) -> None:
        parameters = self._parameters()
        wanted = outputs(parameters)
        check_outputs(inputs(parameters), wanted)
        loading = self._logic.startLoading(path, parameters.fixedVolume, parameters.movingVolume, wanted)
        loading.finished.connect(lambda loading: self._loaded(loading, path))
        loading.failed.connect(self._not_loaded)

    def _loaded(self, loading: Task, path: str) -> None:
        if self._closed:
            return
        self._choose_outputs(loading.outputs)
        if self._parameters() is not None:
            self._parameters().metricsTable = None  # whose numbers are those of another transform
        self.run.outdate()
        self.numbers.show([], None)
        self._result = True
        self._update_numbers()
        self.landmarks.update()
        self.review.result()
        self.numbers.loaded(_("Loaded {path} into the outputs.").format(path=path))

    def _not_loaded(self, loading: Task) -> None:
        if not self._closed:
            self.numbers.loaded(loading.message)

    def _say(self, message: str) -> None:
        self.run.say(message)

    def _segments(self, node: str, segment: str, combo: Any) -> SegmentChoice:
        """The choice of a segment, from the names of the parameters that hold the node and the segment."""
        def read() -> tuple[Any, str]:
            parameters = self._parameters()
            return (None, "") if parameters is None else (getattr(parameters, node), getattr(parameters, segment))

        def write(chosen: str) -> None:
            parameters = self._parameters()
            if parameters is not None:
                setattr(parameters, segment, chosen)

        return SegmentChoice(combo, read, write, _("all visible segments"))


OUTPUTS = {"forward": "forwardTransform", "inverse": "inverseTransform", "warped": "warpedVolume",
           "logJacobian": "logJacobian", "table": "metricsTable"}
