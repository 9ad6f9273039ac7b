"""Observables whose rates tell the equation: averages over the cells of densities made of each cell's fields.

The fields are each species' standardised values z, their Laplacians and, where a library has first derivatives, their
slopes. The rate of an observable mean(m g) under dz/dt = v is mean(v dG/dz), with the functional derivative

    dG/dz = m g_z + lap(m g_lap) - d(m g_d),

as the Laplacian is self-adjoint and a slope is not. m is a window: 1 on a closed grid, and elsewhere 1 where neither g
nor its derivative reaches a cell that is not known, so that edges of any kind do not matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement as combinations

import numpy as np

from p2d.fields import Grid
from p2d.training.randomness import stream_seed

VALUE, LAP, SLOPE_X, SLOPE_Y = range(4)
Factor = tuple[int, int]  # which of the four, of which species
Density = tuple[Factor, ...]  # a product
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

    def by_species(self, fields: Fields) -> Iterator[np.ndarray]:
        """Functional derivatives by each species in turn, [J, H W]."""
        count, cells = len(fields.z), fields.z[0].size
        made = np.empty((len(self), cells))
        for species in range(count):
            for row, density in zip(made, self.densities, strict=True):
                row.fill(0.0)
                for factor, power in Counter(density).items():
                    if factor[1] == species:
                        place = density.index(factor)
                        row += power * fields.adjoint(factor[0], density[:place] + density[place + 1 :])
            yield made

    def rows(self, fields: Fields, phi: np.ndarray) -> np.ndarray:
        """Rates for each of M terms phi [M, H W] in each species' equation, sums over cells: [J, C M]."""
        return np.concatenate([by @ phi.T for by in self.by_species(fields)], axis=1)

    def rates(self, fields: Fields, v: np.ndarray) -> np.ndarray:
        """Rates under T velocities v [T, C, H W], sums over cells: [J, T]."""
        total: np.ndarray | float = 0.0
        for by, own in zip(self.by_species(fields), v.swapaxes(0, 1), strict=True):
            total = total + by @ own.T
        return np.asarray(total)

    def values(self, fields: Fields) -> np.ndarray:
        """The observables themselves, sums over cells: [J]."""
        made = (fields.product(density) for density in self.densities)
        return np.array([f.sum() if fields.window is None else (f * fields.window).sum() for f in made])


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

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.Generator(np.random.Philox(stream_seed("discover", self.name)))
        directions = SPREAD * rng.standard_normal((self.count, len(self.spread))) / np.array(self.spread)
        return directions, rng.uniform(0, 2 * math.pi, (self.count, 1))

    def _angles(self, fields: Fields) -> tuple[np.ndarray, np.ndarray]:
        """Directions [J, 2 C], and the argument of each function at each of some cells, [J, P]."""
        directions, phases = self._drawn()
        curved = [fields.product(((LAP, s),)) for s in range(len(fields.z))]
        return directions, directions @ _some(np.stack([*fields.z, *curved])) + phases

    def _slopes(self, fields: Fields) -> tuple[np.ndarray, np.ndarray]:
        """Directions [J, 2 C], and the slope of each function at each of some cells, [J, P]."""
        directions, angles = self._angles(fields)
        slopes = -np.sin(angles)
        if fields.window is not None:
            slopes *= _some(fields.window)
        return directions, slopes

    def values(self, fields: Fields) -> np.ndarray:
        """The observables themselves, sums over cells: [J]."""
        made = np.cos(self._angles(fields)[1])
        weights = np.ones(made.shape[1]) if fields.window is None else _some(fields.window)
        return made @ weights / self._share(fields)

    def rows(self, fields: Fields, phi: np.ndarray) -> np.ndarray:
        """Rates for each of M terms phi [M, H W] in each species' equation, sums over cells: [J, C M]."""
        directions, slopes = self._slopes(fields)
        phi = phi.reshape(len(phi), *fields.z.shape[1:])
        plain, bent = (slopes @ _some(f).T / self._share(fields) for f in (phi, fields.grid.laplacian(phi)))
        count = len(fields.z)
        return np.concatenate(
            [directions[:, s, None] * plain + directions[:, count + s, None] * bent for s in range(count)], axis=1
        )

    def rates(self, fields: Fields, v: np.ndarray) -> np.ndarray:
        """Rates under T velocities v [T, C, H W], sums over cells: [J, T]."""
        directions, slopes = self._slopes(fields)
        v = v.reshape(len(v), *fields.z.shape)
        change = _some(np.concatenate([v, fields.grid.laplacian(v)], axis=1))
        return np.einsum("tsp,jp,js->jt", change, slopes, directions, optimize=True) / self._share(fields)

    @staticmethod
    def _share(fields: Fields) -> float:
        """Of the cells, those that are averaged over."""
        everywhere = np.ones(fields.z.shape[1:]) if fields.window is None else fields.window
        return float(_some(everywhere).sum() / everywhere.sum())


def _some(fields: np.ndarray) -> np.ndarray:
    """Fields [..., H, W] at every so-manieth row and column, [..., P]."""
    some = fields[..., ::STRIDE, ::STRIDE]
    return some.reshape(*some.shape[:-2], -1)
