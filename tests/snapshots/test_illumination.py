"""Uneven light is told from snapshots, and taken out; nothing else is taken for light."""

import numpy as np
import pytest

from p2d.errors import UserError
from p2d.fields import Grid, Mask
from p2d.snapshots.illumination import fit_surface, measure_illumination
from tests.snapshots.helpers import patterns

SIZE = 32
GRID = Grid((SIZE, SIZE))
STATES = patterns(96, SIZE)
X = np.linspace(-1, 1, SIZE)
SURFACES = {
    "a slope": np.exp(0.1 * X[None] + 0 * X[:, None]),
    "a vignette": np.exp(-0.3 * (X[None] ** 2 + X[:, None] ** 2)),
    "half as bright at a side": np.exp(0.35 * X[:, None] - 0.1 * X[None] * X[:, None]),
}


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_comes_back(name):
    surface = SURFACES[name] / SURFACES[name].mean()
    fitted = fit_surface(STATES * surface)
    np.testing.assert_allclose(fitted.mean(axis=(1, 2)), 1)
    assert np.sqrt(((fitted - surface) ** 2).mean()) < 0.015
    light = measure_illumination(STATES * surface, GRID, np.arange(96))
    np.testing.assert_allclose(light.ranges, np.ptp(surface), rtol=0.2)


def test_light_of_one_species_leaves_the_other_one_alone():
    states = STATES.copy()
    states[:, 0] *= SURFACES["a slope"]
    light = measure_illumination(states, GRID, np.arange(96))
    assert light.ranges[0] > 0.15
    assert light.ranges[1] == 0


def test_even_light_is_even():
    for seed in range(1, 9):
        states = patterns(24, SIZE, seed)
        assert not measure_illumination(states, GRID, np.arange(24)).is_uneven
        np.testing.assert_allclose(fit_surface(states), 1, atol=0.06)


def test_frames_of_a_run_count_as_one():
    frames = patterns(10, SIZE, each=8, memory=0.98)
    runs = np.repeat(range(10), 8)
    assert not measure_illumination(frames, GRID, runs).is_uneven
    with pytest.raises(UserError, match="from 2 runs; it needs at least 8"):
        fit_surface(frames[:16], runs=runs[:16])


def test_what_is_added_is_not_light():
    states = STATES + 0.1 * X
    light = measure_illumination(states, GRID, np.arange(96))
    assert light.p < 1e-3
    assert not light.is_uneven


def test_within_a_mask():
    cells = np.hypot(*(np.indices((SIZE, SIZE)) - SIZE / 2)) < 13
    surface = SURFACES["a slope"]
    dark = np.where(cells, STATES * surface, 0)
    fitted = fit_surface(dark, Mask.of(cells))
    np.testing.assert_allclose(fitted[:, cells].mean(axis=1), 1)
    ratio = fitted[:, cells] / surface[cells]
    assert (ratio.std(axis=1) < 0.02 * ratio.mean(axis=1)).all()


def test_in_one_dimension_and_of_values_below_zero():
    line = STATES[:, :1, :1]
    surface = SURFACES["a slope"][:1] / SURFACES["a slope"][:1].mean()
    assert np.abs(fit_surface(line * surface)[0] - surface).max() < 0.08
    with pytest.raises(UserError, match="species 0 has values below 0"):
        fit_surface(STATES - 0.5)
    assert not measure_illumination(STATES - 0.5, GRID, np.arange(96)).is_uneven
