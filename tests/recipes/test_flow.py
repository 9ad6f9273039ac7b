"""From settings to the task of a flow: its objective, its features, its unit of time."""

import copy
import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close

from p2d.config import FlowConfig
from p2d.flow.continuity import Continuity
from p2d.flow.model import Flow
from p2d.flow.skew import TrainingFree
from p2d.flow.stationarity import Stationarity
from p2d.flow.velocity import feature_statistics
from p2d.recipes import build, flow
from p2d.score.model import ScoreModel
from p2d.training.checkpoint import write_checkpoint
from p2d.training.loop import fit
from p2d.training.workers import Workers

from .helpers import CPU, GRID, SCALING, data

SCORE = {"channels": [4], "alpha": [0.5, 0.99], "sampling": 0.25}


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    """The folder of a score model that is a Gaussian's, of the mean 0 and variance 1 of every cell."""
    folder = tmp_path_factory.mktemp("score") / "score"
    write_checkpoint(
        folder,
        {"kind": "score", "settings": SCORE, "data": {"grid": GRID.to_dict()}},
        ScoreModel((4,), (0.5, 0.99)).state_dict(),
    )
    return folder


@pytest.mark.parametrize(
    ("objective", "kind", "epochs"),
    [("stationarity", Stationarity, 1), ("continuity", Continuity, 8), ("training-free", TrainingFree, 0)],
)
def test_every_objective_has_its_task_and_its_number_of_epochs(score, objective, kind, epochs):
    settings = FlowConfig(objective=objective)
    assert type(build(settings, data(), GRID, SCALING, CPU, score)) is kind
    assert settings.passes == epochs


@pytest.mark.parametrize("objective", ["stationarity", "continuity"])
def test_epochs_batches_and_rates_are_those_that_are_asked_for(score, objective):
    settings = FlowConfig(objective=objective, epochs=2, batch_size=3, learning_rate=0.02, schedule="constant")
    some, reported = data(40), []
    task = build(dataclasses.replace(settings, observables=48), some, GRID, SCALING, CPU, score)
    fit(task, some, settings, Workers(), lambda epoch, state: reported.append((epoch, state["step"])))
    assert [(epoch.number, step) for epoch, step in reported] == [(0, 0), (1, 12), (2, 24)]  # 38 states by 3
    assert [epoch.metrics["learning_rate"] for epoch, _ in reported[1:]] == [0.02, 0.02]


@pytest.mark.parametrize("objective", ["stationarity", "continuity"])
@pytest.mark.parametrize(("radius", "features"), [(1.0, 4), (1.5, 6), (2.0, 8)])
def test_a_field_has_the_stencil_widths_and_activation_of_its_settings(score, objective, radius, features):
    settings = FlowConfig(objective=objective, hidden=(7, 5), radius=radius, activation="tanh")
    field = build(settings, data(), GRID, SCALING, CPU, score).model
    assert [tuple(weight.shape) for weight in field.weights] == [(7, features), (5, 7)]
    assert field.last.shape == (2, 1 + features + 5)
    assert len(field.mean) == features
    assert field.activation is torch.nn.functional.tanh


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_features_are_standardised_by_the_states_that_the_objective_sees(score, radius):
    many = data(400)
    mean, std = feature_statistics(many.train, radius)
    task = build(FlowConfig(radius=radius), many, GRID, SCALING, CPU, None)
    assert_close((task.model.mean, task.model.std), (mean.double(), std.double()), rtol=0, atol=0)
    task = build(FlowConfig(objective="continuity", alpha=0.6, radius=radius), many, GRID, SCALING, CPU, score)
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
            build(dataclasses.replace(settings, seed=seed), data(), GRID, SCALING, CPU, score).model
            for seed in (1, 1, 2)
        )
        assert_close(dict(one.state_dict()), dict(same.state_dict()), rtol=0, atol=0)
        assert (one.last - other.last).abs().min() > 0


@pytest.mark.parametrize(("divergence", "probes"), [("exact", 0), ("hutchinson", 3)])
def test_continuity_takes_probes_where_the_divergence_is_not_exact(score, divergence, probes):
    settings = FlowConfig(objective="continuity", divergence=divergence, probes=3, alpha=0.7, sym=0.2)
    task = build(dataclasses.replace(settings, gaussian_weight=0.1), data(), GRID, SCALING, CPU, score)
    assert (task.probes, task.alpha, task.sym, task.gaussian_weight) == (probes, 0.7, 0.2, 0.1)


@pytest.mark.parametrize(("sign", "turned"), [("+", 1.0), ("-", -1.0)])
@pytest.mark.parametrize("kernel_radius", [0.0, 1.5])
def test_a_training_free_flow_has_the_mean_square_one_on_its_data(score, kernel_radius, sign, turned):
    settings = FlowConfig(objective="training-free", alpha=0.7, kernel_radius=kernel_radius, sign=sign, probes=2)
    subject, some = build(settings, data(), GRID, SCALING, CPU, score), data()
    assert subject.probes == 2
    v = subject.model(some.train)
    assert_close(v.square().mean().item(), 1.0, rtol=1e-5, atol=0)  # float32 sums
    if not kernel_radius:
        # the score of the Gaussian is -x up to its size, so that du/dt = s_v goes against v
        expected = torch.stack([-some.train[:, 1], some.train[:, 0]], dim=1)
        assert_close(v, turned * expected / expected.square().mean().sqrt(), rtol=1e-4, atol=1e-4)  # float32


def test_the_speed_is_that_of_states_that_are_evenly_spread(score, monkeypatch):
    monkeypatch.setattr(flow, "SPEED_STATES", 3)
    many = data(11)
    field = build(FlowConfig(objective="training-free"), many, GRID, SCALING, CPU, score).model
    assert_close(field(many.train[::3]).square().mean().item(), 1.0, rtol=1e-5, atol=0)  # float32 sums
    assert abs(field(many.train).square().mean().item() - 1) > 1e-3


@pytest.mark.parametrize("objective", ["stationarity", "continuity", "training-free"])
def test_a_flow_is_what_the_loop_leaves_of_its_task(score, objective, tmp_path):
    settings = FlowConfig(objective=objective, epochs=None if objective == "training-free" else 1, hidden=(4,))
    settings = dataclasses.replace(settings, observables=48, batch_size=8)
    some, affine = data(40), {"scale": 2.0, "shift": -1.0}
    task = build(settings, some, GRID, SCALING, CPU, score)
    fresh, reported = copy.deepcopy(task.model.state_dict()), []
    fit(task, some, settings, Workers(), lambda epoch, state: reported.append((epoch, copy.deepcopy(state))))
    assert [epoch.number for epoch, _ in reported] == list(range(settings.passes + 1))
    assert all(math.isfinite(epoch.validation_loss) for epoch, _ in reported)
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
