"""What snapshots can and cannot tell of a flow, in numbers and in words.

Where nothing moves, reaction and diffusion balance in every cell, D lap u = -R(u, v), and the Laplacian is a function
of the concentrations. Where something moves it is not, and by as much as the velocity is beside the diffusion:
E|lap u - E[lap u | u, v]|^2 / E|lap u|^2 was E|du/dt|^2 / E|D lap u|^2 to within a factor of 4 over 14 presets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from p2d.flow.velocity import at_cells, edges
from p2d.training.randomness import stream_seed

UNITS = 200  # random smooth functions of (u, v)
STRIDE = 3  # of the cells that are measured
# Of seven presets that do not move (u_skate, holes, maze, stripes, worms, fingerprints, spots) the largest is 5e-4 and
# the others are below 1e-4; of those that move the least is 2.4e-3 (solitons).
STATIC = 1e-3
# 64 snapshots of 128 x 128: cosines of 0.990 to 0.998 on life, spirals, chaos and solitons; half as many 0.95 to 0.997.
SUFFICIENT_CELLS = 2**20
LARGEST_Z = 3.0


class Balance:
    """Sums over cells that tell how far the Laplacian of each species is a function of u and v there.

    Args:
        mean, std: of u and v over the data, [2].
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        generator = torch.Generator().manual_seed(stream_seed("balance"))
        self.mean, self.std = mean.double(), std.double().clamp(min=1e-12)
        self.directions = torch.randn(UNITS, 2, generator=generator, dtype=torch.float64).to(mean.device)
        self.phases = torch.randn(UNITS, 1, generator=generator, dtype=torch.float64).to(mean.device)

    def sums(self, x: Tensor) -> Tensor:
        """Products of functions and Laplacians at every third cell of states x [B, 2, H, W], [K, K], K = 205."""
        species, laplacian = (at_cells(f, STRIDE).double().transpose(0, 1).flatten(1) for f in (x, edges(x)))
        z = (species - self.mean[:, None]) / self.std[:, None]
        units = functional.silu(self.directions @ z + self.phases)
        columns = torch.cat([torch.ones_like(z[:1]), z, units, laplacian])
        return columns @ columns.mT

    @staticmethod
    def imbalance(sums: Tensor) -> float:
        """Share of the Laplacians' mean square that is no function of u and v, the larger of the two species."""
        gram, cross, power = sums[:-2, :-2], sums[:-2, -2:], sums[-2:, -2:].diagonal()
        fit = torch.linalg.lstsq(gram.cpu(), cross.cpu(), rcond=1e-13, driver="gelsd").solution
        explained = (fit * cross.cpu()).sum(dim=0)
        return float((1 - explained / power.cpu()).clamp(min=0).max())


def imbalance(states: Tensor) -> float:
    """The imbalance of states [N, 2, H, W], see `Balance`."""
    std, mean = torch.std_mean(states.double(), dim=(0, 2, 3))
    balance = Balance(mean, std)
    return balance.imbalance(torch.stack([balance.sums(x) for x in states.split(1)]).sum(dim=0))


def is_static(imbalance: float) -> bool:
    """Whether the velocity on the data is as good as zero."""
    return imbalance < STATIC


def sufficient_snapshots(grid: tuple[int, int]) -> int:
    """How many snapshots of this size suffice for a flow."""
    return math.ceil(SUFFICIENT_CELLS / (grid[0] * grid[1]))


def static(imbalance: float) -> str:
    """The words for data that does not move."""
    return (
        f"static: the velocity on the data is zero to within {100 * math.sqrt(imbalance):.1g} % of the diffusion, "
        "its direction is not identifiable"
    )


def verdict(imbalance: float, z_rms: float, snapshots: int, grid: tuple[int, int]) -> str:
    """In words, what a flow that was found by stationarity is worth.

    Args:
        imbalance: of the snapshots.
        z_rms: root mean square of the z-scores of held-out observables.
        snapshots: that it was learnt from, of this grid.
    """
    if is_static(imbalance):
        return static(imbalance)
    least = sufficient_snapshots(grid)
    if not z_rms <= LARGEST_Z:
        more = f"; {least} snapshots would do" if snapshots < least else ": the ensemble may still be changing"
        return f"doubtful: held-out observables are not stationary under it (z-scores of rms {z_rms:.1f}){more}"
    few = f" from few snapshots ({least} would do)" if snapshots < least else ""
    return (
        f"stationary{few}: the dynamics up to the unit of time; of its two directions, which snapshots cannot tell "
        "apart, the one under which diffusion damps"
    )
