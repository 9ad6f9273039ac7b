"""What is lost when a simulation is killed: at most the shards in flight, whoever is killed and whenever."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from p2d.cli import main
from p2d.cluster.shards import simulate
from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.ray]
# Twelve shards of half a second or more each: long enough to be killed in.
LONG = {"preset": ("maze",), "num_samples": 24, "height": 96, "width": 96, "steps": 40_000, "chunk": 2, "device": "cpu"}
COMMAND = [
    sys.executable, "-m", "p2d.cli", "simulate", "-p", "maze", "--num-samples", "24", "--height", "96", "--width", "96",
    "--steps", "40000", "--chunk", "2", "--device", "cpu", "--no-tracking", "--name", "killed",
]  # fmt: skip


def wait_for(what, seconds=120):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.parquet"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    """The dataset's hash when nothing is killed."""
    return simulate_here(SimulateConfig(**LONG), tmp_path_factory.mktemp("whole") / "data").card.dataset_hash


def making_actors() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        name = " ".join(process.info["cmdline"] or [])
        if "MapWorker(MapBatches(ShardMaker))" in name and os.getpid() in {p.pid for p in process.parents()}:
            found.append(process)
    return found


def test_a_killed_actor_is_replaced_and_the_bytes_are_the_same(cluster, tmp_path, undisturbed):
    folder = tmp_path / "data"
    killed = []

    def kill_one():
        wait_for(lambda: shards(folder))
        victim = wait_for(making_actors)[0]
        victim.kill()
        killed.append(victim.pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    config = SimulateConfig(**LONG, actors=2)
    dataset = simulate(config.simulation(), config, folder)
    killer.join()
    assert killed
    assert dataset.card.dataset_hash == undisturbed
    assert verify(folder) == []


def test_a_killed_driver_loses_the_shards_in_flight_alone_and_no_one_else_writes_beside_it(tmp_path, undisturbed):
    folder = tmp_path / "runs" / "data" / "killed"
    driver = subprocess.Popen([*COMMAND, "-o", str(tmp_path / "runs")], start_new_session=True)
    wait_for(lambda: shards(folder))
    with pytest.raises(UserError, match=f"is being written by process {driver.pid} "):
        simulate_here(SimulateConfig(**LONG), folder)
    wait_for(lambda: len(shards(folder)) >= 3)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for child in children:  # Ray's own processes end by themselves some seconds later
        child.kill()
    psutil.wait_procs(children, timeout=30)
    made = {path.name: path.stat().st_mtime_ns for path in shards(folder)}
    assert 3 <= len(made) < 12
    (folder / ".shard-00011.parquet.dead.tmp").write_bytes(b"half a shard")
    with pytest.raises(UserError, match="unfinished"):
        open_dataset(folder)

    main([*COMMAND[3:], "-o", str(tmp_path / "runs")])
    assert open_dataset(folder).card.dataset_hash == undisturbed
    assert {name: (folder / name).stat().st_mtime_ns for name in made} == made
    assert not list(folder.glob(".*.tmp"))
