"""Averages over snapshots, in one list: what a card says of an ensemble, and what ensembles are compared by.

Of C species: means and mean squares, gradient energies |grad c|^2, and products of pairs.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from p2d.fields import Grid

FALSE_ALARMS = 1 / 3000  # share of stationary ensembles that are called changing
FEWEST = 8  # runs below which a z-score says nothing
ROUNDING = 1e-9  # relative: differences of averages below it are none
DIGITS = 9  # of means and standard deviations on a card


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
    height, width = tile or grid.shape
    mean = np.mean if grid.is_closed else np.nanmean
    unknown = np.where(grid.inside(0), 0.0, np.nan), np.where(grid.inside(1), 0.0, np.nan)
    made = []
    for state in states:
        fields = state.astype(np.float64) + unknown[0]
        squares = [sum((grid.shifted(f, *by) - f) ** 2 for by in ((1, 0), (0, 1))) / grid.spacing**2 for f in fields]
        squares = [square + unknown[1] for square in squares]
        pairs = [a * b for a, b in itertools.combinations(fields, 2)]
        every = np.stack([*fields, *(f * f for f in fields), *squares, *pairs])
        rows, columns = every.shape[1] // height, every.shape[2] // width
        tiles = mean(every.reshape(len(every), rows, height, columns, width), axis=(2, 4))
        made.append(tiles.reshape(len(every), -1).T)
    return np.concatenate(made)


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
    def between(cls, before: np.ndarray, after: np.ndarray, species: tuple[str, ...]) -> Change:
        """Between averages [N, K] of the same runs at two times.

        The difference of each average is taken run by run, so what varies from run to run falls out; its mean over its
        standard error is the z-score.
        """
        if len(after) < FEWEST:
            return cls()
        difference = after - before
        error = difference.std(axis=0, ddof=1) / np.sqrt(len(after))
        size = (np.abs(before) + np.abs(after)).mean(axis=0) / 2
        means, squares = size[: len(species)], size[len(species) : 2 * len(species)]
        size[: len(species)] = np.maximum(means, np.sqrt(squares))  # a mean near 0 is small beside its species
        size = np.maximum(size, np.finfo(np.float64).tiny)
        z = difference.mean(axis=0) / np.maximum(error, ROUNDING * size)
        worst = int(np.abs(z).argmax())
        return cls(
            z=round(float(z[worst]), 2),
            average=names(species)[worst],
            relative=float(difference[:, worst].mean() / max(abs(after[:, worst].mean()), ROUNDING * size[worst])),
            stationary=bool(abs(z[worst]) < largest_z(len(after), after.shape[1])),
        )

    def text(self, steps: int) -> str:
        """In words: '9,000 steps: stationary (largest |z| 1.8)' or '...: still changing, ...; take --steps 18000'."""
        if self.z is None or self.relative is None:
            return f"{steps:,} steps: too few steps or living runs to tell whether it is stationary"
        if self.stationary:
            return f"{steps:,} steps: stationary (largest |z| {abs(self.z):.1f})"
        by = f"mean of {self.average} {100 * self.relative:+.2g} % over their second half"
        return f"{steps:,} steps: still changing, z = {self.z:.0f} ({by}); take --steps {2 * steps}"


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
    def measured(cls, samples: int, living: np.ndarray, species: tuple[str, ...], change: Change) -> Ensemble:
        """Of the living's averages [N, K]."""
        count = len(species)
        means = living[:, : 2 * count].mean(axis=0) if len(living) else np.zeros(2 * count)
        mean, square = means[:count], means[count:]
        std = np.sqrt(np.maximum(square - mean * mean, 0.0))
        mean, std = ({s: float(f"{v:.{DIGITS}g}") for s, v in zip(species, each, strict=True)} for each in (mean, std))
        return cls(samples, len(living), mean, std, change)

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
