"""The network of the score model: a small U-Net on a periodic grid, told the noise level."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

STEM = 2  # the network sees 2 x 2 cells as one pixel of 4 times the channels
EMBEDDING = 64


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution on a periodic grid."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="circular")


class ResidualBlock(nn.Module):
    """x + conv(silu(film(conv(silu(x))))): the last convolution starts at zero, so a fresh block is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3(channels, channels)
        self.last = conv3(channels, channels)
        self.film = nn.Linear(EMBEDDING, 2 * channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.film(level)[:, :, None, None].chunk(2, dim=1)
        h = self.first(functional.silu(x))
        return x + self.last(functional.silu(h * (1 + scale) + shift))


class UNet(nn.Module):
    """Periodic U-Net F(x, c): down by strided unshuffling, up by shuffling, skips added, one block a level and side.

    Shifts by multiples of 2 ** levels commute with it, and so it has no seam. A fresh one says 0.

    Args:
        channels: finest level first.
        inputs: fields it is shown.
    """

    def __init__(self, channels: tuple[int, ...], inputs: int) -> None:
        super().__init__()
        cells = STEM * STEM
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(32), EMBEDDING // 2)))
        self.embed = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.stem = conv3(inputs * cells, channels[0])
        self.down = nn.ModuleList(ResidualBlock(c) for c in channels)
        self.middle = ResidualBlock(channels[-1])
        self.up = nn.ModuleList(ResidualBlock(c) for c in channels)
        pairs = list(itertools.pairwise(channels))
        self.narrow = nn.ModuleList(nn.Conv2d(a * cells, b, 1) for a, b in pairs)
        self.widen = nn.ModuleList(nn.Conv2d(b, a * cells, 1) for a, b in pairs)
        self.head = conv3(channels[0], 2 * cells)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def features(self, level: Tensor) -> Tensor:
        """Sines and cosines of the noise coordinate, [B, EMBEDDING] of [B]."""
        angles = level[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """F of fields [B, inputs, H, W] at noise coordinate level [B]: [B, 2, H, W]."""
        emb = functional.silu(self.embed(self.features(level)))
        h = self.stem(functional.pixel_unshuffle(x, STEM))
        skips = []
        for depth, block in enumerate(self.down):
            if depth:
                h = self.narrow[depth - 1](functional.pixel_unshuffle(h, STEM))
            h = block(h, emb)
            skips.append(h)
        h = self.middle(h, emb)
        for depth in reversed(range(len(self.up))):
            h = self.up[depth](h + skips[depth], emb)
            if depth:
                h = functional.pixel_shuffle(self.widen[depth - 1](h), STEM)
        return functional.pixel_shuffle(self.head(functional.silu(h)), STEM)
