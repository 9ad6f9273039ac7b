"""Noise in the dynamics: linear fields whose equation, noise and ensemble are known in closed form come back."""

import json

import numpy as np
import pytest

import p2d
from p2d.fields import Grid

DECAY, SPREADING, SIGMA = 0.1, 0.25, 0.02
SHAPE = (24, 24)


def linear_field(count: int, step: float, seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Draws [N, 1, H, W] of dc = (D lap c - a c) dt + sigma dW, where it is stationary.

    Mode k with decay b = a + D k^2 has variance sigma^2 / (2 b), and of explicit steps sigma^2 dt / (1 - (1 - dt b)^2).
    """
    decay = DECAY - SPREADING * Grid(shape).symbol("5-point")
    variance = SIGMA**2 / (2 * decay - step * decay**2)
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((count, 1, *shape)))
    return np.fft.irfft2(white * np.sqrt(variance), s=shape).astype(np.float32)


def told(states: np.ndarray, **settings) -> p2d.Discovery:
    known = {"terms": "1, a, a**2, lap(a)", "known": f"lap(a)={SPREADING}", "operator": "5-point"}
    return p2d.discover(states, species=("a",), **{**known, "bootstrap": 20, **settings})


@pytest.mark.parametrize(
    ("step", "shape"), [*(pytest.param(step, SHAPE, marks=pytest.mark.slow) for step in (0.0, 0.4)), (0.0, (1, 400))]
)
def test_equation_noise_and_direction_of_time_of_a_linear_field_come_back(step, shape):
    found = told(linear_field(96, step, shape=shape), noise="auto" if not step else 0)
    assert found.terms["a"].keys() == {"lap(a)", "a"}
    assert found.terms["a"]["a"] == pytest.approx(-DECAY, abs=4 * found.errors["a"]["a"])
    assert found.errors["a"]["a"] < 0.12 * DECAY
    if step:
        assert found.step == pytest.approx((step, 0), abs=0.2 * step)
    error = found.dynamics_noise_errors["a"]
    assert found.dynamics_noise["a"] == pytest.approx(SIGMA, abs=4 * error)
    assert error < 0.05 * SIGMA
    assert found.directed
    assert "noise in the dynamics: " in str(found)
    again = p2d.Discovery.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found


@pytest.mark.slow
def test_the_unit_of_time_is_that_of_the_noise_too():
    states = linear_field(32, 0.0)
    one, other = (told(states, known=f"lap(a)={value}", noise=0, bootstrap=2) for value in (SPREADING, 4 * SPREADING))
    assert other.dynamics_noise["a"] == pytest.approx(2 * one.dynamics_noise["a"], rel=1e-9)


def test_none_is_looked_for_where_none_is_wanted():
    found = told(linear_field(32, 0.0), dynamics_noise="none", noise=0)
    assert found.dynamics_noise == {}
    assert "noise in the dynamics" not in str(found)
