"""An equation in the languages of people and of other programs."""

import pytest
import sympy

from p2d.systems import writing
from p2d.systems.reading import load_system
from p2d.systems.system import System

WAVES = load_system("gray_scott").at("waves").terms


def test_an_equation_is_written_with_the_errors_of_its_last_digits():
    found = {
        "u": {"lap(u)": 0.16012, "1": 0.018, "u*v**2": -1.0049},
        "v": {"lap(v)": 0.08, "v": -123.4, "u*v**2": 1.0},
    }
    error = {"u": {"lap(u)": 0.0013, "1": 0.00024, "u*v**2": 0.02}, "v": {"v": 12.0, "lap(v)": 0.0006}}
    told = writing.text(found, error).splitlines()
    assert told[0] == "du/dt = 0.160(1) lap(u) + 0.0180(2) - 1.00(2) u v^2"
    assert told[1] == "dv/dt = 0.0800(6) lap(v) - 123(12) v + 1 u v^2"


@pytest.mark.parametrize(
    ("terms", "error", "expected"),
    [
        ({"u": -0.5}, {"u": 0.1}, "- 0.5(1) u"),
        ({"1": 0.02, "u": -0.02}, {"1": 0.001, "u": 0.001}, "0.020(1) (1 - u)"),
        ({"1": 0.02, "u": -0.021}, {"1": 0.001, "u": 0.001}, "0.020(1) - 0.021(1) u"),
        ({"u+v": 0.5, "lap(u+v)": -0.25}, {}, "0.5 (u+v) - 0.25 lap(u+v)"),
        ({"(u-v)*u": 0.5, "2*u": 3.0, "-u/v": 1.5}, {}, "0.5 (u-v) u + 3 (2 u) + 1.5 (-u/v)"),
        ({}, {}, "0"),
    ],
)
def test_terms_keep_their_signs_and_the_feed_is_one_where_it_is_tied(terms, error, expected):
    assert writing.text({"u": terms, "v": {}}, {"u": error, "v": {}}).splitlines()[0] == f"du/dt = {expected}"


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (1.9987e-5, 4e-7, "2.00(4)e-05"),
        (-7.81e-4, 9e-6, "-7.81(9)e-04"),
        (12938717988, 169688623, "1.29(2)e+10"),
        (22.0, 17821.0, "0(2)e+04"),
        (3e-9, 2e-5, "0(2)e-05"),
        (0.0123, 0.002, "0.012(2)"),
        (99999.0, 7.0, "99999(7)"),
        (2e-5, 0.0, "2e-05"),
    ],
)
def test_tiny_and_huge_numbers_have_an_exponent(value, error, expected):
    assert writing.number_text(value, error) == expected


def test_sympy_reads_what_is_written_for_it():
    written = writing.sympy_text(WAVES)
    u, v, lap = sympy.Symbol("u"), sympy.Symbol("v"), sympy.Function("lap")
    for species, terms in WAVES.items():
        fields = {"1": 1, "u": u, "v": v, "u*v**2": u * v**2, "lap(u)": lap(u), "lap(v)": lap(v)}
        expected = sum(c * fields[term] for term, c in terms.items())
        assert sympy.expand(sympy.sympify(written[species]) - expected) == 0


def test_latex_and_py_pde_have_their_own_names_of_operators():
    found = {"u": {"lap(u)": 0.5, "grad(u,u)": 2.0, "grad(u,v)": 3.0, "lap(u*v)": 1.0}, "v": {}}
    latex, pde = writing.latex(found), writing.py_pde_text(found)
    assert latex["v"] == r"\partial_t v = 0" and pde["v"] == "0"
    latex, pde = latex["u"], pde["u"]
    assert latex.startswith(r"\partial_t u = ") and r"{\nabla^2 u}" in latex
    assert r"\nabla^2 \left(u v\right)" in latex and r"\nabla u} \cdot {\nabla v" in latex
    for part in ("0.5*laplace(u)", "2.0*gradient_squared(u)", "3.0*dot(gradient(u), gradient(v))", "laplace(u*v)"):
        assert part in pde


def test_species_of_any_name_are_written():
    terms = {"prey": {"lap(prey)": 0.5, "1": 2.0, "prey": -2.0}, "a": {"d(a,x)": 0.25, "prey*a": -1.5}}
    assert writing.text(terms).splitlines() == [
        "dprey/dt = 0.5 lap(prey) + 2 (1 - prey)",
        "da/dt = 0.25 d(a,x) - 1.5 prey a",
    ]
    assert sympy.sympify(writing.sympy_text(terms)["a"]).free_symbols >= {sympy.Symbol("prey"), sympy.Symbol("a")}
    assert r"\partial_x a" in writing.latex(terms)["a"]
    assert "d_dx(a)" in writing.py_pde_text(terms)["a"]


def test_a_system_prints_itself():
    system = System.of_terms("any", WAVES)
    assert str(system).splitlines()[1] == "dv/dt = 0.08 lap(v) + 1 u v^2 - 0.067 v"
    assert system._repr_latex_().startswith(r"$$\begin{aligned}\partial_t u &= ")
