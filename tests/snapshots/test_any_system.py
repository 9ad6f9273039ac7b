"""Datasets of systems of one's own: any species, ranges, grids and schemes, from a TOML file to shards and card."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.config.simulate import Simulation
from p2d.errors import UserError
from p2d.fields import Grid, Scaling, Species
from p2d.observables import names
from p2d.snapshots.card import Card, card_hash
from p2d.snapshots.contents import ranged
from p2d.snapshots.files import shard_entry, write_shard
from p2d.snapshots.ledger import Ledger
from p2d.snapshots.shards import shard_name
from p2d.snapshots.simulated import ALIVE_SHARE, alive, is_finished, plan, simulate_here, simulate_samples, with_starts
from p2d.snapshots.store import Dataset, open_dataset
from p2d.snapshots.verify import verify
from p2d.systems import stability, stepping
from p2d.systems.initial import initial_states
from p2d.systems.reading import load_system
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme

from ..systems.plain import written
from .helpers import contents, samples_of, small

# Says neither start nor limits nor a step. Its rest is (a, b / a).
BRUSSELATOR = """
name = "reactor"
[rates]
fast = "D_fast*lap(fast) + a - (b + 1)*fast + fast**2*slow"
slow = "D_slow*lap(slow) + b*fast - fast**2*slow"
[parameters]
D_fast = 0.5
D_slow = 1.0
a = 2
b = 3
[presets]
calm = { b = 2.5 }
wild = { b = 5.5, D_slow = 4.0 }
"""
CYCLE = """
name = "cycle"
[rates]
alpha = "D*lap(alpha) + alpha*(1 - alpha - 2*gamma)"
beta = "D*lap(beta) + beta*(1 - beta - 2*alpha)"
gamma = "D*lap(gamma) + gamma*(1 - gamma - 2*beta)"
[parameters]
D = 0.1
[units]
alpha = "mM"
[start]
rest = { alpha = 0.3, beta = 0.3, gamma = 0.3 }
noise = { alpha = 0.1, beta = 0.1, gamma = 0.1 }
[run]
dt = 0.125
"""
WEATHER = """
name = "weather"
[rates]
temperature = "D*lap(temperature) - (temperature - cold)*(temperature - mean)*(temperature - hot)*r"
[parameters]
D = 0.2
cold = -30
mean = 35
hot = 110
r = 1e-4
[limits]
temperature = [-40, 120]
[units]
temperature = "degC"
[start]
rest = { temperature = "mean" }
noise = { temperature = 30 }
[run]
dt = 0.25
spacing = 0.5
"""
ELASTIC = """
name = "elastic"
[rates]
h = "-lap(h) - lap(lap(h)) + d(h, x)**2"
"""


@pytest.fixture
def system(tmp_path):
    """Writes the file of a system and gives its path."""

    def write(text: str, name: str = "own.toml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Kernels of these systems as they are written: each would take 2 s to be compiled."""
    compiled = cpu.compiled

    def kernel(system, scheme, noise=False):
        return compiled(system, scheme, noise) if system.name == "gray_scott" else written(system, scheme)

    monkeypatch.setattr(cpu, "compiled", kernel)


def everything(dataset: Dataset) -> np.ndarray:
    return dataset.states(np.arange(dataset.card.samples))


# From file to shards


def test_a_file_of_ones_own_is_simulated_with_presets_and_grids_of_parameters(tmp_path, system):
    file = system(BRUSSELATOR)
    config = small(system=file, preset=("calm", "wild"), set=("a=2,2.25",), num_samples=5)
    dataset = simulate_here(config, tmp_path / "data")
    own = [load_system(file).at(preset, a=a) for preset in ("calm", "wild") for a in (2, 2.25)]
    labels = [system.label for system in own]
    assert list(dataset.card.systems) == list(dataset.card.ensembles) == labels
    assert labels[::2] == ["reactor_calm", "reactor_wild"]
    assert config.dataset_name == "reactor_Dslow1-4_a2-2.25_b2.5-5.5_4systems_10x12"
    states = everything(dataset)
    assert states.shape == (20, 2, 10, 12)
    for number, system in enumerate(own):
        grid = Grid((10, 12))
        ids = np.arange(5 * number, 5 * number + 5)
        start = initial_states(system, 0, ids, (10, 12), "noise")
        scheme = Scheme(grid, stability.usual_step(system, grid, "5-point"))
        assert states[ids].tobytes() == stepping.run(start, system, scheme, 30, "cpu").tobytes()
        assert dataset.card.conditions[labels[number]] == system.parameters
    assert dataset.card.names == ("fast", "slow")
    assert verify(tmp_path / "data") == []
    assert is_finished(config.simulation(), tmp_path / "data")


@pytest.mark.parametrize("label", ["reactor", "my reactor / 2"])
def test_a_system_without_presets_is_called_by_its_name(system, label):
    text = BRUSSELATOR.partition("[presets]")[0].replace('"reactor"', f'"{label}"')
    name = small(system=system(text)).dataset_name
    assert name == f"{label}_10x12".replace(" / ", "---").replace(" ", "-")


def test_rest_noise_and_step_are_found_where_the_file_says_none(tmp_path, system):
    config = small(system=system(BRUSSELATOR), preset=("wild",), num_samples=20, height=16, width=20, steps=0, dt=0.0)
    dataset = simulate_here(config, tmp_path / "data")
    states = everything(dataset).astype(np.float64)
    rest = np.array([2.0, 2.75])  # a and b / a; noise of 1 % of them
    error = 0.01 * rest / states[:, 0].size ** 0.5
    assert (np.abs(states.mean(axis=(0, 2, 3)) - rest) < 4 * error).all()
    assert_allclose(states.std(axis=(0, 2, 3)), 0.01 * rest, rtol=4 * (2 * states[:, 0].size) ** -0.5)
    (known,) = dataset.card.systems.values()
    # 8 D_slow and what reacts: about 8 * 4 + a^2 = 36; half of 2 / 36
    assert_allclose(known.run.dt, 1 / 36, rtol=0.05)
    for species, middle in zip(config.simulation().species, rest, strict=True):
        assert_allclose([species.low, species.high], [0.9 * middle, 1.1 * middle], rtol=1e-6)


LOPSIDED = """
name = "lopsided"
[rates]
high = "lap(high) + 1"
floored = "0.1*lap(floored) + 0.2"
bounded = "0.1*lap(bounded)"
[limits]
floored = [-3.0, inf]
bounded = [0.0, 2.0]
[start]
rest = { high = 0.0, floored = 0.0, bounded = 1.0 }
noise = { high = 0.01, floored = 0.1, bounded = 0.5 }
[run]
dt = 0.1
"""


def test_ranges_without_limits_are_those_of_the_shards_with_living_samples(tmp_path, system):
    config = small(system=system(LOPSIDED), num_samples=5, chunk=2, steps=50)
    dataset = simulate_here(config, tmp_path / "data")
    states = everything(dataset)
    for number, own in enumerate(np.split(states, (2, 4))):
        entry = shard_entry(tmp_path / "data" / shard_name(number))
        assert entry["low"] == own.min(axis=(0, 2, 3)).tolist()
        assert entry["high"] == own.max(axis=(0, 2, 3)).tolist()
    high, floored, bounded = dataset.card.species
    assert (high.low, high.high) == (states[:, 0].min(), states[:, 0].max())
    assert high.low > 4  # the start spans -0.1 to 0.1
    assert (floored.low, floored.high) == (-3.0, states[:, 1].max())
    assert (bounded.low, bounded.high) == (0.0, 2.0)
    # damaged and made again, the card says the same
    (tmp_path / "data" / "shard-00001.parquet").unlink()
    simulate_here(config, tmp_path / "data")
    assert open_dataset(tmp_path / "data").card.species == dataset.card.species
    assert verify(tmp_path / "data") == []


def test_shards_of_the_dead_say_nothing_of_ranges(tmp_path):
    species = (Species("a", low=-1, high=1), Species("b", "mM"))
    card = Card({}, species, Grid((4, 4)), 2)
    dead, living = (
        np.broadcast_to(np.reshape(values, (1, 2, 1, 1)), (1, 2, 4, 4)).astype(np.float32)
        for values in ([-9.0, 0.5], [2.0, 3.0])
    )
    ledger = Ledger(2)
    ledger.put(0, write_shard(tmp_path, 0, samples_of(dead, 0, np.array([False]))))
    assert ranged(card, ledger.low, ledger.high) == species
    ledger.put(1, write_shard(tmp_path, 1, samples_of(living, 1)))
    assert ranged(card, ledger.low, ledger.high) == (Species("a", low=2.0, high=3.0), Species("b", "mM", 3.0, 4.0))


def test_time_is_that_of_each_system(tmp_path, system):
    config = small(system=system(CYCLE), num_samples=4, steps=30, snapshots_per_run=2, interval=7)
    dataset = simulate_here(config, tmp_path / "data")
    assert dataset.index.column("steps").to_pylist() == [30, 37] * 2
    assert dataset.index.column("time").to_pylist() == [3.75, 4.625] * 2
    assert dataset.index.column("system").to_pylist() == ["cycle"] * 4


def test_three_species_on_a_grid_with_edges_by_axis_and_a_unit(tmp_path, system):
    grid = {"edges": ("mirror", "periodic"), "spacing": "0.65um"}
    config = small(system=system(CYCLE), num_samples=3, **grid)
    dataset = simulate_here(config, tmp_path / "data")
    card = dataset.card
    assert card.grid == Grid((10, 12), 0.65, ("mirror", "periodic"), "um")
    assert [(s.name, s.unit) for s in card.species] == [("alpha", "mM"), ("beta", ""), ("gamma", "")]
    table = pq.read_table(tmp_path / "data" / "shard-00000.parquet")
    assert table.schema.field("state").type.shape == [3, 10, 12]
    assert table.schema.field("averages").type.shape == [len(names(card.names))] == [12]
    own = load_system(config.system)
    start = initial_states(own, 0, np.arange(3), (10, 12))
    expected = stepping.run(start, own, Scheme(card.grid, 0.125), 30, "cpu")
    assert everything(dataset).tobytes() == expected.tobytes()
    # within four steps what stands above the first row has reached the fourth row and no other, along all of it
    few = simulate_here(small(system=config.system, num_samples=3, steps=4, **grid), tmp_path / "few")
    plain = small(system=config.system, num_samples=3, steps=4, spacing="0.65um")
    periodic = simulate_here(plain, tmp_path / "periodic")
    differs = (everything(few) != everything(periodic)).any(axis=(0, 1, 3))
    assert_array_equal(np.flatnonzero(~differs), [4, 5])


def test_values_from_minus_40_to_120_are_trained_on_as_minus_1_to_1(tmp_path, system):
    dataset = simulate_here(small(system=system(WEATHER), steps=200), tmp_path / "data")
    assert dataset.card.species == (Species("temperature", "degC", -40, 120),)
    assert dataset.card.grid.spacing == 0.5  # the system's own
    assert dataset.scaling == Scaling((40.0,), (80.0,))
    states = everything(dataset)
    assert states.min() < -20 and states.max() > 90
    assert (states >= -40).all() and (states <= 120).all()
    assert_allclose(dataset.scaling.to_training(np.array([-40.0, 40, 120]).reshape(3, 1, 1, 1)).ravel(), [-1, 0, 1])
    assert_array_equal(dataset.scaling.to_values(dataset.scaling.to_training(states)).round(3), states.round(3))


def test_noise_is_a_share_of_the_range_of_each_species(tmp_path, system):
    settings = {"system": system(WEATHER), "num_samples": 12, "height": 16, "width": 20}
    clean = everything(simulate_here(small(**settings), tmp_path / "clean")).astype(np.float64)
    noisy = everything(simulate_here(small(**settings, noise=0.01), tmp_path / "noisy"))
    noise = noisy - clean
    assert_allclose(noise.std(), 0.01 * 160, rtol=4 * (2 * noise.size) ** -0.5)
    assert abs(noise.mean()) < 4 * 1.6 * noise.size**-0.5


@pytest.mark.parametrize("limited", [False, True])
def test_a_species_without_limits_is_scaled_by_its_mean_and_spread(tmp_path, system, limited):
    text = BRUSSELATOR + ("[limits]\nfast = [0, 5]\n" if limited else "")
    dataset = simulate_here(small(system=system(text), preset=("wild",), steps=200), tmp_path / "data")
    states = dataset.states().astype(np.float64)
    assert dataset.card.alive == 10
    mean, std = states.mean(axis=(0, 2, 3)), states.std(axis=(0, 2, 3))
    expected = np.array([mean, 2 * std])
    if limited:
        expected[:, 0] = [2.5, 2.5]
    # the card rounds means and spreads to nine digits
    assert_allclose([dataset.scaling.shift, dataset.scaling.scale], expected, rtol=1e-8)
    x = dataset.scaling.to_training(states)
    assert_allclose(x[:, 1].std(), 0.5, rtol=1e-6)


def test_scaling_is_of_all_systems_and_none_where_it_is_not_asked_for(tmp_path, system):
    settings = {"system": system(BRUSSELATOR), "preset": ("calm", "wild"), "steps": 50}
    dataset = simulate_here(small(**settings), tmp_path / "scaled")
    states = dataset.states().astype(np.float64)
    assert_allclose(dataset.scaling.shift, states.mean(axis=(0, 2, 3)), rtol=1e-8)
    assert_allclose(dataset.scaling.scale, 2 * states.std(axis=(0, 2, 3)), rtol=1e-7)
    plain = simulate_here(small(**settings, normalize=False), tmp_path / "plain")
    assert plain.scaling == Scaling((0.0, 0.0), (1.0, 1.0))


def test_a_pattern_lives_where_any_species_varies_by_a_share_of_its_range():
    species = (Species("a", low=-40, high=120), Species("b"), Species("c", low=0, high=1e-6))
    wave = np.sin(2 * np.pi * np.arange(16) / 16) * 2**0.5  # of standard deviation 1
    states = np.ones((7, 3, 16, 16))
    for place, (number, share) in enumerate([(0, 1.01), (0, 0.99), (1, 1.01), (1, 0.99), (2, 1.01), (2, 0.99)]):
        states[place, number] += share * ALIVE_SHARE * species[number].span * wave
    assert alive(states, species).tolist() == [True, False, True, False, True, False, False]


# Grids and schemes


@pytest.mark.parametrize("edges", ["periodic", "mirror"])
def test_a_line_is_a_grid_of_one_row(tmp_path, system, edges):
    config = small(system=system(CYCLE), height=1, width=40, edges=(edges,), dt=0.0625)
    dataset = simulate_here(config, tmp_path / "data")
    assert dataset.shape == (3, 1, 40)
    own, (label,) = load_system(config.system), dataset.card.systems
    start = initial_states(own, 0, np.arange(10), (1, 40))
    expected = stepping.run(start, own, config.simulation().scheme(label), 30, "cpu")
    assert everything(dataset).tobytes() == expected.tobytes()
    assert verify(tmp_path / "data") == []
    # in float64, by hand
    f = start.astype(np.float64)
    for _ in range(30):
        ends = (f[..., -1:], f[..., :1]) if edges == "periodic" else (f[..., :1], f[..., -1:])
        wide = np.concatenate([ends[0], f, ends[1]], axis=-1)
        a, b, c = np.moveaxis(f, 1, 0)
        growth = np.stack([a * (1 - a - 2 * c), b * (1 - b - 2 * a), c * (1 - c - 2 * b)], axis=1)
        f = f + 0.0625 * (0.1 * (wide[..., :-2] + wide[..., 2:] - 2 * f) + growth)
    assert_allclose(expected, f, atol=3e-6)


@pytest.mark.parametrize("operator", ["5-point", "spectral"])
def test_a_dataset_of_fourth_order_steps_is_what_short_euler_steps_tend_to(tmp_path, system, operator):
    settings = {"system": system(CYCLE), "num_samples": 2, "height": 8, "width": 12, "operator": operator}
    exact = simulate_here(small(**settings, integrator="etdrk4", dt=0.25, steps=40), tmp_path / "exact")
    assert exact.card.settings["integrator"] == "etdrk4"
    errors = []
    for n in (4, 8):
        euler = simulate_here(small(**settings, dt=0.25 / n, steps=40 * n), tmp_path / f"euler{n}")
        errors.append(np.abs(everything(euler) - everything(exact)).max())
    # first order in the step
    assert_allclose(errors[0] / errors[1], 2, rtol=0.1)
    assert errors[1] < 5e-3
    assert verify(tmp_path / "exact") == []


def test_a_spacing_of_each_preset_needs_one_for_all(system):
    file = system(BRUSSELATOR.replace("b = 2.5 }", "b = 2.5, spacing = 0.5, steps = 70, dt = 0.01 }"))
    with pytest.raises(UserError, match=r"^the systems have spacings of 0\.5 and 1\.0; give one --spacing$"):
        small(system=file, preset=("calm", "wild"), steps=None)
    simulation = small(system=file, preset=("calm", "wild"), spacing="2mm", steps=None).simulation()
    assert simulation.grid == Grid((10, 12), 2.0, unit="mm")
    runs = {label: system.run for label, system in simulation.systems.items()}
    assert (runs["reactor_calm"].dt, runs["reactor_calm"].steps) == (0.01, 70)
    assert (runs["reactor_wild"].steps, runs["reactor_wild"].spacing) == (10_000, 2.0)


# Cards


def test_a_card_of_any_system_comes_back_from_json(tmp_path, system):
    for number, text in enumerate((CYCLE, WEATHER, BRUSSELATOR)):
        folder = tmp_path / str(number)
        card = simulate_here(small(system=system(text), num_samples=2), folder).card
        values = json.loads(json.dumps(card.to_dict()))
        assert Card.from_dict(values) == card
        assert values == json.loads((folder / "card.json").read_text())
        assert card.card_hash == card_hash(values) != card_hash({**values, "seconds": 1e6})


def test_a_dataset_is_known_without_the_file_of_its_system(tmp_path, system):
    file = system(WEATHER)
    own = load_system(file)
    simulate_here(small(system=file, num_samples=4), tmp_path / "data")
    (tmp_path / "own.toml").unlink()
    dataset = open_dataset(tmp_path / "data")
    (known,) = dataset.systems_of(np.array([2]))
    assert (known.rates, known.parameters, known.limits, known.start) == (
        own.rates,
        own.parameters,
        own.limits,
        own.start,
    )
    assert verify(tmp_path / "data") == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("a = 2\n", "a = 2.5\n", "systems.reactor_wild.parameters.a is 2 there, 2.5 was asked"),
        (
            "+ b*fast - fast",
            "+ b*fast - 1*fast",
            "systems.reactor_wild.rates.slow is 'D_slow*lap(slow) + b*fast - fast**2*slow' there, "
            "'D_slow*lap(slow) + b*fast - 1*fast**2*slow' was asked",
        ),
        ("[presets]", "[limits]\nfast = [0, 9]\n[presets]", "systems.reactor_wild.limits.fast is None there, [0, 9]"),
    ],
)
def test_a_file_that_has_changed_is_another_system(tmp_path, system, old, new, told):
    settings = {"preset": ("wild",), "num_samples": 2, "dt": 0.02, "name": "data"}
    simulate_here(small(system=system(BRUSSELATOR), **settings), tmp_path / "data")
    before = contents(tmp_path / "data")
    changed = system(BRUSSELATOR.replace(old, new), "changed.toml")
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        simulate_here(small(system=changed, **settings), tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "data") == before
    # a source, or a preset that is not asked for, changes nothing
    same = system("source = 'me'\n" + BRUSSELATOR.replace("b = 2.5", "b = 2.25"), "same.toml")
    assert is_finished(small(system=same, **settings).simulation(), tmp_path / "data")


# Refusals


@pytest.mark.parametrize(
    ("text", "settings", "told"),
    [
        (
            ELASTIC,
            {"height": 4, "dt": 0.01},
            "height = 4 is too small for a stencil that reaches 2 cells: it must be 5 or above, or 1 for one dimension",
        ),
        (
            ELASTIC,
            {"edges": ("mirror",), "integrator": "etdrk4", "dt": 0.1},
            "etdrk4 cannot take the first derivatives of elastic at mirror edges; take --integrator euler",
        ),
        (CYCLE, {"set": ("d=1",)}, "cycle has no parameter 'd'; known: D"),
        (CYCLE, {"preset": ("waves",)}, "unknown preset 'waves' of cycle; known: none"),
        (
            CYCLE,
            {"initial": "centre"},
            "cycle has no blot for --initial centre; give [start] blot in its file, or take noise",
        ),
        (
            CYCLE,
            {"dt": 8.0},
            "dt = 8 is unstable for cycle: its fastest wave decays at 0.1 a unit of time, and Euler needs dt <= 0.7142",
        ),
    ],
)
def test_what_does_not_go_with_a_system_is_refused_in_one_line(system, text, settings, told):
    with pytest.raises(UserError) as caught:
        small(system=system(text), **settings)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*encountered in scalar:RuntimeWarning")
def test_a_system_that_blows_up_names_sample_and_step(tmp_path, system):
    # within the bound of its rest state, and not far from it
    text = CYCLE.replace("alpha*(1 - alpha - 2*gamma)", "alpha**3")
    with pytest.raises(UserError, match=r"^sample 0 of cycle is not finite from step \d+ on; a smaller --dt may help$"):
        simulate_here(small(system=system(text), steps=400), tmp_path / "data")


# Initial states of a dataset


@pytest.mark.parametrize("chunk", [3, 64])
def test_runs_begin_from_the_living_samples_of_a_dataset_in_turn(tmp_path, chunk):
    settings = {"preset": ("holes",), "num_samples": 12, "height": 12, "width": 16, "steps": 300}
    starts = simulate_here(small(**settings), tmp_path / "starts")
    assert 2 <= len(starts.living) < 12
    config = small(preset=("waves",), num_samples=20, height=12, width=16, initial=str(starts.folder), chunk=chunk)
    dataset = simulate_here(config, tmp_path / "data")
    assert dataset.card.settings["initial"] == str(starts.folder)
    assert dataset.card.settings["initial_hash"] == starts.card.dataset_hash
    turns = np.resize(np.arange(len(starts.living)), 20)
    expected = stepping.run(starts.states()[turns], load_system("gray_scott"), Scheme(Grid((12, 16))), 30, "cpu")
    assert everything(dataset).tobytes() == expected.tobytes()


def test_a_dataset_of_initial_states_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, system):
    simulate_here(small(num_samples=2), tmp_path / "waves")
    (tmp_path / "dead").mkdir()
    simulate_here(small(num_samples=2, preset=("holes",), height=6, width=6, steps=3000), tmp_path / "dead")
    own, waves = system(CYCLE), str(tmp_path / "waves")
    for settings, told in (
        (
            {"system": own, "initial": waves},
            "holds u, v on 10 x 12; initial states must be of alpha, beta, gamma on 10 x 12",
        ),
        ({"height": 12, "initial": waves}, "holds u, v on 10 x 12; initial states must be of u, v on 12 x 12"),
        ({"height": 6, "width": 6, "initial": str(tmp_path / "dead")}, "dead has no living samples to begin from"),
        (
            {"initial": "disc"},
            "initial = disc is none of discs, centre, noise (did you mean 'discs'?), and no dataset: "
            "there is no dataset 'disc'",
        ),
    ):
        with pytest.raises(UserError, match=re.escape(told)) as caught:
            simulate_here(small(**settings), tmp_path / "data")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "data").exists()


def test_a_dataset_of_initial_states_that_has_changed_is_not_taken_for_what_it_was(tmp_path):
    simulate_here(small(num_samples=2), tmp_path / "starts")
    config = small(num_samples=2, chunk=1, initial=str(tmp_path / "starts"))
    simulation = with_starts(config.simulation())
    made = simulate_here(config, tmp_path / "data")
    shutil.rmtree(tmp_path / "starts")
    other = simulate_here(small(num_samples=2, seed=1), tmp_path / "starts").card.dataset_hash
    told = f"initial_hash is '{simulation.initial_hash}' there, '{other}' was asked"
    with pytest.raises(UserError, match=told):
        simulate_here(config, tmp_path / "data")
    # a repair, which has the card alone, does not go on from other states
    again = Simulation.of_settings(made.card.settings, 1)
    with pytest.raises(UserError, match=r"starts, which the samples begin from, does not hold what it held"):
        simulate_samples(again, plan(again)[0])
