"""Places where a result is doubtful: kept with its table, and shown in the slice views."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .node_geometry import FLIP
from .view_fitting import slice_nodes

ATTRIBUTE = "NePhi.Doubts"
"""The attribute of a table node with the places, as JSON."""


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
