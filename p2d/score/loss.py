"""Denoising score matching as a training task: a batch in, sums out, so that ratios are taken over all workers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from p2d.score import noise
from p2d.score.unet import ScoreModel
from p2d.streams import augmentation, augmented, sample_generator
from p2d.task import Task

REFERENCE_ALPHA = 0.8
VALIDATION_ALPHAS = (0.5, 0.8, 0.95, 0.99)


class DenoisingScoreMatching(Task):
    """min E || eps_hat(x_a, alpha) - eps ||^2 (Vincent 2011; Ho et al. 2020), weighted as in EDM.

    The weight (sigma^2 + std^2) / std^2 makes the network's own target of unit variance at every level, so that no
    level of a range drowns the others; at one fixed alpha it only balances the two species.
    """

    def __init__(self, model: ScoreModel, seed: int, augment: bool) -> None:
        super().__init__()
        self.model: ScoreModel = model
        self.seed = seed
        self.augment = augment

    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a local batch of clean states x [B, 2, H, W]: weighted squared error, number of entries."""
        draws = [sample_generator(self.seed, step, i) for i in ids]
        if self.augment:
            x = torch.stack([augmented(s, augmentation(g, s)) for s, g in zip(x, draws, strict=True)])
        alpha = noise.draw_alpha(self.model.alpha, torch.stack([torch.rand((), generator=g) for g in draws]))
        eps = torch.stack([torch.randn(x.shape[1:], generator=g) for g in draws]).to(x.device)
        alpha = alpha.to(x.device)
        sigma = noise.sigma_of(alpha)
        y = x + sigma.view(-1, 1, 1, 1) * eps
        output, c_skip, c_out = self.model.raw(y, sigma)
        mean = self.model.mean.view(1, 2, 1, 1)
        target = (x - mean - c_skip * (y - mean)) / c_out
        return torch.stack([(output - target).square().sum(), output.new_tensor(float(output.numel()))])

    def loss(self, sums: Tensor) -> Tensor:
        """The loss of global sums."""
        return sums[0] / sums[1]

    def validation_levels(self, last: bool) -> tuple[float, ...]:
        """Signal levels to validate at: the reference, and after the last epoch all within the trained range."""
        if len(self.model.alpha) == 1:
            return self.model.alpha
        low, high = self.model.alpha
        reference = min(max(REFERENCE_ALPHA, low), high)
        if not last:
            return (reference,)
        return tuple(sorted({reference, *(a for a in VALIDATION_ALPHAS if low <= a <= high)}))

    @torch.no_grad()
    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """Squared error of the expected noise and number of entries at each level, with noise fixed by sample ids."""
        found = {}
        for alpha in self.validation_levels(last):
            found[f"{alpha:g}"] = squared_error(self.model.eps, x, ids, alpha, self.seed)
        return found

    def metrics(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Mean squared error of the expected noise at each level; the reference level's is the validation loss."""
        losses = {level: (sums[0] / sums[1]).item() for level, sums in totals.items()}
        reference = f"{self.validation_levels(last=False)[0]:g}"
        return {f"validation_loss_alpha_{k}": loss for k, loss in losses.items()} | {
            "validation_loss": losses[reference]
        }


@torch.no_grad()
def squared_error(
    predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, ids: list[int], alpha: float, seed: int
) -> Tensor:
    """Squared error of the expected noise and number of entries, float64 [2], with noise fixed by sample ids.

    Args:
        predict: eps_hat(x_a, alpha), of [1, 2, H, W] and [1].
        x: clean states [B, 2, H, W] in training coordinates.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    level = torch.tensor([alpha], device=x.device)
    for i, state in zip(ids, x, strict=True):
        eps = torch.randn(state.shape, generator=sample_generator(seed, -1, i)).to(x.device)
        error = predict(noise.add_noise(state[None], eps[None], level), level) - eps
        sums += torch.tensor([error.square().sum().item(), error.numel()], dtype=torch.float64)
    return sums
