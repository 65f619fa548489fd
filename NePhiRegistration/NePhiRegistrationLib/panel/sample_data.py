"""Sample data: a brain pair of Slicer's own, and a made-up chest breathed in and out, which needs no download."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..mrml import landmark_nodes, slice_views, view_fitting, volume_nodes

logger = logging.getLogger(__name__)

CATEGORY = "NePhi Registration"
PROGRAM = str(Path(__file__).resolve().parents[1] / "worker" / "make_phantom.py")
SIZE = 96
BRAIN = (("MRBrainTumor1", "RegLib_C01_1.nrrd", "998cb522173839c78657f4bc0ea907cea09fd04e44601f17c82ea27927937b95"),
         ("MRBrainTumor2", "RegLib_C01_2.nrrd", "1a64f3f422eb3d1c9b093d1a18da354b13bcf307907c66317e2463ee530b7a97"))


def register(icons: str) -> None:
    """Offer both pairs in the Sample Data module.

    Args:
        icons: the folder of thumbnails.
    """
    import SampleData

    offer = SampleData.SampleDataLogic.registerCustomSampleDataSource
    thumbnail = os.path.join(icons, "NePhiRegistration.png")
    names, files, sums = zip(*BRAIN)
    offer(category=CATEGORY, sampleName="BrainTumorPair", thumbnailFileName=thumbnail, nodeNames=list(names),
          fileNames=list(files), uris=[slicer.util.TESTING_DATA_URL + f"SHA256/{item}" for item in sums],
          checksums=[f"SHA256:{item}" for item in sums])
    # Slicer wants an address, a file and a node name of every source, even of one that is not downloaded.
    offer(category=CATEGORY, sampleName="BreathingChestPhantom", thumbnailFileName=thumbnail, uris="generated",
          fileNames="phantom.npz", nodeNames=_("Chest, {breath}").format(breath=_("inspiration")),
          customDownloader=lambda _source: onPhantom())


def onPhantom() -> None:
    """The user asked for the made-up pair."""
    try:
        add_phantom()
    except (RuntimeError, OSError) as error:
        slicer.util.errorDisplay(str(error))


def add_phantom(size: int = SIZE, seed: int = 0, python: Optional[str] = None) -> dict[str, Any]:
    """Put the made-up pair into the scene: volumes, lungs and landmarks of both breaths.

    Args:
        size: voxels along each side of the 288 mm cube.
        python: the interpreter that makes it; by default the application's own.

    Returns:
        Its nodes: fixed, moving, fixedMask, movingMask, fixedLandmarks, movingLandmarks.

    Raises:
        RuntimeError: it could not be made, one sentence.
    """
    arrays = _made(size, seed, python or sys.executable)
    nodes: dict[str, Any] = {}
    for side, breath in (("fixed", _("inspiration")), ("moving", _("expiration"))):
        geometry = {name: arrays[f"{side}_{name}"].tolist() for name in ("size", "spacing", "origin", "direction")}
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode",
                                                    _("Chest, {breath}").format(breath=breath))
        volume_nodes.write_volume(volume, arrays[side], geometry)
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevelMinMax(-1000, 300)
        nodes[side] = volume
        nodes[f"{side}Mask"] = _segmentation(arrays[f"{side}_mask"], geometry,
                                             _("Lungs, {breath}").format(breath=breath))
        points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode",
                                                    _("Vessels, {breath}").format(breath=breath))
        landmark_nodes.write_points(points, arrays[f"{side}_landmarks"])
        points.CreateDefaultDisplayNodes()
        points.GetDisplayNode().SetPointLabelsVisibility(False)
        nodes[f"{side}Landmarks"] = points
    slice_views.show_layers(slice_views.composites(slicer.mrmlScene), nodes["fixed"])
    view_fitting.fit(view_fitting.slice_nodes(slicer.mrmlScene), nodes["fixed"])
    return nodes


def _made(size: int, seed: int, python: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path, log = os.path.join(folder, "phantom.npz"), os.path.join(folder, "log.txt")
        with open(log, "wb") as output, subprocess.Popen(
                [python, PROGRAM, path, str(size), str(seed)], stdout=output, stderr=subprocess.STDOUT,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)) as run:
            while run.poll() is None:  # it takes seconds: the window shall answer
                slicer.app.processEvents()
                time.sleep(0.01)
        if run.returncode:
            _refuse(Path(log).read_text(encoding="utf-8", errors="replace"))
        with np.load(path) as file:
            return {name: file[name] for name in file.files}


def _refuse(log: str) -> None:
    logger.error("The phantom could not be made:\n%s", log)
    last = (log.strip().splitlines() or [""])[-1]
    raise RuntimeError(_("The phantom could not be made ({reason}); is PyTorch installed?").format(reason=last))


def _segmentation(mask: np.ndarray, geometry: dict, name: str) -> Any:
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    volume_nodes.write_volume(labels, mask.astype(np.uint8), geometry)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
    slicer.mrmlScene.RemoveNode(labels)
    node.GetDisplayNode().SetVisibility2DFill(False)
    node.GetDisplayNode().SetVisibility3D(False)
    return node
