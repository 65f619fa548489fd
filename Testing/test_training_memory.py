"""The benchmark of the training's memory: what it measures, and the network it compares with."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import training_memory as bench


def test_a_step_needs_more_memory_with_the_voxel_network_than_with_nephi():
    found = {method: bench.in_a_process(method, 64) for method in bench.NAMES}
    assert all(values["before_gb"] > 0.05 for values in found.values())
    at_least = 64**3 * 2 * 4 / 1e9  # the pair itself, once more
    assert at_least < found["nephi"]["step_gb"] < found["voxel"]["step_gb"] < 5


def test_the_voxel_network_has_the_published_widths_and_starts_at_the_identity():
    network = bench.VoxelNetwork()
    assert [layer.in_channels for layer in network.up] == [48, 96, 192, 512, 512]
    assert not network(*torch.rand(2, 1, 1, 64, 64, 64)).any()


def test_the_voxel_loss_of_opposite_shifts_is_that_of_the_shifted_images():
    image = F.interpolate(torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)), size=(32, 32, 32))
    identity = F.affine_grid(torch.eye(3, 4)[None], [1, 1, 32, 32, 32], align_corners=False)
    shift = torch.zeros(1, 3, 32, 32, 32)
    shift[:, 0] = 2 * 2 / 32
    moved = bench.read(image, bench.mapped(-shift, identity))
    answers = iter((shift, -shift))
    loss = bench.voxel_loss(lambda first, second: next(answers), image, moved, identity)
    assert float(loss) < 0.01 < 1 - float(bench.correlation(image, moved))


def test_the_picture_names_every_ratio():
    rows = [{"side": side, "nephi": {"step_gb": 0.5}, "voxel": {"step_gb": side / 32}} for side in (64, 96)]
    words = [node.text for node in ElementTree.fromstring(bench.picture(rows)).iter() if node.text]
    assert {"64³: 4.0 ×", "96³: 6.0 ×"} <= set(words)


def test_a_side_that_the_networks_cannot_halve_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training_memory.py", "--sides", "100"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "the side 100 is not a multiple of 32 of at least 64" in capsys.readouterr().err
