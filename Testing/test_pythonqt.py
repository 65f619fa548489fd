"""The test double of PythonQt behaves as a running Slicer was measured to, probe by probe."""

from __future__ import annotations

import sys
import time
from typing import Callable

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed")

import pythonqt

pythonqt.install()
import qt  # noqa: E402


@pytest.fixture(autouse=True)
def no_slot_errors():
    pythonqt.slot_errors.clear()
    yield
    pythonqt.slot_errors.clear()


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        qt.QCoreApplication.processEvents()
        time.sleep(0.001)
    return condition()


def test_a_property_is_a_value_and_calling_it_raises_type_error():
    button = qt.QPushButton("Go")
    assert button.text == "Go"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()
    button.setText("x")
    assert button.text == "x"
    button.text = "y"
    assert button.text == "y"
    assert (button.enabled, button.isEnabled()) == (True, True)


def test_an_unknown_attribute_raises_when_read_and_when_written():
    button = qt.QPushButton("Go")
    with pytest.raises(AttributeError, match="'txet' does not exist on QPushButton and creating new attributes"):
        button.txet = "z"
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'nosuch'"):
        button.nosuch  # noqa: B018
    with pytest.raises(AttributeError):
        qt.QWidget()._x = 1
    with pytest.raises(AttributeError):
        qt.QPushButton.nosuch  # noqa: B018


def test_keyword_arguments_are_refused_in_constructors_and_methods():
    with pytest.raises(ValueError, match="does not support kwargs"):
        qt.QPushButton(parent=None)
    with pytest.raises(ValueError, match="does not support kwargs"):
        qt.QPushButton().setText(text="x")


def test_an_int_property_refuses_a_string_and_cuts_a_float():
    bar = qt.QProgressBar()
    with pytest.raises(AttributeError, match="Property 'value' of type 'int' does not accept an object of type str"):
        bar.value = "abc"
    bar.value = 3.7
    assert bar.value == 3
    with pytest.raises(AttributeError, match="cannot be written"):
        bar.text = "50 %"


def test_signals_connect_by_signature_and_by_name_and_pass_what_the_slot_takes():
    button, hits = qt.QPushButton("Go"), []
    assert button.connect("clicked()", lambda: hits.append("none")) is True
    assert button.connect("clicked(bool)", lambda checked: hits.append(("bool", checked))) is True
    assert button.clicked.connect(lambda *args: hits.append(("all", args))) is True
    assert button.clicked.connect(lambda: hits.append("by name")) is True
    button.click()
    assert hits == ["none", ("bool", False), ("all", (False,)), "by name"]


def test_a_wrong_signature_prints_a_line_and_returns_false(capsys):
    button = qt.QPushButton("Go")
    assert button.connect("nosuch()", print) is False
    assert button.connect("clicked(int)", print) is False
    assert "no signal clicked(int)" in capsys.readouterr().out


def test_an_exception_in_a_slot_is_printed_and_kept_for_the_test_to_see(capsys):
    button = qt.QPushButton("Go")
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert [type(error) for error in pythonqt.slot_errors] == [ZeroDivisionError]


def test_a_connection_keeps_a_bound_methods_owner_and_a_fresh_one_disconnects_it():
    class Owner:
        hits = 0

        def slot(self):
            Owner.hits += 1

    button = qt.QPushButton("Go")
    button.clicked.connect(Owner().slot)
    button.click()
    assert Owner.hits == 1
    owner = Owner()
    button.connect("clicked()", owner.slot)
    assert button.disconnect("clicked()", owner.slot) is True
    button.click()
    assert Owner.hits == 2


def test_isinstance_does_not_follow_qt_inheritance():
    button = qt.QPushButton("Go")
    assert isinstance(button, qt.QPushButton)
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget")
    assert type(button) == qt.QPushButton  # noqa: E721


def test_children_come_back_as_the_same_objects_in_a_tuple():
    parent = qt.QWidget()
    child = qt.QPushButton("kid", parent)
    child.objectName = "kid"
    assert child.name == "kid"
    assert parent.findChild(qt.QPushButton, "kid") is child
    assert parent.findChildren(qt.QPushButton) == (child,)
    assert parent.children() == (child,)


def test_a_deleted_object_raises_value_error_and_is_false():
    button = qt.QPushButton("Go")
    button.delete()
    with pytest.raises(ValueError, match="Trying to read property 'text' from a destroyed QPushButton object"):
        button.text  # noqa: B018
    with pytest.raises(ValueError, match="Trying to call 'setText' on a destroyed QPushButton object"):
        button.setText("x")
    assert not button


def test_enums_are_integers_with_the_name_of_their_kind():
    assert (qt.Qt.AlignLeft, type(qt.Qt.AlignLeft).__name__) == (1, "AlignmentFlag")
    assert qt.Qt.AlignLeft | qt.Qt.AlignTop == 33
    assert qt.QSizePolicy.Expanding == 7


def test_a_python_subclass_takes_attributes_and_overrides_virtual_functions():
    class Painted(qt.QWidget):
        def __init__(self):
            qt.QWidget.__init__(self)
            self.paints = 0

        def paintEvent(self, event):
            self.paints += 1
            super().paintEvent(event)

    widget = Painted()
    widget.grab()
    assert widget.paints == 1
    assert not pythonqt.slot_errors


def test_a_combo_box_keeps_data_of_python():
    combo = qt.QComboBox()
    combo.addItem("a", 1)
    combo.addItem("b", {"k": 2})
    assert (combo.count, combo.currentIndex, combo.currentText, combo.currentData) == (2, 0, "a", 1)
    assert (combo.itemData(1), combo.findData(1)) == ({"k": 2}, 0)


def test_timers_fire_on_the_event_loop():
    hits, timer = [], qt.QTimer()
    timer.interval = 5
    timer.singleShot = True
    timer.connect("timeout()", lambda: hits.append("timer"))
    timer.start()
    assert (timer.active, timer.isActive()) == (True, True)
    qt.QTimer.singleShot(0, lambda: hits.append("shot"))
    assert wait_for(lambda: len(hits) == 2)
    assert hits == ["shot", "timer"]


def test_a_process_answers_with_bytes_and_an_exit_status():
    process, seen = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: seen.append((code, int(status))))
    process.connect("readyReadStandardOutput()", lambda: seen.append(process.readAllStandardOutput().data()))
    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("NEPHI_TEST", "b")
    process.setProcessEnvironment(environment)
    program = "import os, sys; print(sys.stdin.readline() + os.environ['NEPHI_TEST'], end=''); sys.exit(3)"
    process.start(sys.executable, ["-c", program])
    assert process.waitForStarted(5000)
    assert process.state() == qt.QProcess.Running
    process.write(b"hello\n")
    assert wait_for(lambda: (3, 0) in seen)
    assert b"".join(item for item in seen if isinstance(item, bytes)) == b"hello\nb"
    with pytest.raises(ValueError, match="pass bytes"):
        process.write(memoryview(b"x"))


def test_a_process_that_does_not_exist_says_so():
    process, seen = qt.QProcess(), []
    process.connect("errorOccurred(QProcess::ProcessError)", lambda error: seen.append(error))
    process.start("/no/such/program", [])
    assert wait_for(lambda: bool(seen))
    assert seen == [qt.QProcess.FailedToStart]


def test_ten_thousand_calls_do_not_wear_out_none():
    button = qt.QPushButton("Go")
    for _ in range(10000):
        button.setText("x")
        qt.QCoreApplication.processEvents()
    assert sys.getrefcount(None) > 10000
