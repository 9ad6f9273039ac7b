"""Which terms the data need and how well they are known, on synthetic rates whose equation is known."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.discovery.fit import (
    CHANCE,
    RESAMPLED,
    Rates,
    choose_terms,
    deletions,
    diluted,
    eliminate,
    measure_stability,
    smallest,
    unseen,
    weighed,
    whitened,
)

SUPPORTS = {4: [0, 3], 8: [0, 2, 5], 12: [1, 2, 6, 7, 11]}  # by the number of terms


def by_chance(terms: int) -> float:
    return CHANCE


def random_root(terms: int, seed: int = 1) -> np.ndarray:
    """Of the products of terms that differ in size and are correlated, [3 P, P]."""
    mixed = np.random.default_rng(seed).normal(size=(terms, 3 * terms)) * np.logspace(-0.5, 0.5, terms)[:, None]
    return mixed.T / np.sqrt(3 * terms)


def stationary(observables: int, terms: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean rates M [J, P] with M c = 0 for one direction c alone, of the support of that many terms; and c."""
    rng = np.random.default_rng(seed)
    c = np.zeros(terms)
    c[SUPPORTS[terms]] = rng.uniform(0.5, 1.5, len(SUPPORTS[terms])) * rng.choice([-1, 1], len(SUPPORTS[terms]))
    mean = rng.normal(size=(observables, terms))
    return mean - np.outer(mean @ c, c) / (c @ c), c


def in_runs(mean: np.ndarray, runs: int, noise: float, seed: int = 0) -> np.ndarray:
    """Rows [N, J, P] about their mean."""
    return mean + noise * np.random.default_rng((7, seed)).normal(size=(runs, *mean.shape))


def aligned(found: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The multiple of what was found that is closest to c's direction, of length 1."""
    return found * np.sign(found @ c) / np.linalg.norm(found)


@pytest.mark.parametrize(("observables", "terms"), [(12, 4), (30, 9), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_is_that_of_the_generalised_eigenproblem(observables, terms, seed):
    weighted, root = np.random.default_rng(seed).normal(size=(observables, terms)), random_root(terms, seed)
    value, c = smallest(weighted, root)
    values, vectors = scipy.linalg.eigh(weighted.T @ weighted, root.T @ root)
    # float64; squares of the smallest singular value lose digits, to 1e-12 of the largest
    assert_close(value, values[0], rtol=1e-9, atol=1e-12 * values[-1])
    assert_close(aligned(c, vectors[:, 0]), aligned(vectors[:, 0], vectors[:, 0]), rtol=0, atol=1e-8)
    assert_close([np.sum((root @ c) ** 2), np.sum((weighted @ c) ** 2)], [1.0, value], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("observables", "terms"), [(12, 2), (30, 9), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_what_deletions_cost_is_what_fits_without_each_term_leave(observables, terms, seed):
    weighted, root = np.random.default_rng(seed).normal(size=(observables, terms)), random_root(terms, seed)
    weighted[:, 0] *= 1e-3  # next to no cost without it
    now, without = deletions(weighted, root)
    each = [np.delete(np.arange(terms), i) for i in range(terms)]
    expected = np.array([smallest(weighted[:, rest], root[:, rest])[0] for rest in each])
    assert_close(now, smallest(weighted, root)[0], rtol=1e-9, atol=1e-12)
    assert_close(without, expected, rtol=1e-9, atol=1e-12 * expected.max())


def test_a_term_that_others_stand_for_on_the_data_costs_nothing_and_a_last_one_everything():
    weighted, root = np.random.default_rng(0).normal(size=(12, 4)), random_root(4)
    mixed = np.column_stack([np.eye(4), [0.5, -2.0, 0.0, 0.0]])  # the last is made of the first two
    now, without = deletions(weighted @ mixed, root @ mixed)
    assert_close(without[[0, 1, 4]], np.full(3, now), rtol=1e-9, atol=0)
    others = deletions(weighted, root)[1]
    assert_close(without[2:4], others[2:], rtol=1e-9, atol=0)
    assert deletions(weighted[:, :1], root[:, :1])[1] == np.inf


@pytest.mark.parametrize("null", [0, 2])
def test_the_whitened_basis_leaves_out_what_is_null_on_the_data(null):
    made = np.column_stack([np.eye(6), np.eye(6)[:, :null] - np.eye(6)[:, 4 : 4 + null]])
    root = random_root(6) @ made * np.logspace(-6, 6, 6 + null)
    velocities = root @ whitened(root)
    assert_close(velocities.T @ velocities, np.eye(6), rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_changes_no_observable_in_any_run_is_unseen(count):
    rng = np.random.default_rng(0)
    hidden = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :count]
    rows = rng.normal(size=(9, 12, 6))
    found = unseen(Rates(rows - rows @ hidden @ hidden.T, random_root(6), [1] * 6))
    assert len(found) == count
    for free in found:
        assert_close(hidden @ (hidden.T @ free), free, rtol=0, atol=1e-7)
        assert_close(np.linalg.norm(random_root(6) @ free), 1.0, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("observables", "terms"), [(12, 4), (25, 8), (37, 12)])
@pytest.mark.parametrize("seed", range(4))
def test_elimination_leaves_the_terms_of_the_equation(observables, terms, seed):
    mean, _ = stationary(observables, terms, seed)
    # Every true term stands out by the square of some 30 standard errors.
    weighted = 100 * mean + np.random.default_rng((3, seed)).normal(size=mean.shape)
    degrees = np.random.default_rng(seed).integers(4, size=terms).tolist()
    assert_array_equal(eliminate(weighted, random_root(terms), degrees, by_chance), SUPPORTS[terms])


@pytest.mark.parametrize(("of_first", "of_twin", "kept"), [(1, 3, 0), (3, 1, 4)])
def test_of_two_terms_that_are_the_same_on_the_data_that_of_higher_degree_goes(of_first, of_twin, kept):
    mean, _ = stationary(12, 4)
    twice = np.concatenate([100 * mean, 100 * mean[:, :1]], axis=1)
    copies = np.vstack([np.eye(4), np.eye(4)[0]])
    found = eliminate(twice, random_root(4) @ copies.T, [of_first, 2, 2, 2, of_twin], by_chance)
    assert_array_equal(found, sorted([kept, 3]))


@pytest.mark.parametrize("stand_ins", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_term_takes_the_place_of_several_of_lower_degree_that_nearly_add_up_to_it(stand_ins, seed):
    rng = np.random.default_rng(seed)
    others = 100 * rng.normal(size=(20, stand_ins))
    term = others.sum(axis=1) + rng.normal(size=20) / 20**0.5  # without it, chi-squared rises by about 1 or less
    weighted = np.column_stack([-term, term, others])
    # Going by degree, the term is the first to go, and then none of its stand-ins can.
    found = eliminate(weighted, np.eye(2 + stand_ins), [1, 3] + [2] * stand_ins, by_chance)
    assert_array_equal(found, [0, 1])


@pytest.mark.parametrize(("gain", "kept"), [(0.5, 2), (2.0, 3)])
def test_a_higher_degree_has_to_earn_its_place_by_what_a_term_has_to(gain, kept):
    mean = 100 * np.random.default_rng(0).normal(size=(20, 2))
    error = scipy.linalg.null_space(mean.T)[:, 0]  # which no equation of the first two terms imitates
    exact = -mean.sum(axis=1)
    # Of c = (1, 1, 1) / sqrt(3) over the first two and one of the others, chi-squared is the gain, or nothing.
    weighted = np.column_stack([mean, exact + (3 * gain * CHANCE) ** 0.5 * error, exact])
    assert_array_equal(eliminate(weighted, np.eye(4), [1, 1, 1, 3], by_chance), [0, 1, kept])


@pytest.mark.parametrize("terms", [2, 4, 8])
def test_one_term_is_left_whatever_is_allowed(terms):
    weighted = np.random.default_rng(0).normal(size=(20, terms))
    assert len(eliminate(weighted, random_root(terms), [1] * terms, lambda terms: np.inf)) == 1
    assert len(eliminate(1e3 * weighted, random_root(terms), [1] * terms, by_chance)) == terms


@pytest.mark.parametrize(("observables", "terms"), [(12, 4), (25, 8)])
@pytest.mark.parametrize("seed", range(2))
def test_needed_are_the_terms_of_the_equation_and_resampled_runs_keep_them(observables, terms, seed):
    mean, _ = stationary(observables, terms, seed)
    rates = Rates(in_runs(mean, 150, 0.2, seed), random_root(terms), [1] * terms)
    kept, _ = choose_terms(rates)
    stability = measure_stability(rates, kept, rates.over(kept).solution(), seed, sparse=True)
    share = stability.frequency
    assert_array_equal(kept, SUPPORTS[terms])
    assert_array_equal(share[kept], np.ones(len(kept)))
    others = np.setdiff1d(np.arange(terms), kept)
    # Of 20 ensembles each; what is not there rises chi-squared by more than chance allows in one of a thousand.
    assert_close(share * RESAMPLED, np.round(share * RESAMPLED), rtol=0, atol=1e-12)
    assert (share[others] <= 3 / RESAMPLED).all()
    assert stability.sets.count(tuple(kept)) >= RESAMPLED - 6 and len(stability.sets) == RESAMPLED
    assert np.median(stability.apart) < 1e-2 and stability.apart.min() >= 0


def test_shares_are_drawn_by_the_seed():
    mean, c = stationary(12, 4)
    c[1] = 0.03  # some five standard errors: chi-squared rises without it by about what resampled runs are allowed
    mean = mean - np.outer(mean @ c, c) / (c @ c)
    rates = Rates(in_runs(mean, 150, 0.2), random_root(4), [1] * 4)
    kept, weights = choose_terms(rates)
    weights = rates.over(kept).solution()
    first, again, other = (measure_stability(rates, kept, weights, seed, sparse=True).frequency for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert 0 < first[1] < 1
    assert first[1] != other[1]


def test_rates_over_some_terms_are_those_of_the_others_being_zero():
    mean, _ = stationary(25, 8)
    scale = np.arange(1.0, 26)
    whole = Rates(in_runs(mean, 30, 0.1), random_root(8), list(range(8)), lambda c: scale * np.sum(c**3))
    some, kept = whole.over(np.array([1, 4, 6])), [1, 4, 6]
    c = np.array([0.3, -2.0, 0.7])
    spread = np.zeros(8)
    spread[kept] = c
    assert_close(some.rows @ c, whole.rows @ spread, rtol=1e-12, atol=1e-12)  # float64 sums of a few numbers
    assert_close(some.root @ c, whole.root @ spread, rtol=1e-12, atol=1e-12)
    assert_close(some.systematic(c), whole.systematic(spread), rtol=1e-12, atol=0)
    assert some.degrees == kept
    assert some.freedom == 25 - 3 + 1


@pytest.mark.parametrize(("observables", "terms"), [(12, 4), (25, 8)])
def test_chi_squared_has_as_many_degrees_of_freedom_as_it_says(observables, terms):
    repeats, runs = 40, 400
    mean, _ = stationary(observables, terms)
    every = [Rates(in_runs(mean, runs, 0.1, seed), random_root(terms), [1] * terms) for seed in range(repeats)]
    found = np.mean([rates.solution().statistics[0] for rates in every])
    freedom = every[0].freedom
    # variance twice the mean; weights from N runs raise it by J / N; four standard errors
    assert_close(found, float(freedom), rtol=observables / runs, atol=4 * np.sqrt(2 * freedom / repeats))


@pytest.mark.parametrize(
    ("observables", "terms", "runs"),
    [(12, 4, 20), (25, 8, 40), (37, 4, 64), pytest.param(25, 8, 600, marks=pytest.mark.slow)],
)
def test_resampled_equations_vary_as_equations_of_other_runs_do(observables, terms, runs):
    mean, c = stationary(observables, terms)
    gram, repeats, draws = random_root(terms), 150, 40
    found, spread = [], []
    for seed in range(repeats):
        rates = Rates(in_runs(mean, runs, 0.1 * np.sqrt(runs / 400), seed), gram, [1] * terms)
        solution = rates.solution()
        found.append(aligned(solution.coefficients, c))
        if seed < 30:
            again = [aligned(other, c) for _, other in rates.resampled(solution, draws, seed)]
            spread.append((rates.inflation(solution) * np.std(again, axis=0)) ** 2)
    # Standard errors: of the spread of 150 equations 6 % an entry, of errors less. From few runs there is some 5 % more
    # of second order, as weights are told at an equation that is itself in error.
    actual, told = np.sqrt(np.var(found, axis=0).sum()), np.sqrt(np.mean(spread, axis=0).sum())
    assert_close(told, actual, rtol=0.15, atol=0)


def test_resamples_are_means_of_runs_drawn_by_the_seed():
    mean, _ = stationary(12, 4)
    rates = Rates(in_runs(mean, 50, 0.1), random_root(4), [1] * 4)
    first, again, other = (np.stack(rates.means(400, seed)) for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert (first != other).any()
    # Bootstrap: about the mean of the runs, with its variance over N; errors of 400 draws, of 48 entries, four of them
    spread = rates.rows.std(axis=0) / np.sqrt(50)
    assert (np.abs(first.mean(axis=0) - rates.rows.mean(axis=0)) < 4 * spread / np.sqrt(400)).all()
    assert_close(first.std(axis=0) / spread, np.ones((12, 4)), rtol=0, atol=4 / np.sqrt(800))
    solution = rates.solution()
    for resampled, c in rates.resampled(solution, 5, 0):
        # The combination is the smallest under the weights of the solution, not under new ones.
        assert_close(c, smallest(solution.whiten(resampled), rates.root)[1], rtol=0, atol=0)


def white_rates(runs: int, observables: int, terms: int) -> Rates:
    return Rates(in_runs(np.zeros((observables, terms)), runs, 1.0), np.eye(terms), [1] * terms)


def test_errors_are_inflated_the_more_the_fewer_the_runs_and_not_at_all_for_very_many():
    every = [white_rates(runs, 37, 5) for runs in (48, 64, 100, 1000, 50_000)]
    inflation = [rates.inflation(rates.solution()) for rates in every]
    assert (np.diff(inflation) < 0).all()
    # The deviation rises by (J - P + 1) / N to first order, and by another 1 / 2 N.
    assert_close(inflation[-1] - 1, 33.5 / 50_000, rtol=0.01, atol=0)
    assert np.isfinite(white_rates(8, 37, 5).inflation(white_rates(8, 37, 5).solution()))


def test_observables_that_the_others_tell_take_no_weight_of_their_own():
    rates = white_rates(200, 12, 4)
    twice = dataclasses.replace(rates, rows=np.concatenate([rates.rows, rates.rows], axis=1))
    # The ridge, 1e-5, over eigenvalues of a correlation, 0.3 and more
    assert_close(weighed(twice.solution()), 12.0, rtol=1e-4, atol=0)
    assert_close(weighed(rates.solution()), 12.0, rtol=1e-4, atol=0)


def test_a_term_may_cost_the_more_the_fewer_are_fitted():
    rates = white_rates(100, 37, 8)
    weights = rates.solution()
    costs = [rates.allowance(weights, terms) for terms in (37, 20, 8, 2)]
    assert costs[0] > CHANCE
    assert (np.diff(costs) > 0).all()


def test_tiles_that_say_the_same_count_as_one():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(400, 30))
    assert diluted(np.repeat(own, 4, axis=0), 4) == pytest.approx(4, rel=0.02)
    # independent: 30 ratios of variances of 100 and of 400 numbers vary by 0.14 each
    assert diluted(own, 4) == pytest.approx(1, abs=0.1)
    shared = np.repeat(rng.normal(size=(100, 30)), 4, axis=0)
    assert diluted(own + shared, 4) == pytest.approx((1 / 4 + 1) / 2 * 4, rel=0.1)
    assert diluted(own[:4], 4) == 1, "of one whole nothing is known"
