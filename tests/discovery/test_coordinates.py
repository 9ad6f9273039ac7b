"""Terms in the user's units as sums of functions of what is 0 to 1, or of mean 0 and spread 1."""

import numpy as np
import pytest
from torch.testing import assert_close

from p2d.discovery.coordinates import expanded, ranged, standardised
from p2d.fields import Grid, Mask, Scaling
from p2d.systems import expressions

SPECIES = ("a", "b")
SCALING = Scaling((-40.0, 0.3), (160.0, 0.02))
MONOMIALS = "1, a, b, a*b, a**2*b, b**3"
DIFFERENTIAL = "lap(a), lap(lap(b)), grad(a,b), grad(a,a), d(a,x), d(b,y), a*d(a,x), b**2*lap(a), lap(a*b), lap(a**3)"
OTHERS = "a/(1+b), 1/(50+a)**2, exp(b), a*exp(b), sqrt(41+a)*b, tanh(a*b)"


def evaluated(terms: tuple[str, ...], fields: np.ndarray, grid: Grid, operator: str) -> np.ndarray:
    names = dict(zip(SPECIES, fields, strict=True))
    functions = expressions.smooth_functions(fields) | grid.operators(operator)
    trees = [expressions.parse(term, SPECIES) for term in terms]
    return np.stack([expressions.evaluate(tree, names, functions) + 0 * fields[0] for tree in trees])


@pytest.mark.parametrize("terms", [MONOMIALS, DIFFERENTIAL, OTHERS])
@pytest.mark.parametrize("operator", ["5-point", "9-point", "spectral"])
def test_terms_at_values_are_the_matrix_times_functions_at_z(terms, operator):
    terms, grid = expressions.split(terms, SPECIES), Grid((9, 10), 0.5)
    z = np.random.default_rng(0).random((2, *grid.shape))
    names, matrix = expanded(terms, SPECIES, SCALING)
    assert matrix.shape == (len(names), len(terms)) and len(set(names)) == len(names)
    found = np.tensordot(matrix.T, evaluated(names, z, grid, operator), 1)
    expected = evaluated(terms, SCALING.to_values(z), grid, operator)
    # Derivatives of products of large shifts cancel: lap(a**3) is of 1e6 and more.
    assert_close(found, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())


def test_monomials_are_mapped_onto_themselves():
    terms = expressions.split("1, a, b, a**2, a*b, b**2", SPECIES)
    names, matrix = expanded(terms, SPECIES, SCALING)
    assert set(names) == set(terms) and np.linalg.matrix_rank(matrix / np.abs(matrix).max(axis=0)) == 6


def test_scalings_are_of_the_known_cells_alone():
    cells = np.ones((6, 7), bool)
    cells[2:4, 1:3] = False
    states = 100 * np.random.default_rng(0).random((3, 2, 6, 7))
    broken = np.where(cells, states, np.nan)
    inside = Grid((6, 7), mask=Mask.of(cells)).inside(0)
    known = states[..., cells]
    scaled = ranged(broken, inside).to_training(states)[..., cells]
    assert_close([scaled.min(), scaled.max()], [0.0, 1.0], rtol=0, atol=1e-15)
    other = standardised(broken, inside)
    assert_close(np.array(other.shift), known.mean(axis=(0, 2)), rtol=1e-12, atol=0)
    assert_close(np.array(other.scale), known.std(axis=(0, 2)), rtol=1e-12, atol=0)
