"""The flow model: a local, isotropic velocity field v(x), periodic, on any grid.

A convolution with weights tied by distance (radius 1: centre and 4 edges; 1.5: also the corners of a 3x3 stencil), then
1x1 layers. The tied convolution is written as its independent parts, standardised: the species, and for each distance
the sum of their differences to the neighbours there. The differences are 10 to 100 times smaller than the species, and
would be lost otherwise. On smooth patterns the neighbours at one distance say nearly what those at another say, and the
direction between the two is only noise: radius 1 by default.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2d.config import Activation
from p2d.errors import UserError

Ring = tuple[tuple[int, int], ...]  # offsets, rows and columns, of the neighbours at one distance
EDGES: Ring = ((-1, 0), (0, -1), (0, 1), (1, 0))
# Spread of the first layer's weights. Small: smooth hidden units, nearly low polynomials. With the last layer solved
# (160 snapshots) spreads of 0.5, 0.3, 0.15 and 0.07 gave cosines of 0.994, 0.997, 0.9993 and 0.9997 on life, and 0.990,
# 0.996, 0.9988 and 0.9981 on spirals.
SPREAD = 0.15
LEAK = 0.01  # slope of torch's leaky_relu below 0
UNBOUNDED = 1e30  # finite, as averages of weights are taken of it


def rings(radius: float) -> tuple[Ring, ...]:
    """The neighbours within a radius (cells), by distance, nearest first, without the cell itself."""
    reach = range(-math.floor(radius), math.floor(radius) + 1)
    offsets = [(i, j) for i in reach for j in reach if 0 < i * i + j * j <= radius * radius + 1e-9]
    distances = sorted({i * i + j * j for i, j in offsets})
    return tuple(tuple(o for o in offsets if o[0] ** 2 + o[1] ** 2 == d) for d in distances)


def differences(x: Tensor, ring: Ring) -> Tensor:
    """Sum of the differences to the neighbours of a ring, periodic, of [..., H, W]."""
    total = -len(ring) * x
    for offset in ring:
        total += x.roll(offset, (-2, -1))
    return total


def edges(x: Tensor) -> Tensor:
    """Sum of the differences to the 4 edge neighbours: the 5-point Laplacian of [..., H, W], periodic."""
    return differences(x, EDGES)


def stencil(x: Tensor, radius: float) -> Tensor:
    """Independent parts of a tied convolution of x [B, 2, H, W], linear in x: species, and differences by ring.

    Returns:
        [B, 2 + 2 R, H, W] for R rings within the radius: u, v, then each ring's differences of u and of v.
    """
    return torch.cat([x, *(differences(x, ring) for ring in rings(radius))], dim=1)


def at_cells(fields: Tensor, stride: int) -> Tensor:
    """Fields [..., H, W] at the P cells of every `stride`-th row and column, [..., P]."""
    return fields[..., ::stride, ::stride].flatten(-2)


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
    """v(x) for states x [B, 2, H, W] in training coordinates; the same shape, in units of x per unit time.

    The last layer is linear in its basis (1, features, hidden units), so that it can be solved for exactly.

    Args:
        hidden: widths of the hidden layers.
        radius: of the stencil, in cells; R rings of neighbours and S = 2 + 2 R features.
        activation: of the hidden layers.
        mean, std: of the stencil features over the training data, [S].
        generator: source of the initial weights.

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
    ) -> None:
        super().__init__()
        self.radius = radius
        self.activation_name: Activation = activation
        self.activation = activation_of(activation)
        features = 2 + 2 * len(rings(radius))
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
        self.last = nn.Parameter(torch.randn(2, 1 + features + hidden[-1], generator=generator) / hidden[-1] ** 0.5)

    def standardised(self, x: Tensor) -> Tensor:
        """Standardised stencil features z [B, S, H * W] of x."""
        return (stencil(x, self.radius).flatten(2) - self.mean[:, None]) / self.std[:, None]

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
        """v [B, 2, P] from the features z [B, S, P] of the same cells."""
        z = self.bounded(z)
        constant, linear, of_units = self.last.split([1, z.shape[1], self.last.shape[1] - 1 - z.shape[1]], dim=1)
        return of_units @ self.units(z) + linear @ z + constant  # the basis is not put together: half the time

    def with_divergence(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """v [2, P], and each cell's own share of its divergence [P], from the features z [S, P] of the same cells.

        How a layer answers to the cell's own u and v is carried through the layers beside its values; to first order
        in both, so that the gradient of a loss takes one more derivative and not two.
        """
        within = self.bounded(z)
        own = [self.centre_response(species)[:, None] for species in range(2)]
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
        if x.ndim != 4 or x.shape[1] != 2:
            raise UserError(f"states have shape {list(x.shape)}; they must be [B, 2, H, W]")
        return self.pointwise(self.standardised(x)).unflatten(-1, x.shape[-2:])

    def centre_response(self, species: int) -> Tensor:
        """How the standardised features of a cell change with that cell's own u (0) or v (1), [S]: constant."""
        response = torch.zeros_like(self.std)
        response[species] = 1.0
        for n, ring in enumerate(rings(self.radius)):
            response[2 + 2 * n + species] = -len(ring)
        return response / self.std


def feature_statistics(x: Tensor, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean and spread [S] of the stencil features over states x [N, 2, H, W]."""
    sums = []
    for state in x.split(8):
        z = stencil(state, radius).double()
        sums.append(torch.stack([z.sum(dim=(0, 2, 3)), z.square().sum(dim=(0, 2, 3))]))
    mean, square = torch.stack(sums).sum(dim=0) / (len(x) * x[0, 0].numel())
    std = (square - mean**2).clamp(min=1e-20).sqrt()
    return mean.float(), std.float()


@torch.no_grad()
def bound_features(field: LocalField, x: Tensor) -> None:
    """Bound a field's standardised features by what states x [N, 2, H, W] show."""
    ends = []
    for part in x.split(8):
        z = field.standardised(part.to(field.mean))
        ends.append(torch.stack([z.amin(dim=(0, 2)), z.amax(dim=(0, 2))]))
    field.lowest.copy_(torch.stack(ends)[:, 0].amin(dim=0))
    field.highest.copy_(torch.stack(ends)[:, 1].amax(dim=0))
