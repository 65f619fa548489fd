"""A .nephi file on its way into nodes: the worker samples its maps, the window goes on answering."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from ..i18n import tr as _
from ..mrml.node_error import NodeError
from ..worker.client import Request
from . import transform_files
from .event_loop import Steps, Turns
from .output_nodes import OutputNodes
from .signals import Signal
from .values import Inputs, Outputs, RegistrationError
from .warm_worker import Engine, failure

MAPS = ("forward", "inverse", "logJacobian")
"""The outputs that a file can fill."""


class Loading:
    """One file being read.

    Args:
        engine: with the worker.
        path: of the file.
        inputs: the volumes it belongs to, as far as they are known.
        wanted: the nodes to fill, and whether to make the others.
        scene: where they are.

    Attributes:
        finished: signal with this object, when the nodes are filled.
        failed: signal with this object, when they could not be.
        nodes: the filled nodes, or None.
        error: what went wrong, or None.
        exact: the bytes of the file.

    Raises:
        NodeError: the file cannot be read.
    """

    def __init__(self, engine: Engine, path: Union[str, os.PathLike], inputs: Inputs, wanted: Outputs, scene: Any
                 ) -> None:
        self.finished, self.failed = Signal(), Signal()
        self.inputs, self.nodes = inputs, None
        self.error: Optional[Exception] = None
        self._engine, self._path, self._wanted, self._scene = engine, path, wanted, scene
        self._turns = Turns(self._raised)
        data = transform_files.read_bytes(path)
        self.exact = data.tobytes()
        self._ended, self._outputs = False, None
        self._observer = scene.AddObserver(scene.StartCloseEvent, self._scene_closes)
        self._request = engine.request("maps", {"grid_spacing": wanted.gridSpacing}, {"transform": data},
                                       on_done=self._answered)

    def wait(self) -> None:
        """Block until it has ended, without an event loop."""
        self._engine.worker.waitForReply(self._request)
        self._turns.run()

    def _answered(self, request: Request) -> None:
        if not self._ended:
            self._turns.add(self._fill(request))

    def _fill(self, request: Request) -> Steps:
        yield  # a request that was refused at once must not end before somebody listens
        if request.state != "finished":
            raise failure(request.failure, request.message)
        fields = request.reply.fields
        self._outputs = made = OutputNodes(self._scene, self._wanted, self.inputs, MAPS)
        yield from made.keep()
        geometries = {"log_jacobian": fields["fixed"],
                      **{side: fields[side]["geometry"] for side in ("forward", "inverse")}}
        yield from made.fill(request.reply.arrays, geometries, {"provenance": fields["provenance"]}, self.exact)
        self.nodes = made.nodes
        made.forget()
        self._end()
        self.finished.emit(self)

    def _raised(self, error: Exception) -> None:
        self.error = error
        if isinstance(error, NodeError):
            self.error = NodeError(_("{path} cannot be loaded: {reason}").format(path=self._path, reason=error))
        self._turns.add(self._give_up())

    def _give_up(self) -> Steps:
        """Put everything back, then end."""
        if self._outputs is not None:
            yield from self._outputs.restore()
        self._end()
        self.failed.emit(self)

    def _scene_closes(self, _caller: Any, _event: Any) -> None:
        """The nodes it is for go; what was read must not come into the next scene."""
        self.error = RegistrationError(_("The scene was closed; {path} was not loaded.").format(path=self._path))
        self._end()
        self.failed.emit(self)

    def _end(self) -> None:
        self._ended = True
        self._scene.RemoveObserver(self._observer)
        self._turns.close()
