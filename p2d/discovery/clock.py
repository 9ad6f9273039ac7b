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
from p2d.discovery.moments import Measure, extrapolate
from p2d.discovery.verdict import LEAST_RUNS, SIGNIFICANT
from p2d.fields import REACH, Grid, Operator, Scaling
from p2d.snapshots.passes import Findings, Snapshots
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
        """Whether the frames are close enough, and more than noise."""
        return abs(self.cosine) >= ALIKE and abs(self.factor) >= SIGNIFICANT * self.error


def measure_clock(snapshots: Snapshots, system: System, measure: Measure, operator: Operator) -> Clock | None:
    """The clock of a system, of successive frames of runs at known times; None where there are none."""
    pairs, times = snapshots.pairs(PAIRS)
    if not len(pairs):
        return None
    looked_at = np.unique(pairs)
    frames = snapshots.states_of(looked_at)  # at once, as a shard holds many
    each = []
    for pair, tau in zip(pairs, times, strict=True):
        own = snapshots.conditions.at(system, int(pair[0])) if snapshots.conditions else system
        products = _Products(own, measure, operator, float(tau))
        each.append(extrapolate(measure, int(pair[0]), frames[np.searchsorted(looked_at, pair)], products)["products"])
    runs = np.unique(snapshots.runs_of(pairs[:, 0]), return_inverse=True)[1]
    of_runs = np.zeros((runs.max() + 1, 4))
    np.add.at(of_runs, runs, np.stack(each))
    return _clock_of(of_runs if len(of_runs) >= LEAST_RUNS else np.stack(each), len(pairs))


@dataclass(frozen=True)
class _Products:
    """Of two successive frames z [2, C, H, W], what the factor is found from, see the head of this file.

    As observables do, it sees frames and velocities through the kernel, and values from which these come without it.
    """

    system: System
    measure: Measure
    operator: Operator
    tau: float

    def __call__(self, z: np.ndarray) -> Findings:
        """Products [4] of the mean velocity's part with the change, the acceleration's and itself, and |change|^2."""
        measure, scaling, grid = self.measure, self.measure.scaling, self.measure.grid
        states = scaling.to_values(z)
        velocity = self.system.rate(states, grid, self.operator)
        reach = 2 * self.system.reach * max(REACH[self.operator], 1) + measure.kernel_radius
        inside = grid.inside(reach)
        nearby = TOUCHED / np.abs(scaling.velocity_to_training(velocity)[..., inside]).max()
        ahead, behind = (self.system.rate(states + s * nearby * velocity, grid, self.operator) for s in (1, -1))
        acceleration = (ahead - behind) / (2 * nearby)
        parts = (
            z[1] - z[0],
            scaling.velocity_to_training(self.tau * velocity.mean(axis=0)),
            scaling.velocity_to_training(self.tau**2 / 12 * (acceleration[0] - acceleration[1])),
        )
        change, along, across = (measure.smooth(part)[:, inside].ravel() for part in parts)
        return {"products": np.array([along @ change, along @ across, along @ along, change @ change])}


def _clock_of(products: np.ndarray, pairs: int) -> Clock:
    """The clock of products [R, 4] that are independent."""
    changed, bent, moved, power = products.sum(axis=0)
    if moved <= 0 or power <= 0:  # noise is extrapolated to none, and nothing is left
        return Clock(0.0, np.inf, pairs, 0.0)
    factor = float(changed / moved)
    cosine = factor * float(np.sqrt(moved / power))
    for _ in range(ROUNDS):
        factor = float((changed - factor**2 * bent) / moved)
    left = products @ np.array([1.0, -(factor**2), -factor, 0.0])
    # What frames of one run leave is one draw; that of all adds up to none, which takes one degree of freedom.
    error = np.sqrt((left**2).sum() * len(left) / max(len(left) - 1, 1)) / moved
    return Clock(factor, float(error), pairs, cosine)
