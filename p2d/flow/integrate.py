"""States carried along a velocity field: Heun's method, and steps that it is stable with."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

Drift = Callable[[Tensor], Tensor]
POWER_ITERATIONS = 30
# |rate| dt of a step. A decaying mode decays up to 2. A turning one grows by (rate dt)^4 / 8 a step, and the variance
# that noise keeps up is off by about (rate dt)^2 / 4.
DECAYING, TURNING, NOISY = 1.6, 0.25, 0.5


@torch.no_grad()
def stiffest_rate(drift: Drift, x: Tensor) -> float:
    """Largest rate, per unit time, at which the drift's derivative at x [B, 2, H, W] grows or damps a small change.

    By power iteration from noise, the largest of the B states.
    """
    change = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    rate = x.new_zeros(len(x))
    for _ in range(POWER_ITERATIONS):
        change = change / change.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp(min=torch.finfo(x.dtype).tiny)
        change = jvp(drift, (x,), (change,))[1]
        rate = change.flatten(1).norm(dim=1)
    return float(rate.max())


def stable_step(rate: float, share: float = DECAYING) -> float:
    """A step that Heun's method carries modes of this rate with: `share` is rate times step, see above."""
    return share / rate if rate > 0 else math.inf


def heun(drift: Drift, x: Tensor, dt: float, kick: Tensor | float = 0.0) -> Tensor:
    """One step of Heun's method for dx = drift dt + kick, the noise of the step being the same in both stages."""
    first = drift(x)
    return x + dt / 2 * (first + drift(x + dt * first + kick)) + kick
