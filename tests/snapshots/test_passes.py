"""Passes over snapshots in memory: what is found in them, added up in groups of runs."""

import itertools

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.fields import Grid
from p2d.snapshots import passes
from p2d.snapshots.passes import Groups, InMemory, Snapshots, Sums, successive
from p2d.snapshots.simulated import simulate_here


def task(sample_id: int, state: np.ndarray) -> dict[str, np.ndarray]:
    return {"id": np.array(float(sample_id)), "means": state.mean(axis=(1, 2))}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    settings = {"num_samples": 6, "snapshots_per_run": 2, "interval": 5, "height": 12, "width": 10, "steps": 20}
    return simulate_here(SimulateConfig(preset=("waves",), **settings), tmp_path_factory.mktemp("data") / "d")


def ensemble(runs: np.ndarray) -> InMemory:
    count = len(runs)
    states = np.random.default_rng(0).random((count, 2, 3, 4))
    return InMemory(states, np.arange(count), runs, np.full(count, np.nan), ("u", "v"), Grid((3, 4)))


@pytest.mark.parametrize("shape", [(5, 2, 4, 6), (9, 3, 7, 1)])
def test_an_array_is_an_ensemble_of_runs_of_their_own(shape):
    states = np.random.default_rng(0).random(shape)
    snapshots = InMemory.of_states(states, tuple("abc"[: shape[1]]))
    assert isinstance(snapshots, Snapshots)
    assert snapshots.grid == Grid(shape[2:]) and len(snapshots.species) == shape[1]
    assert snapshots.run_count == shape[0]
    found = snapshots.means(task)
    np.testing.assert_array_equal(found.of["id"], snapshots.sample_ids)
    np.testing.assert_array_equal(found.of["means"], states.mean(axis=(2, 3)))
    np.testing.assert_array_equal(found.runs, np.ones(shape[0]))


def test_up_to_as_many_runs_as_groups_each_is_one_and_its_frames_count_together():
    runs = np.array([7, 3, 3, 9, 7, 7, 3, 1])
    snapshots = ensemble(runs)
    found = snapshots.means(task)
    expected = [snapshots.states[runs == run].mean(axis=(0, 2, 3)) for run in (1, 3, 7, 9)]
    np.testing.assert_allclose(found.of["means"], expected, rtol=1e-14)
    np.testing.assert_array_equal(found.runs, [1, 1, 1, 1])


@pytest.mark.parametrize(("count", "most"), [(9, 8), (40, 8), (1000, 32), (5000, 1024)])
def test_of_more_runs_than_groups_the_weighted_mean_over_groups_is_that_over_runs(count, most):
    runs = np.random.default_rng(1).integers(count, size=3 * count)
    groups = Groups.of(runs, most)
    names = np.unique(runs)
    assert len(groups.runs) == most and groups.runs.sum() == len(names)
    assert groups.runs.max() <= 2 * groups.runs.min(), "groups are of about the same size"
    for run in names[:: max(1, len(names) // 50)]:
        mine = runs == run
        assert len(set(groups.place[mine])) == 1 and groups.share[mine].sum() == pytest.approx(1, rel=1e-12)
    values = np.random.default_rng(2).random(len(runs))
    sums = np.bincount(groups.place, groups.share * values)
    expected = np.mean([values[runs == run].mean() for run in names])
    assert sums.sum() / groups.runs.sum() == pytest.approx(expected, rel=1e-12)
    # the standard error of independent runs of one frame comes back from groups of them
    alone = Groups.of(np.arange(count), most)
    draws = np.random.default_rng(3).normal(size=(200, count))
    means = np.stack([np.bincount(alone.place, draw) / alone.runs for draw in draws])
    centre = (means @ alone.runs / count)[:, None]
    variance = (alone.runs * (means - centre) ** 2).sum(axis=1) / (most - 1)
    assert variance.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / (most - 1) / 200))


def test_the_samples_of_successive_runs_share_a_group_where_there_are_many():
    place = Groups.of(np.arange(32 * 100), 32).place
    assert np.count_nonzero(np.diff(place)) < 32 * passes.STRETCHES


def test_parts_added_up_in_their_order_are_the_whole(monkeypatch):
    monkeypatch.setattr(passes, "GROUPS", 5)
    snapshots = ensemble(np.arange(23) // 2)
    groups, whole = snapshots.groups, Sums()
    for start, end in itertools.pairwise([0, 4, 5, 17, 23]):
        part = slice(start, end)
        ids, states = snapshots.sample_ids[part], snapshots.states[part]
        whole.add(Sums.over(task, ids, states, groups.place[part], groups.share[part]))
    found, expected = whole.means(groups), snapshots.means(task)
    for key, values in expected.of.items():
        np.testing.assert_allclose(found.of[key], values, rtol=1e-14)


def test_samples_that_are_not_finite_count_in_no_group_and_are_kept_up_to_a_number():
    snapshots = ensemble(np.arange(150))
    snapshots.states[::2, 0, 0, 0] = np.nan
    found = snapshots.means(task)
    assert found.broken_count == 75 and list(found.broken) == list(range(0, 2 * passes.KEPT, 2))
    assert np.isfinite(found.of["means"]).all()


@pytest.mark.parametrize(("most", "taken"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 4]), (64, [0, 1, 2, 3, 4])])
def test_some_are_evenly_spread(most, taken):
    states = np.random.default_rng(0).random((5, 2, 3, 3))
    np.testing.assert_array_equal(InMemory.of_states(states).some(most), states[taken])


def test_pairs_are_successive_frames_of_one_run_at_known_times():
    ids, runs = np.array([3, 5, 6, 8, 9, 11]), np.array([1, 0, 1, 0, 2, 1])
    times = np.array([4.0, 1.0, 2.5, np.nan, 0.0, 9.0])
    pairs, between = successive(ids, runs, times, 10)
    np.testing.assert_array_equal(pairs, [[6, 3], [3, 11]])
    np.testing.assert_array_equal(between, [1.5, 5.0])
    assert len(successive(ids, runs, times, 1)[0]) == 1
    assert successive(ids, ids, times, 10)[0].shape == (0, 2)


def test_a_dataset_s_samples_keep_their_ids_and_runs(dataset):
    ids = np.array([4, 1, 5])
    snapshots = InMemory.of_dataset(dataset, ids)
    np.testing.assert_array_equal(snapshots.sample_ids, [1, 4, 5])
    np.testing.assert_array_equal(snapshots.runs, dataset.runs(np.array([1, 4, 5])))
    np.testing.assert_array_equal(snapshots.states, dataset.states(np.array([1, 4, 5])))
    np.testing.assert_array_equal(InMemory.of_dataset(dataset).sample_ids, dataset.living)
