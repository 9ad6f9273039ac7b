"""How long a step may be, from the system linearised at its rest state: told before anything is simulated.

A wave whose Laplacian is -q follows dc/dt = J(q) c near the rest state. Euler's step multiplies an eigenvector of
eigenvalue mu by 1 + dt mu, which grows where it should decay if dt > -2 Re(mu) / |mu|^2.

Where the rest state is itself unstable and waves grow at a rate g, some oscillate and neither grow nor decay. Any step
makes those grow; patterns outgrow them as long as |1 + dt mu| <= 1 + dt g, so that this is all that is asked of
oscillations that decay more slowly than g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2d.errors import UserError
from p2d.fields import Grid, Operator
from p2d.systems import expressions
from p2d.systems.system import System

WAVES = 33  # of each system, from uniform to the shortest
SHIFT = 1e-6  # of a central difference, relative
USUAL_SHARE = 0.5  # of the longest stable step
WEAK = 0.02  # decay over frequency; what turns and decays less, as near a Hopf bifurcation, bounds no step
ROUNDING = 1e-7  # relative, of a Jacobian by differences
ROOT_STEPS, AT_REST = 60, 1e-12  # of Newton's method, and the rate that it ends at


@dataclass(frozen=True)
class Bound:
    """The longest stable Euler step, and the decay that sets it; inf where nothing does.

    Attributes:
        overshoot: the longest step under which no species with limits is moved past its rest value, and which.
    """

    dt: float
    decay: float
    overshoot: float
    species: str


def jacobian(system: System, q: float, state: np.ndarray | None = None) -> np.ndarray:
    """J(q) [C, C] of waves whose Laplacian is -q, at a uniform state [C], or at rest.

    First derivatives count as none.
    """
    rest = system.amounts("rest") if state is None else state
    count = len(rest)
    shift = SHIFT * np.maximum(np.abs(rest), 1.0)
    # The rest state, and each species moved up and down from it.
    moved = np.concatenate([rest[None], rest + np.diag(shift), rest - np.diag(shift)])
    functions = expressions.smooth_functions(rest) | {
        "lap": lambda f: -q * (f - f[0]),
        "grad": lambda f, g: 0 * (f + g),
        "d": lambda f, _: 0 * f,
    }
    names = {s: moved[:, i] for i, s in enumerate(system.species)}
    with np.errstate(all="ignore"):
        rates = np.stack(
            [0 * moved[:, 0] + expressions.evaluate(tree, names, functions) for tree in system.folded.values()]
        )
    return (rates[:, 1 : 1 + count] - rates[:, 1 + count :]) / (2 * shift)


def rest_state(system: System) -> np.ndarray:
    """A uniform state [C] that the rates leave as it is, by Newton's method; where none is found, the nearest to zero.

    It begins halfway between the limits of each species, at either end and beyond; without limits at 0.5, 0, 1 and -1.
    """
    ends = [system.limits.get(s, (-math.inf, math.inf)) for s in system.species]
    low, high = np.array(ends, float).T
    with np.errstate(all="ignore"):
        for share in (0.5, 0.0, 1.0, -1.0):
            state = np.where(np.isfinite(high - low), low + share * (high - low), share)
            for _ in range(ROOT_STEPS):
                rate, slope = system.rate(state[:, None, None])[:, 0, 0], jacobian(system, 0.0, state)
                if not (np.isfinite(rate).all() and np.isfinite(slope).all()):
                    break
                if np.abs(rate).max() < AT_REST:
                    if (state >= low).all() and (state <= high).all():
                        return state
                    break
                state = state - np.linalg.lstsq(slope, rate, rcond=None)[0]
    return np.clip(np.zeros(len(ends)), low, high)


def longest_step(system: System, grid: Grid, operator: Operator) -> Bound:
    """The longest stable Euler step of a system on a grid."""
    longest, decay = math.inf, 0.0
    matrices = (jacobian(system, float(q)) for q in np.linspace(0.0, grid.stiffest(operator), WAVES))
    waves = np.concatenate([np.linalg.eigvals(m) for m in matrices if np.isfinite(m).all()] or [np.zeros(0)])
    growth = max(waves.real.max(initial=0.0), 0.0)
    for mu in waves[-waves.real > np.maximum(WEAK * np.abs(waves), 1e-12)]:
        # Where the rest state itself grows, an oscillation that decays more slowly than that need only grow no faster.
        slow = growth if mu.imag and -mu.real < growth else 0.0
        bound = 2 * (slow - mu.real) / (abs(mu) ** 2 - slow**2) if abs(mu) > slow else math.inf
        if bound < longest:
            longest, decay = float(bound), float(-mu.real)
    own = zip(system.species, np.diag(jacobian(system, 0.0)), strict=True)
    overshoots = [(float(1 / -rate), s) for s, rate in own if s in system.limits and rate < 0]
    return Bound(longest, decay, *min(overshoots, default=(math.inf, ""), key=lambda pair: pair[0]))


def refuse_growth(system: System, grid: Grid, operator: Operator) -> None:
    """Refuse a system whose waves grow the faster the shorter they are, as with a negative diffusion.

    Raises:
        UserError: says the rate of growth of the grid's shortest wave.
    """
    shortest = grid.stiffest(operator)
    # Far beyond the grid: what grows on it may still be a pattern.
    matrices = [jacobian(system, scale * shortest) for scale in (1.0, 10.0, 100.0)]
    if not np.isfinite(matrices).all():
        return
    here, beyond, far = (float(np.linalg.eigvals(matrix).real.max()) for matrix in matrices)
    if far > 2 * beyond > 0:
        raise UserError(
            f"{system.label} cannot be simulated: its waves grow the faster the shorter they are (the grid's shortest "
            f"at {here:.3g} a unit of time); is a diffusion negative?"
        )


def refuse_long_step(system: System, grid: Grid, operator: Operator, dt: float) -> None:
    """Refuse a step that the linearisation knows to be unstable, or under which a species would overshoot its rest.

    Raises:
        UserError: says the step, what makes it too long, and the longest that is not.
    """
    bound = longest_step(system, grid, operator)
    if dt > bound.dt * (1 + ROUNDING):
        raise UserError(
            f"dt = {dt:g} is unstable for {system.label}: its fastest wave decays at {bound.decay:.4g} a unit of time, "
            f"and Euler needs dt <= {_rounded_down(bound.dt)}"
        )
    if dt > bound.overshoot * (1 + ROUNDING):
        raise UserError(
            f"dt = {dt:g} is too long for {system.label}: a step would take {bound.species} past its rest value; "
            f"it needs dt <= {_rounded_down(bound.overshoot)}"
        )


def usual_step(system: System, grid: Grid, operator: Operator) -> float:
    """Half of the longest stable step, of two digits, for a system that says none.

    Raises:
        UserError: nothing bounds the step, as far as the rest state tells.
    """
    bound = longest_step(system, grid, operator)
    longest = min(bound.dt, bound.overshoot)
    if not math.isfinite(longest):
        raise UserError(f"{system.label} says no step and its rest state sets none; give --dt")
    return float(f"{USUAL_SHARE * longest:.1e}")


def _rounded_down(value: float) -> str:
    """Four digits that are no more than the value, but for its rounding."""
    value *= 1 + ROUNDING
    scale = 10.0 ** (3 - math.floor(math.log10(value)))
    return f"{math.floor(value * scale) / scale:.4g}"
