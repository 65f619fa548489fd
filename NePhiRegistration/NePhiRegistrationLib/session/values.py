"""What a registration takes and gives, in nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Optional

NODES = ("forward", "inverse", "warped", "logJacobian", "table")
"""The outputs of :class:`Outputs` that are nodes, in the order in which they are filled."""

FROM_FILE = ("forward", "inverse", "logJacobian")
"""The outputs that a .nephi file can fill."""

BUSY = ("starting", "running", "cancelling")
"""The states of a task that has not ended."""

_TRANSFORM, _VOLUME = ("transform", "Transform"), ("scalar volume", "ScalarVolume")
KINDS = {"initialTransform": _TRANSFORM, "forward": _TRANSFORM, "inverse": _TRANSFORM, "warped": _VOLUME,
         "logJacobian": _VOLUME, "table": ("table", "Table")}
"""What nodes must be: in words, and as the middle of a class name."""


class RegistrationError(RuntimeError):
    """A registration that failed or could not be begun; one sentence for the user."""


@dataclass(frozen=True)
class Inputs:
    """What to register, and what guides and judges it; only the two volumes are needed.

    Attributes:
        fixed, moving: scalar volume nodes.
        fixedMask, movingMask: segmentation or label map nodes: where to look.
        fixedSegment, movingSegment: the ID or name of the one segment that counts; without it all visible ones do.
        initialTransform: a transform node, linear or not, that, applied to the moving volume, brings it near the
            fixed one.
        guideFixed, guideMoving: markups nodes whose points, in their order, pull the registration.
        landmarksFixed, landmarksMoving: markups nodes whose points only judge it.
        fixedLabels, movingLabels: segmentation or label map nodes whose overlap judges it; segments are paired by name.
        fixedExclude, movingExclude: segmentation or label map nodes: what is not compared, such as a resection cavity.
        fixedExcludeSegment, movingExcludeSegment: as for the masks.
    """

    fixed: Any = None
    moving: Any = None
    fixedMask: Any = None
    fixedSegment: Optional[str] = None
    movingMask: Any = None
    movingSegment: Optional[str] = None
    initialTransform: Any = None
    guideFixed: Any = None
    guideMoving: Any = None
    landmarksFixed: Any = None
    landmarksMoving: Any = None
    fixedLabels: Any = None
    movingLabels: Any = None
    fixedExclude: Any = None
    fixedExcludeSegment: Optional[str] = None
    movingExclude: Any = None
    movingExcludeSegment: Optional[str] = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of all attributes."""
        return tuple(item.name for item in fields(cls))


@dataclass(frozen=True)
class Outputs:
    """Where results go. Nodes that are given are filled and stay the nodes they are.

    Attributes:
        forward: transform node that carries the moving volume onto the fixed one; None where not given.
        inverse: transform node that carries the fixed volume onto the moving one, from the other field.
        warped: volume node, the moving volume on the fixed one's grid.
        logJacobian: volume node, the logarithm of the forward map's volume change.
        table: table node with the numbers.
        createMissing: make the nodes that are not given; without it they are not wanted.
        gridSpacing: mm between the nodes of the transforms' displacement grids; None lets the worker choose.
    """

    forward: Any = None
    inverse: Any = None
    warped: Any = None
    logJacobian: Any = None
    table: Any = None
    createMissing: bool = True
    gridSpacing: Optional[float] = None

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """The name and node of each output there is."""
        for name in NODES:
            if getattr(self, name) is not None:
                yield name, getattr(self, name)


@dataclass(frozen=True)
class Result:
    """A finished registration, or one of several that failed.

    Attributes:
        nodes: the outputs, filled.
        metrics: the measurements (``metrics`` of docs/report-schema.md).
        report: all that is known (docs/report-schema.md).
        error: why it failed, one sentence, or "".
    """

    nodes: Outputs
    metrics: dict = field(default_factory=dict)
    report: dict = field(default_factory=dict)
    error: str = ""
