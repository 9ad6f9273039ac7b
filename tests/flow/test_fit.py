"""The closed form over a library: elimination, weights, and what stands beside them, on problems with known answers."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.flow import fit
from p2d.flow.fit import Rates
from p2d.flow.solve import solve

TRUTH = np.array([1.0, -2.0, 0.0, 0.5, 0.0, 0.0])


def linear_rates(count: int, observables: int, noise: float = 1e-2, seed: int = 0) -> Rates:
    """Rates whose means vanish along TRUTH, with independent noise in each run."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(observables, len(TRUTH)))
    mean -= np.outer(mean @ TRUTH, TRUTH) / (TRUTH @ TRUTH)
    rows = mean + noise * rng.normal(size=(count, observables, len(TRUTH)))
    return Rates(rows, np.eye(len(TRUTH)), [1, 1, 2, 1, 2, 3])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "observables"), [(200, 20), (90, 30)])
def test_elimination_keeps_the_terms_of_the_truth_and_no_other(count, observables, seed):
    rates = linear_rates(count, observables, seed=seed)
    kept, share = fit.needed(rates, seed)
    assert_array_equal(kept, np.flatnonzero(TRUTH))
    assert (share[kept] == 1).all() and (share[TRUTH == 0] < 0.5).all()
    c = rates.over(kept).solution().coefficients
    # noise 0.01 of 90 runs and more, over rows of order 1
    assert_close(np.abs(c / c[0]), np.abs(TRUTH[kept] / TRUTH[0]), rtol=0, atol=0.01)


def test_a_term_of_high_degree_goes_before_one_of_low_degree_that_stands_for_the_same():
    """Two columns alike: either could go."""
    column = np.array([[1.0], [0.5], [2.0]])
    weighted = np.concatenate([column, -column, column], axis=1) + 1e-6 * np.eye(3)
    kept = fit.eliminate(weighted, np.eye(3) + 0.5, [1, 1, 3], allowed=1.0)
    assert_array_equal(kept, [0, 1])


@pytest.mark.parametrize(("height", "width"), [(5, 3), (4, 4)])
def test_the_smallest_is_that_of_the_generalised_eigenproblem(height, width):
    rng = np.random.default_rng(1)
    weighted, root = rng.normal(size=(height, width)), rng.normal(size=(width, width))
    gram = root @ root.T + np.eye(width)
    value, c = fit.smallest(weighted, gram)
    expected = np.linalg.eigvals(np.linalg.solve(gram, weighted.T @ weighted)).real.min()
    # float64, at condition numbers below 1e4
    assert_close(value, float(expected), rtol=1e-9, atol=1e-12)
    assert_close(c @ gram @ c, np.float64(1), rtol=1e-12, atol=0)
    assert_close(((weighted @ c) ** 2).sum(), np.float64(value), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "observables", "expected"), [(101, 50, 2**0.5), (41, 20, 2**0.5), (20, 30, 3.8**0.5)]
)
def test_errors_are_inflated_by_hotelling_s_factor_up_to_its_bound(count, observables, expected):
    assert linear_rates(count, observables).inflation == pytest.approx(expected, rel=1e-12)


def test_a_known_amount_of_a_shared_error_is_told():
    rng = np.random.default_rng(2)
    rates = linear_rates(400, 12)
    shared = rng.normal(size=12)
    systematic = Rates(rates.rows, rates.gram, rates.degrees, systematic=lambda c: 5.0 * shared)
    solution = systematic.solution()
    # mean rates of -0.3 times the shared error's deviation, which is far above the sampling error 0.01 / 20
    assert fit.amplitude(solution, -0.3 * 5.0 * shared, 5.0 * shared) == pytest.approx(0.3, abs=1e-3)
    assert fit.amplitude(solution, np.zeros(12), 5.0 * shared) == 0


def test_a_shared_error_of_known_direction_does_not_bias_the_solution():
    rng = np.random.default_rng(3)
    rates = linear_rates(200, 20, noise=1e-3)
    bias = rng.normal(size=20)
    # along the truth all mean rates are off by the bias; other directions as they were
    rows = rates.rows + 0.5 * np.einsum("j,p->jp", bias, TRUTH / (TRUTH @ TRUTH))
    plain = solve(rows, rates.gram, fit.NULL, fit.RIDGE).coefficients
    allowed = solve(rows, rates.gram, fit.NULL, fit.RIDGE, systematic=lambda c: bias).coefficients
    direction = TRUTH / np.linalg.norm(TRUTH)
    assert abs(plain @ direction) < 0.999 < 0.99999 < abs(allowed @ direction)


def test_resampled_solutions_scatter_as_the_solution_does():
    rates = linear_rates(100, 20)
    solution = rates.solution()
    draws = np.array([c / c[0] for _, c in rates.resampled(solution, 400, 0)])
    rng = np.random.default_rng(9)
    mean = rates.rows.mean(axis=0)
    again = []
    for _ in range(400):
        noisy = mean + 1e-2 / 10 * rng.normal(size=mean.shape)
        c = fit.smallest(solution.whiten(noisy), rates.gram)[1]
        again.append(c / c[0])
    # two estimates of a deviation by 400 draws each: 5 % of standard error, five coefficients
    assert_close(draws.std(axis=0)[1:], np.std(again, axis=0)[1:], rtol=0.25, atol=0)


@pytest.mark.parametrize("fixed", [0, 2])
def test_least_squares_holds_one_number_and_minimises_the_rest(fixed):
    root = np.random.default_rng(4).normal(size=(3, 7))
    gram = root @ root.T
    c = fit.least_squares(gram, fixed)
    assert c[fixed] == 1
    slope = gram @ c
    # float64; the gradient vanishes in all other directions
    assert_close(np.delete(slope, fixed), np.zeros(2), rtol=0, atol=1e-12)
