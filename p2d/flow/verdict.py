"""What snapshots can and cannot tell of a flow, in words; whether they move at all: see snapshots/static.py."""

from __future__ import annotations

import math
from collections.abc import Mapping

from p2d.snapshots.static import STATIC

# 64 snapshots of 128 x 128: cosines of 0.990 to 0.998 on life, spirals, chaos and solitons; half as many 0.95 to 0.997.
SUFFICIENT_CELLS = 2**20
LARGEST_Z = 3.0
# Share of the mean square of a velocity that is no linear function of the species, below which it is a symmetry of the
# ensemble: 1e-5 to 1e-4 on lambda-omega systems, which stay the same under a turn of their phase; others have 0.3 to 1.
LINEAR = 1e-3


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
    if measured["imbalance"] < STATIC:
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
