"""The benchmark of the flow: a row for each number of snapshots, a number for each seed."""

import functools
import json

import pytest

from p2d.bench.flow import bench, rank_correlation
from p2d.cli import main
from p2d.config import FlowConfig, SimulateConfig
from p2d.config.bench import BenchFlowConfig
from p2d.errors import UserError
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import Dataset

from ..evaluate.helpers import dataset_of, patterns

MEASURED = {"cosine", "z_rms", "imbalance", "seconds"}
SIZE = {"num_samples": 12, "height": 16, "width": 16, "steps": 100, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def chaos(tmp_path_factory) -> Dataset:
    config = SimulateConfig(preset=("chaos",), **SIZE)
    return simulate_here(config, tmp_path_factory.mktemp("runs") / "data" / "chaos_16x16")


@pytest.fixture(autouse=True)
def small_flows(monkeypatch):
    """Flows of 8 hidden units and 48 observables."""
    monkeypatch.setattr("p2d.bench.flow.FlowConfig", functools.partial(FlowConfig, hidden=(8,), observables=48))


def config(**settings) -> BenchFlowConfig:
    return BenchFlowConfig(**{"holdout": 0.25, "threads": 1, "seeds": 1, "snapshots": (0,), **settings})


def test_the_command_prints_every_row_with_its_numbers(chaos, capsys):
    place = str(chaos.folder.parent.parent)
    arguments = ["bench", "flow", "-m", "chaos", "-o", place, "--seeds", "1", "--threads", "1"]
    main([*arguments, "--snapshots", "0", "5", "--holdout", "0.25", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"runs", "rank_correlation"}
    rows = found["runs"]
    assert [row["snapshots"] for row in rows] == [9, 5]  # a quarter of twelve is held out
    for row in rows:
        assert set(row) == {"snapshots"} | MEASURED
        assert all(len(row[key]) == 1 for key in MEASURED)
        assert -1 <= row["cosine"][0] <= 1 and row["z_rms"][0] >= 0 and row["seconds"][0] > 0
        assert 0 < row["imbalance"][0] <= 1
    main([*arguments, "--snapshots", "5", "--holdout", "0.25"])
    said = capsys.readouterr().out
    assert f"{rows[1]['cosine'][0]:.5f}" in said


def test_each_seed_has_its_numbers_and_is_the_same_twice(chaos):
    (row,), (again,) = (bench(config(snapshots=(6,), seeds=2), chaos) for _ in range(2))
    assert row["snapshots"] == 6
    for key in MEASURED - {"seconds"}:
        assert len(row[key]) == 2 and row[key] == again[key]
    assert row["cosine"][0] != row["cosine"][1]
    assert row["imbalance"][0] == row["imbalance"][1], "it is of the data"


def test_data_of_no_known_system_is_refused(tmp_path):
    dataset = dataset_of(patterns(12, 16, 16), tmp_path / "data" / "plain_16x16")
    with pytest.raises(UserError, match=r"plain_16x16 is of no known system"):
        bench(config(), dataset)


def test_more_snapshots_than_there_are_is_all_of_them(chaos):
    (row,) = bench(config(snapshots=(500,)), chaos)
    assert row["snapshots"] == 9


@pytest.mark.parametrize(
    ("cosines", "z", "expected"),
    [
        ([[0.9, 0.5], [0.99]], [[2.0, 7.0], [1.0]], -1),
        ([[0.9], [0.5], [0.99]], [[2.0], [1.0], [7.0]], 1),
        ([[-0.9, 0.5, 0.1]], [[1.0, 2.0, 3.0]], -1),  # either direction of time
        ([[0.1, 0.2, 0.3, 0.4]], [[1.0, 3.0, 2.0, 4.0]], 1 - 6 * 2 / (4 * 15)),  # Spearman's formula
    ],
)
def test_the_rank_correlation_is_spearman_s_over_all_trainings(cosines, z, expected):
    rows = [{"cosine": c, "z_rms": s} for c, s in zip(cosines, z, strict=True)]
    assert rank_correlation(rows) == pytest.approx(expected, abs=1e-12)  # float64


def test_two_trainings_have_no_rank_correlation():
    assert rank_correlation([{"cosine": [0.5, 0.9], "z_rms": [1.0, 2.0]}]) is None
