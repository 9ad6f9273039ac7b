"""What a trial of a sweep is given and what it measures, without Tune."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from p2d.cluster import trial
from p2d.config import FlowSource, SimulateConfig, SweepConfig
from p2d.evaluate import metrics
from p2d.flow.model import Flow
from p2d.flow.velocity import LocalField
from p2d.snapshots.simulated import simulate_here
from p2d.training.checkpoint import write_checkpoint
from p2d.training.job import TrainJob


def sweep_of(config, dataset, folder, scores):
    return trial.Sweep(config, FlowSource(), dataset, "z_rms", folder, scores)


@pytest.mark.parametrize(
    ("values", "point"),
    [
        ({"point": {"flow.hidden": "4"}}, {"flow.hidden": "4"}),
        (
            {"flow.hidden": "8", "flow.seed": 2.6},
            {"flow.hidden": "8", "flow.seed": "3"},
        ),
    ],
)
def test_the_point_is_of_the_grid_or_of_what_optuna_proposes(values, point):
    config = SweepConfig(
        objective="stationarity",
        param=("flow.hidden=4,8", "flow.seed=0..10"),
        search="optuna",
        samples=2,
    )
    assert trial.point_of(config, values) == point


def test_a_point_has_the_score_model_of_its_own_settings_or_the_one_that_all_share():
    config = SweepConfig(alpha=(0.6, 0.9), sym=(0.0, 0.3), score_per_alpha=True)
    scores = {name: Path(name) for name in config.score_points()}
    sweep = sweep_of(config, None, Path("sweep"), scores)
    assert {str(sweep.score_of(point)) for point in config.points() if point["flow.alpha"] == "0.6"} == {"alpha=0.6"}
    assert len(scores) == 2
    shared = sweep_of(SweepConfig(alpha=(0.6, 0.9)), None, Path("sweep"), {"": Path("one")})
    assert {shared.score_of(point) for point in shared.config.points()} == {Path("one")}
    none = sweep_of(SweepConfig(objective="stationarity"), None, Path("sweep"), {})
    assert {none.score_of(point) for point in none.config.points()} == {None}


def test_a_flow_is_measured_on_the_held_out_snapshots(tmp_path):
    config = SimulateConfig(preset=("pulsating_solitons",), num_samples=12, height=32, width=32, steps=1000, chunk=8)
    dataset = simulate_here(config, tmp_path / "solitons_32x32")
    flow = SweepConfig(objective="stationarity", param=("flow.hidden=4,8",)).flow({"flow.hidden": "4"})
    job = TrainJob(flow, FlowSource(holdout=0.25), dataset, tmp_path / "flow")
    field = LocalField((4,), generator=torch.Generator().manual_seed(0)).double()
    write_checkpoint(job.folder, job.description, field.state_dict())
    measured = trial.measure(dataset, 0.25, job.folder)
    _, ids = dataset.split(0.25)
    states = dataset.states(ids)
    velocity = metrics.flow_velocity(Flow.load(job.folder), states)
    truth = metrics.true_velocity(dataset, ids, states)
    expected = {**metrics.stationarity(velocity, states), **metrics.cosine(velocity, truth, ("u", "v"))}
    assert_close(measured, expected, rtol=1e-13, atol=0)  # float64 sums, in another order
