"""What is looked for, with each operator: what explicit steps and symmetries leave of it, and which fits best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from p2d.discovery import clock, fit
from p2d.discovery.across import Across
from p2d.discovery.diffusion import Diffusion, Stirred, fitted
from p2d.discovery.fit import Rates
from p2d.discovery.library import Library
from p2d.discovery.moments import Measure, Stepped, Trial
from p2d.discovery.rates import measure_runs, rates_of
from p2d.discovery.steps import EULER, Steps
from p2d.fields import Operator
from p2d.flow.solve import standard_error, weighted_mean
from p2d.snapshots.passes import Means, Snapshots
from p2d.systems.system import System

SYMMETRIES = 3  # at most; more would be no equation
PASSES = 6  # at most, for what explicit steps add
AS_LONG = 2.0  # times a step that is known roughly, up to which it is looked for again
SETTLED = 0.03  # relative, of their length
# Times the misfit and the price of the terms of the best problem, with what steps add, from which one is given up: of
# eight systems the true operator led from the first of these passes on, and others were at 1.4 to 40 times.
HOPELESS = 1.5
TRACE = 1e-3  # share of a velocity below which Laplacians are none of it
LARGEST_Z = 4.5  # of the observables that judge, beside a symmetry


@dataclass(frozen=True, eq=False)
class Problem:
    """What is looked for: an equation over a library, by rates with one operator.

    Free numbers are in a unit of time in which the mean square velocity is 1, and such that short waves are damped.

    Attributes:
        held_out: rates of those observables that judge, [N, L, P], in the same groups of runs.
        damping: see clock.damping.
        steps: what explicit steps add, where that has been measured.
        symmetries: free numbers of velocities without neighbours that keep the ensemble as well: of each the velocity
            may hold any share, which neither its size nor its fit counts.
        stirred: what noise in the dynamics adds, where it is fitted: its variances go with the free numbers.
        across: known conditions that the equation holds across, where it does.
    """

    library: Library
    measure: Measure
    operator: Operator
    uncorrected: Rates
    held_out: np.ndarray
    damping: np.ndarray
    steps: Steps | None = None
    symmetries: tuple[np.ndarray, ...] = ()
    stirred: Stirred | None = None
    across: Across | None = None

    @classmethod
    def of(
        cls,
        library: Library,
        measure: Measure,
        first: Means,
        operator: Operator,
        some: np.ndarray,
        across: Across | None = None,
    ) -> Problem:
        """By what a first pass has found, over a library of one condition; `some` snapshots tell what damps."""
        rates, held_out = rates_of(first, measure, library, operator)
        damping = clock.damping(library, some, measure.scaling, measure.grid, operator)
        if across:
            rates, held_out = across.together(rates, across.roots(first, measure, operator)), across.rates(held_out)
            library, damping = across.library, across.at_centre(damping)
        made = cls(library, measure, operator, rates, held_out, damping, across=across)
        for free in fit.unseen(rates):
            made = made.beside(free)
        return made

    def beside(self, free: np.ndarray) -> Problem:
        """The same problem where any share of this velocity, which keeps the ensemble as well, does not count."""
        return replace(self, uncorrected=self.uncorrected.beside(free), symmetries=(*self.symmetries, free))

    def beside_symmetries(self) -> list[Problem]:
        """The same problem, and, where its best equation damps nothing, those without that velocity, and so on."""
        made = [self]
        while len(made) <= SYMMETRIES:
            kept, solution = made[-1].chosen
            free = made[-1].whole(solution.coefficients, kept)
            if made[-1].damped(free):
                return made
            made.append(made[-1].beside(free))
        return made[:1]

    @cached_property
    def rates(self) -> Rates:
        """Rates of the observables of the fit, corrected for steps, and of what noise in the dynamics leaves alone."""
        return self.diffusion.rates(self.corrected) if self.diffusion else self.corrected

    @cached_property
    def corrected(self) -> Rates:
        """Rates of the observables of the fit, corrected for steps."""
        return self.steps.corrected(self.uncorrected) if self.steps else self.uncorrected

    @cached_property
    def diffusion(self) -> Diffusion | None:
        """The variances of noise in the dynamics that go with every equation, where they are fitted."""
        return fitted(self.corrected, self.stirred) if self.stirred else None

    @cached_property
    def chosen(self) -> tuple[np.ndarray, fit.Solution]:
        """The free numbers that the data need, all of a tied library, and the solution over them."""
        if self.library.sparse:
            return fit.choose_terms(self.rates)
        return np.arange(self.rates.rows.shape[2]), self.rates.solution()

    @property
    def allowance(self) -> float:
        """What each of the chosen terms has to earn."""
        kept, solution = self.chosen
        return self.rates.allowance(solution, len(kept))

    def worth(self, earned: float) -> tuple[bool, float]:
        """What the better of two problems has less of: misfit, and terms by what each has to earn.

        One that damps and fits is better than any that does not; beside a symmetry, it has to stand its judges.
        """
        kept, solution = self.chosen
        free = self.whole(solution.coefficients, kept)
        sound = bool(self.damped(free)) and self.fits and (not self.symmetries or self.judged(free) < LARGEST_Z)
        return not sound, float(solution.statistics[0]) + len(kept) * earned

    @cached_property
    def judging(self) -> np.ndarray:
        """Rates of the observables that judge, with noise in the dynamics, [N, L, P]."""
        return self.diffusion.held_out(self.held_out, self.corrected) if self.diffusion else self.held_out

    def judged(self, free: np.ndarray) -> float:
        """The largest z-score by size of the rates of the observables that judge."""
        if self.steps:
            drift, doubt = self.steps.added(self.judging, free)
        else:
            drift, doubt = self.judging @ free, np.zeros(1)
        runs = self.uncorrected.runs
        error = np.hypot(standard_error(drift, runs), doubt)
        return float(np.abs(weighted_mean(drift, runs) / np.maximum(error, np.finfo(float).tiny)).max())

    @property
    def fits(self) -> bool:
        """Whether the chosen terms, fewer than all, fit as well as chance lets them."""
        kept, solution = self.chosen
        freedom = max(self.rates.rows.shape[1] - len(kept) + 1, 1)
        few = len(kept) < self.rates.rows.shape[2] or not self.library.sparse
        inflation = self.rates.inflation(solution, len(kept)) ** 2
        return few and solution.statistics[0] < inflation * fit.surprising(freedom)

    def whole(self, c: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """All free numbers of those that are kept; the others are zero."""
        made = np.zeros(self.library.ties.shape[1])
        made[kept] = c
        species = len(self.library.species)
        velocity = (self.rates.root @ made).reshape(species, -1) / np.array(self.measure.spread[:species])[:, None]
        speed = np.sqrt(np.sum(velocity**2) / species)
        damped = self._stirring(made) or self.damped(made) or float(self._full @ made)
        return made / speed * (-1 if damped < 0 else 1)

    def damped(self, free: np.ndarray) -> float:
        """How much short waves are damped; 0 by terms without neighbours."""
        return -float(self.damping @ (self.library.ties @ free))

    def undamped(self, free: np.ndarray) -> bool:
        """Whether the velocity is, but for a trifle, one of terms without neighbours or of slopes alone.

        Such a one may be a symmetry that the grid keeps almost, as a translation of waves that it hardly resolves: a
        trace of Laplacians is then kept, which makes up for what the grid adds.
        """
        damping = np.where(self.damping @ self.library.ties, free, 0.0)
        root = self.rates.root
        return bool(np.linalg.norm(root @ damping) <= TRACE * np.linalg.norm(root @ free))

    def _stirring(self, free: np.ndarray) -> float:
        """The variances of noise in the dynamics together, of values over their spread; above 0 in time's direction."""
        spread = np.array(self.measure.spread[: len(self.library.species)]) * self.measure.scaling.scale
        return float(np.sum(self.variances(free) / spread**2))

    @cached_property
    def _full(self) -> np.ndarray:
        """What tells the direction of an equation that damps nothing: the velocity of all terms together."""
        full = self.rates.solution().coefficients
        return self.rates.root.T @ (self.rates.root @ full) * (-1 if self.damped(full) < 0 else 1)

    @property
    def trial(self) -> tuple[np.ndarray, Trial | None]:
        """The free numbers of the equation so far, and what steps along it are to be tried; None where none are."""
        kept, solution = self.chosen
        free = self.whole(solution.coefficients, kept)
        each = (self.damping * (self.library.ties @ free)).reshape(len(self.library.species), -1)
        fastest = float(np.abs(each.sum(axis=1)).max())
        if not fastest:
            return free, None
        system = self.system(free)
        longest = EULER / fastest
        if self.steps and self.steps.seen:  # smooth observables are polynomials of short steps alone
            longest = min(longest, AS_LONG * self.steps.length)
        return free, Trial(system, self.operator, longest, self.sigma(free))

    def system(self, free: np.ndarray) -> System:
        """The equation of these free numbers; of several conditions in the middle of them."""
        known = self.across.conditions if self.across else None
        middle = dict(zip(known.names, known.centre.tolist(), strict=True)) if known else {}
        return System.of_terms("found", self.library.name_terms(self.library.ties @ free), middle)

    def variances(self, free: np.ndarray) -> np.ndarray:
        """Sigma^2 [C] of noise in the dynamics; 0 where none is fitted."""
        made = np.zeros(len(self.library.species))
        if self.diffusion:
            made[list(self.diffusion.stirred.species)] = self.diffusion.variances(free)
        return made

    def sigma(self, free: np.ndarray) -> tuple[float, ...]:
        """Of noise in the dynamics, of each species; () where there is none."""
        sigma = np.sqrt(np.maximum(self.variances(free), 0.0))
        return tuple(sigma.tolist()) if sigma.any() else ()


def choose_operator(problems: list[Problem], snapshots: Snapshots) -> Problem:
    """The problem whose operator fits best, with the fewest terms.

    What steps add is measured at the equations so far, and again at the better ones that it leads to, until the length
    of the steps settles.
    """

    def best() -> Problem:
        return min(zip(_worths(problems), range(len(problems)), problems, strict=True))[2]

    measure, before = problems[0].measure, 0.0
    if measure.rounded:  # what rounding leaves would pass for steps
        return best()
    if any(measure.noise):
        return _stepped([best()], snapshots)[0]
    for number in range(PASSES):
        # What judges say is asked for late, as it takes time, and where it helps to choose.
        judged = number > 0 or any(problem.symmetries for problem in problems)
        problems = _stepped(problems, snapshots, judged=judged)
        steps = best().steps
        problems = _hopeful(problems)
        length, error = (steps.length, steps.error) if steps and steps.seen else (0.0, 0.0)
        settled = abs(length - before) <= max(SETTLED * length, error)
        seen = any(problem.steps and problem.steps.seen for problem in problems)
        if best().fits and settled and (number or not seen):
            break
        before = length
    chosen = best()
    unjudged = chosen.steps is not None and chosen.steps.held_out is None
    return _stepped([chosen], snapshots)[0] if unjudged else chosen


def _worths(problems: list[Problem]) -> list[tuple[bool, float]]:
    """What each of some problems is worth, the better the less."""
    if len(problems) == 1:
        return [(False, 0.0)]
    # The same for all, as of few runs it varies with the number of terms.
    earned = max(problem.allowance for problem in problems)
    return [problem.worth(earned) for problem in problems]


def _hopeful(problems: list[Problem]) -> list[Problem]:
    """All of these problems where none is good; otherwise those that are not far worse than the best."""
    worths = _worths(problems)
    bad, least = min(worths)
    return [p for p, (_, worth) in zip(problems, worths, strict=True) if bad or worth <= HOPELESS * least]


def _stepped(problems: list[Problem], snapshots: Snapshots, *, judged: bool = True) -> list[Problem]:
    """Problems that know what explicit steps add to the rates of their equations so far, by one more pass."""
    tried = [problem.trial for problem in problems]
    # Of an equation that damps nothing no steps are tried, and what they add is not known.
    problems = [p if trial else replace(p, steps=None) for p, (_, trial) in zip(problems, tried, strict=True)]
    trials = tuple(trial for _, trial in tried if trial)
    if not trials:
        return problems
    across, library = problems[0].across, problems[0].library
    task = Stepped(problems[0].measure, trials, judged, across.conditions if across else None)
    found = measure_runs(snapshots, task, across.base if across else library)
    if across:
        found = replace(found, of={key: across.stacked(values) for key, values in found.of.items()})
    made, place, noisy = [], 0, any(problems[0].measure.noise)
    for problem, (free, trial) in zip(problems, tried, strict=True):
        if trial:
            velocity = problem.rates.root @ free
            along = problem.rates.root.T @ velocity / (velocity @ velocity)
            rows, held_out = found.of["rows"][:, place], found.of["held_out"][:, place] if judged else None
            steps = Steps(along, rows, held_out, trial.longest, not noisy, runs=found.runs)
            problem = replace(problem, steps=_measured(steps, problem))
            place += 1
        made.append(problem)
    return made


def _measured(steps: Steps, problem: Problem) -> Steps:
    """Steps of the length that the rates of a problem's equation so far show."""
    own = problem.diffusion
    if not own:
        return steps.measured(problem.uncorrected, problem.chosen[0])
    alone = replace(steps, rows=own.across_steps(steps.rows))
    seen = alone.measured(own.rates(problem.uncorrected), problem.chosen[0])
    return replace(steps, length=seen.length, error=seen.error)
