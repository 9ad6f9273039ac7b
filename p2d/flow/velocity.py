"""The flow model: a local, isotropic velocity field v(x) of C species, on a grid of any size with the edges it knows.

A convolution with weights tied by distance (radius 1: centre and 4 edges; 1.5: also the corners of a 3x3 stencil), then
1x1 layers. The tied convolution is written as its independent parts, standardised: the species, and for each distance
the sum of their differences to the neighbours there. The differences are 10 to 100 times smaller than the species, and
would be lost otherwise. On smooth patterns the neighbours at one distance say nearly what those at another say, and the
direction between the two is only noise: radius 1 by default. Beyond a wall neighbours are as in `Grid.shifted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2d.config import Activation
from p2d.errors import UserError
from p2d.fields import Grid

Ring = tuple[tuple[int, int], ...]  # offsets, rows and columns, of the neighbours at one distance
EDGES: Ring = ((-1, 0), (0, -1), (0, 1), (1, 0))
# Spread of the first layer's weights. Small: smooth hidden units, nearly low polynomials. With the last layer solved
# (160 snapshots) spreads of 0.5, 0.3, 0.15 and 0.07 gave cosines of 0.994, 0.997, 0.9993 and 0.9997 on life, and 0.990,
# 0.996, 0.9988 and 0.9981 on spirals.
SPREAD = 0.15
LEAK = 0.01  # slope of torch's leaky_relu below 0
PERIODIC = Grid((2, 2))  # two dimensions, of any size
CONSTANT = 1e-6  # spread relative to the mean, in float32, below which a feature is constant
UNBOUNDED = 1e30  # finite, as averages of weights are taken of it


def rings(radius: float) -> tuple[Ring, ...]:
    """The neighbours within a radius (cells), by distance, nearest first, without the cell itself."""
    reach = range(-math.floor(radius), math.floor(radius) + 1)
    offsets = [(i, j) for i in reach for j in reach if 0 < i * i + j * j <= radius * radius + 1e-9]
    distances = sorted({i * i + j * j for i, j in offsets})
    return tuple(tuple(o for o in offsets if o[0] ** 2 + o[1] ** 2 == d) for d in distances)


def differences(x: Tensor, ring: Ring, grid: Grid = PERIODIC) -> Tensor:
    """Sum of the differences to the neighbours of a ring, of [..., H, W]."""
    total = -len(ring) * x
    for down, right in ring:
        total += grid.shifted(x, -down, -right)
    return total


def laplacian(x: Tensor, grid: Grid = PERIODIC) -> Tensor:
    """Sum of the differences to the 4 edge neighbours: the 5-point Laplacian of [..., H, W], lengths in cells."""
    return differences(x, EDGES, grid)


def stencil(x: Tensor, radius: float, grid: Grid = PERIODIC) -> Tensor:
    """Independent parts of a tied convolution of x [B, C, H, W], linear in x: species, and differences by ring.

    Returns:
        [B, C + C R, H, W] for R rings within the radius: the species, then each ring's differences of each of them.
    """
    return torch.cat([x, *(differences(x, ring, grid) for ring in rings(radius))], dim=1)


@lru_cache(maxsize=64)
def own_shares(radius: float, grid: Grid) -> Tensor:
    """What a cell's own value adds to its differences, ring by ring: [R, H W], [R, 1] where it is alike in all cells.

    Minus the number of a ring's neighbours, without those that are the cell itself: beyond a wall, along an axis of
    length 1, around a small periodic grid.
    """
    cells = torch.arange(grid.shape[0] * grid.shape[1]).view(grid.shape)
    shares = torch.stack(
        [sum((grid.shifted(cells, *by) == cells).float() for by in ring) - len(ring) for ring in rings(radius)]
    ).flatten(1)
    return shares[:, :1] if (shares == shares[:, :1]).all() else shares


@lru_cache(maxsize=64)
def lattice(grid: Grid, stride: int = 1, reach: int = 0) -> Tensor:
    """Numbers [P] of the cells in every `stride`-th row and column whose neighbours up to `reach` cells are known.

    Raises:
        UserError: there is none.
    """
    every = torch.zeros(grid.shape, dtype=torch.bool)
    every[::stride, ::stride] = True
    cells = (every & torch.from_numpy(grid.inside(reach))).flatten().nonzero()[:, 0]
    if not len(cells):
        size = f"{grid.shape[0]} x {grid.shape[1]}"
        raise UserError(f"no cell of a grid of {size} has known neighbours {reach} cells away: it is too small")
    return cells


def at_cells(fields: Tensor, cells: Tensor | None) -> Tensor:
    """Fields [..., H, W] at cells of these numbers, [P] or, of [B, S, H, W], [B, P] for each of B: [..., P].

    Without numbers, at all cells.
    """
    flat = fields.flatten(-2)
    if cells is None:
        return flat
    if cells.ndim == 1:
        return flat.index_select(-1, cells.to(flat.device))
    return flat.gather(-1, cells.to(flat.device)[:, None].expand(-1, flat.shape[1], -1))


def activation_of(name: Activation) -> Callable[[Tensor], Tensor]:
    """The activation of this name."""
    return getattr(functional, name)


def with_slope(name: Activation, a: Tensor) -> tuple[Tensor, Tensor]:
    """An activation and its derivative at a, sharing what the two have in common."""
    if name == "silu":
        share = torch.sigmoid(a)
        value = a * share
        return value, share + value * (1 - share)
    value = activation_of(name)(a)
    if name == "tanh":
        return value, 1 - value.square()
    if name == "softplus":
        return value, torch.sigmoid(a)
    return value, torch.full_like(a, 0.0 if name == "relu" else LEAK).masked_fill(a > 0, 1.0)


class LocalField(nn.Module):
    """v(x) for states x [B, C, H, W] in training coordinates; the same shape, in units of x per unit time.

    The last layer is linear in its basis (1, features, hidden units), so that it can be solved for exactly.

    Args:
        hidden: widths of the hidden layers.
        radius: of the stencil, in cells; R rings of neighbours and S = C + C R features.
        activation: of the hidden layers.
        mean, std: of the stencil features over the training data, [S].
        generator: source of the initial weights.
        species: C.
        grid: whose edges the field knows, of any size; with a mask, the grid itself. Outside a mask nothing moves.

    Buffers `lowest` and `highest` [S] bound the standardised features, without bounds at first: beyond what the data
    ever showed the field is what it is at the bound, where it would else be an extrapolation that rollouts blow up by.
    """

    def __init__(
        self,
        hidden: tuple[int, ...],
        radius: float = 1.0,
        activation: Activation = "silu",
        mean: Tensor | None = None,
        std: Tensor | None = None,
        generator: torch.Generator | None = None,
        species: int = 2,
        grid: Grid = PERIODIC,
    ) -> None:
        super().__init__()
        self.radius = radius
        self.species = species
        self.grid = grid
        self.activation_name: Activation = activation
        self.activation = activation_of(activation)
        features = species * (1 + len(rings(radius)))
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(features) if mean is None else mean)
        self.register_buffer("std", torch.ones(features) if std is None else std)
        self.lowest: Tensor
        self.highest: Tensor
        self.register_buffer("lowest", torch.full((features,), -UNBOUNDED))
        self.register_buffer("highest", torch.full((features,), UNBOUNDED))
        widths = [features, *hidden]
        self.weights = nn.ParameterList(
            torch.randn(b, a, generator=generator) * (SPREAD if i == 0 else a**-0.5)
            for i, (a, b) in enumerate(zip(widths, hidden, strict=False))
        )
        self.biases = nn.ParameterList(torch.randn(b, 1, generator=generator) for b in hidden)
        self.last = nn.Parameter(
            torch.randn(species, 1 + features + hidden[-1], generator=generator) / hidden[-1] ** 0.5
        )

    @property
    def reach(self) -> int:
        """How many cells away the stencil sees."""
        return math.floor(self.radius)

    def standardised(self, x: Tensor) -> Tensor:
        """Standardised stencil features z [B, S, H * W] of x."""
        z = stencil(x, self.radius, self.grid.sized(x.shape)).flatten(2)
        return (z - self.mean[:, None]) / self.std[:, None]

    def bounded(self, z: Tensor) -> Tensor:
        """Features z [B, S, P] within the bounds of the data."""
        return torch.minimum(torch.maximum(z, self.lowest[:, None]), self.highest[:, None])

    def units(self, z: Tensor) -> Tensor:
        """The last hidden layer [B, K - S - 1, P] for features z [B, S, P] within bounds."""
        h = z
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = self.activation(weight @ h + bias)
        return h

    def basis(self, z: Tensor) -> Tensor:
        """What the last layer combines: (1, z, hidden units), [B, K, P] for features z [B, S, P]."""
        z = self.bounded(z)
        return torch.cat([torch.ones_like(z[:, :1]), z, self.units(z)], dim=1)

    def pointwise(self, z: Tensor) -> Tensor:
        """v [B, C, P] from the features z [B, S, P] of the same cells."""
        z = self.bounded(z)
        constant, linear, of_units = self.last.split([1, z.shape[1], self.last.shape[1] - 1 - z.shape[1]], dim=1)
        return of_units @ self.units(z) + linear @ z + constant  # the basis is not put together: half the time

    def with_divergence(self, z: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """v [C, P], and each cell's own share of its divergence [P], from the features z [S, P] of the same cells.

        How a layer answers to the cell's own species is carried through the layers beside its values; to first order
        in both, so that the gradient of a loss takes one more derivative and not two.

        Args:
            shares: of the same cells, see `own_shares`.
        """
        within = self.bounded(z)
        own = [self.centre_response(species, shares) for species in range(self.species)]
        if not torch.equal(within, z):  # beyond the bounds nothing changes
            own = [response * (within == z) for response in own]
        constant, linear, of_units = self.last.split([1, len(z), self.last.shape[1] - 1 - len(z)], dim=1)
        trace = sum(linear[species] @ response for species, response in enumerate(own))
        h, slope = within, None
        for weight, bias in zip(self.weights, self.biases, strict=True):
            own = [weight @ (response if slope is None else slope * response) for response in own]
            h, slope = with_slope(self.activation_name, torch.addmm(bias, weight, h))
        # Added up before they meet the slopes: with one hidden layer they are constants still.
        answer = sum(of_units[species][:, None] * response for species, response in enumerate(own))
        trace = trace + (slope * answer).sum(dim=0)
        return torch.addmm(constant, of_units, h) + linear @ within, trace

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.species:
            raise UserError(f"states have shape {list(x.shape)}; they must be [B, {self.species}, H, W]")
        return self.grid.sized(x.shape).masked(self.pointwise(self.standardised(x)).unflatten(-1, x.shape[-2:]))

    def centre_response(self, species: int, shares: Tensor) -> Tensor:
        """How the standardised features of cells change with the cell's own value of a species: constants, [S, P].

        Args:
            shares: of these cells, [R, P], see `own_shares`.
        """
        response = self.std.new_zeros(1 + len(shares), self.species, shares.shape[1])
        response[0, species] = 1.0
        response[1:, species] = shares.to(response)
        return response.flatten(0, 1) / self.std[:, None]


def feature_statistics(x: Tensor, radius: float = 1.0, grid: Grid = PERIODIC) -> tuple[Tensor, Tensor]:
    """Mean and spread [S] of the stencil features over states x [N, C, H, W], where the stencil fits."""
    return statistics_of(feature_sums(x, radius, grid))


def feature_sums(x: Tensor, radius: float = 1.0, grid: Grid = PERIODIC) -> Tensor:
    """Number of cells, sums and sums of squares of the stencil features there, float64 [3, S]; sums add up."""
    grid = grid.sized(x.shape)
    cells = lattice(grid, 1, math.floor(radius))
    sums = []
    for state in x.split(8):
        z = at_cells(stencil(state, radius, grid), cells).double()
        count = z.new_full((z.shape[1],), len(z) * len(cells))
        sums.append(torch.stack([count, z.sum(dim=(0, 2)), z.square().sum(dim=(0, 2))]))
    return torch.stack(sums).sum(dim=0)


def statistics_of(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread [S] of features with these sums [3, S]."""
    mean, square = sums[1:] / sums[0]
    # What does not vary is not blown up to its rounding errors.
    std = (square - mean**2).clamp(min=1e-20).sqrt().maximum(CONSTANT * mean.abs())
    return mean.float(), std.float()


@torch.no_grad()
def bound_features(field: LocalField, x: Tensor) -> None:
    """Bound a field's standardised features by what states x [N, C, H, W] show, where the stencil fits."""
    cells = lattice(field.grid.sized(x.shape), 1, field.reach)
    ends = []
    for part in x.split(8):
        z = at_cells(field.standardised(part.to(field.mean))[..., None, :], cells)
        ends.append(torch.stack([z.amin(dim=(0, 2)), z.amax(dim=(0, 2))]))
    field.lowest.copy_(torch.stack(ends)[:, 0].amin(dim=0))
    field.highest.copy_(torch.stack(ends)[:, 1].amax(dim=0))
