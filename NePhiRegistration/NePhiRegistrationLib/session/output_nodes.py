"""The output nodes of a registration: made, kept safe, shown while it runs, filled, put back."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Optional

from ..mrml import (
    doubtful_places,
    error_volume,
    log_jacobian_display,
    metrics_table,
    slab_writing,
    snapshot,
    transform_archive,
    transform_nodes,
)
from ..mrml.deformation_nodes import write_splines
from ..mrml.slabs import Gradual
from ..worker.messages import Message
from .values import KINDS, NODES, Inputs, Outputs

logger = logging.getLogger(__name__)

_NAMES = {"forward": "{moving} to {fixed}", "inverse": "{fixed} to {moving}", "warped": "{moving} warped",
          "logJacobian": "{moving} log-Jacobian", "table": "{moving} metrics"}


class OutputNodes:
    """The nodes of one task, in the scene. A node that leaves the scene meanwhile is passed over.

    Args:
        scene: where they are.
        wanted: those to use, and whether to make the others.
        inputs: what they are the result of.
        make: names of the outputs that can be made.

    Attributes:
        nodes: all of them.
    """

    def __init__(self, scene: Any, wanted: Outputs, inputs: Inputs, make: Sequence[str] = NODES) -> None:
        self._scene, self._inputs = scene, inputs
        self._made: list[Any] = []
        self._snapshots: list[snapshot.Snapshot] = []
        self.nodes = wanted
        if wanted.createMissing:
            self.nodes = replace(wanted, **{name: self._make(name) for name in make if getattr(wanted, name) is None})

    def remember(self) -> None:
        """Remember what the nodes that were given hold."""
        self._snapshots = [snapshot.Snapshot(node) for _, node in self.nodes.nodes()
                           if not any(node is made for made in self._made)]

    def restore(self) -> tuple[str, ...]:
        """Give them back what they held, and take away what was made.

        Returns:
            The names of those with which that failed; all others are as they were.
        """
        steps = [(node, partial(snapshot.remove, node)) for node in reversed(self._made)]
        steps += [(kept.node, kept.restore) for kept in reversed(self._snapshots)]
        self.forget()
        failed = []
        for node, step in steps:
            try:
                step()
            except Exception:
                failed.append(node.GetName())
                logger.exception("%s could not be put back.", failed[-1])
        return tuple(failed)

    def forget(self) -> None:
        """There is no way back any more."""
        self._made.clear()
        self._snapshots.clear()

    def show_preview(self, message: Message) -> None:
        """Show the map so far."""
        geometry = message.fields["geometry"]
        if self.present("forward"):
            transform_nodes.write_displacement(self.nodes.forward, message.arrays["displacement"], geometry)
        if self.present("logJacobian"):
            log_jacobian_display.write_log_jacobian(self.nodes.logJacobian, message.arrays["log_jacobian"], geometry)

    def fill(self, fields: dict, arrays: dict) -> Gradual[None]:
        """Write what is seen of a result, large arrays slab by slab.

        Args:
            fields, arrays: of the message "shown", or of the reply to ``maps`` (docs/worker.md).
        """
        fixed = fields["provenance"]["fixed"]
        for name in ("forward", "inverse"):
            if name in arrays and self.present(name):
                write_splines(getattr(self.nodes, name), arrays[name], **fields[name])
                yield
        if "warped" in arrays and self.present("warped"):
            like = self._inputs.moving if self._in_scene(self._inputs.moving) else None
            yield from slab_writing.write_volume(self.nodes.warped, arrays["warped"], fixed, like)
        if self.present("forward"):
            transform_archive.store(self.nodes.forward, arrays["transform"].tobytes())
        yield from self.fill_jacobian(fixed, arrays)
        self._sign(fields)
        yield

    def fill_jacobian(self, geometry: dict, arrays: dict) -> Gradual[None]:
        """Write the log-Jacobian, if it has come.

        Args:
            geometry: of the fixed volume.
        """
        if "log_jacobian" in arrays and self.present("logJacobian"):
            yield from slab_writing.write_log_jacobian(self.nodes.logJacobian, arrays["log_jacobian"], geometry,
                                                       arrays.get("compared"))

    def fill_numbers(self, report: dict, histogram: Optional[dict], doubts: Sequence[dict] = ()) -> None:
        """Write what was measured; where measuring was stopped the table keeps nothing of another result. The report
        of a loaded file says nothing of metrics, and its table is left alone."""
        if "metrics" in report and self.present("table"):
            metrics_table.write_metrics(self.nodes.table, report, histogram)
            doubtful_places.store(self.nodes.table, doubts)
            error_volume.store(self.nodes.table, (report["metrics"] or {}).get("residual_mm"))
        self._sign(report)

    def present(self, name: str) -> bool:
        """Whether an output is wanted and still in the scene."""
        return self._in_scene(getattr(self.nodes, name))

    def _sign(self, report: dict) -> None:
        """Say on every node what it comes from."""
        fixed, moving = self._inputs.fixed, self._inputs.moving
        made_by = provenance(report)
        for name, node in self.nodes.nodes():
            if not self._in_scene(node):
                continue
            transform_nodes.set_provenance(node, made_by)
            if name in ("forward", "inverse") and self._in_scene(fixed) and self._in_scene(moving):
                transform_nodes.set_references(node, fixed, moving)

    def _make(self, name: str) -> Any:
        names = {role: getattr(self._inputs, role) for role in ("fixed", "moving")}
        title = _NAMES[name].format(**{role: node.GetName() if node is not None else role
                                       for role, node in names.items()})
        node = self._scene.AddNewNodeByClass(f"vtkMRML{KINDS[name][1]}Node", self._scene.GenerateUniqueName(title))
        self._made.append(node)
        return node

    def _in_scene(self, node: Any) -> bool:
        return node is not None and bool(self._scene.IsNodePresent(node))


def provenance(report: dict) -> dict[str, str]:
    """What made a result, as texts for node attributes."""
    found = report.get("provenance") or {}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()
            if value is not None}
