"""From settings to the task of a score model: precision, compilation, levels that cannot be learnt."""

import dataclasses
import shutil

import pytest
import torch
from torch.testing import assert_close

from p2d.config import ScoreConfig
from p2d.errors import UserError
from p2d.fields import Scaling
from p2d.recipes import build, score
from p2d.training.loop import fit
from p2d.training.workers import Workers

from .helpers import CPU, GRID, SCALING, data

SETTINGS = ScoreConfig(epochs=1, batch_size=4, channels=(4, 4), precision="float32")


def test_precision_is_as_asked_or_what_the_hardware_has(monkeypatch):
    assert score.choose_precision("float32", CPU) == torch.float32
    assert score.choose_precision("bfloat16", CPU) == torch.bfloat16
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        assert score.choose_precision("auto", CPU) == expected


@pytest.mark.parametrize(("scale", "told"), [(2.0, "0.99"), (1.0, "0.9975")])
def test_levels_clearer_than_the_snapshots_are_refused(scale, told):
    scaling = Scaling((0.0, 0.0), (1 / scale, 1 / scale))
    clearest = 1 / (1 + (0.05 * scale) ** 2)
    learnable = dataclasses.replace(SETTINGS, data_noise=(0.05,), alpha=(0.5, clearest - 1e-3))
    build(learnable, data(), GRID, scaling, CPU, None)
    with pytest.raises(UserError, match=f"is clearer than snapshots of noise 0.05 are; give levels below {told}$"):
        build(dataclasses.replace(learnable, alpha=(0.5, clearest + 1e-4)), data(), GRID, scaling, CPU, None)


@pytest.mark.parametrize(("wish", "cells", "compiled"), [("off", 0, False), ("auto", 0, True), ("auto", 1e9, False)])
def test_the_network_is_compiled_where_the_training_is_long(monkeypatch, wish, cells, compiled):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(score, "CELLS_WORTH_COMPILING", {"cpu": cells})
    task = build(dataclasses.replace(SETTINGS, compile=wish), data(), GRID, SCALING, CPU, None)
    assert (task.network[0] is not task.model.net) == compiled


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a compiler")
def test_a_compiled_network_learns_the_same_and_is_saved_by_the_same_names():
    learnt = []
    for wish in ("off", "on"):
        settings = dataclasses.replace(SETTINGS, compile=wish)
        task = build(settings, data(), GRID, SCALING, CPU, None)
        states = []
        fit(task, data(), settings, Workers(), lambda _, state, states=states: states.append(state))
        learnt.append(states[-1]["average"])
    assert learnt[0].keys() == learnt[1].keys()
    # two steps of at most 0.02; fused sums round otherwise, and Muon turns small gradients into whole steps
    assert_close(learnt[1], learnt[0], rtol=1e-2, atol=1e-3)


def test_a_model_broken_by_an_epochs_last_step_is_not_reported():
    settings = dataclasses.replace(SETTINGS, batch_size=64, optimizer="adamw", learning_rate=0.999, weight_decay=1e30)
    task = build(settings, data(), GRID, SCALING, CPU, None)
    epochs = []
    with pytest.raises(UserError, match=r"the validation loss is (nan|inf) after epoch 1"):
        fit(task, data(), settings, Workers(), lambda epoch, _: epochs.append(epoch.number))
    assert epochs == [0]
