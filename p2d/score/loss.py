"""Denoising score matching as a training task: a batch in, sums out, so that ratios are taken over all workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from p2d.fields import Grid
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.training.randomness import augmentation, augmented, normal_like, sample_generator
from p2d.training.task import Task

REFERENCE_ALPHA = 0.8
VALIDATION_ALPHAS = (0.5, 0.8, 0.95, 0.99)
BINS = 12  # of the noise levels, in which the training error is reported


class DenoisingScoreMatching(Task):
    """min E || eps_hat(x_a, alpha) - eps ||^2 (Vincent 2011; Ho et al. 2020), weighted as in EDM and EDM2.

    The error is that of the network's own target, which has unit variance at every level; each level is then weighed by
    its learnt uncertainty u, exp(-u) error + u (Karras et al. 2024, Eq. 21), so that no level of a range drowns the
    others: at small noise most of the target can be known, at large noise almost nothing.

    Snapshots that are noisy themselves, x = clean + sigma_x n, are enough to learn the clean density: y = x + tau n'
    has sigma^2 = sigma_x^2 + tau^2 of noise, and that of the target x - (sigma_x^2 / tau) n' is uncorrelated with it,
    so the target's conditional mean is E[clean | y] (Pang et al. 2021; by Tweedie's formula, Kim & Ye 2021). Where a
    species has noise of its own size, so has its tau. Cells outside a mask do not count.

    Args:
        model: to train.
        seed: of noise and augmentation.
        augment: by the shifts, quarter turns and mirror images that the model's grid looks the same after.
        sampling: share of the steps, of a range, that is spent on the noisier levels which sampling starts from.
        data_noise: sigma_x of each species, or of all, in training coordinates.
        precision: of the network's convolutions while training.
        compiled: whether the network is compiled for training.
    """

    def __init__(
        self,
        model: ScoreModel,
        seed: int,
        augment: bool,
        sampling: float = 0.0,
        data_noise: Sequence[float] = (0.0,),
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model: ScoreModel = model
        self.seed = seed
        self.augment = augment
        self.sampling = sampling
        self.data_noise = tuple(data_noise)
        self.precision = precision
        # In a list, so that its weights are not counted twice. Validation uses the plain network, as any user will.
        self.network = [torch.compile(model.net) if compiled else model.net]

    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a local batch of states x [B, C, H, W].

        Returns:
            Weighed error and number of entries; then, for each of BINS levels, squared error and number of entries.
        """
        x, uniform, eps = draw(x, ids, self.seed, step, self.augment, self.model.grid)
        sigma = noise.draw_sigma(self.model.alpha, uniform, self.sampling)
        y, target, doubt = self._pair(x, eps, sigma.view(-1, 1, 1, 1))
        output, linear, spread = self.model.raw(y, sigma, self.precision, self.network[0])
        certainty = spread**2 / (spread**2 + doubt)
        squared = self.model.inside(certainty * (output - (target - linear) / spread).square())
        error = squared.flatten(1).mean(dim=1)
        uncertainty = self.model.uncertainty(sigma)
        weighed = error * (-uncertainty).exp() + uncertainty
        entries = float(squared[0].numel())
        counted = torch.stack([error.detach(), torch.ones_like(error)])
        bins = counted.new_zeros(2, BINS).index_add_(1, (uniform * BINS).long(), counted)
        return torch.cat([torch.stack([weighed.sum(), weighed.new_tensor(float(len(x)))]), bins.flatten()]) * entries

    def _pair(self, x: Tensor, eps: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """The noised state of noise sigma, its target, and the variance of the target's own noise."""
        if not any(self.data_noise):
            return x + sigma * eps, x, 0.0
        own = x.new_tensor([noise**2 for noise in self.data_noise]).view(-1, 1, 1)
        tau = (sigma**2 - own).sqrt()
        back = own / tau
        return x + tau * eps, x - back * eps, own + back**2

    def loss(self, sums: Tensor) -> Tensor:
        """The loss of global sums."""
        return sums[0] / sums[1]

    def training_metrics(self, sums: Tensor) -> dict[str, float]:
        """Squared error of the network's target over an epoch, in all and by signal level, of sums over its batches."""
        errors, entries = sums[2:].view(2, BINS)
        middles = noise.draw_sigma(self.model.alpha, (torch.arange(BINS) + 0.5) / BINS, self.sampling)
        whole = {"training_loss": (errors.sum() / entries.sum()).item()}
        if len(self.model.alpha) == 1:
            return whole
        levels = [f"{alpha:.6g}" for alpha in noise.alpha_of(middles).tolist()]
        drawn = [(level, e / n) for level, e, n in zip(levels, errors.tolist(), entries.tolist(), strict=True) if n]
        return whole | {f"training_loss_alpha_{level}": error for level, error in drawn}

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
        sums = {}
        for alpha in self.validation_levels(last):
            sigma = noise.sigma_of(torch.tensor(alpha)).item()
            mean, inside = self.model.posterior_mean, self.model.inside
            sums[f"{alpha:g}"] = squared_error(mean, x, ids, sigma, self.seed, self._pair, inside)
        return sums

    def metrics(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Mean squared error of the expected noise at each level; the reference level's is the validation loss."""
        losses = {level: (sums[0] / sums[1]).item() for level, sums in totals.items()}
        reference = f"{self.validation_levels(last=False)[0]:g}"
        return {f"validation_loss_alpha_{k}": loss for k, loss in losses.items()} | {
            "validation_loss": losses[reference]
        }


def draw(
    x: Tensor, ids: list[int], seed: int, step: int, augment: bool, grid: Grid | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What a step of training shows of states x [B, C, H, W]: a function of seed, step and sample ids alone.

    Args:
        grid: of the states, of any size but with a mask; periodic when None.

    Returns:
        The states, augmented if so wished, a number uniform in [0, 1) for each, and normal noise of their shape.
    """
    streams = [sample_generator(seed, step, i) for i in ids]
    uniform = torch.stack([torch.rand((), generator=g) for g in streams]).to(x)
    if augment:
        own = grid.sized(x.shape) if grid else None
        x = torch.stack([augmented(s, augmentation(g, s, own)) for s, g in zip(x, streams, strict=True)])
    return x, uniform, normal_like(x, seed, step, ids)


@torch.no_grad()
def squared_error(
    posterior_mean: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    ids: list[int],
    sigma: float,
    seed: int,
    pair: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor | float]] = lambda x, eps, s: (
        x + s * eps,
        x,
        0.0,
    ),
    inside: Callable[[Tensor], Tensor] = lambda entries: entries,
) -> Tensor:
    """Squared error of the expected noise and number of entries, float64 [2], with noise fixed by sample ids.

    E[eps | y] = (y - E[x | y]) / sigma, so its error is that of the posterior mean over sigma. Samples are taken one by
    one, so that it does not matter how they are shared among workers.

    Args:
        posterior_mean: E[x | y], of y [1, C, H, W] and sigma [1].
        x: states [B, C, H, W] in training coordinates.
        pair: noised state, target, and variance of the target's own noise, which is taken off.
        inside: those of the entries [1, C, H, W] that count.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    level = x.new_tensor([sigma])
    for i, state in zip(ids, x, strict=True):
        y, target, doubt = pair(state[None], normal_like(state[None], seed, -1, [i]), level.view(1, 1, 1, 1))
        squares = inside((posterior_mean(y, level) - target).square())
        error = squares.mean() - torch.as_tensor(doubt).mean()
        sums += torch.tensor([error.item() / sigma**2 * squares.numel(), squares.numel()], dtype=torch.float64)
    return sums
