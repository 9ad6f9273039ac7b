"""One writer a dataset: a second is refused, a dead one holds nothing, and readers are let through."""

import errno
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from p2d import lock
from p2d.errors import UserError
from p2d.lock import sole_writer
from p2d.snapshots.simulated import is_finished, simulate_here, writing
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import verify

from .helpers import contents, interrupted, simulation_of, small

HOLDS = """
import sys
from pathlib import Path
from p2d.lock import sole_writer

with sole_writer(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""
# Writes its first shard, half of its second, and then no more.
STOPS_IN_A_SHARD = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from p2d.config import SimulateConfig
from p2d.snapshots.simulated import simulate_here

whole = pq.write_table

def half(table, file, **options):
    if table.column("sample_id")[0].as_py():
        file.write(b"PAR1 and half a shard")
        file.flush()
        print("ready", flush=True)
        sys.stdin.read()
    whole(table, file, **options)

pq.write_table = half
simulate_here(SimulateConfig.from_dict(eval(sys.argv[2])), Path(sys.argv[1]))
"""


@pytest.fixture
def start():
    """Start a program in another process and wait until it says that it is ready."""
    processes = []

    def start(code: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def refused(folder, holder: int) -> None:
    """Check that a second writer is refused in one line that names the holder."""
    with pytest.raises(UserError) as caught:
        simulate_here(small(), folder)
    assert str(caught.value) == (
        f"{folder} is being written by process {holder} on {socket.gethostname()}; "
        "wait until it has finished, or take another --name or --out"
    )


def test_a_second_writer_is_refused_with_the_holders_process(tmp_path, start):
    holder = start(HOLDS, tmp_path)
    refused(tmp_path, holder.pid)
    refused(tmp_path, holder.pid)  # to be refused does not blot out whom the lock belongs to
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_a_second_writer_in_the_same_process_is_refused(tmp_path):
    with sole_writer(tmp_path):
        refused(tmp_path, os.getpid())


def test_a_second_writer_leaves_the_half_written_files_of_the_first(tmp_path, start):
    holder = start(STOPS_IN_A_SHARD, tmp_path, small().to_dict())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert len(before) == 4  # lock, card, a shard and a half
    refused(tmp_path, holder.pid)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_lock_is_free_when_its_holder_has_finished(tmp_path, start):
    holder = start(HOLDS, tmp_path)
    holder.stdin.close()
    assert holder.wait() == 0
    with sole_writer(tmp_path):
        refused(tmp_path, os.getpid())  # the name of the holder before is gone
    simulate_here(small(), tmp_path)


def test_the_lock_is_free_when_its_holder_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), writing(simulation_of(), tmp_path):
        raise KeyboardInterrupt
    simulate_here(small(), tmp_path)


@pytest.mark.slow
def test_after_a_writer_is_killed_the_next_goes_on_and_sweeps_what_it_left(tmp_path, start):
    whole = simulate_here(small(), tmp_path / "whole")
    folder = tmp_path / "killed"
    holder = start(STOPS_IN_A_SHARD, folder, small().to_dict())
    (half,) = folder.glob(".shard-00001.parquet.*.tmp")
    assert half.stat().st_size > 0
    holder.kill()
    holder.wait()
    kept = (folder / "shard-00000.parquet").stat().st_mtime_ns
    assert simulate_here(small(), folder).card.dataset_hash == whole.card.dataset_hash
    assert contents(folder) == contents(tmp_path / "whole")
    assert (folder / "shard-00000.parquet").stat().st_mtime_ns == kept
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("state", ["new", "interrupted", "with a shard gone"])
def test_temporary_files_of_dead_runs_are_swept_and_nothing_else(tmp_path, state):
    if state != "new":
        simulate_here(small(), tmp_path)
    if state == "interrupted":
        interrupted(tmp_path)
    if state == "with a shard gone":
        (tmp_path / "shard-00001.parquet").unlink()
    dead = [f".shard-0000{i}.parquet.{i:032x}.tmp" for i in range(3)]
    for name in [*dead, ".card.json.tmp", ".mine"]:
        (tmp_path / name).write_bytes(b"PAR1 and half a shard")
    simulate_here(small(), tmp_path)
    shards = [f"shard-0000{i}.parquet" for i in range(3)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", ".mine", "card.json", *shards]


def test_a_finished_dataset_is_read_while_it_is_held(tmp_path, start):
    made = simulate_here(small(), tmp_path)
    states = made.states()
    start(HOLDS, tmp_path)
    assert open_dataset(tmp_path).states().tobytes() == states.tobytes()
    assert verify(tmp_path) == []
    assert is_finished(simulation_of(), tmp_path)
    assert simulate_here(small(), tmp_path).card == made.card  # there is nothing to write


@pytest.mark.slow
def test_whole_shards_are_read_while_the_rest_is_written(tmp_path, start):
    whole = simulate_here(small(), tmp_path / "whole")
    start(STOPS_IN_A_SHARD, tmp_path / "held", small().to_dict())
    assert contents(tmp_path / "held") == {"shard-00000.parquet": contents(whole.folder)["shard-00000.parquet"]}
    with pytest.raises(UserError, match="held is unfinished"):
        open_dataset(tmp_path / "held")
    assert not is_finished(simulation_of(), tmp_path / "held")


def refuses_locks(monkeypatch, number: int) -> None:
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)


@pytest.mark.parametrize("number", lock.NO_LOCKS, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch, number):
    refuses_locks(monkeypatch, number)
    assert len(simulate_here(small(), tmp_path).states(np.arange(10))) == 10


def test_a_lock_that_fails_otherwise_is_told(tmp_path, monkeypatch):
    refuses_locks(monkeypatch, errno.EIO)
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}: Input/output error; take another --out"):
        simulate_here(small(), tmp_path)
