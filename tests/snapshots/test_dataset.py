"""Datasets: opened and found by name, split by runs into training and held out, read by sample id."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.snapshots import files
from p2d.snapshots.files import write_shard
from p2d.snapshots.schema import LABELS, upgraded_labels
from p2d.snapshots.shards import shard_name
from p2d.snapshots.simulated import ALIVE_SHARE, shard_labels, simulate_here, writing
from p2d.snapshots.store import find_dataset, open_dataset
from p2d.snapshots.writing import kept_shards

from .helpers import as_version_3, of_last_year, read_rows, samples_of, simulation_of, small, with_living

# Opening


def test_a_missing_shard_is_told_and_restored(tmp_path):
    made = simulate_here(small(), tmp_path)
    (tmp_path / "shard-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"lacks its shard shard-00002\.parquet"):
        open_dataset(tmp_path)
    again = simulate_here(small(), tmp_path).card
    assert again == dataclasses.replace(made.card, seconds=again.seconds, card_hash=again.card_hash)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=f"no dataset folder {tmp_path / 'nowhere'}"):
        open_dataset(tmp_path / "nowhere")


def test_a_folder_without_a_card_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no card\.json"):
        open_dataset(tmp_path)


def test_an_unfinished_dataset_is_told(tmp_path):
    with writing(simulation_of(), tmp_path):
        pass
    with pytest.raises(UserError, match=f"{tmp_path} is unfinished"):
        open_dataset(tmp_path)


# The split


@pytest.mark.parametrize("holdout", [0.01, 0.1, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("pattern", ["1" * 10, "1100", "0101101", "10000000000001", "1" * 37 + "0" * 3])
def test_the_split_is_disjoint_and_covers_the_living(tmp_path, pattern, holdout):
    alive = [digit == "1" for digit in pattern]
    train, held = with_living(tmp_path, alive).split(holdout)
    living = np.flatnonzero(alive)
    assert_array_equal(np.sort(np.concatenate([train, held])), living)
    assert len(held) == min(max(1, round(holdout * len(living))), len(living) - 1)
    assert_array_equal(train, np.sort(train))


@pytest.mark.parametrize("samples", [4, 23, 40])
@pytest.mark.parametrize("snapshots_per_run", [2, 3, 7])
def test_no_run_is_on_both_sides_of_a_split(tmp_path, snapshots_per_run, samples):
    samples = max(samples, snapshots_per_run + 1)  # two runs at least
    alive = np.random.default_rng(samples).random(samples) < 0.7
    alive[[0, -1]] = True  # in the first run and the last
    runs = np.arange(samples) // snapshots_per_run
    dataset = with_living(tmp_path, alive.tolist(), chunk=5, snapshots_per_run=snapshots_per_run)
    assert_array_equal(dataset.index.column("run_id").to_numpy(), runs)
    living_runs = len(set(runs[alive]))
    for holdout in np.linspace(0.001, 0.999, 50):
        train, held = dataset.split(holdout)
        assert not set(runs[train]) & set(runs[held])
        assert_array_equal(np.sort(np.concatenate([train, held])), np.flatnonzero(alive))
        assert len(set(runs[held])) == min(max(1, round(holdout * living_runs)), living_runs - 1)


@pytest.mark.parametrize("snapshots_per_run", [1, 4])
@pytest.mark.parametrize("chunk", [1, 3, 40])
def test_the_split_does_not_depend_on_the_chunk(tmp_path, chunk, snapshots_per_run):
    alive = [i % 5 != 2 for i in range(23)]
    reference = with_living(tmp_path / "a", alive, snapshots_per_run=snapshots_per_run).split(0.2)
    other = with_living(tmp_path / "b", alive, chunk, snapshots_per_run).split(0.2)
    for part, same in zip(other, reference, strict=True):
        assert_array_equal(part, same)


@pytest.mark.parametrize("holdout", [0.1, 0.3, 0.5])
def test_what_is_held_out_is_spread_evenly(tmp_path, holdout):
    _, held = with_living(tmp_path, [True] * 40).split(holdout)
    gaps = np.diff(held)
    assert gaps.max() - gaps.min() <= 1
    assert held[-1] == 39


@pytest.mark.parametrize(
    ("pattern", "told"), [("0000", "0 living snapshots of 4"), ("0100", "1 living snapshot of 4"), ("1", "1 .* of 1")]
)
def test_a_split_of_fewer_than_two_snapshots_is_refused(tmp_path, pattern, told):
    dataset = with_living(tmp_path, [digit == "1" for digit in pattern])
    with pytest.raises(UserError, match=f"{told}, and at least 2"):
        dataset.split(0.1)
    # what all living are is known without a split
    assert_array_equal(dataset.states(), dataset.states(np.flatnonzero([digit == "1" for digit in pattern])))


def test_of_a_single_run_the_last_frames_are_held_out(tmp_path):
    film = with_living(tmp_path / "a", [True] * 10, snapshots_per_run=10)
    assert [part.tolist() for part in film.split(0.3)] == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9]]
    of_one_that_lives = with_living(tmp_path / "b", [False] * 3 + [True] * 3, snapshots_per_run=3)
    assert [part.tolist() for part in of_one_that_lives.split(0.1)] == [[3, 4], [5]]


def test_dead_samples_are_flagged_and_left_out(tmp_path):
    dataset = simulate_here(small(preset=("holes",), num_samples=12, height=12, width=16, steps=300), tmp_path)
    everything = dataset.states(np.arange(12))
    alive = everything[:, 1].std(axis=(1, 2)) > ALIVE_SHARE  # u is as uniform as v
    assert_array_equal(alive, everything[:, 0].std(axis=(1, 2)) > ALIVE_SHARE)
    assert 2 <= alive.sum() < 12  # this preset dies out on some grids of this size
    assert_array_equal(dataset.index.column("alive").to_numpy(zero_copy_only=False), alive)
    assert dataset.card.alive == alive.sum()
    assert dataset.card.samples == 12
    assert dataset.states().tobytes() == everything[alive].tobytes()
    assert_array_equal(np.sort(np.concatenate(dataset.split(0.2))), np.flatnonzero(alive))


# Reading


def test_states_come_in_the_order_of_the_ids_asked_for(tmp_path):
    dataset = simulate_here(small(), tmp_path)
    everything = dataset.states(np.arange(10))
    assert_array_equal(dataset.states(np.array([9, 0, 5, 4])), everything[[9, 0, 5, 4]])
    assert_array_equal(dataset.read_ids("shard-00001.parquet", np.array([9, 5, 4])), [4, 5])
    ids, states = dataset.read_shard("shard-00001.parquet", np.array([9, 6, 5]))
    assert_array_equal(ids, [5, 6])
    assert_array_equal(states, everything[[5, 6]])


@pytest.mark.parametrize(
    ("ids", "told"), [([0, 10], "knows no sample 10"), ([-1], "knows no sample -1"), ([3, 4, 3], "a sample twice")]
)
def test_a_sample_that_is_not_there_or_asked_for_twice_is_told(tmp_path, ids, told):
    with pytest.raises(UserError, match=f"{told}; its ids are 0 to 9"):
        with_living(tmp_path, [True] * 10).states(np.array(ids))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("index", "row"), [(0, 0), (1, 3), (2, 1)])
def test_a_value_that_is_not_finite_is_told_by_shard_row_and_sample(tmp_path, index, row, value):
    dataset = with_living(tmp_path, [True] * 10)
    _, states = dataset.read_shard(shard_name(index))
    spoilt = states.copy()
    spoilt[row, 1, 3, 5] = value
    write_shard(tmp_path, index, samples_of(spoilt, 4 * index))
    sample = 4 * index + row
    told = f"{tmp_path}/{shard_name(index)}: row {row} (sample {sample}) holds a value that is not finite"
    for ids in (None, np.array([sample]), np.array([9, sample, 0] if 0 < sample < 9 else [5, sample])):
        with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
            dataset.states(ids)
    others = np.setdiff1d(np.arange(10), [sample])
    assert np.isfinite(dataset.states(others)).all()


@pytest.mark.parametrize("index", [0, 2])
def test_a_shard_that_changed_places_with_another_is_told(tmp_path, index):
    dataset = with_living(tmp_path, [True] * 10)
    dataset.index  # noqa: B018 - opened before the change
    (tmp_path / shard_name(index)).write_bytes((tmp_path / shard_name(1)).read_bytes())
    with pytest.raises(UserError, match=f"{shard_name(index)} is not the shard that the card says; p2d verify"):
        dataset.states(np.array([4 * index, 5]))
    assert len(dataset.states(np.array([5, 6]))) == 2  # of a shard that is as it should be


@pytest.mark.parametrize("pattern", ["1111", "0101101", "0" * 9 + "1", "0000"])
@pytest.mark.parametrize("chunk", [2, 4])
def test_the_living_are_told_by_their_ids(tmp_path, pattern, chunk):
    alive = [digit == "1" for digit in pattern]
    assert_array_equal(with_living(tmp_path, alive, chunk).living, np.flatnonzero(alive))


def by_the_rows(folder) -> pa.Table:
    """The labels of all rows as the shards hold them, in the order of sample ids."""
    return upgraded_labels(read_rows(folder, LABELS)).sort_by("sample_id")


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("snapshots_per_run", [1, 3])
@pytest.mark.parametrize("pattern", ["1" * 10, "0101101110", "1" * 4 + "0" * 4 + "11"])
def test_a_dataset_says_of_its_rows_what_the_rows_say(tmp_path, pattern, snapshots_per_run, version):
    with_living(tmp_path, [digit == "1" for digit in pattern], 4, snapshots_per_run)
    if version == 3:
        as_version_3(tmp_path)
    dataset, rows = open_dataset(tmp_path), by_the_rows(tmp_path)
    assert dataset.index.equals(rows)
    ids, runs, times, alive = (rows[key].to_numpy() for key in ("sample_id", "run_id", "time", "alive"))
    assert_array_equal(dataset.living, ids[alive])
    some = np.array([7, 0, 9, 2])
    assert_array_equal(dataset.runs(some), runs[some])
    assert_array_equal(dataset.times(some), times[some])
    assert dataset.systems_of(some) == [dataset.card.systems["waves"]] * 4
    train, held = dataset.split(0.3)
    own = dict(zip(ids.tolist(), runs.tolist(), strict=True))
    last = np.unique(runs[alive])  # the last of each of so many equal stretches
    count = max(1, round(0.3 * len(last)))
    out = last[np.arange(1, count + 1) * len(last) // count - 1]
    assert held.tolist() == [i for i in ids[alive].tolist() if own[i] in out]
    assert train.tolist() == [i for i in ids[alive].tolist() if own[i] not in out]


def test_only_the_shards_that_are_asked_for_are_opened(tmp_path, monkeypatch):
    alive = [i % 7 != 3 for i in range(40)]
    with_living(tmp_path, alive, chunk=2)
    of_last_year(tmp_path)
    opened = []

    class Counted(pq.ParquetFile):
        def __init__(self, source, *arguments, **options):
            opened.append(source)
            super().__init__(source, *arguments, **options)

    monkeypatch.setattr(files.pq, "ParquetFile", Counted)
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: pytest.fail(f"reads {path}"))
    dataset = open_dataset(tmp_path)
    kept = kept_shards(tmp_path, dataset.card, shard_labels(simulation_of(num_samples=40, chunk=2)))
    assert not len(kept.missing)
    assert_array_equal(dataset.living, np.flatnonzero(alive))
    train, held = dataset.split(0.1)
    dataset.runs(train), dataset.times(held), dataset.systems_of(train)
    parts = [(name, ids.tolist()) for name, ids in dataset.by_shard(np.array([39, 4, 5, 12]))]
    assert parts == [(shard_name(2), [4, 5]), (shard_name(6), [12]), (shard_name(19), [39])]
    assert_array_equal(dataset.read_ids(shard_name(2), np.array([9, 5, 4])), [4, 5])
    assert opened == []
    dataset.states(np.array([39, 4, 5, 12]))
    assert sorted(opened) == [tmp_path / shard_name(number) for number in (2, 6, 19)]


# Names


def test_a_dataset_is_found_by_name_short_name_and_path(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "waves_10x12"
    made = simulate_here(small(), folder)
    monkeypatch.chdir(tmp_path)
    for name in ("waves_10x12", "waves", str(folder), "data/waves_10x12"):
        found = find_dataset(name, tmp_path)
        assert found.card == made.card
        assert found.folder.resolve() == folder


def test_a_dataset_that_is_not_there_lists_those_that_are(tmp_path):
    simulate_here(small(), tmp_path / "data" / "waves_10x12")
    simulate_here(small(seed=1), tmp_path / "data" / "mine")
    with pytest.raises(UserError, match=r"no dataset 'spirals'.*which holds mine, waves_10x12"):
        find_dataset("spirals", tmp_path)
    with pytest.raises(UserError, match=r"no dataset 'spirals'.*which is empty"):
        find_dataset("spirals", tmp_path / "elsewhere")


def test_a_short_name_of_two_datasets_is_refused(tmp_path):
    for height in (10, 12):
        simulate_here(small(height=height), tmp_path / "data" / f"waves_{height}x12")
    with pytest.raises(UserError, match="several datasets are called 'waves': waves_10x12, waves_12x12"):
        find_dataset("waves", tmp_path)
    assert find_dataset("waves_12x12", tmp_path).card.grid == Grid((12, 12))
