"""Lengths of patterns, in cells."""

import numpy as np
import pytest
from scipy.special import jn_zeros, jv

from p2d.fields import Grid, Mask
from p2d.snapshots.correlation import measure_lengths


def waves(count: int, size: int, length: float, seed: int = 0) -> np.ndarray:
    """Plane waves of one length in all directions, [N, 1, H, W]: their correlation is J0(2 pi r / length)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, count, 20, 1, 1))
    k = 2 * np.pi / length
    return np.cos(k * (np.cos(angle) * columns + np.sin(angle) * rows) + phase).sum(axis=1)[:, None]


@pytest.mark.parametrize("edge", ["periodic", "open"])
def test_waves_of_one_length(edge):
    length = 12.0
    states = waves(32, 64, length)
    grid = Grid((64, 64), edges=(edge, edge))
    (own,) = measure_lengths(states, grid, (0.0,))
    r = np.linspace(0, jn_zeros(0, 1)[0], 10_000)
    expected = r[np.argmax(jv(0, r) < np.exp(-1))] * length / (2 * np.pi)
    assert own.correlation == pytest.approx(expected, rel=0.05)
    assert own.wave == pytest.approx(length, rel=0.03 if edge == "open" else 0.1)  # they do not join at the edges


def test_noise_is_taken_off_and_white_noise_is_seen_as_what_it_is():
    states = waves(24, 64, 10.0)
    noisy = states + np.random.default_rng(1).normal(size=states.shape)
    grid = Grid((64, 64), edges=("open", "open"))
    (clean,), (own,) = measure_lengths(states, grid, (0.0,)), measure_lengths(noisy, grid, (1.0,))
    assert own.wave == pytest.approx(clean.wave, rel=0.02)
    assert own.correlation == pytest.approx(clean.correlation, rel=0.02)
    (white,) = measure_lengths(noisy - states, grid, (0.0,))
    assert white.wave == pytest.approx(np.pi, rel=0.02)  # <|grad c|^2> = 4 sigma^2
    assert white.correlation < 1


def test_a_mask_and_one_dimension():
    states = waves(24, 64, 10.0)
    cells = np.hypot(*(np.indices((64, 64)) - 32)) < 28
    masked = Grid((64, 64), edges=("open", "open"), mask=Mask.of(cells))
    (own,) = measure_lengths(np.where(cells, states, 0), masked, (0.0,))
    assert own.wave == pytest.approx(10, rel=0.05)
    line = np.cos(2 * np.pi * (np.arange(80) / 16 + np.random.default_rng(0).random((20, 1))))[:, None, None]
    (own,) = measure_lengths(line, Grid((1, 80)), (0.0,))
    assert own.correlation == pytest.approx(16 * np.arccos(np.exp(-1)) / (2 * np.pi), rel=0.02)
    assert own.wave == pytest.approx(16, rel=0.02)
