"""Ray Train around the loop: one or two workers, a killed worker, an interrupted run."""

import dataclasses
import errno
import math
import os
import re
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from p2d.cluster import training as cluster_train
from p2d.config import FlowConfig, ScoreConfig, SimulateConfig, TrainSource
from p2d.errors import UserError
from p2d.flow.model import Flow
from p2d.score.model import ScoreModel
from p2d.snapshots.simulated import simulate_here
from p2d.training.checkpoint import read_config, read_state
from p2d.training.history import Epoch, History
from p2d.training.job import TrainJob

SCORE = ScoreConfig(epochs=5, batch_size=4, channels=(8, 8), warmup=2, precision="float32")
FLOW = FlowConfig(epochs=1, batch_size=8, hidden=(8,), observables=48)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    config = SimulateConfig(preset=("pulsating_solitons",), num_samples=24, height=32, width=32, steps=1000, chunk=8)
    return simulate_here(config, tmp_path_factory.mktemp("data") / "solitons_32x32")


def trained(config, dataset, folder, workers, on_epoch=lambda epoch, model: None):
    """Weights and epochs of a training; without workers, of one in this process, which is the one that others match."""
    source = TrainSource(workers=workers or 1)
    cluster_train.train(TrainJob(config, source, dataset, folder, here=not workers), on_epoch)
    return load_file(folder / "model.safetensors"), History.load(folder).epochs


@pytest.fixture(scope="module")
def by_two(cluster, dataset, tmp_path_factory):
    """The folder of a score model that two workers have trained, what was reported of each epoch, and seconds after."""
    reported, at = [], []

    def on_epoch(epoch, model):
        weights = load_file(model / "model.safetensors") if model else None
        reported.append((epoch, weights, read_config(model, "score")["settings"] if model else None))
        at.append(time.monotonic())

    folder = tmp_path_factory.mktemp("score") / "two"
    trained(SCORE, dataset, folder, 2, on_epoch)
    return folder, reported, time.monotonic() - at[-1]


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(by_two, dataset, tmp_path):
    folder, _, _ = by_two
    one, history = trained(SCORE, dataset, tmp_path / "one", 0)
    # The same samples, noise and observables: only the order of float32 sums differs.
    torch.testing.assert_close(load_file(folder / "model.safetensors"), one, rtol=5e-3, atol=5e-4)
    for a, b in zip(history, History.load(folder).epochs, strict=True):
        assert b.validation_loss == pytest.approx(a.validation_loss, rel=1e-2)
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")], "nothing is left beside the model"


def test_a_training_ends_soon_after_its_last_epoch(by_two):
    assert by_two[2] < 10, "Ray waits 12 s for a dashboard that is not there"


@pytest.mark.slow
def test_every_epoch_is_reported_with_the_model_of_those_worth_a_picture(by_two):
    folder, reported, _ = by_two
    assert tuple(epoch for epoch, _, _ in reported) == History.load(folder).epochs
    assert [epoch.number for epoch, model, _ in reported if model] == [1, 2, 4, 5]
    assert all(settings == SCORE.identity() for _, model, settings in reported if model)
    weights = load_file(folder / "model.safetensors")
    torch.testing.assert_close(reported[-1][1], weights, rtol=0, atol=0)
    assert any(not torch.equal(reported[-2][1][key], weights[key]) for key in weights)


def test_two_workers_find_the_flow_that_one_finds(cluster, dataset, tmp_path):
    histories = [trained(FLOW, dataset, tmp_path / name, workers)[1] for name, workers in (("one", 0), ("two", 2))]
    states = torch.from_numpy(dataset.states())
    with torch.no_grad():
        one, two = (Flow.load(tmp_path / name).double()(states.double()) for name in ("one", "two"))
    # Sums in another order, 1e-16 of their terms, and directions of the basis that are stretched up to 1e6 times; the
    # weights come from float32 once they are loaded.
    assert ((one - two).norm() / one.norm()).item() < 1e-5
    for a, b in zip(*histories, strict=True):
        assert b.validation_loss == pytest.approx(a.validation_loss, rel=1e-6)
        assert b.metrics["mean_divergence"] == pytest.approx(a.metrics["mean_divergence"], rel=1e-6)


def kill_training_worker():
    """SIGKILL to a training worker of this process's own cluster."""
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::RayTrainWorker") and os.getpid() in {p.pid for p in process.parents()}:
            process.kill()
            return
    raise AssertionError("there is no training worker to kill")


LONG = dataclasses.replace(SCORE, epochs=12)


@pytest.fixture(scope="module")
def undisturbed(cluster, dataset, tmp_path_factory):
    """The weights of a LONG training that nothing happens to."""
    return trained(LONG, dataset, tmp_path_factory.mktemp("score") / "whole", 0)[0]


# of a flow's training see faults.py, where its process is killed
@pytest.mark.slow
def test_a_killed_worker_does_not_change_the_result(cluster, dataset, tmp_path, undisturbed):
    reported = []

    def kill_once(epoch, _):
        reported.append(epoch.number)
        if reported == [0, 1, 2]:
            kill_training_worker()

    disturbed, history = trained(LONG, dataset, tmp_path / "disturbed", 1, kill_once)
    assert [epoch.number for epoch in history] == list(range(LONG.epochs + 1)) == reported
    torch.testing.assert_close(disturbed, undisturbed, rtol=0, atol=0)


@pytest.mark.slow
def test_an_error_of_the_one_who_watches_ends_the_training_and_it_goes_on_from_there(
    cluster, dataset, tmp_path, undisturbed
):
    reported = []

    def fill_up(epoch, _):
        if epoch.number == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        trained(LONG, dataset, tmp_path / "score" / "model", 1, fill_up)
    (storage,) = (tmp_path / "score").iterdir()
    assert storage.name.startswith(".model-")
    stopped = read_state(max((storage / "run").glob("checkpoint_[0-9]*")))
    assert len(stopped["part"]["losses"]) > 0, "in the middle of an epoch, or with its last step"
    weights, _ = trained(LONG, dataset, tmp_path / "score" / "model", 1, lambda epoch, _: reported.append(epoch.number))
    assert 2 <= reported[0] < 12, "stopped soon"
    assert reported == list(range(reported[0], 13))
    torch.testing.assert_close(weights, undisturbed, rtol=0, atol=0)
    assert [path.name for path in (tmp_path / "score").iterdir()] == ["model"]


def test_a_target_that_is_reached_ends_the_training_with_its_model(cluster, dataset, tmp_path):
    shown = {}

    def on_epoch(epoch, model):
        shown[epoch.number] = load_file(model / "model.safetensors") if model else None

    config = dataclasses.replace(SCORE, epochs=3, sampling=0.0, ema=0.1, learning_rate=1e-2)  # learns fast
    _, history = trained(config, dataset, tmp_path / "whole", 0, on_epoch)
    losses = [epoch.validation_loss for epoch in history]
    assert losses[2] < min(losses[:2])
    early = dataclasses.replace(config, target_loss=losses[2])
    weights, history = trained(early, dataset, tmp_path / "early", 0)
    assert [epoch.validation_loss for epoch in history] == losses[:3]
    assert "validation_loss_alpha_0.99" in history[-1].metrics, "it is validated as after the last epoch"
    torch.testing.assert_close(weights, shown[2], rtol=0, atol=0)


def test_worth_a_picture_are_epochs_further_and_further_apart_and_the_one_that_reaches_the_target(dataset, tmp_path):
    config = dataclasses.replace(SCORE, epochs=20, target_loss=0.1)
    job = TrainJob(config, TrainSource(), dataset, tmp_path)
    for loss_of_11, numbers in ((0.2, [1, 2, 4, 8, 16, 20]), (0.1, [1, 2, 4, 8, 11, 16, 20])):
        epochs = [Epoch(n, {"validation_loss": loss_of_11 if n == 11 else 0.3}) for n in range(21)]
        assert [epoch.number for epoch in epochs if cluster_train._is_shown(job, epoch)] == numbers
        assert all(cluster_train._is_shown(dataclasses.replace(job, here=True), epoch) for epoch in epochs)


# A training that breaks down: a decay of more than twice the weights makes them grow from step to step, past float32

BREAKS = ScoreConfig(
    epochs=1, batch_size=4, channels=(8,), learning_rate=0.999, warmup=0, weight_decay=1e30, precision="float32"
)


def test_a_mistake_found_by_a_worker_comes_back_as_one_line(cluster, dataset, tmp_path):
    with pytest.raises(UserError, match=r"^the loss is (nan|inf) at step \d+; try a smaller --learning-rate$"):
        trained(BREAKS, dataset, tmp_path / "score" / "nan", 0)
    assert list((tmp_path / "score").iterdir()) == [], "of an untrained model nothing is kept"


@pytest.mark.slow
def test_the_model_of_the_last_epoch_before_a_break_down_is_kept_and_named(cluster, dataset, tmp_path):
    # a warm-up that long lets the first epoch through
    breaks_later = dataclasses.replace(BREAKS, epochs=1000, warmup=5000, learning_rate=0.5, weight_decay=200)
    shown = {}

    def on_epoch(epoch, model):
        shown[epoch.number] = load_file(model / "model.safetensors") if model else None

    stopped = tmp_path / "score" / "late_stopped"
    with pytest.raises(UserError) as caught:
        trained(breaks_later, dataset, tmp_path / "score" / "late", 1, on_epoch)
    last = max(shown)
    assert re.fullmatch(
        r"the loss is (nan|inf) at step \d+; try a smaller --learning-rate; "
        + re.escape(f"the model of epoch {last} is kept in {stopped}"),
        str(caught.value),
    )
    assert [path.name for path in stopped.parent.iterdir()] == [stopped.name]
    history = History.load(stopped).epochs
    assert [epoch.number for epoch in history] == list(range(last + 1)) == list(shown)
    assert all(math.isfinite(epoch.validation_loss) for epoch in history)
    weights = dict(ScoreModel.load(stopped).state_dict())
    assert all(weight.isfinite().all() for weight in weights.values())
    assert last in (1, 2), "so that its model was shown"
    torch.testing.assert_close(weights, shown[last], rtol=0, atol=0)


def test_more_workers_than_cpus_are_refused(cluster, dataset, tmp_path):
    with pytest.raises(UserError, match="workers = 3 is more than the 2 CPUs"):
        trained(SCORE, dataset, tmp_path / "many", 3)
