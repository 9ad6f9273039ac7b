"""The CPU kernel against what is known of the system: fixed points, their stability, conservation, float64."""

from dataclasses import astuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.systems import stepper, stepper_cpu
from p2d.systems.gray_scott import PRESETS, GrayScott
from p2d.systems.initial import initial_states

WAVES = PRESETS["waves"]
BRANCHES = {"upper": 1, "lower": -1}  # of the square root; u is larger on the upper one
# 4 (F + k)^2 <= F, by hand from the table of presets: 0.017956 <= 0.018 for waves, 0.0049 <= 0.007 for spirals,
# 0.037636 <= 0.039, 0.023716 <= 0.026, 0.088804 <= 0.09, 0.060516 <= 0.062. Nearest to it of the others:
# 0.0361 > 0.035 for stripes, 0.029584 > 0.029 for maze.
WITH_A_PATTERNLESS_STATE = ("waves", "spirals", "holes", "chaos", "bubbles", "u_skate")


def discriminant(params: GrayScott) -> float:
    return 1 - 4 * (params.F + params.k) ** 2 / params.F


def fixed_point(params: GrayScott, branch: str) -> np.ndarray:
    """(u, v) with v > 0 where the reaction stands still: u v = F + k and u (1 - u) = (F + k)^2 / F."""
    u = (1 + BRANCHES[branch] * np.sqrt(discriminant(params))) / 2
    return np.array([u, (params.F + params.k) / u])


def uniform(concentrations: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same (u, v) in all cells: float64 [1, 2, height, width]."""
    return np.broadcast_to(concentrations[:, None, None], (1, 2, height, width)).copy()


def euler(state: np.ndarray, params: GrayScott, steps: int) -> np.ndarray:
    """Plain steps of the rate, clamped to [0, 1], in the precision of `state`."""
    for _ in range(steps):
        state = np.clip(state + params.dt * params.rate(state), 0, 1)
    return state


def test_six_presets_have_uniform_fixed_points_with_v():
    assert tuple(name for name, params in PRESETS.items() if discriminant(params) >= 0) == WITH_A_PATTERNLESS_STATE


@pytest.mark.parametrize("name", WITH_A_PATTERNLESS_STATE)
@pytest.mark.parametrize("branch", BRANCHES)
def test_the_rate_vanishes_at_the_uniform_fixed_points(name, branch):
    state = uniform(fixed_point(PRESETS[name], branch), 6, 9)
    # float64: terms below 0.1, each rounded by less than 1e-17, and the fixed point itself by 1e-16
    assert_allclose(PRESETS[name].rate(state), np.zeros_like(state), rtol=0, atol=1e-16)


@pytest.mark.parametrize("name", WITH_A_PATTERNLESS_STATE)
@pytest.mark.parametrize("branch", BRANCHES)
def test_a_step_stays_at_the_uniform_fixed_points(name, branch):
    state = uniform(fixed_point(PRESETS[name], branch), 6, 9).astype(np.float32)
    # float32: the rate, a sum of terms below 0.1, is off by some 1e-8, less than the spacing of the concentrations
    np.testing.assert_array_max_ulp(stepper.run(state, PRESETS[name], 1, "cpu"), state, maxulp=1)


@pytest.mark.parametrize(
    ("name", "branch", "height", "width", "ky", "kx", "steps"),
    [
        ("waves", "upper", 20, 36, 2, 1, 200),  # grows 10 times
        ("waves", "lower", 20, 36, 2, 1, 200),  # grows 4 times
        ("waves", "lower", 33, 35, 0, 3, 200),  # grows 19 times
        ("spirals", "lower", 24, 24, 1, 0, 300),  # decays and turns: the eigenvalues are complex
        ("spirals", "lower", 33, 35, 0, 3, 100),  # decays
        ("holes", "lower", 20, 36, 2, 1, 100),  # decays
        ("holes", "upper", 20, 36, 3, 1, 100),  # one eigenvalue is 1.004, the other 0.85
        ("chaos", "lower", 24, 24, 1, 1, 200),  # decays and turns
        ("bubbles", "upper", 20, 36, 3, 2, 100),  # grows, slowly
        ("u_skate", "lower", 12, 48, 0, 1, 100),  # decays and turns
    ],
)
def test_a_small_wave_around_a_fixed_point_follows_the_jacobian(name, branch, height, width, ky, kx, steps):
    params = PRESETS[name]
    u, v = fixed_point(params, branch)
    laplace = -4 * (np.sin(np.pi * kx / width) ** 2 + np.sin(np.pi * ky / height) ** 2)
    jacobian = np.array(
        [
            [-(v**2) - params.F + params.D_u * laplace, -2 * u * v],
            [v**2, 2 * u * v - (params.F + params.k) + params.D_v * laplace],
        ]
    )
    start = np.array([1, -0.5])
    expected = np.linalg.matrix_power(np.eye(2) + params.dt * jacobian, steps) @ start

    growth = max(1, np.abs(expected).max())
    size = 1e-3 / growth  # so that the wave ends at 1e-3 at most
    rows, columns = np.mgrid[:height, :width]
    mode = np.cos(2 * np.pi * (ky * rows / height + kx * columns / width))
    state = uniform(np.array([u, v]), height, width) + size * start[:, None, None] * mode
    after = stepper.run(state.astype(np.float32), params, steps, "cpu")[0].astype(np.float64)
    amplitude = (after * mode).sum(axis=(1, 2)) / (mode**2).sum() / size
    # The square of a cosine has no part of its own wave number, so the first error is of the third order: 1e-3 squared,
    # times some 300 where the uniform part and the overtone, which the square does have, grow too. float32 rounds by
    # 3e-8 a cell and step, which the projection averages over the cells: up to 4e-4 of the smallest size, 5e-5.
    assert_allclose(amplitude, expected, rtol=0, atol=1e-3 * growth)


@pytest.mark.parametrize("name", ["spots", "solitons"])
@pytest.mark.parametrize(("height", "width"), [(48, 80), (65, 51)])
def test_where_rounding_grows_fast_the_kernel_is_as_near_to_float64_as_plain_float32(name, height, width):
    # One system for all three: its parameters are numbers of float32.
    params = GrayScott(*(float(np.float32(value)) for value in astuple(PRESETS[name])))
    state = initial_states(0, np.arange(6), height, width)
    truth = euler(state.astype(np.float64), params, 200)
    plain = euler(state, params, 200)
    assert plain.dtype == np.float32
    rounding = np.abs(plain - truth).max()
    assert 1e-6 < rounding < 3e-5  # patterns that part from float64, but have not yet
    # both are the same sums but for fused multiply-adds: their roundings differ, and 3 allows for the luck of either
    assert np.abs(stepper.run(state, params, 200, "cpu") - truth).max() <= 3 * rounding


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("species", [0, 1])
@pytest.mark.parametrize(("height", "width", "row", "column"), [(16, 20, 0, 19), (15, 17, 14, 8), (12, 40, 5, 3)])
def test_nan_in_one_cell_reaches_just_the_cells_it_should(steps, species, height, width, row, column):
    state = np.random.default_rng(0).uniform(0.2, 0.5, (2, 2, height, width)).astype(np.float32)
    state[1, species, row, column] = np.nan
    after = stepper_cpu.run(state, WAVES, steps)
    # A step carries it one cell on, within its species by diffusion and in the same cell to the other by reaction.
    rows, columns = np.arange(height) - row, np.arange(width) - column
    rows, columns = (np.minimum(d % n, -d % n) for d, n in ((rows, height), (columns, width)))
    distance = rows[:, None] + columns
    expected = np.zeros(state.shape, bool)
    expected[1, species] = distance <= steps
    expected[1, 1 - species] = distance <= steps - 1
    assert_array_equal(np.isnan(after), expected)


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("species", [0, 1])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize(("height", "width", "row", "column"), [(16, 20, 0, 19), (15, 17, 14, 8)])
def test_an_infinite_cell_is_not_clamped_to_a_concentration(steps, species, value, height, width, row, column):
    state = np.random.default_rng(0).uniform(0.2, 0.5, (2, 2, height, width)).astype(np.float32)
    state[1, species, row, column] = value
    after = stepper_cpu.run(state, WAVES, steps)
    assert not np.isfinite(after[1, species, row, column])
    assert np.isfinite(after[0]).all()  # the sample beside it has no part in it


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 36), (33, 35)])
def test_without_feed_and_kill_u_plus_v_only_diffuses(height, width):
    D = 0.1
    params = GrayScott(D_u=D, D_v=D, F=0.0, k=0.0)
    state = np.random.default_rng(0).uniform(0.1, 0.35, (3, 2, height, width)).astype(np.float32)
    after = stepper.run(state, params, 60, "cpu")
    total, total_after = state.sum(axis=1, dtype=np.float64), after.sum(axis=1, dtype=np.float64)
    # What the reaction takes from u it gives to v: the sum follows the heat equation, here exactly mode by mode.
    waves = [np.sin(np.pi * np.fft.fftfreq(n)) ** 2 for n in (height, width)]
    factor = (1 - 4 * D * (waves[0][:, None] + waves[1])) ** 60
    expected = np.fft.ifft2(factor * np.fft.fft2(total)).real
    # float32: u and v are rounded 60 times by at most 1.5e-8 each, so by 2e-6 if all went one way; they go both ways
    assert_allclose(total_after, expected, rtol=0, atol=5e-7)
    # ... and in the mean over hundreds of cells they cancel
    assert_allclose(total_after.mean(axis=(1, 2)), total.mean(axis=(1, 2)), rtol=0, atol=5e-8)
    # all of this took place between the clamps, and with a reaction that made half of v
    assert after.min() > 0
    assert after.max() < 1
    assert after[:, 1].mean() > 1.9 * state[:, 1].mean()
