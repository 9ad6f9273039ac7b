"""Settings: to JSON and back, what makes two runs the same, and what is refused in which words."""

import json
import re

import pytest

from p2d.config import (
    DenoiseConfig,
    DiscoverConfig,
    EvaluateConfig,
    FlowConfig,
    FlowSource,
    RunConfig,
    SampleConfig,
    ScoreConfig,
    SimulateConfig,
    Source,
    TrainSource,
    of_each,
    refuse_other_settings,
    settings_hash,
)
from p2d.errors import UserError

CONFIGS = [
    SimulateConfig(),
    SimulateConfig(preset=("waves", "life"), num_samples=3, normalize=False, name="mine", chunk=2, device="cpu"),
    SimulateConfig(set=("F=0.02,0.1", "k=0.05", "D_u=0.1"), dt=0.5, initial="noise"),
    SimulateConfig(snapshots_per_run=4, interval=1000, set=("D_v=0",), threads=3, seed=2**63 - 1),
    SimulateConfig(spacing="0.65um", edges=("periodic", "mirror"), operator="9-point", integrator="etdrk4", steps=0),
    SimulateConfig(equation="runs/discover/waves", initial="other"),
    SimulateConfig(noise=0.02, initial="centre"),
    Source(dataset="some/folder", holdout=0.25, workers=2),
    TrainSource(cpus_per_worker=3, memory=1.5, workers="1:4"),
    FlowSource(dataset="life", score="other", memory=0.25),
    TrainSource(dataset="noisy", name="clean"),
    ScoreConfig(),
    ScoreConfig(alpha=(0.8,), channels=(8,), augment=False),
    ScoreConfig(sampling=0.0, target_loss=0.1, data_noise=(0.02, 30.0), precision="bfloat16"),
    SampleConfig(num_samples=3, height=64, dataset="life", show="all"),
    DenoiseConfig(noise=(0.05,), channels=(8, 8)),
    FlowConfig(),
    FlowConfig(objective="continuity", epochs=3, hidden=(16, 8), radius=1.5, activation="tanh"),
    FlowConfig(objective="training-free", kernel_radius=2.0, sign="-", probes=3),
    DiscoverConfig(library="gray-scott", bootstrap=7),
    EvaluateConfig(score="a", show="all"),
]


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
        (FlowConfig, "radios", "radius"),
        (FlowConfig, "kernel", "kernel_radius"),
        (FlowConfig, "activations", "activation"),
        (Source, "hold_out", "holdout"),
        (TrainSource, "memmory", "memory"),
        (SampleConfig, "num_sample", "num_samples"),
        (DenoiseConfig, "noises", "noise"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(config, wrong, right):
    with pytest.raises(UserError, match=f"{wrong!r}.*did you mean {right!r}.*{config.__name__}"):
        config.from_dict({wrong: 1})


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


@pytest.mark.parametrize(
    ("made", "asked", "told"),
    [
        ({"a": {"b": {"F": 0.018, "k": 1}}}, {"a": {"b": {"F": 0.02, "k": 1}}}, "a.b.F is 0.018 there, 0.02 was asked"),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, "a.c is None there, 2 was asked"),
        ({"a": {"b": 1}}, {"a": 3}, "a is ['b'] there, 3 was asked"),
        ({}, {"a": {"b": 1}}, "a is None there, ['b'] was asked"),
        # of tables that the other lacks the names alone, and what differs within those of both
        (
            {"s": {"one": {"F": 1}, "two": {"F": 1}}},
            {"s": {"two": {"F": 2}, "three": {"F": 1}}},
            "s is ['one', 'two'] there, ['two', 'three'] was asked; s.two.F is 1 there, 2 was asked",
        ),
        ({"s": {"one": {"F": 1}}}, {"s": {}}, "s is ['one'] there, [] was asked"),
    ],
)
def test_nested_settings_are_told_by_their_place(made, asked, told):
    with pytest.raises(UserError) as caught:
        refuse_other_settings("the dataset d", made, asked)
    assert str(caught.value) == (
        f"the dataset d was made with other settings: {told}. Take another --name or --out, or remove it"
    )
    refuse_other_settings("the dataset d", made, made)


def test_equal_settings_are_not_refused():
    refuse_other_settings("the dataset d", SimulateConfig().identity(), SimulateConfig(chunk=3).identity())


IMPOSSIBLE = [
    *((SimulateConfig, key, value) for key in ("num_samples", "height", "width", "chunk") for value in (0, -3)),
    *((SimulateConfig, "snapshots_per_run", value) for value in (0, -3)),
    *((SimulateConfig, key, -1) for key in ("steps", "interval", "seed", "actors", "threads")),
    *((SimulateConfig, "seed", value) for value in (2**63, 2**64)),
    *((SimulateConfig, "dt", value) for value in (-1.0, float("nan"), float("inf"))),
    *((SimulateConfig, "noise", value) for value in (-0.01, 1.0, float("nan"))),
    *((SimulateConfig, "spacing", value) for value in ("abc", "-1", "0.5.2", "1um2", "um", "nan", "inf")),
    *((ScoreConfig, key, 0) for key in ("epochs", "batch_size")),
    *((ScoreConfig, key, -2) for key in ("warmup", "weight_decay", "seed")),
    *((ScoreConfig, key, value) for key in ("learning_rate", "ema") for value in (0.0, 1.0, -0.5, float("nan"))),
    *((ScoreConfig, "channels", value) for value in ((), (8, 0), (-1,))),
    *((FlowConfig, "learning_rate", value) for value in (0.0, 1.5)),
    *((FlowConfig, key, value) for key, value in (("epochs", -1), ("batch_size", 0), ("observables", 7))),
    *((FlowConfig, key, value) for key, value in (("probes", 0), ("sym", -0.5), ("gaussian_weight", -1.0))),
    *((FlowConfig, "hidden", value) for value in ((), (8, 0))),
    *((FlowConfig, "radius", value) for value in (0.0, 0.99, -1.0, 8.01, float("nan"), float("inf"))),
    *((FlowConfig, "kernel_radius", value) for value in (-0.01, 8.01, float("nan"), float("inf"))),
    *((Source, "holdout", value) for value in (0.0, 1.0, 1.5, -0.1, float("nan"))),
    *((ScoreConfig, "sampling", value) for value in (-0.1, 1.0, float("nan"))),
    *((ScoreConfig, "target_loss", value) for value in (-0.1, float("nan"))),
    (Source, "workers", -1),
    *((TrainSource, "workers", span) for span in ("4:1", "0:2", "1:", ":2", "two", "1:2:3")),
    *((TrainSource, key, -1) for key in ("workers", "cpus_per_worker", "memory")),
    (TrainSource, "holdout", 1.0),
    (TrainSource, "memory", float("nan")),
    *((SampleConfig, key, -1) for key in ("num_samples", "height", "width", "seed")),
    *((SampleConfig, key, value) for key, value in (("num_samples", 0), ("steps", 1), ("churn", 0.5))),
    *((DenoiseConfig, key, 0) for key in ("epochs", "batch_size")),
    *((DenoiseConfig, "learning_rate", value) for value in (0.0, 1.0)),
    *((DenoiseConfig, "channels", value) for value in ((), (8, 0))),
    (DiscoverConfig, "bootstrap", 1),
    (DiscoverConfig, "seed", -4),
]


@pytest.mark.parametrize(("config", "key"), dict.fromkeys((config, key) for config, key, _ in IMPOSSIBLE))
def test_a_value_that_is_not_possible_is_refused_and_named(config, key):
    for value in [value for *of, value in IMPOSSIBLE if of == [config, key]]:
        with pytest.raises(UserError, match=re.escape(f"{key} = {value} is not possible")):
            config(**{key: value})


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize(("config", "key"), [(ScoreConfig, "data_noise"), (DenoiseConfig, "noise")])
def test_noise_that_is_not_possible_is_refused_and_named(config, key, value):
    for given in ((value,), (0.1, value)):
        with pytest.raises(UserError, match=re.escape(f"{key} = {value} is not possible: finite numbers, 0 or above")):
            config(**{key: given})


def test_noise_is_one_for_all_species_or_one_for_each():
    assert of_each("noise", (0.5,), 3) == (0.5, 0.5, 0.5)
    assert of_each("noise", (0.5, 0.0, 2.0), 3) == (0.5, 0.0, 2.0)
    for given in ((0.5, 0.25), (), (1.0,) * 4):
        with pytest.raises(
            UserError, match=r"^noise = [0-9. ]*is not possible: give one for all 3 species, or one for"
        ):
            of_each("noise", given, 3)


def test_one_noise_of_all_species_is_told_as_it_always_was():
    assert ScoreConfig().identity()["data_noise"] == 0.0
    assert ScoreConfig(data_noise=(0.02,)).identity()["data_noise"] == 0.02
    assert ScoreConfig(data_noise=(0.02, 0.5)).identity()["data_noise"] == [0.02, 0.5]


@pytest.mark.parametrize("precision", ["float16", "float", ""])
def test_a_precision_that_is_not_known_is_refused(precision):
    with pytest.raises(UserError, match=f"unknown precision {precision!r}.*known: auto, float32, bfloat16"):
        ScoreConfig(precision=precision)


@pytest.mark.parametrize(
    ("config", "how"),
    [
        (SampleConfig(), {"name": "mine", "dataset": "waves", "show": "u"}),
        (SimulateConfig(), {"name": "mine", "chunk": 3, "threads": 2}),
    ],
    ids=["sample", "simulate"],
)
def test_what_is_compared_shown_and_called_is_no_part_of_the_identity(config, how):
    assert type(config)(**how).identity() == config.identity()
    assert not how.keys() & config.identity().keys()


def test_continuity_needs_an_epoch_and_stationarity_does_not():
    assert FlowConfig(objective="stationarity", epochs=0).passes == 0
    with pytest.raises(UserError, match="epochs = 0"):
        FlowConfig(objective="continuity", epochs=0)


@pytest.mark.parametrize(("objective", "passes"), [("stationarity", 1), ("continuity", 8), ("training-free", 0)])
def test_an_objective_has_its_own_number_of_epochs_where_none_is_asked_for(objective, passes):
    config = FlowConfig(objective=objective)
    assert config.epochs is None
    assert config.passes == passes
    assert FlowConfig(objective=objective, epochs=passes).passes == passes
    assert config.identity() == FlowConfig(objective=objective, epochs=passes).identity()


@pytest.mark.parametrize("epochs", [2, 30])
def test_epochs_that_are_asked_for_are_taken(epochs):
    for objective in ("stationarity", "continuity"):
        assert FlowConfig(objective=objective, epochs=epochs).passes == epochs
    assert ScoreConfig(epochs=epochs).passes == epochs
    with pytest.raises(
        UserError, match=f"epochs = {epochs} is not possible: a training-free flow has nothing to train"
    ):
        FlowConfig(objective="training-free", epochs=epochs)


@pytest.mark.parametrize("objective", ["stationarity", "continuity", "training-free"])
def test_less_than_no_epochs_are_refused(objective):
    with pytest.raises(UserError, match="epochs = -1 is not possible"):
        FlowConfig(objective=objective, epochs=-1)


@pytest.mark.parametrize("activation", ["silu", "tanh", "softplus", "relu", "leaky_relu"])
def test_continuity_needs_an_activation_that_is_twice_differentiable(activation):
    assert FlowConfig(activation=activation).activation == activation
    if activation in ("relu", "leaky_relu"):
        with pytest.raises(UserError, match=f"activation = {activation} .* continuity.*take silu, tanh or softplus"):
            FlowConfig(objective="continuity", activation=activation)
    else:
        assert FlowConfig(objective="continuity", activation=activation).activation == activation


@pytest.mark.parametrize("radius", [1.0, 1.5, 8.0])
def test_the_ends_of_the_range_of_radii_are_possible(radius):
    assert FlowConfig(radius=radius).radius == radius
    assert FlowConfig(objective="training-free", kernel_radius=radius).kernel_radius == radius
    assert FlowConfig(objective="training-free", kernel_radius=0.0).kernel_radius == 0


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("objective", "stationary", "did you mean 'stationarity'.*known: stationarity, continuity, training-free"),
        ("activation", "tan", "did you mean 'tanh'.*known: silu, tanh, softplus, relu, leaky_relu"),
        ("sign", "1", "known: [+], -"),
        ("divergence", "exactly", "did you mean 'exact'.*known: exact, hutchinson"),
        ("schedule", "cosinus", "did you mean 'cosine'.*known: cosine, constant"),
    ],
)
def test_a_choice_of_a_flow_that_is_not_known_is_refused_with_the_nearest(key, value, told):
    with pytest.raises(UserError, match=f"unknown {key} {value!r}.*{told}"):
        FlowConfig(**{key: value})


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


def test_a_run_of_a_dataset_that_is_there_simulates_nothing():
    assert RunConfig(dataset="plates").source().dataset == "plates"
    for settings in ({"num_samples": 3}, {"preset": ("waves",)}, {"height": 64, "width": 64}):
        with pytest.raises(UserError, match=f"--{next(iter(settings)).replace('_', '-')} is a setting of a simulation"):
            RunConfig(simulate=SimulateConfig(**settings), dataset="plates")
