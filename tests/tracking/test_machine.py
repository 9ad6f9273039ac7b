"""System metrics: what is sampled, by one thread, for as long as a run is open."""

import os
import threading
import time

import psutil
import pytest

from p2d.tracking import machine

NAMES = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_percentage"}


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "system metrics"]


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def often(monkeypatch):
    until(lambda: not threads())  # one of before samples at its own intervals
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    monkeypatch.setattr(machine, "PAUSE", 0.01)


def test_all_who_watch_get_samples_from_one_thread_which_ends_with_them(often):
    with machine.watched() as outer, machine.watched() as inner:
        until(lambda: len(outer) > 2 and len(inner) > 2)
        assert len(threads()) == 1
    assert {sample[0] for sample in inner} <= {sample[0] for sample in outer} | {inner[-1][0]}
    until(lambda: not threads())
    with machine.watched() as again:  # the next run has a thread again
        until(lambda: len(again) > 1)


def test_samples_say_what_the_machine_does(often):
    with machine.watched() as samples:
        until(lambda: len(samples) > 1)
    at, values = samples[-1]
    assert abs(at / 1000 - time.time()) < 60
    assert {f"system/{name}" for name in NAMES} <= set(values)
    used = psutil.virtual_memory().used / 1e6
    assert values["system/system_memory_usage_megabytes"] == pytest.approx(used, rel=0.5)


def test_a_sample_costs_next_to_nothing():
    monitors = machine._monitors()
    start = time.process_time()
    for _ in range(20):
        machine._taken(monitors)
    assert (time.process_time() - start) / 20 < 0.01  # of every ten seconds


def test_a_short_run_has_one_sample_and_a_setting_of_mlflow_s_turns_all_off(monkeypatch):
    with machine.watched() as samples:
        pass
    assert len(samples) == 1
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with machine.watched() as samples:
        pass
    assert not samples


def test_a_run_has_them_by_time_and_none_comes_after_its_end(often, keeper, store):
    with keeper.child("sampled", {}) as run:
        until(lambda: len(run.samples) > 2)
        run.metrics({"loss": 1.0})
        assert store.get_metric_history(run.run_id, "system/cpu_utilization_percentage")
        until(lambda: len(run.samples) > 1)
    history = store.get_metric_history(run.run_id, "system/cpu_utilization_percentage")
    assert len(history) > 4 and {metric.step for metric in history} == {0}
    assert not run.samples
    assert max(metric.timestamp for metric in history) <= store.get_run(run.run_id).info.end_time


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_run_that_fails_or_is_stopped_leaves_no_thread(often, keeper, store, error):
    with pytest.raises(type(error)), keeper.child(f"left by {type(error).__name__}", {}) as run:
        raise error
    until(lambda: not threads())
    assert store.get_run(run.run_id).info.status != "RUNNING"


def test_a_run_says_which_code_made_it(keeper, store):
    with keeper.child("of this code", {}) as run:
        pass
    tags = store.get_run(run.run_id).data.tags
    assert tags["mlflow.source.type"] == "LOCAL"
    root = machine.__file__.partition("/p2d/tracking")[0]
    if os.path.exists(f"{root}/.git"):
        assert len(tags["mlflow.source.git.commit"]) == 40
