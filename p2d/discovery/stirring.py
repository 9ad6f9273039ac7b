"""Whether snapshots ask for noise in the dynamics: of which species, and rather than for white noise of a camera.

Of snapshots without it, the variances of every species together lower chi-squared by more than chance lets them in
one ensemble of a thousand (FALSE_ALARM), at the equation that was found without, and with what explicit steps add.
Data that no equation of the library keeps may ask for it too; so it is believed only where the equation with it stands
what the one without does not: its own misfit and its judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.stats import chi2

from p2d.discovery.diffusion import Stirred, fitted
from p2d.discovery.problem import LARGEST_Z, Problem, choose_operator
from p2d.flow.solve import Solution
from p2d.snapshots.passes import Snapshots

Begun = tuple[list[Problem], Stirred | None]  # a problem with each operator, and what noise in the dynamics would add
FALSE_ALARM = 1e-3
FEWER = 2.0  # times less misfit with noise in the dynamics, from which it is tried first


def choose_problem(bases: list[Problem], stirred: Stirred | None, snapshots: Snapshots) -> Problem:
    """The best problem, with noise in the dynamics where the snapshots ask for it.

    Args:
        bases: one with each operator, before what steps add is known.
        stirred: what noise would add; None where it is not looked for.
    """
    best = best_stirred(bases, stirred, snapshots) if stirred and promising(bases, stirred) else None
    # Long explicit steps promise as much: what they add is alike, and they may do without noise, by fewer terms.
    plain = choose_operator([one for each in bases for one in each.beside_symmetries()], snapshots)
    if not best and stirred and sound(plain) and _asked_for(plain, stirred):
        best = best_stirred(bases, stirred, snapshots)
    if not best or (not sound(best), _cost(best, plain)) > (not sound(plain), _cost(plain, best)):
        return plain
    return best


def rather_than_camera(sharp: Begun, camera: Callable[[], Begun], snapshots: Snapshots) -> Problem | None:
    """The problem with noise in the dynamics alone, where that is what short waves show; None for a camera's.

    Both are looked at without a kernel. There what a camera adds can be mistaken for noise in the dynamics only by an
    equation of more terms, and the other way round: the one of less misfit and fewer terms is taken.

    Args:
        sharp: problems without noise of a camera.
        camera: those that are corrected for it, on demand.
    """
    bases, stirred = sharp
    best = best_stirred(bases, stirred, snapshots) if stirred and promising(bases, stirred) else None
    if not best or not best.fits:
        return None
    other = choose_problem(*camera(), snapshots)
    return best if _cost(best, other) < _cost(other, best) else None


def promising(bases: list[Problem], stirred: Stirred) -> bool:
    """Whether noise in the dynamics takes most of the least misfit off, before what steps add is known."""
    least = min(bases, key=lambda base: base.rates.solution().statistics[0])
    plain = least.rates.solution()
    before = plain.statistics[0]
    after = min(replace(base, stirred=stirred).rates.solution().statistics[0] for base in bases)
    return bool(before - after > _by_chance(least, plain, stirred) and after < before / FEWER)


def _by_chance(problem: Problem, solution: Solution, stirred: Stirred) -> float:
    """What the variances of noise that is not there take off the misfit of an equation in FALSE_ALARM of ensembles."""
    inflation = problem.corrected.inflation(solution, len(solution.coefficients))
    return float(chi2.isf(FALSE_ALARM, stirred.rows.shape[2])) * inflation**2


def best_stirred(bases: list[Problem], stirred: Stirred, snapshots: Snapshots) -> Problem | None:
    """The best problem with noise in the dynamics, of the species that show it; None where none does."""
    own = (replace(base, stirred=stirred) for base in bases)
    best = choose_operator([one for each in own for one in each.beside_symmetries()], snapshots)
    quiet, needless = _quietest(best, stirred)
    if not needless:
        return best
    louder = stirred.of(tuple(s for s in stirred.species if s != quiet))
    same = [base for base in bases if base.operator == best.operator]
    fewer = best_stirred(same, louder, snapshots) if louder.species else None
    # What is in doubt of one species is left in where the others do no better without it; below 0 it is none.
    positive = _variances(best)[quiet] > 0
    return best if fewer and positive and _cost(best, best) < _cost(fewer, best) else fewer


def _cost(problem: Problem, other: Problem) -> tuple[bool, float]:
    """What the better of two problems has less of, see `Problem.worth`, where each noise counts as a term."""
    earned = max(problem.allowance, other.allowance)
    unfit, misfit = problem.worth(earned)
    return unfit, misfit + (earned * len(problem.stirred.species) if problem.stirred else 0.0)


def sound(problem: Problem) -> bool:
    """Whether the equation fits, and stands its judges."""
    kept, solution = problem.chosen
    return problem.fits and problem.judged(problem.whole(solution.coefficients, kept)) < LARGEST_Z


def _asked_for(problem: Problem, stirred: Stirred) -> bool:
    """Whether noise in the dynamics takes off more of the misfit than chance lets it."""
    kept, solution = problem.chosen
    rates = problem.corrected.over(kept)
    own = fitted(rates, stirred)
    gain = solution.statistics[0] - own.rates(rates).solution().statistics[0]
    return bool(gain > _by_chance(problem, solution, stirred))


def _quietest(problem: Problem, stirred: Stirred) -> tuple[int, bool]:
    """The species whose noise the equation can do best without, and whether that is within chance."""
    kept, solution = problem.chosen
    variances, rates, rises = _variances(problem), problem.corrected.over(kept), {}
    for s in stirred.species:
        others = stirred.of(tuple(other for other in stirred.species if other != s))
        reduced = fitted(rates, others).rates(rates) if others.rows.shape[2] else rates
        rise = reduced.solution().statistics[0] - solution.statistics[0]
        rises[s] = float(rise) if variances[s] > 0 else -np.inf
    quiet = min(rises, key=lambda s: rises[s])
    return quiet, rises[quiet] <= float(chi2.isf(FALSE_ALARM, 1)) * rates.inflation(solution, len(kept)) ** 2


def _variances(problem: Problem) -> np.ndarray:
    """Sigma^2 of each species [C] under the best equation."""
    kept, solution = problem.chosen
    return problem.variances(problem.whole(solution.coefficients, kept))
