"""Settings of a simulation: what makes two datasets the same, what is refused in which words, systems and names."""

import dataclasses
import json
import re

import pytest

from p2d.config import SimulateConfig, settings_hash
from p2d.errors import UserError
from p2d.runs import short_name
from p2d.systems.gray_scott import PRESETS, GrayScott

WAVES, LIFE = PRESETS["waves"], PRESETS["life"]
HOW_IT_IS_DONE = {
    "name": "other",
    "chunk": 7,
    "actors": 3,
    "threads": 2,
    "gpus_per_actor": 0.5,
    "device": "cpu",
    "cuda": True,
}
WHAT_COMES_OUT = {
    "preset": ("life",),
    "feed": (0.02, 0.03),
    "kill": (0.05,),
    "diffusion_u": 0.1,
    "diffusion_v": 0.1,
    "dt": 0.5,
    "num_samples": 5,
    "height": 64,
    "width": 32,
    "initial": "noise",
    "steps": 10,
    "snapshots_per_run": 3,
    "interval": 200,
    "noise": 0.01,
    "seed": 1,
    "normalize": False,
}
SEVERAL = SimulateConfig(snapshots_per_run=2, interval=100)  # neither setting goes without the other


@pytest.mark.parametrize(("key", "value"), HOW_IT_IS_DONE.items())
def test_how_the_work_is_done_is_no_part_of_the_identity(key, value):
    assert dataclasses.replace(SimulateConfig(), **{key: value}).identity() == SimulateConfig().identity()
    assert key not in SimulateConfig().identity()


@pytest.mark.parametrize(("key", "value"), WHAT_COMES_OUT.items())
def test_what_decides_the_result_is_part_of_the_identity(key, value):
    usual = SEVERAL if key in ("snapshots_per_run", "interval") else SimulateConfig()
    one, other = usual.identity(), dataclasses.replace(usual, **{key: value}).identity()
    assert {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)} == {key}
    assert settings_hash(other) != settings_hash(one)


def test_without_measurement_noise_the_identity_is_what_it_was_before_there_was_any():
    assert "noise" not in SimulateConfig(noise=0.0).identity()
    assert SimulateConfig(noise=0.25).identity() == {**SimulateConfig().identity(), "noise": 0.25}
    assert SimulateConfig.from_dict(SimulateConfig().identity()) == SimulateConfig()


def test_a_simulation_has_no_other_settings_than_these():
    fields = {f.name for f in dataclasses.fields(SimulateConfig)}
    assert fields == HOW_IT_IS_DONE.keys() | WHAT_COMES_OUT.keys()


# Refusals


@pytest.mark.parametrize(("wrong", "right"), [("wave", "waves"), ("spiral", "spirals"), ("pulsating", None)])
def test_an_unknown_preset_lists_the_nearest_and_all(wrong, right):
    with pytest.raises(UserError, match=f"unknown preset {wrong!r}.*known: waves, spirals, .*fingerprints") as caught:
        SimulateConfig(preset=("life", wrong))
    if right is not None:
        assert f"did you mean {right!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"preset": ()}, "no preset was given; known: waves, "),
        ({"cuda": True, "device": "cpu"}, "--cuda and --device cpu exclude each other"),
        ({"device": "gpu"}, "unknown device 'gpu'.*known: auto, cpu, cuda"),
    ],
)
def test_presets_and_devices_that_contradict_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        SimulateConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gpus_per_actor": 1.5}, "gpus_per_actor = 1.5 is not possible: a share between 0 and 1, or a whole number"),
        ({"seed": 2**63}, f"seed = {2**63} is not possible: it must be {2**63 - 1} or below"),
        (
            {"snapshots_per_run": 2},
            "several snapshots a run need --interval, the Euler steps from one to the next (say 1000)",
        ),
        ({"noise": -0.01}, "noise = -0.01 is not possible: a concentration of 0 or above, and below 1"),
        ({"noise": 1.0}, "noise = 1.0 is not possible: a concentration of 0 or above, and below 1"),
        ({"noise": float("nan")}, "noise = nan is not possible: a concentration of 0 or above, and below 1"),
        ({"interval": 5}, "interval = 5 needs --snapshots-per-run above 1"),
        ({"initial": "disc"}, "unknown initial 'disc' (did you mean 'discs'?); known: discs, centre, noise"),
        ({"preset": ("life", "waves", "life")}, "the system life is named twice; each may be given once"),
        ({"feed": (0.02, 0.03, 0.02)}, "the system F0.02_k0.049 is named twice; each may be given once"),
        (
            {"preset": ("waves", "maze"), "feed": (0.02,), "kill": (0.05,)},  # what is replaced was all they differ in
            "the system F0.02_k0.05 is named twice; each may be given once",
        ),
        (
            {"preset": ("maze", "waves"), "feed": (0.018,), "kill": (0.049,)},
            "the system waves is named twice; each may be given once",
        ),
        ({"dt": 1.6}, "dt = 1.6 is unstable with D = 0.16: Euler needs dt <= 1 / (4 max(D)) = 1.562"),
        ({"diffusion_v": 0.3}, "dt = 1 is unstable with D = 0.3: Euler needs dt <= 1 / (4 max(D)) = 0.8333"),
        (
            {"feed": (0.9,), "kill": (0.2,)},
            "dt = 1 is too long with F + k = 1.1: a step would remove more than there is; "
            "it needs dt <= 1 / (F + k) = 0.9091",
        ),
        ({"diffusion_u": -0.1}, "D_u = -0.1 is not possible: it must be a finite number, 0 or above"),
        ({"feed": (0.02, -0.1)}, "F = -0.1 is not possible: it must be a finite number, 0 or above"),
        ({"kill": (float("nan"),)}, "k = nan is not possible: it must be a finite number, 0 or above"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_these_words(settings, told):
    with pytest.raises(UserError) as caught:
        SimulateConfig(**settings)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "settings",
    [
        {"gpus_per_actor": 0.25},
        {"gpus_per_actor": 2.0},
        {"seed": 2**63 - 1},
        {"dt": 1.5625},  # 1 / (4 * 0.16)
        {"feed": (0.5,), "kill": (0.5,)},  # a step removes all of v
        {"diffusion_u": 0.0, "diffusion_v": 0.0, "dt": 5.0},
        {"steps": 0},
        {"noise": 0.999},
        {"snapshots_per_run": 2, "interval": 1},
    ],
    ids=str,
)
def test_settings_at_the_limit_are_taken(settings):
    config = SimulateConfig(**settings)
    assert config.to_dict() == SimulateConfig().to_dict() | json.loads(json.dumps(settings))


@pytest.mark.parametrize(("cuda", "device", "wished"), [(True, "auto", "cuda"), (False, "cpu", "cpu")])
def test_cuda_is_another_word_for_device_cuda(cuda, device, wished):
    assert SimulateConfig(cuda=cuda, device=device).wished_device == wished


# Systems and names


@pytest.mark.parametrize(
    ("settings", "systems"),
    [
        ({}, {"waves": WAVES}),
        ({"preset": ("life", "waves")}, {"life": LIFE, "waves": WAVES}),
        ({"feed": (0.018,), "kill": (0.049,)}, {"waves": WAVES}),
        ({"preset": ("life",), "feed": (0.018,), "kill": (0.049,)}, {"waves": WAVES}),
        ({"diffusion_u": 0.16, "diffusion_v": 0.08, "dt": 1.0}, {"waves": WAVES}),
        ({"feed": (0.02,)}, {"F0.02_k0.049": GrayScott(0.16, 0.08, 0.02, 0.049)}),
        ({"kill": (0.06,)}, {"F0.018_k0.06": GrayScott(0.16, 0.08, 0.018, 0.06)}),
        ({"dt": 0.5}, {"F0.018_k0.049_dt0.5": GrayScott(0.16, 0.08, 0.018, 0.049, 0.5)}),
        (
            {"preset": ("chaos",), "feed": (0.02,)},  # what is not replaced is the preset's
            {"F0.02_k0.051_Du0.1_Dv0.05": GrayScott(0.10, 0.05, 0.02, 0.051)},
        ),
        (
            {"diffusion_u": 0.2, "diffusion_v": 0.0, "feed": (0.1 + 0.2,)},
            {"F0.3_k0.049_Du0.2_Dv0": GrayScott(0.2, 0.0, 0.1 + 0.2, 0.049)},
        ),
        (
            {"feed": (0.03, 0.02), "kill": (0.05, 0.06)},
            {
                "F0.03_k0.05": GrayScott(0.16, 0.08, 0.03, 0.05),
                "F0.03_k0.06": GrayScott(0.16, 0.08, 0.03, 0.06),
                "F0.02_k0.05": GrayScott(0.16, 0.08, 0.02, 0.05),
                "F0.02_k0.06": GrayScott(0.16, 0.08, 0.02, 0.06),
            },
        ),
        (
            {"preset": ("waves", "life"), "feed": (0.02, 0.018)},  # each with its own kill rate, and waves among them
            {
                "F0.02_k0.049": GrayScott(0.16, 0.08, 0.02, 0.049),
                "waves": WAVES,
                "F0.02_k0.045": GrayScott(0.16, 0.08, 0.02, 0.045),
                "F0.018_k0.045": GrayScott(0.16, 0.08, 0.018, 0.045),
            },
        ),
    ],
    ids=str,
)
def test_the_systems_are_every_preset_with_every_pair_of_rates_in_order(settings, systems):
    assert list(SimulateConfig(**settings).systems().items()) == list(systems.items())


@pytest.mark.parametrize(("samples", "each", "runs"), [(10, 1, 10), (10, 2, 5), (10, 3, 4), (2, 5, 1)])
def test_runs_are_as_many_as_the_samples_need(samples, each, runs):
    interval = 10 if each > 1 else 0
    assert SimulateConfig(num_samples=samples, snapshots_per_run=each, interval=interval).runs == runs


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "waves_128x128"),
        ({"preset": ("waves", "life"), "height": 64, "width": 32}, "waves+life_64x32"),
        ({"preset": ("waves", "life", "maze", "spots", "dots")}, "waves+life+maze+spots+dots_128x128"),
        ({"name": "mine"}, "mine"),
        ({"feed": (0.02,)}, "F0.02_k0.049_128x128"),
        ({"feed": (0.02, 0.03), "dt": 0.5}, "F0.02_k0.049_dt0.5+F0.03_k0.049_dt0.5_128x128"),
        ({"feed": (0.018,), "kill": (0.049,)}, "waves_128x128"),
        ({"feed": (0.03, 0.02), "kill": (0.05, 0.06)}, "F0.02-0.03_k0.05-0.06_4systems_128x128"),
        ({"feed": (0.01, 0.02, 0.03, 0.04), "width": 8}, "F0.01-0.04_k0.049-0.049_4systems_128x8"),
    ],
)
def test_a_dataset_is_called_by_its_systems_and_size_or_by_its_name(settings, name):
    config = SimulateConfig(**settings)
    assert config.dataset_name == name
    assert short_name(name) == re.sub(f"_{config.height}x{config.width}$", "", name)
