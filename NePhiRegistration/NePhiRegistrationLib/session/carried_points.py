"""Points taken from one image to the other, by the worker."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import slicer

from ..i18n import tr as _
from ..mrml import landmark_nodes
from ..mrml.node_error import NodeError
from ..mrml.node_geometry import FLIP
from .warm_worker import WarmWorker


def carry(worker: WarmWorker, exact: np.ndarray, points: Any, to: str, output: Optional[Any]) -> Any:
    """Take points to the fixed or to the moving image, by the exact map.

    Args:
        exact: the bytes of the .nephi file, (n,) uint8.
        points: a markups node, or (n, 3) RAS mm in the world.
        to: "fixed" or "moving", where they shall be.
        output: a markups node to fill; only for a markups node.

    Returns:
        The filled node, made when there is none, or (n, 3) float64 RAS mm.

    Raises:
        NodeError: no points.
    """
    is_node = hasattr(points, "GetNumberOfControlPoints")
    given = landmark_nodes.read_points(points) if is_node else _checked(points) * FLIP
    # Points go against the image: what resamples the moving image takes fixed points to moving ones.
    direction = "inverse" if to == "fixed" else "forward"
    reply = worker.ask("map_points", {"direction": direction}, {"transform": exact, "points": given})
    mapped = reply.arrays["points"]
    if not is_node:
        return mapped * FLIP
    if output is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{points.GetName()} on {to}")
        output = slicer.mrmlScene.AddNewNodeByClass(points.GetClassName(), name)
    landmark_nodes.write_points(output, mapped, points)
    return output


def _checked(points: Any) -> np.ndarray:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise NodeError(_("The points have the shape {shape}; give (n, 3) RAS mm, or a markups node.").format(
            shape=array.shape))
    return array
