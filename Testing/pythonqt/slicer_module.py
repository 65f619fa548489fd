"""The pieces of ``slicer`` that slicer-core lacks, put in place and taken away again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import slicer

from . import ui_loader
from .application import Application, CommandOptions, LayoutManager, Module
from .facts import all_facts
from .node_combo_box import NodeComboBox, stop_observing
from .widgets import CollapsibleButton, CollapsibleGroupBox, ModuleManager, ModuleWidget, MRMLWidget, SliderWidget
from .wrapping import define, unwrap, wrap

NATIVES = {
    "ctkCollapsibleButton": CollapsibleButton, "ctkCollapsibleGroupBox": CollapsibleGroupBox,
    "ctkSliderWidget": SliderWidget, "qMRMLWidget": MRMLWidget, "qMRMLNodeComboBox": NodeComboBox,
    "qSlicerScriptedLoadableModuleWidget": ModuleWidget, "qSlicerScriptedLoadableModule": Module,
    "qSlicerModuleManager": ModuleManager, "qSlicerApplication": Application, "qSlicerLayoutManager": LayoutManager,
    "qSlicerCommandOptions": CommandOptions,
}
PIECES = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper")
# Classes that Slicer's own sources name and the panel does not use.
NAMED_ONLY = {"ctk": ("ctkCheckBox", "ctkCheckablePushButton", "ctkColorPickerButton", "ctkComboBox",
                      "ctkDirectoryButton", "ctkDoubleRangeSlider", "ctkDoubleSlider", "ctkDoubleSpinBox",
                      "ctkPathLineEdit", "ctkRangeWidget"),
              "slicer": ("qMRMLRangeWidget", "qMRMLSliderWidget", "qMRMLSpinBox")}


def make_ctk() -> types.ModuleType:
    """The module ``ctk``; the stand-ins become known to the .ui loader on the way."""
    ui_loader.stand_ins.update(NATIVES)
    module = types.ModuleType("ctk", "A double of PythonQt's ctk.")
    for name, facts in all_facts().items():
        if facts.module == "ctk":
            setattr(module, name, define(name, NATIVES[name]))
    for name in NAMED_ONLY["ctk"]:
        setattr(module, name, type(name, (), {}))
    return module


@dataclass
class RunningSlicer:
    """What tests hold of the application: the ``qSlicerApplication`` and its modules."""

    app: Any
    sources: Optional[Path]
    loaded: set[str]

    def load(self, path: Path) -> Any:
        """Import a scripted module as Slicer does at start-up; its ``qSlicerScriptedLoadableModule``."""
        name = path.stem
        self.loaded.update((name, f"{name}Lib"))
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        native = Module(name, str(path), slicer.vtkSlicerScriptedLoadableModuleLogic())
        module = wrap(native)
        setattr(slicer.modules, name.lower(), module)
        self.app._q._manager.modules[name] = native
        native.python = getattr(sys.modules[name], name)(module)
        if hasattr(native.python, "setup"):
            native.python.setup()
        return module

    def open(self, module: Any) -> Any:
        """Create and enter a module's panel; the Python widget."""
        native, name = unwrap(module).widgetRepresentation(), module.name

        def make() -> Any:
            widget = getattr(sys.modules[name], f"{name}Widget")(wrap(native))
            setattr(slicer.modules, f"{name}Widget", widget)
            return widget

        native.make = make
        native.reload()
        native.setMRMLScene(slicer.mrmlScene)
        native.enter()
        return native.python


@contextlib.contextmanager
def running_slicer(sources: Optional[Path] = None) -> Iterator[RunningSlicer]:
    """``slicer`` with an application, a scene and modules; with Slicer's own Python sources where they are given.

    Args:
        sources: the root of Slicer's source tree.
    """
    before, modules, paths = dict(vars(slicer)), dict(sys.modules), list(sys.path)
    if "ctk" not in sys.modules:
        sys.modules["ctk"] = modules["ctk"] = make_ctk()
    for name, facts in all_facts().items():
        if facts.module == "slicer":
            setattr(slicer, name, _defined(name))
    for name in NAMED_ONLY["slicer"]:
        setattr(slicer, name, type(name, (), {}))
    app = slicer.qSlicerApplication()
    slicer.app, slicer.modules, slicer.mrmlScene = app, types.SimpleNamespace(), slicer.vtkMRMLScene()
    layouts = slicer.vtkMRMLLayoutLogic()
    layouts.SetMRMLScene(slicer.mrmlScene)
    _put_pieces(sources)
    loaded: set[str] = set()
    try:
        yield RunningSlicer(app, sources, loaded)
    finally:
        stop_observing()
        layouts.SetMRMLScene(None)
        slicer.mrmlScene.Clear(1)
        for name in set(vars(slicer)) - set(before):
            delattr(slicer, name)
        vars(slicer).update(before)
        for name in set(sys.modules) - set(modules):
            if name.startswith("slicer.") or name.split(".")[0] in loaded:
                del sys.modules[name]
        sys.path[:] = paths


def source_folder() -> Optional[Path]:
    """Slicer's source tree, where SLICER_SOURCE_DIR names one."""
    folder = os.environ.get("SLICER_SOURCE_DIR")
    return Path(folder) if folder else None


_made: dict[str, type] = {}


def _defined(name: str) -> type:
    if name not in _made:
        _made[name] = define(name, NATIVES[name])
    return _made[name]


def _put_pieces(sources: Optional[Path]) -> None:
    here = Path(__file__).parent
    doubles = {"i18n": here / "i18n.py", "ScriptedLoadableModule": here / "scripted_module.py",
               "parameterNodeWrapper": here / "parameter_node.py"}
    if sources is not None:
        root = sources / "Base" / "Python" / "slicer"
        doubles = {"i18n": root / "i18n.py", "ScriptedLoadableModule": root / "ScriptedLoadableModule.py",
                   "parameterNodeWrapper": root / "parameterNodeWrapper" / "__init__.py"}
    for name in PIECES:
        path = doubles[name]
        inside = [str(path.parent)] if path.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(f"slicer.{name}", path, submodule_search_locations=inside)
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
        spec.loader.exec_module(module)
