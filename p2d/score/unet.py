"""The network of the score model: a small U-Net on a grid with edges, told the noise level."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2d.fields import Grid

STEM = 2  # the network sees 2 x 2 cells as one pixel of 4 times the channels
EMBEDDING = 64
AHEAD = 2  # pixels of the coarsest level by which a periodic axis is carried on, where it cannot be halved
PADDING = {"periodic": "circular", "mirror": "replicate", "open": "replicate"}
Cells = tuple[int, int]


class Conv3(nn.Conv2d):
    """Convolution over each pixel and its neighbours, ghost ones at edges included; an axis of length 1 has none."""

    def __init__(self, inputs: int, outputs: int, grid: Grid, by: Cells = (1, 1)) -> None:
        """`by`: the strides."""
        rows, columns = (1 if size == 1 else 3 for size in grid.shape)
        super().__init__(inputs, outputs, (rows, columns), by)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        return self.of_padded(padded(x, self.grid))

    def of_padded(self, x: Tensor) -> Tensor:
        """Of pixels that have their ghost ones already."""
        return super().forward(x)


def padded(x: Tensor, grid: Grid, modes: dict[str, str] = PADDING) -> Tensor:
    """Pixels [B, C, h, w] with one ghost pixel more on each side of each axis, of modes by kind of edge."""
    down, across = (int(size > 1) for size in grid.shape)
    over_y, over_x = (modes[edge] for edge in grid.edges)
    if over_y == over_x != "circular":
        return functional.pad(x, (across, across, down, down), over_x)
    return _padded_along(_padded_along(x, -2, down, over_y), -1, across, over_x)


def _padded_along(x: Tensor, axis: int, by: int, mode: str) -> Tensor:
    """Pixels with `by` (0 or 1) ghost pixels on each side of an axis."""
    if by and mode == "circular":
        # functional.pad copies such an edge piece by piece, and its gradient too: a seventh of a step of training.
        return torch.cat([x.narrow(axis, -1, 1), x, x.narrow(axis, 0, 1)], axis)
    return functional.pad(x, (by, by, 0, 0) if axis == -1 else (0, 0, by, by), mode)


def unshuffled(x: Tensor, by: Cells) -> Tensor:
    """Blocks of cells as channels: [B, C i j, H / i, W / j] of [B, C, H, W]."""
    batch, channels, height, width = x.shape
    i, j = by
    blocks = x.reshape(batch, channels, height // i, i, width // j, j)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(batch, channels * i * j, height // i, width // j)


def shuffled(x: Tensor, by: Cells) -> Tensor:
    """The inverse of `unshuffled`."""
    batch, channels, height, width = x.shape
    i, j = by
    blocks = x.reshape(batch, channels // (i * j), i, j, height, width)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // (i * j), height * i, width * j)


class ResidualBlock(nn.Module):
    """x + conv(silu(film(conv(silu(x))))): the last convolution starts at zero, so a fresh block is the identity."""

    def __init__(self, channels: int, grid: Grid) -> None:
        super().__init__()
        self.first = Conv3(channels, channels, grid)
        self.last = Conv3(channels, channels, grid)
        self.film = nn.Linear(EMBEDDING, 2 * channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.film(level)[:, :, None, None].chunk(2, dim=1)
        h = self.first(functional.silu(x))
        return x + self.last(functional.silu(h * (1 + scale) + shift))


class UNet(nn.Module):
    """U-Net F(x, c): down by strided unshuffling, up by shuffling, skips added, one block a level and side.

    Along periodic axes of a multiple of 2 ** levels cells, shifts by such multiples commute with it, and so it has no
    seam. Along others the field is carried on to such a multiple: periodic ones by what follows, the rest by their
    outermost cells. A fresh one says 0.

    Args:
        channels: finest level first.
        inputs: fields it is shown; the last one, but on a grid that is periodic all round and has no mask, tells which
            cells are known: 1 or 0.
        outputs: fields that it makes.
        grid: whose edges, and axes of length 1, it knows; of any size otherwise.
    """

    def __init__(self, channels: tuple[int, ...], inputs: int, outputs: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.by: Cells = (1 if grid.shape[0] == 1 else STEM, 1 if grid.shape[1] == 1 else STEM)
        self.multiples = [by ** len(channels) for by in self.by]
        cells = math.prod(self.by)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(32), EMBEDDING // 2)))
        self.embed = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.stem = Conv3(inputs * cells, channels[0], grid)
        self.down = nn.ModuleList(ResidualBlock(c, grid) for c in channels)
        self.middle = ResidualBlock(channels[-1], grid)
        self.up = nn.ModuleList(ResidualBlock(c, grid) for c in channels)
        pairs = list(itertools.pairwise(channels))
        self.narrow = nn.ModuleList(nn.Conv2d(a * cells, b, 1) for a, b in pairs)
        self.widen = nn.ModuleList(nn.Conv2d(b, a * cells, 1) for a, b in pairs)
        self.head = Conv3(channels[0], outputs * cells, grid)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def features(self, level: Tensor) -> Tensor:
        """Sines and cosines of the noise coordinate, [B, EMBEDDING] of [B]."""
        angles = level[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """F of fields [B, inputs, H, W] at noise coordinate level [B]: [B, outputs, H, W]."""
        emb = functional.silu(self.embed(self.features(level)))
        (height, width), (top, left) = x.shape[-2:], self._ahead(x)
        h = self._stem(unshuffled(self._carried_on(x), self.by))
        skips = []
        for depth, block in enumerate(self.down):
            if depth:
                h = self.narrow[depth - 1](unshuffled(h, self.by))
            h = block(h, emb)
            skips.append(h)
        h = self.middle(h, emb)
        for depth in reversed(range(len(self.up))):
            h = self.up[depth](h + skips[depth], emb)
            if depth:
                h = shuffled(self.widen[depth - 1](h), self.by)
        return shuffled(self.head(functional.silu(h)), self.by)[..., top : top + height, left : left + width]

    def _ahead(self, x: Tensor) -> list[int]:
        """Cells by which fields are carried on before their first row and column; none of a size that can be halved."""
        return [
            AHEAD * multiple if edge == "periodic" and size % multiple else 0
            for edge, size, multiple in zip(self.grid.edges, x.shape[-2:], self.multiples, strict=True)
        ]

    def _carried_on(self, x: Tensor) -> Tensor:
        """Fields carried on to a size that can be halved on every level.

        A periodic axis goes on at its other end, both ways and further than the coarsest level's neighbours, as the
        network takes for periodic what it is given.
        """
        for axis, (ahead, multiple) in enumerate(zip(self._ahead(x), self.multiples, strict=True), -2):
            if ahead:
                size = x.shape[axis]
                behind = ahead + -size % multiple
                x = x.index_select(axis, torch.arange(-ahead, size + behind, device=x.device) % size)
        down, across = (-size % multiple for size, multiple in zip(x.shape[-2:], self.multiples, strict=True))
        if not (down or across):
            return x
        further = (0, across, 0, down)
        return torch.cat([functional.pad(x[:, :-1], further, "replicate"), functional.pad(x[:, -1:], further)], dim=1)

    def _stem(self, x: Tensor) -> Tensor:
        """The first convolution, which is shown that nothing is known beyond open edges."""
        if not is_marked(self.grid):
            return self.stem(x)
        marks = math.prod(self.by)
        beyond = padded(x[:, -marks:], self.grid, {**PADDING, "open": "constant"})
        return self.stem.of_padded(torch.cat([padded(x[:, :-marks], self.grid), beyond], dim=1))


def is_marked(grid: Grid) -> bool:
    """Whether the network is told which cells are known: where it need not be all, with a mask or beyond edges."""
    return grid.mask is not None or any(s > 1 and e != "periodic" for s, e in zip(grid.shape, grid.edges, strict=True))
