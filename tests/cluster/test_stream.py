"""States that do not fit in memory are streamed in the very batches of those that do, and teach the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from p2d.cluster import training as cluster_train
from p2d.cluster.stream import StreamedData, batches_a_stretch, open_data
from p2d.config import FlowConfig, ScoreConfig, SimulateConfig, TrainSource
from p2d.errors import UserError
from p2d.snapshots.files import read_table, write_shard
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import Dataset
from p2d.training.history import History
from p2d.training.job import TrainJob
from p2d.training.randomness import BLOCK, WINDOW
from p2d.training.states import MemoryData, load_data
from p2d.training.workers import Workers

from ..snapshots.helpers import samples_of, with_living

HOLDOUT = 0.1
LITTLE = 1e-6  # GiB: a kilobyte, which holds no dataset
SCORE = ScoreConfig(epochs=2, batch_size=48, channels=(4,), warmup=2, precision="float32")
FLOW = FlowConfig(epochs=1, batch_size=48, hidden=(4,), observables=48)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Dataset:
    """More training samples than a window of the order, some of them dead, in shards of no divisor of anything."""
    alive = (np.random.default_rng(1).random(WINDOW + 160) < 0.95).tolist()
    return with_living(tmp_path_factory.mktemp("large"), alive, chunk=75)


@pytest.fixture(scope="module")
def patterns(tmp_path_factory) -> Dataset:
    config = SimulateConfig(preset=("waves",), num_samples=WINDOW + 88, height=8, width=8, steps=40, chunk=50)
    return simulate_here(config, tmp_path_factory.mktemp("patterns") / "waves_8x8")


# Batches


@pytest.mark.parametrize("first", [3, 10])  # in the first stretch, of ten batches, and at the start of the second
def test_a_stream_begins_in_the_middle_of_an_epoch(cluster, large, first):
    memory, streamed = load_data(large, HOLDOUT), StreamedData(large, HOLDOUT, epochs=2)
    for epoch, start in ((1, first), (2, 0)):
        parts = zip(
            streamed.batches(3, epoch, 48, Workers(1, 2), start),
            memory.batches(3, epoch, 48, Workers(1, 2), start),
            strict=True,
        )
        for (states, ids), (same, same_ids) in parts:
            assert ids == same_ids
            assert_close(states, same, rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("batch_size", [48, 7, WINDOW + 20])  # no divisor of anything, many, and larger than a window
def test_streamed_batches_are_those_in_memory_to_the_last_bit_in_order(cluster, large, batch_size, size):
    memory = load_data(large, HOLDOUT)
    assert memory.count > WINDOW
    for rank in range(size):
        workers = Workers(rank, size)
        streamed = StreamedData(large, HOLDOUT, epochs=2)
        assert streamed.count == memory.count
        for epoch in (1, 2):
            found = list(streamed.batches(3, epoch, batch_size, workers))
            expected = list(memory.batches(3, epoch, batch_size, workers))
            assert [ids for _, ids in found] == [ids for _, ids in expected]
            for (states, _), (same, _) in zip(found, expected, strict=True):
                assert states.dtype == same.dtype
                assert torch.equal(states, same)


@pytest.mark.parametrize("first", [2, 3])
def test_a_training_that_goes_on_streams_the_epochs_that_are_left(cluster, large, first):
    memory, streamed = load_data(large, HOLDOUT), StreamedData(large, HOLDOUT, epochs=3)
    for epoch in range(first, 4):
        found = list(streamed.batches(0, epoch, 64, Workers()))
        expected = list(memory.batches(0, epoch, 64, Workers()))
        assert [ids for _, ids in found] == [ids for _, ids in expected]
        assert_close(torch.cat([states for states, _ in found]), torch.cat([s for s, _ in expected]), rtol=0, atol=0)


def test_an_epoch_that_is_asked_for_out_of_turn_is_read_anew(cluster, large):
    memory, streamed = load_data(large, HOLDOUT), StreamedData(large, HOLDOUT, epochs=3)
    for epoch in (1, 3, 1, 2):
        found = [ids for _, ids in streamed.batches(0, epoch, 100, Workers())]
        assert found == [ids for _, ids in memory.batches(0, epoch, 100, Workers())]


def test_fewer_samples_than_a_batch_are_one_batch(cluster, tmp_path):
    dataset = with_living(tmp_path, [True] * 11)
    memory, streamed = load_data(dataset, HOLDOUT), StreamedData(dataset, HOLDOUT, epochs=2)
    for epoch in (1, 2):
        ((states, ids),) = streamed.batches(0, epoch, 64, Workers())
        ((same, same_ids),) = memory.batches(0, epoch, 64, Workers())
        assert ids == same_ids
        assert torch.equal(states, same)


@pytest.mark.parametrize("batch_size", [1, 4, 48, WINDOW - 1, WINDOW, 10 * WINDOW])
def test_what_is_read_together_is_at_most_a_window_or_one_batch(batch_size):
    stretch = batches_a_stretch(batch_size)
    assert stretch >= 1
    assert stretch * batch_size <= max(WINDOW, batch_size)
    assert (stretch + 1) * batch_size > WINDOW


# Other states


@pytest.mark.parametrize("size", [1, 2, 3])
def test_held_out_states_come_in_parts_that_the_workers_share(large, size):
    holdout = 0.3
    memory, streamed = load_data(large, holdout), StreamedData(large, holdout, epochs=1)
    assert len(memory.held) > 2 * BLOCK
    for rank in range(size):
        parts = list(streamed.held_out(Workers(rank, size)))
        assert max(len(ids) for _, ids in parts) <= BLOCK
        ((same, same_ids),) = memory.held_out(Workers(rank, size))
        assert [i for _, ids in parts for i in ids] == same_ids
        assert torch.equal(torch.cat([states for states, _ in parts]), same)


def test_a_worker_that_has_no_held_out_states_has_one_part_without_any(tmp_path):
    streamed = StreamedData(with_living(tmp_path, [True] * 5), HOLDOUT, epochs=1)
    (_, ids), (none, no_ids) = (next(iter(streamed.held_out(Workers(rank, 2)))) for rank in range(2))
    assert (ids, no_ids, none.shape) == ([4], [], (0, 2, 4, 6))


@pytest.mark.parametrize("positions", [[0, 5, 3], [500, 2, 511, 510], []])
def test_states_are_those_at_the_positions_in_memory(large, positions):
    chosen = torch.tensor(positions, dtype=torch.int64)
    found = StreamedData(large, HOLDOUT, epochs=1).states(chosen)
    assert torch.equal(found, load_data(large, HOLDOUT).states(chosen))


# Which of the two


@pytest.mark.parametrize("room", [0.99, 1.0, 0.0])
def test_states_are_streamed_only_where_they_do_not_fit(large, room):
    memory = room * large.card.alive * 2 * 4 * 6 * 4 / 2**30  # GiB of the living: two species, 4 x 6 cells, 4 bytes
    job = TrainJob(FLOW, TrainSource(holdout=HOLDOUT, memory=memory), large, Path("flow"))
    data = open_data(job, Workers(), beside=1)
    assert isinstance(data, StreamedData if room == 0.99 else MemoryData)


# Training


def trained(config, dataset, folder, workers=0, memory=0.0):
    """Weights and metrics of a training by workers, or in this process."""
    source = TrainSource(workers=workers or 1, holdout=HOLDOUT, memory=memory)
    cluster_train.train(TrainJob(config, source, dataset, folder, here=not workers), lambda epoch, model: None)
    metrics = History.load(folder).to_dicts()
    for values in metrics:
        values.pop("seconds", None)
        values.pop("samples_per_second", None)
    return load_file(folder / "model.safetensors"), metrics


@pytest.mark.slow
def test_streamed_states_teach_what_those_in_memory_teach(cluster, patterns, tmp_path):
    for config in (SCORE, FLOW):
        kept, history = trained(config, patterns, tmp_path / f"kept-{config.epochs}")
        streamed, same = trained(config, patterns, tmp_path / f"streamed-{config.epochs}", memory=LITTLE)
        assert_close(streamed, kept, rtol=0, atol=0)
        for metrics, expected in zip(same, history, strict=True):
            # float64 sums over the held-out states, which are streamed in parts
            assert metrics == pytest.approx(expected, rel=1e-9)
        if config is SCORE:  # by two the order of float32 sums differs, too
            by_two, _ = trained(config, patterns, tmp_path / "by-two", 2, LITTLE)
            assert_close(by_two, kept, rtol=5e-3, atol=5e-4)


# What is not finite


def spoilt(folder, sample: int) -> Dataset:
    """A dataset of 100 living samples, in shards of 25, with a value of this one that is no number."""
    dataset = with_living(folder, [True] * 100, chunk=25)
    index, row = divmod(sample, 25)
    _, states = dataset.read_shard(f"shard-{index:05d}.parquet")
    states = states.copy()
    states[row, 0, 1, 2] = np.nan
    write_shard(folder, index, samples_of(states, 25 * index))
    assert not np.isfinite(read_table(folder / f"shard-{index:05d}.parquet").column("state")[row].to_numpy()).all()
    return dataset


# Of two workers each checks its share of streamed samples, BLOCK at a time: 99, held out, is in that of the second.
@pytest.mark.parametrize(
    ("memory", "workers", "sample"),
    [(0.0, 0, 99), (LITTLE, 0, 99), pytest.param(LITTLE, 2, 99, marks=pytest.mark.slow)],
)
def test_a_value_that_is_no_number_is_told_before_training_starts(cluster, tmp_path, memory, workers, sample):
    dataset = spoilt(tmp_path / "data", sample)
    source = TrainSource(workers=workers or 1, memory=memory)
    index, row = divmod(sample, 25)
    told = rf"shard-{index:05d}\.parquet: row {row} \(sample {sample}\) holds a value that is not finite$"
    epochs = []
    with pytest.raises(UserError, match=told):
        cluster_train.train(
            TrainJob(FLOW, source, dataset, tmp_path / "flow" / "a", here=not workers),
            lambda epoch, _: epochs.append(epoch),
        )
    assert epochs == []
    assert list((tmp_path / "flow").iterdir()) == []


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("sample", [0, 70, 99])
def test_exactly_one_of_the_workers_finds_a_value_that_is_no_number(tmp_path, size, sample):
    streamed = StreamedData(spoilt(tmp_path, sample), HOLDOUT, epochs=1)
    found = []
    for rank in range(size):
        try:
            streamed.check(Workers(rank, size))
        except UserError as error:
            found.append(str(error))
    assert len(found) == 1
    assert f"row {sample % 25} (sample {sample})" in found[0]
