"""Noise levels: alpha is the share of signal power in a noised state, sigma the noise beside a signal of weight one.

    x_a = sqrt(alpha) x + sqrt(1 - alpha) eps = sqrt(alpha) (x + sigma eps),   sigma = sqrt((1 - alpha) / alpha)

(variance preserving as in Ho et al. 2020; sigma as in Karras et al. 2022)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sigma_of(alpha: Tensor) -> Tensor:
    """sigma = sqrt((1 - alpha) / alpha), any shape."""
    return ((1 - alpha) / alpha).sqrt()


def alpha_of(sigma: Tensor) -> Tensor:
    """alpha = 1 / (1 + sigma^2), the inverse of `sigma_of`."""
    return 1 / (1 + sigma**2)


def add_noise(x: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    """x_a of clean states x [B, C, H, W], noise eps of the same shape and alpha [B]."""
    a = alpha.view(-1, 1, 1, 1)
    return a.sqrt() * x + (1 - a).sqrt() * eps


def score_of_eps(eps: Tensor, alpha: Tensor) -> Tensor:
    """s = -eps / sqrt(1 - alpha): the score of the noised density from the expected noise (Vincent 2011)."""
    return -eps / (1 - alpha.view(-1, 1, 1, 1)).sqrt()


def draw_alpha(levels: tuple[float, ...], uniform: Tensor) -> Tensor:
    """Signal levels [B] for numbers uniform in (0, 1): log sigma is uniform over the range, or alpha is fixed."""
    if len(levels) == 1:
        return torch.full_like(uniform, levels[0])
    low, high = (math.log((1 - a) / a) / 2 for a in levels)
    return alpha_of(torch.exp(low + (high - low) * uniform))
