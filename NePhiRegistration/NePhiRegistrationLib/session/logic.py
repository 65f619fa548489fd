"""What the panel and scripts call: registrations, and what can be done with their results."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional, Union

import slicer

from ..i18n import tr as _
from ..mrml import landmark_nodes, log_jacobian_display, volume_nodes
from ..mrml.node_error import NodeError
from ..mrml.slabs import run_now
from . import transform_files
from .carrying_logic import CarryingLogic
from .choices import check, check_outputs
from .last_result import LastResult
from .orders import Continuation, Loading, Order, Registration
from .output_nodes import OutputNodes
from .sequence import SequenceInputs
from .sequence_logic import SequenceLogic
from .task import Task
from .values import FROM_FILE, NODES, Inputs, Outputs, RegistrationError, Result
from .warm_worker import ComputesAnywhere, WarmWorker, failure, shared

__all__ = ["Inputs", "Outputs", "RegistrationError", "RegistrationLogic", "Result", "SequenceInputs", "Task"]

logger = logging.getLogger(__name__)

InputsLike = Union[Inputs, Mapping[str, Any], tuple]


class RegistrationLogic(CarryingLogic, SequenceLogic, ComputesAnywhere):
    """Registers volumes of the scene. Examples: docs/scripting.md.

    Wherever a ``transform`` is asked for it is a forward transform node that a registration has filled, in this
    session or before the scene was saved; without one what was registered or loaded last is meant.

    Args:
        worker: by default one that the whole application shares.
    """

    def __init__(self, worker: Optional[WarmWorker] = None) -> None:
        self._worker = worker or shared()
        self._task: Optional[Task] = None
        self._last = LastResult()

    # ---------------------------------------------------------------------------------------- registration

    def start(self, inputs: Inputs, outputs: Optional[Outputs] = None, preset: str = "generic",
              options: Optional[Mapping[str, Any]] = None) -> Task:
        """Start a registration and return at once; the event loop does the rest.

        Args:
            inputs: what to register.
            outputs: what to fill; by default all are made.
            preset: "generic", "multimodal", "lung-ct" or "brain-mri".
            options: of the engine, where they differ from the preset's.

        Returns:
            The :class:`Task`, whose signals tell how it goes.

        Raises:
            NodeError: (a ValueError) a choice that cannot be, one sentence. What shows only when voxels are looked at
                makes the task fail instead.
            RegistrationError: (a RuntimeError) a registration is running.
        """
        wanted = outputs or Outputs()
        check(inputs, wanted)
        order = Registration(inputs, preset=preset, options=dict(options or {}), grid_spacing=wanted.gridSpacing)
        return self._begin(order, inputs, wanted)

    def resume(self, iterations: int, outputs: Optional[Outputs] = None,
               landmarks: Optional[tuple[Any, Any]] = None) -> Task:
        """Go on from the last result for more iterations of its finest level.

        Args:
            outputs: nodes to use instead of those of the last result, which then stays; with ``createMissing`` those
                that left the scene are made anew.
            landmarks: the fixed and the moving markups node that judge it, by default those of the last result.

        Raises:
            NodeError: (a ValueError) an output that cannot be written.
            RegistrationError: (a RuntimeError) there is no result, or a registration is running.
        """
        return self._go_on(int(iterations), None, outputs, landmarks)

    def pull(self, guideFixed: Any, guideMoving: Any, outputs: Optional[Outputs] = None) -> Task:
        """Pull the last result to pairs of points, in seconds; it stays as it is away from them.

        Args:
            guideFixed, guideMoving: markups nodes whose points correspond in their order.
            outputs: see :meth:`resume`.

        Raises:
            NodeError: (a ValueError) points that are no pairs, or an output that cannot be written.
            RegistrationError: (a RuntimeError) there is no result, or a registration is running.
        """
        landmark_nodes.read_landmark_pairs(guideFixed, guideMoving)
        return self._go_on(0, (guideFixed, guideMoving), outputs)

    def register(self, fixed: Any, moving: Any, preset: str = "generic", outputs: Optional[Outputs] = None,
                 on_progress: Optional[Callable[[dict], None]] = None, **options: Any) -> Result:
        """Register and return when it is done. The window does not answer meanwhile; :meth:`start` is for that.

        Args:
            fixed, moving: volume nodes.
            preset, outputs: see :meth:`start`.
            on_progress: called with the fields of each progress message.
            options: what :class:`Inputs` names (``fixedMask=...``) is an input; everything else is an option of the
                engine (``iterations=[50]``).

        Returns:
            The nodes and the numbers.

        Raises:
            NodeError: (a ValueError) an input or an option that cannot be used, one sentence.
            RegistrationError: (a RuntimeError) it failed, one sentence; the scene is as it was.
        """
        named = {name: options.pop(name) for name in Inputs.names() if name in options}
        task = self.start(Inputs(fixed, moving, **named), outputs, preset, options)
        if on_progress is not None:
            task.progress.connect(on_progress)
        return _finished(task)

    def registerPairs(self, pairs: Iterable[InputsLike], preset: str = "generic",
                      onPair: Optional[Callable[[int, Result], None]] = None, **options: Any) -> list[Result]:
        """Register one pair after the other; one that fails does not stop the rest.

        Args:
            pairs: of each the :class:`Inputs`, a mapping of their names, or (fixed, moving).
            onPair: called with the number of each pair, from 0, and its result, for instance to save and remove it.
            preset, options: see :meth:`register`; for all pairs.

        Returns:
            Their results; one that failed has an ``error``.
        """
        results = []
        for number, pair in enumerate(pairs):
            try:
                inputs = _inputs(pair)
                given = {name: getattr(inputs, name) for name in Inputs.names()[2:]
                         if getattr(inputs, name) is not None}
                result = self.register(inputs.fixed, inputs.moving, preset, **given, **options)
            except (ValueError, RuntimeError) as error:
                logger.error("Pair %d: %s", number + 1, error)
                result = Result(Outputs(createMissing=False), error=str(error))
            results.append(result)
            if onPair is not None:
                onPair(number, result)
        return results

    # ------------------------------------------------------------------------------------- with a transform

    def evaluate(self, fixed: Any, moving: Any, transform: Optional[Any] = None, **judges: Any) -> dict:
        """Measure a transform.

        Args:
            fixed, moving: volume nodes.
            judges: masks, landmarks and labels by their names in :class:`Inputs`.

        Returns:
            ``metrics`` of docs/report-schema.md.

        Raises:
            NodeError: (a ValueError) something that cannot be used.
        """
        inputs = Inputs(fixed, moving, **judges)
        check(inputs)
        order = Registration(inputs)
        run_now(order.read())
        reply = self._worker.ask("evaluate", order.fields, {**order.arrays, "transform": self._last.exact(transform)})
        metrics = reply.fields["metrics"]
        return {**metrics, "label_names": order.label_names} if order.label_names else metrics

    def jacobian(self, transform: Optional[Any] = None, direction: str = "forward", kind: str = "log",
                 reference: Optional[Any] = None, output: Optional[Any] = None) -> Any:
        """The volume change of a transform, exact at every voxel.

        Args:
            direction: "forward" or "inverse".
            kind: "log" of the determinant, with colours of its own, or the "determinant".
            reference: the volume node on whose grid; by default the fixed one, for the inverse the moving one.
            output: a volume node to fill; made when there is none.

        Returns:
            The filled node.
        """
        if kind not in ("log", "determinant"):
            raise NodeError(_("The kind of Jacobian is {kind!r}; use 'log' or 'determinant'.").format(kind=kind))
        exact = self._last.exact(transform)
        side = "moving" if direction == "inverse" else "fixed"
        grid = volume_nodes.read_volume(reference or self._last.volume(transform, side), side).geometry
        reply = self._worker.ask("jacobian", {"geometry": grid, "direction": direction, "quantity": kind},
                                 {"transform": exact})
        if output is None:
            output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{direction} {kind} Jacobian")
        write = log_jacobian_display.write_log_jacobian if kind == "log" else volume_nodes.write_volume
        write(output, reply.arrays["values"], grid)
        return output

    def saveTransform(self, path: Union[str, os.PathLike], transform: Optional[Any] = None) -> None:
        """Write a transform as a .nephi file, which loses nothing; Slicer's own formats hold a sampled field.

        Raises:
            NodeError: (a ValueError) there is no transform.
            OSError: the file cannot be written, one sentence.
        """
        transform_files.write_bytes(path, self._last.exact(transform).tobytes())

    def loadTransform(self, path: Union[str, os.PathLike], fixed: Optional[Any] = None, moving: Optional[Any] = None,
                      outputs: Optional[Outputs] = None) -> Outputs:
        """Read a .nephi file into transform nodes.

        Args:
            fixed, moving: the volumes it belongs to, if they are in the scene; the nodes then refer to them.
            outputs: what to fill; by default the two transforms and the log-Jacobian volume are made.

        Returns:
            The filled nodes.

        Raises:
            NodeError: (a ValueError) the file is not one, or damaged.
            RegistrationError: (a RuntimeError) the worker could not do it.
        """
        return _finished(self.startLoading(path, fixed, moving, outputs)).nodes

    def startLoading(self, path: Union[str, os.PathLike], fixed: Optional[Any] = None, moving: Optional[Any] = None,
                     outputs: Optional[Outputs] = None) -> Task:
        """As :meth:`loadTransform`, but return at once; the event loop does the rest.

        Raises:
            NodeError: (a ValueError) the file cannot be read, or an output cannot be written.
        """
        inputs, wanted = Inputs(fixed, moving), outputs or Outputs()
        check_outputs(inputs, wanted)
        task = self._task_of(Loading(path, wanted.gridSpacing), inputs, wanted, FROM_FILE)
        task.finished.connect(lambda task: self._last.set(task.transform, task.inputs, task.outputs))
        return task

    # ----------------------------------------------------------------------------------------------- worker

    def warmUp(self) -> None:
        """Have the worker ready before it is needed; returns at once."""
        self._worker.start(self)

    def close(self) -> None:
        """Stop what runs, and the worker when nobody else needs it."""
        if self._task is not None and not self._task.done:
            self._task.cancel()
            self._task.wait(2.0)
        self._task = None
        self._last.clear()
        self._last.follow(None)
        self._worker.leave(self)

    # ---------------------------------------------------------------------------------------------- private

    def _go_on(self, iterations: int, guides: Optional[tuple[Any, Any]], outputs: Optional[Outputs],
               landmarks: Optional[tuple[Any, Any]] = None) -> Task:
        last = self._last.task
        if last is None:
            raise RegistrationError(_("There is no registration to continue; register first."))
        fixed, moving = landmarks or (last.inputs.landmarksFixed, last.inputs.landmarksMoving)
        inputs = replace(last.inputs, landmarksFixed=fixed, landmarksMoving=moving)
        order = Continuation(last.name, iterations, last.label_names, guides, (fixed, moving))
        there = {name: None for name, node in last.outputs.nodes() if node.GetScene() is None}
        others = dict(outputs.nodes()) if outputs is not None else {}
        again = outputs is not None and outputs.createMissing and bool(there)
        wanted = replace(last.outputs, **{**there, **others}, createMissing=again)
        check_outputs(inputs, wanted)
        return self._begin(order, inputs, wanted, tuple(there))

    def _begin(self, order: Order, inputs: Inputs, wanted: Outputs, make: Sequence[str] = NODES) -> Task:
        self._check_free()
        task = self._task = self._task_of(order, inputs, wanted, make)
        task.finished.connect(lambda task: self._last.set(task.transform, task.inputs, task.outputs, task))
        return task

    def _check_free(self) -> None:
        if self._worker.busy or (self._task is not None and not self._task.done):
            raise RegistrationError(_("A registration is running; wait until it has finished, or cancel it."))

    def _task_of(self, order: Order, inputs: Inputs, wanted: Outputs, make: Sequence[str] = NODES) -> Task:
        self._worker.start(self)
        scene = slicer.mrmlScene
        self._last.follow(scene)
        return Task(self._worker, order, OutputNodes(scene, wanted, inputs, make), inputs, scene)


def _finished(task: Task) -> Result:
    """The result of a task, when it is done.

    Raises:
        NodeError, RegistrationError: it failed.
    """
    task.wait()
    if task.state != "finished":
        raise failure(task.failure, task.result.error)
    return task.result


def _inputs(pair: InputsLike) -> Inputs:
    if isinstance(pair, Inputs):
        return pair
    return Inputs(**pair) if isinstance(pair, Mapping) else Inputs(*pair)
