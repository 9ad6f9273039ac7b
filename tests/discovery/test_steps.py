"""What explicit steps add to mean rates, and how long they can be."""

import numpy as np
import pytest

from p2d.discovery.library import choose_library
from p2d.discovery.steps import Steps

LIBRARY = choose_library("gray-scott", "", ("u", "v"))
START = np.array([0.16, 0.08, 0.02, 0.07, 1.0])
ROWS = np.array([1.0, -2.0, 3.0])


def steps() -> Steps:
    return Steps(LIBRARY, START, ROWS, 10 * ROWS)


@pytest.mark.parametrize(("free", "longest"), [(START, 1 / 0.64), ([0.1, -0.5, 0, 0, 1], 0.5), ([0, 0, 1, 1, 1], 0.0)])
def test_the_longest_step_is_that_of_euler_s_method_and_the_fastest_diffusion(free, longest):
    assert steps().longest(np.array(free, float)) == pytest.approx(longest, rel=1e-14)


@pytest.mark.parametrize("factor", [1.0, -1.0, 3.0])
def test_what_steps_add_is_quadratic_in_the_velocity(factor):
    np.testing.assert_allclose(steps().added(factor * START, ROWS), factor**2 * ROWS, rtol=1e-14)
    # in a unit of time in which the velocity is so much faster, the longest step is so much shorter
    expected = factor**2 * ROWS / (0.64 * abs(factor))
    np.testing.assert_allclose(steps().error(factor * START), expected, rtol=1e-14)
