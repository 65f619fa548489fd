"""The examples of docs/scripting.md run, in their order, with few iterations."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import panel_case
import pythonqt
import slicer
from logic_case import PATIENCE, engine
from NePhiRegistrationLib.session import logic as logic_module
from NePhiRegistrationLib.session.logic import RegistrationLogic
from pythonqt.slicer_module import running_slicer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scripting.md"
FEW = {"iterations": [2], "resolution": [20], "points": 10000, "affine": "translation", "search": "never",
       "device": "cpu"}


def examples() -> list[str]:
    """With a smaller phantom."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert any("size=48" in example for example in found)
    return [example.replace("size=48", "size=28") for example in found]


def quicken(monkeypatch) -> None:
    """Registrations on the worker of these tests, with few iterations where an example says nothing else."""
    start = RegistrationLogic.start

    def started(self, inputs: Any, outputs: Any = None, preset: str = "generic", options: Any = None):
        return start(self, inputs, outputs, preset, {**FEW, **(options or {})})

    monkeypatch.setattr(RegistrationLogic, "start", started)
    monkeypatch.setattr(logic_module, "shared", engine)


def test_the_examples_run_as_they_are_written(monkeypatch, capsys):
    pythonqt.slot_errors.clear()
    quicken(monkeypatch)
    *console, script = examples()
    assert len(console) > 7
    with running_slicer() as running:
        panel_case.new_scene(slicer.mrmlScene)
        running.load(panel_case.MODULE)
        space: dict[str, Any] = {}
        for example in console:
            exec(compile(example, str(PAGE), "exec"), space)
        said = capsys.readouterr().out
        assert space["task"].wait(PATIENCE) and space["task"].state == "finished"
        assert space["result"].nodes.forward is space["forward"]
        assert [bool(result.error) for result in space["results"]] == [False, False]
        assert "affine 0 of 1" in said and "finished" in said
        assert space["metrics"]["tre_mm"]["count"] > 10 and space["there"].shape == (1, 3)
        assert space["lungs"].GetSegmentation().GetNumberOfSegments() == 1
        assert Path(space["path"]).stat().st_size > 1000 and space["loaded"].forward is not None
        run_script(script, space, monkeypatch, capsys)
    assert not pythonqt.slot_errors


def run_script(script: str, space: dict[str, Any], monkeypatch, capsys) -> None:
    """The last example, with Slicer's own reading and writing replaced."""
    saved, codes, files = [], [], {"fixed.nrrd": space["fixed"], "moving.nrrd": space["moving"]}
    monkeypatch.setattr(slicer.util, "loadVolume", files.__getitem__)
    monkeypatch.setattr(slicer.util, "saveNode", lambda node, path: saved.append((node, path)))
    monkeypatch.setattr(slicer.util, "exit", codes.append, raising=False)
    for second in ("moving.nrrd", "fixed.nrrd"):
        monkeypatch.setattr(sys, "argv", ["register.py", "fixed.nrrd", second, "warped.nrrd"])
        exec(compile(script, str(PAGE), "exec"), {})
    assert codes == [0, 1]
    assert [path for _, path in saved] == ["warped.nrrd"] and saved[0][0].GetImageData() is not None
    assert "choose two volumes" in capsys.readouterr().out


def test_the_page_says_what_every_method_of_the_logic_is_called():
    page = PAGE.read_text(encoding="utf-8")
    public = [name for name in vars(RegistrationLogic) if not name.startswith("_") and name not in ("warmUp", "close")]
    assert [name for name in public if f"logic.{name}(" not in page] == []
