"""How far Laplacians are functions of values, on states whose imbalance is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from p2d.fields import Grid, Mask
from p2d.snapshots.static import STATIC, Balance, measure_imbalance, polynomials

SHAPE = (36, 48)
# Of white noise, lap lap u has 20, -8 four times, 2 four times and 1 four times of a cell and those around it; u and
# lap u tell all but what differs among the last eight. Of lap u alone u would tell 16 parts of 20.
OF_WHITE_NOISE = 20 / 676


def noise(count, species, shape=SHAPE):
    return np.random.default_rng(0).standard_normal((count, species, *shape))


def patterned(count):
    """Smooth u and v that tell p and q, cosines of the place down and right, of which the Laplacians are functions."""
    phases = 2 * np.pi * np.random.default_rng(5).random((count, 2, 1, 1))
    rows, columns = np.indices(SHAPE)
    p, q = np.cos(2 * np.pi * rows / 36 + phases[:, 0]), np.cos(2 * np.pi * columns / 24 + phases[:, 1])
    return np.stack([p + 0.1 * q, q + 0.3 * p**2], axis=1)


def test_a_pattern_that_repeats_a_wave_does_not_move():
    # of p and q any polynomial has a Laplacian that is one too, and polynomials of u and v tell p and q
    assert measure_imbalance(patterned(8), Grid(SHAPE)) < STATIC / 10


@pytest.mark.parametrize("species", [1, 2, 3])
def test_of_white_noise_what_is_left_is_known(species):
    mask = np.zeros(SHAPE, bool)
    mask[3:33, 4:44] = True
    for grid in (Grid(SHAPE), Grid(SHAPE, 0.3, ("open", "mirror")), Grid(SHAPE, mask=Mask.of(mask))):
        states = noise(40, species)
        states[..., ~grid.inside(0)] = 1e6  # what nobody knows is not looked at
        # 13,000 cells and more: mean squares within 4 (2 / 13,000)^(1/2) = 5 %; 60 functions tell 0.5 % of the noise
        assert_allclose(measure_imbalance(states, grid), OF_WHITE_NOISE, rtol=0.1)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, -1.0), (0.01, 5.0), (-3.0, 0.2)])
def test_the_imbalance_has_no_unit_and_no_order_of_species(scale, shift):
    states = patterned(8) + 0.03 * noise(8, 2)
    own = measure_imbalance(states, Grid(SHAPE))
    assert own > STATIC
    # float64: 1e-16 of a shift that is 500 times the scale, and functions left out of the fit below 1e-13
    assert_allclose(measure_imbalance(scale * states + shift, Grid(SHAPE, 0.2)), own, rtol=1e-4)
    assert_allclose(measure_imbalance(states[:, ::-1], Grid(SHAPE)), own, rtol=1e-4)


def test_sums_over_parts_of_the_states_add_up_to_those_of_all():
    states, balance = noise(6, 2), Balance(Grid(SHAPE), 2)
    whole = balance.sums(states)
    assert_allclose(balance.sums(states[:2]) + balance.sums(states[2:]), whole, rtol=1e-10, atol=1e-7)
    assert_allclose(balance.sums(states[:0]), np.zeros_like(whole))
    assert whole[0, 0] == 6 * 18 * 24  # the first function is 1, at every second row and column


@pytest.mark.parametrize(("species", "degree", "count"), [(1, 5, 6), (2, 5, 21), (3, 3, 20), (8, 3, 165)])
def test_there_are_as_many_polynomials_as_monomials(species, degree, count):
    made = polynomials(noise(1, species, (1, 1))[0], degree)
    assert len(made) == count == len({float(m[0, 0]) for m in made})
