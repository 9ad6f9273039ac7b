"""What one pass over snapshots leaves for the closed form: rates of observables for every term, and products of terms.

Observables are averages over cells of functions of values that have been smoothed by a kernel K of width w. Theirs is
an exact generator too: d/dt g(K x) = grad g(K x) . K v. What smoothing buys is that noise enters through K alone, and
what is left of it is small enough to be extrapolated to none (Cook & Stefanski 1994, "Simulation-extrapolation"): rows
are polynomials in the variance of the noise, and adding once and twice as much of it tells them at none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from p2d.discovery import observables
from p2d.discovery.judges import Judges
from p2d.discovery.observables import LAP, SLOPE_X, SLOPE_Y, VALUE, Covariance, Fields, Products, Smooth
from p2d.errors import UserError
from p2d.fields import REACH, Grid, Operator, Scaling
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.passes import Findings, Means
from p2d.systems import expressions
from p2d.systems.system import System
from p2d.training.randomness import sample_generator

# The kernel where there is noise, in cells. With noise 0.01 and 0.02 the cosine was best, or nearly so, at 1.5: of 1,
# 1.5, 2 and 2.5 on waves and life, of 1.5 and 2 on solitons, chaos and spirals. Clean ones are best left as they are.
SMOOTHING = 1.5
CUT_OFF = {True: 5.0, False: 3.0}  # widths at which the kernel ends, on closed grids and where cells are lost by it
# Weights of once, twice and three times the noise: a parabola's value at none.
EXTRAPOLATION = {0: 3.0, 1: -3.0, 2: 1.0}
MOVED = 1e-3  # spreads, that the fastest cell moves by where the first order alone is told
ORDERS = 4  # of the step, which are all that there are of monomials to degree 5
BENT = 1e-3  # spreads, over which second differences are taken
# What a step goes beyond a wall by, of which the wall takes it back, over sigma sqrt(dt) |xi|: where next to nothing
# else moves. Measured were mean overshoots of 0.59 and mean squares of 0.59 at v = 0 of waves and of life.
OVERSHOOT = 0.75
SAME = 1e-12  # relative, within which what noise does is the same in all cells, or nothing


@dataclass(frozen=True)
class Measure:
    """How snapshots are measured.

    Attributes:
        terms: functions of standardised species z, by their names.
        operators: the Laplacians and slopes that those terms are taken with which have any.
        species: C of them.
        grid: where the cells are.
        scaling: z is what it makes of values.
        observables: of the fit, J of them.
        spread: of each species' z and of each Laplacian, [2 C].
        smoothing: width of the kernel in cells, 0 for none.
        rounded: whether they are 8-bit images.
        noise: standard deviation of white noise to be corrected for, of each species, in its unit.
        judges: observables that only judge; none where None.
        tiles: along each axis, that few snapshots are taken apart into.
        stirred: whether noise in the dynamics is looked for.
        walls: values that a species is held to, such as 0, from below or above: its place, and the value.
    """

    terms: tuple[str, ...]
    operators: tuple[Operator, ...]
    species: tuple[str, ...]
    grid: Grid
    scaling: Scaling
    observables: Products | Smooth
    spread: tuple[float, ...]
    smoothing: float = 0.0
    rounded: bool = False
    noise: tuple[float, ...] = ()
    judges: Judges | None = None
    tiles: int = 1
    stirred: bool = False
    walls: tuple[tuple[int, float], ...] = ()

    @cached_property
    def trees(self) -> list[tuple[str, Operator | None]]:
        """What is measured, M: each term that has no operator once, and each other once for every operator."""
        has = [bool(expressions.functions_in(tree) & expressions.OPERATORS.keys()) for tree in self._parsed]
        plain = [(term, None) for term, differential in zip(self.terms, has, strict=True) if not differential]
        curved = [term for term, differential in zip(self.terms, has, strict=True) if differential]
        return [*plain, *((term, operator) for operator in self.operators for term in curved)]

    @property
    def _parsed(self) -> list:
        return [expressions.parse(term, self.species) for term in self.terms]

    def places(self, names: tuple[str, ...], operator: Operator) -> list[int]:
        """Where these terms are among what is measured, those that have an operator with this one."""
        known = {key: place for place, key in enumerate(self.trees)}
        return [known[name, None] if (name, None) in known else known[name, operator] for name in names]

    @cached_property
    def window(self) -> np.ndarray | None:
        """The cells that observables are averages over, [H, W] of 0 and 1; None for all.

        Raises:
            UserError: there are none.
        """
        if self.grid.is_closed:
            return None
        reach = self.margin + observables.REACH
        inside = self.grid.inside(reach)
        if not inside.any():
            rows, columns = self.grid.shape
            raise UserError(
                f"no cell of {rows} x {columns} has all its neighbours within {reach} cells, which the terms need; "
                "take a larger picture, a smaller --smoothing, or terms of lower order"
            )
        return inside.astype(np.float64)

    @cached_property
    def tile_masks(self) -> list[np.ndarray]:
        """The cells of each tile, [H W] of 0 and 1."""
        axes = [np.arange(n) * min(self.tiles, n) // n for n in self.grid.shape]
        number = (axes[0][:, None] * self.tiles + axes[1]).ravel()
        return [(number == n).astype(np.float64) for n in np.unique(number)]

    @property
    def margin(self) -> int:
        """How many cells at an unknown edge have terms that are not known; none on a closed grid."""
        if self.grid.is_closed:
            return 0
        nested = max(expressions.reach(tree) for tree in self._parsed)
        return nested * max(REACH[o] for o in self.operators) + self.kernel_radius

    @property
    def kernel_radius(self) -> int:
        """How many cells the kernel reaches."""
        return int(CUT_OFF[self.grid.is_closed] * self.smoothing + 0.5)

    @property
    def cells(self) -> float:
        """How many cells averages are over."""
        return float(self.grid.shape[0] * self.grid.shape[1] if self.window is None else self.window.sum())

    def scaled(self, state: np.ndarray) -> np.ndarray:
        """z of a state [C, H, W], float64; 0 outside a mask, and nan everywhere where a value is not finite."""
        z = self.grid.masked(self.scaling.to_training(state.astype(np.float64)))
        return z if np.isfinite(z).all() else np.full_like(z, np.nan)

    def smooth(self, x: np.ndarray) -> np.ndarray:
        """Fields [..., H, W] under the kernel."""
        if not self.smoothing:
            return x
        modes = ["wrap" if edge == "periodic" else "reflect" for edge in self.grid.edges]
        widths = [0.0 if length == 1 else self.smoothing for length in self.grid.shape]
        return gaussian_filter(x, widths, axes=(-2, -1), mode=modes, truncate=CUT_OFF[self.grid.is_closed])

    @cached_property
    def covariance(self) -> Covariance:
        """Of a cell's smoothed value, its Laplacian and its slopes, under white noise of variance 1 in all cells."""
        rows, columns = (self._acting(axis) for axis in (0, 1))
        acting = {
            VALUE: [(rows["1"], columns["1"])],
            LAP: [(rows["lap"], columns["1"]), (rows["1"], columns["lap"])],
            SLOPE_X: [(rows["1"], columns["d"])],
            SLOPE_Y: [(rows["d"], columns["1"])],
        }
        made = {}
        for first, parts in acting.items():
            for second, others in acting.items():
                field = sum(
                    np.outer((a * b).sum(axis=1), (c * d).sum(axis=1)) for a, c in parts for b, d in others
                ) + np.zeros(self.grid.shape)
                same = np.ptp(field) <= SAME * np.abs(field).max()
                made[first, second] = np.array(field.mean() * (np.abs(field).max() > SAME)) if same else field
        return made

    def _acting(self, axis: int) -> dict[str, np.ndarray]:
        """The kernel along an axis of n cells, its second difference and its slope: matrices [n, n]."""
        length, edge = self.grid.shape[axis], self.grid.edges[axis]
        kernel = np.eye(length)
        if self.smoothing and length > 1:
            mode, end = ("wrap" if edge == "periodic" else "reflect"), CUT_OFF[self.grid.is_closed]
            kernel = gaussian_filter1d(kernel, self.smoothing, axis=0, mode=mode, truncate=end)
        line, waves = Grid((1, length), edges=("periodic", edge)), kernel.T[:, None]
        return {"1": kernel, "lap": line.laplacian(waves)[:, 0].T, "d": line.derivative(waves, "x")[:, 0].T}

    def phi(self, z: np.ndarray, smoothed: np.ndarray) -> np.ndarray:
        """The measured terms, smoothed after they are taken of z [C, H, W], as [M, H W]."""
        names = dict(zip(self.species, z, strict=True))
        known: dict[tuple[str, Operator | None], np.ndarray] = {}
        for s, field in zip(self.species, smoothed, strict=True):
            known[s, None] = field
            for operator in self.operators:  # commutes with the kernel, and is smoother taken after it
                known[f"lap({s})", operator] = self.grid.laplacian(field, operator)
        functions = expressions.smooth_functions(z)
        made = np.empty((len(self.trees), *z.shape[1:]))
        for place, (term, taken) in enumerate(self.trees):
            if (term, taken) in known:
                made[place] = known[term, taken]
                continue
            acting = functions | self.grid.operators(taken or "5-point")
            field = expressions.evaluate(expressions.parse(term, self.species), names, acting)
            made[place] = self.smooth(field + 0 * z[0])  # the term '1' is a field, too, and nan where nothing is known
        return made.reshape(len(made), -1)

    def fields(self, smoothed: np.ndarray) -> Fields:
        """The fields of observables, of smoothed z [C, H, W]."""
        return Fields(smoothed, self.grid.in_cells, self.window)


def extrapolate(measure: Measure, sample_id: int, state: np.ndarray, at: Callable[[np.ndarray], Findings]) -> Findings:
    """What is found at z of a state [C, H, W], extrapolated to no noise."""
    z = measure.scaled(state)
    if not any(measure.noise):
        return at(z)
    sigma = np.array(measure.noise) / measure.scaling.scale
    noise = _normal(z.shape, sample_id, "extrapolation") * sigma[:, None, None]
    weighted: list[tuple[float, Findings]] = []
    for more, weight in EXTRAPOLATION.items():
        # Both signs of the same noise: what is odd in it cancels.
        states = [z + sign * np.sqrt(more) * noise for sign in (1, -1)] if more else [z]
        weighted += [(weight / len(states), at(x)) for x in states]
    return {key: np.sum([weight * each[key] for weight, each in weighted], axis=0) for key in weighted[0][1]}


def _normal(shape: tuple[int, ...], sample_id: int, name: str) -> np.ndarray:
    """Standard normal numbers of a stream of a sample."""
    import torch

    return torch.randn(shape, generator=sample_generator(0, 0, sample_id, name=name)).numpy()


@dataclass(frozen=True)
class Rows:
    """A task: what each snapshot tells of every equation over the terms."""

    measure: Measure

    def __call__(self, sample_id: int, state: np.ndarray) -> Findings:
        """Of T tiles of one snapshot [C, H, W]: rows [T, J, C M], gram [T, M, M], held_out [T, L, C M] where L judge.

        And of noise in the dynamics of each species, of variance 1 in z: stirred [J, C], stirred_held_out [L, C].
        """
        return extrapolate(self.measure, sample_id, state, lambda z: self._at(sample_id, z))

    def _at(self, sample_id: int, z: np.ndarray) -> Findings:
        measure = self.measure
        smoothed = measure.smooth(z)
        phi = measure.phi(z, smoothed)
        fields, cells, window = measure.fields(smoothed), measure.cells, measure.window
        within = phi if window is None else phi * window.ravel()
        gram = np.stack([within * mask @ within.T for mask in measure.tile_masks]) * len(measure.tile_masks) / cells
        made = {"rows": self._in_tiles(measure.observables, fields, phi), "gram": gram}
        if measure.judges:
            made["held_out"] = self._in_tiles(measure.judges, fields, phi)
        return made | self._stirred(sample_id, z, fields)

    def _in_tiles(self, own: Products | Smooth | Judges, fields: Fields, phi: np.ndarray) -> np.ndarray:
        """Rates of observables for the terms, of each tile, [T, J, C M].

        They are its cells' share of what sums by parts leave: with the others they make up the whole.
        """
        tiles = self.measure.tile_masks
        if len(tiles) == 1:
            return own.rows(fields, phi)[None] / self.measure.cells
        rows = own.rows(fields, np.concatenate([phi * mask for mask in tiles])) * len(tiles) / self.measure.cells
        each = rows.reshape(len(rows), len(fields.z), len(tiles), len(phi))
        return each.transpose(2, 0, 1, 3).reshape(len(tiles), len(rows), -1)

    def _stirred(self, sample_id: int, z: np.ndarray, fields: Fields) -> Findings:
        """What noise adds, Ito's term, less what walls take off it; and what each wall pushes."""
        measure = self.measure
        made: dict[str, np.ndarray] = {}
        if not measure.stirred or not measure.judges:
            return made
        beyond = OVERSHOOT * np.abs(_normal(z.shape, sample_id, "walls")) if measure.walls else z
        for key, own in {"stirred": measure.observables, "stirred_held_out": measure.judges}.items():
            columns = list(own.spreads(fields, measure.covariance).T / 2)
            for s, value in measure.walls:
                at, along = z[s] == (value - measure.scaling.shift[s]) / measure.scaling.scale[s], np.zeros_like(z)
                along[s] = measure.smooth(at.astype(np.float64))
                columns.append(own.rates(fields, [measure.fields(along)])[:, 0])
                along[s] = measure.smooth(at * beyond[s])
                columns[s] = columns[s] - _bend(own, fields, measure.fields(along))
            made[key] = np.stack(columns, axis=1) / measure.cells
        return made


@dataclass(frozen=True)
class Grams:
    """A task: mean products of terms, in tiles of the grid: of few snapshots, parts of each say how sure they are.

    Attributes:
        count: of tiles along each axis of more than one cell.
    """

    measure: Measure
    count: int

    def __call__(self, sample_id: int, state: np.ndarray) -> Findings:
        """Of one snapshot [C, H, W]: gram [M, M], and of each tile, tiles [T, M, M]."""
        return extrapolate(self.measure, sample_id, state, self._at)

    def _at(self, z: np.ndarray) -> Findings:
        phi = self.measure.phi(z, self.measure.smooth(z))
        own = [phi[:, cells] for cells in self.cells]
        tiles = np.stack([within @ within.T / within.shape[1] for within in own])
        return {"tiles": tiles, "gram": np.tensordot(self.weights, tiles, 1)}

    @cached_property
    def cells(self) -> list[np.ndarray]:
        """The cells of each tile, those that terms are known at."""
        window = self.measure.window
        inside = np.ones(self.measure.grid.shape, bool) if window is None else window > 0
        axes = [np.arange(n) * min(self.count, n) // n for n in inside.shape]
        number = (axes[0][:, None] * self.count + axes[1])[inside]
        return [np.flatnonzero(inside.ravel())[number == n] for n in np.unique(number)]

    @property
    def weights(self) -> np.ndarray:
        """Share of the cells that lie in each tile, [T]."""
        sizes = np.array([len(cells) for cells in self.cells], np.float64)
        return sizes / sizes.sum()


def _bend(own: Products | Smooth | Judges, fields: Fields, along: Fields) -> np.ndarray:
    """Half the second derivative of observables along fields, sums over cells: [J]."""
    ahead, behind = (own.values(fields.moved(along, sign * BENT)) for sign in (1, -1))
    return (ahead + behind - 2 * own.values(fields)) / (2 * BENT**2)


@dataclass(frozen=True)
class Trial:
    """A velocity, and explicit steps that may have made the snapshots.

    Attributes:
        system: the velocity, in some unit of time.
        operator: that its rates are taken with.
        longest: of the steps, in that unit.
        noise: sigma of noise in the dynamics, of each species; none when ().
    """

    system: System
    operator: Operator
    longest: float
    noise: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stepped:
    """A task: what explicit steps change observables by, beyond the first order in the step.

    A scheme x + dt v keeps E[g(x + dt v) - g(x)] = 0, so that E[v . grad g] is not 0 but

        -E[R(dt)],   R(dt) = (g(x + dt v) - g(x)) / dt - v . grad g = a_1 dt + a_2 dt^2 + ...

    Attributes:
        judged: whether observables that judge are looked at as well.
        conditions: of the samples, which are parameters of the velocities.

    With noise in the dynamics the scheme is x + dt v + sqrt(dt) sigma xi (Euler-Maruyama). Both signs of the same
    normal xi leave a polynomial in dt again, of which the constant is v . grad g and Ito's term, with this xi: it is
    not asked for, and with it goes most of what xi differs from sample to sample by.
    """

    measure: Measure
    trials: tuple[Trial, ...]
    judged: bool = True
    conditions: Conditions | None = None

    def __call__(self, sample_id: int, state: np.ndarray) -> Findings:
        """Of one snapshot, R's coefficients over powers of the step in the longest one, for each of T trials.

        Returns:
            rows [T, ORDERS, J] of the observables of the fit, and held_out [T, ORDERS, L] of those that judge.
        """
        xi = np.zeros(state.shape)
        if any(trial.noise for trial in self.trials):
            xi = self.measure.smooth(_normal(state.shape, sample_id, "dynamics"))
        systems = [self.conditions.at(t.system, sample_id) if self.conditions else t.system for t in self.trials]
        return extrapolate(self.measure, sample_id, state, lambda z: self._at(z, xi, systems))

    def _at(self, z: np.ndarray, xi: np.ndarray, systems: list[System]) -> Findings:
        measure = self.measure
        smoothed, values = measure.smooth(z), measure.scaling.to_values(z)
        velocities = np.stack(
            [
                measure.smooth(measure.scaling.velocity_to_training(system.rate(values, measure.grid, t.operator)))
                for t, system in zip(self.trials, systems, strict=True)
            ]
        )
        here = measure.fields(smoothed)
        own: dict[str, Products | Smooth | Judges] = {"rows": measure.observables}
        if measure.judges and self.judged:
            own["held_out"] = measure.judges
        moving = [measure.fields(v) for v in velocities]
        before = {key: observed.values(here) for key, observed in own.items()}
        rates = {key: observed.rates(here, moving) for key, observed in own.items()}
        made = {key: np.zeros((len(self.trials), ORDERS, len(observed))) for key, observed in own.items()}
        for n, (trial, along) in enumerate(zip(self.trials, moving, strict=True)):
            shares = self._shares(trial, along.z)
            ahead = [[here.moved(along, share * trial.longest)] for share in shares]
            if trial.noise:
                off = measure.fields(xi * (np.array(trial.noise) / measure.scaling.scale)[:, None, None])
                ahead = [
                    [at.moved(off, sign * np.sqrt(share * trial.longest)) for sign in (1, -1)]
                    for (at,), share in zip(ahead, shares, strict=True)
                ]
            # With the constant that noise leaves; otherwise there is none.
            powers = shares[:, None] ** np.arange(0 if trial.noise else 1, len(shares) + (not trial.noise))
            for key, observed in own.items():
                after = np.stack([np.mean([observed.values(fields) for fields in each], axis=0) for each in ahead])
                found = (after - before[key]) / (shares[:, None] * trial.longest) - rates[key][:, n]
                orders = np.linalg.solve(powers, found)[bool(trial.noise) :]
                made[key][n, : len(orders)] = orders / measure.cells
        return made

    def _shares(self, trial: Trial, v: np.ndarray) -> np.ndarray:
        """Of the longest step, at which observables are measured."""
        count, most = ORDERS, 1.0
        if any(self.measure.noise):  # noise would be most of what higher orders are
            fastest = max(np.abs(v * self.measure.grid.inside(0)).max(), np.finfo(float).tiny)
            count, most = 1, MOVED / (trial.longest * fastest)
        count += bool(trial.noise)
        return most * np.arange(1, count + 1) / count


def refuse_not_finite(means: Means, count: int, terms: list[str]) -> None:
    """Refuse snapshots in which a task finds what is not finite.

    Args:
        count: of the snapshots.
        terms: what is measured, in the user's words, [M].

    Raises:
        UserError: names the samples that are not finite, or the term that is not on some of them.
    """
    if not means.broken:
        return
    of_all = f"of {count} looked at"
    grams = {i: findings["gram"] for i, findings in means.broken.items() if "gram" in findings}
    known = {i: np.isfinite(gram.reshape(-1, *gram.shape[-2:]).sum(axis=0)) for i, gram in grams.items()}
    for k, term in enumerate(terms):
        # Of values that are not finite, nothing is known.
        singular = [i for i, finite in known.items() if not finite[k, k] and finite.any()]
        if singular:
            every = len(singular) if means.broken_count == len(means.broken) else means.broken_count
            raise UserError(
                f"the term {term!r} is not finite on {_samples_text(singular, every)} {of_all}; "
                "take one that is finite for all values, and for what noise adds to them"
            )
    samples = _samples_text(list(means.broken), means.broken_count)
    raise UserError(f"{samples} {of_all}: values that are not finite, or too large")


def _samples_text(ids: list[int], count: int) -> str:
    """The first of so many samples."""
    more = f" and {count - 5} more" if count > 5 else ""
    return f"sample{'s' * (count > 1)} {', '.join(map(str, ids[:5]))}{more}"
