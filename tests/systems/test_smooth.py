"""exp and tanh of the CPU kernels, as a rate of one step of length 1 from 0."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.fields import Grid
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme
from p2d.systems.system import System


def by_the_kernel(function: str, values: np.ndarray) -> np.ndarray:
    system = System("smooth", {"u": f"{function}(v)", "v": "0*v"})
    states = np.stack([np.zeros_like(values), values])[None, :, None, :].astype(np.float32)
    return cpu.run(states, system, Scheme(Grid((1, len(values)))), 1, 1)[0, 0, 0]


@pytest.mark.parametrize(("function", "low", "high"), [("exp", -40, 88), ("tanh", -20, 20)])
def test_values_are_right_to_the_last_bit_but_one(function, low, high):
    values = np.linspace(low, high, 20_001, dtype=np.float32)
    assert_allclose(by_the_kernel(function, values), getattr(np, function)(values.astype(np.float64)), rtol=2e-7)


def test_small_values_of_tanh_keep_their_digits():
    values = np.float32([1e-7, -1e-4, 1e-2, 0.3])
    assert_allclose(by_the_kernel("tanh", values), np.tanh(values.astype(np.float64)), rtol=2e-7)


@pytest.mark.parametrize("function", ["exp", "tanh"])
def test_what_is_not_finite_stays_so(function):
    values = np.float32([np.nan, np.inf, -np.inf, 1000, -1000])
    with np.errstate(over="ignore"):
        assert_array_equal(by_the_kernel(function, values), getattr(np, function)(values))
