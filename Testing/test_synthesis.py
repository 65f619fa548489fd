"""Made-up pairs: the known truth is the truth."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nephi.errors import InputError
from nephi.images.interpolation import linear_in_unit
from nephi.maps.determinant import determinant
from nephi.predict.encoder import EncoderSizes
from nephi.training.augment import linear_map
from nephi.training.config import Data
from nephi.training.deformation import random_deformation
from nephi.training.synthesis import Blobs, LabelMaps, Lungs, Shapes
from nephi.training.trainer import generator_of

PLANE = EncoderSizes(2, 64, (8, 16), 2, 4, 2)
SPACE = EncoderSizes(3, 32, (8, 16), 2, 4, 2)


def _deformation(sizes=PLANE, largest=0.3, seed=0):
    generator = generator_of(seed)
    return random_deformation(sizes.grid, linear_map(Data(), sizes.dim, generator), largest, generator)


def _read(values, points):
    """A volume (1, ...) of the cube at points (m, d)."""
    n = values.shape[-1]
    return linear_in_unit(values, points * (n / (n - 1)))[0]


def _misfit(example):
    """How far intensities that should be the same differ: with the known map, and without."""
    start, end = example.truth
    fixed, moving, unmoved = (_read(*args) for args in ((example.fixed[-1:], start), (example.moving[-1:], end),
                                                        (example.moving[-1:], start)))
    return float((fixed - moving).abs().mean()), float((fixed - unmoved).abs().mean())


@pytest.mark.parametrize("sizes", [PLANE, SPACE])
def test_a_deformation_and_its_inverse_are_the_identity(sizes):
    deformation = _deformation(sizes)
    points = 1.2 * torch.rand(500, sizes.dim, generator=generator_of(1)) - 0.6
    moved = deformation.forward(points)
    assert float((moved - points).norm(dim=1).max()) > 0.05
    assert torch.allclose(deformation.inverse(moved), points, atol=5e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_deformation_does_not_fold(seed):
    mapped = _deformation(largest=0.5, seed=seed).forward(PLANE.grid.points("cpu")).view(64, 64, 2)
    slopes = torch.gradient(mapped, spacing=2 / 64, dim=(0, 1))
    assert float(determinant(torch.stack(slopes[::-1], dim=-1)).min()) > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_known_map_of_random_shapes_aligns_them(seed):
    data = Data(kind="blobs", deform=0.15, coarse=0.0, noise=0.0)
    with_truth, without = _misfit(Blobs(data, PLANE).draw(generator_of(seed)))
    assert with_truth < 0.35 * without


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A folder with two small heads: an egg of two labels in a skull."""
    root = tmp_path_factory.mktemp("heads")
    (root / "maps").mkdir()
    axes = np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij")
    for number, shape in enumerate(((14, 11, 12), (12, 13, 11))):
        radius = np.sqrt(sum((a / s) ** 2 for a, s in zip(axes, shape)))
        labels = np.where(radius < 1.3, 515, 0) * (radius > 1) + np.where(radius <= 1, np.where(axes[2] > 0, 2, 41), 0)
        image = sitk.GetImageFromArray(labels.astype(np.int16))
        image.SetSpacing((5.0,) * 3)
        sitk.WriteImage(image, str(root / "maps" / f"{number}.nii.gz"))
    return root


def _heads(heads, **changes):
    return LabelMaps(Data(kind="labels", labels="maps", **{"noise": 0.0, "coarse": 0.0, **changes}), SPACE, heads)


def test_the_known_map_of_a_head_aligns_it(heads):
    for seed in range(3):
        with_truth, without = _misfit(_heads(heads, others=0.0, deform=0.2, shift=0.1).draw(generator_of(seed)))
        assert with_truth < 0.6 * without


def test_two_different_heads_have_no_known_map(heads):
    example = _heads(heads, others=1.0).draw(generator_of(0))
    assert example.truth is None
    assert set(example.name.split(" and ")) == {"0.nii.gz", "1.nii.gz"}


def test_a_stripped_head_has_no_skull(heads):
    whole, stripped = (_heads(heads, stripped=share).draw(generator_of(0)).labels[0] for share in (0.0, 1.0))
    assert whole.unique().tolist() == [0, 2, 41, 515]
    assert stripped.unique().tolist() == [0, 2, 41]


def test_heads_of_different_sizes_are_brought_to_one(heads):
    still = {"turn": 0.0, "shift": 0.0, "stretch": 0.0, "deform": 0.0, "stripped": 1.0, "others": 1.0}
    example = _heads(heads, **still).draw(generator_of(0))
    sizes = [torch.nonzero(labels > 0).amax(0) - torch.nonzero(labels > 0).amin(0) for labels in example.labels]
    assert int((sizes[0] - sizes[1]).abs().max()) <= 2


def test_different_heads_are_aligned_by_the_centres_of_their_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("nephi.training.synthesis.FEWEST_CENTRES", 6)
    (tmp_path / "maps").mkdir()
    labels = np.zeros((40, 40, 40), np.int16)
    for label, corner in enumerate(np.ndindex(2, 2, 2), start=2):
        k, j, i = (8 + 14 * c for c in corner)
        labels[k:k + 10, j:j + 10, i:i + 10] = label
    for number, direction in enumerate(((1, 0, 0, 0, 1, 0, 0, 0, 1), (0.96, -0.28, 0, 0.28, 0.96, 0, 0, 0, 1))):
        image = sitk.GetImageFromArray(labels)
        image.SetSpacing((5.0 - number, 5.0, 5.0))
        image.SetDirection(direction)
        sitk.WriteImage(image, str(tmp_path / "maps" / f"{number}.nii.gz"))
    still = {"turn": 0.0, "shift": 0.0, "stretch": 0.0, "deform": 0.0, "stripped": 1.0, "others": 1.0}
    fixed, moving = _heads(tmp_path, **still).draw(generator_of(0)).labels
    assert float((fixed == moving)[fixed > 0].float().mean()) > 0.9


def test_a_folder_without_label_maps_is_refused(tmp_path):
    (tmp_path / "maps").mkdir()
    with pytest.raises(InputError, match="has 0 label maps"):
        _heads(tmp_path)


def test_the_known_map_of_a_breathing_chest_aligns_it(monkeypatch):
    for name, value in (("CHESTS", 1), ("CHEST_SIZE", 32), ("FINE_VESSELS", 100)):
        monkeypatch.setattr(f"nephi.training.synthesis.{name}", value)
    with_truth, without = _misfit(Lungs(Data(kind="lungs", deform=0.15, noise=0.0), SPACE).draw(generator_of(0)))
    assert with_truth < 0.6 * without


def test_some_chests_are_cut_down_to_one_lung_in_both_images(monkeypatch):
    for name, value in (("CHESTS", 1), ("CHEST_SIZE", 32), ("FINE_VESSELS", 100)):
        monkeypatch.setattr(f"nephi.training.synthesis.{name}", value)
    source = Lungs(Data(kind="lungs"), SPACE)
    shares = []
    for seed in range(12):
        example = source.draw(generator_of(seed))
        for values, masks in ((example.fixed, example.fixed_masks), (example.moving, example.moving_masks)):
            assert float(values[0][~masks[1]].abs().sum()) == 0
        shares.append([float(masks[1].float().mean()) for masks in (example.fixed_masks, example.moving_masks)])
    assert {both == [1.0, 1.0] for both in shares} == {True, False}
    assert all(abs(fixed - moving) < 0.25 for fixed, moving in shares)


def test_shapes_of_a_pair_are_both_hollow_or_both_filled():
    source = Shapes(Data(kind="shapes"), PLANE)

    def hollow(labels):
        inside = torch.nonzero(labels > 0).float()
        middle = inside.mean(0).round().long()
        return not bool(labels[middle[0], middle[1]])

    found = {tuple(hollow(labels) for labels in source.draw(generator_of(seed)).labels) for seed in range(20)}
    assert found == {(True, True), (False, False)}


@pytest.mark.parametrize(("kind", "sizes"), [(Shapes, SPACE), (Lungs, PLANE)])
def test_sources_of_another_dimension_are_refused(kind, sizes):
    with pytest.raises(InputError, match=r"\[model\] dim is"):
        kind(Data(), sizes)
