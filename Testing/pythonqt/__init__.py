"""A test double of PythonQt, the Qt of 3D Slicer's Python, over PySide6.

    import pythonqt
    pythonqt.install()
    import qt

It offers the classes of contract.json and no more of them than a running Slicer does, and behaves as was measured there
(see test_pythonqt.py). What passes on it has not been shown to work in Slicer.

Measured in a running Slicer too, and not imitated, because there is no window:

- A new slice node is never fitted by itself, and a resized view keeps the height of what it shows and not the width. So
  the module fits its views again when they have their sizes (test_mrml_review.py).
- Drawing the views takes time of the window's own thread, half a second and more through a transform, and none of it in
  Python. So previews follow the lateness of a timer (test_drawing_time.py).
- The module panel becomes as narrow as its open sections allow (test_panel_picture.py).
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
