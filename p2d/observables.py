"""Averages over snapshots, in one list: what a card says of an ensemble, and what ensembles are compared by.

Of C species: means and mean squares, gradient energies |grad c|^2, and products of pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from p2d.fields import Grid

FALSE_ALARMS = 1 / 3000  # share of stationary ensembles that are called changing
FEWEST = 8  # runs below which a z-score says nothing
ROUNDING = 1e-9  # relative: differences of averages below it are none
DIGITS = 9  # of means and standard deviations on a card
TOGETHER = 2**15  # values whose averages over tiles are taken at a time, so that they stay in a core's cache


def names(species: tuple[str, ...]) -> tuple[str, ...]:
    """What `averages` gives, in order: K = 3 C + C (C - 1) / 2."""
    pairs = itertools.combinations(species, 2)
    return (
        *species,
        *(f"{s}^2" for s in species),
        *(f"|grad {s}|^2" for s in species),
        *(f"{a} {b}" for a, b in pairs),
    )


def averages(states: np.ndarray, grid: Grid, tile: tuple[int, int] | None = None) -> np.ndarray:
    """Averages over tiles of the grid, or over all of it, of each state.

    Gradients are taken on the whole grid, so that a tile is like a part of a larger pattern.

    Args:
        states: [N, C, H, W].
        tile: rows and columns, which divide the grid's.

    Returns:
        float64 [N T, K], see `names`, of T tiles.
    """
    known = [None, None] if grid.is_closed else [grid.inside(0), grid.inside(1)]
    if tile is None:
        return _averages_at_once(states, grid, *known)
    per = max(1, TOGETHER // math.prod(states.shape[1:]))
    return np.concatenate([_averages(states[n : n + per], grid, tile, *known) for n in range(0, len(states), per)])


def _averages_at_once(states: np.ndarray, grid: Grid, cells: np.ndarray | None, inner: np.ndarray | None) -> np.ndarray:
    """See `_averages`, over all of the grid."""
    from p2d.pairwise import field_sums  # on use: numba takes a while to load

    known, inside = (
        np.empty(0, bool) if places is None or places.all() else places.reshape(-1) for places in (cells, inner)
    )
    wraps = grid.edges[0] == "periodic", grid.edges[1] == "periodic"
    sums = field_sums(np.ascontiguousarray(states), known, inside, wraps, float(grid.spacing) ** 2)
    count = np.full(sums.shape[1], float(math.prod(grid.shape)))
    if cells is not None and inner is not None:
        species = states.shape[1]
        count[:] = cells.sum()
        count[2 * species : 3 * species] = inner.sum()
    with np.errstate(invalid="ignore"):  # of no cells
        return sums / count


def _averages(
    states: np.ndarray, grid: Grid, tile: tuple[int, int], cells: np.ndarray | None, inner: np.ndarray | None
) -> np.ndarray:
    """See `averages`, of a few states.

    Args:
        cells, inner: those whose values, and whose neighbours', are known, bool [H, W]; None: all.
    """
    fields = states.astype(np.float64)
    if cells is not None:
        fields = np.where(cells, fields, 0.0)
    squares = _forward(fields, -2, grid) ** 2 + _forward(fields, -1, grid) ** 2
    if grid.spacing != 1:
        squares /= grid.spacing**2
    means = [_means(fields, tile, cells), _means(fields * fields, tile, cells)]
    means.append(_means(squares if inner is None else np.where(inner, squares, 0.0), tile, inner))
    pairs = itertools.combinations(range(fields.shape[1]), 2)
    means += [_means(fields[:, a : a + 1] * fields[:, b : b + 1], tile, cells) for a, b in pairs]
    return np.concatenate(means, axis=-1).reshape(-1, sum(each.shape[-1] for each in means))


def _forward(fields: np.ndarray, axis: int, grid: Grid) -> np.ndarray:
    """What the next cell along an axis has more than each, of fields [..., H, W]; 0 at a wall."""
    made = np.empty_like(fields)
    values, differences = np.moveaxis(fields, axis, 0), np.moveaxis(made, axis, 0)
    np.subtract(values[1:], values[:-1], out=differences[:-1])
    periodic = grid.edges[axis] == "periodic"
    np.subtract(values[0] if periodic else values[-1], values[-1], out=differences[-1])
    return made


def _means(fields: np.ndarray, tile: tuple[int, int], known: np.ndarray | None) -> np.ndarray:
    """Means [N, T, C] over tiles of fields [N, C, H, W] that are 0 where they are not known; nan of a tile of those."""
    count, species, (height, width) = *fields.shape[:2], tile
    tiles = fields.shape[2] // height, height, fields.shape[3] // width, width
    sums = fields.reshape(count, species, *tiles).sum(axis=(3, 5))
    cells = height * width if known is None else known.reshape(tiles).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):  # of no cells
        return (sums / cells).reshape(count, species, -1).swapaxes(1, 2)


@dataclass(frozen=True)
class Sums:
    """Sums over snapshots, without rounding: the same in any order and for any parts that are put together.

    A sum is a list of numbers that do not overlap (Shewchuk 1997), mostly two or three; added up they are exact.

    Attributes:
        samples, alive, runs: how many, those that live, and the living ones by which change is measured, one a run.
        totals: by name a sum for each average: `moments` [2 C] of the living; of the runs [K] `difference` between the
            two times, its `square`, `size` and `after`.
    """

    samples: int
    alive: int
    runs: int
    totals: dict[str, list[list[float]]]

    @classmethod
    def over(cls, before: np.ndarray, after: np.ndarray, alive: np.ndarray, first: np.ndarray, count: int) -> Sums:
        """Of averages [N, K] at two times.

        Args:
            alive, first: bool [N], the living, and those that are the first snapshot of their run.
            count: of species.
        """
        runs = alive & first
        difference = after[runs] - before[runs]
        square, rest = exact_square(difference)
        values = {
            "moments": after[alive, : 2 * count],
            "difference": difference,
            "square": np.concatenate([square, rest]),
            "size": (np.abs(before[runs]) + np.abs(after[runs])) / 2,
            "after": after[runs],
        }
        totals = {key: [exact_sum(column) for column in array.T.tolist()] for key, array in values.items()}
        return cls(len(after), int(alive.sum()), int(runs.sum()), totals)

    @classmethod
    def joined(cls, parts: Sequence[Sums]) -> Sums:
        """Of all that these are of."""
        totals = {}
        for key in parts[0].totals:
            columns = zip(*(part.totals[key] for part in parts), strict=True)
            totals[key] = [exact_sum(list(itertools.chain(*column))) for column in columns]
        counts = {key: sum(getattr(part, key) for part in parts) for key in ("samples", "alive", "runs")}
        return cls(**counts, totals=totals)

    def exact(self, name: str) -> list[Fraction | float]:
        """The sums of this name; nan for an average that there is not, as gradients where all cells are edges."""
        return [_exact(parts) for parts in self.totals[name]]


def _exact(parts: list[float]) -> Fraction | float:
    return math.nan if any(map(math.isnan, parts)) else sum(map(Fraction, parts), Fraction())


def exact_sum(values: list[float]) -> list[float]:
    """Numbers of which the first is the sum of these, and each further one what rounding has left out of it."""
    if not all(map(math.isfinite, values)):
        return [math.nan]
    parts: list[float] = []
    while rest := math.fsum([*values, *(-part for part in parts)]):
        parts.append(rest)
    return parts


def exact_square(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares, and what rounding has left out of them (Dekker 1971)."""
    square = values * values
    split = (2.0**27 + 1) * values
    high = split - (split - values)
    low = values - high
    return square, ((high * high - square) + 2 * high * low) + low * low


@dataclass(frozen=True)
class Change:
    """Whether averages of an ensemble change between two times.

    Attributes:
        z: the largest z-score by size; None where fewer than 8 runs leave it open.
        average: which, relative: its change relative to its mean.
        stationary: whether |z| is below `largest_z`.
    """

    z: float | None = None
    average: str | None = None
    relative: float | None = None
    stationary: bool | None = None

    @classmethod
    def between(cls, sums: Sums, species: tuple[str, ...]) -> Change:
        """Between the averages of the same runs at two times, of which these are the sums.

        The difference of each average is taken run by run, so what varies from run to run falls out; its mean over its
        standard error is the z-score.
        """
        if sums.runs < FEWEST:
            return cls()
        n = sums.runs
        difference, squares = (sums.exact(key) for key in ("difference", "square"))
        variance = [(s - d * d / n) / (n - 1) for d, s in zip(difference, squares, strict=True)]
        error = np.sqrt(np.array([float(v) for v in variance]) / n)
        mean = np.array([float(d / n) for d in difference])
        after, size = (np.array([float(total) for total in sums.exact(key)]) / n for key in ("after", "size"))
        means, powers = size[: len(species)], size[len(species) : 2 * len(species)]
        size[: len(species)] = np.maximum(means, np.sqrt(powers))  # a mean near 0 is small beside its species
        size = np.maximum(size, np.finfo(np.float64).tiny)
        z = mean / np.maximum(error, ROUNDING * size)
        worst = int(np.abs(z).argmax())
        return cls(
            z=round(float(z[worst]), 2),
            average=names(species)[worst],
            relative=float(mean[worst] / max(abs(after[worst]), ROUNDING * size[worst])),
            stationary=bool(abs(z[worst]) < largest_z(n, len(z))),
        )

    def text(self, steps: int) -> str:
        """In words: 'after 9,000 steps averages stay as they are (...)'; of others, how many steps would be enough."""
        if self.z is None or self.relative is None:
            return f"too few steps ({steps:,}) or living runs to tell whether averages still change"
        if self.stationary:
            return f"after {steps:,} steps averages stay as they are (largest change {abs(self.z):.1f} standard errors)"
        by = f"mean of {self.average} {100 * self.relative:+.2g} % over their second half"
        change = f"{by}, {abs(self.z):.0f} standard errors"
        return f"after {steps:,} steps averages still change ({change}); take --steps {2 * steps}"


def largest_z(runs: int, count: int) -> float:
    """What the largest of so many averages' z-scores stays below in a stationary ensemble, but for FALSE_ALARMS.

    Student's t, two sides, Bonferroni over the averages: of seven 4.0 for many runs, 8.8 for eight.
    """
    from scipy import stats  # on use: the command line must start without it

    return float(stats.t.isf(FALSE_ALARMS / count / 2, runs - 1))


@dataclass(frozen=True)
class Ensemble:
    """The snapshots of one system.

    Attributes:
        samples, alive: how many, and of how many the pattern lives.
        mean, std: of each species over all cells of the living.
        change: whether the averages still change late in the burn-in.
    """

    samples: int
    alive: int
    mean: dict[str, float]
    std: dict[str, float]
    change: Change

    @classmethod
    def of(cls, sums: Sums, species: tuple[str, ...], change: Change) -> Ensemble:
        """Of the sums over its snapshots."""
        count = len(species)
        moments = np.array([float(total) for total in sums.exact("moments")]) / max(sums.alive, 1)
        square = moments[count:] - moments[:count] ** 2
        values = moments[:count], np.sqrt(np.maximum(square, 0.0))
        mean, std = ({s: float(f"{v:.{DIGITS}g}") for s, v in zip(species, each, strict=True)} for each in values)
        return cls(sums.samples, sums.alive, mean, std, change)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, flat: mean_u, std_u and so on."""
        means = {f"{key}_{s}": v for key in ("mean", "std") for s, v in getattr(self, key).items()}
        return {"samples": self.samples, "alive": self.alive, **means, "change": asdict(self.change)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Ensemble:
        """The ensemble of a card."""
        mean, std = (
            {name.removeprefix(key): v for name, v in values.items() if name.startswith(key)}
            for key in ("mean_", "std_")
        )
        return cls(values["samples"], values["alive"], mean, std, Change(**values["change"]))
