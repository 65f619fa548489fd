"""The module ``qt`` of Slicer, over PySide6."""

from __future__ import annotations

import ctypes
import os
import sys
import types
from functools import cache
from typing import Any, Callable

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from .enums import enum_member
from .facts import all_facts
from .signals import _adapter
from .ui_loader import UiLoader
from .wrapping import define


def application() -> QtWidgets.QApplication:
    """The one application of this process, without a screen."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    keep_singletons()
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(sys.argv[:1])


@cache
def keep_singletons() -> None:
    """Hold None, True and False with references to spare before Python 3.12.

    PySide6 6.12 is built for Pythons where these are immortal: each call that returns one of them gives away a
    reference that it never took, and after some thousand calls Python 3.11 would free None and abort.
    """
    if sys.version_info < (3, 12):
        for singleton in (None, True, False, NotImplemented):
            ctypes.c_ssize_t.from_address(id(singleton)).value += 1 << 40


class _Namespace:
    """``qt.Qt``: enums by their names."""

    def __getattr__(self, name: str) -> Any:
        for item in (QtCore.Qt, QtCore.Qt.AlignmentFlag):
            found = enum_member(item, name)
            if found is not None:
                return found
        raise AttributeError(f"type object 'Qt' has no attribute {name!r}")


class _Timer(QtCore.QTimer):
    """QTimer whose singleShot takes a callable and keeps quiet about what it raises, as PythonQt's does."""

    @staticmethod
    def singleShot(milliseconds: int, slot: Callable) -> None:
        QtCore.QTimer.singleShot(int(milliseconds), _adapter(slot, 0))


class _FileDialog(QtWidgets.QFileDialog):
    """QFileDialog whose questions are answered with a path alone, as PythonQt has it."""

    @staticmethod
    def getSaveFileName(*args: Any) -> str:
        return QtWidgets.QFileDialog.getSaveFileName(*args)[0]

    @staticmethod
    def getOpenFileName(*args: Any) -> str:
        return QtWidgets.QFileDialog.getOpenFileName(*args)[0]


_Timer.__name__, _FileDialog.__name__ = "QTimer", "QFileDialog"


def make_qt() -> types.ModuleType:
    """A module with the classes that contract.json lists for ``qt``."""
    application()
    module = types.ModuleType("qt", "A double of PythonQt's qt over PySide6.")
    special = {"QTimer": _Timer, "QUiLoader": UiLoader, "QFileDialog": _FileDialog}
    for name, facts in all_facts().items():
        if facts.module == "qt":
            native = special.get(name) or next(
                getattr(holder, name) for holder in (QtCore, QtGui, QtWidgets, QtUiTools) if hasattr(holder, name))
            setattr(module, name, define(name, native))
    module.Qt = _Namespace()
    return module
