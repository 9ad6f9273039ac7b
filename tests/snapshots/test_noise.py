"""Noise told from snapshots alone: known noise comes back, patterns and rounded images have none."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.fields import Grid, Mask, Species
from p2d.snapshots.noise import CUTOFFS, LEAST, seen, white_noise
from p2d.snapshots.simulated import simulate_here

GRIDS = [(32, 32), (24, 41)]
COUNT, SPREAD = 12, 0.1
SMOOTH = 0.2  # cycles a cell, beyond which the fields of these tests have no power
LEVELS = 255  # of an 8-bit image
ROUNDING = 1 / LEVELS / 12**0.5  # standard deviation of what rounding to grey levels does, spread evenly over one
PATTERNS = ["gray_scott.waves", "fitzhugh_nagumo.spots", "gierer_meinhardt.worms", "barkley.turbulence"]
PATTERNS += ["kuramoto_sivashinsky.turbulence", "cyclic_competition.spirals", "cahn_hilliard.labyrinth"]
EVERY_DAY = ("gray_scott", "cahn_hilliard", "cyclic_competition")  # each of the others takes 2 s to be compiled


def every_day_or_slow(names: list[str]) -> list:
    """Of some systems every day; the others marked slow."""
    return [n if n.startswith(EVERY_DAY) else pytest.param(n, marks=pytest.mark.slow) for n in names]


def wavenumbers(height: int, width: int) -> np.ndarray:
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def fields(height: int, width: int, edge: float = SMOOTH, seed: int = 0) -> np.ndarray:
    """Random values [N, 2, H, W] about 0.5, of standard deviation 0.1, with no power beyond `edge`."""
    white = np.random.default_rng(seed).normal(size=(COUNT, 2, height, width))
    within = np.fft.ifft2(np.fft.fft2(white) * (wavenumbers(height, width) < edge)).real
    return 0.5 + SPREAD * within / within.std()


def noise_of(sigmas: tuple[float, ...], states: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).normal(size=states.shape) * np.reshape(sigmas, (-1, 1, 1))


@functools.cache
def simulated(name: str) -> np.ndarray:
    """Six runs, the living of them."""
    system, preset = name.split(".")
    config = SimulateConfig(system=system, preset=(preset,), num_samples=6, height=64, width=64, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        dataset = simulate_here(config, Path(folder) / "d")
        return dataset.states(dataset.living).astype(np.float64)


def grid_of(kind: str, shape: tuple[int, int]) -> Grid:
    if kind != "masked":
        return Grid(shape, edges=(kind, kind))
    rows, columns = np.indices(shape)
    return Grid(shape, mask=Mask.of(np.hypot(rows / shape[0] - 0.5, columns / shape[1] - 0.5) < 0.45))


@pytest.mark.parametrize("name", every_day_or_slow(PATTERNS))
@pytest.mark.parametrize("kind", ["periodic", "open", "masked"])
def test_patterns_have_no_noise_and_two_per_cent_of_their_spread_are_told(name, kind):
    states = simulated(name)
    grid = grid_of(kind, states.shape[-2:])
    assert seen(states, grid) == (0.0,) * states.shape[1]
    sigmas = 0.02 * states.std(axis=(0, 2, 3))
    found = seen(states + noise_of(tuple(sigmas), states), grid)
    # of six snapshots; of 24 and more, a few per cent
    np.testing.assert_allclose(found, sigmas, rtol=0.16)


@pytest.mark.parametrize("kind", ["periodic", "mirror", "open", "masked"])
@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("sigmas", [(0.01, 0.01), (0.002, 0.05), (0.1, 0.001)])
def test_the_noise_of_each_species_comes_back(height, width, sigmas, kind):
    states = fields(height, width)
    grid = grid_of(kind, (height, width))
    noisy = states + noise_of(sigmas, states)
    if grid.mask:
        noisy[..., ~grid.mask.cells] = np.nan
    # from a tenth of 10,000 cells, whose differences are not independent
    np.testing.assert_allclose(white_noise(noisy, grid), sigmas, rtol=0.05)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("edge", [0.5, 0.55, 0.6, 0.65])
def test_patterns_beyond_a_cutoff_are_told_from_noise(height, width, edge):
    states = fields(height, width, edge)
    found = white_noise(states + noise_of((0.01, 0.002), states))
    # four standard errors of sigma from the M modes beyond the widest cut-off free of patterns: 4 / sqrt(2 N M)
    beyond = (wavenumbers(height, width) >= min(c for c in CUTOFFS if c >= edge)).sum()
    np.testing.assert_allclose(found, (0.01, 0.002), rtol=4 / np.sqrt(2 * COUNT * beyond))


@pytest.mark.parametrize("shape", [(1, 200), (200, 1)])
def test_in_one_dimension_noise_is_told_too(shape):
    place = 2 * np.pi * np.arange(200).reshape(shape) / 200
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (40, 1, 1, 1))
    states = np.cos(3 * place + phases) + 0.3 * np.cos(8 * place - phases)
    for kind in ("periodic", "open"):
        assert seen(states, grid_of(kind, shape)) == (0.0,)
        found = white_noise(states + noise_of((0.02,), states), grid_of(kind, shape))
        np.testing.assert_allclose(found, 0.02, rtol=0.1)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_smooth_fields_have_no_noise(height, width):
    # float64 rounding of transforms of numbers of order 1
    np.testing.assert_allclose(white_noise(fields(height, width)), 0, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(3, 3), (1, 16), (16, 1), (8, 40)])
def test_grids_too_small_for_differences_are_refused(shape):
    with pytest.raises(UserError, match=r"^the grid is too small to estimate noise from; give --noise"):
        white_noise(fields(*shape, edge=1.0))


def test_a_mask_of_scattered_cells_is_refused():
    cells = np.indices((32, 32)).sum(axis=0) % 3 == 0
    with pytest.raises(UserError, match="the mask leaves too few cells beside each other"):
        white_noise(fields(32, 32), Grid((32, 32), mask=Mask.of(cells)))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_rounding_of_images_counts_as_no_noise(height, width):
    states = np.round(fields(height, width) * LEVELS) / LEVELS
    # patterns of many levels: what rounding does is as good as white, and more than other snapshots may have
    np.testing.assert_allclose(white_noise(states), ROUNDING, rtol=0.1)
    assert ROUNDING > LEAST * SPREAD
    assert seen(states) == (0.0, 0.0)
    noisy = np.round((states + noise_of((0.0, 0.01), states)) * LEVELS) / LEVELS
    u, v = seen(noisy)
    assert u == 0.0
    np.testing.assert_allclose(v, np.hypot(0.01, ROUNDING), rtol=0.05)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_only_noise_above_a_share_of_the_spread_is_seen(height, width):
    states = fields(height, width)
    states += noise_of((0.8 * LEAST * SPREAD, 1.2 * LEAST * SPREAD), states)
    assert seen(states) == (0.0, white_noise(states)[1])
    assert seen(states[:, ::-1]) == (white_noise(states)[1], 0.0)


@pytest.mark.parametrize("count", [1, 3])
def test_noise_of_any_number_of_species_in_their_own_units_comes_back(count):
    species = [Species("t", low=-40, high=120), Species("a"), Species("b", low=0, high=1e-6)][:count]
    low, span = (np.reshape([getattr(s, key) for s in species], (-1, 1, 1)) for key in ("low", "span"))
    states = np.concatenate([fields(32, 32)[:, :1], fields(32, 32, seed=1)], axis=1)[:, :count]
    shares = np.array([0.01, 0.3 * LEAST * SPREAD, 0.02])[:count]
    found = seen(low + span * (states + noise_of(tuple(shares), states)))
    expected = np.where(shares < LEAST * SPREAD, 0, shares) * span.ravel()
    np.testing.assert_allclose(found, expected, rtol=0.05)
    # of images of the range, whatever it is
    full = (states - states.min(axis=(0, 2, 3), keepdims=True)) / np.ptp(states, axis=(0, 2, 3), keepdims=True)
    full = np.round(full * LEVELS) / LEVELS
    assert seen(low + span * full) == (0.0,) * count
