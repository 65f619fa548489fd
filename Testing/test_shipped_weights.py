"""The weights that ship: small, described, and of use on a pair that is not real."""

import re

import pytest
import torch
from nephi.model import DIRECTIONS
from nephi.options import Options, preset_names, resources_folder
from nephi.phantom import lung_phantom
from nephi.pipeline import run
from nephi.predictor import Predictor, find, names, shipped_for

LARGEST = 15e6  # bytes
NEVER_TRAINED_ON = 1000  # seeds of chest phantoms; the training has those from 0 to 11


def test_weights_are_shipped_for_images_of_three_dimensions():
    assert shipped_for(3) == "universal"


@pytest.mark.parametrize("name", names())
def test_shipped_weights_are_small_and_their_card_describes_just_them(name):
    file = find(name)
    assert file.stat().st_size <= LARGEST
    card = (resources_folder() / "Models" / f"{name}.md").read_text(encoding="utf-8")
    predictor = Predictor.load(name)
    assert predictor.hash in card
    for heading in ("Data", "Training", "Figures", "Limits", "Licence"):
        assert re.search(rf"^## {heading}$", card, re.MULTILINE)
    assert f"{predictor.provenance['steps']} steps" in card and f"seed {predictor.provenance['seed']}" in card


@pytest.mark.parametrize("name", preset_names())
def test_presets_use_the_shipped_weights_by_default(name):
    assert Options.from_preset(name).weights in ("auto", "none")


def test_a_prediction_brings_a_chest_closer_that_was_never_trained_on():
    made = lung_phantom(64, NEVER_TRAINED_ON)
    masks = {"fixed_mask": made.fixed_mask, "moving_mask": made.moving_mask}
    options = Options.from_preset("lung-ct", weights="universal", iterations=0, refinement=0, device="cpu")
    predicted = run(made.fixed, made.moving, options, **masks)
    aligned = run(made.fixed, made.moving, options.changed(weights="none"), **masks)
    errors = [float((result.map_points(made.landmarks_fixed) - made.landmarks_moving).norm(dim=1).mean())
              for result in (predicted, aligned)]
    assert errors[0] < 0.9 * errors[1]
    points = made.landmarks_fixed
    for direction in DIRECTIONS:
        assert float(torch.linalg.det(predicted.jacobian(points, direction)).min()) > 0
