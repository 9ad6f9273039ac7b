"""The library of PDE terms: names mean what they say, and equations written in it are the Gray-Scott system."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.dynamics import library
from p2d.dynamics.gray_scott import PRESETS, laplacian

GRIDS = [(8, 8), (6, 11), (9, 4)]
COEFFICIENTS = [("u", "lap(u)", 0.16), ("u", "u*v**2", -1.0), ("u", "1", 0.018), ("u", "u", -0.018)]
COEFFICIENTS += [("v", "lap(v)", 0.08), ("v", "u*v**2", 1.0), ("v", "v", -0.067)]


def random_state(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def sparse_coefficients(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, len(library.TERMS))) * rng.integers(2, size=(2, len(library.TERMS)))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("index", range(len(library.TERMS)))
def test_a_term_is_the_field_that_its_name_says(height, width, index):
    u, v = random_state(2, height, width)
    named = eval(library.TERMS[index], {"u": u, "v": v, "lap": laplacian})
    # a cube is made by multiplications here and by ** there: float64 rounding of numbers below 1
    assert_close(library.terms(u, v)[index], named + 0 * u, rtol=0, atol=1e-15)


def test_the_terms_are_all_monomials_to_degree_three_and_both_laplacians():
    assert len(library.terms(*random_state(2, 4, 4))) == len(set(library.TERMS)) == 12
    assert sorted(library.MONOMIALS) == [(a, b) for a in range(4) for b in range(4) if a + b <= 3]
    assert library.TERMS[-2:] == ("lap(u)", "lap(v)")


def test_a_term_grows_with_the_concentrations_by_its_degree():
    u, v = random_state(2, 6, 11)
    grown = [2**degree * term for degree, term in zip(library.DEGREES, library.terms(u, v), strict=True)]
    assert_array_equal(np.stack(library.terms(2 * u, 2 * v)), np.stack(grown))  # a factor of 2 rounds nothing


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_numpy_and_torch_give_the_same_terms(height, width):
    u, v = random_state(2, height, width)
    fields = torch.stack(library.terms(torch.from_numpy(u), torch.from_numpy(v)))
    # the same formula in float64; torch may fuse a multiplication with an addition
    assert_close(fields, torch.from_numpy(np.stack(library.terms(u, v))), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["waves", "spirals", "maze", "life", "chaos", "bubbles"])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_gray_scott_coefficients_give_the_gray_scott_rate(name, height, width):
    state = random_state(3, 2, height, width)
    rate = library.rate(library.gray_scott_coefficients(PRESETS[name]), state)
    # the same sums of numbers of order 1 in another order, in float64
    assert_close(rate, PRESETS[name].rate(state), rtol=0, atol=1e-15)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_the_rate_of_a_batch_is_that_of_its_states(batch):
    states = random_state(*batch, 2, 5, 7)
    coefficients = sparse_coefficients(1)
    alone = [library.rate(coefficients, s) for s in states.reshape(-1, 2, 5, 7)]
    # einsum may add the 12 terms in another order: float64 rounding of sums of order 10
    assert_close(library.rate(coefficients, states), np.stack(alone).reshape(states.shape), rtol=0, atol=1e-14)


def test_the_rate_is_linear_in_the_coefficients():
    state = random_state(2, 6, 11)
    a, b = sparse_coefficients(2), sparse_coefficients(3)
    summed = 2 * library.rate(a, state) - 3 * library.rate(b, state)
    # float64 rounding of sums of order 10
    assert_close(library.rate(2 * a - 3 * b, state), summed, rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_coefficients_survive_being_written_as_an_equation(seed):
    coefficients = sparse_coefficients(seed)
    assert_array_equal(library.from_equation(library.to_equation(coefficients)), coefficients)


@pytest.mark.parametrize("seed", range(4))
def test_an_equation_names_the_terms_that_are_not_zero_and_laplacians_first(seed):
    coefficients = sparse_coefficients(seed)
    for row, equation in zip(coefficients, library.to_equation(coefficients).values(), strict=True):
        assert set(equation) == {t for t, c in zip(library.TERMS, row, strict=True) if c != 0}
        laplacians = [term.startswith("lap") for term in equation]
        assert laplacians == sorted(laplacians, reverse=True)


@pytest.mark.parametrize(("species", "term", "value"), COEFFICIENTS)
def test_the_waves_equation_has_its_published_coefficients(species, term, value):
    equation = library.to_equation(library.gray_scott_coefficients(PRESETS["waves"]))
    assert_close(equation[species][term], value, rtol=1e-15, atol=0)  # F + k is added in float64


def test_the_gray_scott_library_has_its_seven_terms_and_no_other():
    allowed = library.allowed("gray-scott")
    named = {
        (s, t) for s, row in zip("uv", allowed, strict=True) for t, on in zip(library.TERMS, row, strict=True) if on
    }
    assert named == {(species, term) for species, term, _ in COEFFICIENTS}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_lies_in_the_gray_scott_library(name):
    assert_array_equal(library.gray_scott_coefficients(PRESETS[name]) != 0, library.allowed("gray-scott"))


def test_the_cubic_library_leaves_every_coefficient_free():
    assert_array_equal(library.allowed("cubic"), np.ones((2, 12), bool))
