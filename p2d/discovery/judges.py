"""Observables that judge: what the equation has to keep as well, though it was not fitted to it.

Averages over cells of cos(q + b), where q is a random linear filter L of the species. The rate of such a mean under
dz/dt = v is -mean(sin(q + b) L v), and L may be turned round to act on the sine instead. Filters are of four kinds:

- local: values and Laplacians;
- bands: values between two scales, as differences of Gaussian kernels;
- pairs: values here and 2 to 8 cells away;
- slopes: values, and first differences of Laplacians.

Filters are finite, and cells whose filter reaches beyond what is known are left out, so that edges do not matter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from scipy.ndimage import gaussian_filter

from p2d.discovery.observables import Covariance, Fields, fast
from p2d.fields import Edge, Grid
from p2d.training.randomness import stream_seed

EACH = 12  # judges of a kind
SPREAD = 0.7  # of the directions, in standardised fields
LOOKED_AT = 16  # snapshots, whose fields' spread is taken
STRIDE = 2  # of the rows and columns that are averages over; neighbours say nearly the same
KINDS = ("local", "bands", "pairs", "slopes")
SMOOTH = ("bands", "pairs")  # kinds that noise leaves something of
SCALES = (1.0, 2.0, 4.0)  # of the Gaussian kernels, in cells
CUT_OFF = 2.5  # widths, at which kernels end
DISTANCES = (2, 3, 4, 6, 8)  # of pairs, in cells
LEAST_SHARE = 0.3  # of the cells that observables of the fit see, that judges have to see as well
REACHES = (12, 8, 6, 4, 2)  # cells, of filters: as far as so many cells are left


@dataclass(frozen=True)
class Judges:
    """The judges of snapshots of some shape.

    Attributes:
        kinds: of the filters.
        reach: of the filters, in cells, at most.
        spread: by the name of each field that filters are made of, its standard deviation in each species, [C].
        grid: of the snapshots; lengths are counted in cells.
        margin: cells at unknown edges that are left out beside those that filters reach.
        kernel: width in cells, and widths at its end, of the kernel that the fields are seen through.
    """

    kinds: tuple[str, ...]
    reach: int
    spread: tuple[tuple[str, tuple[float, ...]], ...]
    grid: Grid
    margin: int = 0
    kernel: tuple[float, float] = (0.0, CUT_OFF)

    @classmethod
    def of(cls, z: np.ndarray, grid: Grid, margin: int, kernel: tuple[float, float], *, noisy: bool) -> Judges:
        """Of snapshots like these, standardised and smoothed, [N, C, H, W]."""
        # At mirror edges filters would reach round the grid: they are left out as open ones are.
        rows, columns = grid.edges
        grid = replace(grid.in_cells, edges=(_unknown(rows), _unknown(columns)))
        within = grid.inside(margin).sum()
        reach = next((r for r in REACHES if _fits(grid, margin + r, LEAST_SHARE * within)), REACHES[-1])
        kinds = SMOOTH if noisy else KINDS
        made = {}
        for kind in kinds:
            for name, stencil in _stencils(kind, grid.shape, reach):
                fields = _filtered(z[:LOOKED_AT], _symbol(stencil, grid.shape))[..., grid.inside(margin + reach)]
                made[name] = tuple((fields.std(axis=(0, 2)) + np.finfo(float).tiny).tolist())
        return cls(kinds, reach, tuple(made.items()), grid, margin, kernel)

    def __len__(self) -> int:
        return EACH * len(self.kinds)

    @lru_cache(maxsize=4)  # noqa: B019 - of few
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Filters in wave numbers, [J, C, H, W / 2 + 1], and phases [J, 1]."""
        rng = np.random.Generator(np.random.Philox(stream_seed("discover", "judges")))
        known = dict(self.spread)
        filters = []
        for kind in self.kinds:
            choices = [
                [(name, _symbol(stencil, self.grid.shape)) for name, stencil in group]
                for group in _groups(_stencils(kind, self.grid.shape, self.reach))
            ]
            for n in range(EACH):
                own = choices[n % len(choices)]
                weights = SPREAD * rng.standard_normal((len(own), len(next(iter(known.values())))))
                filters.append(
                    sum(
                        (weight / np.array(known[name]))[:, None, None] * symbol
                        for weight, (name, symbol) in zip(weights, own, strict=True)
                    )
                )
        return np.stack(filters), rng.uniform(0, 2 * math.pi, (len(filters), 1))

    @lru_cache(maxsize=4)  # noqa: B019 - of few
    def cells(self) -> np.ndarray:
        """The cells that are averaged over, [H, W] of bool."""
        rows, columns = (np.arange(length) % STRIDE == 0 for length in self.grid.shape)
        return self.grid.inside(self.margin + self.reach) & rows[:, None] & columns

    def along(self, fields: Fields) -> np.ndarray:
        """q at the cells that are averaged over, [J, P]."""
        filters, waves = self.drawn()[0], scipy.fft.rfft2(fields.z)
        q = sum((filters[:, s] * wave for s, wave in enumerate(waves[1:], 1)), start=filters[:, 0] * waves[0])
        some, cells = _thinned(q, self.grid.shape), self.cells()
        if some.shape[1:] == cells.shape:
            return some[:, cells]
        return some[:, cells[_every(cells.shape[0]), _every(cells.shape[1])]]

    def values(self, fields: Fields) -> np.ndarray:
        """The observables themselves, sums over cells: [J]."""
        return fast(torch.cos, fields.directed(self) + self.drawn()[1]).mean(axis=1) * self._every(fields)

    def rows(self, fields: Fields, phi: np.ndarray) -> np.ndarray:
        """Rates for each of M terms phi [M, H W] in each species' equation, sums over cells: [J, C M]."""
        each = self._slopes(fields).reshape(-1, phi.shape[1]) @ phi.T
        return each.reshape(len(self), -1) * self._every(fields)

    def rates(self, fields: Fields, velocities: Sequence[Fields]) -> np.ndarray:
        """Rates under T velocities, sums over cells: [J, T]."""
        slopes = -fast(torch.sin, fields.directed(self) + self.drawn()[1])
        each = [(slopes * v.directed(self)).mean(axis=1) for v in velocities]
        return np.stack(each, axis=1) * self._every(fields)

    def spreads(self, fields: Fields, covariance: Covariance) -> np.ndarray:
        """Second derivatives under white noise of variance 1 in each species, sums over cells: [J, C]."""
        del covariance  # filters reach further
        made = -fast(torch.cos, fields.directed(self) + self.drawn()[1]).mean(axis=1) * self._every(fields)
        return made[:, None] * self._power()

    @lru_cache(maxsize=4)  # noqa: B019 - of few
    def _power(self) -> np.ndarray:
        """The variance of each filter of white noise seen through the kernel, by species, [J, C]."""
        width, end = self.kernel
        point = np.zeros(self.grid.shape)
        point[0, 0] = 1.0
        widths = [0.0 if length == 1 else width for length in self.grid.shape]
        seen = scipy.fft.rfft2(gaussian_filter(point, widths, mode="wrap", truncate=end) if width else point)
        return (scipy.fft.irfft2(self.drawn()[0] * seen, s=self.grid.shape) ** 2).sum(axis=(2, 3))

    def _slopes(self, fields: Fields) -> np.ndarray:
        """The functional derivatives by each species, of means over cells: [J, C, H, W]."""
        slopes = np.zeros((len(self), *self.grid.shape))
        slopes[:, self.cells()] = -fast(torch.sin, fields.directed(self) + self.drawn()[1]) / self.cells().sum()
        waves = scipy.fft.rfft2(slopes)[:, None] * self.drawn()[0].conj()
        return scipy.fft.irfft2(waves, s=self.grid.shape)

    @staticmethod
    def _every(fields: Fields) -> float:
        """How many cells observables of the fit are sums over."""
        return float(fields.z[0].size if fields.window is None else fields.window.sum())


def _unknown(edge: Edge) -> Edge:
    return edge if edge == "periodic" else "open"


def _fits(grid: Grid, reach: int, least: float) -> bool:
    short = min(length for length in grid.shape if length > 1)
    return 2 * reach < short and grid.inside(reach).sum() >= max(least, 1)


def _stencils(kind: str, shape: tuple[int, int], reach: int) -> list[tuple[str, np.ndarray]]:
    """The fields that filters of a kind are made of: names, and stencils around the middle of [2 R + 1, 2 R + 1]."""
    point = np.zeros((2 * reach + 1, 2 * reach + 1))
    point[reach, reach] = 1.0
    flat = [length == 1 for length in shape]

    def moved(stencil: np.ndarray, rows: int, columns: int) -> np.ndarray:
        return np.roll(stencil, (rows, columns), (0, 1))

    sides = [(by, 0) for by in (1, -1) if not flat[0]] + [(0, by) for by in (1, -1) if not flat[1]]
    curved = sum((moved(point, *by) for by in sides), start=-len(sides) * point)
    axes = [axis for axis in (0, 1) if not flat[axis]]
    if kind == "local":
        return [("value", point), ("laplacian", curved)]
    if kind == "bands":
        widths = [width for width in SCALES if CUT_OFF * width <= reach] or [reach / CUT_OFF]
        kernels = [point, *(_gaussian(point, width, flat) for width in widths)]
        bands = [fine - coarse for fine, coarse in itertools.pairwise(kernels)]
        return [*((f"band {n}", band) for n, band in enumerate(bands)), ("coarse", kernels[-1])]
    if kind == "pairs":
        places = [(d, 0) if axis == 0 else (0, d) for d in DISTANCES if d <= reach for axis in axes]
        return [("value", point), *((f"{r}, {c} away", moved(point, r, c)) for r, c in places)]
    steps = [(1, 0) if axis == 0 else (0, 1) for axis in axes]
    slopes = [(moved(curved, *by) - moved(curved, -by[0], -by[1])) / 2 for by in steps]
    return [("value", point), *((f"slope {n}", slope) for n, slope in enumerate(slopes))]


def _groups(stencils: list[tuple[str, np.ndarray]]) -> list[list[tuple[str, np.ndarray]]]:
    """Which of the fields of a kind are in one filter: pairs two by two, the others all together or with the first."""
    first, *others = stencils
    if first[0] == "value":
        return [[first, other] for other in others]
    return [[one, stencils[-1]] for one in stencils[:-1]] + [stencils]


def _gaussian(point: np.ndarray, width: float, flat: list[bool]) -> np.ndarray:
    widths = [0.0 if one else width for one in flat]
    return gaussian_filter(point, widths, mode="constant", truncate=CUT_OFF)


def _symbol(stencil: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The factor of each wave by a stencil, [H, W / 2 + 1]: of f(x) = sum over r of stencil(r) z(x + r)."""
    reach = len(stencil) // 2
    around = np.zeros(shape)
    rows, columns = np.nonzero(stencil)
    np.add.at(around, (-(rows - reach) % shape[0], -(columns - reach) % shape[1]), stencil[rows, columns])
    return scipy.fft.rfft2(around)


def _every(length: int) -> slice:
    """Every so-manieth place of an axis of an even number of cells; all of others."""
    return slice(None, None, STRIDE if length % STRIDE == 0 else 1)


def _thinned(waves: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Every second row and column of fields of these waves [J, H, W / 2 + 1], where their number is even: [J, H', W'].

    Waves that are alike there are added up (aliasing), so that what is transformed is a quarter as large.
    """
    height, width = shape
    if width % (2 * STRIDE):
        return scipy.fft.irfft2(waves, s=shape)[:, _every(height), _every(width)]
    if height % STRIDE == 0:
        waves = (waves[:, : height // STRIDE] + waves[:, height // STRIDE :]) / STRIDE
        height //= STRIDE
    turned = np.roll(waves[:, ::-1], 1, axis=1)[..., ::-1].conj()
    quarter = width // (2 * STRIDE) + 1
    folded = (waves[..., :quarter] + turned[..., :quarter]) / STRIDE
    return scipy.fft.irfft2(folded, s=(height, width // STRIDE))


def _filtered(z: np.ndarray, symbol: np.ndarray) -> np.ndarray:
    return scipy.fft.irfft2(scipy.fft.rfft2(z) * symbol, s=z.shape[-2:])
