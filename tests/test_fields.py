"""Operators on grids against closed forms, symmetries and dense matrices; scalings and what grids refuse."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import AXES, REACH, Grid, Mask, Scaling, Species

OPERATORS = ["5-point", "9-point", "spectral", "8th-order"]
SHAPES = [(8, 8), (6, 10), (5, 7), (1, 9), (9, 1)]
EDGES = [("periodic", "periodic"), ("mirror", "mirror"), ("mirror", "periodic"), ("periodic", "mirror")]


def random_field(*shape):
    return np.random.default_rng(1).standard_normal(shape)


def matrix(grid, operator):
    """The Laplacian as a dense matrix: a column is that of a single cell."""
    count = math.prod(grid.shape)
    cells = np.eye(count).reshape(count, *grid.shape)
    return grid.laplacian(cells, operator).reshape(count, count).T


# Operators


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spacing", [1.0, 0.3])
@pytest.mark.parametrize(("ky", "kx"), [(0, 0), (1, 0), (0, 1), (2, 3), (3, 4)])
def test_a_fourier_mode_is_an_eigenvector_of_the_laplacian(operator, shape, spacing, ky, kx):
    ky, kx = (k % (n // 2 + 1) for k, n in zip((ky, kx), shape, strict=True))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mode = np.cos(2 * np.pi * (ky * rows / shape[0] + kx * columns / shape[1]) + 0.3)
    grid = Grid(shape, spacing)
    eigenvalue = grid.symbol(operator)[ky, kx]
    # float64: sums of numbers up to 20 / spacing^2, each within some 1e-16 of its size, the cosines within 1e-14
    assert_allclose(grid.laplacian(mode, operator), eigenvalue * mode, rtol=0, atol=2e-13 / spacing**2)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_symbols_are_those_of_the_stencils_and_of_the_waves(shape):
    ky, kx = 2 * np.pi * np.fft.fftfreq(shape[0])[:, None], 2 * np.pi * np.fft.rfftfreq(shape[1])
    sy, sx = np.sin(ky / 2) ** 2, np.sin(kx / 2) ** 2
    # Patra & Karttunen's stencil is the 5-point one plus a sixth of the product of both second differences
    assert_allclose(Grid(shape).symbol("5-point"), -4 * (sy + sx), atol=1e-14)
    assert_allclose(Grid(shape).symbol("9-point"), -4 * (sy + sx) + 16 / 6 * sy * sx, atol=1e-14)
    assert_allclose(Grid(shape, 0.5).symbol("spectral"), -4 * (ky**2 + kx**2), atol=1e-14)


@pytest.mark.parametrize("operator", OPERATORS)
def test_stencils_are_those_of_the_laplacian_for_long_waves(operator):
    # k^2 (1 - k^2 / 12) at worst: waves of 100 cells along one axis or both are within 2 (2 pi / 100)^2 / 12 = 6.6e-4
    grid = Grid((100, 100))
    exact = grid.symbol("spectral")
    assert_allclose(grid.symbol(operator)[[1, 0, 1], [0, 1, 1]], exact[[1, 0, 1], [0, 1, 1]], rtol=6.6e-4)


@pytest.mark.parametrize("operator", ["5-point", "9-point"])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_laplacian_is_self_adjoint_and_makes_nothing(operator, edges, shape):
    dense = matrix(Grid(shape, 0.5, edges), operator)
    assert_allclose(dense, dense.T, rtol=0, atol=1e-14)
    assert_allclose(dense.sum(axis=0), 0, atol=1e-14)
    assert np.linalg.eigvalsh(dense).max() < 1e-12  # diffusion levels


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectral_laplacian_is_self_adjoint_and_makes_nothing(shape):
    dense = matrix(Grid(shape, 0.5), "spectral")
    assert_allclose(dense, dense.T, rtol=0, atol=1e-12)
    assert_allclose(dense.sum(axis=0), 0, atol=1e-12)


def continued(field, edges):
    for axis, edge in zip((-2, -1), edges, strict=True):
        field = np.concatenate([field, np.flip(field, axis)], axis) if edge == "mirror" else field
    return field


@pytest.mark.parametrize("operator", ["5-point", "9-point"])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mirror_edges_are_the_even_continuation_to_twice_the_size(operator, edges, shape):
    f, g = random_field(2, *shape)
    grid, h, w = Grid(shape, 0.7, edges), *shape
    twice = Grid(continued(f, edges).shape, 0.7)
    for made, whole in zip(grid.operators(operator).items(), twice.operators(operator).values(), strict=True):
        name, own = made
        arguments = {"lap": [(f,)], "grad": [(f, g)], "d": [(f, "x"), (f, "y")]}[name]
        for given in arguments:
            wide = [continued(a, edges) if isinstance(a, np.ndarray) else a for a in given]
            assert_array_equal(own(*given), whole(*wide)[:h, :w])  # the same sums in the same order


@pytest.mark.parametrize("edges", [("open", "open"), ("open", "periodic"), ("mirror", "open")])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("operator", ["5-point", "9-point", "8th-order"])
@pytest.mark.parametrize("masked", [False, True])
def test_inside_are_the_cells_that_nothing_beyond_reaches(edges, kind, operator, masked):
    shape = (14, 17)
    cells = np.ones(shape, bool)
    if masked:
        cells[5, 6:8] = False
    grid = Grid(shape, 1.0, edges, mask=Mask.of(cells) if masked else None)
    closed = Grid(shape, 1.0, tuple(e.replace("open", "periodic") for e in edges))
    f, g = kind(random_field(2, *shape))
    reach = REACH[operator]
    inside = grid.inside(reach)
    near = np.zeros(shape, bool)  # a missing cell within so many rows and columns
    for i, j in np.ndindex(shape):
        rows, columns = np.arange(i - reach, i + reach + 1), np.arange(j - reach, j + reach + 1)
        for places, size, edge in ((rows, shape[0], edges[0]), (columns, shape[1], edges[1])):
            near[i, j] |= edge == "open" and (places.min() < 0 or places.max() >= size)
        rows, columns = (
            np.where(p < 0, -1 - p, np.where(p >= n, 2 * n - 1 - p, p)) if e == "mirror" else p % n
            for p, n, e in ((rows, shape[0], edges[0]), (columns, shape[1], edges[1]))
        )
        near[i, j] |= not cells[np.ix_(rows, columns)].all()
    assert_array_equal(inside, ~near)
    for name, arguments in {"lap": (f,), "grad": (f, g), "d": (f, "x")}.items():
        own, whole = (np.asarray(one.operators(operator)[name](*arguments)) for one in (grid, closed))
        assert np.isfinite(own).all()
        assert_allclose(own[inside], whole[inside], rtol=0, atol=1e-13)


@pytest.mark.parametrize("operator", ["5-point", "9-point", "8th-order"])
def test_a_mask_is_a_wall_that_nothing_flows_through(operator):
    rows, columns = np.mgrid[:20, :22]
    disc = np.hypot(rows - 9.5, columns - 10.5) < 7
    grid = Grid((20, 22), 1.0, ("open", "open"), mask=Mask.of(disc))
    field = np.where(disc, random_field(20, 22), 1e9)  # what stands outside does not matter
    made = grid.laplacian(field, operator)[disc]
    assert np.abs(made).max() < 100
    assert abs(made.sum()) < 1e-11
    assert_array_equal(Grid.from_dict(json.loads(json.dumps(grid.to_dict()))).mask.cells, disc)


@pytest.mark.parametrize("edges", [("mirror", "mirror"), ("mirror", "periodic")])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_spectral_operator_of_mirror_edges_is_that_of_the_even_continuation(edges, kind):
    grid, f = Grid((8, 6), 0.5, edges), kind(random_field(8, 6))
    twice = Grid(continued(np.asarray(f), edges).shape, 0.5)
    whole = twice.laplacian(continued(np.asarray(f), edges), "spectral")[:8, :6]
    assert_allclose(np.asarray(grid.laplacian(f, "spectral")), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("edges", [*EDGES, ("open", "periodic"), ("open", "mirror")])
@pytest.mark.parametrize("operator", ["5-point", "9-point"])
def test_one_row_is_the_same_row_repeated(edges, operator):
    f, g = random_field(2, 1, 9)
    one, five = Grid((1, 9), 0.5, edges), Grid((5, 9), 0.5, ("periodic", edges[1]))
    tall_f, tall_g = (np.repeat(x, 5, axis=0) for x in (f, g))
    for made, repeated in (
        (one.laplacian(f, operator), five.laplacian(tall_f, operator)),
        (one.gradients(f, g, operator), five.gradients(tall_f, tall_g, operator)),
        (one.derivative(f, "x"), five.derivative(tall_f, "x")),
        (one.derivative(f, "y"), five.derivative(tall_f, "y")),
    ):
        assert_allclose(made, repeated[:1], rtol=0, atol=1e-13)
    # both stencils are the second difference there
    assert_allclose(one.laplacian(f, operator), one.laplacian(f, "5-point"), rtol=0, atol=1e-14)


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("h", [0.25, 3.0])
def test_the_laplacian_scales_by_one_over_spacing_squared_and_slopes_by_one_over_it(edges, operator, h):
    if operator == "spectral":
        edges = EDGES[0]
    f, g = random_field(2, 6, 9)
    unit, grid = Grid((6, 9), 1.0, edges), Grid((6, 9), h, edges)
    assert_allclose(grid.laplacian(f, operator), unit.laplacian(f, operator) / h**2, rtol=1e-12, atol=1e-12)
    assert_allclose(grid.gradients(f, g, operator), unit.gradients(f, g, operator) / h**2, rtol=1e-12, atol=1e-12)
    for axis in AXES:
        assert_allclose(grid.derivative(f, axis, operator), unit.derivative(f, axis, operator) / h, atol=1e-12)


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("shape", [(6, 9), (1, 8)])
def test_grad_of_the_5_point_stencil_is_the_mean_over_both_sides(edges, shape):
    f, g = random_field(2, *shape)
    grid = Grid(shape, 0.5, edges)
    sides = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    expected = sum((grid.shifted(f, *by) - f) * (grid.shifted(g, *by) - g) for by in sides) / 2 / 0.5**2
    assert_allclose(grid.gradients(f, g), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("operator", ["5-point", "9-point"])
def test_products_of_gradients_are_summed_by_parts(edges, operator):
    f, g = random_field(2, 6, 9)
    grid = Grid((6, 9), 0.5, edges)
    # float64 sums of 54 numbers up to 100
    assert_allclose(grid.gradients(f, g, operator).sum(), -(f * grid.laplacian(g, operator)).sum(), atol=1e-11)


@pytest.mark.parametrize(("ky", "kx"), [(1, 0), (2, 3)])
def test_spectral_derivatives_of_a_mode_are_exact(ky, kx):
    grid = Grid((12, 10), 0.3)
    rows, columns = np.mgrid[:12, :10]
    angle = 2 * np.pi * (ky * rows / 12 + kx * columns / 10)
    wave = 2 * np.pi * np.array([ky / 12, kx / 10]) / 0.3
    c, s = np.cos(angle), np.sin(angle)
    for n, axis in enumerate(AXES):
        assert_allclose(grid.derivative(c, axis, "spectral"), -wave[n] * s, atol=1e-12)
    assert_allclose(grid.gradients(c, s, "spectral"), -(wave @ wave) * s * c, atol=1e-11)


def test_the_highest_mode_has_no_spectral_derivative():
    zigzag = np.tile([1.0, -1.0], (4, 3))
    assert_allclose(Grid((4, 6)).derivative(zigzag, "x", "spectral"), 0, atol=1e-14)


@pytest.mark.parametrize(("ky", "kx"), [(1, 0), (0, 2), (2, 3)])
def test_central_differences_of_a_mode(ky, kx):
    grid = Grid((12, 10), 0.3)
    rows, columns = np.mgrid[:12, :10]
    angle = 2 * np.pi * (ky * rows / 12 + kx * columns / 10)
    for n, axis in enumerate(AXES):
        k = 2 * np.pi * (ky / 12, kx / 10)[n]
        assert_allclose(grid.derivative(np.cos(angle), axis), -np.sin(k) / 0.3 * np.sin(angle), atol=1e-13)


@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (2, 6)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_stiffest_wave_bounds_the_symbol_and_is_reached(shape, operator):
    grid = Grid(shape, 0.4)
    assert -grid.symbol(operator).min() <= grid.stiffest(operator) * (1 + 1e-15)
    if all(n % 2 == 0 or n == 1 for n in shape):  # the zigzag fits in
        assert_allclose(-grid.symbol(operator).min(), grid.stiffest(operator), rtol=1e-14)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("shape", [(6, 9), (1, 8)])
def test_numpy_and_torch_agree(operator, edges, shape):
    if operator == "spectral":
        edges = EDGES[0]
    f, g = random_field(2, 2, *shape)
    here, there = (Grid(shape, 0.5, edges).operators(operator) for _ in range(2))
    tf, tg = torch.from_numpy(f), torch.from_numpy(g)
    # float64 sums and transforms of numbers up to 100
    assert_close(there["lap"](tf), torch.from_numpy(here["lap"](f)), rtol=0, atol=1e-12)
    assert_close(there["grad"](tf, tg), torch.from_numpy(here["grad"](f, g)), rtol=0, atol=1e-12)
    for axis in AXES:
        assert_close(there["d"](tf, axis), torch.from_numpy(here["d"](f, axis)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_float32_fields_stay_float32(operator):
    field = torch.ones(6, 6)
    for made in (Grid((6, 6), 0.5).laplacian(field, operator), Grid((6, 6), 0.5).derivative(field, "x", operator)):
        assert made.dtype == torch.float32


# Symmetries


@pytest.mark.parametrize(
    ("shape", "edges", "quarters"),
    [((6, 6), EDGES[0], 1), ((6, 6), EDGES[1], 1), ((6, 6), EDGES[2], 2), ((4, 6), EDGES[0], 2)],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turns_and_mirror_images_leave_the_operators_as_they_are(shape, edges, quarters, kind, mirrored):
    f, g = random_field(2, 3, *shape)
    grid = Grid(shape, 0.5, edges)
    for quarter in range(quarters, 4, quarters):

        def turn(field, quarter=quarter):
            turned = np.rot90(np.asarray(field), quarter, (-2, -1))
            return kind(np.ascontiguousarray(turned[..., ::-1] if mirrored else turned))

        for operator in ("5-point", "9-point"):
            made = grid.laplacian(turn(f), operator), grid.gradients(turn(f), turn(g), operator)
            expected = turn(grid.laplacian(kind(f), operator)), turn(grid.gradients(kind(f), kind(g), operator))
            # the neighbours are added in another order
            assert_allclose(np.asarray(made[0]), np.asarray(expected[0]), rtol=0, atol=1e-13)
            assert_allclose(np.asarray(made[1]), np.asarray(expected[1]), rtol=0, atol=1e-12)


# Scalings and species

SCALING = Scaling((0.5, -1.0, 3.0), (0.5, 2.0, 10.0))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)])
def test_a_scaling_goes_there_and_back(kind, shape):
    values = kind(random_field(*shape))
    x = SCALING.to_training(values)
    by_hand = (np.asarray(values) - np.array([0.5, -1, 3])[:, None, None]) / np.array([0.5, 2, 10])[:, None, None]
    assert_allclose(np.asarray(x), by_hand, rtol=1e-15)
    assert_allclose(np.asarray(SCALING.to_values(x)), np.asarray(values), rtol=0, atol=1e-14)
    back = SCALING.velocity_to_values(SCALING.velocity_to_training(values))
    assert_allclose(np.asarray(back), np.asarray(values), rtol=1e-15)
    # a rate of change is the difference of two values
    moved = SCALING.to_training(values + 0.25 * values) - x
    assert_allclose(np.asarray(SCALING.velocity_to_training(0.25 * values)), np.asarray(moved), atol=1e-14)


def test_a_scaling_is_read_as_it_is_written():
    assert Scaling.from_dict(SCALING.to_dict()) == SCALING
    assert Scaling.from_dict({"shift": [1], "scale": [2]}) == Scaling((1.0,), (2.0,))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_scaling_of_version_2_gives_its_bytes(kind):
    scaling = Scaling.from_dict({"scale": 2.0, "shift": -1.0})
    values = kind(np.random.default_rng(0).random((2, 200, 200), dtype=np.float32) ** 3)  # many of them small
    assert_array_equal(np.asarray(scaling.to_training(values)), np.asarray(2 * values - 1))
    x = scaling.to_training(values)
    assert_array_equal(np.asarray(scaling.to_values(x)), np.asarray((x + 1) / 2))


def test_the_span_of_a_species():
    assert Species("u", "mol", -1.5, 2.0).span == 3.5


# Grids


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (0, 8)}, "a grid of 0 x 8 has no cells"),
        ({"shape": (8, 8), "spacing": 0.0}, "spacing = 0.0 is not possible"),
        ({"shape": (8, 8), "spacing": float("nan")}, "spacing = nan is not possible"),
        ({"shape": (8, 8), "edges": ("mirrors", "open")}, "unknown edges 'mirrors' .did you mean 'mirror'.*periodic"),
    ],
)
def test_a_grid_that_is_none_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        Grid(**values)


@pytest.mark.parametrize(
    ("shape", "edges", "operator", "reach", "message"),
    [
        ((8, 8), EDGES[0], "5-points", 1, "unknown operator '5-points' .did you mean '5-point'"),
        ((8, 8), ("open", "open"), "spectral", 1, "does not fit open and open edges.*5-point, 9-point or 8th-order"),
        ((8, 9), EDGES[0], "8th-order", 1, "height = 8 is too small for a stencil that reaches 4 cells.*9 or above"),
        (
            (2, 8),
            EDGES[0],
            "5-point",
            1,
            "height = 2 is too small for a stencil that reaches 1 cells.*3 or above, or 1",
        ),
        ((8, 4), EDGES[1], "9-point", 2, "width = 4 is too small for a stencil that reaches 2 cells.*5 or above"),
    ],
)
def test_an_operator_that_does_not_fit_is_refused(shape, edges, operator, reach, message):
    with pytest.raises(UserError, match=message):
        Grid(shape, 1.0, edges).refuse_operator(operator, reach)


@pytest.mark.parametrize(
    ("shape", "operator", "reach"),
    [
        ((3, 3), "9-point", 1),
        ((1, 5), "5-point", 2),
        ((2, 2), "spectral", 2),
        ((9, 1), "8th-order", 1),
        ((1, 1), "5-point", 9),
    ],
)
def test_an_operator_that_just_fits_is_taken(shape, operator, reach):
    Grid(shape).refuse_operator(operator, reach)
    assert np.isfinite(Grid(shape).laplacian(random_field(*shape), operator)).all()
