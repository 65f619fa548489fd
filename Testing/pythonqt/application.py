"""Stand-ins of Slicer's application, its layout and its modules."""

from __future__ import annotations

import tempfile
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .widgets import ModuleManager, ModuleWidget


class CommandOptions(QtCore.QObject):
    """qSlicerCommandOptions of ``Slicer --testing``, with ``--no-main-window`` until a test says otherwise."""

    window = False
    testingEnabled = Property(bool, lambda self: True)
    noMainWindow = Property(bool, lambda self: not self.window)


class LayoutManager(QtCore.QObject):
    """qSlicerLayoutManager: remembers which layout was asked for; there are no views."""

    layoutChanged = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._layout = 3

    def setLayout(self, layout: int) -> None:
        self._layout = int(layout)
        self.layoutChanged.emit(self._layout)

    layout = Property(int, lambda self: self._layout, setLayout)

    def sliceViewNames(self) -> tuple:
        return ("Red", "Green", "Yellow")

    def resetSliceViews(self) -> None:
        """There is no view."""


class Application(QtCore.QObject):
    """qSlicerApplication, as far as scripted modules touch it."""

    startupCompleted = Signal()
    aboutToQuit = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._manager, self._options, self._layouts = ModuleManager(), CommandOptions(), LayoutManager()
        self._folder = tempfile.TemporaryDirectory()
        self._settings = QtCore.QSettings(f"{self._folder.name}/Slicer.ini", QtCore.QSettings.IniFormat)
        self.opened: list[Any] = []

    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/")
    temporaryPath = Property(str, lambda self: self._folder.name)

    def moduleManager(self) -> ModuleManager:
        return self._manager

    def commandOptions(self) -> CommandOptions:
        return self._options

    def layoutManager(self) -> LayoutManager:
        return self._layouts

    def settings(self) -> QtCore.QSettings:
        return self._settings

    userSettings = settings

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def testingEnabled(self) -> bool:
        return True

    def translate(self, _context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/modules/{name.lower()}.html"

    def topLevelWidgets(self) -> list:
        return [widget for widget in QtWidgets.QApplication.topLevelWidgets() if widget.objectName()]

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()

    def launchDesigner(self, arguments: list) -> None:
        self.opened.append(arguments)


class Module(QtCore.QObject):
    """qSlicerScriptedLoadableModule: what a module says of itself."""

    def __init__(self, name: str, path: str, logic: Any) -> None:
        super().__init__()
        self._said: dict[str, Any] = {"name": name, "path": path}
        self._logic, self._widget = logic, ModuleWidget()

    name = Property(str, lambda self: self._said["name"])
    path = Property(str, lambda self: self._said["path"])

    def widgetRepresentation(self) -> ModuleWidget:
        return self._widget

    def logic(self) -> Any:
        return self._logic


def _said(name: str, kind: Any, default: Any) -> Property:
    return Property(kind, lambda self: self._said.get(name, default), lambda self, v: self._said.update({name: v}))


def _with_words(kind: type) -> type:
    """The module with the properties that its Python side fills in."""
    body = {name: _said(name, str, "") for name in ("title", "helpText", "acknowledgementText")}
    body |= {name: _said(name, "QStringList", []) for name in ("categories", "dependencies", "contributors")}
    body |= {"icon": _said("icon", QtGui.QIcon, QtGui.QIcon()), "hidden": _said("hidden", bool, False)}
    return type("Module", (kind,), body)


Module = _with_words(Module)
