"""Places where a result is doubtful: kept with its table, and shown in the slice views."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..i18n import tr as _
from .belongings import SIDE
from .node_geometry import FLIP
from .view_fitting import slice_nodes

ATTRIBUTE = "NePhi.Doubts"
"""The attribute of a table node with the places, as JSON."""


POINTS = "NePhi.DoubtPoints"
"""The reference from a table node to the markups node of :func:`points`."""


class Place(NamedTuple):
    """A doubtful place: where, RAS mm in the world; how many millimetres; and why, in the engine's words."""

    ras: tuple[float, float, float]
    mm: float
    reason: str


def store(table: Any, doubts: Sequence[dict]) -> None:
    """Keep the ``doubts`` of a result (docs/worker.md) with its table node."""
    table.SetAttribute(ATTRIBUTE, json.dumps(list(doubts)) if doubts else None)


def load(table: Any) -> list[Place]:
    """What :func:`store` kept, the worst first; nothing where it was edited."""
    text = None if table is None else table.GetAttribute(ATTRIBUTE)
    try:
        places = [Place(tuple((np.asarray(item["at"], float) * FLIP).tolist()), float(item["mm"]), str(item["reason"]))
                  for item in json.loads(text or "[]")]
    except (ValueError, KeyError, TypeError):
        return []
    return [place for place in places if len(place.ras) == 3 and all(map(math.isfinite, (*place.ras, place.mm)))]


def show(scene: Any, place: Place) -> None:
    """Bring all slice views to a place."""
    for view in slice_nodes(scene):
        view.JumpSliceByCentering(*place.ras)


def points(table: Any) -> Any:
    """The places of a table node as a markups node: the worst first, labelled with the millimetres and the reason.

    Returns:
        The vtkMRMLMarkupsFiducialNode, made when the table has none yet; what it held is replaced.
    """
    scene, node = table.GetScene(), table.GetNodeReference(POINTS)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", scene.GenerateUniqueName(_("Doubtful places")))
        node.CreateDefaultDisplayNodes()
        node.SetAttribute(SIDE, "fixed")
        table.SetNodeReferenceID(POINTS, node.GetID())
    modified = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        node.RemoveAllControlPoints()
        for index, place in enumerate(load(table)):
            node.AddControlPoint(list(place.ras), f"{place.mm:.1f} mm: {reason_text(place.reason)}")
            node.SetNthControlPointLocked(index, True)
    finally:
        node.EndModify(modified)
    return node


def reason_text(reason: str) -> str:
    """A reason of the engine in words."""
    named = {"images disagree": _("the images disagree"), "extreme volume change": _("extreme volume change"),
             "fold": _("the map folds"), "inverse inconsistent": _("the directions disagree"),
             "outside the overlap": _("outside the moving volume")}
    return named.get(reason, reason)
