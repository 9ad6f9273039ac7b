"""What snapshots can and cannot tell of a flow, in numbers and in words.

Where nothing moves, reaction and diffusion balance in every cell, D lap u = -R(u, v), and the Laplacian is a function
of the species. Where something moves it is not, and by as much as the velocity is beside the diffusion:
E|lap u - E[lap u | u, v]|^2 / E|lap u|^2 was E|du/dt|^2 / E|D lap u|^2 to within a factor of 4 over 14 presets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from p2d.fields import Grid
from p2d.flow.velocity import PERIODIC, at_cells, laplacian, lattice
from p2d.training.randomness import stream_seed

UNITS = 200  # random smooth functions of the species
STRIDE = 3  # of the cells that are measured
# Of seven presets that do not move (u_skate, holes, maze, stripes, worms, fingerprints, spots) the largest is 5e-4 and
# the others are below 1e-4; of those that move the least is 2.4e-3 (solitons).
STATIC = 1e-3
# 64 snapshots of 128 x 128: cosines of 0.990 to 0.998 on life, spirals, chaos and solitons; half as many 0.95 to 0.997.
SUFFICIENT_CELLS = 2**20
LARGEST_Z = 3.0
# Share of the mean square of a velocity that is no linear function of the species, below which it is a symmetry of the
# ensemble: 1e-5 to 1e-4 on lambda-omega systems, which stay the same under a turn of their phase; others have 0.3 to 1.
LINEAR = 1e-3


class Balance:
    """Sums over cells that tell how far the Laplacian of each species is a function of all species there.

    Args:
        mean, std: of the species over the data, [C].
        grid: whose edges the states have, of any size.
    """

    def __init__(self, mean: Tensor, std: Tensor, grid: Grid = PERIODIC) -> None:
        generator = torch.Generator().manual_seed(stream_seed("balance"))
        self.mean, self.std, self.grid = mean.double(), std.double().clamp(min=1e-12), grid
        self.directions = torch.randn(UNITS, len(mean), generator=generator, dtype=torch.float64).to(mean.device)
        self.phases = torch.randn(UNITS, 1, generator=generator, dtype=torch.float64).to(mean.device)

    def sums(self, x: Tensor) -> Tensor:
        """Products of functions and Laplacians at every third cell of states x [B, C, H, W], [K, K], K = 201 + 2 C."""
        grid = self.grid.sized(x.shape)
        cells = lattice(grid, STRIDE, 1)
        species, curvature = (at_cells(f, cells).double().transpose(0, 1).flatten(1) for f in (x, laplacian(x, grid)))
        z = (species - self.mean[:, None]) / self.std[:, None]
        units = functional.silu(self.directions @ z + self.phases)
        columns = torch.cat([torch.ones_like(z[:1]), z, units, curvature])
        return columns @ columns.mT

    def imbalance(self, sums: Tensor) -> float:
        """Share of the Laplacians' mean square that is no function of the species, the largest of all species."""
        count = len(self.mean)
        gram, cross, power = sums[:-count, :-count], sums[:-count, -count:], sums[-count:, -count:].diagonal()
        fit = torch.linalg.lstsq(gram.cpu(), cross.cpu(), rcond=1e-13, driver="gelsd").solution
        explained = (fit * cross.cpu()).sum(dim=0)
        return float((1 - explained / power.cpu()).nan_to_num(0.0).clamp(min=0).max())


def imbalance(states: Tensor, grid: Grid = PERIODIC) -> float:
    """The imbalance of states [N, C, H, W] on a grid, see `Balance`."""
    std, mean = torch.std_mean(at_cells(states.double(), lattice(grid.sized(states.shape))), dim=(0, 2))
    balance = Balance(mean, std, grid)
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


def verdict(measured: Mapping[str, float], snapshots: int, grid: tuple[int, int]) -> str:
    """In words, what a flow that was found by stationarity is worth.

    Args:
        measured: imbalance of the snapshots; z_rms of the z-scores of held-out observables; direction_z and nonlinear,
            see `Stationarity.after_epoch`, where they are known.
        snapshots: that it was learnt from, of this grid.
    """
    if is_static(measured["imbalance"]):
        return static(measured["imbalance"])
    least, z_rms = sufficient_snapshots(grid), measured["z_rms"]
    if not z_rms <= LARGEST_Z:
        more = f"{least} snapshots would do" if snapshots < least else "the ensemble may still be changing"
        return (
            f"doubtful: held-out observables are not stationary under it (z-scores of rms {z_rms:.1f}); {more}, or the "
            "dynamics have what its isotropic stencil does not see: products of gradients, higher or odd derivatives"
        )
    few = f" from few snapshots ({least} would do)" if snapshots < least else ""
    if measured.get("nonlinear", 1.0) < LINEAR:
        return (
            f"a symmetry{few}: it turns the species into each other, alike in all cells, and the snapshots stay as "
            "they are under that whatever their dynamics, which it may be a part of"
        )
    if measured.get("direction_z", math.inf) < LARGEST_Z:
        return (
            f"stationary{few}: the dynamics up to the unit and the direction of time, which is arbitrary: snapshots "
            "cannot tell it, and the flow has no diffusion that is beyond its error"
        )
    return (
        f"stationary{few}: the dynamics up to the unit of time; of its two directions, which snapshots cannot tell "
        "apart, the one under which diffusion damps"
    )
