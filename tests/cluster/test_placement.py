"""Where simulating actors go when there are GPUs, tested with logical ones."""

import json
import subprocess
import sys

import pytest

from p2d.cluster import placement
from p2d.cluster.shards import Wish, place
from p2d.errors import UserError

# The actors of a cluster of two logical GPUs tell which of them they were given, and how much.
ON_LOGICAL_GPUS = """
import json, os, sys, time
from pathlib import Path
import ray
from p2d.cluster.shards import ShardMaker, Wish, run_actors

class Teller(ShardMaker):
    def _entry(self, number):
        time.sleep(1.0)  # longer than from the first actor's start to the last one's
        return json.dumps({"number": number, "gpu": os.environ["CUDA_VISIBLE_DEVICES"], "pid": os.getpid()})

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
wish = Wish("cuda", int(sys.argv[2]), gpus=float(sys.argv[1]))
print(json.dumps(list(run_actors(None, wish, Path("."), list(range(16)), Teller))))
"""


@pytest.mark.parametrize(
    ("share", "actors", "expected"), [(1.0, 0, {"0": 1, "1": 1}), (0.5, 0, {"0": 2, "1": 2}), (1.0, 1, {"0": 1})]
)
def test_actors_are_placed_on_their_gpus(tmp_path, share, actors, expected):
    command = [sys.executable, "-c", ON_LOGICAL_GPUS, str(share), str(actors)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    entries = json.loads(told.splitlines()[-1])
    actors_of = {gpu: len({e["pid"] for e in entries if e["gpu"] == gpu}) for gpu in {e["gpu"] for e in entries}}
    assert sorted(actors_of.values()) == sorted(expected.values())
    assert set(actors_of) <= {"0", "1"} and len(actors_of) == len(expected)
    assert sorted(e["number"] for e in entries) == list(range(16))


def with_machine(monkeypatch, cpus, gpus):
    monkeypatch.setattr(placement, "cpus", lambda: cpus)
    monkeypatch.setattr(placement, "gpus", lambda: gpus)


@pytest.mark.parametrize(
    ("cpus", "gpus", "share", "asked", "shards", "actors"),
    [
        (8, 4, 1.0, 0, 100, 4),  # one a GPU
        (8, 4, 0.5, 0, 100, 8),  # two a GPU
        (8, 4, 0.4, 0, 100, 8),  # a share does not straddle two GPUs
        (8, 4, 2.0, 0, 100, 2),
        (8, 4, 1.0, 2, 100, 2),  # as asked
        (8, 4, 1.0, 0, 3, 3),  # no more than there is work for
    ],
)
def test_the_number_of_actors_follows_the_gpus(monkeypatch, cpus, gpus, share, asked, shards, actors):
    with_machine(monkeypatch, cpus, gpus)
    placement = place(Wish("cuda", asked, gpus=share), shards)
    assert (placement.actors, placement.gpus) == (actors, share)
    assert placement.actors * placement.cpus < cpus  # a CPU is left for Ray's own tasks


@pytest.mark.parametrize(
    ("cpus", "asked", "threads", "actors", "each"), [(8, 0, 0, 8, 1), (8, 2, 0, 2, 4), (8, 2, 1, 2, 1)]
)
def test_without_gpus_the_cores_are_shared_out(monkeypatch, cpus, asked, threads, actors, each):
    with_machine(monkeypatch, cpus, 0)
    placement = place(Wish("cpu", asked, threads), 100)
    assert (placement.actors, placement.threads, placement.gpus) == (actors, each, 0)


@pytest.mark.parametrize(("share", "asked"), [(1.0, 5), (2.0, 3), (8.0, 0)])
def test_more_than_the_gpus_hold_is_refused(monkeypatch, share, asked):
    with_machine(monkeypatch, 8, 4)
    with pytest.raises(UserError, match=f"{max(asked, 1)} actors of {share:g} GPUs are more than the 4 GPUs"):
        place(Wish("cuda", asked, gpus=share), 100)
