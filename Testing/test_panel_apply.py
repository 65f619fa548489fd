"""Apply to: a table of what belongs to a registered volume; what is ticked is carried, and what cannot be says why."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from panel_case import add_points, add_volume

import qt  # isort: skip  # the double's, which panel_case installs
import slicer  # isort: skip

pytest_plugins = ["panel_fixture"]


def registered(opened):
    opened.choose_pair()
    opened.ui.applyCollapsibleButton.collapsed = False
    task = opened.press()
    task.finish()
    return task


def rows(ui) -> list[tuple[str, str]]:
    table = ui.applyTable
    return [tuple(table.item(row, column).text() for column in range(2)) for row in range(table.rowCount)]


def tick(ui, *names: str) -> None:
    for row, (name, _kind) in enumerate(rows(ui)):
        ui.applyTable.item(row, 0).setCheckState(qt.Qt.Checked if name in names else qt.Qt.Unchecked)


def press(ui) -> None:
    """Press Apply, and let it finish."""
    ui.applyButton.click()
    for _turn in range(50):
        qt.QCoreApplication.processEvents()


def applied(opened) -> tuple:
    """What the logic was asked last."""
    return [call for call in opened.logic.calls if call[0] == "applyTo"][-1]


def test_the_table_lists_what_may_belong_once_there_is_a_result(opened):
    add_volume("Dose")
    add_points("Nodules", 2)
    opened.ui.applyCollapsibleButton.collapsed = False
    assert rows(opened.ui) == [] and not opened.ui.applyButton.enabled
    registered(opened)
    assert rows(opened.ui)[:2] == [("Dose", "volume"), ("Nodules", "markups")]
    shown = {name for name, _kind in rows(opened.ui)}
    assert not {"Fixed", "Moving"} & shown and not opened.ui.applyButton.enabled
    late = add_points("Late", 0)
    assert ("Late", "'Late' has no points; place some first.") in rows(opened.ui)
    late.AddControlPoint(1.0, 2.0, 3.0)
    assert ("Late", "markups") in rows(opened.ui)
    slicer.mrmlScene.RemoveNode(late)
    assert "Late" not in {name for name, _kind in rows(opened.ui)}


def test_what_is_drawn_on_the_other_volume_is_not_offered(opened):
    fixed, moving = add_points("F", 1), add_points("M", 1)
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = fixed, moving
    registered(opened)
    names = {name for name, _kind in rows(opened.ui)}
    assert "M" in names and "F" not in names
    opened.ui.applyDirectionComboBox.setCurrentIndex(1)
    names = {name for name, _kind in rows(opened.ui)}
    assert "F" in names and "M" not in names


def test_what_is_ticked_is_carried_as_new_nodes_and_what_cannot_be_says_why(opened):
    dose, stubborn = add_volume("Dose"), add_volume("stubborn")
    add_points("Nodules", 2)
    task = registered(opened)
    tick(opened.ui, "Dose", "stubborn")
    assert opened.ui.applyButton.enabled and opened.ui.applyButton.text == "Apply"
    press(opened.ui)
    assert applied(opened) == ("applyTo", [dose, stubborn], "fixed", task.outputs.forward, False)
    assert opened.ui.applyLabel.text == "Made 'Dose on fixed'. 1 could not be carried; the table says why."
    assert ("stubborn", "'stubborn' stays; choose another.") in rows(opened.ui)
    assert "Dose on fixed" not in {name for name, _kind in rows(opened.ui)}
    assert not opened.ui.undoHardenButton.enabled and opened.ui.applyTable.enabled
    opened.ui.applyDirectionComboBox.setCurrentIndex(1)
    assert "Dose on fixed" in {name for name, _kind in rows(opened.ui)} and opened.ui.applyLabel.text == ""
    tick(opened.ui, "Nodules")
    press(opened.ui)
    assert applied(opened)[2] == "moving"


def test_hardening_is_asked_for_named_and_can_be_undone(opened):
    points = add_points("Nodules", 2)
    registered(opened)
    assert not opened.ui.hardenCheckBox.checked
    tick(opened.ui, "Nodules")
    opened.ui.hardenCheckBox.checked = True
    assert opened.ui.applyButton.text == "Change the ticked nodes"
    press(opened.ui)
    assert applied(opened)[4] is True
    assert opened.ui.applyLabel.text == "Hardened 'Nodules'." and opened.ui.undoHardenButton.enabled
    assert "Nodules" not in {name for name, _kind in rows(opened.ui)}
    opened.ui.undoHardenButton.click()
    assert points.GetAttribute("NePhi.LiesOn") is None and not opened.ui.undoHardenButton.enabled
    assert ("Nodules", "markups") in rows(opened.ui)


def test_why_a_node_that_was_removed_could_not_be_carried_is_said_below_the_table(opened):
    stubborn = add_volume("stubborn")
    add_volume("Dose")
    registered(opened)
    tick(opened.ui, "Dose", "stubborn")
    opened.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(stubborn)
    for _turn in range(50):
        qt.QCoreApplication.processEvents()
    assert opened.ui.applyLabel.text == "Made 'Dose on fixed'. 'stubborn' stays; choose another."


def test_it_can_be_stopped_half_way_and_what_is_done_stays(opened):
    for name in ("A", "B", "C"):
        add_volume(name)
    registered(opened)
    tick(opened.ui, "A", "B", "C")
    opened.ui.applyButton.click()
    assert opened.ui.applyButton.text == "Stop" and not opened.ui.applyTable.enabled
    while not slicer.mrmlScene.GetFirstNodeByName("A on fixed"):
        qt.QCoreApplication.processEvents()
    opened.ui.applyButton.click()
    for _turn in range(20):
        qt.QCoreApplication.processEvents()
    assert opened.ui.applyLabel.text == "Made 'A on fixed'." and opened.ui.applyTable.enabled
    assert slicer.mrmlScene.GetFirstNodeByName("C on fixed") is None


def test_a_refusal_is_told_and_a_closed_scene_empties_the_table(opened):
    add_volume("Dose")
    registered(opened)
    tick(opened.ui, "Dose")
    opened.logic.refusal = ValueError("There is no transform; register first.")
    press(opened.ui)
    assert opened.ui.applyLabel.text == "There is no transform; register first."
    slicer.mrmlScene.Clear(0)
    assert rows(opened.ui) == [] and opened.ui.applyLabel.text == "" and not opened.ui.applyButton.enabled


def test_nothing_can_be_applied_while_a_registration_runs(opened):
    registered(opened)
    task = opened.press()
    task.run()
    assert not opened.ui.applyCollapsibleButton.enabled
    task.finish()
    assert opened.ui.applyCollapsibleButton.enabled


def test_another_result_stops_what_is_being_carried_by_the_one_before(opened):
    for name in ("A", "B"):
        add_volume(name)
    registered(opened)
    tick(opened.ui, "A", "B")
    opened.ui.applyButton.click()
    task = opened.press()
    task.make_outputs()
    task.shown.emit(task)
    assert "there is another result" in opened.ui.applyLabel.text and opened.ui.applyButton.text == "Apply"
    task.finish()
    for _turn in range(20):
        qt.QCoreApplication.processEvents()
    assert slicer.mrmlScene.GetFirstNodeByName("B on fixed") is None
