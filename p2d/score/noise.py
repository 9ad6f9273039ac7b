"""Noise levels: alpha is the share of signal power in a noised state, sigma the noise beside a signal of weight one.

    x_a = sqrt(alpha) x + sqrt(1 - alpha) eps = sqrt(alpha) (x + sigma eps),   sigma = sqrt((1 - alpha) / alpha)

(variance preserving as in Ho et al. 2020; sigma as in Karras et al. 2022)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

START = 0.002  # signal level at which a pattern is as good as Gaussian: sigma = 22, where spectra peak at 5 to 17


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


def log_sigma(alpha: float) -> float:
    """log sigma of a signal level."""
    return math.log((1 - alpha) / alpha) / 2


def draw_sigma(levels: tuple[float, ...], uniform: Tensor, beyond: float = 0.0) -> Tensor:
    """Noise levels sigma [B] for numbers uniform in [0, 1): log sigma is uniform over the range, or sigma is fixed.

    Args:
        levels: one signal level alpha, or a range low high.
        beyond: share of the draws, if a range is given, that fall between its noisy end and START, where the reverse
            process begins; log sigma is uniform there too.
    """
    if len(levels) == 1:
        return torch.full_like(uniform, math.exp(log_sigma(levels[0])))
    clear, noisy = log_sigma(levels[1]), log_sigma(levels[0])
    start = max(noisy, log_sigma(START))
    inside = noisy + (clear - noisy) * (uniform - beyond) / (1 - beyond)
    outside = start + (noisy - start) * uniform / beyond if beyond else inside
    return torch.where(uniform < beyond, outside, inside).exp()
