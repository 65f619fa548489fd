"""The double's widgets of CTK and MRML, .ui files and parameter nodes behave as measured in a running Slicer."""

from __future__ import annotations

from typing import Annotated

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import pythonqt
from panel_fixture import sources

import qt  # isort: skip
import slicer
from pythonqt.facts import all_facts
from pythonqt.slicer_module import running_slicer

FORM = """<ui version="4.0"><class>Form</class>
<widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout" name="column">
<item><widget class="qMRMLNodeComboBox" name="selector">
<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
<property name="noneEnabled"><bool>true</bool></property>
<property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
<item><widget class="ctkSliderWidget" name="slider">
<property name="SlicerParameterName" stdset="0"><string>amount</string></property></widget></item>
<item><widget class="QSpinBox" name="box">
<property name="SlicerParameterName" stdset="0"><string>count</string></property></widget></item>
<item><widget class="{kind}" name="extra"><property name="{property}"><string>x</string></property></widget></item>
</layout></widget>
<connections><connection><sender>Form</sender><signal>{signal}</signal>
<receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


@pytest.fixture(params=sources())
def running(request):
    pythonqt.slot_errors.clear()
    with running_slicer(request.param) as found:
        yield found
    assert not pythonqt.slot_errors


def load(tmp_path, kind="QLineEdit", name="text", signal="mrmlSceneChanged(vtkMRMLScene*)"):
    path = tmp_path / "Form.ui"
    path.write_text(FORM.format(kind=kind, property=name, signal=signal), encoding="utf-8")
    return slicer.util.loadUI(str(path))


def wrapped():
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    kinds = {"volume": slicer.vtkMRMLScalarVolumeNode, "amount": Annotated[float, WithinRange(0.0, 5.0)],
             "count": Annotated[int, WithinRange(1, 100)], "word": str, "flag": bool}
    defaults = {"amount": 1.5, "count": 10, "word": "generic", "flag": False}
    Parameters = type("Parameters", (), {"__annotations__": kinds, "__module__": __name__, **defaults})
    return parameterNodeWrapper(Parameters)(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def test_a_form_loads_with_its_stand_ins_and_hands_its_scene_on(running, tmp_path):
    form = load(tmp_path)
    form.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(form)
    assert type(ui.selector) is slicer.qMRMLNodeComboBox
    assert ui.selector.mrmlScene() is slicer.mrmlScene
    assert {"Slider", "SpinBox"} <= set(vars(ui))


@pytest.mark.parametrize("wrong, sentence", [
    ({"name": "txet"}, "QLineEdit has no property 'txet'"),
    ({"kind": "qMRMLSegmentsTableView"}, "which contract.json does not list"),
    ({"signal": "sceneChanged()"}, "qMRMLWidget has no signal sceneChanged"),
])
def test_a_form_with_what_slicer_lacks_does_not_load(running, tmp_path, wrong, sentence):
    with pytest.raises(AttributeError, match=sentence):
        load(tmp_path, **wrong)


def test_a_node_selector_tells_of_nodes_and_follows_the_scene(running):
    combo, heard = slicer.qMRMLNodeComboBox(), []
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.noneEnabled = True
    combo.setMRMLScene(slicer.mrmlScene)
    combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    combo.connect("currentNodeChanged(bool)", heard.append)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "V1")
    combo.setCurrentNode(node)
    combo.setCurrentNode(None)
    assert heard == ["V1", True, None, False]
    assert (combo.currentNode(), combo.currentNodeID) == (None, "")
    combo.setCurrentNode(node)
    slicer.mrmlScene.RemoveNode(node)
    assert combo.currentNode() is None
    assert combo.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_a_slider_keeps_to_its_limits_and_decimals(running):
    import ctk
    slider = ctk.ctkSliderWidget()
    slider.value = 500
    assert slider.value == 99.0
    slider.value = 5.554
    assert (slider.value, slider.decimals) == (5.55, 2)


def test_a_collapsible_button_collapses(running):
    import ctk
    button = ctk.ctkCollapsibleButton()
    child = qt.QLabel("inside", button)
    button.collapsed = True
    assert not child.isVisibleTo(button)
    button.collapsed = False
    assert (child.isVisibleTo(button), button.text) == (True, "")


def test_parameters_have_defaults_ranges_and_types(running):
    parameters = wrapped()
    assert (parameters.count, parameters.amount, parameters.flag, parameters.volume, parameters.word) == (
        10, 1.5, False, None, "generic")
    with pytest.raises(ValueError, match=r"within range \[1, 100\], is 1000"):
        parameters.count = 1000
    with pytest.raises(TypeError):
        parameters.count = 1.5


def test_parameters_are_bound_both_ways_and_limits_reach_the_widgets(running, tmp_path):
    form, parameters = load(tmp_path), wrapped()
    form.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(form)
    # Slicer 5.8 does not return the tag of connectGui, so the module names its widgets itself.
    tag = parameters.connectParametersToGui({"amount": ui.slider, "count": ui.box, "volume": ui.selector})
    assert (ui.slider.minimum, ui.slider.maximum, ui.box.maximum) == (0.0, 5.0, 100)
    parameters.amount = 2.25
    ui.box.value = 42
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "V1")
    ui.selector.setCurrentNode(node)
    assert (ui.slider.value, parameters.count, parameters.volume) == (2.25, 42, node)
    parameters.disconnectGui(tag)
    ui.box.value = 7
    assert parameters.count == 42


def test_slicer_is_as_it_was_afterwards():
    before = set(vars(slicer))
    with running_slicer():
        assert slicer.app.testingEnabled()
        slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
    assert set(vars(slicer)) == before


def test_the_double_imitates_nothing_that_the_contract_lacks(running):
    import ctk
    for name, facts in all_facts().items():
        module = {"qt": qt, "ctk": ctk, "slicer": slicer}[facts.module]
        known = {*facts.properties, *facts.methods, *facts.signal_names, *facts.statics}
        own = {key for key in vars(getattr(module, name)) if not key.startswith("_")}
        assert own <= known | {"name"}, name
