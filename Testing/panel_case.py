"""What the tests of the panel share: Slicer's double with the module opened, and a logic that does what a test says."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional
from unittest import mock

import numpy as np
import pythonqt

pythonqt.install()
import slicer  # noqa: E402
from pythonqt.slicer_module import RunningSlicer  # noqa: E402

MODULE = Path(__file__).resolve().parents[1] / "NePhiRegistration" / "NePhiRegistration.py"
REPORT = {
    "verdict": {"level": "good", "text": "Mean landmark error 9.3 → 1.2 mm, no folds, 12 s on cpu."},
    "metrics": {"similarity": {"before": {"ncc": 0.21}, "after": {"ncc": 0.93}},
                "folds_percent": {"forward": {"analytic": 0.0}}, "tre_mm": {"before": 9.3, "mean": 1.2, "count": 25}},
    "runtime": {"seconds": 12.4, "iterations": 180},
}
HISTOGRAM = {"edges": np.exp(np.linspace(-0.5, 0.5, 11)).tolist(), "counts": [1, 4, 20, 60, 90, 80, 50, 20, 6, 2],
             "folds": 0}

SIZE = 12
OUTPUTS = {"forward": "Transform", "inverse": "Transform", "warped": "ScalarVolume", "logJacobian": "ScalarVolume",
           "table": "Table"}


@dataclass
class ScriptedTask:
    """A task that goes where the test sends it."""

    outputs: Any
    state: str = "starting"
    message: str = ""
    failure: str = ""
    details: str = ""
    report: Optional[dict] = None
    histogram: Optional[dict] = None
    history: list[dict] = field(default_factory=list)
    transform: Optional[bytes] = None
    cancels: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        from NePhiRegistrationLib.worker.signals import Signal
        self.progress, self.finished, self.failed, self.log = Signal(), Signal(), Signal(), Signal()
        self.shown = Signal()

    def cancel(self, keep: bool = False) -> None:
        self.cancels.append(keep)
        self.state = "cancelling"

    def run(self, step: int = 3, **fields: Any) -> None:
        self.state = "running"
        self.progress.emit({"phase": "level 2/3", "step": step, "steps": 12, "loss": 1.0 / (step + 1),
                            "iterations_per_second": 7.25, "seconds_left": 62, "seconds": 5.0, **fields})

    def make_outputs(self, bend: float = 2.0) -> None:
        """Create the outputs that are missing and fill them as a registration would."""
        from NePhiRegistrationLib.mrml import log_jacobian_display, transform_nodes, volume_nodes
        size = (SIZE,) * 3
        geometry = {"size": list(size), "spacing": [1.0] * 3, "origin": [0.0] * 3,
                    "direction": np.diag([-1.0, -1.0, 1.0]).flatten().tolist()}
        for name, kind in OUTPUTS.items():
            if getattr(self.outputs, name) is None and self.outputs.createMissing:
                node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)
                self.outputs = replace(self.outputs, **{name: node})
        for name, sign in (("forward", 1), ("inverse", -1)):
            if getattr(self.outputs, name) is not None:
                transform_nodes.write_displacement(getattr(self.outputs, name),
                                              np.full((*size, 3), sign * bend, np.float32), geometry)
        values = np.random.default_rng(0).normal(size=size).astype(np.float32)
        if self.outputs.warped is not None:
            volume_nodes.write_volume(self.outputs.warped, values, geometry)
        if self.outputs.logJacobian is not None:
            log_jacobian_display.write_log_jacobian(self.outputs.logJacobian, values, geometry)

    def finish(self) -> None:
        from NePhiRegistrationLib.mrml import metrics_table, transform_archive
        self.make_outputs()
        self.state, self.report, self.histogram = "finished", REPORT, HISTOGRAM
        if self.outputs.table is not None:
            metrics_table.write_metrics(self.outputs.table, REPORT, HISTOGRAM)
        if self.outputs.forward is not None:
            transform_archive.store(self.outputs.forward, b"exact")
        self.finished.emit(self)

    def fail(self, message: str, state: str = "failed") -> None:
        self.state, self.message = state, message
        self.failed.emit(self)


class ScriptedLoading(ScriptedTask):
    """A file that is read when the test says so."""

    def finish(self) -> None:
        if any(node.GetScene() is not None for _name, node in self.outputs.nodes()):  # others are passed over
            self.make_outputs()
        self.state = "finished"
        self.finished.emit(self)


class ScriptedLogic:
    """Follows the interface of RegistrationLogic and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.tasks: list[ScriptedTask] = []
        self.loadings: list[ScriptedLoading] = []
        self.refusal: Optional[Exception] = None
        self.place = ""

    def start(self, inputs: Any, outputs: Any, preset: str = "generic", options: Optional[dict] = None
              ) -> ScriptedTask:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("start", inputs, preset, options))
        return self._task(outputs)

    def startSequence(self, inputs: Any, preset: str = "generic", options: Optional[dict] = None) -> ScriptedTask:
        from NePhiRegistrationLib.session.sequence import SequenceNodes
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("startSequence", inputs, preset, options))
        return self._task(SequenceNodes(slicer.mrmlScene, inputs).nodes)

    def pull(self, fixed: Any, moving: Any, outputs: Any = None) -> ScriptedTask:
        self.calls.append(("pull", fixed, moving))
        return self._task(replace(self.tasks[-1].outputs, **dict(outputs.nodes())))

    def resume(self, iterations: int, outputs: Any = None, landmarks: Any = None) -> ScriptedTask:
        self.calls.append(("resume", iterations))
        others = dict(outputs.nodes()) if outputs is not None else {}
        return self._task(replace(self.tasks[-1].outputs, **others))

    def computeOn(self) -> str:
        return self.place

    def setComputeOn(self, command: str = "") -> None:
        if self.refusal is not None:
            raise self.refusal
        self.place = command.strip()

    def warmUp(self) -> None:
        self.calls.append(("warmUp",))

    def close(self) -> None:
        self.calls.append(("close",))

    def saveTransform(self, path: str, transform: Any = None) -> None:
        self.calls.append(("saveTransform", path, transform))

    def belongings(self, to: str = "fixed", transform: Any = None, others: Any = ()) -> list:
        from NePhiRegistrationLib.mrml.belongings import belongings
        return belongings(slicer.mrmlScene, to, others, [transform])

    def applyToGradually(self, nodes: list, done: Any, to: str = "fixed", transform: Any = None, harden: bool = False
                         ) -> Any:
        """One node a step; one that is called "stubborn" cannot be carried."""
        from NePhiRegistrationLib.session.applying import Carried
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("applyTo", list(nodes), to, transform, harden))

        def steps() -> Any:
            for node in nodes:
                yield
                if node.GetName() == "stubborn":
                    done(Carried(node, problem="'stubborn' stays; choose another."))
                elif harden:
                    node.SetAttribute("NePhi.LiesOn", to)
                    done(Carried(node, node, undo=lambda node=node: node.SetAttribute("NePhi.LiesOn", None)))
                else:
                    made = slicer.mrmlScene.AddNewNodeByClass(node.GetClassName(), f"{node.GetName()} on {to}")
                    made.SetAttribute("NePhi.LiesOn", to)
                    done(Carried(node, made))
        return steps()

    def errorMap(self, table: Any, reference: Any, transform: Any = None) -> Any:
        from NePhiRegistrationLib.mrml import error_volume, volume_nodes
        return error_volume.volume(table, volume_nodes.read_volume(reference, "fixed").geometry)

    def startLoading(self, path: str, fixed: Any = None, moving: Any = None, outputs: Any = None) -> ScriptedLoading:
        if not path.endswith(".nephi"):
            raise ValueError(f"{path} is no .nephi file; choose one that NePhi wrote.")
        self.loadings.append(ScriptedLoading(outputs))
        return self.loadings[-1]

    def _task(self, outputs: Any) -> ScriptedTask:
        self.tasks.append(ScriptedTask(outputs))
        return self.tasks[-1]


@dataclass
class Opened:
    """The module, opened."""

    running: RunningSlicer
    module: Any
    widget: Any

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def parameters(self) -> Any:
        return self.widget._parameterNode

    @property
    def logic(self) -> Any:
        return self.widget.logic

    def choose_pair(self) -> tuple[Any, Any]:
        """Two volumes, chosen as fixed and moving."""
        pair = add_volume("Fixed"), add_volume("Moving")
        self.ui.fixedSelector.setCurrentNode(pair[0])
        self.ui.movingSelector.setCurrentNode(pair[1])
        return pair

    def press(self) -> Any:
        """Press the run button; the newest task."""
        self.ui.registerButton.click()
        return self.logic.tasks[-1] if self.logic.tasks else None


@functools.cache
def _phantom(size: int) -> dict[str, np.ndarray]:
    """What another process makes, which takes seconds, once for all tests of this one."""
    from NePhiRegistrationLib.panel import sample_data
    return sample_data._made(size, 0, sys.executable)


def choose_phantom(opened: Opened, size: int, **options: Any) -> dict[str, Any]:
    """The made-up chest, chosen with everything that comes with it; its nodes.

    Args:
        options: that differ from those of the preset for lungs.
    """
    from NePhiRegistrationLib.panel import sample_data
    arrays = _phantom(size)
    with mock.patch.object(sample_data, "_made", lambda *_: arrays):
        nodes, parameters = sample_data.add_phantom(size), opened.parameters
    for side in ("fixed", "moving"):
        for field_name, node in (("Volume", side), ("Mask", f"{side}Mask"), ("Landmarks", f"{side}Landmarks")):
            setattr(parameters, side + field_name, nodes[node])
    parameters.preset = "lung-ct"
    parameters.options = json.dumps(options)
    return nodes


def add_volume(name: str, size: int = SIZE, kind: str = "ScalarVolume") -> Any:
    """A small volume with something in it."""
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)
    slicer.util.updateVolumeFromArray(node, np.random.default_rng(len(name)).normal(size=(size,) * 3).astype("f4"))
    node.CreateDefaultDisplayNodes()
    return node


def add_sequence(name: str, count: int) -> Any:
    """A sequence of small volumes."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    for number in range(count):
        volume = add_volume(f"{name} {number}")
        sequence.SetDataNodeAtValue(volume, str(number))
        slicer.mrmlScene.RemoveNode(volume)
    return sequence


def add_points(name: str, count: int) -> Any:
    """A list of landmarks."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for index in range(count):
        node.AddControlPoint(float(index), 0.0, 0.0)
    return node


def new_scene(scene: Any) -> None:
    """What Slicer's modules register when they are loaded."""
    for kind in (slicer.vtkMRMLColorLegendDisplayNode, slicer.vtkMRMLMarkupsJsonStorageNode):
        scene.RegisterNodeClass(kind())
    for name in ("Red", "Green", "Yellow"):
        view = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
        view.SetLayoutName(name)
