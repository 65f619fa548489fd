"""The run button and what it starts: one place that knows the task, its messages and its progress."""

from __future__ import annotations

import itertools
import logging
import operator
import time
from collections.abc import Sequence
from typing import Any, Callable, Optional

from slicer.i18n import tr as _

from ..session.task import Task
from ..session.values import BUSY
from ..worker.signals import Signal
from .plots import draw_losses
from .run_button import Situation, buttons, fingerprint, missing

logger = logging.getLogger(__name__)

PLOT_INTERVAL = 0.2  # s
_LOST = ("died", "gone", "missing")  # failures after which the worker has no result any more


class RunSection:
    """Register, Cancel or Continue; the line that says what is missing or went wrong; bar, curve and log.

    Args:
        ui: the widgets of the .ui file.
        begin: begin a task, from the beginning, for more iterations, or to the landmarks, and return it; they raise
            ValueError or RuntimeError with one sentence.
        parameters: gives the parameter node, or None while there is none.
        obstacle: gives a sentence when nothing can be registered at all (no torch), else None.
        guides: gives the number of landmark pairs that Continue takes as guidance.
        outdated: whether what judges the result has changed since.

    Attributes:
        progressed, shown, finished, failed: signals with the task, when its news are shown here.
        updated: signal, when what can be done now is shown.
    """

    def __init__(self, ui: Any, begin: tuple[Callable[[], Task], Callable[[int], Task], Callable[[], Task]],
                 parameters: Callable[[], Any], obstacle: Callable[[], Optional[str]], guides: Callable[[], int],
                 outdated: Callable[[], bool]) -> None:
        self._ui, (self._start, self._resume, self._pull) = ui, begin
        self._parameters, self._obstacle, self._guides, self._outdated = parameters, obstacle, guides, outdated
        self.progressed, self.shown, self.finished, self.failed = Signal(), Signal(), Signal(), Signal()
        self.updated = Signal()
        self._task: Optional[Task] = None
        self._keeping = False
        self._message = ""
        self._message_choices: Optional[tuple] = None  # those that the message is about
        self._registered: Optional[tuple] = None  # the choices that the last result is of
        self._begun: Optional[tuple] = None  # those that the present task is of
        self._before: Optional[tuple] = None  # the task before the present one, and the choices that it was of
        self._losses: list[tuple[Any, int, float]] = []  # as draw_losses takes them
        self._drawn = 0.0
        ui.registerButton.connect("clicked()", self.onRegister)
        ui.secondButton.connect("clicked()", self.onSecond)

    @property
    def situation(self) -> Situation:
        parameters = self._parameters()
        if parameters is None:
            return Situation(_("There is no scene."))
        state = self._task.state if self._task is not None else "idle"
        return Situation(self._obstacle() or missing(parameters), state,
                         self._registered == fingerprint(parameters) and not self._outdated(),
                         parameters.continueIterations, self._keeping, self._guides())

    @property
    def can_pull(self) -> bool:
        """Whether there is a result of the chosen inputs that can be taken to landmarks."""
        parameters = self._parameters()
        there = self._task is not None and self._task.state == "finished" and self._obstacle() is None
        return there and parameters is not None and self._registered == fingerprint(parameters)

    @property
    def _busy(self) -> bool:
        return self._task is not None and self._task.state in BUSY

    def update(self) -> None:
        """Show what can be done now."""
        situation = self.situation
        shown = buttons(situation)
        ui = self._ui
        ui.registerButton.text, ui.registerButton.toolTip = shown.text, shown.tip
        ui.registerButton.enabled = shown.enabled
        ui.secondButton.text, ui.secondButton.toolTip = shown.second, shown.secondTip
        ui.secondButton.visible = bool(shown.second)
        ui.progressFrame.visible = situation.busy or bool(self._losses)
        ui.progressBar.visible = situation.busy
        for section in (ui.inputsCollapsibleButton, ui.outputsCollapsibleButton, ui.applyCollapsibleButton,
                        ui.seriesCollapsibleButton, ui.advancedCollapsibleButton):
            section.enabled = not situation.busy
        ui.statusLabel.text = self._message or situation.missing or ""
        self.updated.emit()

    def changed(self) -> None:
        """The user chose something else: an old message says nothing about it."""
        choices = self._choices()
        if not self._busy and self._message_choices not in (None, choices):
            self._message = ""
        self._message_choices = choices
        self.update()

    def onRegister(self) -> None:
        """The button was pressed."""
        situation = self.situation
        if situation.busy:
            self._cancel(keep=False)
        elif situation.can_continue:
            self._begin(lambda: self._resume(situation.iterations))
        elif situation.missing is None:
            self._begin(self._start)

    def pull(self) -> None:
        """The landmarks' own button was pressed."""
        if self.can_pull:
            self._begin(self._pull)

    def onSecond(self) -> None:
        """The second button was pressed: stop and keep, or start over."""
        situation = self.situation
        if situation.busy:
            self._cancel(keep=True)
        elif situation.missing is None:
            self._begin(self._start)

    def forget(self) -> None:
        """The scene is gone, and the result with it; its task is followed no more."""
        stopped = _("The scene was closed; the task was stopped.") if self._busy else ""
        self._follow(None)
        self._registered, self._message, self._message_choices = None, stopped, None
        self._begun = self._before = None
        self._losses.clear()
        self._ui.lossLabel.clear()
        self._ui.progressLabel.text = ""

    def outdate(self) -> None:
        """The last result is not that of the inputs any more, or not the last: it cannot be continued."""
        self._registered = self._begun = self._before = None
        self.changed()

    def close(self) -> None:
        """The panel goes: its task is followed no more."""
        self._follow(None)

    def onProgress(self, fields: dict) -> None:
        """Show a progress message of the task."""
        ui = self._ui
        steps = fields.get("steps") or 0
        ui.progressBar.setRange(0, 1000 if steps else 0)
        ui.progressBar.value = round(1000 * fields.get("step", 0) / steps) if steps else 0
        ui.progressLabel.text = progress_text(fields)
        if fields.get("loss") is not None:
            self._losses.append((fields["phase"], fields["step"], fields["loss"]))
            self._draw()
        if self._task is not None:
            self.progressed.emit(self._task)
            shown = buttons(self.situation)
            if (ui.registerButton.text, ui.secondButton.text) != (shown.text, shown.second):
                self.update()

    def onShown(self, task: Task) -> None:
        """The result is there, its numbers are not."""
        self.say(_("The result is shown; its numbers follow."))
        self.shown.emit(task)

    def onFinished(self, task: Task) -> None:
        """The task is done: its outputs are filled."""
        report = task.report or {}
        seconds = (report.get("runtime") or {}).get("seconds", 0.0)
        self._ui.progressLabel.text = _("Done in {time}.").format(time=clock(seconds))
        self.say(verdict_text(report.get("verdict") or {}) or _("Finished."))
        self._registered, self._before = self._begun, None
        if task.history:  # progress does not tell of every iteration
            self._losses = every_loss(task.history)
        self._draw(now=True)
        self.finished.emit(task)
        self.update()

    def onFailed(self, task: Task) -> None:
        """The task failed or was cancelled."""
        self._registered = None
        self._ui.progressLabel.text = ""
        cancelled = task.state == "cancelled"
        if task.failure not in _LOST:
            self._restore()
        self.say(task.message or (_("Cancelled; the scene was restored.") if cancelled else _("The task failed.")))
        self.failed.emit(task)
        self.update()

    def onLog(self, level: str, line: str) -> None:
        """A line of the worker's log."""
        self.log(line if level == "info" else f"{level}: {line}")

    def say(self, message: str) -> None:
        """Show a sentence beneath the button and keep it in the log."""
        self._message = message
        self._message_choices = self._choices()
        self._ui.statusLabel.text = message
        self.log(message)

    def log(self, line: str) -> None:
        """Add a line to the log of the panel."""
        self._ui.logTextEdit.appendPlainText(f"{time.strftime('%H:%M:%S')}  {line}")

    def _begin(self, start: Callable[[], Task]) -> None:
        self._message, self._keeping = "", False
        self._losses.clear()
        self._before, self._begun = (self._task, self._registered), fingerprint(self._parameters())
        self._follow(None)
        self._ui.progressBar.setRange(0, 0)
        self._ui.progressLabel.text = _("Starting…")
        self._ui.lossLabel.clear()
        self._registered = None
        try:
            self._follow(start())
        except (ValueError, RuntimeError, OSError) as error:
            logger.info("The registration did not start.", exc_info=True)
            self._ui.progressLabel.text = ""
            self._restore()
            self.say(str(error))
        self.update()

    def _restore(self) -> None:
        """The result before is as it was and can be continued still."""
        if self._before is not None:
            before, self._registered = self._before
            self._follow(before)

    def _follow(self, task: Optional[Task]) -> None:
        """Show what this task tells from now on, and nothing of the one before."""
        for followed, act in ((self._task, Signal.disconnect), (task, Signal.connect)):
            if followed is not None:
                act(followed.progress, self.onProgress)
                act(followed.shown, self.onShown)
                act(followed.finished, self.onFinished)
                act(followed.failed, self.onFailed)
                act(followed.log, self.onLog)
        self._task = task

    def _cancel(self, keep: bool) -> None:
        if self._task is not None:
            self._keeping = keep
            self._task.cancel(keep)
        self.update()

    def _choices(self) -> Optional[tuple]:
        """What a message may be about: the choices, and what is missing among them."""
        parameters = self._parameters()
        return None if parameters is None else (fingerprint(parameters), missing(parameters))

    def _draw(self, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn >= PLOT_INTERVAL:
            self._drawn = time.monotonic()
            draw_losses(self._ui.lossLabel, self._losses)


def every_loss(history: Sequence[dict]) -> list[tuple[Any, int, float]]:
    """The losses of a whole registration as :func:`draw_losses` takes them. Iterations are counted: their own numbers
    jump where a level has converged."""
    levels = itertools.groupby(history, key=operator.itemgetter("level"))
    return [(level, number, record["loss"]) for level, records in levels for number, record in enumerate(records, 1)]


def verdict_text(verdict: dict) -> str:
    """The verdict of a report as a person reads it: the figures, and before them why, unless all is well."""
    text = verdict.get("text") or ""
    if verdict.get("level") == "good" or not verdict.get("reason"):
        return text
    return f"{verdict['headline']}: {verdict['reason']} {text}"


def progress_text(fields: dict) -> str:
    """Phase, speed and time left, as one line."""
    parts = [phase_text(fields)]
    if fields.get("iterations_per_second"):
        parts.append(_("{rate} iterations/s").format(rate=f"{fields['iterations_per_second']:.3g}"))
    if fields.get("seconds_left") is not None:
        parts.append(_("{time} left").format(time=clock(fields["seconds_left"])))
    elif fields.get("seconds"):
        parts.append(_("{time} elapsed").format(time=clock(fields["seconds"])))
    return " · ".join(parts)


def phase_text(fields: dict) -> str:
    """A phase of the engine in words."""
    phase = fields.get("phase", "")
    if phase.startswith("level "):
        level, _slash, levels = phase[len("level "):].partition("/")
        return _("Level {level} of {levels}, iteration {step} of {steps}").format(
            level=level, levels=levels, step=fields.get("step", 0), steps=fields.get("steps", 0))
    named = {"affine": _("Linear alignment"), "prediction": _("Prediction"), "search": _("Search"),
             "refinement": _("Refinement"), "landmarks": _("Landmarks"), "done": _("Done")}
    if phase == "outputs":
        return _("Creating outputs: {name}").format(name=fields.get("name", "")).rstrip(": ")
    return named.get(phase, phase)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
