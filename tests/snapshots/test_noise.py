"""Noise told from snapshots alone: known noise comes back, patterns and rounded images have none."""

import numpy as np
import pytest

from p2d.errors import UserError
from p2d.fields import Species
from p2d.snapshots.noise import CUTOFFS, LEAST, LEVELS, is_rounded, seen, white_noise

GRIDS = [(32, 32), (24, 41)]
COUNT = 12
SMOOTH = 0.2  # cycles a cell, beyond which the fields of these tests have no power
ROUNDING = 1 / LEVELS / 12**0.5  # standard deviation of what rounding to grey levels does, spread evenly over one


def wavenumbers(height: int, width: int) -> np.ndarray:
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def fields(height: int, width: int, edge: float = SMOOTH, seed: int = 0) -> np.ndarray:
    """Random concentrations [N, 2, H, W] about 0.5, of standard deviation 0.1, with no power beyond `edge`."""
    white = np.random.default_rng(seed).normal(size=(COUNT, 2, height, width))
    within = np.fft.ifft2(np.fft.fft2(white) * (wavenumbers(height, width) < edge)).real
    return 0.5 + 0.1 * within / within.std()


def noise_of(sigmas: tuple[float, ...], states: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).normal(size=states.shape) * np.reshape(sigmas, (-1, 1, 1))


def tolerance(height: int, width: int, edge: float = SMOOTH) -> float:
    """Four standard errors of sigma from the M modes beyond the widest cut-off free of patterns: 4 / sqrt(2 N M)."""
    cutoff = min(c for c in CUTOFFS if c >= edge)
    return 4 / np.sqrt(2 * COUNT * (wavenumbers(height, width) >= cutoff).sum())


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("sigmas", [(0.01, 0.01), (0.002, 0.05), (0.1, 0.0005)])
def test_the_noise_of_each_species_comes_back(height, width, sigmas):
    states = fields(height, width)
    found = white_noise(states + noise_of(sigmas, states))
    np.testing.assert_allclose(found, sigmas, rtol=tolerance(height, width))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("edge", [0.5, 0.55, 0.6, 0.65])
def test_patterns_beyond_a_cutoff_are_told_from_noise(height, width, edge):
    states = fields(height, width, edge)
    found = white_noise(states + noise_of((0.01, 0.002), states))
    np.testing.assert_allclose(found, (0.01, 0.002), rtol=tolerance(height, width, edge))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_smooth_fields_have_no_noise(height, width):
    # float64 rounding of transforms of numbers of order 1
    np.testing.assert_allclose(white_noise(fields(height, width)), 0, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (1, 64), (64, 1)])
def test_grids_without_modes_in_the_corner_of_the_spectrum_are_refused(height, width):
    with pytest.raises(UserError, match="too small to estimate noise"):
        white_noise(fields(height, width, edge=1.0))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_are_rounded_and_fields_are_not(height, width, dtype):
    states = fields(height, width)
    rounded = np.round(states * LEVELS) / LEVELS
    assert is_rounded(rounded.astype(dtype))
    assert not is_rounded(states.astype(dtype))
    # one species, or one cell by a hundredth of a level, is enough to tell
    assert not is_rounded(np.stack([rounded[:, 0], states[:, 1]], axis=1).astype(dtype))
    rounded[1, 0, 2, 3] += 0.01 / LEVELS
    assert not is_rounded(rounded.astype(dtype))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_rounding_of_images_counts_as_no_noise(height, width):
    states = np.round(fields(height, width) * LEVELS) / LEVELS
    # patterns of many levels: what rounding does is as good as white, and more than other snapshots may have
    np.testing.assert_allclose(white_noise(states), ROUNDING, rtol=tolerance(height, width))
    assert ROUNDING > LEAST
    assert seen(states) == (0.0, 0.0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_noise_of_images_is_seen_with_what_rounding_adds(height, width):
    states = fields(height, width)
    noisy = np.round((states + noise_of((0.0, 0.01), states)) * LEVELS) / LEVELS
    u, v = seen(noisy)
    assert u == 0.0
    np.testing.assert_allclose(v, np.hypot(0.01, ROUNDING), rtol=tolerance(height, width))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("sigmas", [(0.8 * LEAST, 1.2 * LEAST), (1.2 * LEAST, 0.8 * LEAST)])
def test_only_noise_above_the_least_is_seen(height, width, sigmas):
    states = fields(height, width)
    states += noise_of(sigmas, states)
    expected = [found if sigma > LEAST else 0.0 for found, sigma in zip(white_noise(states), sigmas, strict=True)]
    assert list(seen(states)) == expected


@pytest.mark.parametrize("count", [1, 3])
def test_noise_of_any_number_of_species_in_their_own_units_comes_back(count):
    species = [Species("t", low=-40, high=120), Species("a"), Species("b", low=0, high=1e-6)][:count]
    low, span = (np.reshape([getattr(s, key) for s in species], (-1, 1, 1)) for key in ("low", "span"))
    states = np.concatenate([fields(32, 32)[:, :1], fields(32, 32, seed=1)], axis=1)[:, :count]
    shares = np.array([0.01, 0.3 * LEAST, 0.02])[:count]
    noisy = states + noise_of(tuple(shares), states)
    found = seen(low + span * noisy, species)
    expected = np.where(shares < LEAST, 0, shares) * span.ravel()
    np.testing.assert_allclose(found, expected, rtol=tolerance(32, 32))
    # 8-bit images of the range are rounded, whatever the range
    images = np.round(states * LEVELS) / LEVELS
    assert is_rounded((low + span * images).astype(np.float32), species)
    assert seen(low + span * images, species) == (0.0,) * count
    assert not is_rounded(low + span * noisy, species)
