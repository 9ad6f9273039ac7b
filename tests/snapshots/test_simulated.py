"""What a simulated dataset holds: the same bytes for any chunk, of single runs and of several snapshots a run."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from p2d.config.simulate import Simulation
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.snapshots.schema import array_of
from p2d.snapshots.simulated import measured, plan, simulate_here, simulate_samples
from p2d.snapshots.store import Dataset
from p2d.snapshots.verify import verify
from p2d.snapshots.writing import ensembles_text
from p2d.systems import stepping
from p2d.systems.initial import generator
from p2d.systems.stepping import Scheme
from p2d.systems.wiener import Wiener

from .helpers import advanced, begun, contents, gray_scott, read_rows, simulation_of, small, with_living

WAVES = gray_scott()
SEVERAL = {"snapshots_per_run": 3, "interval": 11}  # of 10 samples: three whole runs, and a fourth of one snapshot
FEED, KILL = (0.02, 0.03), (0.05, 0.055, 0.06)
GRID = {"set": ("F=0.02,0.03", "k=0.05,0.055,0.06")}


def column(dataset: Dataset, name: str) -> list:
    return dataset.index.column(name).to_pylist()


def all_states(dataset: Dataset) -> np.ndarray:
    """Of the dead, too."""
    return dataset.states(np.arange(dataset.card.samples))


# The plan


@pytest.mark.parametrize("chunk", [1, 4, 5, 64])
@pytest.mark.parametrize("each", [1, 3, 12])
@pytest.mark.parametrize("samples", [1, 10])
def test_the_plan_covers_every_sample_once_in_order_and_in_whole_runs(samples, each, chunk):
    interval = 5 if each > 1 else 0
    simulation = simulation_of(
        preset=("waves", "life"), num_samples=samples, chunk=chunk, snapshots_per_run=each, interval=interval
    )
    shards = plan(simulation)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [i for s in shards for i in range(s.first, s.first + s.rows)] == list(range(2 * samples))
    runs = -(-samples // each)
    for shard in shards:
        system, first = divmod(shard.first, samples)
        assert shard.system == ("waves", "life")[system]
        assert first % each == 0  # a shard begins with the first snapshot of a run
        assert shard.first_run == system * runs + first // each
        assert shard.rows <= max(chunk, each)


# Single runs


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_a_simulated_shard_is_the_simulation_to_the_last_bit(tmp_path, height, width):
    dataset = simulate_here(small(height=height, width=width, seed=5), tmp_path)
    expected = advanced(begun(WAVES, 5, np.arange(10), height, width), WAVES, 30)
    assert all_states(dataset).tobytes() == expected.tobytes()
    ids, states = dataset.read_shard("shard-00001.parquet")
    assert_array_equal(ids, [4, 5, 6, 7])
    assert states.tobytes() == expected[4:8].tobytes()


CHUNKED = {
    "waves": {},
    "two presets": {"preset": ("waves", "life")},
    "several a run": SEVERAL,
    "both": {**SEVERAL, "preset": ("waves", "life")},
    "grid": {**GRID, "num_samples": 5},
    "noise in the dynamics": {**SEVERAL, "preset": ("waves", "life"), "dynamics_noise": (0.003, 0.01)},
}


@pytest.mark.parametrize("name", CHUNKED)
def test_the_hash_does_not_depend_on_the_chunk(tmp_path, name):
    settings = CHUNKED[name]
    reference = simulate_here(small(**settings), tmp_path / "reference")
    for chunk in (1, 3, 64):
        config = small(**settings, chunk=chunk)
        other = simulate_here(config, tmp_path / str(chunk))
        whole_runs = max(1, chunk // config.snapshots_per_run) * config.snapshots_per_run
        assert len(other.card.shards) == len(config.simulation().systems) * -(-config.num_samples // whole_runs)
        assert other.card.dataset_hash == reference.card.dataset_hash
        assert all_states(other).tobytes() == all_states(reference).tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_settings_give_the_same_bytes(tmp_path, threads):
    simulate_here(small(), tmp_path / "a")
    simulate_here(small(threads=threads), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


OTHERS = [
    {"seed": 1},
    {"steps": 31},
    {"num_samples": 9},
    {"preset": ("life",)},
    {"height": 12},
    {"set": ("F=0.019",)},
    {"set": ("k=0.05",)},
    {"set": ("D_u=0.15",)},
    {"set": ("D_v=0.09",)},
    {"spacing": "1.25"},
    {"edges": ("mirror",)},
    {"edges": ("periodic", "mirror")},
    {"operator": "9-point"},
    {"operator": "spectral", "dt": 0.5},
    {"integrator": "etdrk4"},
    {"dt": 0.5},
    {"initial": "centre"},
    {"initial": "noise"},
    {"noise": 0.01},
    {"noise": 0.02},
    {"dynamics_noise": (0.003,)},
    {"dynamics_noise": (0.003, 0.0)},
    SEVERAL,
]


def test_other_contents_have_other_hashes(tmp_path):
    hashes = [
        simulate_here(small(**other), tmp_path / str(i)).card.dataset_hash for i, other in enumerate([{}, *OTHERS])
    ]
    assert len(set(hashes)) == len(hashes)


# Several snapshots a run


@pytest.mark.parametrize(("each", "interval", "samples", "chunk"), [(3, 11, 10, 4), (2, 1, 7, 1), (4, 30, 4, 64)])
@pytest.mark.parametrize(("height", "width"), [(10, 12), (1, 7)])
def test_a_snapshot_is_that_of_a_plain_run_to_the_last_bit(tmp_path, each, interval, samples, chunk, height, width):
    several = {"snapshots_per_run": each, "interval": interval}
    sizes = {"num_samples": samples, "height": height, "width": width, "chunk": chunk}
    dataset = simulate_here(small(**several, **sizes, seed=2), tmp_path)
    run, snapshot = np.divmod(np.arange(samples), each)
    assert column(dataset, "sample_id") == list(range(samples))
    assert column(dataset, "run_id") == run.tolist()
    assert column(dataset, "steps") == (30 + snapshot * interval).tolist()
    states = all_states(dataset)
    for i in range(samples):
        start = begun(WAVES, 2, run[i : i + 1], height, width)
        expected = advanced(start, WAVES, 30 + int(snapshot[i]) * interval)
        assert states[i].tobytes() == expected[0].tobytes()


def test_runs_of_a_second_system_are_others(tmp_path):
    dataset = simulate_here(small(preset=("waves", "life"), **SEVERAL), tmp_path)
    first = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert column(dataset, "run_id") == first + [run + 4 for run in first]
    assert column(dataset, "steps") == [30, 41, 52, 30, 41, 52, 30, 41, 52, 30] * 2
    life = advanced(begun(WAVES, 0, np.arange(4, 8), 10, 12), gray_scott("life"), 41)
    assert all_states(dataset)[[11, 14, 17]].tobytes() == life[:3].tobytes()


def test_the_snapshots_of_a_run_stay_on_one_side_of_the_split(tmp_path):
    dataset = simulate_here(small(num_samples=20, **SEVERAL), tmp_path)
    runs = np.arange(20) // 3
    for holdout in np.linspace(0.01, 0.99, 50):
        train, held = dataset.split(holdout)
        assert len(train) + len(held) == 20
        assert not set(runs[train]) & set(runs[held])


def test_the_change_of_an_ensemble_is_that_of_runs_and_not_of_snapshots(tmp_path):
    # Later snapshots are further from the middle of the burn-in, and no independent draws.
    single = simulate_here(small(num_samples=8), tmp_path / "a").card.ensembles["waves"]
    several = simulate_here(small(num_samples=24, **SEVERAL), tmp_path / "b").card.ensembles["waves"]
    assert (several.samples, several.change) == (24, single.change)
    assert single.change.z is not None


# Several systems


def test_a_grid_of_rates_is_one_labelled_dataset(tmp_path):
    config = small(**GRID, num_samples=3)
    dataset = simulate_here(config, tmp_path)
    pairs = [(feed, kill) for feed in FEED for kill in KILL]
    labels = [f"F{feed}_k{kill}" for feed, kill in pairs]
    systems = [gray_scott(F=feed, k=kill) for feed, kill in pairs]
    assert column(dataset, "sample_id") == column(dataset, "run_id") == list(range(18))
    assert column(dataset, "system") == [name for name in labels for _ in range(3)]
    assert list(dataset.card.systems) == list(dataset.card.conditions) == list(dataset.card.ensembles) == labels
    known = [system.parameters for system in systems]
    assert [system.parameters for system in dataset.card.systems.values()] == known
    assert list(dataset.card.conditions.values()) == known
    assert [system.parameters for system in dataset.systems_of(np.arange(0, 18, 3))] == known
    states = all_states(dataset)
    for number, system in enumerate(systems):
        runs = np.arange(3 * number, 3 * number + 3)
        start = begun(WAVES, 0, runs, 10, 12)
        assert states[runs].tobytes() == advanced(start, system, 30).tobytes()
        assert states[runs].tobytes() != advanced(start, WAVES, 30).tobytes()


# Measurement noise

SYSTEMS = {"preset": ("waves", "life")}


def both(std: float) -> np.ndarray:
    """The same standard deviation for both species."""
    return np.full(2, std)


@pytest.mark.parametrize("std", [0.005, 0.1])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_measurement_noise_is_white_and_of_the_asked_standard_deviation(std, height, width):
    count = 200
    states = np.full((count, 2, height, width), 0.5, np.float32)
    noise = (measured(states, both(std), 7, np.arange(count)) - states).astype(float) / std
    assert measured(states, both(std), 7, np.arange(count)).dtype == np.float32
    standard_error = noise.size**-0.5
    assert abs(noise.mean()) < 4 * standard_error
    assert abs(noise.std() - 1) < 4 * standard_error * 2**-0.5
    assert abs((noise**4).mean() - 3) < 4 * standard_error * 96**0.5  # Var x^4 = 105 - 9 of a normal number
    others = {
        "species": noise[:, 0] * noise[:, 1],
        "rows": noise * np.roll(noise, 1, 2),
        "columns": noise * np.roll(noise, 1, 3),
        "samples": noise * np.roll(noise, 1, 0),
    }
    for name, product in others.items():
        assert abs(product.mean()) < 4 * product.size**-0.5, name


def test_measurement_noise_is_a_function_of_seed_and_id_alone():
    states = np.zeros((6, 2, 4, 5), np.float32)
    whole = measured(states, both(0.1), 3, np.arange(6))
    assert measured(states[:3], both(0.1), 3, np.array([4, 0, 5])).tobytes() == whole[[4, 0, 5]].tobytes()
    assert_array_equal(measured(states, both(0.2), 3, np.arange(6)), 2 * whole)  # a power of two times the same numbers
    for others in (measured(states, both(0.1), 4, np.arange(6)), measured(states, both(0.1), 3, np.arange(6) + 6)):
        assert not np.isin(whole, others).any()


def test_each_species_has_noise_of_its_own_size():
    states = np.zeros((2, 3, 4, 5), np.float32)
    one = measured(states, np.ones(3), 3, np.arange(2))
    noise = measured(states, np.array([0.25, 0.0, 8.0]), 3, np.arange(2))
    assert_array_equal(noise, one * np.array([0.25, 0.0, 8.0], np.float32)[:, None, None])


def test_measurement_noise_at_the_largest_seed_is_drawn():
    noise = measured(np.zeros((2, 2, 3, 3), np.float32), both(0.1), 2**63 - 1, np.array([0, 1]))
    assert len(np.unique(noise)) == noise.size


def test_measurement_noise_is_not_the_stream_of_the_initial_state():
    noise = measured(np.zeros((5, 2, 10, 12), np.float32), both(1.0), 0, np.arange(5))
    drawn = np.stack([generator(0, run).standard_normal((2, 10, 12), dtype=np.float32) for run in range(5)])
    assert abs((noise * drawn).mean()) < 4 * noise.size**-0.5


@pytest.mark.parametrize(
    "settings", [{}, SYSTEMS, SEVERAL, {**SYSTEMS, **SEVERAL}], ids=["waves", "two", "runs", "both"]
)
@pytest.mark.parametrize("chunk", [1, 64])
def test_noisy_bytes_do_not_depend_on_the_chunk(tmp_path, chunk, settings):
    one = simulate_here(small(noise=0.02, **settings), tmp_path / "a")
    other = simulate_here(small(noise=0.02, chunk=chunk, **settings), tmp_path / "b")
    assert all_states(other).tobytes() == all_states(one).tobytes()
    assert other.card.dataset_hash == one.card.dataset_hash


@pytest.mark.parametrize(
    "settings", [{}, SYSTEMS, SEVERAL, {**SYSTEMS, **SEVERAL}], ids=["waves", "two", "runs", "both"]
)
def test_noise_is_added_to_the_very_simulation_each_snapshot_with_its_own(tmp_path, settings):
    clean = simulate_here(small(**settings), tmp_path / "clean")
    noisy = simulate_here(small(noise=0.02, **settings), tmp_path / "noisy")
    expected = measured(all_states(clean), both(0.02), 0, np.arange(clean.card.samples))
    assert all_states(noisy).tobytes() == expected.tobytes()
    noise = all_states(noisy).astype(float) - all_states(clean)
    flat = noise.reshape(len(noise), -1) / 0.02
    products = flat @ flat.T / flat.shape[1]
    # 240 cells: products of independent normal numbers have a standard error of 0.065, and 190 pairs are looked at
    assert np.abs(products - np.diag(np.diag(products))).max() < 5 * flat.shape[1] ** -0.5


def test_noise_changes_neither_who_lives_nor_the_averages_of_the_ensemble(tmp_path):
    settings = {"preset": ("holes",), "num_samples": 12, "height": 12, "width": 16, "steps": 300}
    clean = simulate_here(small(**settings), tmp_path / "clean")
    noisy = simulate_here(small(noise=0.05, **settings), tmp_path / "noisy")
    assert 0 < clean.card.alive < 12  # noise makes the dead look alive: they vary by more than any that has died
    assert all_states(noisy)[:, 1].std(axis=(1, 2)).min() > 0.04
    assert column(noisy, "alive") == column(clean, "alive")
    assert noisy.card.ensembles == clean.card.ensembles
    for name in ("averages", "averages_before"):
        one, other = (array_of(read_rows(d.folder, (name,)), name) for d in (clean, noisy))
        assert one.tobytes() == other.tobytes()


def test_a_noisy_dataset_is_sound_and_found_again(tmp_path):
    made = simulate_here(small(noise=0.02), tmp_path)
    assert verify(tmp_path) == []
    assert made.card.settings["noise"] == 0.02
    assert simulate_here(small(noise=0.02), tmp_path).card == made.card


# Noise in the dynamics


def driven(states: np.ndarray, steps: int, noise: Wiener) -> np.ndarray:
    """Waves after so many steps with noise."""
    return stepping.run(states, WAVES, Scheme(Grid(states.shape[-2:])), steps, "cpu", noise=noise)


def test_each_snapshot_is_that_of_a_plain_run_with_the_noise_of_its_run(tmp_path):
    settings = {**SEVERAL, "preset": ("life", "waves"), "dynamics_noise": (0.003, 0.001), "seed": 2}
    states = all_states(simulate_here(small(**settings), tmp_path))
    for sample in (10, 12, 19):  # of waves; before them come four runs of life
        run, snapshot = 4 + (sample - 10) // 3, (sample - 10) % 3
        noise = Wiener((0.003, 0.001), 2, np.array([run]))
        expected = driven(begun(WAVES, 2, np.array([run]), 10, 12), 30 + 11 * snapshot, noise)
        assert states[sample].tobytes() == expected[0].tobytes()


def test_the_card_keeps_the_noise_and_makes_the_same_shards(tmp_path):
    config = small(**SEVERAL, dynamics_noise=(0.003,))
    made = simulate_here(config, tmp_path)
    assert made.card.settings["dynamics_noise"] == [0.003, 0.003]
    assert verify(tmp_path) == []
    assert simulate_here(config, tmp_path).card == made.card
    kept = Simulation.of_settings(made.card.settings, made.card.chunk)
    assert kept.dynamics_noise == (0.003, 0.003)
    assert kept.identity() == config.simulation().identity()
    again = simulate_samples(kept, plan(kept)[1])
    assert again.state.tobytes() == made.read_shard("shard-00001.parquet")[1].tobytes()
    with pytest.raises(UserError, match=r"dynamics_noise is \[0\.003, 0\.003\] there, \[0\.004, 0\.004\] was asked"):
        simulate_here(small(**SEVERAL, dynamics_noise=(0.004,)), tmp_path)


def test_a_card_without_noise_is_what_it_was_before_there_was_any(tmp_path):
    settings = simulate_here(small(dynamics_noise=(0.0, 0.0)), tmp_path).card.settings
    assert "dynamics_noise" not in settings
    assert settings == simulation_of().identity() == Simulation.of_settings(settings, 4).identity()


def test_runs_from_the_snapshots_of_others_have_noise_of_their_own(tmp_path):
    first = simulate_here(small(dynamics_noise=(0.01,)), tmp_path / "first")
    after = all_states(
        simulate_here(small(dynamics_noise=(0.01,), initial=str(first.folder), steps=1), tmp_path / "second")
    )
    plain = driven(all_states(first), 1, Wiener((0.0, 0.0), 0, np.arange(10)))
    same = driven(all_states(first), 1, Wiener((0.01, 0.01), 0, np.arange(10)))
    inside = (plain > 0.1) & (plain < 0.9)
    own, others = (after - plain)[inside], (same - plain)[inside]
    assert len(own) > 500
    assert abs(own.std() / 0.01 - 1) < 4 / np.sqrt(2 * len(own))
    assert abs(np.corrcoef(own, others)[0, 1]) < 4 / np.sqrt(len(own))


@pytest.mark.slow
def test_an_ensemble_that_noise_still_widens_is_called_changing(tmp_path):
    (tmp_path / "relaxing.toml").write_text(RELAXING)
    settings = {"system": str(tmp_path / "relaxing.toml"), "dynamics_noise": (0.1,), "num_samples": 16}
    early, late = (
        simulate_here(small(**settings, steps=steps), tmp_path / str(steps)).card.ensembles["relaxing"]
        for steps in (20, 400)
    )
    assert early.change.stationary is False and late.change.stationary is True
    # sigma^2 / (2 a) / (1 - a dt / 2), of 16 x 120 cells
    assert abs(late.std["u"] ** 2 / (0.1**2 / (2 * 0.1 * (1 - 0.1 * 0.5 / 2))) - 1) < 4 * np.sqrt(2 / (16 * 120))


RELAXING = """
name = "relaxing"
[rates]
u = "-a*u"
[parameters]
a = 0.1
[start]
rest = { u = 0 }
noise = { u = 0.01 }
[run]
dt = 0.5
"""


def test_each_system_of_a_dataset_has_a_line(tmp_path):
    card = simulate_here(small(preset=("waves", "maze"), num_samples=7), tmp_path).card
    told = "too few steps (30) or living runs to tell whether averages still change"
    assert ensembles_text(card) == [f"waves: all patterns live; {told}", f"maze: all patterns live; {told}"]


def test_the_dead_are_counted_in_the_line_of_their_system(tmp_path):
    (line,) = ensembles_text(with_living(tmp_path, [True, False] * 10).card)
    assert line.startswith(
        "waves: 10 of 20 patterns died out and are left out of training; after 30 steps averages still"
    )
