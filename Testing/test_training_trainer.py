"""Training: it learns, it resumes as if it had never stopped, and it stops where numbers do."""

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learned import TINY, tiny_config
from nephi.errors import InputError
from nephi.predict.predictor import Predictor
from nephi.training import loop
from nephi.training.checkpoint import FORMAT
from nephi.training.config import make_config
from nephi.training.loop import BEST, CHECKPOINT, LAST, run
from nephi.training.parallel import Group
from nephi.training.sources import make_source
from nephi.training.trainer import TrainingError, generator_of, new_state, schedule, train

ALONE = Group(0, 1, torch.device("cpu"))


def _losses(config, state=None):
    state, source = state or new_state(config, ALONE.device), make_source(config, Path(), True)
    return [math.fsum(terms.values()) for terms in train(state, config, source, ALONE)]


def _run(config, folder, **choices):
    return list(run(config, folder, Path(), **choices))


def _weights(folder, name=LAST):
    return Predictor.load(folder / name, "cpu").state_dict()


def test_the_loss_falls():
    losses = _losses(tiny_config(training={"steps": 60, "batch": 4, "learning_rate": 1e-2}))
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_the_same_seed_gives_the_same_training_and_another_seed_another():
    first, same, other = (_losses(tiny_config(training={"seed": seed})) for seed in (0, 0, 1))
    assert first == same
    assert first != other


def test_pairs_prepared_ahead_are_the_same_pairs():
    assert _losses(tiny_config(training={"workers": 3})) == _losses(tiny_config())


def test_every_pass_is_trained():
    assert _losses(tiny_config(model={"passes": 3})) != _losses(tiny_config())


def test_the_rate_warms_up_and_falls():
    rates = [schedule(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_random_draws_depend_on_their_key_alone():
    first, same, other = (torch.rand(3, generator=generator_of(0, step, "pair")) for step in (5, 5, 6))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    config = tiny_config(training={"steps": 6})
    _run(config, tmp_path / "whole")
    steps = run(config, tmp_path / "killed", Path())
    for progress in steps:  # killed after step 3, its last checkpoint is that of step 2
        if progress.step == 3:
            break
    steps.close()
    _run(config, tmp_path / "killed", resume=True)
    whole, resumed = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [[entry for entry in map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
             if entry["kind"] == "training"] for name in ("whole", "killed")]
    assert logs[0] == logs[1] and len(logs[0]) == 6


def test_a_training_leaves_weights_that_can_be_used(tmp_path):
    progress = _run(tiny_config(), tmp_path)
    assert progress[-1].scores.dice > 0.3
    predictor = Predictor.load(tmp_path / BEST, "cpu")
    assert predictor.provenance["steps"] == 4
    assert predictor.provenance["config"]["data"][0]["kind"] == "shapes"


def test_the_best_weights_are_those_of_the_best_validation(tmp_path, monkeypatch):
    scores = iter([0.5, 0.9, 0.7])
    monkeypatch.setattr(loop, "validate", lambda *_: loop.Scores(dice=next(scores)))
    _run(tiny_config(training={"steps": 3, "validate_every": 1}), tmp_path)
    assert Predictor.load(tmp_path / BEST, "cpu").provenance["steps"] == 2


def test_a_folder_with_a_training_is_not_trained_over(tmp_path):
    _run(tiny_config(), tmp_path)
    with pytest.raises(InputError, match="already holds a training"):
        _run(tiny_config(), tmp_path)


def test_nothing_to_resume_is_told(tmp_path):
    with pytest.raises(InputError, match="There is no checkpoint"):
        _run(tiny_config(), tmp_path, resume=True)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    _run(tiny_config(), tmp_path)
    with pytest.raises(InputError, match="is of another model, loss or data"):
        _run(tiny_config(model={"hidden": 16}), tmp_path, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    _run(tiny_config(), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(InputError, match="is not a checkpoint of a training or is truncated"):
        _run(tiny_config(), tmp_path, resume=True)


def _with(folder, header=None, arrays=None):
    """The checkpoint in a folder, changed."""
    old, found = FORMAT.read(folder / CHECKPOINT)
    FORMAT.write(folder / CHECKPOINT, {**old, **(header or {})}, {**found, **(arrays or {})})


@pytest.mark.parametrize(("header", "arrays"), [
    ({"step": "soon"}, None), ({"best": [1]}, None), ({"history": 3}, None), ({"history": ["step"]}, None),
    (None, {"predictor/forward_field.gate": np.zeros((3, 3), np.float32)}),
    (None, {"average/forward_field.gate": np.zeros((3, 3), np.float32)}),
    (None, {"optimizer/0/exp_avg": np.zeros((2, 2), np.float32)}), (None, {"optimizer/x/step": np.zeros(1)}),
    (None, {"optimizer/99999/exp_avg": np.zeros(2)}), (None, {"optimizer/0": np.zeros(2)}),
])
def test_a_checkpoint_whose_parts_do_not_fit_is_refused_in_a_sentence(tmp_path, header, arrays):
    _run(tiny_config(), tmp_path)
    _with(tmp_path, header, arrays)
    with pytest.raises(InputError, match="is a checkpoint of a training and is damaged"):
        _run(tiny_config(), tmp_path, resume=True)


def test_a_checkpoint_of_the_former_format_is_neither_read_nor_trained_over(tmp_path):
    sprung = tmp_path / "sprung"
    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(_Trap(sprung)))
    for resume, sentence in ((True, "is of an earlier version"), (False, "already holds a training")):
        with pytest.raises(InputError, match=sentence):
            _run(tiny_config(), tmp_path, resume=resume)
    (tmp_path / "checkpoint.pt").rename(tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="is not a checkpoint of a training"):
        _run(tiny_config(), tmp_path, resume=True)
    assert not sprung.exists()


class _Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_more_steps_can_be_added_to_a_finished_training(tmp_path):
    _run(tiny_config(), tmp_path)
    assert [p.step for p in _run(tiny_config(training={"steps": 6}), tmp_path, resume=True)] == [5, 6]


def test_a_loss_that_is_no_number_stops_and_names_the_pairs_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    config = tiny_config(training={"steps": 6})
    source = make_source(config, Path(), True)

    class Broken:
        def draw(self, generator):
            example = source.draw(generator)
            self.drawn += 1
            broken = self.drawn > 2 * 3 + 2  # two for validation, then two a step
            return replace(example, fixed=example.fixed * float("nan"), name="the broken pair") if broken else example

        drawn = 0

    monkeypatch.setattr(loop, "make_source", lambda *_: Broken())
    with pytest.raises(TrainingError, match=r"is not a finite number at step 4, with the pairs the broken pair"):
        _run(config, tmp_path)
    assert FORMAT.read(tmp_path / CHECKPOINT)[0]["step"] == 2


# Seen once in many runs: a process of torch 2.13 aborts in its own threads on leaving the group, its work done.
ABORTED = "terminate called without an active exception"


def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    """But for the statistics of batch norms, which are each process's own within a step."""
    alike = {"batch": 0.05, "group": 1e-3}
    values = [{**TINY, "model": {**TINY["model"], "norm": norm},
               "training": {**TINY["training"], "steps": 4, "batch": 4}} for norm in alike]
    one = [_losses(make_config(each)) for each in values]
    for each in values:
        each["training"]["batch"] = 2
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
               json.dumps(values), str(tmp_path)]
    for _ in range(2):
        done = subprocess.run(command, timeout=300, capture_output=True, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        if ABORTED not in done.stderr:
            break
    assert done.returncode == 0, done.stderr[-3000:]
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    for losses, expected, rel in zip(both[0], one, alike.values()):
        assert losses == pytest.approx(expected, rel=rel)
