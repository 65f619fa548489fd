"""What a transform does to points and segmentations in the scene, asked of the worker."""

from __future__ import annotations

import logging
from typing import Any, Optional

import numpy as np
import slicer

from ..mrml import markups, masks, resample, volumes
from ..mrml.errors import NodeError
from ..mrml.geometry import FLIP, ijk_to_ras, vtk_matrix
from .engine import Engine

logger = logging.getLogger(__name__)

SIDES = ("fixed", "moving")


def check_side(to: str) -> str:
    """The other side.

    Raises:
        NodeError: it is neither "fixed" nor "moving".
    """
    if to not in SIDES:
        raise NodeError(f"The destination is {to!r}; say 'fixed' or 'moving'.")
    return SIDES[1 - SIDES.index(to)]


def map_points(engine: Engine, exact: np.ndarray, points: Any, to: str, output: Optional[Any]) -> Any:
    """Take points to the fixed or to the moving image.

    Args:
        exact: the bytes of the .nephi file.
        points: a markups node, or (n, 3) RAS mm in the world.
        to: "fixed" or "moving", where they shall be.
        output: a markups node to fill; only for a markups node.

    Returns:
        The filled node, made when there is none, or (n, 3) RAS mm.
    """
    side = check_side(to)
    is_node = hasattr(points, "GetNumberOfControlPoints")
    given = markups.read_points(points, side) if is_node else np.asarray(points, dtype=np.float64) * FLIP
    # A point moves against the image: what resamples the moving image takes fixed points to moving ones.
    direction = "inverse" if to == "fixed" else "forward"
    reply = engine.ask("map_points", {"direction": direction}, {"transform": exact, "points": given})
    mapped = reply.arrays["points"]
    if not is_node:
        return mapped * FLIP
    if output is None:
        output = slicer.mrmlScene.AddNewNodeByClass(points.GetClassName(), f"{points.GetName()} on {to}")
        output.CreateDefaultDisplayNodes()
    markups.write_points(output, mapped, points)
    return output


def warp_labels(engine: Engine, exact: np.ndarray, node: Any, to: str, source: Any, target: Any, output: Optional[Any]
                ) -> Any:
    """Take a segmentation or label map to the fixed or to the moving image, on its grid.

    Args:
        exact: the bytes of the .nephi file.
        node: a segmentation, which keeps its names and colours, or a label map.
        to: "fixed" or "moving".
        source, target: the volume nodes it is drawn on and goes to.
        output: a node of the same kind to fill.

    Returns:
        The filled node, made when there is none.
    """
    side = check_side(to)
    read = volumes.read_volume(source, side), volumes.read_volume(target, to)
    fields = {"image": read[0].geometry, "onto": read[1].geometry, "interpolation": "nearest",
              "direction": "forward" if to == "fixed" else "inverse"}

    def warp(labels: np.ndarray) -> np.ndarray:
        return engine.ask("warp", fields, {"transform": exact, "image": labels}).arrays["values"]

    if output is None:
        output = slicer.mrmlScene.AddNewNodeByClass(node.GetClassName(), f"{node.GetName()} on {to}")
        output.CreateDefaultDisplayNodes()
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        labels = warp(masks.read_labels(node, read[0], side).array)
        volumes.write_volume(output, labels.astype(np.int16), read[1].geometry)
        return output
    found = _segments(node, read[0], side)
    output.GetSegmentation().RemoveAllSegments()
    output.SetReferenceImageGeometryParameterFromVolumeNode(target)
    for names, labels in _layers(found):
        warped = warp(labels)
        for label, name in enumerate(names, start=1):
            _add_segment(output, node.GetSegmentation().GetSegment(name), name, warped == label, read[1].geometry)
    return output


def _segments(node: Any, volume: volumes.VolumeData, role: str) -> dict[str, np.ndarray]:
    """The ID of each segment and its mask on the volume's grid; those that are empty there are left out."""
    if not node.IsA("vtkMRMLSegmentationNode"):
        raise NodeError(f"'{node.GetName()}' is neither a segmentation nor a label map; choose another.")
    segmentation, found, problem = node.GetSegmentation(), {}, None
    for index in range(segmentation.GetNumberOfSegments()):
        name = segmentation.GetNthSegmentID(index)
        try:
            found[name] = masks.read_mask(node, name, volume, role)
        except NodeError as error:
            logger.warning("Segment %s is left out: %s", name, error)
            problem = problem or error
    if not found:
        raise problem or NodeError(f"The segmentation '{node.GetName()}' has no segments; draw one or choose another.")
    return found


def _layers(segments: dict[str, np.ndarray]) -> list[tuple[list[str], np.ndarray]]:
    """As few label images (1, 2, ... in the order of the names) as hold all segments without overlap."""
    layers: list[tuple[list[str], np.ndarray]] = []
    for name, mask in segments.items():
        inside = mask > 0
        names, labels = next((layer for layer in layers if not layer[1][inside].any()), (None, None))
        if names is None:
            names, labels = [], np.zeros(mask.shape, dtype=np.int16)
            layers.append((names, labels))
        names.append(name)
        labels[inside] = len(names)
    return layers


def _add_segment(node: Any, like: Any, identifier: str, mask: np.ndarray, geometry: dict) -> None:
    image = resample.new_image(mask.astype(np.uint8), 1, slicer.vtkOrientedImageData)
    image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(geometry)))
    node.AddSegmentFromBinaryLabelmapRepresentation(image, like.GetName(), like.GetColor(), identifier)


