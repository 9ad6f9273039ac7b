"""What one pass over snapshots leaves: observables against finite differences, and noise that leaves no trace."""

import dataclasses
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.discovery.library import free_library
from p2d.discovery.moments import REACH, Measure, Rows, SecondOrder, observable_gradients, refuse_not_finite
from p2d.errors import UserError
from p2d.fields import laplacian
from p2d.snapshots.passes import carry_out
from p2d.systems.reading import load_system
from p2d.systems.system import System

GRIDS = [(6, 6), (5, 8)]
TERMS = ("1", "u", "v", "u*v**2", "lap(u)", "lap(v)", "grad(u,v)", "u*lap(v)")
SPECIES = ("u", "v")
SYSTEMS = {
    "gray-scott": load_system("gray_scott").at("waves"),
    "of every term": System.of_terms(
        "of every term",
        {
            "u": {"1": 0.3, "v": -1.1, "u*v**2": 0.7, "lap(u)": 0.2, "grad(u,v)": -0.4, "u*lap(v)": 0.1},
            "v": {"u": 0.9, "v": 0.2, "u*v**2": -0.5, "lap(v)": 0.3, "lap(u)": -0.2, "grad(u,v)": 0.6},
        },
    ),
}


def faster(system: System, by: float) -> System:
    """A system in another unit of time."""
    return System.of_terms("faster", {s: {t: by * c for t, c in terms.items()} for s, terms in system.terms.items()})


SLOW = faster(SYSTEMS["gray-scott"], 1 / 50)
# Of the standardised u, v and Laplacians of random states, about.
SCALES = {"mean": (0.5, 0.5, 0.0, 0.0), "std": (0.3, 0.3, 1.0, 1.0)}


def ahead(x: np.ndarray) -> np.ndarray:
    """Differences to the next row and to the next column."""
    return np.stack([np.roll(x, -1, -2) - x, np.roll(x, -1, -1) - x])


# Observables by their place in the list, written out.
OBSERVABLES = {
    0: lambda u, v: u,
    1: lambda u, v: v,
    3: lambda u, v: u * v,
    7: lambda u, v: u * v**2,
    9: lambda u, v: u**4,
    14: lambda u, v: u**5,
    17: lambda u, v: u**2 * v**3,
    19: lambda u, v: v**5,
    20: lambda u, v: (ahead(u) ** 2).sum(axis=0),
    21: lambda u, v: (ahead(u) * ahead(v)).sum(axis=0),
    22: lambda u, v: (ahead(v) ** 2).sum(axis=0),
    23: lambda u, v: u**2 * laplacian(u),
    24: lambda u, v: u**2 * laplacian(v),
    25: lambda u, v: u * v * laplacian(u),
    28: lambda u, v: v**2 * laplacian(v),
    31: lambda u, v: u**2 * v * laplacian(u),
    34: lambda u, v: u * v**2 * laplacian(v),
    35: lambda u, v: v**3 * laplacian(u),
}


def random_states(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 2, height, width)).astype(np.float32)


def smooth_states(count: int, height: int, width: int) -> np.ndarray:
    """Concentrations made of the longest waves of the grid, of other phases in each."""
    rng = np.random.default_rng(3)
    rows, columns = np.arange(height)[:, None] / height, np.arange(width) / width
    phases = 2 * np.pi * rng.random((count, 2, 2, 1, 1))
    waves = np.cos(2 * np.pi * rows + phases[:, :, 0]) + np.cos(2 * np.pi * columns + phases[:, :, 1])
    return 0.5 + 0.1 * waves


def kernel(size: int, width: float) -> np.ndarray:
    """The Gaussian of this width along one axis of a periodic grid, as a matrix; the identity for none."""
    if not width:
        return np.eye(size)
    reach = int(REACH * width + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    found = np.zeros((size, size))
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        found[np.arange(size), (np.arange(size) + offset) % size] += weight
    return found


def smoothed(x: np.ndarray, width: float) -> np.ndarray:
    return kernel(x.shape[-2], width) @ x @ kernel(x.shape[-1], width).T


def of_terms(system: System, terms: tuple[str, ...] = TERMS) -> np.ndarray:
    """Coefficients [2 K] of a system over the terms."""
    return free_library(terms, SPECIES).coefficients(system.terms)


def held_out_means(measure: Measure, x: np.ndarray) -> np.ndarray:
    """The 40 random observables at a smoothed state, mean over cells of cos(w . z + b), written out in numpy."""
    judges = measure.held_out()
    features = np.stack([*x, laplacian(x[0]), laplacian(x[1])]).reshape(4, -1)
    z = (features - np.array(measure.mean)[:, None]) / np.array(measure.std)[:, None]
    return np.cos(judges.directions.numpy() @ z + judges.phases.numpy()).mean(axis=1)


def slope(g, h: float) -> np.ndarray:
    """Derivative of g at 0, of fourth order in h."""
    return (g(-2 * h) - 8 * g(-h) + 8 * g(h) - g(2 * h)) / (12 * h)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("place", OBSERVABLES)
def test_a_gradient_is_the_finite_difference_of_the_observable(height, width, place):
    u, v, du, dv = np.random.default_rng(1).random((4, height, width))
    by_u, by_v = observable_gradients(u, v)
    found = (by_u[place] * du + by_v[place] * dv).mean()
    # fourth order: 1e-12 of the fifth derivative, which is below 10, and rounding 1e-16 / 1e-3 of numbers below 10
    expected = slope(lambda h: OBSERVABLES[place](u + h * du, v + h * dv).mean(), 1e-3)
    assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_observables_are_37():
    by_u, by_v = observable_gradients(*random_states(1, 4, 5)[0])
    assert len(by_u) == len(by_v) == 20 + 3 + 14


@pytest.mark.parametrize(("height", "width"), [*GRIDS, (20, 3)])
@pytest.mark.parametrize("smoothing", [0.0, 0.7, 1.5])
def test_the_kernel_is_a_periodic_gaussian_of_its_width(height, width, smoothing):
    x = np.random.default_rng(1).random((3, 2, height, width))
    # float64 sums of a hundred numbers of order 1
    assert_close(Measure(TERMS, SPECIES, smoothing).smooth(x), smoothed(x, smoothing), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
@pytest.mark.parametrize("name", SYSTEMS)
def test_rows_add_up_to_what_the_velocity_of_an_equation_changes_smoothed_observables_by(
    height, width, smoothing, name
):
    x = random_states(1, height, width)[0]
    rows = Rows(Measure(TERMS, SPECIES, smoothing))(0, x)["rows"] @ of_terms(SYSTEMS[name])
    x = x.astype(np.float64)
    v = SYSTEMS[name].rate(x)
    for place, observable in OBSERVABLES.items():
        # As above, and of a velocity of up to 5.
        expected = slope(lambda h, g=observable: g(*smoothed(x + h * v, smoothing)).mean(), 2e-4)
        assert_close(rows[place], expected, rtol=1e-9, atol=1e-9, msg=lambda m, p=place: f"observable {p}: {m}")


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
@pytest.mark.parametrize("name", SYSTEMS)
def test_held_out_rows_add_up_to_what_the_velocity_changes_random_observables_by(height, width, smoothing, name):
    x = random_states(1, height, width)[0]
    measure = Measure(TERMS, SPECIES, smoothing, **SCALES)
    rows = Rows(measure)(0, x)["held_out"] @ of_terms(SYSTEMS[name])
    x = x.astype(np.float64)
    v = SYSTEMS[name].rate(x)
    expected = slope(lambda h: held_out_means(measure, smoothed(x + h * v, smoothing)), 2e-4)
    assert rows.shape == (40,)
    # fourth order: 1e-15 of the fifth derivative, below 1e5 where Laplacians change fast; rounding 1e-16 / 2e-4
    assert_close(rows, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_gram_matrix_tells_the_mean_square_velocity_under_the_kernel(height, width, smoothing, name):
    x, c = random_states(1, height, width)[0], of_terms(SYSTEMS[name])
    gram = Rows(Measure(TERMS, SPECIES, smoothing))(0, x)["gram"]
    expected = (smoothed(SYSTEMS[name].rate(x.astype(np.float64)), smoothing) ** 2).sum(axis=0).mean()
    # float64 sums of numbers of order 10, in another order
    assert_close(c @ np.kron(np.eye(2), gram) @ c, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("height", "width"), [(12, 10), (16, 16)])
@pytest.mark.parametrize("noise", [(0.03, 0.03), (0.05, 0.0), (0.0, 0.05)])
def test_extrapolated_rows_of_noisy_snapshots_are_on_average_those_of_the_clean_one(height, width, noise):
    pairs = 200
    clean = smooth_states(1, height, width)[0]
    scales = {"mean": (0.5, 0.5, 0.0, 0.0), "std": (0.1, 0.1, 1e9, 1e9)}  # as of noisy snapshots, without Laplacians
    plain = Measure(("u", "v", "u**2", "u*v**2", "lap(u)"), SPECIES, 1.5, **scales)
    white = np.random.default_rng(5).normal(size=(pairs, *clean.shape)) * np.array(noise)[:, None, None]
    noisy = clean + np.concatenate([white, -white])  # of both signs: what is odd in noise cancels, what is even stays

    def z_scores(measure: Measure) -> dict[str, float]:
        """The largest over the entries of what is found."""
        largest = {}
        for key, found in carry_out(Rows(measure), np.arange(2 * pairs), noisy).items():
            of_pairs = found.reshape(2, pairs, -1).mean(axis=0)
            error = of_pairs.std(axis=0, ddof=1) / np.sqrt(pairs) + 1e-12  # rounding, where linear in noise
            largest[key] = (np.abs(of_pairs.mean(axis=0) - truth[key].ravel()) / error).max()
        return largest

    truth = Rows(plain)(0, clean)
    # A parabola leaves the third power of the variance, 2e-8, of which errors are a thousandfold. Of 370, 400 and 25
    # scores, mostly dependent, chance puts one above 4.5 in a few of a thousand cases.
    assert max(z_scores(dataclasses.replace(plain, noise=noise)).values()) < 4.5
    assert min(z_scores(plain).values()) > 50


def test_the_noise_of_the_extrapolation_belongs_to_the_sample():
    states = smooth_states(3, 6, 8)
    task = Rows(Measure(TERMS, SPECIES, 1.5, noise=(0.01, 0.02)))
    whole = carry_out(task, np.array([4, 7, 9]), states)
    for key, values in whole.items():
        assert_array_equal(values[1], task(7, states[1])[key])
        assert (values[1] != task(8, states[1])[key]).any()


def second_differences(g, h: float) -> np.ndarray:
    """Half the second derivative of g at 0, of second order in h."""
    return (g(h) - 2 * g(0.0) + g(-h)) / (2 * h * h)


def of_second_power(g, h: float) -> np.ndarray:
    """Coefficient of h^2 of a polynomial of degree 5 or less, by exact interpolation."""
    steps = np.arange(-3, 4) * h
    return np.linalg.solve(np.vander(steps / h, increasing=True), np.array([g(step) for step in steps]))[2] / h**2


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_the_second_order_of_an_observable_is_half_its_second_derivative_along_the_velocity(height, width, smoothing):
    x = smooth_states(1, height, width)[0]
    v = SLOW.rate(x)
    found = SecondOrder(Measure(TERMS, SPECIES, smoothing), SLOW)(0, x)["rows"]
    assert found.shape == (37,)
    for place, observable in OBSERVABLES.items():
        # a polynomial in the step, in steps that change concentrations by up to 0.1
        expected = of_second_power(lambda h, g=observable: g(*smoothed(x + h * v, smoothing)).mean(), 7.0)
        # The central difference moves the state by 0.001 and leaves the square, 1e-6, times up to 20; rounding is
        # 1e-16 / 49.
        assert_close(found[place], expected, rtol=1e-4, atol=1e-16, msg=lambda m, p=place: f"observable {p}: {m}")


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_the_second_order_of_held_out_observables_is_half_their_second_derivative(height, width, smoothing):
    x, measure = smooth_states(1, height, width)[0], Measure(TERMS, SPECIES, smoothing, **SCALES)
    v = SLOW.rate(x)
    found = SecondOrder(measure, SLOW)(0, x)["held_out"]
    expected = second_differences(lambda h: held_out_means(measure, smoothed(x + h * v, smoothing)), 0.2)
    # As above, but random observables bend within 0.3, not 1, of a species; rounding is 1e-16 / 0.04.
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("by", [-1.0, 1e-4, 1e3, 1e6])
def test_the_second_order_is_quadratic_in_the_velocity_whatever_its_unit_of_time(height, width, by):
    x, measure = smooth_states(1, height, width)[0], Measure(TERMS, SPECIES, **SCALES)
    once, other = (SecondOrder(measure, system)(0, x) for system in (SLOW, faster(SLOW, by)))
    for key, values in once.items():
        # float64 differences of numbers that differ by a thousandth
        assert_close(other[key], by**2 * values, rtol=1e-9, atol=1e-9 * by**2 * np.abs(values).max())


def test_the_second_order_of_what_does_not_move_is_none():
    still = System("still", {"u": "0", "v": "0"})
    for values in SecondOrder(Measure(TERMS, SPECIES, **SCALES), still)(0, smooth_states(1, 6, 8)[0]).values():
        assert_array_equal(values, np.zeros(len(values)))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_what_an_explicit_step_changes_beyond_the_rate_is_the_step_times_the_second_order(height, width, smoothing):
    x, measure = smooth_states(1, height, width)[0], Measure(TERMS, SPECIES, smoothing, **SCALES)
    v, first = SLOW.rate(x), Rows(measure)(0, x)["held_out"] @ of_terms(SLOW)
    second = SecondOrder(measure, SLOW)(0, x)["held_out"]

    def left(h: float) -> float:
        means = [held_out_means(measure, smoothed(x + step * v, smoothing)) for step in (h, 0.0)]
        return np.abs(((means[0] - means[1]) / h - first) / h - second).max() / np.abs(second).max()

    # A step of 1 changes concentrations by 0.005 and a tenth of that standardised, third derivatives by a few per cent.
    assert left(1.0) < 0.1
    assert_close(left(1.0) / left(0.5), 2.0, rtol=0.1, atol=0)  # what is left is of first order in the step


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 1.5])
@pytest.mark.parametrize(
    "task", [Rows(Measure(TERMS, SPECIES)), SecondOrder(Measure(TERMS, SPECIES), SYSTEMS["gray-scott"])]
)
def test_samples_that_are_no_concentrations_are_named(task, value):
    states, ids = random_states(12, 6, 5), np.arange(20, 32)
    found = carry_out(task, ids, states)
    refuse_not_finite(found, ids, TERMS)
    states[3, 1, 2, 4] = value
    with pytest.raises(UserError, match=r"^sample 23 of 12 looked at: values that are not finite, or outside \[0, 1\]"):
        refuse_not_finite(carry_out(task, ids, states), ids, TERMS)
    states[[0, 1, 5, 6, 7, 9, 11], 0, 0, 0] = value
    with pytest.raises(UserError, match=r"^samples 20, 21, 23, 25, 26 and 3 more of 12 looked at: "):
        refuse_not_finite(carry_out(task, ids, states), ids, TERMS)


@pytest.mark.parametrize(("term", "noise"), [("log(v-0.3)", 0), ("1/(u-0.6)", 0), ("log(v-0.3)", 0.02)])
def test_a_term_that_is_not_finite_is_named_with_its_sample(term, noise):
    terms, states, ids = ("1", "u", term), np.full((9, 2, 6, 5), 0.5), np.arange(10, 19)
    states[4:6] = [[[[0.6]], [[0.1]]]]  # where none of them is finite, and on no other sample
    found = carry_out(Rows(Measure(terms, SPECIES, noise=(noise, noise))), ids, states)
    with pytest.raises(UserError, match=rf"^the term '{re.escape(term)}' is not finite on samples 14, 15 of 9"):
        refuse_not_finite(found, ids, terms)


@pytest.mark.parametrize("noise", [(0.0, 0.0), (0.01, 0.05), (0.05, 0.01)])
def test_a_value_may_lie_outside_the_concentrations_by_as_much_as_noise_does(noise):
    x, measure = random_states(1, 6, 5)[0], Measure(TERMS, SPECIES, noise=noise)
    least = 6 * max(*noise, 5e-4)  # six standard deviations; without noise, of what cannot be told from none
    for inside, outside in ((1 + 0.99 * least, 1 + 1.01 * least), (-0.99 * least, -1.01 * least)):
        x[1, 2, 3] = inside
        assert_array_equal(measure.concentrations(x), x.astype(np.float64))
        x[1, 2, 3] = outside
        assert np.isnan(measure.concentrations(x)).all()
