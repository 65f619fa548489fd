"""A task of the worker: its messages to the scene, on the main thread, until it ends one way or another.

The states are ``starting`` (inputs are read and sent, the worker wakes up), ``running``, ``cancelling``, and the ends
``finished``, ``failed`` and ``cancelled``. Whatever happens, the scene holds the result or what it held before.
"""

from __future__ import annotations

import logging
import time
import traceback
from typing import Any, Optional

import qt

from ..i18n import tr as _
from ..mrml.node_error import NodeError
from ..mrml.slabs import Gradual
from ..worker.client import Request
from ..worker.messages import Message
from ..worker.signals import Signal
from .drawing_time import DrawingTime
from .event_loop import EventLoopQueue
from .orders import Order
from .output_nodes import OutputNodes
from .values import BUSY, Inputs, Outputs, Result
from .warm_worker import WarmWorker

logger = logging.getLogger(__name__)

PATIENCE = 0.7  # s that the worker has to answer a cancel before it is replaced


class Task:
    """One registration, or one file of a transform that is loaded.

    Args:
        worker: that does the work.
        order: what is asked of it.
        outputs: the nodes to fill.
        inputs: what they are the result of.
        scene: where the nodes are.

    Attributes:
        progress: signal, on the main thread as all are, with the fields of each progress message (docs/worker.md).
        shown: signal with the task, when the transforms and the warped volume are filled; the numbers follow.
        finished: signal with the task, when all outputs are filled.
        failed: signal with the task, when it has failed or was cancelled and the outputs are what they were before.
        log: signal with a level ("info", ...) and a line of the worker's log.
        state: see above.
        message: when it failed, one sentence for the user.
        failure: when it failed, "input", "gone", "memory", "missing", "internal" or "died".
        details: when it failed, for the log.
        report: when it finished, docs/report-schema.md; of a loaded file only the provenance.
        histogram: when it finished, {"edges", "counts", "folds"} of the Jacobian determinant.
        history: when it finished, {"level", "iteration", "loss"} of every iteration.
        transform: when it was shown, the bytes of the .nephi file.
        name: on the wire, once it was sent.
    """

    def __init__(self, worker: WarmWorker, order: Order, outputs: OutputNodes, inputs: Inputs, scene: Any) -> None:
        self.progress, self.finished, self.failed, self.log = Signal(), Signal(), Signal(), Signal()
        self.shown = Signal()
        self.inputs, self.state = inputs, "starting"
        self.message = self.failure = self.details = self.name = ""
        self.report: Optional[dict] = None
        self.histogram: Optional[dict] = None
        self.history: list[dict] = []
        self.transform: Optional[bytes] = None
        self._worker, self._order, self._outputs, self._scene = worker, order, outputs, scene
        self._queue = EventLoopQueue(self._raised)
        self._drawing = DrawingTime()
        self._request: Optional[Request] = None
        self._preview: Optional[Message] = None
        self._end: Optional[str] = None  # the state that is to come, once the scene and the worker are ready for it
        self._restored = False
        self._deadline = float("inf")
        self._observer = scene.AddObserver(scene.StartCloseEvent, self._scene_closes)
        worker.log.connect(self.log.emit)
        self._queue.add(self._send())

    @property
    def outputs(self) -> Outputs:
        """The nodes, those that were made among them."""
        return self._outputs.nodes

    @property
    def label_names(self) -> dict[str, str]:
        """Label -> name of the segment, of the labels that judge the registration."""
        return self._order.label_names

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.state not in BUSY

    @property
    def result(self) -> Result:
        """The nodes and numbers, or why there are none."""
        if self.state == "finished":
            return Result(self.outputs, self.report.get("metrics") or {}, self.report)
        return Result(self.outputs, error=self.message or _("The registration was cancelled."))

    def cancel(self, keep: bool = False) -> None:
        """Stop; returns at once, and the task ends within a second.

        Args:
            keep: finish with the map so far, if there is one yet, instead of putting everything back.
        """
        if self.done or self._end is not None:
            return
        sent = self._request is not None
        if keep and sent:
            if not self._request.done:
                self.state = "cancelling"
                self._worker.cancel(self._request, keep=True)
            return
        self._stop_request()
        self.state = "cancelling"
        self._undo("cancelled")

    def wait(self, seconds: float = float("inf")) -> bool:
        """Block until the task has ended, without an event loop; the window does not answer meanwhile.

        Returns:
            Whether it has.
        """
        end = time.monotonic() + seconds
        try:
            while not self.done and time.monotonic() < end:
                self._queue.run_all()
                if self._request is not None and not self._request.done:
                    self._worker.wait(self._request, 50)
                self._replace_silent_worker()
        except KeyboardInterrupt:
            self.cancel()
            self.wait(2 * PATIENCE)
            raise
        return self.done

    # ------------------------------------------------------------------------------------------- on the way

    def _send(self) -> Gradual[None]:
        yield from self._order.read()
        self._outputs.remember()
        fields = {**self._order.fields, "outputs": [name for name, _node in self.outputs.nodes()]}
        self._request = request = self._worker.request(self._order.kind, fields, self._order.arrays)
        self.name = request.task
        self._order.arrays.clear()  # the request has them until they are written
        if request.done:  # it could not be sent
            self._answered(request)
        request.progress.connect(self._progressed)
        request.preview.connect(self._previewed)
        request.shown.connect(self._arrived)
        request.ended.connect(self._answered)

    def _progressed(self, fields: dict) -> None:
        if self._end is not None:
            return
        if self.state == "starting":
            self.state = "running"
        self.progress.emit(fields)

    def _previewed(self, message: Message) -> None:
        if self._end is not None or not self._drawing.due:
            return
        waits, self._preview = self._preview is not None, message
        if not waits:
            self._queue.add(self._show())

    def _show(self) -> Gradual[None]:
        """Only the newest preview, when there was no time for those before; none while the views are slow to draw."""
        message, self._preview = self._preview, None
        if message is not None:  # otherwise the result has come before it
            self._outputs.show_preview(message)
            self._drawing.changed()
        yield

    # ------------------------------------------------------------------------------------------------- ends

    def _answered(self, request: Request) -> None:
        if self._end is not None:
            self._try_to_end()
        elif request.state == "finished":
            self._queue.add(self._fill(request.reply))
        elif request.state == "cancelled":
            self._undo("cancelled")
        else:
            self._fail(request.failure, request.message, request.details)

    def _arrived(self, message: Message) -> None:
        if self._end is None:
            self._preview = None
            self._queue.add(self._present(message))

    def _present(self, message: Message) -> Gradual[None]:
        """Show a result whose numbers are not there yet."""
        yield from self._outputs.fill(message.fields, message.arrays)
        if "transform" in message.arrays:
            self.transform = message.arrays["transform"].tobytes()
        self.shown.emit(self)

    def _fill(self, reply: Message) -> Gradual[None]:
        fields = reply.fields
        if "transform" in reply.arrays:  # a file that was loaded
            yield from self._present(reply)
        report = fields.get("report") or {"provenance": fields["provenance"]}
        if self.label_names and report.get("metrics"):
            report["metrics"]["label_names"] = self.label_names
        yield from self._outputs.fill_jacobian(report["provenance"]["fixed"], reply.arrays)
        self._outputs.fill_numbers(report, fields.get("histogram"), fields.get("doubts") or ())
        self.report, self.histogram, self.history = report, fields.get("histogram"), fields.get("history") or []
        self._restored, self._end = True, "finished"
        self._try_to_end()

    def _fail(self, kind: str, message: str, details: str = "") -> None:
        self.failure, self.details = kind, details
        self.message = self._order.refusal(message) if kind == "input" else message
        if details and kind != "input":
            logger.error("%s\n%s", message, details)
        self._undo("failed")

    def _raised(self, error: Exception) -> None:
        """A step on the main thread failed."""
        details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        if self._end is not None:  # while putting things back: that step is lost, the end is not
            logger.error("A node could not be put back.\n%s", details)
            self._restored = True
            self._try_to_end()
            return
        self._stop_request()
        if isinstance(error, NodeError):
            self._fail("input", str(error))
        elif isinstance(error, MemoryError):
            self._fail("memory", _("There is not enough memory for these volumes; close other data "
                                   "or crop the volumes."), details)
        else:
            self._fail("internal", _("The task failed unexpectedly ({kind}: {error}); see the log for details."
                                     ).format(kind=type(error).__name__, error=error), details)

    def _undo(self, end: str) -> None:
        """Put everything back, then end."""
        self._end, self._preview = end, None
        self._queue.clear()
        self._queue.add(self._restore())

    def _restore(self) -> Gradual[None]:
        failed = self._outputs.restore()
        if failed:
            lost = _("{names} could not be put back and must be corrected by hand; see the log for details.").format(
                names=", ".join(failed))
            self.message = f"{self.message or _('The registration was cancelled.')} {lost}"
        self._restored = True
        self._try_to_end()
        yield

    def _try_to_end(self) -> None:
        """End when the scene is as it should be and the worker is free again."""
        answered = self._request is None or self._request.done
        if self.done or not (self._restored and answered):
            return
        self.state = self._end
        self._request = None  # whose reply is large
        self._outputs.forget()
        self._scene.RemoveObserver(self._observer)
        self._worker.log.disconnect(self.log.emit)
        self._queue.close()
        self._drawing.close()
        (self.finished if self.state == "finished" else self.failed).emit(self)

    def _scene_closes(self, _caller: Any, _event: Any) -> None:
        """The nodes go by themselves; only the worker has to be stopped."""
        if self.done:
            return
        self.cancel()
        self.message = _("The scene was closed; the task was stopped.")
        self._queue.clear()
        self._end, self._restored = "cancelled", True
        self._queue.add(self._leave())

    def _leave(self) -> Gradual[None]:
        """End in a turn of its own, when the scene has been closed."""
        yield
        self._try_to_end()

    # --------------------------------------------------------------------------------------------- patience

    def _stop_request(self) -> None:
        """Have the worker stop, if it is at work, and look later whether it did."""
        if self._request is not None and not self._request.done:
            self._worker.cancel(self._request)
            self._deadline = time.monotonic() + PATIENCE
            # Qt lets a timer come up to a twentieth too soon.
            qt.QTimer.singleShot(int(1100 * PATIENCE) + 20, self._replace_silent_worker)

    def _replace_silent_worker(self) -> None:
        """Replace a worker that does not answer a cancel."""
        if not self.done and time.monotonic() > self._deadline:
            self._deadline = float("inf")
            logger.warning("The worker did not stop in time and is restarted.")
            self._worker.restart(_("The worker did not stop in time and was restarted."))
