"""Systems of the catalogue that equations turn out to be: their parameters and their unit of time."""

import pytest

from p2d.discovery.known import Known, known_systems, named
from p2d.discovery.library import tied_library
from p2d.systems.reading import load_system
from p2d.systems.system import System

GRAY_SCOTT = load_system("gray_scott")
MAZE = GRAY_SCOTT.at("maze")
KNOWN = Known.of(GRAY_SCOTT)


def faster(terms, by: float):
    return {s: {t: by * c for t, c in own.items()} for s, own in terms.items()}


def test_of_a_system_that_is_linear_in_its_parameters_the_library_is_tied():
    assert KNOWN.title == "Gray-Scott" and KNOWN.library.names == tied_library(GRAY_SCOTT).names
    assert KNOWN.unit_of_time == "u v^2 has rate 1, as in Gray-Scott"
    assert Known.of(load_system("fitzhugh_nagumo")) is None
    one = Known.of(System("one", {"x": "D*lap(x) + x**2"}, {"D": 1.0}))
    assert one.unit_of_time == "x^2 has rate 1, as in One"


@pytest.mark.parametrize("species", [("u", "v"), ("x", "y"), ("a", "b", "c")])
def test_known_systems_are_those_of_the_same_species(species):
    systems = known_systems(species)
    assert systems and all(known.system.species == species for known in systems)


@pytest.mark.parametrize("factor", [1.0, 0.25, -3.0])
def test_the_rest_tells_the_unit_of_time(factor):
    assert KNOWN.rest(faster(MAZE.terms, factor)) == pytest.approx(factor, rel=1e-12)
    assert Known.of(load_system("cyclic_competition")).rest(load_system("cyclic_competition").terms) == 0


def test_parameters_are_those_of_an_equation_with_just_its_terms():
    assert KNOWN.parameters(MAZE.terms) == pytest.approx(MAZE.parameters, rel=1e-12)
    other = {"u": {**MAZE.terms["u"], "u**3": 0.1}, "v": MAZE.terms["v"]}
    untied = {"u": {**MAZE.terms["u"], "u": -0.5}, "v": MAZE.terms["v"]}
    for terms in (faster(MAZE.terms, 2), other, untied):
        assert KNOWN.parameters(terms) == {}


@pytest.mark.parametrize("name", ["gray_scott", "brusselator", "kuramoto_sivashinsky", "swift_hohenberg"])
def test_an_equation_with_a_system_s_terms_is_named_as_that(name):
    terms = load_system(name).terms
    assert named(faster(terms, 3.0)).system.name == name
    species = next(iter(terms))
    assert named({**terms, species: {**terms[species], f"{species}**5": 1.0}}) is None
