"""The weights that ship: small, described, and of use on pairs they have not seen."""

import re

import pytest
from nephi.options import Options, preset_names
from nephi.predict.predictor import Predictor
from nephi.predict.weights import find, names, shipped_for
from nephi.resources import resources_folder
from nephi.training.config import read_config
from nephi.training.synthesis import Lungs
from nephi.training.trainer import generator_of
from nephi.training.validation import case_of, score

LARGEST = 15e6  # bytes


def test_weights_are_shipped_for_images_of_three_dimensions():
    assert shipped_for(3) == "universal"


@pytest.mark.parametrize("name", names())
def test_shipped_weights_are_small_and_their_card_describes_just_them(name):
    file = find(name)
    assert file.stat().st_size <= LARGEST
    card = (resources_folder() / "Models" / f"{name}.md").read_text(encoding="utf-8")
    predictor = Predictor.load(name, "cpu")
    assert predictor.hash in card
    for heading in ("Data", "Training", "Figures", "Limits", "Licence"):
        assert re.search(rf"^## {heading}$", card, re.MULTILINE)
    assert f"{predictor.provenance['steps']} steps" in card and f"seed {predictor.provenance['seed']}" in card


@pytest.mark.parametrize("name", preset_names())
def test_presets_predict_only_on_request(name):
    assert Options.from_preset(name).weights == "none"
    assert Options.from_preset(name, weights="auto").weights == "auto"


def test_a_prediction_brings_chests_closer_that_were_never_drawn_in_training(monkeypatch):
    config = read_config("universal")
    predictor = Predictor.load("universal", "cpu")
    lungs = next(data for data in config.data if data.kind == "lungs")
    for name, value in (("CHESTS", 1), ("CHEST_SIZE", 64)):
        monkeypatch.setattr(f"nephi.training.synthesis.{name}", value)
    source = Lungs(lungs, predictor.design.sizes)
    cases = [case_of(source.draw(generator_of("never in training", i)), predictor.design.sizes) for i in range(2)]
    before = [float((case.truth[0] - case.truth[1]).norm(dim=1).mean()) for case in cases]
    after = [score(predictor, case) for case in cases]
    assert sum(one.error for one in after) < 0.8 * sum(before)
    assert max(one.folds for one in after) == 0
