"""Double of slicer.ScriptedLoadableModule: the four base classes of a scripted module."""

from __future__ import annotations

import os
import unittest
from typing import Any, Optional

import qt
import slicer

__all__ = ["ScriptedLoadableModule", "ScriptedLoadableModuleLogic", "ScriptedLoadableModuleTest",
           "ScriptedLoadableModuleWidget"]


class ScriptedLoadableModule:
    """What a module says of itself."""

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies = "", [], []
        icon = self.resourcePath(f"Icons/{self.moduleName}.png")
        if os.path.isfile(icon):
            parent.icon = qt.QIcon(icon)

    def resourcePath(self, name: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)

    def getDefaultModuleDocumentationLink(self) -> str:
        return f'<a href="{slicer.app.moduleDocumentationUrl(self.moduleName)}">online documentation</a>'


class ScriptedLoadableModuleWidget:
    """The panel of a module."""

    def __init__(self, parent: Optional[Any] = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__[:-len("Widget")]
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, name: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", name)

    def setup(self) -> None:
        """Nothing: the developer's section is not imitated."""

    def cleanup(self) -> None:
        """Modules override this."""

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """The logic of a module: one parameter node in the scene."""

    def __init__(self, parent: Optional[Any] = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__[:-len("Logic")]
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node:
            node.SetAttribute("ModuleName", self.moduleName)
            return node
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The test of a module, run inside Slicer."""

    def delayDisplay(self, message: str, requestedDelay: Optional[int] = None, msec: Optional[int] = None) -> None:
        """There is nobody to wait for."""
