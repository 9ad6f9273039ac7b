"""What explicit steps add to mean rates, and the length that rates show."""

from dataclasses import replace

import numpy as np
import pytest
from torch.testing import assert_close

from p2d.discovery.fit import Rates
from p2d.discovery.moments import ORDERS
from p2d.discovery.steps import UNSURE, Steps

LONGEST, C = 2.0, np.array([0.7, -0.4, 1.1])
ORDER = np.arange(1, ORDERS + 1)


def made(length: float, runs: int = 200, noise: float = 1e-3) -> tuple[Rates, Steps]:
    """Rates whose mean is that of c with steps of a length, and what steps add."""
    rng = np.random.default_rng(0)
    mean, added = rng.normal(size=(12, 3)), 0.3 * rng.normal(size=(ORDERS, 12)) / ORDER[:, None] ** 2
    shift = np.tensordot((length / LONGEST) ** ORDER, added, 1)
    mean -= np.outer(mean @ C + shift, C) / (C @ C)  # so that the mean rates and what steps add cancel
    root = np.eye(3) / np.linalg.norm(C)
    rows = mean + noise * rng.normal(size=(runs, *mean.shape))
    along = C / (C @ C)
    every = np.tile(added, (runs, 1, 1))
    return Rates(rows, root, [1] * 3), Steps(along, every, every, LONGEST, exact=True)


def test_what_steps_add_is_a_polynomial_in_their_length_and_goes_with_the_velocity():
    rates, steps = made(0.0)
    share = 0.6
    known = replace(steps, held_out=2 * steps.rows, length=share * LONGEST, error=0.01)
    corrected = known.corrected(rates)
    added = np.tensordot(share**ORDER, steps.rows[0], 1)
    assert_close((corrected.rows - rates.rows)[5] @ C, added, rtol=1e-12, atol=1e-12)
    assert_close((corrected.rows - rates.rows)[5] @ (-3 * C), -3 * added, rtol=1e-12, atol=1e-12)
    # not knowing the length is an error along the polynomial's slope, as far as it is not known
    slope = UNSURE * 0.01 / LONGEST * np.tensordot(ORDER * share ** (ORDER - 1), steps.rows[0], 1)
    assert_close(corrected.systematic(C), slope, rtol=1e-12, atol=1e-12)
    held_out = np.random.default_rng(1).normal(size=(200, 12, 3))
    told, doubt = known.added(held_out, C)
    assert_close(told, held_out @ C + 2 * added, rtol=1e-12, atol=1e-12)
    assert_close(doubt, np.abs(2 * slope / UNSURE), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [0.2, 1.0, 1.7])
def test_the_length_of_steps_comes_back(length):
    rates, steps = made(length)
    found = steps.measured(rates, np.arange(3))
    assert found.seen and 0 < found.error < 0.02
    assert abs(found.length - length) < 4 * found.error
    fixed = found.corrected(rates)
    assert fixed.solution().statistics[0] < 2 * fixed.freedom


def test_where_there_are_none_no_steps_are_seen():
    rates, steps = made(0.0, noise=0.05)
    found = steps.measured(rates, np.arange(3))
    assert not found.seen
    assert_close(found.corrected(rates).rows, rates.rows, rtol=0, atol=0)
