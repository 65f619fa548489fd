"""What is trained on: folders, lists of pairs, augmentation, and what is refused."""

import logging

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from learned import tiny_config
from nephi.errors import InputError
from nephi.images.interpolation import linear
from nephi.images.reading import read_image
from nephi.predict.encoder import EncoderSizes
from nephi.training import augment
from nephi.training.config import Data
from nephi.training.datasets import Folder, ImagePairs, Mixture
from nephi.training.loop import run
from nephi.training.trainer import generator_of
from nephi.training.validation import cases_of

SIZES = EncoderSizes(2, 32, (8, 16), 2, 4, 2)
STILL = {"turn": 0.0, "shift": 0.0, "stretch": 0.0, "contrast": 0.0, "noise": 0.0}


def _write(path, dim=2, seed=0, spacing=2.0):
    values = np.random.default_rng(seed).random((20, 24, 16)[:dim]).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((spacing,) * dim)
    sitk.WriteImage(image, str(path))
    return values


@pytest.fixture
def root(tmp_path):
    """Four images of noise in a folder named images."""
    (tmp_path / "images").mkdir()
    for number in range(4):
        _write(tmp_path / "images" / f"{number}.nii.gz", seed=number)
    return tmp_path


def _pairs(root, strict=True, **changes):
    return ImagePairs(Data(images="images", **{**STILL, **changes}), SIZES, root, strict)


def _names(source, count=40):
    return {source.draw(generator_of(i)).name for i in range(count)}


def test_any_two_images_make_a_pair_but_never_one_with_itself(root):
    assert len(_names(_pairs(root), 200)) == 12


def test_an_image_alone_is_deformed_by_a_map_that_is_known(root):
    i, j = np.meshgrid(np.arange(24), np.arange(20))
    image = sitk.GetImageFromArray((np.sin(i / 4) + np.cos(j / 5)).astype(np.float32))
    image.SetSpacing((2.0, 2.0))
    for number in range(4):
        sitk.WriteImage(image, str(root / "images" / f"{number}.nii.gz"))
    pair = _pairs(root, alone=1.0, deform=0.2, shift=0.05).draw(generator_of(3))
    start, end = pair.truth
    assert float((start - end).norm(dim=1).mean()) > 0.03
    known = [_at(masks[1:].float(), points) > 0.999 for masks, points in
             ((pair.fixed_masks, start), (pair.moving_masks, end))]
    inside = known[0] & known[1]
    assert int(inside.sum()) > 100
    fixed, moving = _at(pair.fixed, start)[inside], _at(pair.moving, end)[inside]
    assert float((fixed - moving).abs().mean()) < 0.02
    assert float((fixed - _at(pair.moving, start)[inside]).abs().mean()) > 0.04


def _at(values, points):
    """Values (1, n, n) on the cube at points (m, 2)."""
    return linear(values, (points + 1) * values.shape[-1] / 2 - 0.5)[0]


def test_only_the_chosen_part_of_a_folder_is_used(root):
    assert _names(_pairs(root, first=1, last=3)) == {"1.nii.gz and 2.nii.gz", "2.nii.gz and 1.nii.gz"}


def test_only_listed_pairs_are_used(root):
    (root / "pairs.csv").write_text("fixed,moving\n0.nii.gz,3.nii.gz\n", encoding="utf-8")
    assert _names(_pairs(root, pairs="pairs.csv")) == {"0.nii.gz and 3.nii.gz"}


@pytest.mark.parametrize(("text", "message"), [
    ("a,b\n0.nii.gz,1.nii.gz\n", "no columns fixed and moving"),
    ("fixed,moving\n0.nii.gz,9.nii.gz\n", "line 2: there is no image '9.nii.gz'"),
    ("fixed,moving\n", "lists no pairs"),
])
def test_a_bad_list_of_pairs_is_refused(root, text, message):
    (root / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        _pairs(root, pairs="pairs.csv")


def test_a_pair_lies_on_the_cube_as_it_lies_in_the_world(root):
    values = _write(root / "images" / "0.nii.gz", seed=0)  # 24 x 20 pixels of 2 mm: the cube is 48 mm wide
    example = _pairs(root, last=2).draw(generator_of(0))
    fixed, masks = (example.fixed, example.fixed_masks) if example.name.startswith("0") else (
        example.moving, example.moving_masks)
    assert example.mm == 24.0
    inside = masks[1].float().mean()
    assert float(inside) == pytest.approx(20 / 24, abs=0.06)
    low, high = np.quantile(values, [0.001, 0.999])
    middle = ((values[9:11, 11:13] - low) / (high - low)).mean()
    assert float(fixed[0, 15:17, 15:17].mean()) == pytest.approx(middle, abs=0.15)
    assert float(fixed[0][~masks[1]].abs().max()) == 0.0


def test_augmentation_moves_only_as_far_as_it_may():
    data = Data(turn=0.0, stretch=0.0, shift=0.1)
    shifts = np.stack([augment.linear_map(data, 3, generator_of(i)) for i in range(50)])
    assert np.allclose(shifts[:, :3, :3], np.eye(3))
    assert 0.1 < np.abs(shifts[:, :3, 3]).max() <= 0.3


def test_flips_happen_only_along_the_axes_that_allow_them():
    flips = {tuple(np.diag(augment.flip(Data(flips="y"), 3, generator_of(i)))) for i in range(30)}
    assert flips == {(1.0, 1.0, 1.0, 1.0), (1.0, -1.0, 1.0, 1.0)}


def test_changed_intensities_stay_in_their_range():
    values = torch.rand(16, 16, generator=generator_of(0))
    changed = augment.intensities(values, Data(bias=1.0, noise=0.3, contrast=0.5), generator_of(1))
    assert float(changed.min()) >= 0.0
    assert float(changed.max()) <= 1.0
    assert not torch.allclose(values, changed)


def test_an_unreadable_image_is_left_out_and_named(root, caplog):
    (root / "images" / "1.nii.gz").write_bytes(b"not an image")
    with caplog.at_level(logging.WARNING):
        names = _names(_pairs(root, strict=False), 100)
    assert len(names) == 6 and not any("1.nii.gz" in name for name in names)
    assert sum("1.nii.gz" in record.getMessage() for record in caplog.records) == 1


def test_with_strict_an_unreadable_image_is_fatal(root):
    (root / "images" / "1.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match="1.nii.gz"):
        _names(_pairs(root, strict=True), 100)


def test_a_folder_of_nothing_readable_is_refused(root):
    for number in range(3):
        (root / "images" / f"{number}.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match="Fewer than 2 images"):
        _names(_pairs(root, strict=False), 100)


def test_images_are_read_once_as_far_as_memory_allows(root, monkeypatch):
    read = []
    monkeypatch.setattr("nephi.training.datasets.read_image", lambda file, role: read.append(file) or
                        read_image(file, role))
    folder = Folder(root / "images", 0, 4, 2, True)
    for number in (0, 1, 0, 1):
        folder.read(number)
    assert len(read) == 2
    monkeypatch.setattr("nephi.training.datasets.KEPT_BYTES", 0)
    folder.read(2)
    folder.read(2)
    assert len(read) == 4


def test_an_image_of_another_dimension_is_refused(root):
    _write(root / "images" / "2.nii.gz", dim=3)
    with pytest.raises(InputError, match=r"2.nii.gz is 3D and \[model\] dim is 2"):
        _names(_pairs(root, strict=False), 100)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="has 0 images, of which 0 are used"):
        Folder(tmp_path / "images", 0, 10, 2, True)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="There is no folder .*images"):
        _pairs(tmp_path)


def test_sources_are_drawn_from_by_their_weights():
    class Named:
        def __init__(self, name):
            self.name = name

        def draw(self, generator):
            return self.name

    mixture = Mixture([Named("often"), Named("seldom"), Named("never")], [3.0, 1.0, 0.0])
    drawn = [mixture.draw(generator_of(i)) for i in range(400)]
    assert drawn.count("never") == 0
    assert drawn.count("often") / 400 == pytest.approx(0.75, abs=0.07)


def test_sources_without_any_weight_are_refused():
    with pytest.raises(InputError, match="weight 0"):
        Mixture([None], [0.0])


def _config(**validation):
    return tiny_config(data=[{"kind": "images", "images": "images"}], validation={"images": "images", **validation})


def test_validation_takes_neighbours_and_their_labels(root):
    (root / "labels").mkdir()
    for number in range(4):
        labels = sitk.GetImageFromArray(np.ones((20, 24), dtype=np.uint8))
        labels.SetSpacing((2.0, 2.0))
        sitk.WriteImage(labels, str(root / "labels" / f"{number}.nii.gz"))
    cases = cases_of(_config(labels="labels", count=9), None, root, True)
    assert [(case.fixed.name, case.moving.name) for case in cases] == [
        ("0.nii.gz", "1.nii.gz"), ("1.nii.gz", "2.nii.gz"), ("2.nii.gz", "3.nii.gz")]
    assert all(case.labels is not None for case in cases)


def test_labels_that_are_asked_for_and_missing_are_named(root):
    (root / "labels").mkdir()
    with pytest.raises(InputError, match=r"There are no labels .*0.nii.gz"):
        cases_of(_config(labels="labels"), None, root, True)


def test_real_images_can_be_trained_on(root, tmp_path):
    progress = list(run(_config(), tmp_path / "out", root))
    assert progress[-1].step == 4 and "similarity" in progress[-1].scores.known()
