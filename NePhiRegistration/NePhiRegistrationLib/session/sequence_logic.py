"""What scripts and the panel do with a sequence of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Callable, Optional, Union

import slicer

from .sequence import SequenceInputs, SequenceNodes, SequenceOrder, TrackedSequence, check_sequence
from .task import Task
from .values import Inputs
from .warm_worker import WarmWorker, failure


class SequenceLogic:
    """The part of :class:`.logic.RegistrationLogic` that aligns the volumes of a sequence node."""

    _worker: WarmWorker

    def startSequence(self, inputs: SequenceInputs, preset: str = "generic",
                      options: Optional[Mapping[str, Any]] = None) -> Task:
        """Start to align all volumes of a sequence and return at once; the event loop does the rest.

        Args:
            inputs: what to align.
            preset, options: see :meth:`.logic.RegistrationLogic.start`; for all frames.

        Returns:
            The task. Its signal ``shown`` comes once a frame, and its ``outputs`` are a :class:`TrackedSequence`.

        Raises:
            NodeError: (a ValueError) a choice that cannot be, one sentence.
            RegistrationError: (a RuntimeError) a registration is running.
        """
        check_sequence(inputs)
        self._check_free()
        self._worker.start(self)
        scene = slicer.mrmlScene
        order = SequenceOrder(inputs, preset, options or {})
        self._task = Task(self._worker, order, SequenceNodes(scene, inputs), Inputs(), scene)
        return self._task

    def registerSequence(self, sequence: Any, reference: Union[int, str] = 0, preset: str = "generic",
                         onFrame: Optional[Callable[[int], None]] = None, **options: Any) -> TrackedSequence:
        """Align all volumes of a sequence node and return when it is done. The window does not answer meanwhile;
        :meth:`startSequence` is for that.

        Args:
            reference: the number of the volume that all are aligned with, from 0; "mean", or "previous".
            onFrame: called with the number of each frame that is written.
            options: what :class:`SequenceInputs` names (``cycle=True``, ``trackPoints=...``) is an input; everything
                else is an option of the engine.

        Returns:
            The sequences, and the browser node that plays them.

        Raises:
            NodeError: (a ValueError) the sequence or an option cannot be used.
            RegistrationError: (a RuntimeError) it failed; the scene is as it was.
        """
        named = {item.name: options.pop(item.name) for item in fields(SequenceInputs) if item.name in options}
        task = self.startSequence(SequenceInputs(sequence, reference, **named), preset, options)
        if onFrame is not None:
            task.shown.connect(lambda task: onFrame(task.outputs.frames - 1))
        task.wait()
        if task.state != "finished":
            raise failure(task.failure, task.result.error)
        return task.outputs
