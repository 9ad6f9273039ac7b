"""The local field: its stencil, symmetries, locality, exact linear fields, activations."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid, Mask, laplacian
from p2d.flow import divergence
from p2d.flow.velocity import (
    LocalField,
    at_cells,
    bound_features,
    differences,
    feature_statistics,
    lattice,
    own_shares,
    rings,
    stencil,
)
from p2d.flow.velocity import laplacian as edges

GRIDS = [(8, 8), (6, 11), (9, 5)]
RADII = [1.0, 1.5, 2.0]
ACTIVATIONS = {
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "tanh": lambda z: 1 - 2 / (torch.exp(2 * z) + 1),
    "softplus": lambda z: torch.log(1 + torch.exp(z)),
    "relu": lambda z: z.clamp(min=0),
    "leaky_relu": lambda z: torch.where(z > 0, z, 0.01 * z),
}
# Two layers in float64 of numbers up to about 100, summed in an order that may depend on a cell's place.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_field(radius: float, activation: str = "silu") -> LocalField:
    """A field in float64 whose features are standardised by numbers far from 0 and 1."""
    features = 2 + 2 * len(rings(radius))
    mean = torch.randn(features, generator=seeded(1))
    std = 0.3 + torch.rand(features, generator=seeded(2))
    return LocalField((9, 5), radius, activation, mean, std, seeded()).double()


def random_states(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=seeded(3), dtype=torch.float64)


@pytest.mark.parametrize(
    ("radius", "sizes"),
    [
        (0.0, []),
        (0.9, []),
        (1.0, [4]),
        (1.5, [4, 4]),
        (2.0, [4, 4, 4]),
        (5**0.5, [4, 4, 4, 8]),
        (3.0, [4, 4, 4, 8, 4, 4]),
        (13**0.5, [4, 4, 4, 8, 4, 4, 8, 8]),  # whose square is 13 less rounding
        (5.0, [4, 4, 4, 8, 4, 4, 8, 8, 4, 8, 4, 8, 12]),  # at 5 cells both (5, 0) and (3, 4)
    ],
)
def test_rings_are_the_neighbours_within_the_radius_by_distance(radius, sizes):
    found = rings(radius)
    assert [len(ring) for ring in found] == sizes
    distances = [{math.hypot(*offset) for offset in ring} for ring in found]
    assert all(len(of_ring) == 1 for of_ring in distances)
    assert all(max(near) < min(far) for near, far in itertools.pairwise(distances))
    offsets = {offset for ring in found for offset in ring}
    every = itertools.product(range(-9, 10), repeat=2)
    assert offsets == {(i, j) for i, j in every if 0 < math.hypot(i, j) <= radius}


def test_the_difference_to_the_edges_is_the_laplacian():
    x = random_states(2, 6, 11)
    assert_close(edges(x), laplacian(x), rtol=0, atol=1e-14)  # float64 sums of five numbers of order 1


WALLS = {
    "mirror": Grid((6, 11), edges=("mirror", "mirror")),
    "open": Grid((6, 11), edges=("open", "periodic")),
    "mask": Grid((6, 11), mask=Mask.of(np.random.default_rng(0).random((6, 11)) < 0.7)),
    "line": Grid((1, 11)),
    "open line": Grid((1, 11), edges=("periodic", "open")),
}


@pytest.mark.parametrize("grid", WALLS.values(), ids=WALLS)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("species", [1, 3])
def test_neighbours_beyond_walls_are_those_of_the_grid(grid, radius, species):
    x = torch.randn(2, species, *grid.shape, generator=seeded(3), dtype=torch.float64)
    parts = [x, *(sum(grid.shifted(x, *by) - x for by in ring) for ring in rings(radius))]
    # float64 sums of up to 5 numbers of order 1, in another order
    assert_close(stencil(x, radius, grid), torch.cat(parts, dim=1), rtol=0, atol=1e-13)
    field = LocalField((5,), radius, generator=seeded(), species=species, grid=grid).double()
    velocity = field(x)
    assert velocity.shape == x.shape
    if grid.mask:
        assert not velocity[..., ~torch.from_numpy(grid.mask.cells)].any()
    else:  # a field of any size with the same edges
        longer = torch.cat([x, x], dim=-1)
        inside = slice(2, 11 - 2)  # where the stencil does not reach the other copy
        assert_close(field(longer)[..., inside], velocity[..., inside], rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", WALLS.values(), ids=WALLS)
def test_a_lattice_is_what_a_grid_knows_the_surroundings_of(grid):
    try:
        cells = lattice(grid, 2, 1)
    except UserError:
        assert not grid.inside(1)[::2, ::2].any()
        return
    rows, columns = cells // grid.shape[1], cells % grid.shape[1]
    assert not (rows % 2).any() and not (columns % 2).any()
    assert grid.inside(1)[rows, columns].all() and len(cells) == grid.inside(1)[::2, ::2].sum()


def test_a_grid_without_known_surroundings_is_refused():
    with pytest.raises(UserError, match=r"no cell of a grid of 3 x 4 .* 2 cells away"):
        lattice(Grid((3, 4), edges=("open", "open")), 1, 2)


def test_states_have_cells_of_their_own_or_all_the_same():
    x = torch.arange(24.0).view(2, 1, 3, 4)
    assert_close(at_cells(x, torch.tensor([5, 0])), x.flatten(2)[..., [5, 0]], rtol=0, atol=0)
    own = at_cells(x, torch.tensor([[1, 2], [7, 11]]))
    assert own.tolist() == [[[1.0, 2.0]], [[19.0, 23.0]]]
    assert_close(at_cells(x, None), x.flatten(2), rtol=0, atol=0)


@pytest.mark.parametrize("grid", [*WALLS.values(), Grid((2, 3)), Grid((8, 9))])
@pytest.mark.parametrize("radius", RADII)
def test_the_share_of_a_cell_in_its_own_differences(grid, radius):
    shares = own_shares(radius, grid)
    cells = torch.eye(grid.shape[0] * grid.shape[1]).view(-1, *grid.shape)
    expected = torch.stack([differences(cells, ring, grid).flatten(1).diagonal() for ring in rings(radius)])
    assert_close(shares.expand_as(expected), expected, rtol=0, atol=0)
    assert shares.shape[1] == (1 if grid.is_closed and "mirror" not in grid.edges else len(cells))


def test_a_constant_species_is_not_blown_up_to_its_rounding():
    x = torch.full((4, 2, 8, 8), 0.1)
    x[:, 0] = torch.rand(4, 8, 8, generator=seeded())
    mean, std = feature_statistics(x)
    z = LocalField((3,), mean=mean, std=std).standardised(x)
    assert z[:, [1, 3]].abs().max() < 0.2


def test_statistics_and_bounds_are_of_cells_whose_surroundings_are_known():
    whole = random_states(3, 12, 13).float()
    grid = Grid((8, 9), edges=("open", "open"))
    mean, std = feature_statistics(whole[..., 2:10, 2:11], 1.5, grid)
    parts = stencil(whole, 1.5)[..., 3:9, 3:10].double()
    assert_close(mean, parts.mean(dim=(0, 2, 3)).float(), rtol=1e-5, atol=1e-6)  # float32 numbers of order 1
    assert_close(std, parts.std(dim=(0, 2, 3), correction=0).float(), rtol=1e-5, atol=0)
    field = LocalField((3,), 1.5, mean=mean, std=std, generator=seeded(), grid=grid)
    bound_features(field, whole[..., 2:10, 2:11])
    standardised = (parts - mean[:, None, None]) / std[:, None, None]
    assert_close(field.highest.double(), standardised.amax(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_the_state_is_left_as_it_was():
    x = random_states(2, 6, 11)
    before = x.clone()
    random_field(2.0)(x)
    assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (3, -5)])
def test_shifts_commute_with_the_field(height, width, radius, shift):
    field, x = random_field(radius), random_states(2, height, width)
    assert_close(field(x.roll(shift, (-2, -1))), field(x).roll(shift, (-2, -1)), **ROUNDING)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_commute_with_the_field(height, width, radius, turns):
    field, x = random_field(radius), random_states(2, height, width)
    assert_close(field(x.rot90(turns, (-2, -1))), field(x).rot90(turns, (-2, -1)), **ROUNDING)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("axis", [-2, -1])
def test_mirror_images_commute_with_the_field(height, width, radius, axis):
    field, x = random_field(radius), random_states(2, height, width)
    assert_close(field(x.flip(axis)), field(x).flip(axis), **ROUNDING)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(("row", "column"), [(3, 4), (0, 0), (5, 10)])
@pytest.mark.parametrize("species", [0, 1])
def test_a_cell_acts_on_its_own_neighbourhood_and_no_further(radius, row, column, species):
    field, x = random_field(radius), random_states(1, 6, 11)
    moved = x.clone()
    moved[0, species, row, column] += 0.5
    felt = torch.zeros(6, 11, dtype=torch.bool)
    for down, right in itertools.product(range(-2, 3), repeat=2):
        felt[(row + down) % 6, (column + right) % 11] = math.hypot(down, right) <= radius
    change = (field(moved) - field(x))[0].abs().amax(dim=0)
    assert change[felt].min() > 1e-4
    assert change[~felt].max() < 1e-12  # float64 rounding


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(("height", "width"), [(5, 5), (5, 9), (10, 6)])
def test_inside_a_crop_the_field_is_that_of_the_whole(radius, height, width):
    field, x, rim = random_field(radius), random_states(2, 12, 13), int(radius)
    inside = field(x)[..., 1 + rim : 1 + height - rim, 2 + rim : 2 + width - rim]
    assert_close(field(x[..., 1 : 1 + height, 2 : 2 + width])[..., rim:-rim, rim:-rim], inside, **ROUNDING)


@pytest.mark.parametrize("radius", RADII)
def test_a_state_has_the_same_velocity_alone_and_in_a_batch(radius):
    field, x = random_field(radius), random_states(3, 6, 11)
    assert_close(torch.cat([field(state) for state in x.split(1)]), field(x), **ROUNDING)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
def test_a_last_layer_set_by_hand_is_linear_reaction_and_diffusion(height, width, radius):
    field, x = random_field(radius), random_states(2, height, width)
    # du/dt = 0.02 - 0.3 u + 0.1 v + 0.16 lap u, dv/dt = -0.4 u + 0.05 v + 0.08 lap v
    constant = torch.tensor([0.02, 0.0], dtype=torch.float64)
    linear = torch.zeros(2, len(field.mean), dtype=torch.float64)
    linear[0, :4] = torch.tensor([-0.3, 0.1, 0.16, 0.0])
    linear[1, :4] = torch.tensor([-0.4, 0.05, 0.0, 0.08])
    with torch.no_grad():
        field.last.zero_()
        field.last[:, 0] = constant + linear @ field.mean
        field.last[:, 1 : 1 + len(field.mean)] = linear * field.std
    u, v = x[:, 0], x[:, 1]
    du = 0.02 - 0.3 * u + 0.1 * v + 0.16 * laplacian(u)
    dv = -0.4 * u + 0.05 * v + 0.08 * laplacian(v)
    # the numbers above pass through float32 once: 6e-8 of terms up to 2
    assert_close(field(x), torch.stack([du, dv], dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize(("ky", "kx"), [(0, 0), (1, 0), (2, 3)])
def test_a_fourier_mode_is_an_eigenvector_of_every_ring(height, width, ky, kx):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    down, right = 2 * math.pi * ky / height, 2 * math.pi * kx / width
    mode = torch.cos(down * rows.double() + right * columns.double() + 0.3).expand(1, 2, height, width)
    values = [
        2 * math.cos(down) + 2 * math.cos(right) - 4,
        4 * math.cos(down) * math.cos(right) - 4,
        2 * math.cos(2 * down) + 2 * math.cos(2 * right) - 4,
        4 * math.cos(down) * math.cos(2 * right) + 4 * math.cos(2 * down) * math.cos(right) - 8,
    ]
    # float64: nine terms of order 1, the cosines within 1e-14 of their angles
    for ring, value in zip(rings(5**0.5), values, strict=True):
        assert_close(differences(mode, ring), value * mode, rtol=0, atol=1e-13)
    for radius, known in zip([*RADII, 5**0.5], (1, 2, 3, 4), strict=True):
        expected = torch.cat([mode, *(value * mode for value in values[:known])], dim=1)
        assert_close(stencil(mode, radius), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("radius", RADII)
def test_a_field_is_its_formula(radius, activation):
    field, x = random_field(radius, activation), random_states(2, 6, 11)
    z = (stencil(x, radius).flatten(2) - field.mean[:, None]) / field.std[:, None]
    h = z
    for weight, bias in zip(field.weights, field.biases, strict=True):
        h = ACTIVATIONS[activation](weight @ h + bias)
    expected = field.last @ torch.cat([torch.ones_like(z[:, :1]), z, h], dim=1)
    # float64: the exponentials of arguments up to 10 are written in another form
    assert_close(field(x), expected.unflatten(-1, (6, 11)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(("count", "height", "width"), [(37, 6, 11), (5, 8, 8)])
def test_features_are_standardised_by_the_statistics_of_their_data(radius, count, height, width):
    x = (0.4 + 0.1 * random_states(count, height, width)).float()
    mean, std = feature_statistics(x, radius)
    z = LocalField((3,), radius, "silu", mean, std, seeded()).standardised(x)
    # float32 features: 1e-7 of a mean of 4 spreads, and sums of 300 to 2,400 of them
    assert_close(z.mean(dim=(0, 2)), torch.zeros(len(mean)), rtol=0, atol=1e-5)
    assert_close(z.square().mean(dim=(0, 2)), torch.ones(len(mean)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 3, 8, 8), (1, 1, 2, 8, 8), (2, 8)])
def test_a_shape_that_is_not_a_batch_of_states_is_refused(shape):
    with pytest.raises(UserError, match=str(list(shape)).replace("[", r"\[").replace("]", r"\]")):
        random_field(1.0)(torch.zeros(shape, dtype=torch.float64))


def test_weights_depend_on_the_generator_alone():
    x = random_states(1, 6, 11).float()
    first, same, other = (LocalField((8,), generator=seeded(s))(x) for s in (4, 4, 5))
    assert_close(first, same, rtol=0, atol=0)
    assert (first - other).abs().mean() > 0.1


def test_beyond_what_the_data_showed_the_field_is_what_it_is_at_the_bound():
    field, x = random_field(1.0), random_states(3, 6, 11)
    plain, far = field(x), 5 * random_states(2, 6, 11)
    unbounded = field(far)
    bound_features(field, x)
    assert_close(field(x), plain, **ROUNDING)
    z = field.standardised(far)
    assert_close(field(far).flatten(2), field.pointwise(torch.clamp(z, field.lowest[:, None], field.highest[:, None])))
    assert (field(far) - unbounded).abs().max() > 0.1
    seen = field.standardised(x)
    assert_close(field.lowest, seen.amin(dim=(0, 2)), rtol=0, atol=0)
    assert_close(field.highest, seen.amax(dim=(0, 2)), rtol=0, atol=0)


def test_the_divergence_of_a_bounded_field_is_that_of_its_dense_jacobian():
    field, x = random_field(1.0), random_states(1, 4, 5)
    bound_features(field, 0.3 * random_states(2, 4, 5))
    jacobian = torch.func.jacrev(field)(x).flatten(4).flatten(0, 3)
    trace = jacobian.diagonal().sum()
    assert_close(divergence.exact(field, x)[0][0], trace, **ROUNDING)
