"""The benchmark's yardstick for the score network: a U-Net at full resolution, as the original study's is described.

16, 32 and 64 channels on three levels, two residual layers a level with GroupNorm and SiLU, circular padding, about
0.9 M weights, trained to predict the noise as it stands, without preconditioning (Ho et al. 2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2d.fields import Grid
from p2d.score import noise
from p2d.score.loss import draw
from p2d.score.unet import Conv3

CHANNELS = (16, 32, 64)
LAYERS = 2
GROUPS = 8
EMBEDDING = 64


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + level))), with a 1x1 convolution on x where the width changes."""

    def __init__(self, inputs: int, outputs: int, grid: Grid) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)])
        self.convs = nn.ModuleList([Conv3(inputs, outputs, grid), Conv3(outputs, outputs, grid)])
        self.level = nn.Linear(4 * EMBEDDING, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.convs[0](functional.silu(self.norms[0](x))) + self.level(level)[:, :, None, None]
        return self.skip(x) + self.convs[1](functional.silu(self.norms[1](h)))


class ReferenceUNet(nn.Module):
    """eps_hat(x_a, alpha): [B, C, H, W] and [B] to [B, C, H, W]; H and W multiples of 4, or 1."""

    def __init__(self, species: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.by = (1 if grid.shape[0] == 1 else 2, 1 if grid.shape[1] == 1 else 2)
        widths = list(CHANNELS)
        self.embed = nn.Sequential(
            nn.Linear(EMBEDDING, 4 * EMBEDDING), nn.SiLU(), nn.Linear(4 * EMBEDDING, 4 * EMBEDDING), nn.SiLU()
        )
        self.stem = Conv3(species, widths[0], grid)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        before = widths[0]
        for width in widths:
            if len(self.down):
                self.shrink.append(Conv3(before, before, grid, self.by))
            self.down.extend(Residual(before if n == 0 else width, width, grid) for n in range(LAYERS))
            before = width
        self.middle = nn.ModuleList(Residual(before, before, grid) for _ in range(LAYERS))
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for width in reversed(widths):
            if len(self.up):
                self.grow.append(Conv3(before, before, grid))
            # Every layer takes the output of its counterpart on the way down beside its own input.
            self.up.extend(Residual((before if n == 0 else width) + width, width, grid) for n in range(LAYERS))
            before = width
        self.head = nn.Sequential(nn.GroupNorm(GROUPS, before), nn.SiLU(), Conv3(before, species, grid))

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        """The expected noise in x_a at signal levels alpha."""
        frequencies = torch.exp(torch.linspace(0, -math.log(1e4), EMBEDDING // 2, device=x.device))
        angles = 1000 * alpha[:, None] * frequencies
        level = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        h = self.stem(x)
        skips = []
        for n, layer in enumerate(self.down):
            if n and n % LAYERS == 0:
                h = self.shrink[n // LAYERS - 1](h)
            h = layer(h, level)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, level)
        for n, layer in enumerate(self.up):
            if n and n % LAYERS == 0:
                h = self.grow[n // LAYERS - 1](functional.interpolate(h, scale_factor=self.by, mode="nearest"))
            h = layer(torch.cat([h, skips.pop()], dim=1), level)
        return self.head(h)


class NoisePrediction(nn.Module):
    """min E || eps_hat(x_a, alpha) - eps ||^2 at one alpha, with the draws of score/loss.py."""

    def __init__(self, model: ReferenceUNet, alpha: float, seed: int) -> None:
        super().__init__()
        self.model = model
        self.alpha = alpha
        self.seed = seed

    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a batch of clean states x [B, C, H, W]: squared error, number of entries."""
        x, _, eps = draw(x, ids, self.seed, step, augment=True, grid=self.model.grid)
        level = x.new_full((len(x),), self.alpha)
        error = self.model(noise.add_noise(x, eps, level), level) - eps
        return torch.stack([error.square().sum(), error.new_tensor(float(error.numel()))])

    def posterior_mean(self, y: Tensor, sigma: Tensor) -> Tensor:
        """E[x | y] of clean states seen as y = x + sigma n."""
        alpha = noise.alpha_of(sigma)
        return y - sigma.view(-1, 1, 1, 1) * self.model(alpha.view(-1, 1, 1, 1).sqrt() * y, alpha)
