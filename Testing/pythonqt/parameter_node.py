"""Double of slicer.parameterNodeWrapper: typed parameters in a real vtkMRMLScriptedModuleNode, bound to widgets.

It takes the types that the panel uses and behaves as was measured: out of range raises ValueError, a value of another
type TypeError, WithinRange limits are pushed into the widgets. Slicer's own sources take its place where they are at
hand.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, Callable, Optional

import ctk
import qt
import slicer
import vtk

PROPERTY = "SlicerParameterName"


@dataclass(frozen=True)
class WithinRange:
    """Limits, both included."""

    minimum: float
    maximum: float

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass(frozen=True)
class Parameter:
    """One typed parameter of a class."""

    name: str
    kind: Any
    limits: Optional[WithinRange]
    default: Any

    @property
    def is_node(self) -> bool:
        return self.kind not in (bool, int, float, str)

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        if not node.HasParameter(self.name):
            return self.default
        text = node.GetParameter(self.name)
        return text == "True" if self.kind is bool else self.kind(text)

    def write(self, node: Any, value: Any) -> None:
        if self.is_node:
            self._check_node(value)
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")
        if self.limits is not None:
            self.limits.validate(value)
        node.SetParameter(self.name, str(value))

    def _check_node(self, value: Any) -> None:
        kinds = typing.get_args(self.kind) or (self.kind,)
        if value is not None and not isinstance(value, kinds):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}'")

    def classes(self) -> list[str]:
        kinds = typing.get_args(self.kind) or (self.kind,)
        return [kind.__name__ for kind in kinds if kind is not type(None)]


def parameterNodeWrapper(kind: Optional[type] = None) -> Any:
    """Class decorator: annotations become properties kept in the parameter node."""
    return _processed if kind is None else _processed(kind)


def _processed(kind: type) -> type:
    parameters = {}
    for name, annotated in typing.get_type_hints(kind, include_extras=True).items():
        plain, *notes = typing.get_args(annotated) if typing.get_origin(annotated) is typing.Annotated else (annotated,)
        limits = next((note for note in notes if isinstance(note, WithinRange)), None)
        simple = {bool: False, int: 0, float: 0.0, str: ""}
        parameters[name] = Parameter(name, plain, limits, getattr(kind, name, simple.get(plain)))
    for name, parameter in parameters.items():
        setattr(kind, name, property(lambda self, p=parameter: p.read(self.parameterNode),
                                     lambda self, value, p=parameter: p.write(self.parameterNode, value)))
    for name, value in vars(_Wrapper).items():
        if not name.startswith("__") or name == "__init__":
            setattr(kind, name, value)
    kind.allParameters = parameters
    return kind


class _Wrapper:
    """What a decorated class gets."""

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple] = {}
        self._updating = False
        for parameter in self.allParameters.values():
            if not parameter.is_node and not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)

    def connectGui(self, gui: Any) -> int:
        return self.connectParametersToGui({widget.property(PROPERTY): widget for widget in vars(gui).values()
                                            if widget.property(PROPERTY)})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = []
        for name, widget in mapping.items():
            parameter = self.allParameters[name]
            connector = connector_for(widget, parameter)
            connector.write(parameter.read(self.parameterNode))
            connector.listen(lambda c=connector, p=parameter: self._changed(c, p))
            connectors.append((connector, parameter))
        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update())
        self._guis[tag] = tuple(connectors)
        return tag

    def disconnectGui(self, tag: int) -> None:
        for connector, _ in self._guis.pop(tag, ()):
            connector.listen(None)
        self.RemoveObserver(tag)

    def _changed(self, connector: Connector, parameter: Parameter) -> None:
        if not self._updating:
            parameter.write(self.parameterNode, connector.read())

    def _update(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connectors in self._guis.values():
                for connector, parameter in connectors:
                    connector.write(parameter.read(self.parameterNode))
        finally:
            self._updating = False

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, modified: int) -> None:
        self.parameterNode.EndModify(modified)

    def Modified(self) -> None:
        self.parameterNode.Modified()


class Connector:
    """A widget as the place of a value: its property and the signal that tells of a change."""

    def __init__(self, widget: Any, name: str, signal: str) -> None:
        self.widget, self.name, self.signal, self.callback = widget, name, signal, None

    def read(self) -> Any:
        return self.widget.currentNode() if self.name == "currentNode" else getattr(self.widget, self.name)

    def write(self, value: Any) -> None:
        if self.name == "currentNode":
            self.widget.setCurrentNode(value)
        elif getattr(self.widget, self.name) != value:
            setattr(self.widget, self.name, value)

    def listen(self, callback: Optional[Callable]) -> None:
        if self.callback is not None:
            getattr(self.widget, self.signal).disconnect(self._tell)
        self.callback = callback
        if callback is not None:
            getattr(self.widget, self.signal).connect(self._tell)

    def _tell(self) -> None:
        if self.callback is not None:
            self.callback()


CONNECTORS = {(qt.QCheckBox, bool): ("checked", "stateChanged"), (qt.QPushButton, bool): ("checked", "toggled"),
              (qt.QSpinBox, int): ("value", "valueChanged"), (qt.QSlider, int): ("value", "valueChanged"),
              (qt.QDoubleSpinBox, float): ("value", "valueChanged"),
              (ctk.ctkSliderWidget, float): ("value", "valueChanged"), (qt.QLineEdit, str): ("text", "textChanged")}


def connector_for(widget: Any, parameter: Parameter) -> Connector:
    """How a widget holds a parameter.

    Raises:
        RuntimeError: Slicer has no connector for the two.
    """
    if parameter.is_node and type(widget) is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = parameter.classes()
        return Connector(widget, "currentNode", "currentNodeChanged")
    found = CONNECTORS.get((type(widget), parameter.kind))
    if found is None or (type(widget) in (qt.QSlider, ctk.ctkSliderWidget) and parameter.limits is None):
        raise RuntimeError(f"Unable to create GUI connector from datatype '{parameter.kind}' to widget type "
                           f"'{type(widget)}'.")
    if parameter.limits is not None:
        widget.minimum, widget.maximum = parameter.limits.minimum, parameter.limits.maximum
    return Connector(widget, *found)
