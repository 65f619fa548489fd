"""A slice view of Slicer without a window: its slice logic and displayable managers, drawn off screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from mrml_scene import at_end
from vtk.util import numpy_support

MANAGERS = ("vtkMRMLTransformsDisplayableManager2D", "vtkMRMLMarkupsDisplayableManager",
            "vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLColorLegendDisplayableManager")


class SliceView:
    """One slice view.

    Args:
        name: the layout name, for instance "Red".
        orientation: "Axial", "Sagittal" or "Coronal".
        size: pixels (width, height).
    """

    def __init__(self, name: str = "Red", orientation: str = "Axial", size: tuple[int, int] = (420, 420)) -> None:
        scene = slicer.mrmlScene
        self.logics = slicer.vtkMRMLApplicationLogic()
        self.logics.SetMRMLScene(scene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(self.logics)
        self.logic.SetMRMLScene(scene)
        self.node = self.logic.AddSliceNode(name)
        logics = vtk.vtkCollection()
        logics.AddItem(self.logic)
        self.logics.SetSliceLogics(logics)  # where a colour legend looks for what the view shows
        self.composite = self.logic.GetSliceCompositeNode()
        self.node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(*size)
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetSize(*size)
        self.window.SetMultiSamples(0)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.mapper = self._draw_slice()
        self.managers = self._add_managers()
        at_end(self.close)

    def close(self) -> None:
        """Let go of the scene."""
        self.managers.SetMRMLDisplayableNode(None)
        self.managers.SetRenderer(None)
        self.managers = None
        self.logic.SetMRMLScene(None)
        self.logics.SetMRMLScene(None)
        self.window.Finalize()

    def fit(self, zoom: float = 1.0) -> None:
        """Show all of the background volume, or its middle, enlarged."""
        self.logic.FitSliceToBackground(*self.window.GetSize())
        x, y, z = self.node.GetFieldOfView()
        self.node.SetFieldOfView(x / zoom, y / zoom, z)
        self.logic.SnapSliceOffsetToIJK()

    def pixels(self) -> np.ndarray:
        """What the view shows, (height, width, 3) uint8, the first row at the top."""
        self.mapper.SetInputConnection(self.logic.GetImageDataConnection())  # another one with each set of layers
        self.window.Render()
        reader = vtk.vtkWindowToImageFilter()
        reader.SetInput(self.window)
        reader.SetInputBufferTypeToRGB()
        reader.ReadFrontBufferOff()
        reader.Update()
        image = reader.GetOutput()
        width, height, _ = image.GetDimensions()
        values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return values[::-1, :, :3].copy()

    def pixel_of(self, ras: np.ndarray) -> tuple[int, int]:
        """The (row, column) at which a RAS point is drawn."""
        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), matrix)
        x, y = matrix.MultiplyPoint((*ras, 1.0))[:2]
        return self.window.GetSize()[1] - 1 - round(y), round(x)

    def _draw_slice(self) -> vtk.vtkImageMapper:
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)
        return mapper

    def _add_managers(self):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(self.logics)
        for name in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        group = factory.InstantiateDisplayableManagers(self.renderer)
        group.SetMRMLDisplayableNode(self.node)
        return group


def save_picture(pixels: np.ndarray, path: Path) -> None:
    """Write (height, width, 3) uint8 as a PNG file."""
    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    scalars = numpy_support.numpy_to_vtk(np.ascontiguousarray(pixels[::-1]).reshape(-1, 3), deep=True)
    image.GetPointData().SetScalars(scalars)
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
