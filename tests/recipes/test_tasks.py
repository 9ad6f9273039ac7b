"""From settings to a task: precision, compilation, levels that cannot be learnt, and the three kinds of flow."""

import copy
import dataclasses
import math
import shutil

import pytest
import torch
from torch.testing import assert_close

from p2d.config import FlowConfig, ScoreConfig
from p2d.errors import UserError
from p2d.flow.continuity import Continuity
from p2d.flow.model import Flow
from p2d.flow.skew import TrainingFree
from p2d.flow.stationarity import Stationarity
from p2d.flow.velocity import feature_statistics
from p2d.recipes import tasks
from p2d.recipes.tasks import build, precision_of
from p2d.score.model import ScoreModel
from p2d.training.checkpoint import write_checkpoint
from p2d.training.loop import fit
from p2d.training.states import MemoryData
from p2d.training.workers import Workers

CPU = torch.device("cpu")
SETTINGS = ScoreConfig(epochs=1, batch_size=4, channels=(4, 4), precision="float32")
SCORE = {"channels": [4], "alpha": [0.5, 0.99], "sampling": 0.25}


def data(count: int = 10) -> MemoryData:
    states = torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = torch.arange(count)
    return MemoryData(states[:-2], ids[:-2], states[-2:], ids[-2:])


def test_precision_is_as_asked_or_what_the_hardware_has(monkeypatch):
    assert precision_of("float32", CPU) == torch.float32
    assert precision_of("bfloat16", CPU) == torch.bfloat16
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        assert precision_of("auto", CPU) == expected


@pytest.mark.parametrize(("scale", "told"), [(2.0, "0.99"), (1.0, "0.9975")])
def test_levels_clearer_than_the_snapshots_are_refused(scale, told):
    clearest = 1 / (1 + (0.05 * scale) ** 2)
    learnable = dataclasses.replace(SETTINGS, data_noise=0.05, alpha=(0.5, clearest - 1e-3))
    build(learnable, data(), scale, CPU, None)
    with pytest.raises(UserError, match=f"is clearer than snapshots of noise 0.05 are; give levels below {told}$"):
        build(dataclasses.replace(learnable, alpha=(0.5, clearest + 1e-4)), data(), scale, CPU, None)


@pytest.mark.parametrize(("wish", "cells", "compiled"), [("off", 0, False), ("auto", 0, True), ("auto", 1e9, False)])
def test_the_network_is_compiled_where_the_training_is_long(monkeypatch, wish, cells, compiled):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(tasks, "CELLS_WORTH_COMPILING", {"cpu": cells})
    task, _ = build(dataclasses.replace(SETTINGS, compile=wish), data(), 2.0, CPU, None)
    assert (task.network[0] is not task.model.net) == compiled


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a compiler")
def test_a_compiled_network_learns_the_same_and_is_saved_by_the_same_names():
    learnt = []
    for wish in ("off", "on"):
        task, schedule = build(dataclasses.replace(SETTINGS, compile=wish), data(), 2.0, CPU, None)
        states = []
        fit(task, data(), schedule, Workers(), lambda _, state, states=states: states.append(state))
        learnt.append(states[-1]["average"])
    assert learnt[0].keys() == learnt[1].keys()
    # two steps of at most 0.02; fused sums round otherwise, and Muon turns small gradients into whole steps
    assert_close(learnt[1], learnt[0], rtol=1e-2, atol=1e-3)


def test_a_model_broken_by_an_epochs_last_step_is_not_reported():
    settings = dataclasses.replace(SETTINGS, batch_size=64, optimizer="adamw", learning_rate=0.999, weight_decay=1e30)
    task, schedule = build(settings, data(), 2.0, CPU, None)
    epochs = []
    with pytest.raises(UserError, match=r"the validation loss is (nan|inf) after epoch 1"):
        fit(task, data(), schedule, Workers(), lambda metrics, _: epochs.append(metrics["epoch"]))
    assert epochs == [0]


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    """The folder of a score model that is a Gaussian's, of the mean 0 and variance 1 of every cell."""
    folder = tmp_path_factory.mktemp("score") / "score"
    write_checkpoint(folder, {"kind": "score", "settings": SCORE}, ScoreModel((4,), (0.5, 0.99)).state_dict())
    return folder


@pytest.mark.parametrize(
    ("objective", "kind", "epochs"),
    [("stationarity", Stationarity, 1), ("continuity", Continuity, 8), ("training-free", TrainingFree, 0)],
)
def test_every_objective_has_its_task_and_its_number_of_epochs(score, objective, kind, epochs):
    task, schedule = build(FlowConfig(objective=objective), data(), 2.0, CPU, score)
    assert type(task) is kind
    assert schedule.epochs == epochs


@pytest.mark.parametrize("objective", ["stationarity", "continuity"])
def test_the_epochs_that_are_asked_for_are_those_of_the_schedule(score, objective):
    settings = FlowConfig(objective=objective, epochs=5, batch_size=3, learning_rate=0.02, schedule="constant")
    schedule = build(settings, data(), 2.0, CPU, score)[1]
    assert (schedule.epochs, schedule.batch_size, schedule.learning_rate, schedule.decay) == (5, 3, 0.02, "constant")


@pytest.mark.parametrize("objective", ["stationarity", "continuity"])
@pytest.mark.parametrize(("radius", "features"), [(1.0, 4), (1.5, 6), (2.0, 8)])
def test_a_field_has_the_stencil_widths_and_activation_of_its_settings(score, objective, radius, features):
    settings = FlowConfig(objective=objective, hidden=(7, 5), radius=radius, activation="tanh")
    field = build(settings, data(), 2.0, CPU, score)[0].model
    assert [tuple(weight.shape) for weight in field.weights] == [(7, features), (5, 7)]
    assert field.last.shape == (2, 1 + features + 5)
    assert len(field.mean) == features
    assert field.activation is torch.nn.functional.tanh


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_features_are_standardised_by_the_states_that_the_objective_sees(score, radius):
    many = data(400)
    mean, std = feature_statistics(many.train, radius)
    task = build(FlowConfig(radius=radius), many, 2.0, CPU, None)[0]
    assert_close((task.model.mean, task.model.std), (mean.double(), std.double()), rtol=0, atol=0)
    task = build(FlowConfig(objective="continuity", alpha=0.6, radius=radius), many, 2.0, CPU, score)[0]
    # sums of differences to n neighbours have the variance n (n + 1) of independent noise
    sizes = [1, 1] + [n * (n + 1) for n in (4, 4, 4)[: len(mean) // 2 - 1] for _ in range(2)]
    expected = (0.6 * std**2 + 0.4 * torch.tensor(sizes)).sqrt()
    # 25,000 cells of 400 states, not all independent: their variance within 4 (2 / 6,000)^(1/2) = 7 %
    assert_close(task.model.std, expected, rtol=0.035, atol=0)
    assert task.model.mean.abs().max() < 0.1


def test_the_same_seed_is_the_same_flow_and_another_is_another(score):
    for objective in ("stationarity", "continuity"):
        settings = FlowConfig(objective=objective, hidden=(6,))
        one, same, other = (
            build(dataclasses.replace(settings, seed=seed), data(), 2.0, CPU, score)[0].model for seed in (1, 1, 2)
        )
        assert_close(dict(one.state_dict()), dict(same.state_dict()), rtol=0, atol=0)
        assert (one.last - other.last).abs().min() > 0


@pytest.mark.parametrize(("divergence", "probes"), [("exact", 0), ("hutchinson", 3)])
def test_continuity_takes_probes_where_the_divergence_is_not_exact(score, divergence, probes):
    settings = FlowConfig(objective="continuity", divergence=divergence, probes=3, alpha=0.7, sym=0.2)
    task = build(dataclasses.replace(settings, gaussian_weight=0.1), data(), 2.0, CPU, score)[0]
    assert (task.probes, task.alpha, task.sym, task.gaussian_weight) == (probes, 0.7, 0.2, 0.1)


@pytest.mark.parametrize(("sign", "turned"), [("+", 1.0), ("-", -1.0)])
@pytest.mark.parametrize("kernel_radius", [0.0, 1.5])
def test_a_training_free_flow_has_the_mean_square_one_on_its_data(score, kernel_radius, sign, turned):
    settings = FlowConfig(objective="training-free", alpha=0.7, kernel_radius=kernel_radius, sign=sign, probes=2)
    subject, some = build(settings, data(), 2.0, CPU, score)[0], data()
    assert subject.probes == 2
    v = subject.model(some.train)
    assert_close(v.square().mean().item(), 1.0, rtol=1e-5, atol=0)  # float32 sums
    if not kernel_radius:
        # the score of the Gaussian is -x up to its size, so that du/dt = s_v goes against v
        expected = torch.stack([-some.train[:, 1], some.train[:, 0]], dim=1)
        assert_close(v, turned * expected / expected.square().mean().sqrt(), rtol=1e-4, atol=1e-4)  # float32


def test_the_speed_is_that_of_states_that_are_evenly_spread(score, monkeypatch):
    monkeypatch.setattr(tasks, "SPEED_STATES", 3)
    many = data(11)
    flow = build(FlowConfig(objective="training-free"), many, 2.0, CPU, score)[0].model
    assert_close(flow(many.train[::3]).square().mean().item(), 1.0, rtol=1e-5, atol=0)  # float32 sums
    assert abs(flow(many.train).square().mean().item() - 1) > 1e-3


@pytest.mark.parametrize("objective", ["stationarity", "continuity", "training-free"])
def test_a_flow_is_what_the_loop_leaves_of_its_task(score, objective, tmp_path):
    settings = FlowConfig(objective=objective, epochs=None if objective == "training-free" else 1, hidden=(4,))
    settings = dataclasses.replace(settings, observables=48, batch_size=8)
    some, affine = data(40), {"scale": 2.0, "shift": -1.0}
    task, schedule = build(settings, some, 2.0, CPU, score)
    fresh, reported = copy.deepcopy(task.model.state_dict()), []
    fit(task, some, schedule, Workers(), lambda metrics, state: reported.append((metrics, copy.deepcopy(state))))
    assert [metrics["epoch"] for metrics, _ in reported] == list(range(settings.passes + 1))
    assert all(math.isfinite(metrics["validation_loss"]) for metrics, _ in reported)
    weights = reported[-1][1]["average"]
    if objective == "training-free":
        assert_close(weights, dict(fresh), rtol=0, atol=0)  # there is nothing to learn
    else:
        assert not torch.equal(weights["last"], fresh["last"])
    config = {"kind": "flow", "settings": settings.identity(), "data": {"affine": affine}, "score": SCORE}
    write_checkpoint(tmp_path / "flow", config, weights)
    x = some.held
    v = 2 * Flow.load(tmp_path / "flow")((x + 1) / 2)
    # float32 of a flow in float64, whose last layer has numbers up to 1,000
    assert_close(v.double(), task.model(x).double(), rtol=1e-3, atol=1e-3)
