"""Whether a pattern moves: where nothing does, reaction and diffusion balance in every cell.

Then D lap c = -R, and the Laplacian of each species is a function of all species' values in that cell. Where something
moves it is not, and by as much as the velocity is beside the diffusion. Of fourth order, lap(lap c) is a function of
values, Laplacians and gradients; of one species that is conserved, of the Laplacians of its powers. What the functions
do not explain has no unit: it does not change with the scale of values or lengths, nor with the species' order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement as combinations

import numpy as np

from p2d.fields import Grid

DEGREE, OF_MANY = 5, 3  # of the polynomials of up to three species, and of more
NOISY_DEGREE = 3  # where noise has to be extrapolated to none
ENUMERATED = 3
STRIDE = 2  # of the rows and columns that are looked at; neighbours say nearly the same
REACH = 2  # cells, of lap(lap(c))
# Of the catalogue's 21 presets that stand still the largest imbalance is 5e-4 (Klausmeier's spots, which still grow a
# little); of its 22 that move the least is 2.2e-3 (Barkley's waves), of fourth order 1.5e-2.
STATIC = 1e-3


@dataclass(frozen=True)
class Balance:
    """Sums over snapshots that tell how far Laplacians are functions of values.

    Attributes:
        grid: of the snapshots.
        count: of species, C.
        degree: of the polynomials; 0 for as many as are usual.
        smooth: what is done to all fields before they are compared.
    """

    grid: Grid
    count: int
    degree: int = 0
    smooth: Callable[[np.ndarray], np.ndarray] = np.asarray

    def sums(self, fields: Iterable[np.ndarray]) -> np.ndarray:
        """Products of polynomials, gradients and Laplacians, summed over some cells: [F, F].

        Args:
            fields: standardised values z [C, H, W] of each snapshot.
        """
        inside = self.grid.inside(REACH)
        rows, columns = (np.arange(length) % STRIDE == 0 for length in self.grid.shape)
        chosen = inside & rows[:, None] & columns
        total = None
        for z in fields:
            cells = self.smooth(np.stack(self._features(z)))[:, chosen]
            total = cells @ cells.T + (0.0 if total is None else total)
        if total is None:  # of no fields: a worker without a share
            count = len(self._features(np.zeros((self.count, *self.grid.shape))))
            return np.zeros((count, count))
        return total

    def _features(self, z: np.ndarray) -> list[np.ndarray]:
        """Polynomials, then what fourth order adds, then lap(c) and lap(lap(c)) of each species."""
        cells = self.grid.in_cells
        curved = cells.laplacian(z)
        pairs = combinations(range(len(z)), 2)
        more = [cells.gradients(z[a], z[b]) for a, b in pairs]
        if len(z) == 1:
            more += [cells.laplacian(z[0] ** 2), cells.laplacian(z[0] ** 3)]
        return [*polynomials(z, self._degree), *more, *curved, *cells.laplacian(curved)]

    @property
    def _degree(self) -> int:
        return self.degree or (DEGREE if self.count <= ENUMERATED else OF_MANY)

    def imbalance(self, sums: np.ndarray) -> float:
        """Share of the Laplacians' power that is no function of the values, the largest of all species; of 2 orders."""
        values = len(polynomials(np.zeros((self.count, 1)), self._degree))
        fourth = len(sums) - self.count
        second = range(fourth - self.count, fourth)
        return min(
            _unexplained(sums, range(values), second), _unexplained(sums, range(fourth), range(fourth, len(sums)))
        )


def polynomials(z: np.ndarray, degree: int) -> list[np.ndarray]:
    """All monomials of fields z [C, ...] to a degree."""
    made: dict[tuple[int, ...], np.ndarray] = {(): np.ones_like(z[0])}
    for d in range(1, degree + 1):
        for chosen in combinations(range(len(z)), d):
            made[chosen] = made[chosen[:-1]] * z[chosen[-1]]
    return list(made.values())


def measure_imbalance(states: np.ndarray, grid: Grid) -> float:
    """The imbalance of states [N, C, H, W] of any scale, see `Balance`."""
    known = states[..., grid.inside(0)].astype(np.float64)
    mean, std = known.mean(axis=(0, 2))[:, None, None], known.std(axis=(0, 2))[:, None, None]
    balance = Balance(grid, states.shape[1])
    return balance.imbalance(balance.sums((state - mean) / np.maximum(std, np.finfo(float).tiny) for state in states))


def _unexplained(sums: np.ndarray, by: range, of: range) -> float:
    """The largest share of the power of some fields that others do not explain in least squares."""
    known, wanted = np.array(by), np.array(of)
    power = np.diag(sums)[wanted]
    if not (power > 0).all():
        return 1.0
    known = known[np.diag(sums)[known] > 0]  # what noise is extrapolated to may be none
    scale = np.sqrt(np.diag(sums)[known])
    gram = sums[np.ix_(known, known)] / np.outer(scale, scale)
    cross = sums[np.ix_(known, wanted)] / scale[:, None]
    fit = np.linalg.lstsq(gram, cross, rcond=1e-13)[0]
    return float((1 - (fit * cross).sum(axis=0) / power).max())
