"""Random streams that belong to samples, so that no result depends on how samples are shared among workers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from p2d.fields import Grid

Image = tuple[int, bool]  # quarter turns, and whether it is mirrored after them
BLOCK, WINDOW = 64, 512  # samples read together, and shuffled together


def stream_seed(*parts: int | str) -> int:
    """A 63-bit seed for the stream named by these parts."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def sample_generator(
    seed: int, step: int, sample_id: int, device: torch.device | str = "cpu", name: str = "sample"
) -> torch.Generator:
    """A random stream of one sample at one step of training (step -1: validation), on a device of its own numbers."""
    return torch.Generator(device).manual_seed(stream_seed(name, seed, step, int(sample_id)))


def normal_like(x: Tensor, seed: int, step: int, ids: list[int]) -> Tensor:
    """Standard normal numbers shaped as x [B, ...], drawn where x is, each sample's from a stream of its own."""
    streams = [sample_generator(seed, step, i, x.device, "noise") for i in ids]
    drawn = [torch.randn(x.shape[1:], generator=g, device=x.device) for g in streams]
    return torch.stack(drawn).to(x.dtype) if drawn else torch.empty_like(x)


def epoch_order(seed: int, epoch: int, count: int, block: int = BLOCK, window: int = WINDOW) -> Tensor:
    """The order, int64 [count], in which an epoch visits the training samples.

    A permutation that can be read from disk as it goes: blocks of neighbours are permuted, then the samples within
    windows of several blocks. Up to a window's size it is a permutation of all.
    """
    generator = torch.Generator().manual_seed(stream_seed("order", seed, epoch))
    if count <= window:
        return torch.randperm(count, generator=generator)
    blocks = torch.randperm(-(-count // block), generator=generator)
    order = torch.cat([torch.arange(b * block, min((b + 1) * block, count)) for b in blocks.tolist()])
    return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in order.split(window)])


def batches(seed: int, epoch: int, count: int, batch_size: int) -> Iterator[Tensor]:
    """Global batches of positions of one epoch, each of exactly batch_size (of all, where there are fewer)."""
    size = min(batch_size, count)
    order = epoch_order(seed, epoch, count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


@functools.lru_cache(maxsize=8)
def images(grid: Grid) -> tuple[Image, ...]:
    """The turns and mirror images that a grid looks the same after, edges and mask and all: 1, 2, 4 or 8 of them."""
    height, width = grid.shape
    mask = torch.from_numpy(grid.inside(0))
    turns = range(4) if height == width and grid.edges[0] == grid.edges[1] else (0, 2)
    places, same = torch.arange(height * width).view(grid.shape), dict[tuple[int, ...], Image]()
    for image in ((turn, mirrored) for mirrored in (False, True) for turn in turns):
        if torch.equal(imaged(mask, image), mask):  # of one dimension some are the same
            same.setdefault(tuple(imaged(places, image).flatten().tolist()), image)
    return tuple(same.values())


def shifting(grid: Grid) -> tuple[bool, bool]:
    """Whether a grid looks the same after shifts down, and to the right."""
    return grid.mask is None and grid.edges[0] == "periodic", grid.mask is None and grid.edges[1] == "periodic"


def imaged(fields: Tensor, image: Image) -> Tensor:
    """Fields [..., H, W] turned and then mirrored."""
    turned = torch.rot90(fields, image[0], (-2, -1))
    return turned.flip(-1) if image[1] else turned


def restored(fields: Tensor, image: Image) -> Tensor:
    """The inverse of `imaged`."""
    return torch.rot90(fields.flip(-1) if image[1] else fields, -image[0], (-2, -1))


def augmentation(generator: torch.Generator, state: Tensor, grid: Grid | None = None) -> tuple[int, int, Image]:
    """A draw of shift down, shift right, and image, of those that the grid looks the same after.

    Args:
        grid: of the state; periodic when None.
    """
    grid = grid or Grid((state.shape[-2], state.shape[-1]))
    shifts = [int(torch.randint(size, (), generator=generator)) for size in grid.shape]
    turns, mirrored = (int(torch.randint(count, (), generator=generator)) for count in (4, 2))
    down, right = (shift * free for shift, free in zip(shifts, shifting(grid), strict=True))
    each = images(grid)
    return down, right, each[(4 * mirrored + turns) * len(each) // 8]


def augmented(state: Tensor, draw: tuple[int, int, Image]) -> Tensor:
    """A state [C, H, W] shifted, turned and mirrored: the physics is the same for all of them."""
    down, right, image = draw
    return imaged(state.roll((down, right), (-2, -1)), image)
