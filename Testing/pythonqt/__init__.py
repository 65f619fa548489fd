"""A test double of PythonQt, the Qt of 3D Slicer's Python, over PySide6.

    import pythonqt
    pythonqt.install()
    import qt

It offers the classes of contract.json and no more of them than a running Slicer does, and behaves as was measured there
(see test_pythonqt.py). What passes on it has not been shown to work in Slicer.
"""

from __future__ import annotations

import sys

from .signals import slot_errors

__all__ = ["install", "slot_errors"]


def install() -> None:
    """Make ``import qt`` find the double, once per process; there is no screen and no window shows.

    What slicer-core lacks of ``slicer`` comes with ``pythonqt.slicer_module.running_slicer``, and goes with it.
    """
    if "qt" not in sys.modules:
        from .qt_module import make_qt
        sys.modules["qt"] = make_qt()
