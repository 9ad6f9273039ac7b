"""Settings: to JSON and back, what makes two runs the same, and what is refused in which words."""

import dataclasses
import json
import re

import pytest

from p2d.config import (
    DiscoverConfig,
    EvaluateConfig,
    FlowConfig,
    FlowSource,
    RunConfig,
    ScoreConfig,
    SimulateConfig,
    Source,
    fits_unet,
    refuse_other_settings,
    settings_hash,
    short_name,
    write_json,
)
from p2d.dynamics.gray_scott import PRESETS, GrayScott
from p2d.errors import UserError

CONFIGS = [
    SimulateConfig(),
    SimulateConfig(preset=("waves", "life"), num_samples=3, normalize=False, name="mine", chunk=2, device="cpu"),
    SimulateConfig(feed=(0.02, 0.1), kill=(0.05,), diffusion_u=0.1, dt=0.5, initial="noise", gpus_per_actor=0.5),
    SimulateConfig(snapshots_per_run=4, interval=1000, diffusion_v=0.0, threads=3, seed=2**63 - 1),
    Source(dataset="some/folder", holdout=0.25, workers=2),
    FlowSource(dataset="life", score="other"),
    ScoreConfig(),
    ScoreConfig(alpha=(0.8,), channels=(8,), augment=False),
    FlowConfig(objective="continuity", hidden=(16, 8), corners=True),
    DiscoverConfig(library="gray-scott", bootstrap=7),
    EvaluateConfig(score="a", plot_channel=0),
]
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
    "seed": 1,
    "normalize": False,
}
SEVERAL = SimulateConfig(snapshots_per_run=2, interval=100)  # neither setting goes without the other


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_a_config_comes_back_from_its_json(config):
    text = json.dumps(config.to_dict())
    assert type(config).from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
    ("config", "wrong", "right"),
    [
        (ScoreConfig, "epoch", "epochs"),
        (SimulateConfig, "hieght", "height"),
        (FlowConfig, "observable", "observables"),
        (Source, "hold_out", "holdout"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(config, wrong, right):
    with pytest.raises(UserError, match=f"{wrong!r}.*did you mean {right!r}.*{config.__name__}"):
        config.from_dict({wrong: 1})


@pytest.mark.parametrize(("key", "value"), HOW_IT_IS_DONE.items())
def test_how_the_work_is_done_is_no_part_of_the_identity(key, value):
    assert dataclasses.replace(SimulateConfig(), **{key: value}).identity() == SimulateConfig().identity()
    assert key not in SimulateConfig().identity()


@pytest.mark.parametrize(("key", "value"), WHAT_COMES_OUT.items())
def test_what_decides_the_result_is_part_of_the_identity(key, value):
    usual = SEVERAL if key in ("snapshots_per_run", "interval") else SimulateConfig()
    other = dataclasses.replace(usual, **{key: value}).identity()
    differing = {k for k, v in usual.identity().items() if other[k] != v}
    assert differing == {key}
    assert settings_hash(other) != settings_hash(usual.identity())


def test_a_simulation_has_no_other_settings_than_these():
    fields = {f.name for f in dataclasses.fields(SimulateConfig)}
    assert fields == HOW_IT_IS_DONE.keys() | WHAT_COMES_OUT.keys()


def test_the_order_of_settings_does_not_change_their_hash():
    assert settings_hash({"a": 1, "b": [2, 3]}) == settings_hash({"b": [2, 3], "a": 1})


def test_each_differing_setting_is_named_with_both_values():
    made, asked = {"seed": 0, "steps": 20, "height": 8, "gone": "x"}, {"seed": 1, "steps": 20, "height": 16, "new": 2.5}
    with pytest.raises(UserError) as caught:
        refuse_other_settings("the dataset d", made, asked)
    told = str(caught.value)
    assert "the dataset d" in told
    assert "seed is 0 there, 1 was asked" in told
    assert "height is 8 there, 16 was asked" in told
    assert "gone is 'x' there, None was asked" in told
    assert "new is None there, 2.5 was asked" in told
    assert "steps" not in told


def test_equal_settings_are_not_refused():
    refuse_other_settings("the dataset d", SimulateConfig().identity(), SimulateConfig(chunk=3).identity())


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        *((SimulateConfig, key, value) for key in ("num_samples", "height", "width", "chunk") for value in (0, -3)),
        *((SimulateConfig, "snapshots_per_run", value) for value in (0, -3)),
        *((SimulateConfig, key, -1) for key in ("steps", "interval", "seed", "actors", "threads")),
        *((SimulateConfig, "seed", value) for value in (2**63, 2**64)),
        *((SimulateConfig, "gpus_per_actor", value) for value in (0, 0.0, 1.5, -1, -0.5, float("nan"), float("inf"))),
        *((SimulateConfig, "dt", value) for value in (0.0, -1.0, float("nan"), float("inf"))),
        *((ScoreConfig, key, 0) for key in ("epochs", "batch_size")),
        *((ScoreConfig, key, -2) for key in ("warmup", "weight_decay", "seed")),
        *((ScoreConfig, key, value) for key in ("learning_rate", "ema") for value in (0.0, 1.0, -0.5, float("nan"))),
        *((ScoreConfig, "channels", value) for value in ((), (8, 0), (-1,))),
        *((FlowConfig, "learning_rate", value) for value in (0.0, 1.5)),
        *((FlowConfig, key, value) for key, value in (("epochs", -1), ("batch_size", 0), ("observables", 7))),
        *((FlowConfig, key, value) for key, value in (("probes", 0), ("sym", -0.5), ("gaussian_weight", -1.0))),
        *((FlowConfig, "hidden", value) for value in ((), (8, 0))),
        *((Source, "holdout", value) for value in (0.0, 1.0, 1.5, -0.1, float("nan"))),
        (Source, "workers", -1),
        (DiscoverConfig, "bootstrap", 1),
        (DiscoverConfig, "seed", -4),
    ],
)
def test_a_value_that_is_not_possible_is_refused_and_named(config, key, value):
    with pytest.raises(UserError, match=re.escape(f"{key} = {value} is not possible")):
        config(**{key: value})


def test_continuity_needs_an_epoch_and_stationarity_does_not():
    assert FlowConfig(objective="stationarity", epochs=0).epochs == 0
    with pytest.raises(UserError, match="epochs = 0"):
        FlowConfig(objective="continuity", epochs=0)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25, 1.75, float("nan"), float("inf")])
def test_a_signal_level_outside_0_and_1_is_refused(value):
    for make in (
        lambda: ScoreConfig(alpha=(value,)),
        lambda: ScoreConfig(alpha=(0.5, value)),
        lambda: FlowConfig(alpha=value),
    ):
        with pytest.raises(UserError, match=re.escape(f"alpha = {value} is not a signal level")):
            make()


@pytest.mark.parametrize("alpha", [(0.9, 0.5), (0.8, 0.8), (0.2, 0.4, 0.6), ()])
def test_levels_that_are_no_rising_range_are_refused(alpha):
    with pytest.raises(UserError, match=re.escape(f"alpha = {' '.join(map(str, alpha))} is not possible")):
        ScoreConfig(alpha=alpha)


@pytest.mark.parametrize(
    ("side", "size", "channels", "near"),
    [
        ("height", 100, (8, 8, 8), "multiple of 8, such as 96 or 104"),
        ("width", 127, (8, 8, 8), "multiple of 8, such as 120 or 128"),
        ("width", 30, (8, 8), "multiple of 4, such as 28 or 32"),
        ("height", 5, (8, 8, 8), "multiple of 8, such as 8$"),
    ],
)
def test_a_size_that_the_unet_cannot_halve_names_the_nearest_that_work(side, size, channels, near):
    with pytest.raises(UserError, match=f"{side} = {size} does not fit the U-Net.*{near}"):
        RunConfig(simulate=SimulateConfig(**{side: size}), score=ScoreConfig(channels=channels))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_sizes_named_as_nearest_are_taken(levels):
    multiple = ScoreConfig(channels=(4,) * levels).downsampling
    assert multiple == 2**levels
    for size in range(1, 70):
        if size % multiple:
            with pytest.raises(UserError) as caught:
                fits_unet("height", size, multiple)
            for near in re.search(r"such as (\d+)(?: or (\d+))?$", str(caught.value)).groups():
                if near is not None:
                    fits_unet("height", int(near), multiple)
        else:
            fits_unet("height", size, multiple)


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
        {"snapshots_per_run": 2, "interval": 1},
    ],
    ids=str,
)
def test_settings_at_the_limit_are_taken(settings):
    config = SimulateConfig(**settings)
    assert config.to_dict() == SimulateConfig().to_dict() | json.loads(json.dumps(settings))


# Systems


WAVES, LIFE = PRESETS["waves"], PRESETS["life"]


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


@pytest.mark.parametrize("channel", [-1, 2])
def test_a_species_that_is_not_there_is_refused(channel):
    for make in (EvaluateConfig, RunConfig):
        with pytest.raises(UserError, match=f"plot_channel '{channel}'.*known: 0, 1"):
            make(plot_channel=channel)


@pytest.mark.parametrize(("cuda", "device", "wished"), [(True, "auto", "cuda"), (False, "cpu", "cpu")])
def test_cuda_is_another_word_for_device_cuda(cuda, device, wished):
    assert SimulateConfig(cuda=cuda, device=device).wished_device == wished


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


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("waves_128x128", "waves"),
        ("u_skate_64x32", "u_skate"),
        ("waves+life_8x8", "waves+life"),
        ("mine", "mine"),
        ("a_8x8_b", "a_8x8_b"),
        ("x_16x", "x_16x"),
    ],
)
def test_the_short_name_is_the_name_without_its_size(name, short):
    assert short_name(name) == short


def test_a_json_file_that_cannot_be_made_leaves_the_old_one(tmp_path):
    file = tmp_path / "new" / "settings.json"
    write_json(file, {"a": [1, 2.5, None]})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": [1, 2.5, None]}
    assert [p.name for p in file.parent.iterdir()] == ["settings.json"]
