"""Random streams that belong to samples, so that no result depends on how samples are shared among workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

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


def augmentation(generator: torch.Generator, state: Tensor) -> tuple[int, int, int, bool]:
    """A draw of shift down, shift right, quarter turns (half turns on non-square grids) and mirroring."""
    height, width = state.shape[-2:]
    down = int(torch.randint(height, (), generator=generator))
    right = int(torch.randint(width, (), generator=generator))
    turns = int(torch.randint(4, (), generator=generator))
    mirror = bool(torch.randint(2, (), generator=generator))
    return down, right, turns if height == width else turns // 2 * 2, mirror


def augmented(state: Tensor, draw: tuple[int, int, int, bool]) -> Tensor:
    """A state [2, H, W] shifted, turned and mirrored: the physics is the same for all of them."""
    down, right, turns, mirror = draw
    state = torch.rot90(state.roll((down, right), (-2, -1)), turns, (-2, -1))
    return state.flip(-1) if mirror else state
