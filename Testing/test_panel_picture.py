"""The panel as people see it, drawn without a screen; NEPHI_PICTURES=1 keeps the picture for the docs."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from panel_case import Opened
from PySide6 import QtWidgets

pytest_plugins = ["panel_fixture"]

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images" if os.environ.get("NEPHI_PICTURES") else None
WIDTH = 440


def run_to_the_end(opened: Opened) -> None:
    """A registration as the panel saw it, with a loss that falls in every level."""
    opened.choose_pair()
    task = opened.press()
    for level in (1, 2, 3):
        for step in range(40):
            loss = 0.45 / level + 0.5 * math.exp(-step / 9) / level + 0.01 * math.sin(3 * step)
            task.run(step, phase=f"level {level}/3", steps=40, loss=loss)
    task.finish()


def drawn(opened: Opened) -> QtWidgets.QWidget:
    native = opened.widget.parent._q
    native.show()
    for _ in range(3):  # layouts settle from the inside out
        QtWidgets.QApplication.processEvents()
        native.resize(WIDTH, native.layout().totalSizeHint().height())
    QtWidgets.QApplication.processEvents()
    return native


def test_the_panel_fits_its_width_and_shows_the_curve_the_numbers_and_the_histogram(opened, tmp_path):
    drawn(opened)
    run_to_the_end(opened)
    native = drawn(opened)
    assert native.width() == WIDTH
    wide = native.minimumSizeHint().width()
    picture = native.grab()
    assert picture.save(str((PICTURES or tmp_path) / "panel.png"))
    assert wide <= WIDTH
    for label in (opened.ui.lossLabel, opened.ui.histogramLabel):
        image = label._q.pixmap().toImage()
        colors = {image.pixel(x, y) for x in range(image.width()) for y in range(image.height())}
        assert len(colors) > 3
