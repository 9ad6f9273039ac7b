"""Known conditions of samples, and groups of runs that hold one of them alone."""

from dataclasses import replace

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.snapshots.conditions import Conditions, nearest_label
from p2d.snapshots.passes import Groups, InMemory
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import Dataset

IDS = np.array([1, 2, 5, 7, 8, 9])
VALUES = np.array([[1.0], [1.0], [3.0], [2.0], [2.0], [1.0]])


def test_samples_have_the_conditions_of_their_stretch():
    conditions = Conditions.of_samples(("F",), IDS, VALUES)
    assert conditions.starts.tolist() == [1, 5, 7, 9]
    np.testing.assert_array_equal(conditions.of(IDS), VALUES)
    np.testing.assert_array_equal(conditions.of(np.array([8, 2])), [[2], [1]])
    assert conditions.strata(IDS).tolist() == [0, 0, 2, 1, 1, 0]
    assert conditions.known == {"F": (1.0, 2.0, 3.0)} and conditions.centre == 2.0
    assert conditions.where(IDS[:2]) == "F = 1" and conditions.where(IDS) == "F = 1 to 3"


@pytest.mark.parametrize(("count", "sizes"), [(2, [1, 1]), (3, [1, 1, 1]), (7, [3, 2, 2])])
def test_neighbouring_values_are_one_part_where_they_are_many(count, sizes):
    conditions = Conditions.of_samples(("F",), np.arange(count), np.arange(count, dtype=float)[:, None])
    parts = conditions.parts(np.arange(count))
    assert np.bincount(parts).tolist() == sizes and (np.diff(parts) >= 0).all()


def test_two_conditions_are_parted_in_halves_each():
    values = np.stack(np.meshgrid([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], indexing="ij"), axis=-1).reshape(-1, 2)
    conditions = Conditions.of_samples(("F", "k"), np.arange(9), values)
    assert conditions.parts(np.arange(9)).tolist() == [0, 0, 1, 0, 0, 1, 2, 2, 3]


def test_groups_hold_runs_of_one_condition_alone():
    strata, runs = np.repeat([0, 1], 50), np.repeat(np.arange(50), 2)
    groups = Groups.of(runs, 10, strata)
    assert len(groups.runs) == 10 and groups.runs.sum() == 50 and groups.runs.dtype.kind == "i"
    assert not set(groups.place[strata == 0]) & set(groups.place[strata == 1])
    np.testing.assert_array_equal(groups.share, 0.5)
    with pytest.raises(UserError, match="run 7 has frames of several conditions"):
        Groups.of(np.where(np.arange(100) == 60, 7, runs), 10, strata)


def test_the_nearest_label_is_that_of_the_nearest_conditions():
    known = {"a": {"F": 0.01, "T": 20.0}, "b": {"F": 0.02, "T": 30.0}, "c": {"F": 0.02}}
    assert nearest_label(known, {"F": 0.012}) == "a"
    assert nearest_label(known, {"F": 0.0155, "T": 28.0}) == "b"
    with pytest.raises(UserError, match="no snapshots of a known k are there"):
        nearest_label(known, {"k": 1.0})


def test_a_dataset_s_conditions_are_those_of_its_labels(tmp_path):
    settings = {"num_samples": 3, "height": 8, "width": 8, "steps": 1, "chunk": 2, "set": ("F=0.03,0.01,0.02",)}
    dataset = simulate_here(SimulateConfig(**settings), tmp_path / "d")
    own = InMemory.of_dataset(dataset, dataset.sample_ids, ("F",)).conditions
    np.testing.assert_array_equal(own.of(dataset.sample_ids)[:, 0], np.repeat([0.03, 0.01, 0.02], 3))
    first = next(iter(dataset.card.conditions))
    lacking = Dataset(dataset.folder, replace(dataset.card, conditions=dataset.card.conditions | {first: {"k": 1.0}}))
    with pytest.raises(UserError, match=rf"the 3 samples labelled '{first}' have no F; say it, or leave them out"):
        Conditions.of_dataset(lacking, ("F",), dataset.sample_ids)
    known = Dataset(dataset.folder, replace(dataset.card, conditions={}))
    with pytest.raises(UserError, match="has no condition 'F'; none is known"):
        Conditions.of_dataset(known, ("F",), dataset.sample_ids)
