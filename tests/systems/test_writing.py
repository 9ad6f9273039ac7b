"""An equation in the languages of people and of other programs."""

import pytest
import sympy

from p2d.systems import library
from p2d.systems import writing as equation
from p2d.systems.gray_scott import preset

WAVES = library.gray_scott_equation(preset("waves"))


def test_an_equation_is_written_with_the_errors_of_its_last_digits():
    found = {
        "u": {"lap(u)": 0.16012, "1": 0.018, "u*v**2": -1.0049},
        "v": {"lap(v)": 0.08, "v": -123.4, "u*v**2": 1.0},
    }
    error = {"u": {"lap(u)": 0.0013, "1": 0.00024, "u*v**2": 0.02}, "v": {"v": 12.0, "lap(v)": 0.0006}}
    told = equation.text(found, error).splitlines()
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
    assert equation.text({"u": terms, "v": {}}, {"u": error, "v": {}}).splitlines()[0] == f"du/dt = {expected}"


def test_sympy_reads_what_is_written_for_it():
    written = equation.written(WAVES)
    u, v, lap = sympy.Symbol("u"), sympy.Symbol("v"), sympy.Function("lap")
    for species, terms in WAVES.items():
        fields = {"1": 1, "u": u, "v": v, "u*v**2": u * v**2, "lap(u)": lap(u), "lap(v)": lap(v)}
        expected = sum(c * fields[term] for term, c in terms.items())
        assert sympy.expand(sympy.sympify(written["sympy"][species]) - expected) == 0


def test_latex_and_py_pde_have_their_own_names_of_operators():
    found = {"u": {"lap(u)": 0.5, "grad(u,u)": 2.0, "grad(u,v)": 3.0, "lap(u*v)": 1.0}, "v": {}}
    written = equation.written(found)
    latex, pde = written["latex"]["u"], written["py_pde"]["u"]
    assert latex.startswith(r"\partial_t u = ") and r"{\nabla^2 u}" in latex
    assert r"\nabla^2 \left(u v\right)" in latex and r"\nabla u} \cdot {\nabla v" in latex
    for part in ("0.5*laplace(u)", "2.0*gradient_squared(u)", "3.0*dot(gradient(u), gradient(v))", "laplace(u*v)"):
        assert part in pde
    assert written["latex"]["v"] == r"\partial_t v = 0" and written["py_pde"]["v"] == "0"
