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
from p2d.errors import UserError

CONFIGS = [
    SimulateConfig(),
    SimulateConfig(preset=("waves", "life"), num_samples=3, normalize=False, name="mine", chunk=2, device="cpu"),
    Source(dataset="some/folder", holdout=0.25, workers=2),
    FlowSource(dataset="life", score="other"),
    ScoreConfig(),
    ScoreConfig(alpha=(0.8,), channels=(8,), augment=False),
    FlowConfig(objective="continuity", hidden=(16, 8), corners=True),
    DiscoverConfig(library="gray-scott", bootstrap=7),
    EvaluateConfig(score="a", plot_channel=0),
]
HOW_IT_IS_DONE = {"name": "other", "chunk": 7, "actors": 3, "device": "cpu", "cuda": True}
WHAT_COMES_OUT = {
    "preset": ("life",),
    "num_samples": 5,
    "height": 64,
    "width": 32,
    "steps": 10,
    "seed": 1,
    "normalize": False,
}


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
    other = dataclasses.replace(SimulateConfig(), **{key: value}).identity()
    differing = {k for k, v in SimulateConfig().identity().items() if other[k] != v}
    assert differing == {key}
    assert settings_hash(other) != settings_hash(SimulateConfig().identity())


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
        *((SimulateConfig, key, -1) for key in ("steps", "seed", "actors")),
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
        ({"preset": ()}, "no preset.*waves"),
        ({"preset": ("life", "waves", "life")}, "preset = life waves life names one twice"),
        ({"cuda": True, "device": "cpu"}, "--cuda and --device cpu"),
    ],
)
def test_presets_and_devices_that_contradict_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        SimulateConfig(**settings)


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
        ({"name": "mine"}, "mine"),
    ],
)
def test_a_dataset_is_called_by_its_preset_and_size_or_by_its_name(settings, name):
    assert SimulateConfig(**settings).dataset_name == name


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
