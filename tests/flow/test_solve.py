"""The generalised eigenproblem on synthetic rates whose stationary direction is known."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torch.testing import assert_close

from p2d.flow.solve import solve, whitened_basis

NULL, RIDGE = 1e-8, 1e-6


def random_gram(terms: int, seed: int = 1) -> np.ndarray:
    """A positive definite matrix, of terms that differ in size and are correlated."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(terms, 3 * terms)) * np.logspace(-1, 1, terms)[:, None]
    return mixed @ mixed.T / (3 * terms)


def synthetic_rows(
    snapshots: int, observables: int, terms: int, noise: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rates [N, J, K] of mean M with M c = 0 for one direction c alone, and c."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=terms)
    mean = rng.normal(size=(observables, terms))
    mean -= np.outer(mean @ c, c) / (c @ c)
    return mean + noise * rng.normal(size=(snapshots, observables, terms)), c


def same_sign(c: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return c * np.sign(c @ reference)


def summed_over_threads(count: int):
    """A `total` for each of `count` threads: each gives its array and gets the sum, as all_reduce does."""
    barrier, given = threading.Barrier(count), [np.zeros(0)] * count

    def total_of(rank: int):
        def total(sums: np.ndarray) -> np.ndarray:
            given[rank] = sums
            barrier.wait(timeout=10)
            result = sum(given)
            barrier.wait(timeout=10)
            return result

        return total

    return [total_of(rank) for rank in range(count)]


@pytest.mark.parametrize(("observables", "terms"), [(12, 4), (30, 10), (6, 6)])
@pytest.mark.parametrize("noise", [0.1, 1e-6])
def test_the_stationary_direction_is_found_within_its_sampling_error(observables, terms, noise):
    snapshots = 2000
    rows, c = synthetic_rows(snapshots, observables, terms, noise)
    found = solve(rows, whitened_basis(random_gram(terms), NULL), RIDGE).coefficients
    slopes = np.linalg.svd(synthetic_rows(1, observables, terms, 0.0)[0][0])[1][:-1]
    # rates of a unit direction err by noise / sqrt(N), the direction by that over each slope of M: three of these
    allowed = 3 * noise * np.sqrt(np.sum(slopes**-2.0) / snapshots)
    truth = c / np.linalg.norm(c)
    assert np.linalg.norm(same_sign(found / np.linalg.norm(found), truth) - truth) < allowed < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_the_solution_has_unit_energy(seed):
    gram = random_gram(5, seed)
    found = solve(synthetic_rows(100, 12, 5, 0.1, seed)[0], whitened_basis(gram, NULL), RIDGE).coefficients
    assert_close(found @ gram @ found, 1.0, rtol=1e-12, atol=0)  # whitened in float64, condition number 1e4


def test_the_smallest_statistic_is_a_chi_squared_number():
    snapshots, observables, terms, repeats = 300, 12, 4, 60
    statistics = []
    for seed in range(repeats):
        rows, _ = synthetic_rows(snapshots, observables, terms, 0.1, seed)
        statistics.append(solve(rows, whitened_basis(random_gram(terms), NULL), RIDGE).statistics[0])
    freedom = observables - terms + 1
    # mean J - K + 1, variance twice that; weights from N snapshots raise it by J / N = 4 %; four standard errors
    allowed = 4 * np.sqrt(2 * freedom / repeats) + 0.04 * freedom
    assert_close(np.mean(statistics), float(freedom), rtol=0, atol=allowed)


@pytest.mark.parametrize("seed", range(3))
def test_statistics_ascend_and_directions_that_change_observables_stand_out(seed):
    rows, _ = synthetic_rows(600, 12, 4, 0.1, seed)
    statistics = solve(rows, whitened_basis(random_gram(4), NULL), RIDGE).statistics
    assert len(statistics) == 4
    assert (np.diff(statistics) > 0).all()
    assert statistics[1] > 100 * statistics[0]


def test_a_noisy_observable_weighs_little():
    rows, c = synthetic_rows(2000, 12, 4, 0.01)
    rows[:, 3] += 30 * np.random.default_rng(5).normal(size=(2000, 4))
    found = solve(rows, whitened_basis(random_gram(4), NULL), RIDGE).coefficients
    truth = c / np.linalg.norm(c)
    # eleven good observables keep the error at about noise / sqrt(N); a plain least squares errs by 0.3
    assert np.linalg.norm(same_sign(found / np.linalg.norm(found), truth) - truth) < 10 * 0.01 / np.sqrt(2000)


def shifted(rows: np.ndarray, c: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The same rows, with an error [J] in the mean rates along c alone."""
    return rows + np.outer(error, c) / (c @ c)


@pytest.mark.parametrize(("observables", "terms"), [(12, 4), (30, 10)])
@pytest.mark.parametrize("size", [0.3, 3.0])
def test_an_error_that_all_rates_share_biases_no_more_once_its_direction_is_known(observables, terms, size):
    snapshots, noise = 2000, 0.1
    rows, c = synthetic_rows(snapshots, observables, terms, noise)
    error = size * np.random.default_rng(8).normal(size=observables)
    rows, gram, truth = shifted(rows, c, error), random_gram(terms), c / np.linalg.norm(c)

    def off(systematic) -> float:
        found = solve(rows, whitened_basis(gram, NULL), RIDGE, systematic=systematic).coefficients
        return np.linalg.norm(same_sign(found / np.linalg.norm(found), truth) - truth)

    # The error in units of a field of c' B c = 1, as the solution is; of a standard deviation as large as it is.
    unit = np.sqrt(c @ gram @ c)
    mean = synthetic_rows(1, observables, terms, 0.0)[0][0]
    # What is left of the slopes of M beside the error decides, as without one: three standard errors.
    beside = mean - np.outer(error, error @ mean) / (error @ error)
    slopes = np.linalg.svd(beside)[1][:-1]
    allowed = 3 * noise * np.sqrt(np.sum(slopes**-2.0) / snapshots)
    assert off(lambda c: error / unit) < allowed < 0.1
    assert off(None) > 3 * allowed


def test_a_shared_error_may_depend_on_the_coefficients():
    rows, c = synthetic_rows(2000, 12, 4, 0.1)
    error, gram, truth = np.random.default_rng(8).normal(size=12), random_gram(4), c / np.linalg.norm(c)
    rows = shifted(rows, c, error)
    given: list[np.ndarray] = []

    def of_second_order(c: np.ndarray) -> np.ndarray:
        given.append(c)
        return (c @ truth) ** 2 * error

    found = solve(rows, whitened_basis(gram, NULL), RIDGE, systematic=of_second_order).coefficients
    assert np.linalg.norm(same_sign(found / np.linalg.norm(found), truth) - truth) < 0.02
    # It is asked of coefficients c' B c = 1 of the terms themselves, the last time of nearly the solution.
    for asked in given:
        assert_close(asked @ gram @ asked, 1.0, rtol=1e-12, atol=0)
    assert_close(same_sign(given[-1], found), found, rtol=0, atol=1e-2 * np.abs(found).max())


def test_an_error_of_no_size_changes_nothing():
    rows, _ = synthetic_rows(300, 12, 5, 0.1)
    plain, same = (
        solve(rows, whitened_basis(random_gram(5), NULL), RIDGE, systematic=s) for s in (None, lambda c: np.zeros(12))
    )
    for key in ("coefficients", "statistics", "deviation", "factor"):
        assert_close(getattr(same, key), getattr(plain, key), rtol=0, atol=0)


@pytest.mark.parametrize("split", [[150, 150], [299, 1]])
def test_workers_with_a_shared_error_give_the_solution_of_all_rows(split):
    rows, c = synthetic_rows(300, 12, 5, 0.1)
    error = np.random.default_rng(8).normal(size=12)
    rows, gram = shifted(rows, c, error), random_gram(5)
    alone = solve(rows, whitened_basis(gram, NULL), RIDGE, systematic=lambda c: error)
    shares = np.split(rows, np.cumsum(split)[:-1])
    with ThreadPoolExecutor(len(split)) as pool:
        jobs = [pool.submit(solve, *work, lambda c: error) for work in _jobs(shares, gram)]
        together = [job.result() for job in jobs]
    for solution in together:
        # the same sums in another order, in float64
        assert_close(same_sign(solution.coefficients, alone.coefficients), alone.coefficients, rtol=1e-9, atol=1e-11)
        assert_close(solution.statistics, alone.statistics, rtol=1e-8, atol=0)


def test_terms_in_other_units_give_the_same_field():
    rows, _ = synthetic_rows(300, 12, 5, 0.1)
    gram, units = random_gram(5), np.array([1e-4, 1.0, 30.0, 1e3, 0.2])
    found = solve(rows, whitened_basis(gram, NULL), RIDGE).coefficients
    rescaled = solve(rows * units, whitened_basis(gram * np.outer(units, units), NULL), RIDGE).coefficients * units
    assert_close(same_sign(rescaled, found), found, rtol=1e-9, atol=1e-11)  # float64, condition numbers to 1e4


def test_observables_in_other_units_give_the_same_field():
    rows, _ = synthetic_rows(300, 12, 5, 0.1)
    gram, units = random_gram(5), np.logspace(-5, 5, 12)
    found = solve(rows, whitened_basis(gram, NULL), RIDGE).coefficients
    rescaled = solve(rows * units[:, None], whitened_basis(gram, NULL), RIDGE).coefficients
    assert_close(same_sign(rescaled, found), found, rtol=1e-9, atol=1e-11)  # float64, condition numbers to 1e4


def test_whitened_mean_rates_give_the_statistic_back():
    rows, _ = synthetic_rows(300, 12, 5, 0.1)
    solution = solve(rows, whitened_basis(random_gram(5), NULL), RIDGE)
    again = np.sum((solution.whiten(rows.mean(axis=0)) @ solution.coefficients) ** 2)
    assert_close(again, solution.statistics[0], rtol=1e-9, atol=0)  # float64, condition numbers to 1e4


@pytest.mark.parametrize("seed", range(3))
def test_the_weights_are_those_of_the_solution_itself(seed):
    rng = np.random.default_rng(seed)
    # one direction is nearly stationary, with mean rates of its own; each slope has a noise of its own
    mean = 5 * synthetic_rows(1, 12, 5, 0.0, seed)[0] + 0.3 * rng.normal(size=(12, 5))
    rows = mean + rng.normal(size=(300, 12, 5)) * np.exp(rng.normal(size=(12, 5)))
    solution = solve(rows, whitened_basis(random_gram(5), NULL), RIDGE)
    rates = rows @ solution.coefficients
    scale = solution.deviation / (rates.std(axis=0, ddof=1) / np.sqrt(300))
    # the last of four iterations changes the weights by less than 1 %
    assert_close(scale, np.ones(12), rtol=0.01, atol=0)


@pytest.mark.parametrize("split", [[150, 150], [299, 1], [100, 100, 100]])
def test_rows_shared_among_workers_give_the_solution_of_all_rows(split):
    rows, _ = synthetic_rows(300, 12, 5, 0.1)
    gram = random_gram(5)
    alone = solve(rows, whitened_basis(gram, NULL), RIDGE)
    shares = np.split(rows, np.cumsum(split)[:-1])
    with ThreadPoolExecutor(len(split)) as pool:
        jobs = [pool.submit(solve, *work) for work in _jobs(shares, gram)]
        together = [job.result() for job in jobs]
    for solution in together:
        # the same sums in another order, in float64
        assert_close(same_sign(solution.coefficients, alone.coefficients), alone.coefficients, rtol=1e-9, atol=1e-11)
        assert_close(solution.statistics, alone.statistics, rtol=1e-9, atol=0)
        assert_close(solution.coefficients, together[0].coefficients, rtol=0, atol=0)


def _jobs(shares: list[np.ndarray], gram: np.ndarray):
    totals = summed_over_threads(len(shares))
    return [(share, whitened_basis(gram, NULL), RIDGE, total) for share, total in zip(shares, totals, strict=True)]


@pytest.mark.parametrize("terms", [1, 4, 12])
@pytest.mark.parametrize("seed", range(3))
def test_the_whitened_basis_makes_the_energy_the_identity(terms, seed):
    gram = random_gram(terms, seed)
    basis = whitened_basis(gram, NULL)
    assert_close(basis.T @ gram @ basis, np.eye(terms), rtol=0, atol=1e-11)  # float64, condition number 1e4


@pytest.mark.parametrize("terms", [3, 6])
def test_a_term_that_is_made_of_others_takes_one_direction_away(terms):
    mix = np.vstack([np.eye(terms), np.arange(1.0, terms + 1)])  # the last term is a sum of the others
    gram = mix @ random_gram(terms) @ mix.T
    basis = whitened_basis(gram, NULL)
    assert basis.shape == (terms + 1, terms)
    assert_close(basis.T @ gram @ basis, np.eye(terms), rtol=0, atol=1e-7)  # what is null carries 1e-16 / null = 1e-8


def test_a_term_that_is_zero_on_the_data_is_left_out():
    gram = np.zeros((5, 5))
    gram[:4, :4] = random_gram(4)
    basis = whitened_basis(gram, NULL)
    assert basis.shape == (5, 4)
    assert_close(basis[4], np.zeros(4), rtol=0, atol=0)


def test_a_small_term_is_not_a_null_one():
    units = np.array([1e-9, 1.0, 1e6, 1.0])
    assert whitened_basis(random_gram(4) * np.outer(units, units), NULL).shape == (4, 4)


def test_the_prior_is_a_penalty_on_the_size_of_the_coefficients():
    rng = np.random.default_rng(0)
    rows, gram = rng.normal(size=(200, 12, 4)) + rng.normal(size=(12, 4)), np.diag([1.0, 1.0, 1.0, 1e-6])
    free, held = (solve(rows, whitened_basis(gram, 1e-12), 1e-4, prior=prior) for prior in (0.0, 1e8))
    for found in (free, held):
        np.testing.assert_allclose(found.coefficients @ gram @ found.coefficients, 1.0, rtol=1e-9)
    # of c' B c = 1 the shortest has nothing where B is small
    assert abs(held.coefficients[3]) < 1e-3 and np.linalg.norm(held.coefficients) < np.linalg.norm(free.coefficients)


def test_what_the_data_leave_open_is_the_spread_of_the_solutions_of_other_data():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(12, 4))
    matrix -= np.outer(matrix @ [1.0, 0, 0, 0], [1.0, 0, 0, 0])  # c = (1, 0, 0, 0) alone is stationary
    found, spreads = [], []
    for _ in range(200):
        solution = solve(matrix + 0.5 * rng.normal(size=(400, 12, 4)), whitened_basis(np.eye(4), 1e-12), 1e-6)
        found.append(solution.coefficients * np.sign(solution.coefficients[0]))
        spreads.append(np.sqrt((solution.spread**2).sum(axis=1)))
    expected = np.std(found, axis=0)[1:]
    # a standard deviation of 200 has an error of 5 %: four of these
    np.testing.assert_allclose(np.mean(spreads, axis=0)[1:], expected, rtol=0.2)
