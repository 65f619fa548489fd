"""Series: the volumes of a sequence aligned, and played when they are."""

from __future__ import annotations

import logging
from typing import Any, Callable, Optional

import slicer
from slicer.i18n import tr as _

from ..mrml.node_error import NodeError
from ..session.sequence import MEAN, OUTPUTS, PREVIOUS, SequenceInputs, TrackedSequence, check_sequence
from ..session.task import Task
from ..session.values import BUSY
from ..worker.signals import Signal
from . import options_form
from .run_section import clock, phase_text

logger = logging.getLogger(__name__)

FRAME = "frame"


class SeriesSection:
    """The choices of a series, one button that is Register or Cancel, its bar, and the line below.

    Args:
        ui: the widgets of the .ui file.
        logic: the module's logic.
        parameters: gives the parameter node, or None while there is none.
        obstacle: gives a sentence when nothing can be registered at all (no torch), else None.
        log: takes a line for the panel's log.
    """

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any], obstacle: Callable[[], Optional[str]],
                 log: Callable[[str], None]) -> None:
        self._ui, self._logic, self._parameters, self._obstacle, self._log = ui, logic, parameters, obstacle, log
        self._task: Optional[Task] = None
        self._message = ""
        self._chosen: Optional[SequenceInputs] = None  # what the message is about
        for words, name in ((_("one frame"), FRAME), (_("the mean of all"), MEAN), (_("the frame before"), PREVIOUS)):
            ui.seriesReferenceComboBox.addItem(words, name)
        ui.seriesReferenceComboBox.connect("currentIndexChanged(int)", self.onReference)
        ui.seriesButton.connect("clicked()", self.onButton)

    @property
    def _busy(self) -> bool:
        return self._task is not None and self._task.state in BUSY

    def update(self) -> None:
        """Show what is chosen, and what can be done now."""
        parameters, ui, busy = self._parameters(), self._ui, self._busy
        if parameters is None:
            return
        combo = ui.seriesReferenceComboBox
        if combo.currentData != parameters.seriesReference:
            before = combo.blockSignals(True)
            combo.setCurrentIndex(combo.findData(parameters.seriesReference))
            combo.blockSignals(before)
        chosen = sequence_inputs(parameters)
        if not busy and self._chosen not in (None, chosen):
            self._message = ""
        self._chosen = chosen
        ui.seriesFrameSpinBox.enabled = parameters.seriesReference == FRAME
        ui.seriesPointsFrameSpinBox.enabled = parameters.seriesPoints is not None
        ui.seriesSmoothnessSpinBox.enabled = parameters.seriesReference != PREVIOUS
        ui.seriesFormFrame.enabled = not busy
        missing = None if busy else self._missing()
        ui.seriesButton.text = (_("Register series") if not busy else
                                _("Cancelling…") if self._task.state == "cancelling" else _("Cancel"))
        ui.seriesButton.toolTip = (_("Stop and restore the scene.") if busy else
                                   missing or _("Align all frames, with the preset and the options of this panel."))
        ui.seriesButton.enabled = missing is None and not (busy and self._task.state == "cancelling")
        ui.seriesProgressBar.visible = busy
        if not busy:
            ui.seriesLabel.text = self._message or (missing or "" if parameters.seriesSequence is not None else "")

    def onReference(self, _index: int) -> None:
        """The user chose what the frames are aligned with."""
        parameters, chosen = self._parameters(), self._ui.seriesReferenceComboBox.currentData
        if parameters is not None and chosen:
            parameters.seriesReference = chosen

    def onButton(self) -> None:
        """Register, or cancel what runs."""
        if self._busy:
            self._task.cancel()
        elif self._missing() is None:
            self._start()
        self.update()

    def onProgress(self, fields: dict) -> None:
        """Show a progress message of the task."""
        ui, of = self._ui, fields.get("of") or 0
        ui.seriesProgressBar.setRange(0, 1000 if of else 0)
        ui.seriesProgressBar.value = round(1000 * (fields.get("number", 1) - 1) / of) if of else 0
        ui.seriesLabel.text = progress_text(fields)
        if ui.seriesButton.text != _("Cancel"):
            self.update()

    def onFinished(self, task: Task) -> None:
        """Say how well the frames are aligned, and let them be played."""
        self._say(verdict_text((task.report or {}).get("verdict") or {}) or _("Finished."))
        play(task.outputs)
        self.update()

    def onFailed(self, task: Task) -> None:
        """It failed or was cancelled."""
        cancelled = task.state == "cancelled"
        self._say(task.message or (_("Cancelled; the scene was restored.") if cancelled else _("The task failed.")))
        self.update()

    def onLog(self, level: str, line: str) -> None:
        """A line of the worker's log."""
        self._log(line if level == "info" else f"{level}: {line}")

    def forget(self) -> None:
        """The scene is gone; its task is followed no more."""
        self._message = _("The scene was closed; the task was stopped.") if self._busy else ""
        self._follow(None)
        self._chosen = None
        self._ui.seriesLabel.text, self._ui.seriesProgressBar.visible = self._message, False

    def close(self) -> None:
        """The panel goes; its task is followed no more."""
        self._follow(None)

    def _start(self) -> None:
        parameters = self._parameters()
        self._ui.seriesProgressBar.setRange(0, 0)
        self._message, self._ui.seriesLabel.text = "", _("Starting…")
        self._follow(None)
        try:
            self._follow(self._logic.startSequence(sequence_inputs(parameters), parameters.preset,
                                                   options_form.read_changes(parameters.options)))
        except (ValueError, RuntimeError, OSError) as error:
            logger.info("The series did not start.", exc_info=True)
            self._say(str(error))

    def _missing(self) -> Optional[str]:
        """What has to be chosen first, one sentence, or None."""
        obstacle = self._obstacle()
        if obstacle is None:
            try:
                check_sequence(sequence_inputs(self._parameters()))
            except NodeError as error:
                obstacle = str(error)
        return obstacle

    def _follow(self, task: Optional[Task]) -> None:
        """Show what this task tells from now on, and nothing of the one before."""
        for followed, act in ((self._task, Signal.disconnect), (task, Signal.connect)):
            if followed is not None:
                act(followed.progress, self.onProgress)
                act(followed.finished, self.onFinished)
                act(followed.failed, self.onFailed)
                act(followed.log, self.onLog)
        self._task = task

    def _say(self, message: str) -> None:
        self._message = message
        self._log(message)


def sequence_inputs(parameters: Any) -> SequenceInputs:
    """The chosen inputs."""
    reference = parameters.seriesReference
    return SequenceInputs(
        parameters.seriesSequence, parameters.seriesFrame - 1 if reference == FRAME else reference,
        parameters.seriesCycle, parameters.seriesMask, parameters.seriesPoints,
        None if parameters.seriesPoints is None else parameters.seriesPointsFrame - 1,
        0.0 if reference == PREVIOUS else parameters.seriesSmoothness,
        tuple(name for name, wanted in zip(OUTPUTS, (parameters.seriesTransforms, parameters.seriesWarped)) if wanted))


def progress_text(fields: dict) -> str:
    """Which registration of how many, its phase, and the time left, as one line."""
    if fields.get("phase") == "outputs":
        return _("Creating outputs: frame {number} of {of}").format(number=fields["number"], of=fields["of"])
    text = _("Registration {number} of {of}: {phase}").format(
        number=fields.get("number", 1), of=fields.get("of", 1), phase=phase_text(fields))
    if fields.get("seconds_left") is not None:
        text += " · " + _("{time} left").format(time=clock(fields["seconds_left"]))
    return text


def verdict_text(verdict: dict) -> str:
    """The verdict of a series as a person reads it: the figures, and before them what speaks against it."""
    text, concerns = verdict.get("text") or "", verdict.get("concerns") or ()
    return f"{verdict['headline']}: {'; '.join(concerns)}. {text}" if concerns else text


def play(made: TrackedSequence) -> None:
    """Show the result in Slicer's sequence browser and, where it has begun to play it, in the views."""
    sequences = getattr(slicer.modules, "sequences", None)
    if sequences is None or made.browser is None:
        return
    sequences.showSequenceBrowser(made.browser)
    warped = None if made.warped is None else made.browser.GetProxyNode(made.warped)
    if warped is not None:
        slicer.util.setSliceViewerLayers(background=warped)
