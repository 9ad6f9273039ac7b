"""A map over Ray tasks gives what a plain one gives: in order, and after a worker was killed."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from p2d.cluster.mapping import choose_mapper, over_tasks
from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.evaluate.passes import Fields, measure
from p2d.evaluate.rollout import roll_out
from p2d.evaluate.ways import RANDOM, REVERSED, SCORE, STILL, TRUE, Subject
from p2d.flow.model import Flow
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system

from ..evaluate.helpers import SCALING, linear_field, patterns, quiet_score

CHAOS = load_system("gray_scott").at("chaos")
MIXING = linear_field([0.1, 0], [[0, 0.3, 0.5, 0], [-0.2, 0, 0, 0.25]])


def test_results_come_in_order_and_items_as_they_are_needed(cluster):
    drawn = []

    def items():
        for n in range(40):
            drawn.append(n)
            yield n

    results = over_tasks(2)(lambda n: n**2, items())
    assert next(results) == 0
    assert len(drawn) < 8, "few are in flight"
    assert list(results) == [n**2 for n in range(1, 40)]
    assert list(over_tasks()(lambda n: n, [])) == []
    assert list(over_tasks()(lambda _: os.getpid(), [0])) == [os.getpid()], "one item is done here"


def test_a_user_s_mistake_comes_back_as_one_line(cluster):
    def refuse(n):
        raise UserError(f"no {n}")

    with pytest.raises(UserError, match=r"^no 0$"):
        list(over_tasks()(refuse, range(3)))


def test_what_a_killed_worker_had_is_done_again(cluster, tmp_path):
    def killed_once(n):
        mark = tmp_path / "killed"
        if n == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    assert list(over_tasks()(killed_once, range(4))) == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_without_a_cluster_threads_of_this_process_do_it(monkeypatch, workers):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    pids = list(choose_mapper(workers)(lambda n: (n, os.getpid()), range(5)))
    assert pids == [(n, os.getpid()) for n in range(5)]


@pytest.mark.slow
def test_rollouts_are_the_same_over_tasks_and_threads(cluster):
    states = patterns(9, 16, 16) * np.float32([[[[1.0]], [[0.4]]]])
    subject = Subject(
        flow=Flow(MIXING, SCALING),
        system=CHAOS,
        score=quiet_score(states),
        starts=states[:3],
        ensemble=states[3:],
        times=[0, 4, 8],
        eta=0.05,
    )
    kinds = (TRUE, SCORE, REVERSED, RANDOM, STILL)
    plain, threads, tasks = (
        roll_out(subject, kinds, lambda *_: None, e) for e in (map, choose_mapper(1), over_tasks(2))
    )
    assert plain == threads == tasks
    for kind in plain.courses:
        assert plain.courses[kind].frames.tobytes() == tasks.courses[kind].frames.tobytes()


def test_held_out_measures_are_the_same_over_tasks(cluster, tmp_path):
    config = SimulateConfig(preset=("chaos", "waves"), num_samples=40, height=16, width=16, steps=200, chunk=4)
    dataset = simulate_here(config, tmp_path / "data")
    fields = Fields(dataset, Flow(MIXING, SCALING), (replace(CHAOS), "5-point"))
    _, held = dataset.split(0.9)
    assert measure(fields, held, map) == measure(fields, held, over_tasks(2))
