"""Ray Train around the loop: one or two workers, a killed worker, an interrupted run."""

import dataclasses
import os

import psutil
import pytest
import torch
from safetensors.torch import load_file

from p2d.checkpoint import read_history
from p2d.cluster import train as cluster_train
from p2d.config import FlowConfig, ScoreConfig, SimulateConfig, Source
from p2d.errors import UserError
from p2d.simulation import simulate_here

SCORE = ScoreConfig(epochs=2, batch_size=4, channels=(8, 8), warmup=2)
FLOW = FlowConfig(epochs=1, batch_size=8, hidden=(8,), observables=48)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    config = SimulateConfig(preset=("pulsating_solitons",), num_samples=24, height=32, width=32, steps=1000, chunk=8)
    return simulate_here(config, tmp_path_factory.mktemp("data") / "solitons_32x32")


def trained(config, dataset, folder, workers, on_metrics=lambda m: None):
    cluster_train.train(config, Source(workers=workers), dataset, folder, on_metrics)
    return load_file(folder / "model.safetensors"), read_history(folder)


@pytest.mark.parametrize("config", [SCORE, FLOW], ids=["score", "flow"])
def test_two_workers_learn_what_one_learns(cluster, dataset, tmp_path, config):
    one, history_one = trained(config, dataset, tmp_path / "one", 1)
    two, history_two = trained(config, dataset, tmp_path / "two", 2)
    # The same samples, noise and observables: only the order of float32 sums differs.
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=5e-3, atol=5e-4)
    for a, b in zip(history_one, history_two, strict=True):
        assert b["validation_loss"] == pytest.approx(a["validation_loss"], rel=1e-2)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "nothing is left beside the models"


def kill_training_worker():
    """SIGKILL to a training worker of this process's own cluster."""
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::RayTrainWorker") and os.getpid() in {p.pid for p in process.parents()}:
            process.kill()
            return
    raise AssertionError("there is no training worker to kill")


def test_a_killed_worker_does_not_change_the_result(cluster, dataset, tmp_path):
    config = dataclasses.replace(SCORE, epochs=40)
    undisturbed, _ = trained(config, dataset, tmp_path / "undisturbed", 1)
    seen = []

    def kill_once(metrics):
        seen.append(metrics["epoch"])
        if seen == [0, 1, 2]:
            kill_training_worker()

    disturbed, history = trained(config, dataset, tmp_path / "disturbed", 1, kill_once)
    assert [h["epoch"] for h in history] == list(range(41))
    for key in undisturbed:
        assert torch.equal(disturbed[key], undisturbed[key]), key


def test_a_mistake_found_by_a_worker_comes_back_as_one_line(cluster, dataset, tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step"):
        trained(
            ScoreConfig(epochs=1, batch_size=4, channels=(8,), learning_rate=0.999, warmup=0, weight_decay=1e30),
            dataset,
            tmp_path / "nan",
            1,
        )
    assert list(tmp_path.iterdir()) == []


def test_more_workers_than_cpus_are_refused(cluster, dataset, tmp_path):
    with pytest.raises(UserError, match="workers = 64 is more than the 2 CPUs"):
        trained(SCORE, dataset, tmp_path / "many", 64)


def test_a_grid_that_does_not_fit_is_refused(cluster, dataset, tmp_path):
    with pytest.raises(UserError, match="height = 32 does not fit"):
        trained(ScoreConfig(channels=(4,) * 6), dataset, tmp_path / "deep", 1)
