"""Passes over snapshots in memory: what is found in each, in the order of their ids."""

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.fields import Grid
from p2d.snapshots.passes import InMemory, Snapshots, carry_out
from p2d.snapshots.simulated import simulate_here


def task(sample_id: int, state: np.ndarray) -> dict[str, np.ndarray]:
    return {"id": np.array(sample_id), "means": state.mean(axis=(1, 2))}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    settings = {"num_samples": 6, "snapshots_per_run": 2, "interval": 5, "height": 12, "width": 10, "steps": 20}
    return simulate_here(SimulateConfig(preset=("waves",), **settings), tmp_path_factory.mktemp("data") / "d")


def test_each_snapshot_is_told_its_id_and_its_state():
    states = np.random.default_rng(0).random((3, 2, 4, 5))
    found = carry_out(task, np.array([4, 7, 9]), states)
    np.testing.assert_array_equal(found["id"], [4, 7, 9])
    np.testing.assert_array_equal(found["means"], states.mean(axis=(2, 3)))


@pytest.mark.parametrize("shape", [(5, 2, 4, 6), (9, 3, 7, 1)])
def test_an_array_is_an_ensemble_of_runs_of_their_own(shape):
    states = np.random.default_rng(0).random(shape)
    snapshots = InMemory.of_states(states, tuple("abc"[: shape[1]]))
    assert isinstance(snapshots, Snapshots)
    assert snapshots.grid == Grid(shape[2:]) and len(snapshots.species) == shape[1]
    np.testing.assert_array_equal(snapshots.runs, np.arange(shape[0]))
    np.testing.assert_array_equal(snapshots.each(task)["id"], snapshots.sample_ids)


@pytest.mark.parametrize(("most", "taken"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 4]), (64, [0, 1, 2, 3, 4])])
def test_some_are_evenly_spread(most, taken):
    states = np.random.default_rng(0).random((5, 2, 3, 3))
    np.testing.assert_array_equal(InMemory.of_states(states).some(most), states[taken])


def test_a_dataset_s_samples_keep_their_ids_and_runs(dataset):
    ids = np.array([4, 1, 5])
    snapshots = InMemory.of_dataset(dataset, ids)
    np.testing.assert_array_equal(snapshots.sample_ids, [1, 4, 5])
    np.testing.assert_array_equal(snapshots.runs, dataset.runs(np.array([1, 4, 5])))
    np.testing.assert_array_equal(snapshots.states, dataset.states(np.array([1, 4, 5])))
    np.testing.assert_array_equal(InMemory.of_dataset(dataset).sample_ids, dataset.living)
