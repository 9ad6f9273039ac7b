"""Observables: their rates against finite differences of their values, on grids of any edges."""

import numpy as np
import pytest
from torch.testing import assert_close

from p2d.discovery.moments import Measure
from p2d.discovery.observables import LAP, SLOPE_X, SLOPE_Y, VALUE, Fields, Products, Smooth, products
from p2d.fields import Grid, Mask, Scaling

BOTH = (SLOPE_X, SLOPE_Y)
HOLE = np.ones((11, 12), bool)
HOLE[3:5, 6:9] = False
GRIDS = {
    "periodic": Grid((6, 9)),
    "mirror": Grid((7, 6), edges=("mirror", "periodic")),
    "mirror both": Grid((5, 6), edges=("mirror", "mirror")),
    "line": Grid((1, 13)),
    "open": Grid((9, 10), edges=("open", "open")),
    "open one way": Grid((9, 8), edges=("periodic", "open")),
    "masked": Grid((11, 12), edges=("mirror", "periodic"), mask=Mask.of(HOLE)),
}


def window(grid: Grid) -> np.ndarray | None:
    return None if grid.is_closed else grid.inside(2).astype(float)


def drawn(count: int, grid: Grid, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.9, (count, *grid.shape))


def slope(g, h: float = 1e-3) -> np.ndarray:
    """Derivative of g at 0, of fourth order in h."""
    return (g(-2 * h) - 8 * g(-h) + 8 * g(h) - g(2 * h)) / (12 * h)


def observed(kind: str, count: int, slopes: tuple[int, ...] = BOTH) -> Products | Smooth:
    if kind == "smooth":
        return Smooth(40, "any", (0.5,) * count + (2.0,) * count)
    return Products(tuple(products(count, True, slopes)))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("kind", "count"), [("products", 1), ("products", 2), ("products", 3), ("smooth", 2)])
def test_rates_are_the_finite_differences_of_the_values(name, kind, count):
    grid, own = GRIDS[name], observed(kind, count)
    z, v = drawn(count, grid), drawn(count, grid, 1)
    fields = Fields(z, grid, window(grid))
    expected = slope(lambda h: own.values(Fields(z + h * v, grid, window(grid))))
    found = own.rates(fields, [Fields(more * v, grid, window(grid)) for more in (1, 2)])
    # fourth order: 1e-12 times fifth derivatives, of sums of a hundred cells
    assert_close(found[:, 0], expected, rtol=1e-8, atol=1e-7)
    assert_close(found[:, 1], 2 * found[:, 0], rtol=1e-12, atol=1e-12)
    # the same of terms, each in one species' equation
    rows = own.rows(fields, v.reshape(count, -1))
    assert rows.shape == (len(own), count * count)
    assert_close(rows[:, :: count + 1].sum(axis=1), found[:, 0], rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", ["products", "smooth"])
def test_what_is_not_known_does_not_matter(kind):
    grid, own = GRIDS["masked"], observed(kind, 2)
    z, v, more = (drawn(2, grid, seed) for seed in range(3))
    elsewhere = ~grid.inside(0)
    both = [Fields(z + share * more * elsewhere, grid, window(grid)) for share in (0.0, 5.0)]
    assert_close(own.values(both[1]), own.values(both[0]), rtol=0, atol=0)
    first, other = (
        own.rates(f, [Fields(v + s * more * elsewhere, grid, window(grid))]) for f, s in zip(both, (0, 5), strict=True)
    )
    assert_close(other, first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["products", "smooth"])
def test_a_window_sees_what_it_sees_of_a_larger_field(kind):
    whole, own = Grid((20, 22)), observed(kind, 2)
    cut, place = Grid((10, 12), edges=("open", "open")), (slice(4, 14), slice(6, 18))
    seen = np.zeros(whole.shape)
    seen[place] = cut.inside(2)
    z, v = drawn(2, whole), drawn(2, whole, 1)
    of_whole, of_cut = Fields(z, whole, seen), Fields(z[:, *place], cut, window(cut))
    assert_close(own.values(of_cut), own.values(of_whole), rtol=1e-12, atol=1e-12)
    moving = Fields(v[:, *place], cut, window(cut)), Fields(v, whole, seen)
    rates = own.rates(of_cut, moving[:1]), own.rates(of_whole, moving[1:])
    assert_close(*rates, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "fourth_order", "slopes", "number"),
    # monomials, gradient energies, weighted Laplacians; products of Laplacians; slopes
    [(2, False, (), 20 + 3 + 14), (1, False, (), 8 + 1 + 4 + 3 + 2), (3, False, (), 55 + 6 + 48)],
)
def test_densities_are_enumerated_once(count, fourth_order, slopes, number):
    made = products(count, fourth_order, slopes)
    assert len(set(made)) == len(made) == number
    assert ((VALUE, 0),) * 5 in made and ((VALUE, 0), (LAP, count - 1)) in made


def test_with_slopes_come_those_that_change_sign_with_the_axis():
    more = set(products(2, False, (SLOPE_X,))) - set(products(2, False, ()))
    assert more and all(sum(kind == SLOPE_X for kind, _ in density) == 1 for density in more)
    grid, own = Grid((6, 9)), Products(tuple(sorted(more)))
    z = drawn(2, grid)
    turned = own.values(Fields(z[..., ::-1].copy(), grid, None))
    assert_close(turned, -own.values(Fields(z, grid, None)), rtol=1e-10, atol=1e-11)


def test_random_functions_are_those_of_their_name_and_do_not_see_what_has_infinite_spread():
    grid, z = Grid((6, 8)), drawn(2, Grid((6, 8)))

    def values(name: str, spread: tuple[float, ...], z: np.ndarray) -> np.ndarray:
        return Smooth(12, name, spread).values(Fields(z, grid, None))

    spread = (0.5, 0.6, 2.0, 3.0)
    assert_close(values("a", spread, z), values("a", spread, z), rtol=0, atol=0)
    assert np.abs(values("a", spread, z) - values("b", spread, z)).min() > 1e-6
    plain = (0.5, 0.6, np.inf, np.inf)
    shuffled = z.copy()
    shuffled[:, ::2, ::2] = np.random.default_rng(3).permuted(z[:, ::2, ::2].reshape(2, -1), axis=1).reshape(2, 3, 4)
    together = z[:, ::2, ::2].reshape(2, -1)[:, ::-1].reshape(2, 3, 4)
    shuffled[:, ::2, ::2] = together  # the cells that are looked at, in another order
    assert_close(values("a", plain, shuffled), values("a", plain, z), rtol=1e-12, atol=1e-12)
    assert np.abs(values("a", spread, shuffled) - values("a", spread, z)).max() > 1e-3


SECOND = np.array([1 / 90, -3 / 20, 3 / 2, -49 / 18, 3 / 2, -3 / 20, 1 / 90])  # of sixth order


@pytest.mark.parametrize(
    ("name", "kind", "count", "smoothing"),
    [
        ("periodic", "products", 2, 0.0),
        ("mirror both", "products", 2, 0.4),
        ("line", "products", 1, 0.6),
        ("masked", "products", 1, 0.0),
        ("line", "smooth", 2, 0.0),
        ("mirror both", "smooth", 2, 0.6),
    ],
)
def test_spreads_are_the_second_differences_by_every_cell(name, kind, count, smoothing):
    grid, own = GRIDS[name], observed(kind, count)
    ones = (0.0,) * count, (1.0,) * count
    measure = Measure(("lap(u)",), ("5-point",), ("u", "v")[:count], grid, Scaling(*ones), own, (), smoothing)
    z, h = grid.masked(drawn(count, grid)), 2e-2
    expected = np.zeros((len(own), count))
    for place in np.ndindex(z.shape):
        if not grid.inside(0)[place[1:]]:
            continue
        for n, weight in enumerate(SECOND, -3):
            moved = z.copy()
            moved[place] += n * h
            expected[:, place[0]] += weight * own.values(measure.fields(measure.smooth(moved))) / h**2
    found = own.spreads(measure.fields(measure.smooth(z)), measure.covariance)
    assert_close(found, expected, rtol=1e-6, atol=1e-6)
