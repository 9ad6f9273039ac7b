"""The training-free flow: v = K * s with a kernel that is skew under exchange of species and point reflection.

With K_ij(r) = -K_ji(-r) both v . s and, as the score's own derivative is symmetric, div v vanish: whatever the kernel,
the density stays as it is (Zhang & Levin 2025). An isotropic kernel is K_ij(r) = A_ij k(|r|) with an antisymmetric A,
at walls too, as ghost cells leave k symmetric; one species has none. Of three and more A is a choice: the cyclic one
here, each species coupled to the next and to the one before. Which sign is the direction of time cannot be told: both
fields have no divergence.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.flow import divergence
from p2d.flow.velocity import PERIODIC, rings
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.training.randomness import normal_like, sample_generator
from p2d.training.task import Task


def cyclic(species: int) -> list[list[float]]:
    """The antisymmetric matrix [C, C] that couples each species to the next: 1 there, -1 back.

    Raises:
        UserError: there is one species.
    """
    if species < 2:
        raise UserError(
            "a training-free flow turns the scores of species into each other, and there is one species; "
            "take the objective stationarity"
        )
    matrix = [[0.0] * species for _ in range(species)]
    for i in range(species if species > 2 else 1):
        after = (i + 1) % species
        matrix[i][after], matrix[after][i] = 1.0, -1.0
    return matrix


class SkewField(nn.Module):
    """v(x) = K * s(sqrt(alpha) x) for states x [B, C, H, W] in training coordinates, at signal level alpha.

    The score is taken where the noised states of x are centred. k is a Gaussian that falls to e^-2 at the radius; a
    radius of 0 is the 1 x 1 kernel, of two species [[0, 1], [-1, 0]] / sqrt(2).

    Args:
        score: the score model, a part of the flow: weights and all.
        alpha: signal level of the score.
        radius: of the kernel, in cells.
        sign: 1 or -1.
        species: C.
        grid: whose edges the kernel knows, of any size.

    Raises:
        UserError: one species.
    """

    reach = 0  # where a score is known, so is the velocity

    def __init__(
        self, score: ScoreModel, alpha: float, radius: float, sign: int, species: int = 2, grid: Grid = PERIODIC
    ) -> None:
        super().__init__()
        self.coupling = cyclic(species)
        self.grid = grid
        self.score = score.requires_grad_(False)
        self.alpha = alpha
        self.rings = rings(radius)
        weights = [1.0, *(math.exp(-2 * (math.hypot(*ring[0]) / radius) ** 2) for ring in self.rings)]
        sizes = [1, *(len(ring) for ring in self.rings)]
        couplings = sum(abs(own) for row in self.coupling for own in row)
        norm = math.sqrt(couplings * sum(n * w * w for n, w in zip(sizes, weights, strict=True)))
        # A parameter, as a task must have one, though no step is taken on it.
        self.kernel = nn.Parameter(sign * torch.tensor(weights) / norm)
        self.speed: Tensor
        self.register_buffer("speed", torch.ones(()))  # sets the unit of time

    def forward(self, x: Tensor) -> Tensor:
        return self.at_noised(math.sqrt(self.alpha) * x)

    def at_noised(self, x_a: Tensor) -> Tensor:
        """v at noised states x_a [B, C, H, W]."""
        s, grid = self.score.score(x_a, self.alpha), self.grid.sized(x_a.shape)
        smooth = self.kernel[0] * s
        for weight, ring in zip(self.kernel[1:], self.rings, strict=True):
            for down, right in ring:
                smooth = smooth + weight * grid.shifted(s, -down, -right)
        turned = torch.einsum("ij,bjhw->bihw", smooth.new_tensor(self.coupling), smooth)
        return self.speed * grid.masked(turned)

    @torch.no_grad()
    def set_speed(self, x: Tensor) -> None:
        """Make the mean square of the velocity 1 over these states."""
        power = torch.stack([self(state).square().mean() for state in x.split(1)]).mean()
        self.speed /= power.sqrt()


class TrainingFree(Task):
    """The training-free flow as a task of no steps: what there is to know is how free of divergence it is."""

    def __init__(self, field: SkewField, probes: int, seed: int) -> None:
        super().__init__()
        self.model: SkewField = field
        self.probes = probes
        self.seed = seed

    @torch.no_grad()
    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a local batch of clean states: r1 r2 and |v|^2, by two independent sets of probes."""
        x_a = noise.add_noise(x, normal_like(x, self.seed, step, ids), x.new_full((len(x),), self.model.alpha))
        shape = (2 * self.probes, *x.shape[1:])
        streams = [sample_generator(self.seed, step, i, name="probes") for i in ids]
        signs = torch.stack([torch.randint(2, shape, generator=g) * 2.0 - 1 for g in streams], dim=1).to(x)
        first, v = divergence.hutchinson(self.model.at_noised, x_a, signs[: self.probes])
        second, _ = divergence.hutchinson(self.model.at_noised, x_a, signs[self.probes :])
        return torch.stack([(first * second).sum(), v.square().sum()])

    def loss(self, sums: Tensor) -> Tensor:
        """The continuity residual E[r1 r2] / E|v|^2, of which only div v is left: v . s is 0."""
        return sums[0] / sums[1]

    @torch.no_grad()
    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """The same sums over held-out states, with noise and probes fixed by their ids."""
        sums = torch.zeros(2, dtype=torch.float64)
        for i, state in zip(ids, x.split(1) if len(x) else (), strict=True):
            sums += self(state, [i], -1).double().cpu()
        return {"continuity": sums}

    def metrics(self, totals: dict[str, Any]) -> dict[str, float]:
        """The held-out continuity residual, which is also the validation loss."""
        return dict.fromkeys(("continuity_residual", "validation_loss"), self.loss(totals["continuity"]).item())
