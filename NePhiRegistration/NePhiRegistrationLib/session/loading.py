"""A .nephi file on its way into nodes: the worker samples its maps, the window goes on answering."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from ..mrml.errors import NodeError
from ..worker.client import Request
from . import files
from .engine import Engine, failure
from .signal import Signal
from .turns import Steps, Turns
from .values import Inputs, Outputs
from .writing import OutputNodes

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
        data = files.read_bytes(path)
        self.exact = data.tobytes()
        self._request = engine.request("maps", {"grid_spacing": wanted.gridSpacing}, {"transform": data},
                                       on_done=lambda request: self._turns.add(self._fill(request)))

    def wait(self) -> None:
        """Block until it has ended, without an event loop."""
        self._engine.worker.waitForReply(self._request)
        self._turns.run()

    def _fill(self, request: Request) -> Steps:
        yield  # a request that was refused at once must not end before somebody listens
        if request.state != "finished":
            raise failure(request.failure, request.message)
        fields = request.reply.fields
        made = OutputNodes(self._scene, self._wanted, self.inputs, MAPS)
        geometries = {"log_jacobian": fields["fixed"],
                      **{side: fields[side]["geometry"] for side in ("forward", "inverse")}}
        yield from made.fill(request.reply.arrays, geometries, {"provenance": fields["provenance"]}, self.exact)
        self.nodes = made.nodes
        self._turns.close()
        self.finished.emit(self)

    def _raised(self, error: Exception) -> None:
        self.error = error
        if isinstance(error, NodeError):
            self.error = NodeError(f"{self._path} cannot be loaded: {error}")
        self._turns.close()
        self.failed.emit(self)
