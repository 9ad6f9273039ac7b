"""The original objective: a field preserves p where r = div v + v . grad log p vanishes (Zhang & Levin 2025).

Kept faithful and measured honestly: its exact optimum is far from the true dynamics, see `stationarity` for those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from p2d.flow import divergence
from p2d.flow.velocity import LocalField
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.training.randomness import augmentation, augmented, sample_generator
from p2d.training.task import Data, Task, spread
from p2d.training.workers import Workers

MEAN_WEIGHT = 1e-3  # of the squared mean of s . v
DIRECTION_STATES = 32  # snapshots that the direction of time is taken from


class Continuity(Task):
    """loss = E[r1 r2] / E|v|^2 + (E|v|^2 / n - 1)^2 + 1e-3 (E[s . v])^2 / E|v|^2 + sym E[cos(v, s)^2].

    r1 and r2 share v . s and have independent estimates of the divergence, so that their product is unbiased for r^2;
    with the exact divergence they are one. n is the number of entries of a state. It is states as a whole whose density
    is asked to stay: nothing is known of parts of them, on grids with open edges or masks.
    """

    def __init__(
        self,
        field: LocalField,
        score: ScoreModel,
        alpha: float,
        gaussian_weight: float,
        sym: float,
        probes: int,
        seed: int,
    ) -> None:
        """`probes`: Hutchinson probes in each of the two sets; 0 for the exact divergence."""
        super().__init__()
        self.model: LocalField = field
        # In a list, so that it is neither trained nor saved as a part of the flow.
        self.score = [score.requires_grad_(False)]
        self.alpha = alpha
        self.gaussian_weight = gaussian_weight
        self.sym = sym
        self.probes = probes
        self.seed = seed

    def residuals(self, x_a: Tensor, draws: list[torch.Generator]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """r1, r2 [B], v and the score s [B, 2, H, W] at noised states x_a."""
        with torch.no_grad():
            s = self.score[0].to(x_a.device).score(x_a, self.alpha) - self.gaussian_weight * x_a
        if self.probes:
            shape = (2 * self.probes, *x_a.shape[1:])
            signs = [torch.randint(2, shape, generator=g, dtype=x_a.dtype) * 2 - 1 for g in draws]
            first, second = torch.stack(signs, dim=1).to(x_a.device).chunk(2)
            div1, v = divergence.hutchinson(self.model, x_a, first)
            div2, _ = divergence.hutchinson(self.model, x_a, second)
        else:
            div1, v = divergence.exact(self.model, x_a)
            div2 = div1
        along = (v * s).flatten(1).sum(dim=1)
        return div1 + along, div2 + along, v, s

    def _noised(self, x: Tensor, draws: list[torch.Generator]) -> Tensor:
        eps = torch.stack([torch.randn(x.shape[1:], generator=g) for g in draws]).to(x.device)
        return noise.add_noise(x, eps, torch.full((len(x),), self.alpha, device=x.device))

    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a local batch of clean states: r1 r2, |v|^2, s . v, cos(v, s)^2, samples, entries."""
        draws = [sample_generator(self.seed, step, i) for i in ids]
        if self.score[0].augment:  # or its score is not known at images
            grid = self.model.grid.sized(x.shape)
            x = torch.stack([augmented(s, augmentation(g, s, grid)) for s, g in zip(x, draws, strict=True)])
        r1, r2, v, s = self.residuals(self._noised(x, draws), draws)
        along = (v * s).flatten(1).sum(dim=1)
        power = v.square().flatten(1).sum(dim=1)
        cosine = along.square() / (power * s.square().flatten(1).sum(dim=1)).clamp(min=1e-30)
        sizes = [v.new_tensor(float(len(x))), v.new_tensor(float(v.numel()))]
        return torch.stack([(r1 * r2).sum(), power.sum(), along.sum(), cosine.sum(), *sizes])

    def loss(self, sums: Tensor) -> Tensor:
        """The loss of global sums, ratios taken after them."""
        product, power, along, cosine, samples, entries = sums
        return (
            product / power
            + (power / entries - 1) ** 2
            + MEAN_WEIGHT * (along / samples) ** 2 / (power / samples)
            + self.sym * cosine / samples
        )

    def after_epoch(self, data: Data, workers: Workers) -> None:
        """Choose the direction of time, which the loss does not know."""
        mine = workers.share(spread(data.count, DIRECTION_STATES))
        draws = [sample_generator(self.seed, -1, i) for i in mine.tolist()]
        x = data.states(mine)
        divergence.choose_direction(self.model, self._noised(x, draws) if len(x) else x, workers)

    @torch.no_grad()
    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """Sums of r1 r2 and |v|^2 over held-out states, with noise fixed by their ids."""
        sums = torch.zeros(2, dtype=torch.float64)
        for i, state in zip(ids, x, strict=True):
            draws = [sample_generator(self.seed, -1, i)]
            r1, r2, v, _ = self.residuals(self._noised(state[None], draws), draws)
            sums += torch.stack([(r1 * r2).sum(), v.square().sum()]).double().cpu()
        return {"continuity": sums}

    def metrics(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """The held-out continuity residual E[r1 r2] / E|v|^2, which is also the validation loss."""
        product, power = totals["continuity"].tolist()
        return dict.fromkeys(("continuity_residual", "validation_loss"), product / power)
