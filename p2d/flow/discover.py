"""The equation in closed form: stationarity (see `solve`) over a library of PDE terms and polynomial observables.

One pass over the snapshots gives each one's rates for each term; everything else is small linear algebra on these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2d.dynamics import library
from p2d.dynamics.gray_scott import laplacian
from p2d.errors import UserError
from p2d.flow.solve import Solution, solve, whitened_basis

OBSERVABLE_DEGREE = 5  # of the monomials; degree 4 alone is too few
WEIGHT_DEGREES = (2, 3)  # of w in w(u, v) lap u and w(u, v) lap v
# A term is dropped when the fit without it is worse by less than this: what chance does (0.1 % of cases), plus a share
# of the number of snapshots that stands for the error of the model itself, such as that of a finite time step.
CHANCE, MODEL_ERROR = 10.8, 0.1
# See `solve`: terms are few and exact here, so that little is null and little is smoothed.
NULL, RIDGE = 1e-8, 1e-6
LEAST_SNAPSHOTS = 8
IDENTIFIED_GAP = 10.0
LARGEST_MISFIT = 3.0  # the error of Euler steps of dt = 1 alone leaves up to about 1
STATIC = 1e-4


@dataclass(frozen=True)
class Moments:
    """What one pass over snapshots leaves: of N snapshots, J observables, K terms.

    Attributes:
        sample_id: int64 [N].
        rows: rates of the observables for each term in each species, float64 [N, J, 2 K].
        gram: mean over cells of the products of terms, float64 [N, K, K].
    """

    sample_id: np.ndarray
    rows: np.ndarray
    gram: np.ndarray

    def of(self, sample_ids: np.ndarray) -> Moments:
        """The moments of these samples, in the order of their ids."""
        order = np.argsort(self.sample_id)
        chosen = order[np.isin(self.sample_id[order], sample_ids)]
        return Moments(self.sample_id[chosen], self.rows[chosen], self.gram[chosen])

    @property
    def energy(self) -> np.ndarray:
        """B [2 K, 2 K]: c' B c is the mean of |v|^2 over cells, summed over both species."""
        return np.kron(np.eye(2), self.gram.mean(axis=0))


@dataclass(frozen=True)
class Discovery:
    """A discovered equation.

    Attributes:
        coefficients: [2, K] over library.TERMS; unit of time: the rate of u v^2 in dv/dt is 1 (when it is there).
        error: standard deviations of the coefficients over bootstrap resamples, [2, K].
        gap: how much worse the next best dynamics fits, relative to the best.
        misfit: excess of chi-squared of the mean rates, a snapshot; far below 1 where the library holds the dynamics.
        unbalanced: share of the power of u v^2 that no linear terms balance cell by cell; about 0 for static patterns.
        verdict: in words.
    """

    coefficients: np.ndarray
    error: np.ndarray
    gap: float
    misfit: float
    unbalanced: float
    verdict: str
    unit_of_time: str


def moments(sample_id: np.ndarray, states: np.ndarray) -> Moments:
    """The moments of concentrations float32 [N, 2, H, W], one snapshot at a time, in float64."""
    parts = [_snapshot_moments(state.astype(np.float64)) for state in states]
    return Moments(np.asarray(sample_id), np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]))


def joined(parts: list[Moments]) -> Moments:
    """The moments of several sets of snapshots as one."""
    return Moments(*(np.concatenate([getattr(p, key) for p in parts]) for key in ("sample_id", "rows", "gram")))


def _snapshot_moments(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u, v = state
    phi = np.stack(library.terms(u, v)).reshape(len(library.TERMS), -1)
    gradients = observable_gradients(u, v)
    rows = [np.stack(species).reshape(len(species), -1) @ phi.T / phi.shape[1] for species in gradients]
    return np.concatenate(rows, axis=1), phi @ phi.T / phi.shape[1]


def observable_gradients(u: np.ndarray, v: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Functional derivatives by u and by v of the observables, fields [H, W] each.

    Observables are spatial means of u^a v^b to degree 5, of the gradient energies |grad u|^2, grad u . grad v and
    |grad v|^2, and of w lap u and w lap v for monomials w of degree 2 and 3. The Laplacian is self-adjoint, so the
    derivative of w lap u by u is w_u lap u + lap w.
    """
    pu, pv = library.powers(u, OBSERVABLE_DEGREE), library.powers(v, OBSERVABLE_DEGREE)
    lap_u, lap_v = laplacian(u), laplacian(v)
    zero = np.zeros_like(u)
    by_u: list[np.ndarray] = []
    by_v: list[np.ndarray] = []

    def slope(a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        return (a * pu[a - 1] * pv[b] if a else zero), (b * pu[a] * pv[b - 1] if b else zero)

    for degree in range(1, OBSERVABLE_DEGREE + 1):
        for b in range(degree + 1):
            w_u, w_v = slope(degree - b, b)
            by_u.append(w_u)
            by_v.append(w_v)
    by_u += [-2 * lap_u, -lap_v, zero]
    by_v += [zero, -lap_u, -2 * lap_v]
    for degree in WEIGHT_DEGREES:
        for b in range(degree + 1):
            w_u, w_v = slope(degree - b, b)
            lap_w = laplacian(pu[degree - b] * pv[b])
            by_u += [w_u * lap_u + lap_w, w_u * lap_v]
            by_v += [w_v * lap_u, w_v * lap_v + lap_w]
    return by_u, by_v


def discover(found: Moments, library_name: str = "cubic", bootstrap: int = 50, seed: int = 0) -> Discovery:
    """The equation that keeps the ensemble of these moments stationary.

    Args:
        found: moments of the snapshots.
        library_name: 'cubic' or 'gray-scott'.
        bootstrap: resamples of the snapshots for the error bars.
        seed: of the resamples.

    Raises:
        UserError: fewer than 8 snapshots.
    """
    count = len(found.rows)
    enough(count)
    free = np.flatnonzero(library.allowed(library_name).ravel())
    full = _solve_over(free, found)
    kept = free if library_name == "gray-scott" else _needed_terms(found, free, full)
    best = _solve_over(kept, found)
    coefficients, unit = _oriented(_spread_out(best.coefficients, kept))
    rng = np.random.Generator(np.random.Philox(seed))
    resampled = []
    for _ in range(bootstrap):
        again = rng.integers(count, size=count)
        draw = _solve_over(kept, Moments(found.sample_id[again], found.rows[again], found.gram[again]))
        resampled.append(_oriented(_spread_out(draw.coefficients, kept))[0])
    freedom = max(found.rows.shape[1] - len(kept) + 1, 1)
    gap = float(full.statistics[1] / max(full.statistics[0], freedom)) if len(full.statistics) > 1 else np.inf
    misfit = _excess(float(best.statistics[0]), freedom, count, found.rows.shape[1]) / count
    unbalanced = _unbalanced(found.gram.mean(axis=0))
    return Discovery(
        coefficients, np.std(resampled, axis=0), gap, misfit, unbalanced, _verdict(gap, misfit, unbalanced, count), unit
    )


def _solve_over(kept: np.ndarray, found: Moments) -> Solution:
    return solve(found.rows[:, :, kept], found.energy[np.ix_(kept, kept)], NULL, RIDGE)


def _excess(statistic: float, freedom: int, count: int, observables: int) -> float:
    """How far chi-squared is above what sampling alone makes it, with a covariance estimated from the same snapshots.

    With hardly more snapshots than observables that estimate is singular and nothing can be said: 0 (Hotelling 1931).
    """
    spare = count - observables - 2
    return max(0.0, statistic - freedom * count / spare) if spare > 0 else 0.0


def _unbalanced(gram: np.ndarray) -> float:
    """Share of the mean square of u v^2 left by its best fit with 1, u, v, lap u and lap v, cell by cell.

    Where nothing moves, u v^2 = F (1 - u) + D_u lap u holds in every cell, and no velocity can be read off the data.
    """
    reaction = library.TERMS.index("u*v**2")
    linear = [i for i, degree in enumerate(library.DEGREES) if degree <= 1]
    fit = np.linalg.lstsq(gram[np.ix_(linear, linear)], gram[linear, reaction], rcond=1e-9)[0]
    return float(1 - fit @ gram[linear, reaction] / gram[reaction, reaction])


def enough(count: int) -> None:
    """Refuse too few snapshots for an equation."""
    if count < LEAST_SNAPSHOTS:
        raise UserError(f"{count} living snapshots are too few for an equation: at least {LEAST_SNAPSHOTS} are needed")


def _spread_out(coefficients: np.ndarray, kept: np.ndarray) -> np.ndarray:
    full = np.zeros(2 * len(library.TERMS))
    full[kept] = coefficients
    return full.reshape(2, -1)


def _needed_terms(found: Moments, free: np.ndarray, full: Solution) -> np.ndarray:
    """Backward elimination: of the terms that could go at no more cost than chance, drop the one of highest degree.

    Degree before cost: on data near a curve in (u, v) a true low term has stand-ins made of many high ones. The weights
    stay those of the full fit. Each dropped term is then tried once more beside the kept ones.
    """
    weighted = full.whiten(found.rows.mean(axis=0)[:, free])
    energy = found.energy[np.ix_(free, free)]
    allowance = CHANCE + MODEL_ERROR * len(found.rows)
    degree = [library.DEGREES[i % len(library.TERMS)] for i in free]

    def misfit(kept: list[int]) -> float:
        return float(np.linalg.svd(weighted[:, kept] @ whitened_basis(energy[np.ix_(kept, kept)], NULL))[1][-1] ** 2)

    def eliminate(kept: list[int]) -> tuple[list[int], float]:
        now = misfit(kept)
        while len(kept) > 2:
            costs = {j: misfit([i for i in kept if i != j]) for j in kept}
            able = [j for j in kept if costs[j] - now <= allowance]
            if not able:
                break
            drop = min(able, key=lambda j: (-degree[j], costs[j]))
            kept, now = [i for i in kept if i != drop], costs[drop]
        return kept, now

    kept, now = eliminate(list(range(len(free))))
    for returned in range(len(free)):
        if returned not in kept:
            other, cost = eliminate(sorted([*kept, returned]))
            if (len(other), cost) < (len(kept), now):
                kept, now = other, cost
    return free[kept]


def _oriented(coefficients: np.ndarray) -> tuple[np.ndarray, str]:
    """Direction and unit of time, which snapshots cannot tell: diffusion damps; the rate of u v^2 in dv/dt is 1."""
    diffusion = coefficients[0, library.TERMS.index("lap(u)")] + coefficients[1, library.TERMS.index("lap(v)")]
    coefficients = coefficients * (1.0 if diffusion >= 0 else -1.0)
    reaction = coefficients[1, library.TERMS.index("u*v**2")]
    if reaction > 0:
        return coefficients / reaction, "reaction rate 1"
    return coefficients, "mean square velocity 1"


def _verdict(gap: float, misfit: float, unbalanced: float, count: int) -> str:
    if unbalanced < STATIC:
        return (
            f"static: reaction and diffusion balance cell by cell to {unbalanced:.0e} of the reaction's power, so the "
            "velocity on the data is about zero and the equation is not identified; take a preset that moves"
        )
    if misfit > LARGEST_MISFIT:
        return (
            f"not stationary: the best equation leaves a misfit of {misfit:.1f} a snapshot (at most {LARGEST_MISFIT:g} "
            "is expected); simulate more steps, or the library lacks a term"
        )
    if gap < IDENTIFIED_GAP:
        return f"ambiguous: the next best dynamics fits only {gap:.1f} times worse; take more snapshots"
    return f"identified from {count} snapshots: the next best dynamics fits {gap:,.0f} times worse"


def format_equation(found: Discovery) -> str:
    """The two equations in one line each, coefficients with the error of their last digits in brackets."""
    lines = []
    for row, (species, equation) in enumerate(library.to_equation(found.coefficients).items()):
        parts = []
        for term, value in equation.items():
            error = found.error[row, library.TERMS.index(term)]
            number = _with_error(abs(value), float(error))
            name = "" if term == "1" else " " + term.replace("**", "^").replace("*", " ")
            parts.append(f"{'-' if value < 0 else '+'} {number}{name}")
        lines.append(f"d{species}/dt = {' '.join(parts).removeprefix('+ ')}")
    return "\n".join(lines)


def _with_error(value: float, error: float) -> str:
    """0.16012 +- 0.0013 as '0.160(1)'; a value that is fixed, without brackets."""
    if error <= 1e-12 * abs(value) or not np.isfinite(error):
        return f"{value:g}"
    digits = max(0, -int(np.floor(np.log10(error))))
    return f"{value:.{digits}f}({max(1, round(error * 10**digits))})"


def summary(found: Discovery) -> dict[str, Any]:
    """The discovery as JSON: equation, its errors, and the numbers of the verdict."""
    error = found.error * (found.coefficients != 0)
    return {
        "equation": library.to_equation(found.coefficients),
        "error": library.to_equation(error),
        "gap": found.gap,
        "misfit": found.misfit,
        "unbalanced": found.unbalanced,
        "verdict": found.verdict,
        "unit_of_time": found.unit_of_time,
    }
