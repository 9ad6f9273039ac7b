"""What one pass over snapshots leaves: rates against finite differences, steps, and noise that leaves no trace."""

import dataclasses
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.discovery.library import free_library
from p2d.discovery.moments import CUT_OFF, ORDERS, Grams, Measure, Rows, Stepped, Trial, refuse_not_finite
from p2d.discovery.observables import SLOPE_X, Products, Smooth, products
from p2d.errors import UserError
from p2d.fields import Grid, Mask, Scaling
from p2d.snapshots.passes import Groups, Means, Sums
from p2d.systems.system import System

SPECIES = ("u", "v")
TERMS = ("1", "u", "v", "u*v**2", "lap(u)", "lap(v)", "grad(u,v)", "u*lap(v)", "d(u,x)")
SCALING = Scaling((-40.0, 0.3), (160.0, 0.02))
SPREAD = (0.3, 0.3, 1.0, 1.0)
EVERY = System.of_terms(
    "of every term",  # in z
    {
        "u": {"1": 0.3, "v": -1.1, "u*v**2": 0.7, "lap(u)": 0.2, "grad(u,v)": -0.4, "u*lap(v)": 0.1, "d(u,x)": 0.3},
        "v": {"u": 0.9, "v": 0.2, "u*v**2": -0.5, "lap(v)": 0.3, "lap(u)": -0.2, "grad(u,v)": 0.6},
    },
)
HOLE = np.ones((21, 20), bool)
HOLE[9:11, 16:19] = False
GRIDS = {
    "periodic": Grid((5, 8), 0.5),
    "mirror": Grid((7, 6), edges=("mirror", "periodic")),
    "open": Grid((19, 20), edges=("open", "open")),
    "masked": Grid((21, 20), edges=("periodic", "mirror"), mask=Mask.of(HOLE)),
}


def measure_of(grid: Grid, terms: tuple[str, ...] = TERMS, operator: str = "5-point", **others) -> Measure:
    own = Products(tuple(products(2, False, (SLOPE_X,) if "d(u,x)" in terms else ())))
    values = {"scaling": SCALING, "observables": own, "spread": SPREAD, **others}
    # Those of discovery have a test of their own, and need larger grids.
    values.setdefault("judges", Smooth(12, "held out", values["spread"]))
    return Measure(terms, (operator,), SPECIES, grid, **values)


def of_each(task: Rows | Stepped, ids: np.ndarray, states: np.ndarray) -> Means:
    """What a task finds in each of these samples."""
    groups = Groups.of(ids)
    return Sums.over(task, ids, states, groups.place, groups.share).means(groups)


def of_tiles(measure: Measure, state: np.ndarray) -> list[dict[str, np.ndarray]]:
    """What rows tell of each tile of a snapshot."""
    found = Rows(measure)(0, state)
    return [{key: found[key][n] for key in ("rows", "held_out", "gram")} for n in range(len(found["rows"]))]


def drawn(grid: Grid, seed: int = 0) -> np.ndarray:
    """Random z."""
    return np.random.default_rng(seed).random((2, *grid.shape))


def smooth_states(count: int, height: int, width: int) -> np.ndarray:
    """Values made of the longest waves of the grid, of other phases in each."""
    rng = np.random.default_rng(3)
    rows, columns = np.arange(height)[:, None] / height, np.arange(width) / width
    phases = 2 * np.pi * rng.random((count, 2, 2, 1, 1))
    waves = np.cos(2 * np.pi * rows + phases[:, :, 0]) + np.cos(2 * np.pi * columns + phases[:, :, 1])
    return 0.5 + 0.1 * waves


def kernel(size: int, width: float, edge: str = "periodic", cut_off: float = CUT_OFF[True]) -> np.ndarray:
    """The Gaussian of this width along one axis, as a matrix; the identity for none."""
    made = np.zeros((size, size))
    reach = int(cut_off * width + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(width, 1e-9)) ** 2)
    for row in range(size):
        for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
            place = (row + offset) % (size if edge == "periodic" else 2 * size)
            made[row, place if place < size else 2 * size - 1 - place] += weight
    return made


def of_terms(measure: Measure, system: System) -> np.ndarray:
    """Coefficients [C M] of a system over what is measured."""
    library = free_library(measure.terms, SPECIES)
    ordered = np.zeros((2, len(measure.trees)))
    for s, own in enumerate(library.coefficients(system.terms).reshape(2, -1)):
        ordered[s, measure.places(measure.terms, measure.operators[0])] = own
    return ordered.ravel()


def slope(g, h: float = 1e-3) -> np.ndarray:
    """Derivative of g at 0, of fourth order in h."""
    return (g(-2 * h) - 8 * g(-h) + 8 * g(h) - g(2 * h)) / (12 * h)


@pytest.mark.parametrize(("edge", "cut_off"), [("periodic", 5.0), ("mirror", 5.0), ("open", 3.0)])
@pytest.mark.parametrize(("height", "width", "smoothing"), [(6, 6, 0.7), (5, 8, 1.5), (20, 3, 1.5), (1, 12, 1.5)])
def test_the_kernel_is_a_gaussian_of_its_width(height, width, smoothing, edge, cut_off):
    grid = Grid((height, width), edges=(edge, edge))
    x = np.random.default_rng(1).random((3, 2, height, width))
    down, right = (kernel(n, smoothing * (n > 1), edge, cut_off) for n in (height, width))
    found = measure_of(grid, smoothing=smoothing).smooth(x)
    inside = grid.inside(measure_of(grid, smoothing=smoothing).kernel_radius if edge == "open" else 0)
    # float64 sums of a hundred numbers of order 1
    assert_close(found[..., inside], (down @ x @ right.T)[..., inside], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("smoothing", "operator"), [(0.0, "5-point"), (1.0, "5-point"), (0.0, "9-point")])
def test_rows_add_up_to_what_an_equation_changes_smoothed_observables_by(name, smoothing, operator):
    grid = GRIDS[name]
    measure = measure_of(grid, operator=operator, smoothing=smoothing)
    z = measure.scaled(SCALING.to_values(drawn(grid)))
    v = EVERY.rate(z, grid, operator)
    (found,), c = of_tiles(measure, SCALING.to_values(z)), of_terms(measure, EVERY)
    for key, own in (("rows", measure.observables), ("held_out", measure.judges)):
        expected = slope(lambda h, own=own: own.values(measure.fields(measure.smooth(z + h * v)))) / measure.cells
        # fourth order: 1e-12 of the fifth derivative, where Laplacians change fast; rounding 1e-16 / 1e-3
        assert_close(found[key] @ c, expected, rtol=1e-8, atol=1e-7 if key == "held_out" else 1e-8)
    inside = (measure.window if measure.window is not None else np.ones(grid.shape)) > 0
    power = (measure.smooth(v)[:, inside] ** 2).sum() / measure.cells
    assert_close(c @ np.kron(np.eye(2), found["gram"]) @ c, power, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", GRIDS)
def test_tiles_together_make_up_the_whole(name):
    grid = GRIDS[name]
    measure, state = measure_of(grid), SCALING.to_values(drawn(grid))
    (whole,), tiles = of_tiles(measure, state), of_tiles(dataclasses.replace(measure, tiles=2), state)
    assert len(tiles) == 4
    for key, values in whole.items():
        assert_close(np.mean([tile[key] for tile in tiles], axis=0), values, rtol=1e-9, atol=1e-9)
    grams = Grams(measure, 3)(0, state)
    assert grams["tiles"].shape[0] == len(grams["tiles"]) == 9
    assert_close(grams["gram"], whole["gram"], rtol=1e-9, atol=1e-12)


def test_a_velocity_that_shifts_the_pattern_changes_no_observable():
    """Sums over cells of slopes of products are exactly 0 where these have no waves beyond the grid's."""
    grid = Grid((1, 32))
    measure = measure_of(grid, ("1", "u", "d(u,x)", "d(v,x)"), "spectral", scaling=Scaling((0.0, 0.0), (1.0, 1.0)))
    x = 2 * np.pi * np.arange(32) / 32
    state = np.stack([np.sin(x) + 0.4 * np.cos(2 * x + 1), np.cos(x + 0.3) - 0.3 * np.sin(2 * x)])[:, None]
    c = of_terms(measure, System.of_terms("shift", {"u": {"d(u,x)": 1.0}, "v": {"d(v,x)": 1.0}}))
    (rows,) = Rows(measure)(0, state)["rows"]
    assert_close(rows @ c, np.zeros(len(rows)), rtol=0, atol=1e-12)
    assert np.abs(rows).max() > 0.1


def test_what_lies_outside_a_mask_does_not_matter():
    grid = GRIDS["masked"]
    measure, state = measure_of(grid, smoothing=0.7), SCALING.to_values(drawn(grid))
    other = np.where(HOLE, state, np.nan)
    first, second = Rows(measure)(0, state), Rows(measure)(0, other)
    for key, values in first.items():
        assert_array_equal(second[key], values)


@pytest.mark.parametrize(("smoothing", "reach"), [(0.0, 2), (1.0, 5)])
def test_a_window_keeps_from_open_edges_by_what_terms_density_and_kernel_reach(smoothing, reach):
    measure = measure_of(Grid((19, 20), edges=("open", "periodic")), smoothing=smoothing)
    assert_array_equal(np.flatnonzero(measure.window[:, 0]), np.arange(reach, 19 - reach))
    with pytest.raises(UserError, match=rf"^no cell of 4 x 20 has all its neighbours within {reach} cells"):
        _ = measure_of(Grid((4, 20), edges=("open", "periodic")), smoothing=smoothing).window


@pytest.mark.parametrize("noise", [(0.03, 0.03), pytest.param((0.0, 0.05), marks=pytest.mark.slow)])
def test_extrapolated_rows_of_noisy_snapshots_are_on_average_those_of_the_clean_one(noise):
    pairs, grid = 200, Grid((12, 10))
    clean = smooth_states(1, *grid.shape)[0]
    scales = {"scaling": Scaling((0.3, 0.3), (0.4, 0.4)), "spread": (0.25, 0.25, np.inf, np.inf)}
    plain = measure_of(grid, ("u", "v", "u**2", "u*v**2", "lap(u)"), smoothing=1.5, **scales)
    white = np.random.default_rng(5).normal(size=(pairs, *clean.shape)) * np.array(noise)[:, None, None]
    noisy = clean + np.concatenate([white, -white])  # of both signs: what is odd in noise cancels, what is even stays

    def z_scores(measure: Measure) -> dict[str, float]:
        """The largest over the entries of what is found."""
        largest = {}
        for key, found in of_each(Rows(measure), np.arange(2 * pairs), noisy).of.items():
            of_pairs = found.reshape(2, pairs, -1).mean(axis=0)
            # rounding, where linear in noise
            error = of_pairs.std(axis=0, ddof=1) / np.sqrt(pairs) + 1e-11
            largest[key] = (np.abs(of_pairs.mean(axis=0) - truth[key].ravel()) / error).max()
        return largest

    truth = Rows(plain)(0, clean)
    # A parabola leaves the third power of the variance, of which errors are a thousandfold. Of 370, 400 and 25 scores,
    # mostly dependent, chance puts one above 4.5 in a few of a thousand cases.
    assert max(z_scores(dataclasses.replace(plain, noise=noise)).values()) < 4.5
    assert min(z_scores(plain).values()) > 50


def test_the_noise_of_the_extrapolation_belongs_to_the_sample():
    states = smooth_states(3, 6, 8)
    task = Rows(measure_of(Grid((6, 8)), smoothing=1.5, noise=(0.01, 0.02), scaling=Scaling((0.0, 0.0), (1.0, 1.0))))
    whole = of_each(task, np.array([4, 7, 9]), states)
    for key, values in whole.of.items():
        assert_array_equal(values[1], task(7, states[1])[key])
        assert (values[1] != task(8, states[1])[key]).any()


def in_values(system: System) -> System:
    """A system of z as one of values, as text."""
    inside = {
        s: f"(({s} - ({low})) / {span})" for s, low, span in zip(SPECIES, SCALING.shift, SCALING.scale, strict=True)
    }
    rates = {
        s: f"{span} * ({re.sub('[uv](?![a-z(])', lambda m: inside[m[0]], rate)})"
        for (s, rate), span in zip(WRITTEN.items(), SCALING.scale, strict=True)
    }
    return System("in values", rates)


WRITTEN = {"u": "0.3 - 1.1*v + 0.7*u*v**2 + 0.2*lap(u)", "v": "0.9*u + 0.2*v - 0.5*u*v**2 + 0.3*lap(v) - 0.2*lap(u)"}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_what_explicit_steps_add_is_told_to_all_orders(name, smoothing):
    grid, longest = GRIDS[name], 0.4
    measure, z = measure_of(grid, smoothing=smoothing), drawn(grid)
    trial = Trial(in_values(EVERY), "5-point", longest)
    z = measure.scaled(SCALING.to_values(z))
    v = measure.scaling.velocity_to_training(trial.system.rate(SCALING.to_values(z), grid))
    found = Stepped(measure, (trial, dataclasses.replace(trial, longest=2 * longest)))(0, SCALING.to_values(z))
    here, along = (measure.fields(measure.smooth(z)), [measure.fields(measure.smooth(v))])
    assert found["rows"].shape == (2, ORDERS, len(measure.observables))
    for key, own in (("rows", measure.observables), ("held_out", measure.judges)):

        def left(share: float, own=own) -> np.ndarray:
            ahead = own.values(measure.fields(measure.smooth(z + share * longest * v)))
            change = (ahead - own.values(here)) / (share * longest) - own.rates(here, along)[:, 0]
            return change / measure.cells

        # Products are of degree 5 or less, so that these are all orders; of others, the polynomial through four.
        for share in (0.3, 0.9) if key == "rows" else np.arange(1, ORDERS + 1) / ORDERS:
            told = np.tensordot(share ** np.arange(1, ORDERS + 1), found[key][0], 1)
            assert_close(told, left(share), rtol=1e-7, atol=1e-8 * np.abs(left(1.0)).max())
    for n in range(ORDERS):
        expected = 2 ** (n + 1) * found["rows"][0, n]
        assert_close(found["rows"][1, n], expected, rtol=1e-5, atol=1e-7 * np.abs(found["rows"][1]).max())


def test_with_noise_steps_are_told_to_first_order():
    grid = Grid((10, 12))
    still = measure_of(grid, scaling=Scaling((0.0, 0.0), (1.0, 1.0)))
    trial, state = Trial(System("slow", WRITTEN), "5-point", 0.4), drawn(grid)
    noisy = Stepped(dataclasses.replace(still, noise=(1e-9, 1e-9)), (trial,))(0, state)
    exact = Stepped(still, (trial,))(0, state)
    for key, values in noisy.items():
        assert not values[:, 1:].any()
        if key == "rows":  # the fastest cell moves by a thousandth
            assert_close(values[:, 0], exact[key][:, 0], rtol=0.01, atol=0.01 * np.abs(exact[key][:, 0]).max())


def test_what_does_not_move_adds_nothing_by_steps():
    task = Stepped(measure_of(Grid((6, 8))), (Trial(System("still", {"u": "0*u", "v": "0*v"}), "5-point", 1.0),))
    for values in task(0, SCALING.to_values(drawn(Grid((6, 8))))).values():
        assert_array_equal(values, np.zeros(values.shape))


@pytest.mark.parametrize(("kind", "value"), [("rows", np.nan), ("rows", np.inf), ("steps", -np.inf), ("steps", 1e200)])
def test_samples_that_are_not_finite_are_named(kind, value):
    grid, ids = Grid((6, 5)), np.arange(20, 32)
    measure = measure_of(grid)
    task = Rows(measure) if kind == "rows" else Stepped(measure, (Trial(in_values(EVERY), "5-point", 1.0),))
    states = np.stack([SCALING.to_values(drawn(grid, n)) for n in range(12)])
    refuse_not_finite(of_each(task, ids, states), len(ids), list(TERMS))
    states[3, 1, 2, 4] = value
    with pytest.raises(UserError, match=r"^sample 23 of 12 looked at: values that are not finite, or too large"):
        refuse_not_finite(of_each(task, ids, states), len(ids), [term for term, _ in measure.trees])
    states[[0, 1, 5, 6, 7, 9, 11], 0, 0, 0] = value
    with pytest.raises(UserError, match=r"^samples 20, 21, 23, 25, 26 and 3 more of 12 looked at: "):
        refuse_not_finite(of_each(task, ids, states), len(ids), [term for term, _ in measure.trees])


@pytest.mark.parametrize(("term", "noise"), [("log(v-0.3)", 0), ("1/(u-0.6)", 0), ("log(v-0.3)", 0.02)])
def test_a_term_that_is_not_finite_is_named_with_its_sample(term, noise):
    terms, states, ids = ("1", "u", term), np.full((9, 2, 6, 5), 0.5), np.arange(10, 19)
    states[4:6] = [[[[0.6]], [[0.1]]]]  # where none of them is finite, and on no other sample
    measure = measure_of(Grid((6, 5)), terms, noise=(noise, noise), scaling=Scaling((0.0, 0.0), (1.0, 1.0)))
    found = of_each(Rows(measure), ids, states)
    with pytest.raises(UserError, match=rf"^the term '{re.escape(term)}' is not finite on samples 14, 15 of 9"):
        refuse_not_finite(found, len(ids), [term for term, _ in measure.trees])
