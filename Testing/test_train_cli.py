"""nephi train: from a file to weights, and the mistakes a person makes."""

import json

import pytest
from learned import TINY
from nephi.cli.main import main
from nephi.predict.predictor import Predictor


def _toml(path, **training):
    """TINY as a TOML file."""
    lines = []
    for name, table in {**TINY, "training": {**TINY["training"], **training}}.items():
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_becomes_weights(tmp_path, capsys):
    config = _toml(tmp_path / "tiny.toml")
    assert main(["train", str(config), "-o", str(tmp_path / "out")]) == 0
    assert Predictor.load(tmp_path / "out" / "best.npz", "cpu").provenance["steps"] == 4
    captured = capsys.readouterr()
    assert "best.npz" in captured.out and "4/4" in captured.err


def test_quiet_says_nothing(tmp_path, capsys):
    assert main(["train", str(_toml(tmp_path / "tiny.toml")), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_tensorboard_gets_the_numbers_and_a_picture_where_it_is_installed(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["train", str(_toml(tmp_path / "tiny.toml")), "-o", str(tmp_path / "out"), "-q"]) == 0
    events = reader.EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3, 4]
    assert events.Scalars("validation/dice")[-1].step == 4
    assert [(image.width, image.height) for image in events.Images("fixed, moving, warped")] == [(96, 32)]


def test_a_training_goes_on_with_resume_and_more_steps(tmp_path):
    config = _toml(tmp_path / "tiny.toml")
    assert main(["train", str(config), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert main(["train", str(config), "-o", str(tmp_path / "out"), "-q", "--resume", "--steps", "6"]) == 0
    assert Predictor.load(tmp_path / "out" / "last.npz", "cpu").provenance["steps"] == 6


def test_a_training_starts_from_given_weights(tmp_path):
    config = _toml(tmp_path / "tiny.toml")
    assert main(["train", str(config), "-o", str(tmp_path / "first"), "-q"]) == 0
    first = tmp_path / "first" / "last.npz"
    slow = _toml(tmp_path / "slow.toml", learning_rate=0.0, field_learning_rate=0.0, average=0.0)
    assert main(["train", str(slow), "-o", str(tmp_path / "second"), "-q", "--start", str(first)]) == 0
    before, after = Predictor.load(first, "cpu"), Predictor.load(tmp_path / "second" / "last.npz", "cpu")
    assert after.provenance["config"]["training"]["start"] == str(first)
    for one, other in zip(before.parameters(), after.parameters()):
        assert bool((one == other).all())


def test_a_training_starts_from_weights_for_cubes_of_another_size_or_another_number_of_passes(tmp_path):
    assert main(["train", str(_toml(tmp_path / "tiny.toml")), "-o", str(tmp_path / "first"), "-q"]) == 0
    first = tmp_path / "first" / "last.npz"
    size = 2 * Predictor.load(first, "cpu").design.sizes.size
    large = tmp_path / "large.toml"
    large.write_text((tmp_path / "tiny.toml").read_text().replace(
        f"size = {size // 2}", f"size = {size}\npasses = 2"))
    assert main(["train", str(large), "-o", str(tmp_path / "second"), "-q", "--start", str(first)]) == 0
    design = Predictor.load(tmp_path / "second" / "last.npz", "cpu").design
    assert (design.sizes.size, design.passes) == (size, 2)


def test_weights_of_another_design_are_no_start(tmp_path, capsys):
    config = _toml(tmp_path / "tiny.toml")
    assert main(["train", str(config), "-o", str(tmp_path / "out"), "-q", "--start", "universal"]) != 0
    assert "of another design than [model] describes" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere.toml", "-o", "out"], "Cannot read the configuration nowhere.toml"),
    (["tiny.toml", "-o", "tiny.toml/out"], "Cannot make the folder"),
    (["tiny.toml", "-o", "out", "--resume"], "There is no checkpoint"),
    (["tiny.toml", "-o", "out", "--steps", "0"], "The option steps is 0"),
])
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    _toml(tmp_path / "tiny.toml")
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_a_loss_that_is_no_number_is_an_error_of_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nephi.training.trainer.accumulate", lambda *_: {"similarity": float("nan")})
    assert main(["train", str(_toml(tmp_path / "tiny.toml")), "-o", str(tmp_path / "out"), "-q"]) == 2
    assert "The loss is not a finite number at step 1, with the pairs shapes; shapes" in capsys.readouterr().err
