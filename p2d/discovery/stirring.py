"""Whether snapshots ask for noise in the dynamics: of which species, and rather than for white noise of a camera.

Of snapshots without it, the variances of every species together lower chi-squared by more than chance lets them in
one ensemble of a thousand (FALSE_ALARM), at the equation that was found without, and with what explicit steps add.
Data that no equation of the library keeps may ask for it too; so it is believed only where the equation with it stands
what the one without does not: its own misfit and its judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scipy.stats import chi2

from p2d.discovery import fit
from p2d.discovery.diffusion import Stirred, fitted
from p2d.discovery.problem import LARGEST_Z, Problem, choose_operator
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
    first = best_stirred(bases, stirred, snapshots) if stirred and promising(bases, stirred) else None
    if first and sound(first):
        return first
    plain = choose_operator([one for each in bases for one in each.beside_symmetries()], snapshots)
    if sound(plain) and stirred and not first and _asked_for(plain, stirred):
        first = best_stirred(bases, stirred, snapshots)
        return first if first and sound(first) else plain
    return (
        first if first and not sound(plain) and first.worth(plain.allowance) < plain.worth(plain.allowance) else plain
    )


def rather_than_camera(sharp: Begun, camera: Callable[[], Begun], snapshots: Snapshots) -> Problem | None:
    """The problem with noise in the dynamics alone, where that is what short waves show; None for a camera's.

    Both are looked at without a kernel. What a camera adds is then mistaken for noise in the dynamics only by an
    equation of more terms, and the other way round: the one of less misfit and fewer terms is taken.

    Args:
        sharp: problems without noise of a camera.
        camera: those that are corrected for it, on demand.
    """
    bases, stirred = sharp
    best = best_stirred(bases, stirred, snapshots) if stirred and promising(bases, stirred) else None
    if not best or not sound(best):
        return None
    other = choose_problem(*camera(), snapshots)
    earned = max(best.allowance, other.allowance)
    return best if not sound(other) or best.worth(earned) < other.worth(earned) else None


def promising(bases: list[Problem], stirred: Stirred) -> bool:
    """Whether noise in the dynamics takes most of what is left of the best misfit, before steps are looked for."""
    plain = [base.rates.solution() for base in bases]
    least = min(range(len(bases)), key=lambda n: plain[n].statistics[0])
    before, rates = plain[least].statistics[0], bases[least].rates
    after = min(replace(base, stirred=stirred).rates.solution().statistics[0] for base in bases)
    surprising = fit.surprising(rates.freedom) * rates.inflation(plain[least]) ** 2
    return bool(before > surprising and after < before / FEWER)


def best_stirred(bases: list[Problem], stirred: Stirred, snapshots: Snapshots) -> Problem | None:
    """The best problem with noise in the dynamics, of the species that show it; None where none does."""
    while stirred.species:
        own = (replace(base, stirred=stirred) for base in bases)
        best = choose_operator([one for each in own for one in each.beside_symmetries()], snapshots)
        quiet = _least(best)
        if quiet is None:
            return best
        bases = [base for base in bases if base.operator == best.operator]
        stirred = stirred.of(tuple(s for s in stirred.species if s != quiet))
    return None


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
    return bool(gain > chi2.isf(FALSE_ALARM, len(stirred.species)) * rates.inflation(solution, len(kept)) ** 2)


def _least(problem: Problem) -> int | None:
    """The species whose noise the equation can do best without; None where it needs all."""
    kept, solution = problem.chosen
    free = problem.whole(solution.coefficients, kept)
    rates, stirred, diffusion = problem.corrected.over(kept), problem.stirred, problem.diffusion
    assert stirred and diffusion
    allowed = chi2.isf(FALSE_ALARM, 1) * rates.inflation(solution, len(kept)) ** 2
    rises = {}
    for s, variance in zip(stirred.species, diffusion.variances(free), strict=True):
        others = stirred.of(tuple(other for other in stirred.species if other != s))
        reduced = fitted(rates, others).rates(rates) if others.species else rates
        rise = reduced.solution().statistics[0] - solution.statistics[0]
        rises[s] = float(rise) if variance > 0 else 0.0
    least = min(rises, key=lambda s: rises[s])
    return least if rises[least] <= allowed else None
