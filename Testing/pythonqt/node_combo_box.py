"""Stand-in of qMRMLNodeComboBox: the nodes of a real scene, by their class."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar, Optional

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

SCENE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent", "EndBatchProcessEvent")


# A scene tells its observers when it dies; those that the garbage collector is taking apart must not be among them.
observing: weakref.WeakSet = weakref.WeakSet()


def stop_observing() -> None:
    """Let go of all scenes."""
    for combo in list(observing):
        combo._unobserve()


def kept(name: str, kind: type, default: Any) -> Property:
    """A property that is only remembered."""
    return Property(kind, lambda self: self._kept.get(name, default), lambda self, v: self._kept.update({name: v}))


class NodeComboBox(QtWidgets.QWidget):
    """Shows and selects nodes; the selection follows the scene when a node goes."""

    currentNodeChanged = Signal(object)
    currentNodeIsSet = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)
    overloads: ClassVar[dict[str, str]] = {"currentNodeChanged(bool)": "currentNodeIsSet"}

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self._kept: dict[str, Any] = {}
        self._scene, self._tags, self._types, self._current = None, [], [], None
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout.addWidget(self._combo)
        self.setFocusProxy(self._combo)
        self._combo.activated.connect(self._activated)

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._update()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    noneEnabled = kept("noneEnabled", bool, False)
    addEnabled = kept("addEnabled", bool, True)
    removeEnabled = kept("removeEnabled", bool, True)
    editEnabled = kept("editEnabled", bool, False)
    renameEnabled = kept("renameEnabled", bool, False)
    showHidden = kept("showHidden", bool, False)
    showChildNodeTypes = kept("showChildNodeTypes", bool, True)
    selectNodeUponCreation = kept("selectNodeUponCreation", bool, True)
    baseName = kept("baseName", str, "")
    noneDisplay = kept("noneDisplay", str, "None")
    currentNodeID = Property(str, lambda self: self._current.GetID() if self._current else "",
                             lambda self, value: self.setCurrentNode(self._scene.GetNodeByID(value) if value else None))
    hideChildNodeTypes = Property("QStringList", lambda self: self._kept.get("hideChildNodeTypes", []),
                                  lambda self, value: self._kept.update(hideChildNodeTypes=list(value)))

    def setMRMLScene(self, scene: Any) -> None:
        self._unobserve()
        self._scene = scene
        if scene is not None:
            self._tags = [scene.AddObserver(getattr(scene, name), lambda *_: self._update()) for name in SCENE_EVENTS]
            observing.add(self)
        self._update()

    def _unobserve(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def mrmlScene(self) -> Any:
        return self._scene

    def nodeCount(self) -> int:
        return len(self._nodes())

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node)
        wanted = node if node in self._nodes() else None
        if wanted is not self._current:
            self._current = wanted
            self._show()
            self.currentNodeChanged.emit(wanted)
            self.currentNodeIsSet.emit(wanted is not None)
            self.currentNodeIDChanged.emit(wanted.GetID() if wanted else "")

    def addNode(self, node_class: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(node_class or self._types[0], self._kept.get("baseName", ""))
        self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def _nodes(self) -> list[Any]:
        if self._scene is None or self._scene.IsClosing():
            return []
        every = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        return [node for node in every if self._shows(node)]

    def _shows(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._kept.get("showHidden"):
            return False
        if not self._kept.get("showChildNodeTypes", True):
            return node.GetClassName() in self._types
        hidden = self._kept.get("hideChildNodeTypes", [])
        return any(node.IsA(kind) for kind in self._types) and not any(node.IsA(kind) for kind in hidden)

    def _update(self) -> None:
        nodes = self._nodes()
        if self._current is not None and self._current not in nodes:
            self.setCurrentNode(None)
        if self._current is None and nodes and not self._kept.get("noneEnabled"):
            self.setCurrentNode(nodes[0])
        self._show()

    def _show(self) -> None:
        self._combo.clear()
        if self._kept.get("noneEnabled") or not self._nodes():
            self._combo.addItem(self._kept.get("noneDisplay", "None"), "")
        for node in self._nodes():
            self._combo.addItem(node.GetName(), node.GetID())
        self._combo.setCurrentIndex(self._combo.findData(self._current.GetID() if self._current else ""))

    def _activated(self, index: int) -> None:
        identifier = self._combo.itemData(index)
        self.setCurrentNode(self._scene.GetNodeByID(identifier) if identifier else None)
        self.nodeActivated.emit(self._current)

    def changeEvent(self, event: QtCore.QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QtCore.QEvent.EnabledChange:
            self._combo.setEnabled(self.isEnabled())
