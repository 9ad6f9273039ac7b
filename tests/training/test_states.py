"""States in memory: every global batch is shared out whole, and each state belongs to its sample id."""

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.snapshots.files import write_shard
from p2d.snapshots.simulated import simulate_here
from p2d.training import states as states_module
from p2d.training.randomness import WINDOW, batches
from p2d.training.states import MemoryData, load_data, training_states
from p2d.training.workers import Workers

from ..snapshots.helpers import samples_of, small, with_living


def numbered(count: int, held: int = 5, height: int = 2, width: int = 3) -> MemoryData:
    """Every cell of a state holds its sample id, which is not its place."""
    ids = torch.arange(count + held) * 7 + 3
    states = ids.float().view(-1, 1, 1, 1).expand(-1, 2, height, width)
    return MemoryData(states[:count], ids[:count], states[count:], ids[count:])


def ids_of(states: Tensor) -> list[int]:
    return states[:, 0, 0, 0].int().tolist()


# Batches


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch_size"), [(13, 4), (6, 64), (12, 3), (WINDOW + 41, 100)])
def test_the_shares_of_all_workers_are_the_global_batches_in_order(count, batch_size, size):
    data = numbered(count)
    assert data.count == count
    for epoch in (1, 2):
        shares = [list(data.batches(5, epoch, batch_size, Workers(rank, size))) for rank in range(size)]
        expected = list(batches(5, epoch, count, batch_size))
        assert [len(share) for share in shares] == [count // min(batch_size, count)] * size
        for number, positions in enumerate(expected):
            for rank in range(size):
                states, ids = shares[rank][number]
                assert ids == data.train_ids[positions[rank::size]].tolist() == ids_of(states)


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for _, ids in numbered(40).batches(seed, epoch, 8, Workers()) for i in ids]

    orders = [order(0, 1), order(0, 2), order(1, 1)]
    assert len({tuple(order) for order in orders}) == 3
    assert {tuple(sorted(order)) for order in orders} == {tuple(numbered(40).train_ids.tolist())}
    assert order(0, 1) == orders[0]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_what_is_held_out_is_shared_out_whole_and_some_may_have_none(size):
    data = numbered(4, held=5)
    shares = [list(data.held_out(Workers(rank, size))) for rank in range(size)]
    assert all(len(parts) == 1 for parts in shares)
    assert sorted(i for ((_, ids),) in shares for i in ids) == data.held_ids.tolist()
    for ((states, ids),) in shares:
        assert ids_of(states) == ids
        assert states.shape == (len(ids), 2, 2, 3)


@pytest.mark.parametrize("positions", [[0], [3, 1, 12], []])
def test_states_are_those_at_the_positions_asked_for(positions):
    data = numbered(13)
    found = data.states(torch.tensor(positions, dtype=torch.int64))
    assert ids_of(found) == data.train_ids[positions].tolist()


# From a dataset


@pytest.mark.parametrize(("normalize", "scale", "shift"), [(True, 2, -1), (False, 1, 0)])
@pytest.mark.parametrize(("height", "width", "holdout"), [(10, 12, 0.1), (8, 8, 0.4)])
def test_a_dataset_is_split_as_everywhere_and_in_training_coordinates(
    tmp_path, height, width, holdout, normalize, scale, shift
):
    dataset = simulate_here(small(height=height, width=width, normalize=normalize), tmp_path)
    data = load_data(dataset, holdout)
    sides = zip(dataset.split(holdout), ((data.train_ids, data.train), (data.held_ids, data.held)), strict=True)
    for expected, (ids, states) in sides:
        assert_close(ids, torch.from_numpy(expected), rtol=0, atol=0)
        # 2 c - 1 in float32: a product by 2 is exact, and so is the difference of what was between 0 and 2
        concentrations = torch.from_numpy(dataset.states(expected))
        assert_close(states, scale * concentrations + shift, rtol=0, atol=0)
        assert states.dtype == torch.float32
    assert_close(training_states(dataset, data.train_ids.numpy()), data.train, rtol=0, atol=0)


def test_the_dead_are_neither_trained_on_nor_held_out(tmp_path):
    alive = [i % 3 != 1 for i in range(13)]
    data = load_data(with_living(tmp_path, alive), 0.2)
    assert sorted(data.train_ids.tolist() + data.held_ids.tolist()) == np.flatnonzero(alive).tolist()


class InThreads(Workers):
    """Workers that are threads of this process."""

    barrier, values = threading.Barrier(3), [None] * 3

    def gathered(self, value):
        self.values[self.rank] = value
        self.barrier.wait(timeout=60)
        values = list(self.values)
        self.barrier.wait(timeout=60)
        return values


def test_the_workers_of_a_machine_keep_one_copy_that_each_has_read_a_part_of(tmp_path, monkeypatch):
    dataset, files = with_living(tmp_path / "data", [True] * 30, chunk=4), tmp_path / "files"
    files.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    read = []
    monkeypatch.setattr(
        states_module, "training_states", lambda data, ids: read.append(ids) or training_states(data, ids)
    )
    workers = [InThreads(0, 3, 0, 0, 2), InThreads(1, 3, 1, 0, 1), InThreads(2, 3, 0, 1, 2)]  # on two machines
    with ThreadPoolExecutor(3) as threads:
        one, elsewhere, two = threads.map(lambda own: load_data(dataset, 0.1, workers=own), workers)
    assert sorted(np.concatenate(read).tolist()) == sorted(2 * list(range(30))), "once for each machine"
    alone = load_data(dataset, 0.1)
    for name in ("train", "train_ids", "held", "held_ids"):
        for data in (one, elsewhere, two):
            assert_close(getattr(data, name), getattr(alone, name), rtol=0, atol=0)
    one.train[3] = 7.0
    assert (two.train[3] == 7.0).all() and not (elsewhere.train[3] == 7.0).any()
    assert list(files.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sample", [4, 9])  # of ten, the last is held out
def test_a_value_that_is_not_finite_is_told_by_shard_row_and_sample(tmp_path, sample, value):
    dataset = with_living(tmp_path, [True] * 10)
    index, row = divmod(sample, 4)
    _, states = dataset.read_shard(f"shard-{index:05d}.parquet")
    states = states.copy()
    states[row, 1, 3, 5] = value
    write_shard(tmp_path, index, samples_of(states, 4 * index))
    told = rf"shard-{index:05d}\.parquet: row {row} \(sample {sample}\) holds a value that is not finite"
    with pytest.raises(UserError, match=told):
        load_data(dataset, 0.1)


def test_a_dead_sample_that_is_not_finite_is_nobodys_concern(tmp_path):
    dataset = with_living(tmp_path, [True, True, False, True])
    _, states = dataset.read_shard("shard-00000.parquet")
    spoilt = states.copy()
    spoilt[2] = np.nan
    write_shard(tmp_path, 0, samples_of(spoilt, 0, np.array([True, True, False, True])))
    data = load_data(dataset, 0.3)
    assert_close(torch.cat([data.train, data.held]), torch.from_numpy(2 * states[[0, 1, 3]] - 1), rtol=0, atol=0)
