"""The score model: a small periodic U-Net inside the preconditioning of Karras et al. 2022 (EDM), Table 1."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2d.config import fits_unet
from p2d.errors import UserError
from p2d.score import noise

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

    Shifts by multiples of 2 ** levels commute with it, and so it has no seam.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        cells = STEM * STEM
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(32), EMBEDDING // 2)))
        self.embed = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.stem = conv3(2 * cells, channels[0])
        self.down = nn.ModuleList(ResidualBlock(c) for c in channels)
        self.middle = ResidualBlock(channels[-1])
        self.up = nn.ModuleList(ResidualBlock(c) for c in channels)
        pairs = list(itertools.pairwise(channels))
        self.narrow = nn.ModuleList(nn.Conv2d(a * cells, b, 1) for a, b in pairs)
        self.widen = nn.ModuleList(nn.Conv2d(b, a * cells, 1) for a, b in pairs)
        self.head = conv3(channels[0], 2 * cells)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """F of x [B, 2, H, W] at noise coordinate level [B]; the same shape back."""
        angles = level[:, None] * self.frequencies
        emb = functional.silu(self.embed(torch.cat([angles.sin(), angles.cos()], dim=1)))
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


class ScoreModel(nn.Module):
    """Score of the noised density at every signal level it was trained on.

    States are in training coordinates x = scale c + shift of concentrations c, [B, 2, H, W] float32.

    Args:
        channels: of the U-Net, finest level first.
        alpha: the one signal level, or the range, that it is trained for.
        mean, std: of each species over the training data, in training coordinates, [2].
    """

    def __init__(
        self, channels: tuple[int, ...], alpha: tuple[float, ...], mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.downsampling = 2 ** len(channels)
        self.net = UNet(channels)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(2) if mean is None else mean)
        self.register_buffer("std", torch.ones(2) if std is None else std)

    def raw(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Network output F at y = x + sigma n, with EDM's c_skip and c_out.

        E[x | y] = mean + c_skip (y - mean) + c_out F.

        Args:
            y: [B, 2, H, W].
            sigma: [B].
        """
        noise_scale = sigma.view(-1, 1, 1, 1)
        spread = self.std.view(1, 2, 1, 1)
        total = (noise_scale**2 + spread**2).sqrt()
        c_skip = spread**2 / total**2
        c_out = noise_scale * spread / total
        return self.net((y - self.mean.view(1, 2, 1, 1)) / total, sigma.log() / 4), c_skip, c_out

    def denoise(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        """E[x | x_a], the posterior mean of the clean state (Tweedie's formula), shaped as x_a."""
        level = self._level(x_a, alpha)
        y = x_a / level.view(-1, 1, 1, 1).sqrt()
        output, c_skip, c_out = self.raw(y, noise.sigma_of(level))
        mean = self.mean.view(1, 2, 1, 1)
        return mean + c_skip * (y - mean) + c_out * output

    def eps(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        """E[eps | x_a], the expected noise, shaped as x_a."""
        level = self._level(x_a, alpha)
        y = x_a / level.view(-1, 1, 1, 1).sqrt()
        return (y - self.denoise(x_a, level)) / noise.sigma_of(level).view(-1, 1, 1, 1)

    def score(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        """grad log p of the density of noised states x_a = sqrt(alpha) x + sqrt(1 - alpha) eps.

        Args:
            x_a: [B, 2, H, W] in training coordinates.
            alpha: signal level, a number or [B].

        Raises:
            UserError: a shape that the U-Net cannot take, or an alpha outside (0, 1).
        """
        return noise.score_of_eps(self.eps(x_a, alpha), self._level(x_a, alpha))

    def _level(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        if x_a.ndim != 4 or x_a.shape[1] != 2:
            raise UserError(f"states have shape {list(x_a.shape)}; they must be [B, 2, H, W]")
        for name, size in zip(("height", "width"), x_a.shape[-2:], strict=True):
            fits_unet(name, size, self.downsampling)
        level = torch.as_tensor(alpha, dtype=x_a.dtype, device=x_a.device).expand(len(x_a))
        if not ((level > 0) & (level < 1)).all():
            raise UserError(f"alpha = {alpha} is not a signal level: it must lie between 0 and 1, ends excluded")
        return level

    @classmethod
    def load(cls, path: str | Path) -> ScoreModel:
        """The model of a checkpoint folder, on the CPU, in evaluation mode.

        Raises:
            UserError: no checkpoint there, or one of another kind.
        """
        from p2d.checkpoint import read_checkpoint

        config, weights = read_checkpoint(Path(path), "score")
        model = cls(**model_options(config["settings"]))
        model.load_state_dict(weights)
        return model.eval()


def model_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the ScoreModel that these training settings make."""
    return {"channels": tuple(settings["channels"]), "alpha": tuple(settings["alpha"])}
