"""Libraries of PDE terms: what they hold, what is tied, and equations that are the Gray-Scott system."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.systems import expressions, library
from p2d.systems.gray_scott import PRESETS, GrayScott
from p2d.systems.library import Library

GRIDS = [(8, 8), (6, 11), (9, 4)]
OWN = " 1, u, v*u, lap( v ), exp(u)"
LIBRARIES = {name: library.library(name) for name in ("cubic", "cubic+grad", "gray-scott")}
LIBRARIES["own"] = library.library("cubic", OWN)
SPECIES = ("u", "v")
LACKING_LAPLACIANS = [("1, u", []), ("lap(u), u", [0]), ("u, lap(v)", [3]), ("lap(v), lap(u)", [1, 2])]


def random_states(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def sparse_coefficients(of: Library, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=2 * len(of.terms)) * rng.integers(2, size=2 * len(of.terms))


def test_the_cubic_terms_are_all_monomials_to_degree_three_and_both_laplacians():
    assert sorted(library.MONOMIALS) == [(a, b) for a in range(4) for b in range(4) if a + b <= 3]
    assert LIBRARIES["cubic"].terms == (*(library.monomial_name(*m) for m in library.MONOMIALS), "lap(u)", "lap(v)")
    assert len(set(LIBRARIES["cubic"].terms)) == 12


def test_the_products_of_gradients_come_on_top_of_the_cubic_terms():
    assert LIBRARIES["cubic+grad"].terms == (*LIBRARIES["cubic"].terms, "grad(u,u)", "grad(u,v)", "grad(v,v)")


def test_own_terms_take_the_place_of_the_named_ones():
    assert LIBRARIES["own"].terms == ("1", "u", "u*v", "lap(v)", "exp(u)")


@pytest.mark.parametrize("name", LIBRARIES)
def test_terms_are_named_as_they_would_be_if_one_wrote_them(name):
    terms = LIBRARIES[name].terms
    assert expressions.split(", ".join(terms)) == terms


@pytest.mark.parametrize(("a", "b"), library.MONOMIALS)
def test_a_monomial_is_the_product_that_its_powers_say(a, b):
    u, v = random_states(2, 6, 11)
    field = expressions.evaluate(library.monomial_name(a, b), u, v)
    # float64 rounding of numbers below 1
    assert_close(field, np.prod([u] * a + [v] * b + [np.ones_like(u)], axis=0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["cubic", "cubic+grad", "own"])
def test_free_libraries_leave_every_coefficient_free(name):
    found = LIBRARIES[name]
    assert_array_equal(found.ties, np.eye(2 * len(found.terms)))
    assert found.sparse
    assert found.degrees == [expressions.degree(term) for term in found.terms] * 2


@pytest.mark.parametrize("name", PRESETS)
def test_five_free_numbers_give_exactly_the_gray_scott_system(name):
    params, tied = PRESETS[name], LIBRARIES["gray-scott"]
    free = np.array([params.D_u, params.D_v, params.F, params.F + params.k, 1.0])
    assert tied.equation(tied.ties @ free) == library.gray_scott_equation(params)


def test_what_u_loses_by_reaction_v_gains_and_the_feed_is_of_what_is_missing():
    tied = LIBRARIES["gray-scott"]
    equation = tied.equation(tied.ties @ np.array([0.5, -0.25, 3.0, 7.0, 11.0]))
    assert equation["u"] == {"lap(u)": 0.5, "1": 3.0, "u": -3.0, "u*v**2": -11.0}
    assert equation["v"] == {"lap(v)": -0.25, "v": -7.0, "u*v**2": 11.0}
    assert tied.degrees == [1, 1, 1, 1, 3]
    assert not tied.sparse


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("species", SPECIES)
def test_a_place_is_that_of_its_species_and_term(name, species):
    found = LIBRARIES[name]
    units = np.eye(2 * len(found.terms))
    for term in found.terms:
        assert found.equation(units[found.place(species, term)]) == {"u": {}, "v": {}} | {species: {term: 1.0}}
    assert found.place(species, "sin(u)") == -1


@pytest.mark.parametrize("name", ["cubic", "cubic+grad", "gray-scott"])
def test_the_diffusions_are_the_laplacians_of_a_species_in_its_own_equation(name):
    found = LIBRARIES[name]
    assert found.diffusions == [found.place("u", "lap(u)"), found.place("v", "lap(v)")]


@pytest.mark.parametrize(("terms", "places"), LACKING_LAPLACIANS)
def test_a_diffusion_that_is_not_in_the_library_has_no_place(terms, places):
    assert library.library("", terms).diffusions == places


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("seed", range(3))
def test_coefficients_survive_being_written_as_an_equation(name, seed):
    found = LIBRARIES[name]
    coefficients = sparse_coefficients(found, seed)
    assert_array_equal(found.coefficients(found.equation(coefficients)), coefficients)


@pytest.mark.parametrize("seed", range(3))
def test_an_equation_names_the_terms_that_are_not_zero_and_laplacians_first(seed):
    found = LIBRARIES["cubic"]
    coefficients = sparse_coefficients(found, seed)
    for row, equation in zip(coefficients.reshape(2, -1), found.equation(coefficients).values(), strict=True):
        assert set(equation) == {t for t, c in zip(found.terms, row, strict=True) if c != 0}
        laplacians = [term.startswith("lap") for term in equation]
        assert laplacians == sorted(laplacians, reverse=True)


def test_terms_that_are_not_in_the_library_have_no_coefficients():
    equation = {"u": {"u": 2.0, "sin(u)": 3.0}, "v": {"lap(v)": 5.0, "v": 7.0}}
    assert_array_equal(LIBRARIES["own"].coefficients(equation), [0, 2, 0, 0, 0, 0, 0, 0, 5, 0])


@pytest.mark.parametrize("name", ["waves", "spirals", "chaos", "bubbles"])
@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_gray_scott_equation_has_the_gray_scott_rate(name, height, width, kind):
    states = random_states(3, 2, height, width)
    rate = library.rate(library.gray_scott_equation(PRESETS[name]), kind(states))
    # the same sums of numbers of order 1 in another order, in float64
    assert_close(rate, kind(PRESETS[name].rate(states)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_the_rate_of_a_batch_is_that_of_its_states(batch):
    states, found = random_states(*batch, 2, 5, 7), LIBRARIES["own"]
    equation = found.equation(sparse_coefficients(found, 1))
    alone = [library.rate(equation, s) for s in states.reshape(-1, 2, 5, 7)]
    # the same sums in the same order, but powers and exponentials may go through other loops
    assert_close(library.rate(equation, states), np.stack(alone).reshape(states.shape), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_rate_is_linear_in_the_coefficients(name):
    state, found = random_states(2, 6, 11), LIBRARIES[name]
    a, b = sparse_coefficients(found, 2), sparse_coefficients(found, 3)
    summed = 2 * library.rate(found.equation(a), state) - 3 * library.rate(found.equation(b), state)
    # float64 rounding of sums of order 10
    assert_close(library.rate(found.equation(2 * a - 3 * b), state), summed, rtol=0, atol=1e-13)


def test_a_species_without_terms_stands_still():
    states = random_states(3, 2, 6, 11)
    expected = np.stack([2 * states[:, 1], np.zeros((3, 6, 11))], axis=1)
    assert_array_equal(library.rate({"u": {"v": 2.0}, "v": {}}, states), expected)


@pytest.mark.parametrize("name", PRESETS)
def test_the_parameters_of_a_gray_scott_equation_come_back(name):
    found = library.gray_scott_parameters(library.gray_scott_equation(PRESETS[name]))
    # k is (F + k) - F: float64 rounding of numbers below 0.2
    np.testing.assert_allclose(found.pop("k"), PRESETS[name].k, rtol=0, atol=1e-16)
    assert GrayScott(**found, k=PRESETS[name].k) == PRESETS[name]


def test_parameters_of_terms_that_an_equation_lacks_are_zero():
    assert library.gray_scott_parameters({"u": {}, "v": {"v": -0.5}}) == {"D_u": 0, "D_v": 0, "F": 0, "k": 0.5}


def test_powers_are_those_from_nought_on():
    x = torch.from_numpy(random_states(2, 3))
    # float64 rounding of numbers below 1
    assert_close(torch.stack(library.powers(x, 4)), torch.stack([x**n for n in range(5)]), rtol=0, atol=1e-15)
