"""Rates multiplied out: the terms add up to the plain rate, and what can be taken apart is."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import expressions
from p2d.systems.terms import terms

SPECIES = ("u", "v")
PARAMETERS = {"a": 0.7, "b": -1.3, "n": 2, "p": 0.5}
# A rate, and its terms where they are worth spelling out.
RATES = {
    "a*lap(u) - u*v**2 + b*(1 - u)": {"lap(u)": 0.7, "u*v**2": -1.0, "1": -1.3, "u": 1.3},
    "lap(2*u + a*v - 3)": {"lap(u)": 2.0, "lap(v)": 0.7},
    "lap(lap(u) - u)": {"lap(lap(u))": 1.0, "lap(u)": -1.0},
    "lap(u*(v - 1))": {"lap(u*v)": 1.0, "lap(u)": -1.0},
    "d(a*u**2 - 3*v + 1, x)": {"d(u**2,x)": 0.7, "d(v,x)": -3.0},
    "d(u, x) - d(u, y)": {"d(u,x)": 1.0, "d(u,y)": -1.0},
    "grad(u + 2*v, v - u)": {"grad(u,v)": -1.0, "grad(u,u)": -1.0, "grad(v,v)": 2.0},
    "grad(v, u) + grad(1 + u, v)": {"grad(u,v)": 2.0},
    "(u + v)**3": {"u**3": 1.0, "u**2*v": 3.0, "u*v**2": 3.0, "v**3": 1.0},
    "(u - v)*(u + v)": {"u**2": 1.0, "v**2": -1.0},
    "(u + v)**n": {"u**2": 1.0, "u*v": 2.0, "v**2": 1.0},
    "u**0 + 1": {"1": 2.0},
    "(u + v)**0": {"1": 1.0},
    "u - u": {},
    "0": {},
    "a": {"1": 0.7},
    "(2*u)**2/v": {"u**2/v": 4.0},
    "(a*u - b)/u**2": {"1/u": 0.7, "1/u**2": 1.3},
    "(4*u)**0.5": {"u**0.5": 2.0},
    "u**p*u": {"u**1.5": 1.0},
    "exp(a)*v": {"v": float(np.exp(0.7))},
    "u/(1 + v**2)": None,
    "u*v/(a + u)/(a + u) - v": None,
    "((u - 1)**2)**0.5": None,
    "(-3*(u - 1))**2": None,
    "exp(-u*(1 - v))*u + tanh(u - a)": None,
    "sin(u)**2 + cos(u)*sin(u)": None,
    "sqrt(u**2 + v**2)*lap(exp(u))": None,
    "v*lap(u)*(u + lap(v)) - lap(u/(1 + v))": None,
    "-(+u - 2*(v - a*u))*(u - 1e-3)": None,
    "d(u*d(v, y), x)/(1 + grad(u, u))": None,
    "u**-2 + (1 + u)**-1 + (u*v)**-1": None,
}


def fields(low, high):
    return np.random.default_rng(0).uniform(low, high, (2, 7, 9))


def value(text, state, parameters):
    names = {**parameters, "u": state[0], "v": state[1]}
    functions = expressions.smooth_functions(state) | Grid((7, 9)).operators()
    return 0 * state[0] + expressions.evaluate(expressions.parse(text, SPECIES, parameters), names, functions)


@pytest.mark.parametrize("rate", RATES)
def test_the_terms_add_up_to_the_rate(rate):
    made, state = terms(rate, SPECIES, PARAMETERS), fields(0.5, 1.5)
    total = sum((c * value(term, state, {}) for term, c in made.items()), start=np.zeros((7, 9)))
    # float64 rounding of numbers up to 1e3
    assert_allclose(total, value(rate, state, PARAMETERS), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("rate", [rate for rate, made in RATES.items() if made is not None])
def test_what_can_be_taken_apart_is(rate):
    made = terms(rate, SPECIES, PARAMETERS)
    assert made == pytest.approx(RATES[rate], rel=1e-15)


@pytest.mark.parametrize(
    "rate", ["(u**2)**0.5", "(u*v)**0.5", "((u*v)**2)**p", "sqrt(u**2)", "(u - 1)**3", "(u**2)**p/u**2"]
)
def test_the_terms_add_up_where_species_are_negative(rate):
    made, state = terms(rate, SPECIES, PARAMETERS), fields(-1.5, -0.5)
    expected = value(rate, state, PARAMETERS)
    assert np.isfinite(expected).all()
    total = sum(c * value(term, state, {}) for term, c in made.items())
    assert_allclose(total, expected, rtol=1e-12)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate not in ("u - u", "0")])
def test_terms_are_their_own_terms(rate):
    for term in terms(rate, SPECIES, PARAMETERS):
        assert terms(term, SPECIES, {}) == {term: 1.0}


def test_a_rate_of_too_many_terms_is_refused():
    with pytest.raises(UserError, match="more than 500 terms when multiplied out"):
        terms("(1 + u + v + u*v + u**2)**9*(1 + u**3 + lap(u) + lap(v) + exp(u))**9", SPECIES, {})
