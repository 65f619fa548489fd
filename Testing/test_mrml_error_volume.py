"""The error that is left as a volume: between the points what they say, else clear, and the engine's map."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
from mrml_scene import add_colors, add_node, new_scene, oblique_matrix
from nephi.geometry import Grid
from nephi.judge.error_map import UNKNOWN
from nephi.judge.error_map import error_map as engines
from NePhiRegistrationLib.mrml import error_volume, node_geometry
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.vtk_images import image_array

PLACE = node_geometry.geometry_from(oblique_matrix(), (120, 40, 30))


@pytest.fixture(autouse=True)
def scene():
    add_colors(new_scene())


def residual(count: int = 60) -> dict:
    """Points in the first half of :data:`PLACE` along i, whose error grows along j from 0 to 4 mm."""
    index = np.random.default_rng(0).uniform(0, (60, 39, 29), (count, 3))
    ras = node_geometry.ijk_to_ras(PLACE)
    at = (index @ ras[:3, :3].T + ras[:3, 3]) * node_geometry.FLIP
    far = (4.0 * index[:, 1] / 39).tolist()
    return {"at": at.tolist(), "distances": [*far[:-1], None], "reach": far[-1], "voxel": 1.0, "estimate": 2.0}


def table(found=None):
    node = add_node("Table", "metrics")
    error_volume.store(node, residual() if found is None else found)
    return node


def test_the_map_is_the_engines_on_any_grid():
    grid, found = error_volume.coarse(PLACE), residual()
    errors = [*found["distances"][:-1], found["reach"]]
    made = error_volume.interpolated(np.array(found["at"]), np.array(errors), found["voxel"], grid)
    wanted = engines(found, Grid.from_dict(PLACE))
    assert np.allclose(made, wanted.values.numpy(), atol=1e-4)
    assert node_geometry.same_geometry(grid, wanted.grid.to_dict())


def test_it_follows_the_points_and_is_clear_where_there_are_none():
    node = error_volume.volume(table(), PLACE)
    values = slicer.util.arrayFromVolume(node)
    assert values.shape == (30, 40, 96) and (values[:, :, 80:] == UNKNOWN).all()
    known = values[5:25, 5:35, 5:40]
    assert (known >= 0).mean() > 0.9 and known.max() <= 4
    assert (np.diff(np.ma.masked_less(known, 0).mean((0, 2))) > 0).all()
    producer = node.GetDisplayNode().GetOutputImageDataConnection().GetProducer()
    producer.Update()
    alpha = image_array(producer.GetOutputDataObject(0))[..., 3]
    assert ((alpha > 0) == (values >= 0)).all()


def test_no_error_is_seen_and_differs_from_no_evidence():
    none = {**residual(), "distances": [0.0] * 60}
    node = error_volume.volume(table(none), PLACE)
    producer = node.GetDisplayNode().GetOutputImageDataConnection().GetProducer()
    producer.Update()
    alpha = image_array(producer.GetOutputDataObject(0))[..., 3]
    assert set(alpha[slicer.util.arrayFromVolume(node) >= 0]) == {255} and alpha[15, 20, 90] == 0


def test_the_volume_is_made_once_and_filled_again_for_another_result():
    node = table()
    first = error_volume.volume(node, PLACE)
    image = first.GetImageData()
    assert error_volume.volume(node, PLACE) is first and first.GetImageData() is image
    error_volume.store(node, {**residual(), "distances": [3.0] * 60})
    assert error_volume.volume(node, PLACE) is first
    values = slicer.util.arrayFromVolume(first)
    assert values[values >= 0] == pytest.approx(3.0)


@pytest.mark.parametrize("text", [None, "no JSON", "[]", json.dumps({"at": [[0, 0]], "distances": [1], "reach": 1,
                                                                  "voxel": 1})])
def test_without_evidence_or_with_an_edited_one_there_is_a_sentence(text):
    node = table()
    node.SetAttribute(error_volume.ATTRIBUTE, text)
    assert not error_volume.present(node) and not error_volume.present(None)
    with pytest.raises(NodeError, match="no error at distinctive points"):
        error_volume.volume(node, PLACE)


@pytest.mark.parametrize("largest, end", [(2e-4, 2e-4), (0.9, 1.0), (1.2, 2.0), (3.0, 5.0), (51.0, 100.0)])
def test_the_scale_ends_at_a_round_number(largest, end):
    assert error_volume.scale_end(largest) == pytest.approx(end)
