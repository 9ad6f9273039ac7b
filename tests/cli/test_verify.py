"""`p2d verify`: what is wrong is named, with exit code 1; a repair makes exactly the bad shards again."""

import json
import os
import shutil

import pytest

from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset

SMALL = {"preset": ("maze",), "num_samples": 12, "height": 24, "width": 24, "steps": 400, "chunk": 3, "device": "cpu"}


@pytest.fixture
def dataset(tmp_path):
    return simulate_here(SimulateConfig(**SMALL), tmp_path / "runs" / "data" / "maze_24x24")


def verify(tmp_path, *arguments) -> int:
    try:
        main(["verify", "maze", "-o", str(tmp_path / "runs"), *arguments])
    except SystemExit as end:
        return end.code
    return 0


def damage(folder) -> None:
    """One shard altered, one cut, one gone, and a stranger."""
    altered, cut, gone, whole = (folder / f"shard-0000{i}.parquet" for i in range(4))
    data, written = bytearray(altered.read_bytes()), altered.stat().st_mtime_ns
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    os.utime(altered, ns=(written, written))  # as a disk does it: neither size nor time tells
    cut.write_bytes(cut.read_bytes()[:-100])
    gone.unlink()
    shutil.copy(whole, folder / "shard-00009.parquet")


def test_a_sound_dataset_is_called_sound(dataset, tmp_path, capsys):
    assert verify(tmp_path) == 0
    assert capsys.readouterr().out.strip().endswith("maze_24x24: sound")


def test_every_fault_is_named_and_the_exit_code_is_one(dataset, tmp_path, capsys):
    damage(dataset.folder)
    assert verify(tmp_path, "--json") == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert [f["name"] for f in faults] == [f"shard-0000{i}.parquet" for i in (0, 1, 2, 9)]
    assert verify(tmp_path) == 1
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_repair_makes_exactly_the_bad_shards_again(cluster, dataset, tmp_path, capsys):
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in dataset.folder.glob("shard-*.parquet")}
    damage(dataset.folder)
    assert verify(tmp_path, "--repair") == 0
    assert capsys.readouterr().out.strip().endswith("maze_24x24: sound")
    after = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in dataset.folder.glob("shard-*.parquet")}
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert after["shard-00003.parquet"] == before["shard-00003.parquet"]
    assert (dataset.folder / "shard-00009.parquet.foreign").exists()
    assert open_dataset(dataset.folder).card.dataset_hash == dataset.card.dataset_hash


def test_a_dataset_that_is_not_there_is_a_mistake_not_a_fault(tmp_path, capsys):
    assert verify(tmp_path) == 2
    assert "no dataset 'maze'" in capsys.readouterr().err
