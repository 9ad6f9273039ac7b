"""Settings of a simulation: what makes two datasets the same, what is refused in which words, systems and names."""

import dataclasses
import json
import re

import pytest

from p2d.config import SimulateConfig, settings_hash
from p2d.config.simulate import Simulation
from p2d.errors import UserError
from p2d.fields import Grid, Species
from p2d.runs import short_name
from p2d.systems.reading import catalogue, load_system
from p2d.systems.system import Run

BASE = load_system("gray_scott")
WAVES, LIFE = (0.16, 0.08, 0.018, 0.049, 1.0), (0.16, 0.08, 0.006, 0.045, 1.0)  # D_u, D_v, F, k and dt
HOW_IT_IS_DONE = {
    "name": "other",
    "chunk": 7,
    "actors": 3,
    "threads": 2,
    "device": "cpu",
    "cuda": True,
}
WHAT_COMES_OUT = {
    "preset": ("life",),
    "set": ("F=0.02,0.03", "k=0.05"),
    "dt": 0.5,
    "num_samples": 5,
    "height": 64,
    "width": 32,
    "spacing": "2um",
    "edges": ("mirror",),
    "operator": "9-point",
    "integrator": "etdrk4",
    "initial": "noise",
    "steps": 10,
    "snapshots_per_run": 3,
    "interval": 200,
    "noise": 0.01,
    "dynamics_noise": (0.003,),
    "seed": 1,
    "normalize": False,
}
SEVERAL = SimulateConfig(snapshots_per_run=2, interval=100)  # neither setting goes without the other


OTHERWISE = {"system", "equation"}  # tested below: no value of these goes with the others


@pytest.mark.parametrize(("key", "value"), HOW_IT_IS_DONE.items())
def test_how_the_work_is_done_is_no_part_of_the_identity(key, value):
    assert dataclasses.replace(SimulateConfig(), **{key: value}).identity() == SimulateConfig().identity()
    assert key not in SimulateConfig().identity()
    assert dataclasses.replace(SimulateConfig(), **{key: value}).simulation().identity() == (
        SimulateConfig().simulation().identity()
    )


@pytest.mark.parametrize(("key", "value"), WHAT_COMES_OUT.items())
def test_what_decides_the_result_is_part_of_the_identity(key, value):
    usual = SEVERAL if key in ("snapshots_per_run", "interval") else SimulateConfig()
    one, other = usual.identity(), dataclasses.replace(usual, **{key: value}).identity()
    assert {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)} == {key}
    assert settings_hash(other) != settings_hash(one)
    simulated = [config.simulation().identity() for config in (usual, dataclasses.replace(usual, **{key: value}))]
    assert simulated[0] != simulated[1]


@pytest.mark.parametrize(
    "told",
    [
        {"preset": ("waves",)},
        {"set": ("F=0.018", "k=0.049")},
        {"preset": ("life",), "set": ("F=0.018", "k=0.049")},
        {"dt": 1.0, "steps": 10_000, "initial": "discs", "spacing": "1"},
        {"edges": ("periodic", "periodic")},
        {"system": "gray-scott"},
    ],
    ids=str,
)
def test_the_same_thing_told_in_other_words_is_the_same_simulation(told):
    assert SimulateConfig(**told).simulation().identity() == SimulateConfig().simulation().identity()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preset": ("life", "chaos"), "set": ("F=0.02,0.03",)},
        {**WHAT_COMES_OUT, "dynamics_noise": (0.0,)},
        {"dynamics_noise": (0.003,)},
    ],
    ids=str,
)
def test_a_simulation_comes_back_from_what_a_card_keeps_of_it(settings):
    simulation = SimulateConfig(**settings).simulation()
    kept = json.loads(json.dumps(simulation.identity()))
    again = Simulation.of_settings(kept, chunk=7)
    assert again.identity() == simulation.identity() == kept
    assert list(again.systems) == list(simulation.systems)
    assert again.species == simulation.species
    for label in simulation.systems:
        assert again.scheme(label) == simulation.scheme(label)
        assert again.systems[label].parameters == simulation.systems[label].parameters
        assert again.systems[label].run == simulation.systems[label].run
    usual = {"chunk": 64, "systems": simulation.systems}
    assert dataclasses.replace(again, **usual) == dataclasses.replace(simulation, **usual)


def test_a_simulation_has_no_other_settings_than_these():
    fields = {f.name for f in dataclasses.fields(SimulateConfig)}
    assert fields == HOW_IT_IS_DONE.keys() | WHAT_COMES_OUT.keys() | OTHERWISE


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
        ({"seed": 2**63}, f"seed = {2**63} is not possible: it must be {2**63 - 1} or below"),
        (
            {"snapshots_per_run": 2},
            "several snapshots a run need --interval, the steps from one to the next (say 1000)",
        ),
        ({"noise": -0.01}, "noise = -0.01 is not possible: a share of the range of 0 or above, and below 1"),
        ({"noise": 1.0}, "noise = 1.0 is not possible: a share of the range of 0 or above, and below 1"),
        ({"noise": float("nan")}, "noise = nan is not possible: a share of the range of 0 or above, and below 1"),
        ({"dynamics_noise": (-0.1,)}, "dynamics_noise = -0.1 is not possible: finite numbers, 0 or above"),
        ({"dynamics_noise": (0.1, float("inf"))}, "dynamics_noise = inf is not possible: finite numbers, 0 or above"),
        (
            {"dynamics_noise": (0.1, 0.1, 0.1)},
            "dynamics_noise = 0.1 0.1 0.1 is not possible: give one for all 2 species, or one for each",
        ),
        (
            {"dynamics_noise": (0.1,), "integrator": "etdrk4"},
            "etdrk4 takes no noise in the dynamics; take --integrator euler",
        ),
        ({"interval": 5}, "interval = 5 needs --snapshots-per-run above 1"),
        ({"preset": ("life", "waves", "life")}, "the system life is named twice; each may be given once"),
        ({"set": ("F=0.02,0.03,0.02",)}, "the system F0.02_k0.049 is named twice; each may be given once"),
        (
            {"preset": ("waves", "maze"), "set": ("F=0.02", "k=0.05")},  # what is replaced was all they differ in
            "the system F0.02_k0.05 is named twice; each may be given once",
        ),
        (
            {"preset": ("maze", "waves"), "set": ("F=0.018", "k=0.049")},
            "the system waves is named twice; each may be given once",
        ),
        (
            {"dt": 1.6},  # the shortest wave of u decays at F + 8 D_u = 1.298
            "dt = 1.6 is unstable for F0.018_k0.049_dt1.6: its fastest wave decays at 1.298 a unit of time, "
            "and Euler needs dt <= 1.54",
        ),
        (
            {"set": ("D_v=0.3",)},  # F + k + 8 D_v = 2.467
            "dt = 1 is unstable for F0.018_k0.049_Dv0.3: its fastest wave decays at 2.467 a unit of time, "
            "and Euler needs dt <= 0.8107",
        ),
        (
            {"set": ("F=0.9", "k=0.2", "D_u=0", "D_v=0")},
            "dt = 1 is too long for F0.9_k0.2_Du0_Dv0: a step would take v past its rest value; it needs dt <= 0.909",
        ),
        (
            {"set": ("D_u=-0.1",)},
            "F0.018_k0.049_Du-0.1 cannot be simulated: its waves grow the faster the shorter they are (the grid's "
            "shortest at 0.782 a unit of time); is a diffusion negative?",
        ),
        ({"set": ("k=nan",)}, "--set k=nan is not possible: it must be NAME=NUMBER, or NAME=NUMBER,NUMBER"),
        ({"set": ("F=",)}, "--set F= is not possible: it must be NAME=NUMBER, or NAME=NUMBER,NUMBER"),
        ({"set": ("F",)}, "--set F is not possible: it must be NAME=NUMBER, or NAME=NUMBER,NUMBER"),
        ({"set": ("F=0.1,",)}, "--set F=0.1, is not possible: it must be NAME=NUMBER, or NAME=NUMBER,NUMBER"),
        ({"set": ("F=high",)}, "--set F=high is not possible: it must be NAME=NUMBER, or NAME=NUMBER,NUMBER"),
        ({"set": ("F=0.1", "F=0.2")}, "F is set twice; give all its values together, as F=1,2"),
        ({"set": ("f=0.1",)}, "gray_scott has no parameter 'f'; known: D_u, D_v, F, k"),
        ({"set": ("Du=0.1",)}, "gray_scott has no parameter 'Du' (did you mean 'D_u'?); known: D_u, D_v, F, k"),
        (
            {"spacing": "abc"},
            "spacing = abc is not possible: a number with or without a unit, such as 0.65um",
        ),
        ({"spacing": "0"}, "spacing = 0.0 is not possible: it must be a finite number above 0"),
        ({"spacing": "1e400"}, "spacing = inf is not possible: it must be a finite number above 0"),
        (
            {"edges": ("peroidic",)},
            "unknown edges 'peroidic' (did you mean 'periodic'?); known: periodic, mirror, open",
        ),
        (
            {"edges": ("mirror",) * 3},
            "edges = mirror mirror mirror is not possible: give one for both axes, or those of y and x",
        ),
        (
            {"edges": ("open",)},
            "open edges and masks cannot be simulated: nothing is known beyond them; take periodic or mirror edges",
        ),
        (
            {"operator": "9-points"},
            "unknown operator '9-points' (did you mean '9-point'?); known: 5-point, 9-point, spectral, 8th-order",
        ),
        ({"integrator": "rk4"}, "unknown integrator 'rk4' (did you mean 'etdrk4'?); known: euler, etdrk4"),
        (
            {"operator": "8th-order", "height": 8},
            "height = 8 is too small for a stencil that reaches 4 cells: it must be 9 or above, or 1 for one dimension",
        ),
        (
            {"height": 2},
            "height = 2 is too small for a stencil that reaches 1 cells: it must be 3 or above, or 1 for one dimension",
        ),
        (
            {"equation": "mine", "preset": ("waves",)},
            "--equation is a system of its own: it takes no --system or --preset",
        ),
        (
            {"system": "no/such.toml"},
            "there is no system 'no/such.toml': give the path of its TOML file, or one of KNOWN",
        ),
        (
            {"system": "gray-scot"},
            "there is no system 'gray-scot' (did you mean 'gray_scott'?): "
            "give the path of its TOML file, or one of KNOWN",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_these_words(settings, told):
    with pytest.raises(UserError) as caught:
        SimulateConfig(**settings)
    assert str(caught.value) == told.replace("KNOWN", ", ".join(catalogue()))
    assert "\n" not in told


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 2**63 - 1},
        {"dt": 1.54},  # 2 / (F + 8 D_u) = 1.5408
        {"set": ("F=0.5", "k=0.5")},  # a step removes all of v
        {"set": ("D_u=0", "D_v=0"), "dt": 5.0},
        {"height": 3, "width": 1},
        {"operator": "spectral", "integrator": "etdrk4"},
        {"spacing": "0.9"},
        {"steps": 0},
        {"noise": 0.999},
        {"dynamics_noise": (0.0,), "integrator": "etdrk4"},
        {"dynamics_noise": (0.0, 3.0)},
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
        ({"set": ("F=0.018", "k=0.049")}, {"waves": WAVES}),
        ({"preset": ("life",), "set": ("F=0.018", "k=0.049")}, {"waves": WAVES}),
        ({"set": ("D_u=0.16", "D_v=0.08"), "dt": 1.0}, {"waves": WAVES}),
        ({"set": ("F=0.02",)}, {"F0.02_k0.049": (0.16, 0.08, 0.02, 0.049, 1.0)}),
        ({"set": ("k=0.06",)}, {"F0.018_k0.06": (0.16, 0.08, 0.018, 0.06, 1.0)}),
        ({"dt": 0.5}, {"F0.018_k0.049_dt0.5": (0.16, 0.08, 0.018, 0.049, 0.5)}),
        (
            {"preset": ("chaos",), "set": ("F=0.02",)},  # what is not replaced is the preset's
            {"F0.02_k0.051_Du0.1_Dv0.05": (0.10, 0.05, 0.02, 0.051, 1.0)},
        ),
        (
            {"set": ("D_u=0.2", "D_v=0", f"F={0.1 + 0.2!r}")},
            {"F0.3_k0.049_Du0.2_Dv0": (0.2, 0.0, 0.1 + 0.2, 0.049, 1.0)},
        ),
        (
            {"set": ("F=0.03,0.02", "k=0.05,0.06")},
            {
                "F0.03_k0.05": (0.16, 0.08, 0.03, 0.05, 1.0),
                "F0.03_k0.06": (0.16, 0.08, 0.03, 0.06, 1.0),
                "F0.02_k0.05": (0.16, 0.08, 0.02, 0.05, 1.0),
                "F0.02_k0.06": (0.16, 0.08, 0.02, 0.06, 1.0),
            },
        ),
        (
            {"preset": ("waves", "life"), "set": ("F=0.02,0.018",)},  # each with its own kill rate, waves among them
            {
                "F0.02_k0.049": (0.16, 0.08, 0.02, 0.049, 1.0),
                "waves": WAVES,
                "F0.02_k0.045": (0.16, 0.08, 0.02, 0.045, 1.0),
                "F0.018_k0.045": (0.16, 0.08, 0.018, 0.045, 1.0),
            },
        ),
    ],
    ids=str,
)
def test_the_systems_are_every_preset_with_every_combination_of_parameters_in_order(settings, systems):
    simulation = SimulateConfig(**settings).simulation()
    assert list(simulation.systems) == list(systems)
    for label, (d_u, d_v, feed, kill, dt) in systems.items():
        system = simulation.systems[label]
        assert system.parameters == {"D_u": d_u, "D_v": d_v, "F": feed, "k": kill}
        assert (system.run, system.rates, system.label) == (Run(dt, 10_000, 1.0), BASE.rates, label)


def test_the_scheme_is_what_was_asked_for():
    config = SimulateConfig(
        height=6, width=9, spacing="0.9 um", edges=("periodic", "mirror"), operator="9-point", dt=0.25, steps=7
    )
    simulation = config.simulation()
    (label,) = simulation.systems
    scheme = simulation.scheme(label)
    assert scheme.grid == simulation.grid == Grid((6, 9), 0.9, ("periodic", "mirror"), "um")
    assert (scheme.dt, scheme.operator, scheme.integrator) == (0.25, "9-point", "euler")
    assert simulation.systems[label].run == Run(0.25, 7, 0.9)
    assert simulation.species == (Species("u"), Species("v"))


@pytest.mark.parametrize(("samples", "each", "runs"), [(10, 1, 10), (10, 2, 5), (10, 3, 4), (2, 5, 1)])
def test_runs_are_as_many_as_the_samples_need(samples, each, runs):
    interval = 10 if each > 1 else 0
    assert SimulateConfig(num_samples=samples, snapshots_per_run=each, interval=interval).simulation().runs == runs


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "waves_128x128"),
        ({"preset": ("waves", "life"), "height": 64, "width": 32}, "waves+life_64x32"),
        ({"preset": ("waves", "life", "maze", "spots", "dots")}, "waves+life+maze+spots+dots_128x128"),
        ({"name": "mine"}, "mine"),
        ({"set": ("F=0.02",)}, "F0.02_k0.049_128x128"),
        ({"set": ("F=0.02,0.03",), "dt": 0.5}, "F0.02_k0.049_dt0.5+F0.03_k0.049_dt0.5_128x128"),
        ({"set": ("F=0.018", "k=0.049")}, "waves_128x128"),
        ({"set": ("F=0.03,0.02", "k=0.05,0.06")}, "F0.02-0.03_k0.05-0.06_4systems_128x128"),
        ({"set": ("F=0.01,0.02,0.03,0.04",), "width": 8}, "F0.01-0.04_4systems_128x8"),
        ({"set": ("F=0.01,0.02,0.03,0.04", "k=0.05")}, "F0.01-0.04_k0.05_4systems_128x128"),
        (
            {"preset": ("waves", "chaos"), "set": ("F=0.02,0.03",)},
            "Du0.1-0.16_Dv0.05-0.08_F0.02-0.03_k0.049-0.051_4systems_128x128",
        ),
        ({"equation": "runs/discover/waves/"}, "waves_equation_128x128"),
    ],
)
def test_a_dataset_is_called_by_its_systems_and_size_or_by_its_name(settings, name):
    config = SimulateConfig(**settings)
    assert config.dataset_name == name
    assert short_name(name) == re.sub(f"_{config.height}x{config.width}$", "", name)
