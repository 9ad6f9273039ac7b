"""Where actors and workers go on pretended machines, and on logical GPUs."""

import json
import subprocess
import sys

import pytest

from p2d.cluster import placement
from p2d.cluster.placement import Machines, Node, choose_training, grown
from p2d.cluster.shards import Wish, place
from p2d.errors import UserError

# The actors of a cluster of two logical GPUs tell which of them they were given, and how much.
ON_LOGICAL_GPUS = """
import json, os, sys, time
from pathlib import Path
import ray
from p2d.cluster.shards import ShardMaker, Wish, run_actors

class Teller(ShardMaker):
    def __init__(self, maker, **_):
        self.maker = maker

    def _entry(self, number):
        folder, actors = self.maker
        (folder / f"{os.getpid()}.started").touch()
        end = time.monotonic() + 60  # however far apart they start, the first does not do the others' work
        while len(list(folder.glob("*.started"))) < actors and time.monotonic() < end:
            time.sleep(0.1)
        return json.dumps({"number": number, "gpu": os.environ["CUDA_VISIBLE_DEVICES"], "pid": os.getpid()})

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
for number, (asked, actors) in enumerate(json.loads(sys.argv[1])):
    folder = Path.cwd() / str(number)
    folder.mkdir()
    wish = Wish("cuda", asked)
    print(json.dumps(list(run_actors((folder, actors), wish, folder, list(range(16)), Teller))))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_actors_are_placed_on_their_gpus(tmp_path):
    # the actors asked for, and how many come to be on each GPU
    cases = [(0, {"0": 1, "1": 1}), (1, {"0": 1})]
    asked = [(actors, sum(expected.values())) for actors, expected in cases]
    command = [sys.executable, "-c", ON_LOGICAL_GPUS, json.dumps(asked)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for line, (case, expected) in zip(told.splitlines()[-len(cases) :], cases, strict=True):
        entries = json.loads(line)
        actors_of = {gpu: len({e["pid"] for e in entries if e["gpu"] == gpu}) for gpu in {e["gpu"] for e in entries}}
        assert sorted(actors_of.values()) == sorted(expected.values()), case
        assert set(actors_of) <= {"0", "1"} and len(actors_of) == len(expected), case
        assert sorted(e["number"] for e in entries) == list(range(16)), case


def with_machine(monkeypatch, cpus, gpus):
    monkeypatch.setattr(placement, "cpus", lambda: cpus)
    monkeypatch.setattr(placement, "gpus", lambda: gpus)
    nodes = placement.Machines((placement.Node(cpus / 2, gpus // 2),) * 2)
    monkeypatch.setattr(placement, "machines", lambda settle_s=0: nodes)


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "shards", "actors"),
    [
        (8, 4, 0, 100, 4),  # one a GPU
        (8, 4, 2, 100, 2),  # as asked
        (8, 4, 0, 3, 3),  # no more than there is work for
    ],
)
def test_the_number_of_actors_follows_the_gpus(monkeypatch, cpus, gpus, asked, shards, actors):
    with_machine(monkeypatch, cpus, gpus)
    placement = place(Wish("cuda", asked), shards)
    assert (placement.actors, placement.gpus) == (actors, 1)
    assert placement.actors * placement.cpus < cpus  # a CPU is left for Ray's own tasks


@pytest.mark.parametrize(
    ("cpus", "asked", "threads", "actors", "each"), [(8, 0, 0, 8, 1), (8, 2, 0, 2, 4), (8, 2, 1, 2, 1)]
)
def test_without_gpus_the_cores_are_shared_out(monkeypatch, cpus, asked, threads, actors, each):
    with_machine(monkeypatch, cpus, 0)
    placement = place(Wish("cpu", asked, threads), 100)
    assert (placement.actors, placement.threads, placement.gpus) == (actors, each, 0)


def test_more_than_the_gpus_hold_is_refused(monkeypatch):
    with_machine(monkeypatch, 8, 4)
    with pytest.raises(UserError, match="5 actors of a GPU each are more than the 4 GPUs"):
        place(Wish("cuda", 5), 100)


# Trainings

ONE_BY_8 = Machines((Node(96, 8),))
FOUR_BY_8 = Machines((Node(96, 8),) * 4)
HEAD_AND_8 = Machines((Node(4, 0), Node(32, 8)))
FOUR_BY_32_CPUS = Machines((Node(32),) * 4)
LAPTOP, SINGLE, SLICE = Machines((Node(2),)), Machines((Node(1),)), Machines((Node(0.5),))


def per_node(machines, placing):
    """How Ray's strategy puts workers on the nodes by what they claim."""
    holds = [min(int(n.cpus / placing.cpus), n.gpus // placing.gpus if placing.gpus else 999) for n in machines.nodes]
    counts = [0] * len(holds)
    for _ in range(placing.workers):
        free = [i for i, most in enumerate(holds) if counts[i] < most]
        best = min(free, key=lambda i: counts[i]) if placing.strategy == "SPREAD" else free[0]
        counts[best] += 1
    return counts


@pytest.mark.parametrize(
    ("machines", "asked", "batch", "workers", "threads", "counts"),
    [
        (ONE_BY_8, 0, 64, 8, 12, [8]),
        (ONE_BY_8, 0, 8, 8, 12, [8]),  # one snapshot each
        (ONE_BY_8, 2, 64, 2, 48, [2]),
        (FOUR_BY_8, 0, 64, 32, 12, [8, 8, 8, 8]),
        (FOUR_BY_8, 12, 64, 12, 12, [8, 4, 0, 0]),  # on as few nodes as hold them
        (HEAD_AND_8, 0, 64, 8, 4, [0, 8]),
        (FOUR_BY_32_CPUS, 0, 64, 16, 8, [4, 4, 4, 4]),
        (FOUR_BY_32_CPUS, 0, 4, 4, 32, [1, 1, 1, 1]),  # as many as a batch has snapshots, on nodes of their own
        (FOUR_BY_32_CPUS, 6, 64, 6, 16, [2, 2, 1, 1]),
        (LAPTOP, 0, 4, 1, 2, [1]),
        (LAPTOP, 2, 4, 2, 1, [2]),
        (SINGLE, 0, 4, 1, 1, [1]),
        (SLICE, 0, 4, 1, 1, [1]),
    ],
)
def test_a_training_takes_the_cluster_node_by_node(machines, asked, batch, workers, threads, counts):
    placing, line = choose_training(machines, asked, asked, 0, batch)
    assert (placing.workers, placing.threads, line) == (workers, threads, "")
    on_nodes = per_node(machines, placing)
    assert on_nodes == counts
    for node, count in zip(machines.nodes, on_nodes, strict=True):
        assert count * placing.threads <= max(node.cpus, 1), "no node has more threads than CPUs"
        assert count * placing.cpus < node.cpus, "something is left for Ray's own tasks"
    several = asked == 0 and len(machines.nodes) > 1
    assert placing.least == (1 if several else workers), "it goes on with the nodes that are left of several"


def test_gpus_that_a_small_batch_leaves_idle_are_named():
    placing, line = choose_training(FOUR_BY_8, 0, 0, 0, 4)
    assert (placing.workers, placing.gpus) == (4, 1)
    assert line == "4 of 32 GPUs train, as a batch has 4 snapshots; a larger --batch-size takes more"


def test_threads_that_are_asked_for_are_those_of_a_node():
    placing, _ = choose_training(FOUR_BY_32_CPUS, 8, 8, 16, 64)
    assert (placing.threads, per_node(FOUR_BY_32_CPUS, placing)) == (16, [2, 2, 2, 2])
    with pytest.raises(UserError, match=r"2 workers of 24 CPUs are more than the nodes here hold, of 32 CPUs"):
        choose_training(Machines((Node(32),)), 2, 2, 24, 64)


@pytest.mark.parametrize(
    ("machines", "asked", "batch", "told"),
    [
        (LAPTOP, 3, 4, "workers = 3 is more than the 2 CPUs here can hold; give 2 or fewer, or 0"),
        (ONE_BY_8, 9, 64, "workers = 9 is more than the 8 GPUs here can hold; give 8 or fewer, or 0"),
        (Machines((Node(16, 1),)), 2, 64, "workers = 2 is more than the 1 GPU here can hold; give 1 or fewer, or 0"),
        (ONE_BY_8, 8, 4, "workers = 8 is more than the 4 snapshots of a batch; give 4 or fewer"),
    ],
)
def test_a_training_that_does_not_fit_is_refused(machines, asked, batch, told):
    with pytest.raises(UserError, match=told):
        choose_training(machines, asked, asked, 0, batch)


def test_an_elastic_training_starts_with_what_there_is():
    placing, _ = choose_training(LAPTOP, 1, 4, 0, 4)
    assert (placing.least, placing.workers, placing.threads) == (1, 4, 1)
    with pytest.raises(UserError, match="workers = 3 is more than the 2 CPUs here"):
        choose_training(LAPTOP, 3, 4, 0, 4)


def test_an_autoscaler_is_asked_for_what_is_not_there(monkeypatch, capsys):
    requests, steps = [], iter([Machines((Node(8, 1),), 64, 8), Machines((Node(8, 1),) * 4, 64, 8)])
    monkeypatch.setattr(placement, "request_resources", lambda bundles: requests.append(bundles))
    monkeypatch.setattr(placement.time, "sleep", lambda s: None)
    small = Machines((Node(8, 1),), most_cpus=64, most_gpus=8)
    assert len(grown(small, 4, 0, lambda: next(steps)).nodes) == 4
    assert requests == [[{"CPU": 1, "GPU": 1}] * 4, []]
    assert "asks the cluster for 4 workers, where 1 fit" in capsys.readouterr().err
    assert grown(small, 9, 0) == small, "it may not grow so far, which choose_training refuses"
    assert grown(LAPTOP, 3, 0) == LAPTOP, "it has no autoscaler"
    monkeypatch.setattr(placement, "GROW_TIMEOUT_S", 0.0)
    with pytest.raises(UserError, match="has not grown to 4 workers"):
        grown(small, 4, 0, lambda: small)
