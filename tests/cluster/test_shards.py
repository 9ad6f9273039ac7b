"""Ray Data actors write the same dataset as one process, however the work is shared."""

import json
import resource
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from p2d.cluster import shards
from p2d.cluster.shards import ShardMaker, Wish, run_actors, simulate
from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.pipeline.simulate import verify
from p2d.snapshots.simulated import Simulated, plan, simulate_here
from p2d.snapshots.store import Dataset, open_dataset
from p2d.snapshots.verify import Fault

SMALL = {"preset": ("worms", "maze"), "num_samples": 6, "height": 24, "width": 16, "steps": 300}


def here(config: SimulateConfig, folder: Path, advance=None) -> Dataset:
    return simulate(config.simulation(), config, folder, advance)


@pytest.mark.parametrize(("actors", "chunk"), [(1, 6), (2, 4), (2, 1)])
def test_the_dataset_hash_depends_on_neither_actors_nor_chunk(cluster, tmp_path, actors, chunk):
    alone = simulate_here(SimulateConfig(**SMALL, chunk=3), tmp_path / "alone")
    shared = here(SimulateConfig(**SMALL, actors=actors, chunk=chunk), tmp_path / "shared")
    assert shared.card.dataset_hash == alone.card.dataset_hash
    np.testing.assert_array_equal(shared.states(), alone.states())


def test_little_work_and_single_shards_need_no_actors(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "run_actors", None)
    assert here(SimulateConfig(**SMALL, chunk=2, device="cpu"), tmp_path / "data").card.samples == 12
    monkeypatch.setattr(shards, "SMALL", 0)
    config = SimulateConfig(**{**SMALL, "preset": ()}, device="cpu")
    assert here(config, tmp_path / "one").card.samples == 6
    with pytest.raises(TypeError):
        here(SimulateConfig(**SMALL, chunk=2, device="cpu"), tmp_path / "more")


@pytest.mark.parametrize(
    ("wish", "cpus", "count", "expected"),
    [
        ({"cores": 8}, 8, 100, True),  # one actor of eight threads is all that the machine is worth
        ({"cores": 8}, 16, 100, False),
        ({"cores": 8}, 16, 1, True),
        ({"cores": 8, "actors": 2}, 2, 100, False),  # as asked
        ({"cores": 8, "actors": 1}, 2, 100, True),
        ({}, 2, 100, False),
    ],
)
def test_what_is_made_in_this_process(monkeypatch, wish, cpus, count, expected):
    monkeypatch.setattr(shards.os, "cpu_count", lambda: cpus)
    assert shards.is_here(Wish("cpu", **wish), count) == expected
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert shards.is_here(Wish("cpu", **wish), count) == (count == 1)


THREE_SPECIES = """
name = "cycle"
[rates]
alpha = "D*lap(alpha) + alpha*(1 - alpha - 2*gamma)"
beta = "D*lap(beta) + beta*(1 - beta - 2*alpha)"
gamma = "D*lap(gamma) + gamma*(1 - gamma - 2*beta)"
[parameters]
D = 0.1
[start]
rest = { alpha = 0.3, beta = 0.3, gamma = 0.3 }
noise = { alpha = 0.1, beta = 0.1, gamma = 0.1 }
"""


@pytest.mark.parametrize("noise", [(0.0,), (0.01, 0.0, 0.03)])
def test_actors_know_a_system_of_ones_own_without_its_file(cluster, tmp_path, noise):
    file = tmp_path / "cycle.toml"
    file.write_text(THREE_SPECIES)
    grid = {"height": 12, "width": 10, "edges": ("mirror", "periodic"), "spacing": "0.5mm", "dynamics_noise": noise}
    config = SimulateConfig(system=str(file), num_samples=6, steps=20, chunk=2, device="cpu", actors=2, **grid)
    alone, simulation = simulate_here(config, tmp_path / "alone"), config.simulation()
    file.unlink()
    shared = simulate(simulation, config, tmp_path / "shared")
    assert shared.card.dataset_hash == alone.card.dataset_hash
    assert shared.card.names == ("alpha", "beta", "gamma")
    # a repair has the card alone
    lost = tmp_path / "shared" / "shard-00001.parquet"
    lost.unlink()
    assert verify(str(tmp_path / "shared"), tmp_path, repair=False)[1] == [Fault(lost.name, "missing")]
    assert verify(str(tmp_path / "shared"), tmp_path, repair=True) == (tmp_path / "shared", [])
    assert open_dataset(tmp_path / "shared").states().tobytes() == alone.states().tobytes()


def test_only_missing_shards_are_made_again(cluster, tmp_path):
    config = SimulateConfig(**SMALL, chunk=2)
    first = here(config, tmp_path / "data")
    whole = first.card.dataset_hash
    kept, lost = sorted(first.folder.glob("shard-*.parquet"))[:2]
    before = kept.stat().st_mtime_ns
    lost.unlink()
    counted = []
    again = here(config, tmp_path / "data", lambda done, note="": counted.append((done, note)))
    assert again.card.dataset_hash == whole
    assert kept.stat().st_mtime_ns == before
    assert counted[0] == (10, "5 shards kept") and sum(done for done, _ in counted) == 12


def test_the_shards_open_in_plain_pyarrow(cluster, tmp_path):
    dataset = here(SimulateConfig(**SMALL, chunk=6), tmp_path / "data")
    table = pq.read_table(dataset.folder / "shard-00001.parquet")
    assert table["state"].combine_chunks().to_numpy_ndarray().shape == (6, 2, 24, 16)
    assert table["system"].to_pylist() == ["maze"] * 6
    assert table["sample_id"].to_pylist() == list(range(6, 12))


def test_more_actors_than_cpus_are_refused(cluster, tmp_path):
    with pytest.raises(UserError, match="actors = 64 is more than the 2 CPUs"):
        here(SimulateConfig(**SMALL, actors=64), tmp_path / "data")


def test_an_actors_mistake_comes_back_as_one_line(cluster, tmp_path, monkeypatch):
    config = SimulateConfig(**SMALL, chunk=6, actors=2)
    folder = tmp_path / "data"
    here(config, tmp_path / "data")
    (folder / "shard-00001.parquet").unlink()
    (folder / "shard-00001.parquet").mkdir()  # a folder where the shard should go: it cannot be replaced
    with pytest.raises(UserError, match=r"cannot write .*shard-00001"):
        here(config, tmp_path / "data")
    assert not list(folder.glob(".*.tmp"))


class Weighed(ShardMaker):
    """An actor that tells the most memory it has held."""

    def _entry(self, number):
        return json.dumps(
            {**json.loads(super()._entry(number)), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        )


def test_an_actors_memory_follows_the_chunk_and_not_the_number_of_samples(cluster, tmp_path):
    config = SimulateConfig(num_samples=1536, height=128, width=128, steps=2, chunk=32, device="cpu")
    maker, numbers = Simulated(config.simulation()), list(range(len(plan(config.simulation()))))
    entries = run_actors(maker, Wish("cpu", 1), tmp_path, numbers, Weighed)
    peaks = [entry["peak"] / 1024 for entry in entries]
    # 192 MiB of states in all, 4 MiB a shard; the first shards find room for their buffers, the others reuse it
    assert peaks[-1] < peaks[7] + 40
    assert peaks[-1] < 1024
