"""Settings of rollouts and of the flow's benchmark: to JSON and back, times of frames, and what is refused."""

import itertools
import json
import re

import pytest

from p2d.config import RolloutConfig, RolloutSource
from p2d.config.bench import BenchFlowConfig
from p2d.errors import UserError

CONFIGS = [
    RolloutConfig(),
    RolloutConfig(sample=7, steps=50, frames=3, ensemble=1, eta=0.5, noise=False, alpha=0.8, step=0.25),
    RolloutConfig(animation="none", seed=3, show="u"),
    RolloutSource(),
    RolloutSource(flow="life", start="life_256x256", score="other", name="mine"),
    BenchFlowConfig(),
    BenchFlowConfig(dataset="life", snapshots=(8,), seeds=1, holdout=0.5, threads=2),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_a_config_comes_back_from_its_json(config):
    text = json.dumps(config.to_dict())
    assert type(config).from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
    ("config", "wrong", "right"),
    [
        (RolloutConfig, "frame", "frames"),
        (RolloutConfig, "ensembel", "ensemble"),
        (RolloutSource, "flows", "flow"),
        (BenchFlowConfig, "snapshot", "snapshots"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(config, wrong, right):
    with pytest.raises(UserError, match=f"{wrong!r}.*did you mean {right!r}.*{config.__name__}"):
        config.from_dict({wrong: 1})


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        *((RolloutConfig, key, value) for key in ("steps", "frames", "ensemble") for value in (0, -3)),
        *((RolloutConfig, key, -1) for key in ("sample", "seed")),
        *((RolloutConfig, key, value) for key in ("eta", "step") for value in (-0.1, float("nan"), float("inf"))),
        (RolloutConfig, "frames", 1001),
        *((BenchFlowConfig, "seeds", value) for value in (0, -1)),
        (BenchFlowConfig, "threads", -1),
        *((BenchFlowConfig, "holdout", value) for value in (0.0, 1.0, float("nan"))),
    ],
)
def test_a_value_that_is_not_possible_is_refused_and_named(config, key, value):
    with pytest.raises(UserError, match=re.escape(f"{key} = {value} is not possible")):
        config(**{key: value})


def test_a_number_of_snapshots_below_none_is_refused_beside_others():
    with pytest.raises(UserError, match="snapshots = -2 is not possible"):
        BenchFlowConfig(snapshots=(0, -2))


@pytest.mark.parametrize(("steps", "frames"), [(1, 2), (40, 41), (10, 1000)])
def test_more_frames_than_steps_are_refused_with_what_is_possible(steps, frames):
    with pytest.raises(UserError, match=f"frames = {frames} is not possible in {steps} steps: give {steps} or fewer"):
        RolloutConfig(steps=steps, frames=frames)
    assert RolloutConfig(steps=steps, frames=steps).times == list(range(steps + 1))


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25, float("nan")])
def test_a_signal_level_outside_0_and_1_is_refused(value):
    with pytest.raises(UserError, match=re.escape(f"alpha = {value} is not a signal level")):
        RolloutConfig(alpha=value)


@pytest.mark.parametrize(("name", "nearest"), [("mp3", "mp4"), ("jif", "gif"), ("non", "none")])
def test_an_animation_of_another_kind_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"unknown animation {name!r}.*did you mean {nearest!r}.*known: gif, mp4, none"):
        RolloutConfig(animation=name)


@pytest.mark.parametrize(
    ("steps", "frames", "times"),
    [
        (1000, 4, [0, 250, 500, 750, 1000]),
        (1, 1, [0, 1]),
        (10, 3, [0, 3, 7, 10]),
        (7, 7, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_times_go_from_the_start_to_the_last_step_evenly(steps, frames, times):
    assert RolloutConfig(steps=steps, frames=frames).times == times


@pytest.mark.parametrize(("steps", "frames"), [(1000, 40), (41, 40), (999, 500), (57, 29), (3, 2)])
def test_no_two_frames_are_of_one_time(steps, frames):
    times = RolloutConfig(steps=steps, frames=frames).times
    assert len(times) == frames + 1 and times[0] == 0 and times[-1] == steps
    assert all(a < b for a, b in itertools.pairwise(times))


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("ensemble", 3), ("animation", "none"), ("show", "u")])
def test_every_setting_of_a_rollout_is_part_of_its_identity(key, value):
    assert RolloutConfig(**{key: value}).identity() != RolloutConfig().identity()
    assert set(RolloutConfig().identity()) == set(RolloutConfig().to_dict())
