"""What is asked of the worker: a kind of request with its fields and arrays, read from nodes a part at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from ..i18n import tr as _
from ..mrml import landmark_nodes, mask_nodes, transform_nodes, volume_nodes
from ..mrml.slabs import Gradual
from . import transform_files
from .values import Inputs


class Order:
    """A request that is known at once; others are complete after the last step of :meth:`read`.

    Attributes:
        kind, fields, arrays: docs/worker.md.
        label_names: label -> name of the segment, of the labels that judge the result.
    """

    def __init__(self, kind: str, fields: dict[str, Any]) -> None:
        self.kind, self.fields = kind, fields
        self.arrays: dict[str, np.ndarray] = {}
        self.label_names: dict[str, str] = {}

    def read(self) -> Gradual[None]:
        """Read what is sent, a part of a node in each step.

        Raises:
            NodeError: a node that cannot be used, one sentence.
        """
        yield from ()

    def refusal(self, message: str) -> str:
        """What the user reads when the worker refuses, from the worker's own sentence."""
        return message


class Loading(Order):
    """To sample the maps of a .nephi file.

    Raises:
        NodeError: the file cannot be read.
    """

    def __init__(self, path: Union[str, os.PathLike], grid_spacing: Optional[float]) -> None:
        super().__init__("maps", {"grid_spacing": grid_spacing})
        self._path = Path(path)
        self.arrays["transform"] = transform_files.read_bytes(path)

    def refusal(self, message: str) -> str:
        """It names the file."""
        return _("{path} cannot be loaded: {reason}").format(path=self._path, reason=message)


class Continuation(Order):
    """To go on from a finished registration.

    Args:
        name: of that registration on the wire.
        iterations: how many, at the finest level; none with guides only pulls the map to them.
        label_names: of that registration.
        guides: the fixed and the moving markups node of points that the map is pulled to, or None.
        landmarks: those of the points that judge it, as they are now.
    """

    def __init__(self, name: str, iterations: int, label_names: dict[str, str],
                 guides: Optional[tuple[Any, Any]] = None, landmarks: tuple[Any, Any] = (None, None)) -> None:
        super().__init__("continue", {"of": name, "iterations": iterations})
        self.label_names, self._lists = label_names, {"guide": guides or (None, None), "landmarks": landmarks}

    def read(self) -> Gradual[None]:
        """See :meth:`Order.read`."""
        for name, nodes in self._lists.items():
            there = (None if node is None or node.GetScene() is None else node for node in nodes)
            pairs = landmark_nodes.read_landmark_pairs(*there)
            if pairs is not None:
                self.arrays[f"{name}_fixed"], self.arrays[f"{name}_moving"] = pairs
        yield


class Registration(Order):
    """To register.

    Args:
        inputs: checked by :func:`choices.check`.
        fields: of the request, beside those that are read.
    """

    def __init__(self, inputs: Inputs, **fields: Any) -> None:
        super().__init__("register", fields)
        self._inputs = inputs

    def read(self) -> Gradual[None]:
        """See :meth:`Order.read`."""
        inputs, read = self._inputs, {}
        initial = transform_nodes.read_initial(inputs.initialTransform, inputs.moving)
        self.fields.update(initial=None if initial is None else initial.tolist(), names={})
        for role in ("fixed", "moving"):
            read[role] = yield from volume_nodes.read_volume_gradually(getattr(inputs, role), role)
            self.fields[role], self.arrays[role] = read[role].geometry, read[role].array
            self.fields["names"][role] = getattr(inputs, role).GetName()
            yield
        if transform_nodes.bends(inputs.initialTransform):
            bent = yield from transform_nodes.read_displacement(inputs.initialTransform, self.fields["fixed"])
            self.arrays["initial_displacement"], self.fields["initial_grid"] = bent
        for role, volume in read.items():
            yield from self._region(f"{role}_mask", f"{role}Mask", f"{role}Segment", volume, role)
            yield from self._region(f"{role}_exclude", f"{role}Exclude", f"{role}ExcludeSegment", volume,
                                    f"{role} exclusion")
        self._points("guide", inputs.guideFixed, inputs.guideMoving, read)
        self._points("landmarks", inputs.landmarksFixed, inputs.landmarksMoving, read)
        if inputs.fixedLabels is not None:
            yield from self._labels(read)

    def _region(self, array: str, node: str, segment: str, volume: volume_nodes.VolumeData, role: str) -> Gradual[None]:
        chosen = getattr(self._inputs, node)
        segment_id = _segment_id(chosen, getattr(self._inputs, segment))
        mask = yield from mask_nodes.read_mask(chosen, segment_id, volume, role)
        if mask is not None:
            self.arrays[array] = mask
        yield

    def _points(self, name: str, fixed: Any, moving: Any, read: dict[str, volume_nodes.VolumeData]) -> None:
        pairs = landmark_nodes.read_landmark_pairs(fixed, moving, read["fixed"], read["moving"])
        if pairs is not None:
            self.arrays[f"{name}_fixed"], self.arrays[f"{name}_moving"] = pairs

    def _labels(self, read: dict[str, volume_nodes.VolumeData]) -> Gradual[None]:
        fixed = yield from mask_nodes.read_labels(self._inputs.fixedLabels, read["fixed"], "fixed")
        moving = yield from mask_nodes.read_labels(self._inputs.movingLabels, read["moving"], "moving")
        fixed, moving = yield from mask_nodes.match_labels(fixed, moving)
        self.arrays["fixed_labels"], self.arrays["moving_labels"] = fixed.array, moving.array
        self.label_names = {str(label): name for label, name in fixed.names.items()}
        yield


def _segment_id(node: Any, chosen: Optional[str]) -> Optional[str]:
    """The ID of a segment, for scripts also by its name."""
    if not chosen or node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return chosen
    return node.GetSegmentation().GetSegmentIdBySegmentName(chosen) or chosen
