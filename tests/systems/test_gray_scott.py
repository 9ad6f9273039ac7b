"""The Gray-Scott rate and its parameters, against closed forms and symmetries."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.systems.gray_scott import PRESETS, GrayScott, laplacian, preset

GRIDS = [(16, 16), (12, 20), (7, 1)]
WAVES = PRESETS["waves"]


def fourier_mode(height: int, width: int, ky: int, kx: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.cos(2 * np.pi * (ky * rows / height + kx * columns / width) + 0.3)


def random_states(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((3, 2, height, width))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize(("ky", "kx"), [(0, 0), (1, 0), (0, 1), (2, 3), (3, 8)])
def test_a_fourier_mode_is_an_eigenvector_of_the_laplacian(height, width, ky, kx):
    mode = fourier_mode(height, width, ky, kx)
    eigenvalue = -4 * (np.sin(np.pi * kx / width) ** 2 + np.sin(np.pi * ky / height) ** 2)
    # float64: five terms of order 1, each within a few 1e-16, the cosines within 1e-14 of their angles
    assert_close(laplacian(mode), eigenvalue * mode, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", PRESETS)
def test_full_u_without_v_is_a_fixed_point(name):
    state = np.stack([np.ones((6, 9)), np.zeros((6, 9))])
    assert_close(PRESETS[name].rate(state), np.zeros_like(state), rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_uniform_state_follows_the_reaction_alone(height, width):
    u, v = 0.4, 0.3
    state = np.stack([np.full((height, width), u), np.full((height, width), v)])
    du = -u * v**2 + WAVES.F * (1 - u)
    dv = u * v**2 - (WAVES.F + WAVES.k) * v
    expected = np.stack([np.full((height, width), du), np.full((height, width), dv)])
    assert_close(WAVES.rate(state), expected, rtol=0, atol=1e-16)  # the Laplacian of a constant is exactly 0 here


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_shifts_commute_with_the_rate(height, width):
    states = random_states(height, width)
    shifted = np.roll(states, (3, -5), axis=(-2, -1))
    # the same sums in the same order, in other places: equal to the last bit
    assert_close(WAVES.rate(shifted), np.roll(WAVES.rate(states), (3, -5), axis=(-2, -1)), rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_commute_with_the_rate(height, width, turns):
    states = random_states(height, width)
    turned = np.rot90(states, turns, axes=(-2, -1))
    # the four neighbours are added in another order: float64 rounding of numbers up to 4
    assert_close(WAVES.rate(turned), np.rot90(WAVES.rate(states), turns, axes=(-2, -1)).copy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_mean_rate_is_the_mean_reaction(height, width):
    states = random_states(height, width)
    u, v = states[:, 0], states[:, 1]
    du = (-u * v**2 + WAVES.F * (1 - u)).mean((-2, -1))
    dv = (u * v**2 - (WAVES.F + WAVES.k) * v).mean((-2, -1))
    # periodic diffusion moves matter and makes none; float64 means of numbers of order 1
    assert_close(WAVES.rate(states).mean((-2, -1)), np.stack([du, dv], axis=1), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_numpy_and_torch_give_the_same_rate(height, width):
    states = random_states(height, width)
    rate = WAVES.rate(torch.from_numpy(states))
    # the same formula in float64; torch may fuse a multiplication with an addition
    assert_close(rate, torch.from_numpy(WAVES.rate(states)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["D_u", "D_v", "F", "k"])
@pytest.mark.parametrize("value", [-0.125, float("nan"), float("inf")])
def test_a_parameter_that_is_negative_or_not_finite_is_refused(name, value):
    with pytest.raises(UserError, match=f"{name} = {value}"):
        GrayScott(**{"D_u": 0.16, "D_v": 0.08, "F": 0.018, "k": 0.049, name: value})


@pytest.mark.parametrize("dt", [0.0, -0.5, float("nan")])
def test_a_step_that_is_not_above_zero_is_refused(dt):
    with pytest.raises(UserError, match=f"dt = {dt}"):
        GrayScott(0.16, 0.08, 0.018, 0.049, dt=dt)


@pytest.mark.parametrize(("D_u", "D_v", "limit"), [(0.16, 0.08, "1.562"), (0.1, 0.2, "1.25"), (0.25, 0.25, "1")])
def test_a_step_beyond_the_stability_limit_is_refused_with_the_limit(D_u, D_v, limit):
    with pytest.raises(UserError, match=rf"dt = 1\.6 is unstable .*= {limit}"):
        GrayScott(D_u, D_v, 0.018, 0.049, dt=1.6)


@pytest.mark.parametrize(("D_u", "D_v"), [(0.16, 0.08), (0.1, 0.2), (0.25, 0.25)])
def test_the_step_at_the_stability_limit_is_taken(D_u, D_v):
    assert GrayScott(D_u, D_v, 0, 0, dt=1 / (4 * max(D_u, D_v))).largest_stable_dt == 1 / (4 * max(D_u, D_v))


@pytest.mark.parametrize(("wrong", "right"), [("wavs", "waves"), ("spiral", "spirals"), ("u-skate", "u_skate")])
def test_an_unknown_preset_names_the_nearest(wrong, right):
    with pytest.raises(UserError, match=f"{wrong!r}.*did you mean {right!r}"):
        preset(wrong)


def test_a_known_preset_is_found_by_its_name():
    assert preset("maze") == GrayScott(D_u=0.16, D_v=0.08, F=0.029, k=0.057, dt=1.0)
