"""The flow model: a local, isotropic velocity field v(x), periodic, on any grid.

A 3x3 convolution with tied weights (centre, 4 edges and, if wanted, 4 corners), then 1x1 layers with SiLU. The tied
convolution is written as its independent parts, standardised: the species, and the sums of their differences to the
edges and to the corners. The differences are 10 to 100 times smaller than the species, and would be lost otherwise.
On smooth patterns corners say nearly what edges say, and the direction between the two is only noise: off by default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2d.errors import UserError

# Spread of the first layer's weights. Small: smooth hidden units, which with the last layer solved reach cosine 0.999
# where a spread of 1 ends at 0.96 (waves and life, 112 snapshots).
SPREAD = 0.3


def edges(x: Tensor) -> Tensor:
    """Sum of the differences to the 4 edge neighbours, periodic: the 5-point Laplacian of [..., H, W]."""
    rows = x.roll(1, -2) + x.roll(-1, -2)
    return rows + x.roll(1, -1) + x.roll(-1, -1) - 4 * x


def corners(x: Tensor) -> Tensor:
    """Sum of the differences to the 4 corner neighbours, periodic, of [..., H, W]."""
    rows = x.roll(1, -2) + x.roll(-1, -2)
    return rows.roll(1, -1) + rows.roll(-1, -1) - 4 * x


def stencil(x: Tensor, with_corners: bool) -> Tensor:
    """Independent parts of a tied 3x3 convolution of x [B, 2, H, W], linear in x: u, v, edges and, if wanted, corners.

    Returns:
        [B, 4, H, W], or [B, 6, H, W] with corners.
    """
    parts = [x, edges(x), corners(x)] if with_corners else [x, edges(x)]
    return torch.cat(parts, dim=1)


class LocalField(nn.Module):
    """v(x) for states x [B, 2, H, W] in training coordinates; the same shape, in units of x per unit time.

    The last layer is linear in its basis (1, features, hidden units), so that it can be solved for exactly.

    Args:
        hidden: widths of the hidden layers.
        corners: whether the stencil has corners: S = 6 features, else S = 4.
        mean, std: of the stencil features over the training data, [S].
        generator: source of the initial weights.
    """

    def __init__(
        self,
        hidden: tuple[int, ...],
        corners: bool = False,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.corners = corners
        features = 6 if corners else 4
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(features) if mean is None else mean)
        self.register_buffer("std", torch.ones(features) if std is None else std)
        widths = [features, *hidden]
        self.weights = nn.ParameterList(
            torch.randn(b, a, generator=generator) * (SPREAD if i == 0 else a**-0.5)
            for i, (a, b) in enumerate(zip(widths, hidden, strict=False))
        )
        self.biases = nn.ParameterList(torch.randn(b, 1, generator=generator) for b in hidden)
        self.last = nn.Parameter(torch.randn(2, 1 + features + hidden[-1], generator=generator) / hidden[-1] ** 0.5)

    def standardised(self, x: Tensor) -> Tensor:
        """Standardised stencil features z [B, S, H * W] of x."""
        return (stencil(x, self.corners).flatten(2) - self.mean[:, None]) / self.std[:, None]

    def basis(self, z: Tensor) -> Tensor:
        """What the last layer combines: (1, z, hidden units), [B, K, P] for features z [B, S, P]."""
        h = z
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = functional.silu(weight @ h + bias)
        return torch.cat([torch.ones_like(z[:, :1]), z, h], dim=1)

    def pointwise(self, z: Tensor) -> Tensor:
        """v [B, 2, P] from the features z [B, S, P] of the same cells."""
        return self.last @ self.basis(z)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 2:
            raise UserError(f"states have shape {list(x.shape)}; they must be [B, 2, H, W]")
        return self.pointwise(self.standardised(x)).unflatten(-1, x.shape[-2:])

    def centre_response(self, species: int) -> Tensor:
        """How the standardised features of a cell change with that cell's own u (0) or v (1), [S]: constant."""
        response = torch.zeros_like(self.std)
        response[species::2] = -4.0
        response[species] = 1.0
        return response / self.std


def feature_statistics(x: Tensor, with_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and spread [S] of the stencil features over states x [N, 2, H, W]."""
    sums = []
    for state in x.split(8):
        z = stencil(state, with_corners).double()
        sums.append(torch.stack([z.sum(dim=(0, 2, 3)), z.square().sum(dim=(0, 2, 3))]))
    mean, square = torch.stack(sums).sum(dim=0) / (len(x) * x[0, 0].numel())
    std = (square - mean**2).clamp(min=1e-20).sqrt()
    return mean.float(), std.float()


class Flow(nn.Module):
    """A trained velocity field as a user holds it: concentrations in, concentration per unit time out.

    The unit of time is a convention, as snapshots cannot tell it: the mean square of the velocity, in training
    coordinates, is 1 over the training data. So is its direction: diffusion damps (negative mean divergence).
    """

    def __init__(self, field: LocalField, affine: dict[str, float]) -> None:
        super().__init__()
        self.field = field
        self.affine = affine

    def forward(self, c: Tensor) -> Tensor:
        """Velocity [B, 2, H, W] at concentrations c [B, 2, H, W]."""
        scale, shift = self.affine["scale"], self.affine["shift"]
        return self.field(scale * c + shift) / scale

    @classmethod
    def load(cls, path: str | Path) -> Flow:
        """The flow of a checkpoint folder, on the CPU, in evaluation mode.

        Raises:
            UserError: no checkpoint there, or one of another kind.
        """
        from p2d.checkpoint import read_checkpoint

        config, weights = read_checkpoint(Path(path), "flow")
        field = LocalField(**field_options(config["settings"]))
        field.load_state_dict(weights)
        return cls(field, config["data"]["affine"]).eval()


def field_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the LocalField that these training settings make."""
    return {"hidden": tuple(settings["hidden"]), "corners": settings["corners"]}
