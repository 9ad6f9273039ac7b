"""Observables whose rates tell the equation: averages over the cells of densities made of each cell's fields.

The fields are each species' standardised values z, their Laplacians and, where a library has first derivatives, their
slopes. The rate of an observable mean(m g) under dz/dt = v is mean(v dG/dz), with the functional derivative

    dG/dz = m g_z + lap(m g_lap) - d(m g_d),

as the Laplacian is self-adjoint and a slope is not. m is a window: 1 on a closed grid, and elsewhere 1 where neither g
nor its derivative reaches a cell that is not known, so that edges of any kind do not matter.

White noise in the dynamics, dz = v dt + sigma dW, adds sigma^2 / 2 times the second derivatives by every cell's z_s
(Ito). Those of a density are its own by the fields f_i of its cell, times what noise in all cells does to two of them,

    mean(m sum_ij g_ij <f_i, f_j>),   <z, z> = 1, <z, lap z> = -4, <lap z, lap z> = 20 of the 5-point stencil.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations as combinations_of_two
from itertools import combinations_with_replacement as combinations
from typing import Protocol

import numpy as np
import torch

from p2d.fields import Grid
from p2d.training.randomness import stream_seed

VALUE, LAP, SLOPE_X, SLOPE_Y = range(4)
Factor = tuple[int, int]  # which of the four, of which species
Density = tuple[Factor, ...]  # a product
# Covariance of two of the four of one cell under white noise of variance 1 in all cells: [H, W], or the same in all.
Covariance = dict[tuple[int, int], np.ndarray]
ENUMERATED = 3  # species up to which products are enumerated; random smooth functions above
DEGREE = {1: 8, 2: 5, 3: 5}  # of monomials of the values, by the number of species; of two, degree 4 alone is too few
WEIGHTS = {1: (2, 3, 4, 5), 2: (2, 3), 3: (2, 3)}  # degrees of w in w lap(z); a degree of 1 is a gradient energy
SLOPED = (2, 3)  # degrees of what slopes are taken of
# Of the rows and columns that smooth ones are averages over: neighbours say nearly the same.
STRIDE = 2
SPREAD = 0.7  # of the directions of smooth ones, in standardised fields
REACH = 1  # of a density, in cells, and once more of its functional derivative


def products(count: int, fourth_order: bool, slopes: tuple[int, ...]) -> list[Density]:
    """Densities of so many species.

    Monomials z^a, gradient energies as z_a lap(z_b), and w lap(z). With terms of fourth order, and of one species, also
    products of Laplacians; with first derivatives also what changes sign when the axis is turned round.

    Args:
        slopes: SLOPE_X and SLOPE_Y of the axes that first derivatives are taken along.
    """
    species = range(count)

    def monomials(degree: int) -> list[Density]:
        return [tuple((VALUE, s) for s in chosen) for chosen in combinations(species, degree)]

    pairs = list(combinations(species, 2))
    made = [w for degree in range(1, DEGREE[count] + 1) for w in monomials(degree)]
    made += [((VALUE, a), (LAP, b)) for a, b in pairs]
    made += [(*w, (LAP, s)) for degree in WEIGHTS[count] for w in monomials(degree) for s in species]
    if fourth_order or count == 1:
        curved: list[Density] = [((LAP, a), (LAP, b)) for a, b in pairs]
        made += curved + [(*w, *c) for degree in (1, 2) for w in monomials(degree) for c in curved]
    if count == 1:
        made += [((LAP, 0),) * 3, ((VALUE, 0), *((LAP, 0),) * 3)]
    for slope in slopes:
        made += [
            (*(f for n, f in enumerate(w) if n != w.index((VALUE, s))), (slope, s))
            for degree in SLOPED
            for w in monomials(degree)
            for s in sorted({s for _, s in w})[1:]  # all of them together are a total derivative
        ]
        made += [
            (*w, (slope, a), (LAP, b)) for degree in (0, 1) for w in monomials(degree) for a in species for b in species
        ]
    return [tuple(sorted(density)) for density in made]


class Directed(Protocol):
    """Observables that are averages of functions of linear filters of z."""

    def along(self, fields: Fields) -> np.ndarray:
        """Those filters at each of some cells, [J, P]."""


class Fields:
    """The fields of one snapshot and products of them, each made once.

    Args:
        z: standardised values, [C, H, W].
        grid: spacing does not matter: lengths are counted in cells.
        window: m, [H, W]; None for 1 everywhere.
    """

    def __init__(self, z: np.ndarray, grid: Grid, window: np.ndarray | None) -> None:
        self.grid, self.window = grid, window
        self.z = z
        self._made: dict[Density, np.ndarray] = {((VALUE, s),): field for s, field in enumerate(z)}
        self._adjoint: dict[tuple[int, Density], np.ndarray] = {}
        self._directed: dict[Directed, np.ndarray] = {}

    def product(self, factors: Density) -> np.ndarray:
        """A product of at least one factor."""
        if factors not in self._made:
            if len(factors) == 1:
                kind, s = factors[0]
                self._made[factors] = self._applied(kind, self.z[s])
            else:
                self._made[factors] = self.product(factors[:-1]) * self.product(factors[-1:])
        return self._made[factors]

    def adjoint(self, kind: int, rest: Density) -> np.ndarray | float:
        """A factor's operator by parts, of the rest of its product within the window: [H W], or a number for all."""
        if not rest and self.window is None:
            return 1.0 if kind == VALUE else 0.0
        key = (kind, rest)
        if key not in self._adjoint:
            weight = self.product(rest) if rest else self.window
            assert weight is not None
            if rest and self.window is not None:
                weight = weight * self.window
            made = weight if kind == VALUE else self._applied(kind, weight)
            if kind in (SLOPE_X, SLOPE_Y):
                made = self._at_walls(weight, int(kind == SLOPE_X)) - made
            self._adjoint[key] = made.ravel()
        return self._adjoint[key]

    def within(self, factors: Density) -> np.ndarray:
        """A product of any number of factors, of none 1, within the window: [H, W]."""
        made = self.product(factors) if factors else np.ones(self.z.shape[1:])
        return made if self.window is None else made * self.window

    def moved(self, along: Fields, share: float) -> Fields:
        """The fields of z + share * (z of the others), made of these where they are linear."""
        made = Fields(self.z + share * along.z, self.grid, self.window)
        for factors in [factors for factors in self._made if len(factors) == 1 and factors[0][0] != VALUE]:
            made._made[factors] = self.product(factors) + share * along.product(factors)
        for smooth in self._directed:
            made._directed[smooth] = self.directed(smooth) + share * along.directed(smooth)
        return made

    def directed(self, smooth: Directed) -> np.ndarray:
        """What smooth functions are functions of, linear in z, at each of some cells, [J, P]."""
        if smooth not in self._directed:
            self._directed[smooth] = smooth.along(self)
        return self._directed[smooth]

    def _at_walls(self, field: np.ndarray, axis: int) -> np.ndarray:
        """What summing by parts leaves of a field at mirror edges, where it is its own neighbour."""
        left = np.zeros_like(field)
        if self.grid.edges[axis] == "mirror":
            first, last = ((slice(None),) * axis + (end,) for end in (0, -1))
            left[first] -= field[first]
            left[last] += field[last]
        return left

    def _applied(self, kind: int, field: np.ndarray) -> np.ndarray:
        if kind == LAP:
            return self.grid.laplacian(field)
        return self.grid.derivative(field, "x" if kind == SLOPE_X else "y")


@dataclass(frozen=True)
class Products:
    """Observables that are averages of products of fields."""

    densities: tuple[Density, ...]

    def __len__(self) -> int:
        return len(self.densities)

    @cached_property
    def _derivatives(self) -> tuple[list[tuple[int, Density]], np.ndarray]:
        """What functional derivatives are sums of, see `Fields.adjoint`, and how often: A of them, and [C, J, A]."""
        made: dict[tuple[int, Density], dict[tuple[int, int], int]] = {}
        for j, density in enumerate(self.densities):
            for (kind, species), power in Counter(density).items():
                place = density.index((kind, species))
                rest = density[:place] + density[place + 1 :]
                made.setdefault((kind, rest), {})[species, j] = power
        weights = np.zeros((1 + max(s for density in self.densities for _, s in density), len(self), len(made)))
        for a, powers in enumerate(made.values()):
            for (species, j), power in powers.items():
                weights[species, j, a] = power
        return list(made), weights

    def _against(self, fields: Fields, others: np.ndarray) -> np.ndarray:
        """Functional derivatives by each species, times other fields [M, H W], sums over cells: [C, J, M]."""
        parts, weights = self._derivatives
        made = np.empty((len(parts), others.shape[1]))
        for row, part in zip(made, parts, strict=True):
            row[:] = fields.adjoint(*part)
        return weights @ (made @ others.T)

    def rows(self, fields: Fields, phi: np.ndarray) -> np.ndarray:
        """Rates for each of M terms phi [M, H W] in each species' equation, sums over cells: [J, C M]."""
        return np.concatenate(list(self._against(fields, phi)), axis=1)

    def rates(self, fields: Fields, velocities: Sequence[Fields]) -> np.ndarray:
        """Rates under T velocities, sums over cells: [J, T]."""
        count, species = len(velocities), len(fields.z)
        each = self._against(fields, np.stack([v.z for v in velocities]).reshape(count * species, -1))
        return np.einsum("sjts->jt", each.reshape(species, len(self), count, species))

    @cached_property
    def _second_derivatives(self) -> tuple[list[tuple[int, int, Density]], np.ndarray]:
        """What second derivatives by two kinds of a species are sums of, and how often: A of them, and [C, J, A]."""
        made: dict[tuple[int, int, Density], dict[tuple[int, int], int]] = {}
        for j, density in enumerate(self.densities):
            for (p, (first, s)), (q, (second, other)) in combinations_of_two(enumerate(density), 2):
                if s == other:
                    rest = tuple(factor for n, factor in enumerate(density) if n not in (p, q))
                    often = made.setdefault((first, second, rest), {})
                    often[s, j] = often.get((s, j), 0) + 2  # in either order
        weights = np.zeros((1 + max(s for density in self.densities for _, s in density), len(self), len(made)))
        for a, often in enumerate(made.values()):
            for (species, j), count in often.items():
                weights[species, j, a] = count
        return list(made), weights

    def spreads(self, fields: Fields, covariance: Covariance) -> np.ndarray:
        """Second derivatives under white noise of variance 1 in each species, sums over cells: [J, C]."""
        parts, weights = self._second_derivatives
        means: dict[Density, float] = {}
        sums = np.zeros(len(parts))
        for n, (first, second, rest) in enumerate(parts):
            together = covariance[first, second]
            if together.ndim:
                sums[n] = np.sum(fields.within(rest) * together)
            elif together:
                if rest not in means:
                    means[rest] = float(np.sum(fields.within(rest)))
                sums[n] = means[rest] * together
        return np.stack([own @ sums for own in weights], axis=1)

    def values(self, fields: Fields) -> np.ndarray:
        """The observables themselves, sums over cells: [J]."""
        firsts, lasts, places = self._halves
        made = np.empty((len(firsts), *fields.z.shape[1:]))
        known: dict[Density, np.ndarray] = {}
        for row, first in zip(made, firsts, strict=True):
            if len(first) < 2:
                row[...] = fields.product(first) if first else 1.0
            else:
                before = known[first[:-1]] if first[:-1] in known else fields.product(first[:-1])
                np.multiply(before, fields.product(first[-1:]), out=row)
            known[first] = row
        others = np.stack([fields.product((factor,)) for factor in lasts])
        if fields.window is not None:
            others *= fields.window
        return (made.reshape(len(made), -1) @ others.reshape(len(others), -1).T)[places]

    @cached_property
    def _halves(self) -> tuple[list[Density], list[Factor], tuple[list[int], list[int]]]:
        """All but the last factor of each density, and the last ones; each once, and where those of each are."""
        firsts = sorted(dict.fromkeys(density[:-1] for density in self.densities), key=len)
        lasts = list(dict.fromkeys(density[-1] for density in self.densities))
        places = [firsts.index(d[:-1]) for d in self.densities], [lasts.index(d[-1]) for d in self.densities]
        return firsts, lasts, places


@dataclass(frozen=True)
class Smooth:
    """Averages of random smooth functions, cos(w . y + b) of a cell's y = (z, lap(z)) over their spreads.

    Attributes:
        count: how many, J.
        name: of their random stream.
        spread: of each species' z and then of each Laplacian, [2 C]; infinite takes it out.
    """

    count: int
    name: str
    spread: tuple[float, ...]

    def __len__(self) -> int:
        return self.count

    @lru_cache(maxsize=8)  # noqa: B019 - of few, and small
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Directions w [J, 2 C], and phases b [J, 1]."""
        rng = np.random.Generator(np.random.Philox(stream_seed("discover", self.name)))
        directions = SPREAD * rng.standard_normal((self.count, len(self.spread))) / np.array(self.spread)
        return directions, rng.uniform(0, 2 * math.pi, (self.count, 1))

    def along(self, fields: Fields) -> np.ndarray:
        """w . y at each of some cells, [J, P]."""
        curved = [fields.product(((LAP, s),)) for s in range(len(fields.z))]
        return self.drawn()[0] @ _some(np.stack([*fields.z, *curved]))

    def _slopes(self, fields: Fields) -> tuple[np.ndarray, np.ndarray]:
        """Directions [J, 2 C], and the slope of each function at each of some cells, [J, P]."""
        directions, phases = self.drawn()
        slopes = -fast(torch.sin, fields.directed(self) + phases)
        if fields.window is not None:
            slopes *= _some(fields.window)
        return directions, slopes

    def values(self, fields: Fields) -> np.ndarray:
        """The observables themselves, sums over cells: [J]."""
        made = fast(torch.cos, fields.directed(self) + self.drawn()[1])
        weights = np.ones(made.shape[1]) if fields.window is None else _some(fields.window)
        return made @ weights / self._share(fields)

    def rows(self, fields: Fields, phi: np.ndarray) -> np.ndarray:
        """Rates for each of M terms phi [M, H W] in each species' equation, sums over cells: [J, C M]."""
        directions, slopes = self._slopes(fields)
        phi = phi.reshape(len(phi), *fields.z.shape[1:])
        plain, bent = (slopes @ f.T / self._share(fields) for f in (_some(phi), _some_curved(fields.grid, phi)))
        count = len(fields.z)
        return np.concatenate(
            [directions[:, s, None] * plain + directions[:, count + s, None] * bent for s in range(count)], axis=1
        )

    def rates(self, fields: Fields, velocities: Sequence[Fields]) -> np.ndarray:
        """Rates under T velocities, sums over cells: [J, T]."""
        directions, slopes = self._slopes(fields)
        v = np.stack([each.z for each in velocities])
        change = np.concatenate([_some(v), _some_curved(fields.grid, v)], axis=1)
        return np.einsum("tsp,jp,js->jt", change, slopes, directions, optimize=True) / self._share(fields)

    def spreads(self, fields: Fields, covariance: Covariance) -> np.ndarray:
        """Second derivatives under white noise of variance 1 in each species, sums over cells: [J, C]."""
        directions, phases = self.drawn()
        made = -fast(torch.cos, fields.directed(self) + phases)
        if fields.window is not None:
            made *= _some(fields.window)
        plain, curved = directions[:, : len(fields.z)], directions[:, len(fields.z) :]
        total = np.zeros(plain.shape)
        for weight, kinds in ((plain**2, (VALUE, VALUE)), (2 * plain * curved, (VALUE, LAP)), (curved**2, (LAP, LAP))):
            together = covariance[kinds]
            total += weight * (made @ _some(together) if together.ndim else made.sum(axis=1) * together)[:, None]
        return total / self._share(fields)

    @staticmethod
    def _share(fields: Fields) -> float:
        """Of the cells, those that are averaged over."""
        everywhere = np.ones(fields.z.shape[1:]) if fields.window is None else fields.window
        return float(_some(everywhere).sum() / everywhere.sum())


def fast(function: Callable[[torch.Tensor], torch.Tensor], values: np.ndarray) -> np.ndarray:
    """A function of torch, whose sine and cosine of float64 are ten times as fast as those of numpy."""
    return function(torch.from_numpy(values)).numpy()


def _some_curved(grid: Grid, fields: np.ndarray) -> np.ndarray:
    """5-point Laplacians, in cells, there alone, [..., P]."""
    near = grid.around(fields, 1)
    total = sum((_some(near(*by)) for by in ((0, 1), (-1, 0), (1, 0))), start=_some(near(0, -1)))
    return total - 4 * _some(fields)


def _some(fields: np.ndarray) -> np.ndarray:
    """Fields [..., H, W] at every so-manieth row and column, [..., P]."""
    some = fields[..., ::STRIDE, ::STRIDE]
    return some.reshape(*some.shape[:-2], -1)
