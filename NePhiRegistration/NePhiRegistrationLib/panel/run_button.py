"""What the run button says and allows, as a function of the choices and of the task. Nothing here touches a widget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from slicer.i18n import tr as _

from ..mrml.node_error import NodeError
from ..session.choices import check
from ..session.values import BUSY, Inputs, Outputs


@dataclass(frozen=True)
class Situation:
    """Where the user stands.

    Attributes:
        missing: what has to be chosen first, one sentence, or None.
        state: of the task: "idle", "starting", "running", "cancelling", "finished", "failed" or "cancelled".
        unchanged: whether nothing was chosen anew since the task finished.
        iterations: how many Continue adds.
        keeping: whether a task that is being stopped shall fill the outputs.
        guides: how many pairs of landmarks Continue takes as guidance, instead of iterations.
    """

    missing: Optional[str]
    state: str = "idle"
    unchanged: bool = False
    iterations: int = 0
    keeping: bool = False
    guides: int = 0

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
        return Buttons(_("Cancel"), _("Discard the result after all and restore the scene."))
    if situation.state == "cancelling":
        return Buttons(_("Cancelling…"), _("The task is being stopped."), enabled=False)
    if situation.state == "starting":
        return Buttons(_("Cancel"), _("Stop and restore the scene."))
    if situation.state == "running":
        return Buttons(_("Cancel"), _("Stop and restore the scene."), second=_("Stop and keep result"),
                       secondTip=_("Stop and fill the outputs with the current result."))
    if situation.can_continue and situation.guides:
        return Buttons(_("Continue"), _("Pull the result to the pairs of landmarks ({count}); elsewhere it stays as it "
                                        "is.").format(count=situation.guides),
                       second=_("Start over"), secondTip=_("Register again from scratch."))
    if situation.can_continue:
        return Buttons(_("Continue"), _("Refine the result with {count} more iterations at the finest level.").format(
            count=situation.iterations), second=_("Start over"), secondTip=_("Register again from scratch."))
    if situation.missing is not None:
        return Buttons(_("Register"), situation.missing, enabled=False)
    return Buttons(_("Register"), _("Align the moving volume to the fixed volume."))


def missing(parameters: Any) -> Optional[str]:
    """What has to be chosen before a registration can start, one sentence, or None.

    Only what can be seen at once; voxels are looked at when the task starts.

    Args:
        parameters: the parameter node.
    """
    if parameters.guideByLandmarks and parameters.fixedLandmarks is None and parameters.movingLandmarks is None:
        return _("Choose the landmarks that guide the registration, or uncheck that box.")
    try:
        check(inputs(parameters), outputs(parameters))
    except NodeError as error:
        return str(error)
    return None


def inputs(parameters: Any) -> Inputs:
    """The chosen inputs."""
    role = "guide" if parameters.guideByLandmarks else "landmarks"
    return Inputs(
        parameters.fixedVolume, parameters.movingVolume, fixedMask=parameters.fixedMask,
        fixedSegment=parameters.fixedSegment or None, movingMask=parameters.movingMask,
        movingSegment=parameters.movingSegment or None, fixedExclude=parameters.fixedExclude,
        fixedExcludeSegment=parameters.fixedExcludeSegment or None, movingExclude=parameters.movingExclude,
        movingExcludeSegment=parameters.movingExcludeSegment or None, initialTransform=parameters.initialTransform,
        fixedLabels=parameters.fixedLabels, movingLabels=parameters.movingLabels,
        **{f"{role}Fixed": parameters.fixedLandmarks, f"{role}Moving": parameters.movingLandmarks})


def outputs(parameters: Any) -> Outputs:
    """The chosen outputs."""
    return Outputs(parameters.forwardTransform, parameters.inverseTransform, parameters.warpedVolume,
                   parameters.logJacobian, parameters.metricsTable, parameters.createOutputs,
                   parameters.gridSpacing or None)


def fingerprint(parameters: Any) -> tuple:
    """What a registration depends on: while it stays the same, the result can be continued, also to other landmarks."""
    chosen = [getattr(inputs(parameters), name) for name in Inputs.names()
              if not name.startswith(("landmarks", "guide"))]
    return (*(node.GetID() if hasattr(node, "GetID") else node for node in chosen), parameters.preset,
            parameters.options, parameters.gridSpacing)
