"""How snapshots are to be measured: noise, kernel, operators, observables and judges that fit them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from p2d.config import DiscoverConfig
from p2d.discovery import fit, observables
from p2d.discovery.coordinates import expanded, ranged, standardised
from p2d.discovery.judges import Judges
from p2d.discovery.library import choose_library
from p2d.discovery.moments import CUT_OFF, SMOOTHING, Measure, extrapolate
from p2d.discovery.observables import ENUMERATED, Products, Smooth
from p2d.errors import UserError
from p2d.fields import Grid, Operator
from p2d.snapshots import noise as noises
from p2d.snapshots import static
from p2d.snapshots.passes import Findings
from p2d.snapshots.rounding import is_rounded
from p2d.systems import expressions

PER_TERM = 1.6  # random observables for each free number, where there are too many species to enumerate them
# Below so many runs snapshots are taken apart into so many tiles along an axis at most. Of more they are not, though
# 90 % intervals of 64 Gray-Scott snapshots hold more with them: tiles of patterns as large as they are do not say how
# much whole snapshots vary.
FEW_RUNS, MOST_TILES = 48, 2
SMALLEST_TILE = 20  # cells along an axis
BALANCE_DRAWS = 20
WALL = 1e-4  # share of the cells that have the very least, or the largest value, from which it is a wall


def choose_measure(states: np.ndarray, species: tuple[str, ...], grid: Grid, config: DiscoverConfig) -> Measure:
    """How snapshots like these, [N, C, H, W], are to be measured for the library of these settings."""
    library = choose_library(config, species, grid)
    rounded = is_rounded(states, grid)
    given = config.noise_levels(len(species))
    noise = noises.seen(states, grid) if given is None else given
    smoothing = config.kernel_width
    if smoothing is None:
        smoothing = SMOOTHING if rounded or any(noise) else 0.0
    scaling = (ranged if any(noise) else standardised)(states, grid.inside(0))
    terms, _ = expanded(("1", *species, *library.terms), species, scaling)
    trees = [expressions.parse(term, species) for term in terms]
    reach = max(map(expressions.reach, trees))
    slopes = [
        kind
        for axis, kind, length in (("x", observables.SLOPE_X, grid.shape[1]), ("y", observables.SLOPE_Y, grid.shape[0]))
        if length > 1 and any(f",{axis})" in term for term in terms)
    ]
    own: Products | Smooth
    if len(species) <= ENUMERATED:
        own = Products(tuple(observables.products(len(species), reach > 1, tuple(slopes))))
    else:
        own = Smooth(int(PER_TERM * library.ties.shape[1]) + 1, "fit", ())
    measure = Measure(
        terms, _operators(config, grid, reach), species, grid, scaling, own, (), smoothing, rounded, noise
    )
    walls = () if rounded or any(noise) else _walls(states, grid)
    # What rounding leaves would pass for noise in the dynamics.
    measure = replace(measure, stirred=config.dynamics_noise == "auto" and not rounded, walls=walls)
    z = np.stack([measure.smooth(measure.scaled(state)) for state in states])
    curved = grid.in_cells.laplacian(z)
    both = np.concatenate([z, curved], axis=1)[..., grid.inside(1)]
    spread = tuple((both.std(axis=(0, 2)) + np.finfo(float).tiny).tolist())
    if isinstance(own, Smooth):
        own = replace(own, spread=spread)
    judges = Judges.of(z, grid, measure.margin, (smoothing, CUT_OFF[grid.is_closed]), noisy=any(noise))
    return replace(measure, observables=own, spread=spread, judges=judges)


def _walls(states: np.ndarray, grid: Grid) -> tuple[tuple[int, float], ...]:
    """The least and the largest values of species that too many cells have for chance."""
    cells = states[..., grid.inside(0)]
    ends = [(s, float(end)) for s in range(cells.shape[1]) for end in (cells[:, s].min(), cells[:, s].max())]
    return tuple((s, end) for s, end in ends if np.mean(cells[:, s] == end) > WALL)


def _operators(config: DiscoverConfig, grid: Grid, reach: int) -> tuple[Operator, ...]:
    """The operators to choose from."""
    if config.operator != "auto":
        grid.refuse_operator(config.operator, reach)
        return (config.operator,)
    wished: tuple[Operator, ...] = ("5-point", "9-point", "spectral" if grid.is_closed else "8th-order")
    if min(grid.shape) == 1:
        wished = (wished[0], wished[2])  # in one dimension both stencils are the same
    return tuple(o for o in wished if o in ("5-point", "spectral") or _fits(grid, o, reach))


def _fits(grid: Grid, operator: Operator, reach: int) -> bool:
    try:
        grid.refuse_operator(operator, reach)
    except UserError:
        return False
    return True


def imbalance_of(states: np.ndarray, measure: Measure) -> tuple[float, float]:
    """How far a pattern is from standing still, and the error of that where noise leaves one, see snapshots/static."""
    noisy = any(measure.noise)
    degree = static.NOISY_DEGREE if noisy else 0
    measure = replace(measure, scaling=standardised(states, measure.grid.inside(0)))
    balance = static.Balance(measure.grid, len(measure.species), degree, measure.smooth)

    def sums(z: np.ndarray) -> Findings:
        return {"sums": balance.sums([z])}

    each = np.stack([extrapolate(measure, n, state, sums)["sums"] for n, state in enumerate(states)])
    found = balance.imbalance(each.sum(axis=0))
    if not noisy:
        return found, 0.0
    draws = [balance.imbalance(np.tensordot(often, each, 1)) for often in fit.resamples(len(each), BALANCE_DRAWS, 0)]
    return found, 2 * float(np.std(draws))


def choose_tiles(grid: Grid, runs: int) -> int:
    """Along each axis, that snapshots are taken apart into: of few, so that they give weights to all observables."""
    along = [n for n in grid.shape if n > 1]
    wished = math.ceil((FEW_RUNS / max(runs, 1)) ** (1 / max(len(along), 1)))
    return max(1, min(wished, MOST_TILES, min(along, default=1) // SMALLEST_TILE))
