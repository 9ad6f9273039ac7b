"""Cosines and z-scores against fields whose values are known."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.config import SimulateConfig
from p2d.evaluate import passes
from p2d.evaluate.metrics import cosine, stationarity, true_velocity
from p2d.fields import Grid, Mask, laplacian
from p2d.flow.model import Flow
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.static import measure_imbalance
from p2d.snapshots.store import Dataset
from p2d.systems.reading import load_system

from .helpers import SCALING, linear_field

GRAY_SCOTT = load_system("gray_scott")
UV = ("u", "v")
SHAPES = [(3, 2, 6, 6), (1, 2, 5, 9)]


def random_field(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(scope="module")
def two_presets(tmp_path_factory) -> Dataset:
    config = SimulateConfig(preset=("waves", "chaos"), num_samples=3, height=12, width=10, steps=20, chunk=2)
    return simulate_here(config, tmp_path_factory.mktemp("two") / "two")


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> Dataset:
    config = SimulateConfig(preset=("waves",), num_samples=64, height=64, width=64, steps=6000)
    return simulate_here(config, tmp_path_factory.mktemp("waves") / "waves")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1.0, 1e-5, -1.0, -3e4])
def test_a_field_and_its_multiples_have_cosine_one_with_their_sign(shape, factor):
    field = random_field(shape)
    for value in cosine(factor * field, field, UV).values():
        assert_close(value, float(np.sign(factor)), rtol=1e-14, atol=0)  # float64 sums


@pytest.mark.parametrize("shape", SHAPES)
def test_each_species_has_a_cosine_of_its_own(shape):
    field = random_field(shape)
    mirrored = field * np.array([1.0, -1.0])[:, None, None]
    found = cosine(mirrored, field, UV)
    power_u, power_v = (field[:, 0] ** 2).sum(), (field[:, 1] ** 2).sum()
    expected = {"cosine": (power_u - power_v) / (power_u + power_v), "cosine_u": 1.0, "cosine_v": -1.0}
    assert_close(found, {k: float(v) for k, v in expected.items()}, rtol=1e-13, atol=1e-15)  # float64 sums


def test_species_have_their_own_names_and_only_cells_that_are_known_count():
    field, known = random_field((3, 3, 5, 6)), np.random.default_rng(1).random((5, 6)) < 0.5
    other = np.where(known, field, 7.0)
    other[:, 1] *= -1
    found = cosine(other, field, ("a", "b", "c"), known)
    assert list(found) == ["cosine", "cosine_a", "cosine_b", "cosine_c"]
    assert [found[f"cosine_{s}"] for s in "abc"] == pytest.approx([1.0, -1.0, 1.0])


@pytest.mark.parametrize("edges", ["open", "mirror"])
def test_z_scores_are_of_cells_that_are_known(edges):
    states, velocity = (np.random.default_rng(s).normal(size=(20, 3, 12, 14)).astype(np.float32) for s in (0, 1))
    mask = np.zeros((12, 14), bool)
    mask[2:11, 3:13] = True
    grid = Grid((12, 14), edges=(edges, edges), mask=Mask.of(mask))
    known = stationarity(velocity, states, grid)
    assert 0.3 < known["z_rms"] < 2  # of a velocity that knows nothing of the states
    states[..., ~mask] = 1e6
    velocity[..., ~grid.inside(1)] = 1e6  # of a velocity that sees one cell
    assert stationarity(velocity, states, grid) == known


def test_entries_are_pooled_so_that_fast_snapshots_weigh_more():
    field = random_field((2, 2, 6, 6))
    other = field * np.array([1.0, -1.0])[:, None, None, None]
    powers = (field**2).sum(axis=(1, 2, 3))
    expected = (powers[0] - powers[1]) / powers.sum()
    assert_close(cosine(other, field, UV)["cosine"], float(expected), rtol=1e-13, atol=1e-15)  # float64 sums


def test_fields_that_share_nothing_have_cosine_zero():
    rows = np.arange(8)[:, None]
    one, other = (np.broadcast_to(np.cos(2 * np.pi * k * rows / 8), (3, 2, 8, 8)) for k in (1, 2))
    for value in cosine(one, other, UV).values():
        assert_close(value, 0.0, rtol=0, atol=1e-15)  # float64 sums of cosines that cancel


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [4, 0, 5, 2], [3], [1]])
def test_the_true_velocity_is_that_of_the_preset_of_each_sample(two_presets, ids):
    states = two_presets.states(np.array(ids))
    velocity = true_velocity(two_presets, np.array(ids), states)
    # ids count through the first preset, then through the second
    expected = [
        GRAY_SCOTT.at("waves" if i < 3 else "chaos").rate(s.astype(float)) for i, s in zip(ids, states, strict=True)
    ]
    assert_array_equal(velocity, np.stack(expected))


def test_the_true_velocity_of_a_dataset_without_parameters_is_not_known(two_presets):
    foreign = dataclasses.replace(two_presets, card=dataclasses.replace(two_presets.card, systems={}))
    ids = np.arange(2)
    assert true_velocity(foreign, ids, two_presets.states(ids)) is None


def true_and_other_velocities(waves: Dataset) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    ids = np.concatenate(waves.split(0.5))
    states = waves.states(ids)
    u, v = states[:, 0].astype(np.float64), states[:, 1].astype(np.float64)
    others = {
        "diffusion alone": np.stack([0.16 * laplacian(u), 0.08 * laplacian(v)], axis=1),
        "reaction alone": GRAY_SCOTT.at("waves").rate(states.astype(np.float64))
        - np.stack([0.16 * laplacian(u), 0.08 * laplacian(v)], axis=1),
        "smooth": np.stack([np.cos(3 * u - 5 * v + 1), np.sin(2 * u + 4 * v)], axis=1),
        "chaos": GRAY_SCOTT.at("chaos").rate(states.astype(np.float64)),
    }
    return states, true_velocity(waves, ids, states), others


def test_the_true_velocity_keeps_waves_stationary(waves):
    states, truth, _ = true_and_other_velocities(waves)
    z = stationarity(truth, states)
    # 40 correlated z-scores of an ensemble at 6,000 steps: 0.7 and 1.5, measured
    assert 0.3 < z["z_rms"] < 1.6
    assert z["z_max"] < 4


@pytest.mark.parametrize("other", ["diffusion alone", "reaction alone", "smooth", "chaos"])
def test_another_velocity_does_not_keep_waves_stationary(waves, other):
    states, truth, others = true_and_other_velocities(waves)
    assert stationarity(others[other], states)["z_rms"] > 5 * stationarity(truth, states)["z_rms"]


@pytest.mark.parametrize("factor", [-1.0, 1e-6, 1e4])
def test_z_scores_know_neither_the_unit_nor_the_direction_of_time(waves, factor):
    states, truth, _ = true_and_other_velocities(waves)
    # float32 rates: rounding of sums that cancel to 1 %
    assert_close(stationarity(factor * truth, states), stationarity(truth, states), rtol=1e-3, atol=0)


@pytest.mark.parametrize("grid", [Grid((12, 10)), Grid((12, 10), edges=("open", "mirror"))])
def test_measures_by_sums_over_parts_are_those_of_all_states_at_once(two_presets, grid, monkeypatch):
    monkeypatch.setattr(passes, "PART", 2)
    card = dataclasses.replace(two_presets.card, grid=grid)
    dataset, ids = dataclasses.replace(two_presets, card=card), np.array([0, 2, 3, 4, 5])
    flow = Flow(linear_field([0.1, 0], [[0, 0.3, 0.5, 0], [-0.2, 0, 0, 0.25]]), SCALING).on(grid)
    fields = passes.Fields(dataset, flow, (GRAY_SCOTT.at("chaos"), "5-point"))
    assert [part.tolist() for part in passes.parts_of(dataset, ids)] == [[0, 2], [3, 4], [5]]
    measured = passes.measure(fields, ids)
    states, reach, known = dataset.states(ids), fields.reach, grid.inside(fields.reach)
    velocities = fields.velocities(ids, states)
    assert measured.imbalance == pytest.approx(measure_imbalance(states, grid), rel=1e-6)
    assert set(measured.z) == set(measured.cosines) == {"true", "flow", "equation"}
    # float64 sums in another order, of float32 rates of observables whose mean and spread are rounded to float32
    for name, velocity in velocities.items():
        assert measured.z[name] == pytest.approx(stationarity(velocity, states, grid, reach), rel=1e-5)
        assert measured.cosines[name] == pytest.approx(cosine(velocity, velocities["true"], UV, known), rel=1e-12)
