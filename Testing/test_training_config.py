"""Configurations of trainings: every error names its option."""

import pytest
from learned import TINY, tiny_config
from nephi.errors import InputError
from nephi.resources import resources_folder
from nephi.training.config import make_config, read_config

SHIPPED = sorted(path.stem for path in (resources_folder() / "Training").glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_can_be_read_by_its_name(name):
    config = read_config(name)
    assert config.name == name
    assert config.model.design.sizes.size == config.model.size


def test_values_come_through():
    config = tiny_config(training={"learning_rate": 1})
    assert config.model.widths == (8, 16, 16)
    assert config.training.learning_rate == 1.0
    assert config.loss.smoothness == 0.01


@pytest.mark.parametrize(("changes", "message"), [
    ({"training": {"stepps": 3}}, r"\[training\] Unknown option 'stepps'"),
    ({"training": {"steps": "many"}}, r"\[training\] The option steps is 'many'; it must be a whole number"),
    ({"training": {"steps": 2.5}}, "The option steps is 2.5; it must be a whole number"),
    ({"training": {"steps": True}}, "The option steps is True; it must be a whole number"),
    ({"training": {"batch": 0}}, "The option batch is 0; it must be from 1"),
    ({"model": {"widths": ["8"]}}, "The option widths is '8'; it must be a whole number"),
    ({"model": {"widths": []}}, "The option widths is empty"),
    ({"model": {"size": 30}}, "The size 30 is not a multiple of 4"),
    ({"loss": {"seed": 3}}, r"\[loss\] Unknown option 'seed'"),
    ({"loss": {"similarity": "other"}}, "similarity is 'other'; choose one of"),
    ({"data": [{"kind": "photos"}]}, "kind is 'photos'; choose one of"),
    ({"data": []}, "There is no"),
    ({"model": 3}, "model is 3; it must be a table"),
    ({"other": {}}, "Unknown table or option 'other'"),
])
def test_a_mistake_is_named(changes, message):
    values = {**TINY, **{name: {**TINY[name], **table} if isinstance(table, dict) and name in TINY else table
                         for name, table in changes.items()}}
    with pytest.raises(InputError, match=message):
        _ = make_config(values).model.design


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("steps = = 3", encoding="utf-8")
    with pytest.raises(InputError, match="bad.toml is not valid TOML"):
        read_config(tmp_path / "bad.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="Cannot read the configuration .*none.toml"):
        read_config(tmp_path / "none.toml")
