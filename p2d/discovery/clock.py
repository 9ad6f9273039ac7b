"""The unit and the direction of time, which an ensemble without time order does not tell.

The direction is the one under which short waves are damped, by the Laplacians and what else has neighbours. The unit is
a convention, or what else is known: a parameter, or frames of one run at known times, along whose differences the
velocity v, changing by a, is as long as it must be: least squares, over the two ends of each interval, of

    c(t + tau) - c(t) = tau (v + v') / 2 + tau^2 (a - a') / 12   (Hermite; to the fourth order of tau).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.discovery.library import Library
from p2d.discovery.moments import Measure
from p2d.errors import UserError
from p2d.fields import REACH, Grid, Operator, Scaling
from p2d.snapshots.passes import Snapshots
from p2d.systems import expressions
from p2d.systems.system import System

MEAN_SQUARE = "mean square velocity 1, of values over their spread"
TOUCHED = 1e-4  # spreads, by which a field is changed to see what damps
ROUNDS = 20  # of the solution for the factor, which the second part holds in square
PAIRS = 64  # of frames, at most, that time is told from
ALIKE = 0.5  # cosine of changes and velocities below which frames are too far apart


def damping(library: Library, states: np.ndarray, scaling: Scaling, grid: Grid, operator: Operator) -> np.ndarray:
    """How much each coefficient lets the shortest waves of its species grow, [C K]; 0 of terms without neighbours.

    Args:
        states: some snapshots [N, C, H, W].
    """
    rows, columns = np.indices(grid.shape)
    waves = 1.0 - 2.0 * ((rows + columns) % 2)
    inside = grid.inside(0)
    functions = expressions.smooth_functions(states.astype(np.float64)) | grid.operators(operator)
    made = np.zeros((len(library.species), len(library.terms)))
    trees = [expressions.parse(term, library.species) for term in library.terms]
    for s, scale in enumerate(scaling.scale):
        ends = []
        for sign in (1, -1):
            touched = states.astype(np.float64)
            touched[:, s] += sign * TOUCHED * scale * waves
            names = {name: touched[:, i] for i, name in enumerate(library.species)}
            ends.append(
                [
                    expressions.evaluate(tree, names, functions) if differential else 0.0
                    for tree, differential in zip(trees, library.differential, strict=True)
                ]
            )
        for k, (ahead, behind) in enumerate(zip(*ends, strict=True)):
            made[s, k] = np.mean(((ahead - behind) * waves + np.zeros(states[:, 0].shape))[:, inside])
        made[s] /= 2 * TOUCHED * scale
    return np.where(np.abs(made) > 1e-9 * np.abs(made).max(initial=0.0), made, 0.0).ravel()


@dataclass(frozen=True)
class Clock:
    """How fast an equation is in truth.

    Attributes:
        factor: to multiply its coefficients by; negative where it runs backwards.
        error: of the factor.
        pairs: of frames that tell.
        cosine: of the changes and the velocities.
    """

    factor: float
    error: float
    pairs: int
    cosine: float

    @property
    def tells(self) -> bool:
        """Whether the frames are close enough."""
        return abs(self.cosine) >= ALIKE


def measure_clock(snapshots: Snapshots, system: System, measure: Measure, operator: Operator) -> Clock | None:
    """The clock of a system, of successive frames of runs at known times; None where there are none."""
    pairs, times = snapshots.pairs(PAIRS)
    if not len(pairs):
        return None
    grid, scaling = snapshots.grid, measure.scaling
    inside = grid.inside(2 * system.reach * max(REACH[operator], 1) + measure.kernel_radius)
    changes: list[np.ndarray] = []
    moved: list[np.ndarray] = []
    bent: list[np.ndarray] = []
    looked_at = np.unique(pairs)
    frames = snapshots.states_of(looked_at)  # at once, as a shard holds many
    for pair, tau in zip(pairs, times, strict=True):
        states = measure.smooth(frames[np.searchsorted(looked_at, pair)].astype(np.float64))
        own = snapshots.conditions.at(system, int(pair[0])) if snapshots.conditions else system
        velocity = own.rate(states, grid, operator)
        nearby = TOUCHED / np.abs(scaling.velocity_to_training(velocity)[..., inside]).max()
        ahead, behind = (own.rate(states + sign * nearby * velocity, grid, operator) for sign in (1, -1))
        acceleration = (ahead - behind) / (2 * nearby)
        for found, values in (
            (changes, states[1] - states[0]),
            (moved, tau * velocity.mean(axis=0)),
            (bent, tau**2 / 12 * (acceleration[0] - acceleration[1])),
        ):
            found.append(scaling.velocity_to_training(values)[:, inside].ravel())
    change, along, across = (np.stack(found) for found in (changes, moved, bent))
    factor = float((change * along).sum() / (along**2).sum())
    cosine = factor * float(np.linalg.norm(along) / np.linalg.norm(change))
    for _ in range(ROUNDS):
        factor = float(((change - factor**2 * across) * along).sum() / (along**2).sum())
    left = change - factor * along - factor**2 * across
    error = np.sqrt(((left * along).sum(axis=1) ** 2).sum()) / (along**2).sum()
    return Clock(factor, float(error), len(pairs), cosine)


def known_place(text: str, library: Library) -> tuple[np.ndarray, float, str]:
    """What is known of an equation: weights [C K] of the coefficient that it is, its value, and words.

    Args:
        text: 'lap(u) = 0.16', 'v: u*v**2 = 1', or of a tied library 'D_u = 0.16'.

    Raises:
        UserError: no such parameter or coefficient, or no number other than 0.
    """
    left, _, right = text.rpartition("=")
    try:
        value = float(right)
    except ValueError:
        value = 0.0
    if not left or not value or not np.isfinite(value):
        raise UserError(f"known = {text!r} is not understood; such as D_u=0.16, lap(u)=0.16 or 'v: u*v**2=1'")
    name = left.strip()
    if name in library.names:
        column = library.ties[:, library.names.index(name)]
        return column / (column @ column), value, f"{name} = {value:g}"
    species, _, term = name.rpartition(":")
    try:
        term = expressions.split(term, library.species)[0]
        own = expressions.fields_in(expressions.parse(term, library.species), library.species)
    except UserError:
        if not library.names:
            raise
        term, own = "", set()  # such as k, where only F + k is free
    species = species.strip() or (own.pop() if len(own) == 1 else "")
    place = library.place(species, term) if species in library.species else -1
    if place < 0:
        have = ", ".join(filter(None, library.names)) or ", ".join(library.terms)
        raise UserError(
            f"known = {text!r} names no parameter or term of one equation; there are {have}, as in 'u: u**2=1'"
        )
    weights = np.zeros(library.ties.shape[0])
    weights[place] = 1.0
    return weights, value, f"{term} in d{species}/dt = {value:g}"
