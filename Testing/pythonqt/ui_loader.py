"""QUiLoader that knows the CTK and MRML widgets, and that refuses what Slicer's widgets do not have."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from .facts import all_facts

# What the .ui format knows besides the widgets' own properties.
FORMAT_WORDS = {"buddy"}
stand_ins: dict[str, type] = {}


class UiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file; connections between widgets are made here, since Qt cannot name Python's signals."""

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> QtWidgets.QWidget:
        if name not in stand_ins:
            return super().createWidget(name, parent, object_name)
        widget = stand_ins[name](parent)
        widget.setObjectName(object_name)
        return widget

    def load(self, file: QtCore.QFile, parent: Any = None) -> QtWidgets.QWidget:
        tree = ElementTree.fromstring(bytes(file.readAll().data()))
        check(tree)
        connections = tree.find("connections")
        if connections is not None:
            tree.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        for item in connections if connections is not None else ():
            sender, receiver = (_named(widget, item.findtext(role)) for role in ("sender", "receiver"))
            signal, slot = (item.findtext(role).partition("(")[0] for role in ("signal", "slot"))
            getattr(sender, signal).connect(getattr(receiver, slot))
        return widget


UiLoader.__name__ = "QUiLoader"


def check(tree: ElementTree.Element) -> None:
    """Every class, property, signal and slot of a .ui file must be one that Slicer has.

    Raises:
        AttributeError: it is not.
    """
    facts = all_facts()
    classes = {widget.get("name"): widget.get("class") for widget in tree.iter("widget")}
    for widget in tree.iter("widget"):
        kind = widget.get("class")
        if kind not in facts:
            raise AttributeError(f"The widget {widget.get('name')} is a {kind}, which contract.json does not list")
        for item in widget.findall("property"):
            known = item.get("name") in facts[kind].properties or item.get("name") in FORMAT_WORDS
            if not known and item.get("stdset") != "0":
                raise AttributeError(f"{kind} has no property {item.get('name')!r} ({widget.get('name')})")
    for connection in tree.iter("connection"):
        sender, receiver = (facts[classes[connection.findtext(role)]] for role in ("sender", "receiver"))
        if connection.findtext("signal") not in sender.signals:
            raise AttributeError(f"{sender.name} has no signal {connection.findtext('signal')}")
        if connection.findtext("slot").partition("(")[0] not in receiver.methods:
            raise AttributeError(f"{receiver.name} has no slot {connection.findtext('slot')}")


def _named(root: QtWidgets.QWidget, name: str) -> QtCore.QObject:
    return root if root.objectName() == name else root.findChild(QtCore.QObject, name)
