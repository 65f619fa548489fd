"""Stand-ins of the CTK and MRML widgets that the panel uses: PySide6 widgets that look and behave enough like them."""

from __future__ import annotations

from typing import Any, Optional

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


class CollapsibleButton(QtWidgets.QAbstractButton):
    """ctkCollapsibleButton: a heading with an arrow that hides what is below it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self._collapsed, self._height = False, 10
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._heading() + 2, 0, 0)
        self.toggled.connect(lambda checked: self._collapse(not checked))

    def _heading(self) -> int:
        return self.fontMetrics().height() + 6

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not collapsed)
        self.setMaximumHeight(self._heading() + 6 if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, _collapse)
    collapsedHeight = Property(int, lambda self: self._height, lambda self, value: setattr(self, "_height", value))
    flat = Property(bool, lambda self: False, lambda self, value: None)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._heading()

    def sizeHint(self) -> QtCore.QSize:
        hint = self.layout().totalSizeHint() if self.layout() else QtCore.QSize(80, 0)
        return QtCore.QSize(hint.width(), self._heading() + 6) if self._collapsed else hint

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint()

    def paintEvent(self, _event: Any) -> None:
        painter, style, heading = QtGui.QPainter(self), QtWidgets.QStyleOption(), self._heading()
        button = QtWidgets.QStyleOptionButton()
        button.initFrom(self)
        button.rect = QtCore.QRect(0, 0, self.width(), heading)
        self.style().drawPrimitive(QtWidgets.QStyle.PE_PanelButtonCommand, button, painter, self)
        style.initFrom(self)
        style.rect = QtCore.QRect(8, heading // 2 - 5, 10, 10)
        arrow = QtWidgets.QStyle.PE_IndicatorArrowRight if self._collapsed else QtWidgets.QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(arrow, style, painter, self)
        painter.drawText(QtCore.QRect(24, 0, self.width() - 24, heading), QtCore.Qt.AlignVCenter, self.text())
        if not self._collapsed:
            painter.setPen(self.palette().color(QtGui.QPalette.Mid))
            painter.drawRect(0, heading, self.width() - 1, self.height() - heading - 1)


class CollapsibleGroupBox(QtWidgets.QGroupBox):
    """ctkCollapsibleGroupBox: a group box whose check mark is an arrow."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self._height = 14
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._show)

    def _show(self, open_: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(open_)
        self.setMaximumHeight(16777215 if open_ else self.fontMetrics().height() + 8)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        if event.added() and isinstance(event.child(), QtWidgets.QWidget) and not self.isChecked():
            event.child().hide()

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))
    collapsedHeight = Property(int, lambda self: self._height, lambda self, value: setattr(self, "_height", value))


class SliderWidget(QtWidgets.QWidget):
    """ctkSliderWidget: a slider beside a spin box."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider, self._box = QtWidgets.QSlider(QtCore.Qt.Horizontal, self), QtWidgets.QDoubleSpinBox(self)
        self._slider.setObjectName("Slider")
        self._box.setObjectName("SpinBox")
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._slider.setRange(0, 1000)
        self._box.setRange(0.0, 99.0)
        self._page, self._quiet = 10.0, False
        self._slider.valueChanged.connect(self._slid)
        self._box.valueChanged.connect(self._typed)

    def _slid(self, position: int) -> None:
        if not self._quiet:
            low, high = self._box.minimum(), self._box.maximum()
            self._box.setValue(low + (high - low) * position / 1000)

    def _typed(self, value: float) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._quiet = True
        self._slider.setValue(round(1000 * (value - low) / (high - low)) if high > low else 0)
        self._quiet = False
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def reset(self) -> None:
        self._box.setValue(0.0)

    value = Property(float, lambda self: self._box.value(), setValue)
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    pageStep = Property(float, lambda self: self._page, lambda self, value: setattr(self, "_page", value))
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, value: self._box.setDecimals(value))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, value: self._box.setSuffix(value))
    prefix = Property(str, lambda self: self._box.prefix(), lambda self, value: self._box.setPrefix(value))
    tracking = Property(bool, lambda self: self._slider.hasTracking(), lambda self, v: self._slider.setTracking(v))


class MRMLWidget(QtWidgets.QWidget):
    """qMRMLWidget: hands its scene on."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class ModuleWidget(MRMLWidget):
    """qSlicerScriptedLoadableModuleWidget: the parent of a module's panel; the harness gives it the Python side."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        QtWidgets.QVBoxLayout(self)
        self.python: Any = None
        self.make: Any = None
        self._entered = False

    isEntered = Property(bool, lambda self: self._entered)
    moduleName = Property(str, lambda self: type(self.python).__name__[:-len("Widget")])

    def self(self) -> Any:
        return self.python

    def enter(self) -> None:
        self._entered = True
        self.python.enter()

    def exit(self) -> None:
        self._entered = False
        self.python.exit()

    def reload(self) -> None:
        self.python = self.make()
        self.python.setup()


class ModuleManager(QtCore.QObject):
    """qSlicerModuleManager: knows the modules that the harness made."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        return self.modules.get(name)

    def modulesNames(self) -> list[str]:
        return sorted(self.modules)
