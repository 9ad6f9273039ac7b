"""Libraries of PDE terms: what they hold, what is tied as in a system, and the systems that their terms make."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.config import DiscoverConfig
from p2d.discovery.library import Library, choose_library, fit_parameters, free_library, known_place, tied_library
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import expressions
from p2d.systems.reading import load_system
from p2d.systems.system import System

GRIDS = [(8, 8), (6, 11), (9, 4)]
OWN = " 1, u, v*u, lap( v ), exp(u)"
SPECIES = ("u", "v")


def chosen(species: tuple[str, ...] = SPECIES, shape: tuple[int, int] = (8, 8), **settings) -> Library:
    return choose_library(DiscoverConfig(**settings), species, Grid(shape))


LIBRARIES = {
    "free": chosen(),
    "gradients": chosen(also=("gradients",)),
    "gray-scott": chosen(library="gray-scott"),
    "own": chosen(terms=OWN),
}
GRAY_SCOTT = load_system("gray_scott")
TIED = LIBRARIES["gray-scott"]
FEW = free_library(("1", "u", "v", "u*v**2", "lap(u)", "lap(v)"), SPECIES)
PRESETS = {name: GRAY_SCOTT.at(name) for name in GRAY_SCOTT.presets}
MONOMIALS = [(degree - b, b) for degree in range(4) for b in range(degree + 1)]


def random_states(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def sparse_coefficients(of: Library, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=2 * len(of.terms)) * rng.integers(2, size=2 * len(of.terms))


def test_free_terms_are_all_monomials_to_degree_three_and_both_laplacians():
    names = [expressions.monomial_name({"u": a, "v": b}) for a, b in MONOMIALS]
    assert LIBRARIES["free"].terms == (*names, "lap(u)", "lap(v)")
    assert len(set(LIBRARIES["free"].terms)) == 12


@pytest.mark.parametrize(
    ("species", "settings", "count"),  # monomials of degree d of C species: (C + d over d)
    [
        ("a", {}, 4 + 1),
        ("abc", {}, 20 + 3),
        ("abce", {}, 15 + 4),
        ("abcefghi", {}, 45 + 8),
        ("ab", {"degree": 1}, 3 + 2),
        ("abce", {"degree": 3}, 35 + 4),
        ("ab", {"degree": 5, "order": 4}, 21 + 4),
    ],
)
def test_the_degree_is_three_and_two_of_more_than_three_species_unless_told(species, settings, count):
    library = chosen(tuple(species), **settings)
    assert len(set(library.terms)) == len(library.terms) == count
    assert f"lap({species[-1]})" in library.terms
    assert (f"lap(lap({species[0]}))" in library.terms) == (settings.get("order") == 4)


def test_gradients_and_derivatives_come_on_top_on_request():
    plain = LIBRARIES["free"].terms
    assert LIBRARIES["gradients"].terms == (*plain, "grad(u,u)", "grad(u,v)", "grad(v,v)")
    every = chosen(also=("derivatives",)).terms[12:]
    assert set(every[:4]) == {"d(u,x)", "d(v,x)", "d(u,y)", "d(v,y)"} and len(every) == 12
    assert {"u*d(u,x)", "v*d(u,x)", "u*d(v,y)"} < set(every)


@pytest.mark.parametrize(("shape", "axis"), [((1, 9), "x"), ((9, 1), "y")])
def test_in_one_dimension_derivatives_are_along_the_axis_there_is(shape, axis):
    more = chosen(("h",), shape, also=("derivatives",)).terms[5:]
    assert more == (f"d(h,{axis})", f"h*d(h,{axis})")


def test_own_terms_take_the_place_of_the_named_ones():
    assert LIBRARIES["own"].terms == ("1", "u", "u*v", "lap(v)", "exp(u)")


@pytest.mark.parametrize("name", LIBRARIES)
def test_terms_are_named_as_they_would_be_if_one_wrote_them(name):
    terms = LIBRARIES[name].terms
    assert expressions.split(", ".join(terms), SPECIES) == terms


@pytest.mark.parametrize("name", ["free", "gradients", "own"])
def test_free_libraries_leave_every_coefficient_free(name):
    found = LIBRARIES[name]
    assert_array_equal(found.ties, np.eye(2 * len(found.terms)))
    assert found.sparse
    assert found.degrees == [expressions.degree(term, SPECIES) for term in found.terms] * 2


@pytest.mark.parametrize("name", PRESETS)
def test_five_free_numbers_give_exactly_the_gray_scott_system(name):
    D_u, D_v, F, k = PRESETS[name].parameters.values()
    tied = LIBRARIES["gray-scott"]
    assert tied.name_terms(tied.ties @ np.array([D_u, D_v, F, F + k, 1.0])) == PRESETS[name].terms


@pytest.mark.parametrize("free", np.eye(5))
def test_what_multiplies_the_parameters_spans_the_same_as_the_free_numbers(free):
    """F multiplies 1 - u and -v; of the free numbers F, and F + k which multiplies -v, it is the sum."""
    tied = LIBRARIES["gray-scott"]
    D_u, D_v, F, decay, reaction = free
    u = {"lap(u)": D_u, "1": F, "u": -F, "u*v**2": -reaction}
    v = {"lap(v)": D_v, "v": -decay, "u*v**2": reaction}
    assert_array_equal(tied.ties @ free, tied.coefficients({"u": u, "v": v}))


def test_a_tied_library_is_made_of_any_system():
    rates = {"x": "D*lap(x) + a - (b + 1)*x + x**2*y", "y": "E*lap(y) + b*x - x**2*y"}
    system = System("brusselator", rates, {"D": 1.0, "E": 8.0, "a": 4.0, "b": 7.0})
    tied = tied_library(system)
    assert tied.names == ("D", "E", "a", "b", "")
    assert tied.species == ("x", "y") and tied.ties.shape == (10, 5)
    # the last is what no parameter multiplies
    assert_array_equal(tied.ties @ np.array([1.0, 8.0, 4.0, 7.0, 1.0]), tied.coefficients(system.terms))
    assert tied.name_terms(tied.ties[:, -1]) == {"x": {"x": -1.0, "x**2*y": 1.0}, "y": {"x**2*y": -1.0}}
    assert tied.name_terms(tied.ties[:, 3]) == {"x": {"x": -1.0}, "y": {"x": 1.0}}


def test_parameters_that_multiply_the_same_are_one_free_number():
    system = System("s", {"x": "a*lap(x) - (b + c)*x"}, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert tied_library(system).ties.shape == (2, 2)
    assert tied_library(system).names == ("a", "b + c")
    assert LIBRARIES["gray-scott"].names == ("D_u", "D_v", "F", "F + k", "")


@pytest.mark.parametrize(("rate", "names"), [("x**2 - (b + 1)*x", ("1 + b", "")), ("b*(x - x**3) + x", ("b", "b + 1"))])
def test_what_no_parameter_multiplies_may_be_part_of_a_free_number(rate, names):
    system = System("s", {"x": rate}, {"b": 2.5})
    tied = tied_library(system)
    assert tied.names == names
    numbers = [{"b": 2.5, "": 1.0}.get(name, 3.5) for name in names]
    assert_array_equal(tied.ties @ np.array(numbers), tied.coefficients(system.terms))


@pytest.mark.parametrize("rate", ["a*b*x", "x**a + b*x", "x/a + b", "exp(a*x) + b"])
def test_rates_that_are_not_linear_in_a_parameter_are_refused(rate):
    with pytest.raises(UserError, match="not linear in its parameters"):
        tied_library(System("s", {"x": rate}, {"a": 2.0, "b": 3.0}))


def test_what_u_loses_by_reaction_v_gains_and_the_feed_is_of_what_is_missing():
    tied = LIBRARIES["gray-scott"]
    equation = tied.name_terms(tied.ties @ np.array([0.5, -0.25, 3.0, 7.0, 11.0]))
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
        assert found.name_terms(units[found.place(species, term)]) == {"u": {}, "v": {}} | {species: {term: 1.0}}
    assert found.place(species, "sin(u)") == -1


def test_terms_with_neighbours_are_known():
    library = chosen(terms="1, u, lap(u), u*grad(u, v), exp(u), d(v, x)", species=SPECIES)
    assert library.differential == [False, False, True, True, False, True]


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("seed", range(3))
def test_coefficients_survive_being_written_as_an_equation(name, seed):
    found = LIBRARIES[name]
    coefficients = sparse_coefficients(found, seed)
    assert_array_equal(found.coefficients(found.name_terms(coefficients)), coefficients)


@pytest.mark.parametrize("seed", range(3))
def test_an_equation_names_the_terms_that_are_not_zero_and_laplacians_first(seed):
    found = LIBRARIES["free"]
    coefficients = sparse_coefficients(found, seed)
    for row, equation in zip(coefficients.reshape(2, -1), found.name_terms(coefficients).values(), strict=True):
        assert set(equation) == {t for t, c in zip(found.terms, row, strict=True) if c != 0}
        laplacians = [term.startswith("lap") for term in equation]
        assert laplacians == sorted(laplacians, reverse=True)


def test_terms_that_are_not_in_the_library_have_no_coefficients():
    equation = {"u": {"u": 2.0, "sin(u)": 3.0}, "v": {"lap(v)": 5.0, "v": 7.0}}
    assert_array_equal(LIBRARIES["own"].coefficients(equation), [0, 2, 0, 0, 0, 0, 0, 0, 5, 0])


@pytest.mark.parametrize("name", ["waves", "spirals", "chaos", "bubbles"])
@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_system_of_the_terms_of_another_has_its_rate(name, height, width, kind):
    states = kind(random_states(3, 2, height, width))
    rate = System.of_terms("again", PRESETS[name].terms).rate(states)
    # the same sums of numbers of order 1 in another order, in float64
    assert_close(rate, PRESETS[name].rate(states), rtol=0, atol=1e-15)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_the_rate_of_a_batch_is_that_of_its_states(batch):
    states, found = random_states(*batch, 2, 5, 7), LIBRARIES["own"]
    system = System.of_terms("any", found.name_terms(sparse_coefficients(found, 1)))
    alone = [system.rate(s) for s in states.reshape(-1, 2, 5, 7)]
    # the same sums in the same order, but powers and exponentials may go through other loops
    assert_close(system.rate(states), np.stack(alone).reshape(states.shape), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_rate_is_linear_in_the_coefficients(name):
    state, found = random_states(2, 6, 11), LIBRARIES[name]
    a, b = sparse_coefficients(found, 2), sparse_coefficients(found, 3)

    def rate(c):
        return System.of_terms("any", found.name_terms(c)).rate(state, Grid((6, 11)))

    # float64 rounding of sums of order 10
    assert_close(rate(2 * a - 3 * b), 2 * rate(a) - 3 * rate(b), rtol=0, atol=1e-13)


def test_a_species_without_terms_stands_still():
    states = random_states(3, 2, 6, 11)
    expected = np.stack([2 * states[:, 1], np.zeros((3, 6, 11))], axis=1)
    assert_array_equal(System.of_terms("any", {"u": {"v": 2.0}, "v": {}}).rate(states), expected)


@pytest.mark.parametrize("name", PRESETS)
def test_the_parameters_of_a_system_come_back_from_its_terms(name):
    found = fit_parameters(GRAY_SCOTT, PRESETS[name].terms)
    # least squares: float64 rounding of numbers below 0.2
    assert found == pytest.approx(PRESETS[name].parameters, rel=0, abs=1e-15)


def test_parameters_of_terms_that_an_equation_lacks_are_zero():
    found = fit_parameters(GRAY_SCOTT, {"u": {}, "v": {"v": -0.5}})
    assert found == pytest.approx({"D_u": 0, "D_v": 0, "F": 0, "k": 0.5}, abs=1e-15)


@pytest.mark.parametrize(
    ("species", "settings", "message"),
    [
        ("ab", {"library": "gray-scott"}, "library gray-scott is of u, v, and the snapshots are of a, b; take free, "),
        ("uv", {"library": "quartic"}, "there is no system 'quartic'"),
        ("uv", {"terms": "1, u, w"}, "unknown name 'w'"),
    ],
)
def test_what_is_no_library_of_these_species_is_refused_in_one_line(species, settings, message):
    with pytest.raises(UserError) as refused:
        chosen(tuple(species), **settings)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "library", "places", "value", "words"),
    [
        ("D_u=0.16", TIED, {("u", "lap(u)"): 1.0}, 0.16, "D_u = 0.16"),
        ("F + k = 0.067", TIED, {("v", "v"): -1.0}, 0.067, "F + k = 0.067"),
        ("F = 0.018", TIED, {("u", "1"): 0.5, ("u", "u"): -0.5}, 0.018, "F = 0.018"),
        ("lap(v)=-8e-2", FEW, {("v", "lap(v)"): 1.0}, -0.08, "lap(v) in dv/dt = -0.08"),
        (" v :v*u*v = 1", FEW, {("v", "u*v**2"): 1.0}, 1.0, "u*v**2 in dv/dt = 1"),
        ("u: 1 = 0.018", FEW, {("u", "1"): 1.0}, 0.018, "1 in du/dt = 0.018"),
    ],
)
def test_what_is_known_names_a_parameter_or_a_coefficient(text, library, places, value, words):
    weights, told, name = known_place(text, library)
    expected = np.zeros(len(library.ties))
    for place, weight in places.items():
        expected[library.place(*place)] = weight
    np.testing.assert_array_equal(weights, expected)
    assert (told, name) == (value, words)


@pytest.mark.parametrize(
    ("text", "library", "message"),
    [
        ("lap(u)", FEW, "is not understood; such as D_u=0.16, lap(u)=0.16 or 'v: u*v**2=1'"),
        ("lap(u)=0", FEW, "is not understood"),
        ("lap(u)=fast", FEW, "is not understood"),
        ("lap(u)=inf", FEW, "is not understood"),
        ("u**3=1", FEW, "names no parameter or term of one equation; there are 1, u, v, u*v**2, lap(u), lap(v)"),
        ("u*v**2=1", FEW, "names no parameter or term of one equation"),
        ("w: u=1", FEW, "names no parameter or term of one equation"),
        ("k=0.049", TIED, "there are D_u, D_v, F, F + k"),
    ],
)
def test_what_names_none_is_refused_in_one_line(text, library, message):
    with pytest.raises(UserError) as refused:
        known_place(text, library)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_known_number_of_no_term_is_refused_when_the_library_is_chosen():
    assert chosen(known="lap(u)=0.16").terms == chosen().terms
    with pytest.raises(UserError, match=r"known = 'u\*\*9=1' names no parameter or term"):
        chosen(known="u**9=1")
