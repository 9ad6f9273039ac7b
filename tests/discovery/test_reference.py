"""The known system that snapshots are held against: its reaction, its balance, and its steady states."""

import numpy as np
import pytest

from p2d.discovery.library import choose_library
from p2d.discovery.reference import reference_of
from p2d.systems.reading import load_system

SPECIES = ("u", "v")
TERMS = ("1", "u", "v", "u*v**2", "lap(u)", "lap(v)")
MAZE = load_system("gray_scott").at("maze")
GRAY_SCOTT = reference_of(SPECIES)


def grams(runs: int, moved: float = 0.0) -> np.ndarray:
    """Mean products of the terms of cells in which reaction and diffusion balance, but for so much of a movement."""
    rng = np.random.default_rng(0)
    D_u, D_v, F, k = MAZE.parameters.values()
    u, v, reaction, du, dv = rng.random((5, runs, 500))
    lap_u = (reaction - F * (1 - u) + moved * du) / D_u
    lap_v = ((F + k) * v - reaction + moved * dv) / D_v
    terms = np.stack([np.ones_like(u), u, v, reaction, lap_u, lap_v], axis=1)
    return terms @ terms.swapaxes(1, 2) / 500


def test_the_reference_is_gray_scott_and_v_gains_by_its_reaction():
    assert GRAY_SCOTT.name == "Gray-Scott" and GRAY_SCOTT.reaction == ("v", "u*v**2")
    assert reference_of(("a", "b")) is None


@pytest.mark.parametrize(("terms", "rate"), [("u, v, u*v**2", 0.7), ("u, v", 0.0)])
def test_the_rate_of_the_reaction_is_that_in_any_library(terms, rate):
    library = choose_library("", terms, SPECIES)
    coefficients = library.coefficients({"u": {"u*v**2": -3.0}, "v": {"u*v**2": 0.7, "v": 5.0}})
    assert GRAY_SCOTT.rate(coefficients, library) == rate


def test_parameters_are_those_of_an_equation_with_just_its_terms():
    assert GRAY_SCOTT.parameters(MAZE.terms) == pytest.approx(MAZE.parameters, rel=1e-12)
    faster = {s: {t: 2 * c for t, c in terms.items()} for s, terms in MAZE.terms.items()}
    other = {"u": {**MAZE.terms["u"], "u**3": 0.1}, "v": MAZE.terms["v"]}
    assert GRAY_SCOTT.parameters(faster) == GRAY_SCOTT.parameters(other) == {}


def test_where_nothing_moves_nothing_of_the_reaction_is_left_and_the_parameters_come_back():
    left, error = GRAY_SCOTT.imbalance(grams(9), TERMS, noisy=False, seed=0)
    assert abs(left) < 1e-9 and error == 0  # float64, of what the Laplacian is divided by
    free, *draws = GRAY_SCOTT.steady_state(grams(9), TERMS, bootstrap=4, seed=0)
    D_u, D_v, F, k = MAZE.parameters.values()
    for numbers in (free, *draws):
        assert numbers == pytest.approx([D_u, D_v, F, F + k, 1.0], rel=1e-6)
    assert len(draws) == 4


def test_what_moves_is_not_balanced_and_where_there_is_noise_that_has_an_error():
    left, error = GRAY_SCOTT.imbalance(grams(9, moved=0.5), TERMS, noisy=True, seed=0)
    assert left > 0.01 and 0 < error < left
