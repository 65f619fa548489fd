"""What the run button says and allows, as a function of the choices and of the task. Nothing here touches a widget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from slicer.i18n import tr as _

from ..mrml.transform_nodes import above

BUSY = ("starting", "running", "cancelling")


@dataclass(frozen=True)
class Situation:
    """Where the user stands.

    Attributes:
        missing: what has to be chosen first, one sentence, or None.
        state: of the task: "idle", "starting", "running", "cancelling", "finished", "failed" or "cancelled".
        unchanged: whether nothing was chosen anew since the task finished.
        iterations: how many Continue adds.
        keeping: whether a task that is being stopped shall fill the outputs.
    """

    missing: Optional[str]
    state: str = "idle"
    unchanged: bool = False
    iterations: int = 0
    keeping: bool = False

    @property
    def busy(self) -> bool:
        return self.state in BUSY

    @property
    def can_continue(self) -> bool:
        return self.state == "finished" and self.unchanged and self.missing is None


@dataclass(frozen=True)
class Buttons:
    """What the two buttons show; the second is hidden when its text is empty."""

    text: str
    tip: str
    enabled: bool = True
    second: str = ""
    secondTip: str = ""


def buttons(situation: Situation) -> Buttons:
    """The buttons for a situation."""
    if situation.state == "cancelling" and situation.keeping:  # which takes as long as making the outputs does
        return Buttons(_("Cancel"), _("Keep nothing after all, and leave the scene as it was."))
    if situation.state == "cancelling":
        return Buttons(_("Cancelling…"), _("The task is being stopped."), enabled=False)
    if situation.state == "starting":
        return Buttons(_("Cancel"), _("Stop and leave the scene as it was."))
    if situation.state == "running":
        return Buttons(_("Cancel"), _("Stop and leave the scene as it was."), second=_("Stop and keep"),
                       secondTip=_("Stop and fill the outputs with the map so far."))
    if situation.can_continue:
        return Buttons(_("Continue"), _("Add {count} iterations of the finest level to the result.").format(
            count=situation.iterations), second=_("Start over"), secondTip=_("Register again from the beginning."))
    if situation.missing is not None:
        return Buttons(_("Register"), situation.missing, enabled=False)
    return Buttons(_("Register"), _("Bring the moving volume onto the fixed one."))


def missing(parameters: Any) -> Optional[str]:
    """What has to be chosen before a registration can start, one sentence, or None.

    Only what can be seen at once; voxels are looked at when the task starts.

    Args:
        parameters: the parameter node.
    """
    return (_missing_volumes(parameters) or _missing_pairs(parameters) or missing_outputs(parameters)
            or _applied_output(parameters))


def _missing_volumes(parameters: Any) -> Optional[str]:
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    if fixed is None and moving is None:
        return _("Choose a fixed and a moving volume.")
    if fixed is None:
        return _("Choose a fixed volume.")
    if moving is None:
        return _("Choose a moving volume.")
    if fixed is moving:
        return _("{name} is chosen as fixed and as moving volume; choose two volumes.").format(name=fixed.GetName())
    for node in (fixed, moving):
        if node.GetImageData() is None:
            return _("{name} has no voxels; load it or choose another volume.").format(name=node.GetName())
    return None


def _missing_pairs(parameters: Any) -> Optional[str]:
    fixed, moving = parameters.fixedLandmarks, parameters.movingLandmarks
    if (fixed is None) != (moving is None):
        return _("Choose a list of landmarks for both volumes, or for none.")
    if fixed is not None:
        counts = fixed.GetNumberOfControlPoints(), moving.GetNumberOfControlPoints()
        if counts[0] != counts[1]:
            return _("There are {fixed} fixed and {moving} moving landmarks; they are paired by their order, so give "
                     "as many of each.").format(fixed=counts[0], moving=counts[1])
        if counts[0] == 0:
            return _("The lists of landmarks are empty; place landmarks or choose None.")
    elif parameters.guideByLandmarks:
        return _("Choose the lists of landmarks that shall guide the registration, or untick that box.")
    if (parameters.fixedLabels is None) != (parameters.movingLabels is None):
        return _("Choose a segmentation for both volumes, or for none.")
    return None


def missing_outputs(parameters: Any) -> Optional[str]:
    """What is wrong with the chosen outputs, one sentence, or None."""
    if not parameters.createOutputs and not any(outputs(parameters).values()):
        return _("Choose at least one output, or tick the box that creates them.")
    if parameters.forwardTransform is not None and parameters.forwardTransform is parameters.inverseTransform:
        return _("{name} is chosen for both transforms; choose two nodes.").format(
            name=parameters.forwardTransform.GetName())
    for node in (parameters.warpedVolume, parameters.logJacobian):
        if node is not None and node in (parameters.fixedVolume, parameters.movingVolume):
            return _("{name} is an input and an output; inputs are never changed, so choose another output.").format(
                name=node.GetName())
    if parameters.warpedVolume is not None and parameters.warpedVolume is parameters.logJacobian:
        return _("{name} is chosen for two outputs; choose two nodes.").format(name=parameters.warpedVolume.GetName())
    if parameters.initialTransform is not None and parameters.initialTransform in (
            parameters.forwardTransform, parameters.inverseTransform):
        return _("{name} is the starting transform and an output; choose another output.").format(
            name=parameters.initialTransform.GetName())
    return None


def _applied_output(parameters: Any) -> Optional[str]:
    """An input that lies under a transform which is to be overwritten would move with what is found."""
    for transform in (parameters.forwardTransform, parameters.inverseTransform):
        for node in inputs(parameters).values():
            if transform is not None and hasattr(node, "GetParentTransformNode") and above(transform, node):
                return _("{name} lies under {transform}, which is to be overwritten; take it out of the transform, or "
                         "choose another output.").format(name=node.GetName(), transform=transform.GetName())
    return None


def inputs(parameters: Any) -> dict[str, Any]:
    """The inputs of a registration by the names that the logic gives them."""
    guide = parameters.guideByLandmarks
    points = {"Fixed": parameters.fixedLandmarks, "Moving": parameters.movingLandmarks}
    return {
        "fixed": parameters.fixedVolume, "moving": parameters.movingVolume,
        "fixedMask": parameters.fixedMask, "fixedSegment": parameters.fixedSegment or None,
        "movingMask": parameters.movingMask, "movingSegment": parameters.movingSegment or None,
        "initialTransform": parameters.initialTransform,
        **{("guide" if guide else "landmarks") + side: node for side, node in points.items()},
        "fixedLabels": parameters.fixedLabels, "movingLabels": parameters.movingLabels,
    }


def outputs(parameters: Any) -> dict[str, Any]:
    """The chosen outputs by the names that the logic gives them; None where nothing is chosen."""
    return {"forward": parameters.forwardTransform, "inverse": parameters.inverseTransform,
            "warped": parameters.warpedVolume, "logJacobian": parameters.logJacobian, "table": parameters.metricsTable}


def fingerprint(parameters: Any) -> tuple:
    """What a registration depends on: while it stays the same, the result can be continued."""
    nodes = {name: node.GetID() if hasattr(node, "GetID") else node for name, node in inputs(parameters).items()}
    return (*sorted(nodes.items(), key=lambda pair: pair[0]), parameters.preset, parameters.options,
            parameters.gridSpacing)
