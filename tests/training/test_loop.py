"""The training loop: going on equals not stopping, and two processes equal one.

Run as a script, `test_loop.py RANK FOLDER`, this file is one of two processes that train together.
"""

import copy
import functools
import itertools
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.testing import assert_close

import p2d
from p2d.errors import UserError
from p2d.flow.stationarity import Stationarity
from p2d.flow.velocity import LocalField, feature_statistics
from p2d.score.loss import DenoisingScoreMatching
from p2d.score.model import ScoreModel
from p2d.score.spectrum import Spectrum
from p2d.training.checkpoint import read_checkpoint, read_state, write_checkpoint
from p2d.training.loop import fit, rate_share
from p2d.training.optimizers import MUON_RATE
from p2d.training.states import MemoryData
from p2d.training.workers import Workers

KINDS = ["score", "flow"]
EPOCHS = 3
CLOCKS = {"seconds", "samples_per_second"}


def some_data(count: int = 13, height: int = 16, width: int = 16) -> MemoryData:
    """Random states, the last three held out; the ids are not their places."""
    states = torch.rand(count, 2, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = torch.arange(count) * 3 + 5
    return MemoryData(states[:-3], ids[:-3], states[-3:], ids[-3:])


def score_task(data: MemoryData, seed: int = 0, alpha: tuple[float, ...] = (0.5, 0.99)) -> DenoisingScoreMatching:
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # torch's layers draw from the global stream
        spectrum = Spectrum.white(data.train.mean((0, 2, 3)), data.train.std((0, 2, 3)))
        model = ScoreModel((8, 8), alpha, spectrum)
    return DenoisingScoreMatching(model, seed=1, augment=True)


def flow_task(data: MemoryData, seed: int = 0) -> Stationarity:
    mean, std = feature_statistics(data.train)
    field = LocalField((6,), mean=mean, std=std, generator=torch.Generator().manual_seed(seed))
    return Stationarity(field, observables=48, seed=1)


def task_of(kind: str, data: MemoryData, seed: int = 0) -> DenoisingScoreMatching | Stationarity:
    return score_task(data, seed) if kind == "score" else flow_task(data, seed)


@dataclass(frozen=True)
class Settings:
    """What the loop reads of a config, with values that a config would refuse or does not offer."""

    passes: int = EPOCHS
    batch_size: int = 5
    learning_rate: float = 3e-3
    warmup: int = 2
    seed: int = 1
    ema: float = 0.0
    schedule: str = "constant"
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    target_loss: float = 0.0


def settings_of(kind: str, **settings) -> Settings:
    own = {"ema": 0.9, "schedule": "cosine", "weight_decay": 1e-2, "optimizer": "muon"} if kind == "score" else {}
    return Settings(**{**own, **settings})


def train(
    task,
    data: MemoryData,
    settings: Settings,
    start: dict[str, Any] | None = None,
    workers: Workers | None = None,
    steps: float = math.inf,
    at_a_time: int = 0,
):
    """States reported, one an epoch, each as it was then; asked to stop after so many steps."""
    states, asked = [], itertools.count(1)
    report, stop = lambda _, state: states.append(copy.deepcopy(state)), lambda: next(asked) >= steps
    fit(task, data, settings, workers or Workers(), report, start, stop, at_a_time)
    return states


@functools.cache
def unbroken(kind: str) -> list[dict[str, Any]]:
    data = some_data()
    return train(task_of(kind, data), data, settings_of(kind))


def curve(state: dict[str, Any]) -> list[dict[str, float]]:
    """The history without its clocks."""
    return [{k: v for k, v in metrics.items() if k not in CLOCKS} for metrics in state["history"]]


def assert_same_to_the_last_bit(one: dict[str, Any], two: dict[str, Any]) -> None:
    for key in ("raw", "average"):
        assert one[key].keys() == two[key].keys()
        assert all(torch.equal(one[key][name], two[key][name]) for name in one[key])
    for mine, other in zip(one["optimizers"], two["optimizers"], strict=True):
        assert_close(mine["state"], other["state"], rtol=0, atol=0)
    assert (one["epoch"], one["step"], curve(one)) == (two["epoch"], two["step"], curve(two))


# Stop and go on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epoch", range(EPOCHS + 1))
def test_going_on_from_a_reported_state_equals_the_unbroken_run(kind, epoch):
    data, whole = some_data(), unbroken(kind)
    fresh = task_of(kind, data, seed=99)  # other weights: all that counts comes from the state
    rest = train(fresh, data, settings_of(kind), start=copy.deepcopy(whole[epoch]))
    assert len(rest) == EPOCHS - epoch
    for state, expected in zip(rest, whole[epoch + 1 :], strict=True):
        assert_same_to_the_last_bit(state, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_checkpoint_equals_the_unbroken_run(kind, tmp_path):
    data, whole = some_data(), unbroken(kind)
    write_checkpoint(tmp_path / "model", {"kind": kind}, whole[1]["average"], whole[1])
    rest = train(task_of(kind, data, seed=99), data, settings_of(kind), start=read_state(tmp_path / "model"))
    assert_same_to_the_last_bit(rest[-1], whole[-1])
    assert_close(read_checkpoint(tmp_path / "model", kind)[1], whole[1]["average"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_interrupted_while_it_reports_goes_on_from_there(kind):
    data, kept = some_data(), []

    def stop_after_two(_, state):
        kept.append(copy.deepcopy(state))
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(task_of(kind, data), data, settings_of(kind), Workers(), stop_after_two)
    rest = train(task_of(kind, data, seed=99), data, settings_of(kind), start=kept[-1])
    assert_same_to_the_last_bit(rest[-1], unbroken(kind)[-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", range(1, 2 * EPOCHS + 1))
def test_a_run_stopped_after_any_step_goes_on_to_the_last_bit(kind, steps, tmp_path):
    data, whole = some_data(), unbroken(kind)
    *before, last = train(task_of(kind, data), data, settings_of(kind), steps=steps)
    assert len(before) == (steps + 1) // 2, "an epoch has two steps"
    assert (last["step"], len(last["part"]["losses"])) == (steps, 2 - steps % 2)
    assert curve(last) == curve(before[-1]), "the last whole epoch is the last that is told of"
    write_checkpoint(tmp_path / "model", {"kind": kind}, last["average"], last)
    rest = train(task_of(kind, data, seed=99), data, settings_of(kind), start=read_state(tmp_path / "model"))
    assert len(rest) == EPOCHS + 1 - len(before)
    for state, expected in zip(rest, whole[len(before) :], strict=True):
        assert_same_to_the_last_bit(state, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_run_twice_is_the_same_to_the_last_bit(kind):
    data = some_data()
    assert_same_to_the_last_bit(train(task_of(kind, data), data, settings_of(kind))[-1], unbroken(kind)[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_the_weights_in_every_epoch(kind):
    # else the equalities above would say nothing
    for before, after in itertools.pairwise(unbroken(kind)):
        fixed = {"mean", "std", "lowest", "highest", "net.frequencies"}
        fixed |= {f"spectrum.{name}" for name in ("wavenumber", "power", "mean")}
        learnt = [name for name in after["raw"] if name not in fixed]
        assert all(not torch.equal(before["raw"][name], after["raw"][name]) for name in learnt)


# What an epoch is


def test_epoch_0_takes_no_gradient_step():
    data = some_data()
    task = score_task(data)
    fresh = copy.deepcopy(task.model.state_dict())
    (state,) = train(task, data, settings_of("score", passes=0))
    assert_close(state["raw"], dict(fresh), rtol=0, atol=0)
    assert_close(state["average"], dict(fresh), rtol=0, atol=0)
    assert state["step"] == 0
    assert "training_loss" not in state["history"][0]


@pytest.mark.parametrize(("batch_size", "steps"), [(4, 2), (3, 3), (10, 1), (64, 1)])
def test_an_epoch_takes_as_many_steps_as_there_are_whole_batches(batch_size, steps):
    data = some_data()
    state = train(score_task(data), data, settings_of("score", passes=2, batch_size=batch_size))[-1]
    assert state["step"] == 2 * steps


def test_the_average_follows_the_weights_with_its_decay():
    data = some_data()
    before, after = train(score_task(data), data, settings_of("score", passes=1, batch_size=10))
    # one step in an epoch: the decay at step 1 is min(0.9, 2 / 11)
    for name, value in after["average"].items():
        expected = before["raw"][name].lerp(after["raw"][name], 9 / 11)
        assert_close(value, expected, rtol=0, atol=1e-7)  # float32 rounding of numbers below 1


def test_without_averaging_the_average_is_the_weights():
    data = some_data()
    for state in train(score_task(data), data, settings_of("score", ema=0.0)):
        assert_close(state["average"], state["raw"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_validated_is_the_average(kind):
    data = some_data()
    for state in unbroken(kind):
        task = task_of(kind, data, seed=99)
        task.model.load_state_dict(state["average"])
        totals = task.validate(data.held, data.held_ids.tolist(), last=state["epoch"] == EPOCHS)
        for name, value in task.metrics(totals).items():
            assert value == state["history"][-1][name]


# The learning rate


@pytest.mark.parametrize("decay", ["cosine", "constant"])
@pytest.mark.parametrize(("warmup", "steps", "used"), [(4, 100, 4), (10, 100, 10), (500, 100, 20)])
def test_the_warm_up_rises_linearly_to_the_peak(decay, warmup, steps, used):
    settings = settings_of("score", warmup=warmup, schedule=decay)
    rates = [rate_share(settings, step, steps) for step in range(used + 1)]
    # a fraction of two integers; at the step after the warm-up the cosine is at its top
    assert_close(rates, [min(1.0, (step + 1) / used) for step in range(used + 1)], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 50), (10, 100), (500, 1000)])
def test_a_cosine_falls_to_near_0(warmup, steps):
    settings = settings_of("score", warmup=warmup, schedule="cosine")
    used = min(warmup, steps // 5)
    rates = [rate_share(settings, step, steps) for step in range(used, steps)]
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    # half a cosine: its middle is 1/2, and its last of n steps is (pi / 2 n)^2 to leading order
    assert_close(rates[len(rates) // 2], 0.5, rtol=0, atol=1e-12)
    assert_close(rates[-1], (torch.pi / 2 / len(rates)) ** 2, rtol=1e-2, atol=0)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 50), (10, 100)])
def test_a_constant_rate_stays(warmup, steps):
    settings = settings_of("flow", warmup=warmup, schedule="constant")
    assert {rate_share(settings, step, steps) for step in range(warmup, steps)} == {1.0}


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_shortest_runs_have_no_warm_up(steps):
    assert rate_share(settings_of("score", warmup=500), 0, steps) == 1.0


def test_the_rate_of_the_schedule_is_the_optimizers():
    settings = settings_of("score", passes=4)
    data = some_data()
    for state in train(score_task(data), data, settings)[1:]:
        expected = settings.learning_rate * rate_share(settings, state["step"] - 1, 4 * 2)
        assert [o["param_groups"][0]["lr"] for o in state["optimizers"]] == [MUON_RATE * expected, expected]
        assert state["history"][-1]["learning_rate"] == expected


# A loss that is low enough


def losses_of(kind: str) -> list[float]:
    return [metrics["validation_loss"] for metrics in unbroken(kind)[-1]["history"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epoch", range(EPOCHS + 1))
def test_a_run_ends_after_the_first_epoch_that_reaches_the_target(kind, epoch):
    data, target = some_data(), losses_of(kind)[epoch]
    states = train(task_of(kind, data), data, settings_of(kind, target_loss=target))
    last = next(number for number, loss in enumerate(losses_of(kind)) if loss <= target)
    assert [state["epoch"] for state in states] == list(range(last + 1))
    # the learning rate still falls as if all epochs were to come: up to its end the run is the unbroken one
    for key in ("raw", "average"):
        assert_close(states[-1][key], unbroken(kind)[last][key], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_is_not_reached_changes_nothing(kind):
    data = some_data()
    low = settings_of(kind, target_loss=min(losses_of(kind)) * (1 - 1e-12))
    assert_same_to_the_last_bit(train(task_of(kind, data), data, low)[-1], unbroken(kind)[-1])


def test_a_run_that_has_ended_early_is_validated_as_after_its_last_epoch():
    data = some_data()
    (state,) = train(score_task(data), data, settings_of("score", target_loss=losses_of("score")[0]))
    task = score_task(data, seed=99)
    task.model.load_state_dict(state["average"])
    expected = task.metrics(task.validate(data.held, data.held_ids.tolist(), last=True))
    assert {"validation_loss_alpha_0.5", "validation_loss_alpha_0.95", "validation_loss_alpha_0.99"} < expected.keys()
    assert state["history"] == [{**expected, "epoch": 0, "seconds": state["history"][0]["seconds"]}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_that_has_ended_early_stays_ended(kind, epoch):
    data = some_data()
    reached = settings_of(kind, target_loss=losses_of(kind)[epoch])
    state = train(task_of(kind, data), data, reached)[-1]
    assert train(task_of(kind, data, seed=99), data, reached, start=state) == []
    # asked for less than it has reached, it goes on to where the unbroken run comes to
    rest = train(task_of(kind, data, seed=99), data, settings_of(kind), start=state)
    assert len(rest) == EPOCHS - state["epoch"]
    assert_close(rest[-1]["raw"], unbroken(kind)[-1]["raw"], rtol=0, atol=0)


# A loss that is not finite


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinite_learning_rate_is_stopped_at_the_step_after_it(kind):
    data = some_data()
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step 1; try a smaller --learning-rate"):
        train(task_of(kind, data), data, settings_of(kind, learning_rate=float("inf")))


def test_a_weight_that_is_not_a_number_is_stopped_at_step_0():
    data = some_data()
    task = score_task(data)
    torch.nn.init.constant_(task.model.net.head.bias, float("nan"))
    with pytest.raises(UserError, match="the loss is nan at step 0"):
        train(task, data, settings_of("score"))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_before_a_loss_that_is_not_finite_are_reported(kind):
    data, reported = some_data(), []

    def spoil(_, state):
        reported.append(copy.deepcopy(state))
        if len(reported) == 2:
            data.train[:] = float("nan")

    with pytest.raises(UserError, match="the loss is nan at step 2"):
        fit(task_of(kind, data), data, settings_of(kind), Workers(), spoil)
    for state, expected in zip(reported, unbroken(kind), strict=False):
        assert_same_to_the_last_bit(state, expected)
    assert len(reported) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_taken_in_parts_has_the_gradient_of_the_whole(kind):
    data = some_data()
    parts = train(task_of(kind, data), data, settings_of(kind, passes=1), at_a_time=2)  # of 5: 2, 2 and 1
    whole = unbroken(kind)[1]
    for name in ("training_loss", "gradient_norm"):
        # after a step of another rounding, and the norm only of the first order in it
        assert_close(parts[1]["history"][1][name], whole["history"][1][name], rtol=1e-4, atol=0)


# Learning


def test_stripes_are_learnt():
    # x is one of two states, stripes or their negative: at alpha = 0.5 the noise can be known almost exactly, while
    # the Gaussian denoiser that a fresh model is near leaves half of its power
    stripes = torch.tensor([1.0, 1, -1, -1]).repeat(2).expand(1, 2, 8, 8)
    train_states, held = torch.cat([stripes, -stripes] * 8), torch.cat([stripes, -stripes])
    data = MemoryData(train_states, torch.arange(16), held, torch.tensor([16, 17]))
    task = score_task(data, alpha=(0.5,))
    task.augment = False
    history = train(task, data, settings_of("score", passes=20, learning_rate=1e-2))[-1]["history"]
    # a factor of 3.5 and of 2.6 with these seeds: half is far from either
    assert history[-1]["validation_loss"] < history[0]["validation_loss"] / 2
    assert history[-1]["training_loss"] < history[1]["training_loss"] / 2


# Two processes


def train_as_one_of_two(rank: int, folder: Path) -> None:
    """What each of two processes does: train with the other, then the first one alone, and leave what was reported."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    for kind in KINDS:
        data = some_data()
        states = train(task_of(kind, data), data, settings_of(kind), workers=Workers(rank, 2))
        torch.save(states, folder / f"{kind}-{rank}.pt")
        if rank == 0:
            torch.save(train(task_of(kind, data), data, settings_of(kind)), folder / f"{kind}-alone.pt")
        states = train(task_of(kind, data), data, settings_of(kind), workers=Workers(rank, 2), at_a_time=2)
        if rank == 0:
            torch.save(states, folder / f"{kind}-parts.pt")
    # one alone is asked to stop
    steps = 3 if rank == 1 else math.inf
    states = train(score_task(data), data, settings_of("score"), workers=Workers(rank, 2), steps=steps)
    torch.save(states, folder / f"stopped-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory) -> Path:
    """The folder in which two processes left what they were reported."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "PYTHONPATH": str(Path(p2d.__file__).parents[1])}
    command = [sys.executable, __file__]
    running = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=200) for process in running] == [0, 0]
    return folder


def left_in(folder: Path, kind: str, who: str) -> list[dict[str, Any]]:
    return torch.load(folder / f"{kind}-{who}.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_loss_curve_of_one(kind, trained_by_two):
    alone = left_in(trained_by_two, kind, "alone")
    for metrics, expected in zip(curve(left_in(trained_by_two, kind, "0")[-1]), curve(alone[-1]), strict=True):
        # the same sums in parts, of 3 and 2 samples a step, over six steps
        assert_close(metrics, expected, rtol=1e-4, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_weights_of_one(kind, trained_by_two):
    together, alone = left_in(trained_by_two, kind, "0"), left_in(trained_by_two, kind, "alone")
    for key in ("raw", "average"):
        # AdamW divides a gradient by its size, so that rounding of one near 0 moves a weight by a share of the rate
        assert_close(together[-1][key], alone[-1][key], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_both_processes_hold_the_same_weights_to_the_last_bit(kind, trained_by_two):
    first, second = (left_in(trained_by_two, kind, who) for who in ("0", "1"))
    assert len(first) == EPOCHS + 1
    for one, two in zip(first, second, strict=True):
        assert_same_to_the_last_bit(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_that_take_a_batch_in_parts_have_the_loss_curve_of_one_that_does_not(kind, trained_by_two):
    parts, alone = (left_in(trained_by_two, kind, who) for who in ("parts", "alone"))
    for metrics, expected in zip(curve(parts[-1]), curve(alone[-1]), strict=True):
        assert_close(metrics, expected, rtol=1e-4, atol=0)  # as above; shares of 3 and 2 samples, two at a time


@pytest.mark.slow
def test_both_processes_stop_after_the_same_step(trained_by_two):
    stopped = [left_in(trained_by_two, "stopped", rank)[-1] for rank in ("0", "1")]
    assert [(state["step"], len(state["part"]["losses"])) for state in stopped] == [(3, 1), (3, 1)]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 4, 12])
def test_the_workers_shares_are_the_batch(count, size):
    batch = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    shares: list[Tensor] = [Workers(rank, size).share(batch) for rank in range(size)]
    assert_close(torch.cat(shares).sort().values, torch.arange(count), rtol=0, atol=0)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


if __name__ == "__main__":
    train_as_one_of_two(int(sys.argv[1]), Path(sys.argv[2]))
