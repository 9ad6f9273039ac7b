"""The discovery: known equations come back with their errors, and what is said of ensembles that tell none."""

import re
from dataclasses import replace

import numpy as np
import pytest
from torch.testing import assert_close

import p2d
from p2d.config import DiscoverConfig, SimulateConfig
from p2d.discovery import discover, moments
from p2d.discovery.library import choose_library, fit_parameters, free_library
from p2d.discovery.rates import measure_runs, rates_of
from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.evaluate.metrics import cosine
from p2d.fields import Grid
from p2d.snapshots import passes
from p2d.snapshots.passes import InMemory
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system
from p2d.systems.system import System

GRAY_SCOTT = load_system("gray_scott")
WAVES = GRAY_SCOTT.at("waves")
TRUTH = WAVES.terms
KEYS = ("D_u", "D_v", "F", "k")
SPECIES = ("u", "v")
TIED = DiscoverConfig(library="gray-scott", operator="5-point")
pytestmark = pytest.mark.xdist_group("waves")  # one process, in which the fixtures of both files are made once


def dataset_of(place, preset="waves", count=96, size=64, **settings):
    size = (
        {"height": size, "width": size} if isinstance(size, int) else dict(zip(("height", "width"), size, strict=True))
    )
    return simulate_here(SimulateConfig(preset=(preset,), num_samples=count, **size, **settings), place)


def simulated(place, preset="waves", count=96, steps=6000, **settings) -> np.ndarray:
    dataset = dataset_of(place, preset, count, steps=steps, **settings)
    return dataset.states(dataset.living)


def parameters(found: Discovery) -> dict[str, float]:
    """D_u, D_v, F and k over their true values."""
    fitted = fit_parameters(GRAY_SCOTT, found.terms)
    return {key: value / WAVES.parameters[key] for key, value in fitted.items()}


def alike(found: Discovery, states: np.ndarray) -> float:
    return along(found, WAVES, states, Grid(states.shape[-2:]))


def along(found: Discovery, truth: System, states: np.ndarray, grid: Grid) -> float:
    """Cosine of an equation's rates with the true ones, over cells that are known."""
    states, inside = states.astype(np.float64), grid.inside(4)
    rates = (system.rate(states, grid, found.operator)[..., inside] for system in (found.system, truth))
    return cosine(*(rate[..., None] for rate in rates))["cosine"]


def names(terms) -> dict[str, set[str]]:
    return {s: set(own) for s, own in terms.items()}


def test_the_free_library_finds_gray_scott_s_terms_and_no_other(cubic, waves):
    assert names(cubic.terms) == names(TRUTH)
    assert alike(cubic, waves) > 0.9999  # signed: the direction of time is right too
    assert cubic.claims.velocity_known and cubic.claims.terms_known and not cubic.claims.doubts
    assert cubic.gap > 20 and cubic.z_max < 4.5 and cubic.snapshots == len(waves)


def test_gray_scott_s_parameters_come_back_to_one_per_cent(tied, cubic):
    for found in (tied, cubic):
        assert parameters(found) == pytest.approx(dict.fromkeys(KEYS, 1.0), abs=0.01)
    u, v = tied.terms["u"], tied.terms["v"]
    assert u["1"] == -u["u"] and u["u*v**2"] == -v["u*v**2"] == pytest.approx(-1), "tied"


def test_errors_and_intervals_are_of_what_is_free(tied):
    assert tied.errors["v"]["u*v**2"] < 1e-15 > tied.errors["u"]["u*v**2"]
    for species, terms in tied.intervals.items():
        for term, (low, high) in terms.items():
            value, error = tied.terms[species][term], tied.errors[species][term]
            assert low <= value <= high and error <= 0.03 * abs(value)
            # normal errors: a 90 % interval is 3.3 deviations wide; by 100 draws
            assert high - low == pytest.approx(3.3 * error, rel=0.4, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dt", [0.5, 1.0])
def test_the_explicit_steps_that_made_the_snapshots_show(tmp_path, waves, dt):
    states = waves if dt == 1 else simulated(tmp_path / "d", steps=12_000, dt=dt)
    step, error = p2d.discover(states, "gray-scott").step
    assert 0 < error < 0.25
    assert step == pytest.approx(dt, abs=3 * error)


@pytest.mark.slow
def test_the_order_of_snapshots_does_not_matter_and_the_seed_draws_the_errors_alone(waves, tied):
    order = np.random.default_rng(3).permutation(len(waves))
    other = p2d.discover(waves[order], "gray-scott", seed=1, bootstrap=10, operator="5-point")
    for species, terms in tied.terms.items():
        # others of the snapshots are looked at for their range
        assert other.terms[species] == pytest.approx(terms, rel=1e-4)
    assert other.errors != tied.errors


def test_snapshots_of_one_run_count_once(waves):
    """Every snapshot twice: as runs of their own they would halve the variances."""
    once, twice = InMemory.of_states(waves[:20], SPECIES), InMemory.of_states(np.repeat(waves[:20], 2, axis=0), SPECIES)
    runs = np.repeat(np.arange(20), 2)
    one, other = (discover.discover_equation(of, TIED) for of in (once, replace(twice, runs=runs)))
    for key in ("terms", "errors"):
        for species, terms in getattr(one, key).items():
            assert getattr(other, key)[species] == pytest.approx(terms, rel=0.01, abs=1e-15)


def test_noise_is_told_from_the_snapshots_and_corrected_for(waves):
    waves, sigma = waves[:40], 0.02
    noisy = waves + sigma * np.random.default_rng(5).normal(size=waves.shape)
    found = p2d.discover(noisy, "gray-scott", operator="5-point", bootstrap=4)
    assert found.noise == pytest.approx((sigma, sigma), rel=0.02)
    assert found.smoothing == moments.SMOOTHING
    assert parameters(found) == pytest.approx(dict.fromkeys(KEYS, 1.0), abs=0.05)
    assert alike(found, waves) > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.01, 0.02])
def test_without_the_correction_noisy_snapshots_tell_something_else(waves, sigma):
    noisy = waves + sigma * np.random.default_rng(5).normal(size=waves.shape)
    found = p2d.discover(noisy, "gray-scott")
    assert found.noise == pytest.approx((sigma, sigma), rel=0.02)
    assert found.smoothing == moments.SMOOTHING
    assert parameters(found) == pytest.approx(dict.fromkeys(KEYS, 1.0), abs=0.03)
    assert alike(found, waves) > 0.999
    ignored = p2d.discover(
        noisy.clip(0, 1), "gray-scott", noise=0, smoothing=0, operator="5-point", bootstrap=4, dynamics_noise="none"
    )
    assert alike(ignored, waves) < 0.9


@pytest.mark.slow
def test_eight_bit_images_are_seen_through_the_kernel_alone(waves):
    found = p2d.discover(np.round(waves * 255) / 255)
    assert found.rounded and found.noise == (0, 0) and found.step is None
    assert alike(found, waves) > 0.995
    assert "small terms may be artefacts" in str(found) and not found.claims.terms_known


def test_one_s_own_terms_take_the_place_of_a_library(waves):
    found = p2d.discover(waves, terms="1, u, v, v*u*v, lap(u), lap(v), grad(u, v), exp(-v)", operator="5-point")
    assert names(found.terms) == names(TRUTH)
    assert found.frequency["v"]["u*v**2"] == 1


@pytest.mark.slow
def test_without_the_reaction_the_unit_of_time_is_the_velocity_s(waves):
    waves, settings = waves[:32], {"operator": "5-point", "noise": 0, "smoothing": 0, "bootstrap": 4}
    found = p2d.discover(waves, terms="1, u, v, u*v, lap(u), lap(v)", **settings)
    assert found.unit_of_time == "mean square velocity 1, of values over their spread"
    velocity = found.system.rate(waves.astype(np.float64)) / waves.std(axis=(0, 2, 3))[:, None, None]
    assert (velocity**2).mean() == pytest.approx(1, rel=0.1)  # over the spread of those that are looked at
    assert not found.claims.velocity_known and "the library lacks terms" in str(found)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_maze_is_called_static_and_its_steady_state_gives_the_parameters(tmp_path, swapped):
    states = simulated(tmp_path / "d", "maze", count=12, size=48, steps=8000)
    if swapped:  # of no system that is known, in these names
        found = p2d.discover(states[:, ::-1])
        assert found.verdict.startswith("static") and "no velocity can be told; --library SYSTEM" in found.verdict
        assert found.terms == {"u": {}, "v": {}} and found.parameters == {}
        assert str(found).splitlines()[:2] == ["du/dt = 0", "dv/dt = 0"]
        assert found.unit_of_time == "none, as nothing moves"
        return
    for name in ("free", "gray-scott"):
        found = p2d.discover(states, name)
        assert found.verdict.startswith("static") and "cannot be known" in found.verdict
        assert found.parameters == pytest.approx(GRAY_SCOTT.at("maze").parameters, rel=0.01)
        assert found.unbalanced < 1e-3 and found.z_max is None
    faint = p2d.discover(0.5 + 0.1 * states)
    assert faint.verdict.startswith("static")


@pytest.mark.slow
def test_the_velocity_of_an_ensemble_that_is_still_changing_is_not_known(tmp_path):
    states = simulated(tmp_path / "d", count=48, steps=500)
    for name in ("free", "gray-scott"):
        assert not p2d.discover(states, name, bootstrap=4).claims.velocity_known


def test_of_an_ensemble_that_many_dynamics_keep_nothing_is_known():
    # independent species, alike and white: both (v, -u) and (lap v, -lap u) keep it
    states = np.clip(0.5 + 0.05 * np.random.default_rng(0).normal(size=(60, 2, 12, 12)), 0, 1)
    found = p2d.discover(states, noise=0, smoothing=0, operator="5-point", bootstrap=4)
    assert found.gap < 20
    assert not found.claims.velocity_known and not found.claims.terms_known


@pytest.mark.parametrize(("sigma", "level"), [(0.01, 0.2), (0.1, 0.5)])
def test_noise_alone_is_not_called_a_static_pattern(sigma, level):
    states = level + sigma * np.random.default_rng(0).normal(size=(40, 2, 32, 32))
    with pytest.raises(UserError, match=rf"^too noisy: no pattern is seen above noise of {sigma}"):
        p2d.discover(states)


@pytest.mark.slow
def test_what_few_noisy_snapshots_are_said_to_tell_is_so(waves):
    noisy = waves[:16] + 0.04 * np.random.default_rng(6).normal(size=(16, *waves.shape[1:]))
    found = p2d.discover(noisy)
    assert not found.claims.velocity_known or 1 - alike(found, waves) < found.claims.velocity
    assert not found.claims.terms_known or names(found.terms) == names(TRUTH)


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("free", 8, 0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("free", 11, 53), ("gray-scott", 8, 0), ("gray-scott", 11, 53))
        ),
    ],
)
def test_a_handful_of_runs_is_called_too_few_whatever_it_seems_to_tell(waves, name, count, first):
    told = f"too few snapshots: {count} independent runs .* about 37 are needed$"
    claims = p2d.discover(waves[first : first + count], name, bootstrap=10).claims
    assert not claims.velocity_known and any(re.match(told, doubt.text) for doubt in claims.doubts)


def test_few_runs_tell_the_velocity_by_their_tiles(waves):
    found = p2d.discover(waves[:16], "gray-scott", bootstrap=10)
    assert found.claims.velocity_known and 1 - alike(found, waves) < found.claims.velocity


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_snapshots_are_refused_with_their_number(waves, count):
    dead = np.ones((3, *waves.shape[1:]))
    with pytest.raises(UserError, match=f"^{count} living runs? (is|are) too few .* at least 8"):
        p2d.discover(np.concatenate([waves[:count], dead]))


def test_what_is_not_finite_is_refused(waves):
    broken = waves[:12].copy()
    broken[3, 0, 5, 5] = np.nan
    with pytest.raises(UserError, match="sample 3 holds values that are not finite"):
        p2d.discover(broken)
    with pytest.raises(UserError, match=r"^sample 3 of 12 looked at: values that are not finite"):
        measure = discover.choose_measure(waves, SPECIES, Grid((64, 64)), TIED)
        discover.discover_equation(InMemory.of_states(broken), TIED, measure)


def test_an_equation_with_gray_scott_s_terms_tells_its_parameters(tied, cubic):
    assert set(tied.parameters) == set(KEYS)
    assert WAVES.at("", **tied.parameters).terms["v"] == pytest.approx(tied.terms["v"], rel=1e-12)
    assert cubic.parameters == {}, "F of the feed and F of the decay are two numbers"


def test_known_equations_are_told_apart(waves):
    measure = discover.choose_measure(waves, SPECIES, Grid((64, 64)), TIED)
    systems = {name: GRAY_SCOTT.at(name) for name in GRAY_SCOTT.presets}
    misfit = discover.measure_misfits(systems, InMemory.of_states(waves), measure)
    assert min(misfit, key=misfit.__getitem__) == "waves"


@pytest.mark.slow
def test_groups_of_runs_tell_what_runs_tell(waves, tied, monkeypatch):
    monkeypatch.setattr(passes, "GROUPS", 40)
    found = p2d.discover(waves, "gray-scott", operator="5-point")
    assert found.short_verdict == tied.short_verdict
    for species, terms in tied.terms.items():
        for term, value in terms.items():
            error = tied.errors[species][term]
            # weights of fewer groups are other weights
            assert abs(found.terms[species][term] - value) <= 2 * error
            assert 0.5 * error <= found.errors[species][term] <= 2 * error


@pytest.fixture(scope="module")
def many_waves(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("many") / "d", count=1310)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "groups"), [(64, 1024), (128, 56)])
def test_intervals_of_ninety_per_cent_hold_the_truth_in_about_that_many_ensembles(
    many_waves, monkeypatch, size, groups
):
    """Twenty ensembles of 64 snapshots; ten of 128 in 56 groups."""
    monkeypatch.setattr(passes, "GROUPS", groups)
    states = many_waves
    held, ensembles = [], len(states) // size
    for n in range(ensembles):
        some = states[n * size : (n + 1) * size]
        found = discover.discover_equation(InMemory.of_states(some), DiscoverConfig(library="gray-scott", seed=n))
        for species, term in (("u", "lap(u)"), ("u", "1"), ("v", "lap(v)"), ("v", "v")):
            low, high = found.intervals[species][term]
            held.append(low <= TRUTH[species][term] <= high)
    assert ensembles >= 10
    assert 0.8 <= np.mean(held) <= (0.97 if ensembles >= 20 else 1.0), np.mean(held)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (160.0, 0.02)])
def test_the_energy_of_an_equation_is_the_mean_square_velocity_over_the_ranges(scale):
    low, span = np.array([-40.0, 3.0])[:, None, None], np.array(scale)[:, None, None]
    states, grid = low + span * np.random.default_rng(0).random((3, 2, 6, 8)), Grid((6, 8))
    library, settings = choose_library(DiscoverConfig(), SPECIES, grid), DiscoverConfig(noise=("0",))
    measure = discover.choose_measure(states, SPECIES, grid, settings)
    rates, held_out = rates_of(
        measure_runs(InMemory.of_states(states), moments.Rows(measure), library), measure, library, "9-point"
    )
    c = np.random.default_rng(1).normal(size=24)
    velocity = System.of_terms("any", library.name_terms(c)).rate(states, grid, "9-point")
    velocity = measure.scaling.velocity_to_training(velocity)
    # float64 sums of large powers, which cancel
    assert_close(np.sum((rates.root @ c) ** 2), (velocity**2).sum(axis=1).mean(), rtol=1e-9, atol=0)
    fields = measure.fields(measure.scaled(states[1]))
    expected = measure.judges.rates(fields, [measure.fields(velocity[1])])[:, 0] / 48
    assert_close(held_out[1] @ c, expected, rtol=1e-6, atol=1e-9 * np.abs(held_out[1] * c).max())


def test_a_translation_keeps_the_ensemble_and_does_not_count():
    """Cosines of all phases: the velocity d(u, x) changes no observable, and is no equation."""
    x, phases = 2 * np.pi * np.arange(32) / 32, np.random.default_rng(0).uniform(0, 2 * np.pi, (20, 2, 1, 1))
    states = np.cos(x + phases) + 0.4 * np.cos(2 * x - phases)
    library = free_library(("u", "v", "d(u,x)", "d(v,x)"), SPECIES)
    config = DiscoverConfig(terms=", ".join(library.terms), operator="spectral", noise=("0",), smoothing="0")
    measure = discover.choose_measure(states, SPECIES, Grid((1, 32)), config)
    found = measure_runs(InMemory.of_states(states), moments.Rows(measure), library)
    rates, _ = rates_of(found, measure, library, "spectral")
    (free,) = discover.fit.unseen(rates)
    expected = library.coefficients({"u": {"d(u,x)": 1.0}, "v": {"d(v,x)": 1.0}})
    assert_close(free / np.linalg.norm(free) * np.sign(free @ expected), expected / 2**0.5, rtol=0, atol=1e-6)


# What takes longer: other operators, edges, dimensions and numbers of species.


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["9-point", "spectral"])
def test_data_of_other_operators_are_told_with_their_own(waves, operator):
    states, grid = waves.astype(np.float64), Grid(waves.shape[-2:])
    for _ in range(1500):  # from the waves of five points on, until they are those of this operator
        states += 0.5 * WAVES.rate(states, grid, operator)
    found = p2d.discover(states)
    assert found.operator == operator and f"Laplacians are {operator}" in str(found)
    assert names(found.terms) == names(TRUTH) and found.claims.velocity_known
    assert parameters(found) == pytest.approx(dict.fromkeys(KEYS, 1.0), abs=0.015)


@pytest.mark.slow
def test_a_window_of_what_has_no_flux_at_its_edges_is_told(tmp_path):
    states = simulated(tmp_path / "d", count=128, size=96, edges=("mirror",))[..., :40, 28:68]
    found = p2d.discover(states, edges="open")
    assert along(found, WAVES, states, found.grid) > 0.999
    assert parameters(p2d.discover(states, "gray-scott", edges="open")) == pytest.approx(
        dict.fromkeys(KEYS, 1.0), abs=0.02
    )


@pytest.mark.slow
def test_kuramoto_sivashinsky_in_one_dimension_is_told_from_shuffled_snapshots(tmp_path):
    system = load_system("kuramoto_sivashinsky")
    settings = {"preset": (), "system": "kuramoto_sivashinsky", "num_samples": 400, "height": 1, "width": 128}
    dataset = simulate_here(SimulateConfig(**settings, steps=20_000), tmp_path / "d")
    found = p2d.discover(dataset, order=4, also=("gradients",))
    assert found.operator == "5-point" and names(found.terms) == names(system.terms)
    assert found.unit_of_time.startswith("that of Kuramoto-Sivashinsky")
    assert found.terms["u"] == pytest.approx(system.terms["u"], rel=0.03)


@pytest.mark.slow
def test_three_species_are_told(tmp_path):
    system = load_system("cyclic_competition")
    settings = {"system": "cyclic_competition", "num_samples": 128, "height": 64, "width": 64}
    dataset = simulate_here(SimulateConfig(preset=("spirals",), **settings), tmp_path / "d")
    found = p2d.discover(dataset, degree=2)
    states = dataset.states(dataset.living[:16])
    assert along(found, system, states, dataset.card.grid) > 0.999 and found.directed


@pytest.mark.slow
def test_four_species_run(tmp_path):
    """Waves beside the same waves of other runs: products of one pair's species with another's are no terms."""
    states = simulated(tmp_path / "d", count=96, size=48)
    half = len(states) // 2
    four = np.concatenate([states[:half], states[half : 2 * half]], axis=1)
    terms = ["1", *"abce", "a*b**2", "c*e**2"]
    found = p2d.discover(
        four, terms=", ".join([*terms, *(f"lap({s})" for s in "abce")]), operator="5-point", bootstrap=4
    )
    assert tuple(found.terms) == tuple("abce") and found.verdict
    plain = p2d.discover(four[:24], bootstrap=4, operator="5-point")
    assert tuple(plain.terms) == tuple("abce") and plain.short_verdict == "not known"


def test_one_snapshot_that_stands_still_tells_the_parameters_of_a_named_system(tmp_path, waves):
    states = simulated(tmp_path / "d", "maze", count=3, size=48, steps=8000)
    found = p2d.discover(states[:1], "gray-scott")
    assert found.short_verdict == "static" and found.snapshots == 1
    truth = GRAY_SCOTT.at("maze").parameters
    for key, value in found.parameters.items():
        assert value == pytest.approx(truth[key], rel=0.02)
    assert 0 < found.errors["u"]["lap(u)"] < 0.02 * truth["D_u"]
    moving = p2d.discover(waves[:1], "gray-scott")
    assert moving.short_verdict == "not settled" and "at least 8 independent snapshots" in moving.verdict
    assert not moving.claims.velocity_known


@pytest.mark.slow
def test_noise_in_the_dynamics_is_told_from_that_of_a_camera(waves):
    sigma, grid = 0.003, Grid(waves.shape[-2:])
    rng, states = np.random.default_rng(0), waves[:64]
    for _ in range(200):
        noise = rng.standard_normal(states.shape, dtype=np.float32)
        states = states + WAVES.rate(states, grid, "5-point").astype(np.float32) + np.float32(sigma) * noise
        states = states.clip(0, 1)  # walls, at which a share of the cells are after every step
    found = p2d.discover(states, operator="5-point", known="lap(v)=0.08", bootstrap=20)
    assert alike(found, waves) > 0.999
    assert found.noise == (0.0, 0.0)
    assert found.dynamics_noise == pytest.approx(dict.fromkeys(SPECIES, sigma), rel=0.1)
    assert found.directed
    camera = waves[:64] + sigma * rng.standard_normal(states.shape)
    found = p2d.discover(camera, operator="5-point", bootstrap=4)
    assert found.dynamics_noise == {}
    assert found.noise == pytest.approx((sigma, sigma), rel=0.1)
