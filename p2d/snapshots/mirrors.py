"""Whether every snapshot is its own mirror image, as it is or with its signs turned: such data hide terms.

Where u(x0 - x) = -u(x) in all snapshots, averages over the grid of what is even in u and x together have no rate, so
that terms such as u^2 may have any coefficient. A field is its own mirror image about some place where the sum over x
of u(x) u(x0 - x), one product of Fourier coefficients for all x0 (the convolution theorem), reaches that of u^2.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from p2d.fields import Grid
from p2d.snapshots.store import evenly

EXACT = 0.01  # share of a field's variance that may differ from its mirror image; patterns' own differ by 0.1 and more
LOOKED_AT = 32  # snapshots, at most


def find_mirrors(states: np.ndarray, grid: Grid) -> dict[str, bool]:
    """The axes, 'x' and 'y', along which every snapshot [N, C, H, W] is its own mirror image.

    Returns:
        By axis, whether signs are turned by it, of what deviates from each species' mean.
    """
    if grid.mask is not None:
        return {}
    some = evenly(states, LOOKED_AT).astype(np.float64)
    fields = some - some.mean(axis=(0, 2, 3), keepdims=True)
    made = {}
    for name, axis in (("y", -2), ("x", -1)):
        if fields.shape[axis] == 1:
            continue
        alike = _likeness(fields, axis, periodic=grid.edges[axis] == "periodic")
        power = (fields**2).sum(axis=(1, 2, 3))
        if (power > 0).all():
            for sign in (1, -1):
                if ((sign * alike).max(axis=1) >= (1 - EXACT) * power).all():
                    made[name] = sign < 0
    return made


def _likeness(fields: np.ndarray, axis: int, *, periodic: bool) -> np.ndarray:
    """Sums of a snapshot times its mirror images about each place of an axis, [N, L]; unless periodic, its middle."""
    if not periodic:
        return (fields * np.flip(fields, axis)).sum(axis=(1, 2, 3))[:, None]
    waves = scipy.fft.rfft(fields, axis=axis)
    both = scipy.fft.irfft(waves * waves, n=fields.shape[axis], axis=axis)
    return np.moveaxis(both, axis, 1).sum(axis=(2, 3))
