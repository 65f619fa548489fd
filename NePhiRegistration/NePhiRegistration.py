"""NePhi registration: deformable registration with neural deformation fields, as a module of 3D Slicer.

What is here is thin: the module, its parameters, its panel and its logic put together. The panel's pieces are in
``NePhiRegistrationLib.panel``, what runs a registration in ``NePhiRegistrationLib.session.logic``.
"""

import logging
import os
import runpy
from typing import Annotated, Any, Optional, Union

import slicer
import vtk
from NePhiRegistrationLib.session.logic import RegistrationLogic
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
    vtkMRMLTableNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

logger = logging.getLogger(__name__)


class NePhiRegistration(ScriptedLoadableModule):
    """What the module says of itself."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("NePhi Registration")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["NePhi registration contributors"]
        self.parent.helpText = _(
            "Brings a moving volume onto a fixed one with neural deformation fields: one field for each direction, so "
            "that every result comes with its inverse. Choose two volumes and press Register."
        ) + self.getDefaultModuleDocumentationLink()
        self.parent.acknowledgementText = _(
            "The method is NePhi: Neural Deformation Fields for Approximately Diffeomorphic Medical Image "
            "Registration, L. Tian, H. Greer, R. San José Estépar, R. Sengupta, M. Niethammer, ECCV 2024.")
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerLayout)

    def setup(self) -> None:
        """Slicer has made the module: let its logic be used from the Python console."""
        from NePhiRegistrationLib.panel.console_logic import add_methods

        add_methods(self.parent.logic(), NePhiRegistrationLogic)


def registerSampleData() -> None:
    """Offer a brain pair and a made-up lung pair in the Sample Data module."""
    from NePhiRegistrationLib.panel.sample_data import register

    register(os.path.join(os.path.dirname(__file__), "Resources", "Icons"))


def registerLayout() -> None:
    """Describe the layout fixed | warped | overlay, so that a scene that was saved with it can be opened."""
    from NePhiRegistrationLib.mrml import slice_views

    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is not None:
        slice_views.register_layout(layout)


@parameterNodeWrapper
class NePhiRegistrationParameterNode:
    """What the user chose; it is saved with the scene.

    fixedSegment, movingSegment - the id of the segment that is the mask; empty for all visible ones.
    fixedExcludeSegment, movingExcludeSegment - the same for what is excluded.
    guideByLandmarks - landmarks pull the registration instead of judging it.
    createOutputs - make the outputs that are not chosen.
    preset - the name of a file in Resources/Presets; options - what differs from it, as JSON.
    gridSpacing - of the displacement grids, mm; 0 lets the worker choose.
    seriesReference - "frame" (the one with the number seriesFrame, from 1), "mean" or "previous".
    """

    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    fixedMask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]
    movingMask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]
    fixedSegment: str = ""
    movingSegment: str = ""
    fixedExclude: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]
    movingExclude: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]
    fixedExcludeSegment: str = ""
    movingExcludeSegment: str = ""
    initialTransform: vtkMRMLTransformNode
    fixedLandmarks: vtkMRMLMarkupsFiducialNode
    movingLandmarks: vtkMRMLMarkupsFiducialNode
    guideByLandmarks: bool = False
    fixedLabels: vtkMRMLSegmentationNode
    movingLabels: vtkMRMLSegmentationNode
    preset: str = "generic"
    options: str = ""
    forwardTransform: vtkMRMLTransformNode
    inverseTransform: vtkMRMLTransformNode
    warpedVolume: vtkMRMLScalarVolumeNode
    logJacobian: vtkMRMLScalarVolumeNode
    metricsTable: vtkMRMLTableNode
    createOutputs: bool = True
    gridSpacing: Annotated[float, WithinRange(0.0, 50.0)] = 0.0
    continueIterations: Annotated[int, WithinRange(1, 10000)] = 30
    seriesSequence: vtkMRMLSequenceNode
    seriesReference: str = "frame"
    seriesFrame: Annotated[int, WithinRange(1, 10000)] = 1
    seriesMask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]
    seriesPoints: vtkMRMLMarkupsFiducialNode
    seriesPointsFrame: Annotated[int, WithinRange(1, 10000)] = 1
    seriesSmoothness: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    seriesCycle: bool = False
    seriesTransforms: bool = True
    seriesWarped: bool = True


class NePhiRegistrationLogic(RegistrationLogic, ScriptedLoadableModuleLogic):
    """Registers, from the panel or from a script; see :class:`NePhiRegistrationLib.session.logic.RegistrationLogic`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        RegistrationLogic.__init__(self)

    def getParameterNode(self) -> NePhiRegistrationParameterNode:
        """The parameters of this module in the scene."""
        return NePhiRegistrationParameterNode(super().getParameterNode())

    def startFrom(self, parameters: NePhiRegistrationParameterNode) -> Any:
        """Start a registration with what is chosen; the task.

        Raises:
            ValueError: a choice that cannot be, one sentence.
        """
        from NePhiRegistrationLib.panel import options_form, run_button

        return self.start(run_button.inputs(parameters), run_button.outputs(parameters), parameters.preset,
                          options_form.read_changes(parameters.options))

    def exportFrom(self, parameters: NePhiRegistrationParameterNode, path: str) -> str:
        """Add what is chosen to a table for 'nephi batch'; the id of its row.

        Raises:
            ValueError: a choice that cannot be, one sentence.
            OSError: the table cannot be read or written.
        """
        from NePhiRegistrationLib.panel import options_form, run_button
        from NePhiRegistrationLib.session.batch_row import append_row

        return append_row(path, run_button.inputs(parameters), parameters.preset,
                          options_form.read_changes(parameters.options))


class NePhiRegistrationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: loads the .ui file, gives its pieces the parameter node and the scene's events."""

    def __init__(self, parent: Optional[Any] = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        """Called when the user opens the module for the first time."""
        from NePhiRegistrationLib.panel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/NePhiRegistration.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = NePhiRegistrationLogic()
        self.panel = Panel(self.ui, self.logic, lambda: self._parameterNode)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the module is reloaded or the application closes."""
        self.setParameterNode(None)
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
        if self.logic is not None:
            self.logic.close()

    def enter(self) -> None:
        """Called each time the user opens this module: the worker gets ready while they choose."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self) -> None:
        """Called each time the user opens another module; a running task goes on."""
        self.setParameterNode(None, keep=True)

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        """The scene is about to be closed: nothing of it may be used any more."""
        self.setParameterNode(None)
        self.panel.forget()

    def onSceneEndClose(self, _caller: Any, _event: Any) -> None:
        """The scene is empty."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller: Any, _event: Any) -> None:
        """A scene was read; its parameter node may have taken the place of ours."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Make sure that there is a parameter node, and show it."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: Optional[NePhiRegistrationParameterNode], keep: bool = False) -> None:
        """Show a parameter node and follow its changes, or stop doing so.

        Args:
            parameterNode: None to stop.
            keep: go on knowing the node that is no longer shown, for a task that is still running.
        """
        if self._parameterNode is not None and self._parameterNodeGuiTag is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        if not keep:
            self._parameterNode = parameterNode
        if parameterNode is not None:
            self._parameterNodeGuiTag = parameterNode.connectParametersToGui(self._boundWidgets())
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.onParametersModified()

    def _boundWidgets(self) -> dict:
        """Parameter -> the widget that the .ui file binds to it; connectGui of Slicer 5.8 does not return its tag."""
        found = ((widget.property("SlicerParameterName"), widget) for widget in vars(self.ui).values())
        return {name: widget for name, widget in found if name}

    def onParametersModified(self, _caller: Optional[Any] = None, _event: Optional[Any] = None) -> None:
        """The user, or a script, chose something."""
        if self.panel is not None:
            self.panel.update()


class NePhiRegistrationTest(ScriptedLoadableModuleTest):
    """Registers the made-up lung pair inside Slicer; see Testing/Python for what it checks."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self, **_kwargs: Any) -> None:
        """Run all scenarios; each prints what it checked."""
        self.setUp()
        scenarios = os.path.join(os.path.dirname(__file__), "Testing", "Python", "NePhiRegistrationScenarios.py")
        runpy.run_path(scenarios)["run"](NePhiRegistrationLogic)
