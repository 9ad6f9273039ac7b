"""Data that tasks are built on."""

import torch

from p2d.fields import Grid, Scaling
from p2d.training.states import MemoryData

CPU = torch.device("cpu")
GRID = Grid((8, 8))
SCALING = Scaling((0.5, 0.5), (0.5, 0.5))


def data(count: int = 10) -> MemoryData:
    states = torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = torch.arange(count)
    return MemoryData(states[:-2], ids[:-2], states[-2:], ids[-2:])
