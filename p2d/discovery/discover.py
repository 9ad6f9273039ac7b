"""The equation in closed form, from unordered snapshots, with error bars and a verdict.

A few passes over the snapshots (moments.py) and small linear algebra (fit.py). The first pass tells the equation up to
what explicit time steps add to mean rates. Further ones measure that at the equations so far (steps.py), each with one
of the operators to choose from, until the length of the steps settles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from p2d.config import DiscoverConfig
from p2d.discovery import clock, fit, observables
from p2d.discovery.coordinates import expanded, ranged, standardised
from p2d.discovery.fit import Rates
from p2d.discovery.known import Known, known_systems, named
from p2d.discovery.library import FREE, Library, choose_library, free_library
from p2d.discovery.moments import SMOOTHING, Measure, Rows, Stepped, Trial, extrapolate, refuse_not_finite
from p2d.discovery.observables import ENUMERATED, Products, Smooth
from p2d.discovery.result import Discovery
from p2d.discovery.steps import EULER, Steps
from p2d.discovery.verdict import (
    LARGEST_Z,
    LEAST_RUNS,
    RUNS_PER_WEIGHT,
    SIGNIFICANT,
    static_text,
    too_few_text,
    verdict_text,
)
from p2d.errors import UserError
from p2d.fields import Grid, Operator
from p2d.flow.solve import whitened_basis
from p2d.snapshots import noise as noises
from p2d.snapshots import static
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.passes import Findings, Snapshots
from p2d.systems import expressions
from p2d.systems.reading import load_system
from p2d.systems.system import System

NULL = 1e-8  # share of the largest eigenvalue of the products of terms, below which they are null on the data
PER_TERM = 1.6  # random observables for each free number, where there are too many species to enumerate them
INTERVAL = (5.0, 95.0)  # percentiles
SMALLEST_FITS = 8  # of the spectrum, that a discovery keeps
DAMPED_AT = 8  # snapshots that are looked at for what damps
SURE = 0.95  # share of the resampled ensembles in which short waves are damped
BALANCE_DRAWS = 20
AS_BALANCED = 3.0  # times as far from balance as any function of the values, that a recognised system may be
SYMMETRIES = 3  # at most; more would be no equation
GONE = 1e-12  # share of a term's mean square below which it is a symmetry alone
PASSES = 6  # at most, for what explicit steps add
AS_LONG = 2.0  # times a step that is known roughly, up to which it is looked for again
SETTLED = 0.03  # relative, of their length


def discover_equation(
    snapshots: Snapshots, config: DiscoverConfig, measure: Measure | None = None, system: System | None = None
) -> Discovery:
    """The equation that keeps an ensemble stationary.

    Args:
        measure: how to measure the snapshots; None: see `choose_measure`.
        system: that the snapshots are known to be of: its unit of time is taken, and where nothing moves its terms.

    Raises:
        UserError: fewer than 8 runs, nothing but noise, or what is not finite.
    """
    refuse_few_runs(len(np.unique(snapshots.runs)))
    library = choose_library(config, snapshots.species, snapshots.grid)
    sample = snapshots.some(LOOKED_AT)
    _refuse_still_species(sample, snapshots.species, snapshots.grid)
    measure = measure or choose_measure(sample, snapshots.species, snapshots.grid, config)
    imbalance, error = _imbalance(sample, measure)
    still = imbalance < static.STATIC + error
    if any(measure.noise) or not still:
        first = _measure_runs(snapshots, Rows(measure), library)
        _refuse_noise_alone(first["gram"], measure)
    if still:
        return _Steady(snapshots, measure, config, max(imbalance, error), system).discovery(library)
    problems = (_Problem.of(library, measure, first, operator, sample[:DAMPED_AT]) for operator in measure.operators)
    problem = _choose_operator([one for each in problems for one in each.beside_symmetries()], snapshots)
    kept, frequency = problem.chosen[0], None
    if library.sparse:
        kept, frequency = fit.choose_stable_terms(problem.rates, config.seed, problem.chosen)
    return _Fitted(problem, kept, snapshots, config, system).discovery(frequency, imbalance)


def choose_measure(states: np.ndarray, species: tuple[str, ...], grid: Grid, config: DiscoverConfig) -> Measure:
    """How snapshots like these, [N, C, H, W], are to be measured for the library of these settings."""
    library = choose_library(config, species, grid)
    rounded = noises.is_rounded(states)
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
    z = np.stack([measure.smooth(measure.scaled(state)) for state in states])
    curved = grid.in_cells.laplacian(z)
    both = np.concatenate([z, curved], axis=1)[..., grid.inside(1)]
    spread = tuple((both.std(axis=(0, 2)) + np.finfo(float).tiny).tolist())
    if isinstance(own, Smooth):
        own = replace(own, spread=spread)
    if any(noise):
        # Laplacians are noise then; smooth functions of it are too bent to extrapolate.
        spread = (*spread[: len(species)], *(np.inf,) * len(species))
    return replace(measure, observables=own, spread=spread)


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


def _imbalance(states: np.ndarray, measure: Measure) -> tuple[float, float]:
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
    draws = [balance.imbalance(each[again].sum(axis=0)) for again in fit.resamples(len(each), BALANCE_DRAWS, 0)]
    return found, 2 * float(np.std(draws))


def measure_misfits(systems: dict[str, System], snapshots: Snapshots, measure: Measure) -> dict[str, float]:
    """How badly each of some known systems fits snapshots, up to the unit of time.

    Returns:
        Chi-squared of the mean rates, with the covariance at each system; where nothing moves, the share of the terms'
        power that a system leaves as velocity.
    """
    terms = tuple(dict.fromkeys(t for system in systems.values() for own in system.terms.values() for t in own))
    library = free_library(terms, measure.species)
    first = snapshots.each(Rows(measure))
    rates, _ = _rates(first, measure, library, measure.operators[0])
    is_static = _imbalance(snapshots.some(LOOKED_AT), measure)[0] < static.STATIC
    misfits = {}
    for name, system in systems.items():
        c = library.coefficients(system.terms)
        if is_static:
            misfits[name] = float(np.sum((rates.root @ c) ** 2) / np.sum((rates.root * c) ** 2))
        else:
            alone = replace(rates, rows=rates.rows @ c[:, None], root=rates.root @ c[:, None])
            misfits[name] = float(alone.solution().statistics[0])
    return misfits


def refuse_few_runs(count: int) -> None:
    """Refuse too few independent snapshots for an equation."""
    if count < LEAST_RUNS:
        raise UserError(f"{count} living runs are too few for an equation: at least {LEAST_RUNS} are needed")


def _refuse_still_species(states: np.ndarray, species: tuple[str, ...], grid: Grid) -> None:
    """Refuse a species that has one value everywhere: it has no dynamics, and is none of the others' doing."""
    spread = np.ptp(states[..., grid.inside(0)], axis=(0, 2))
    for name, own in zip(species, spread, strict=True):
        if own == 0:  # what is not finite is named later
            raise UserError(f"species {name!r} has the same value in every cell of every snapshot; leave it out")


def _refuse_noise_alone(gram: np.ndarray, measure: Measure) -> None:
    """Refuse runs whose values, corrected for noise, do not vary from cell to cell: they would pass for static.

    Args:
        gram: mean products of what is measured, [N, M, M].
    """
    one, *species = measure.places(("1", *measure.species), measure.operators[0])
    variances = np.stack([gram[:, i, i] - gram[:, i, one] ** 2 for i in species])
    error = variances.std(axis=1, ddof=1) / np.sqrt(len(gram))
    if any(measure.noise) and (variances.mean(axis=1) < SIGNIFICANT * error).all():
        raise UserError(
            f"too noisy: no pattern is seen above noise of {max(measure.noise):.2g}, from which no equation can be told"
        )


def _measure_runs(snapshots: Snapshots, task: Rows | Stepped, library: Library) -> Findings:
    """Means of what a task finds over the snapshots of each run, which are not independent of each other."""
    findings = snapshots.each(task)
    refuse_not_finite(findings, snapshots.sample_ids, _users_words(task.measure, library))
    names, place, size = np.unique(snapshots.runs, return_inverse=True, return_counts=True)
    if len(names) == len(snapshots.runs):
        return findings
    means = {}
    for key, values in findings.items():
        total = np.zeros((len(names), *values.shape[1:]))
        np.add.at(total, place, values)
        means[key] = total / size.reshape(-1, *[1] * (values.ndim - 1))
    return means


def _users_words(measure: Measure, library: Library) -> list[str]:
    """The library's term that each function that is measured is of."""
    names, matrix = expanded(library.terms, library.species, measure.scaling)
    of = {name: library.terms[int(np.abs(row).argmax())] for name, row in zip(names, matrix, strict=True)}
    return [of.get(term, term) for term, _ in measure.trees]


def _rates(first: Findings, measure: Measure, library: Library, operator: Operator) -> tuple[Rates, np.ndarray]:
    """Rates for the library's free numbers, of the observables of the fit, and of those held out [N, 40, P]."""
    names, matrix = expanded(library.terms, library.species, measure.scaling)
    places, every, terms = measure.places(names, operator), len(measure.trees), len(library.terms)
    made = {key: np.zeros((*first[key].shape[:2], library.ties.shape[1])) for key in ("rows", "held_out")}
    for s, scale in enumerate(measure.scaling.scale):
        in_units = matrix / scale  # the rate of z is that of values over the scale
        block = slice(s * terms, (s + 1) * terms)
        columns = [s * every + place for place in places]
        for key, total in made.items():
            total += first[key][:, :, columns] @ (in_units @ library.ties[block])
    root = _root(first["gram"].mean(axis=0), measure, library, operator)
    return Rates(made["rows"], root, library.degrees), made["held_out"]


def _root(gram: np.ndarray, measure: Measure, library: Library, operator: Operator) -> np.ndarray:
    """A [R, P], whose |A c|^2 is the mean square of the velocity of z, of mean products [M, M] of what is measured."""
    names, matrix = expanded(library.terms, library.species, measure.scaling)
    places, terms = measure.places(names, operator), len(library.terms)
    gram = gram[np.ix_(places, places)]
    own = whitened_basis(gram, NULL).T @ gram @ matrix
    blocks = [own @ library.ties[s * terms : (s + 1) * terms] / scale for s, scale in enumerate(measure.scaling.scale)]
    return np.concatenate(blocks)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is looked for: an equation over a library, by rates with one operator.

    Free numbers are in a unit of time in which the mean square velocity is 1, and such that short waves are damped.

    Attributes:
        held_out: rates of those observables that judge, [N, 40, P].
        damping: see clock.damping.
        steps: what explicit steps add, where that has been measured.
        symmetries: free numbers of velocities without neighbours that keep the ensemble as well: of each the velocity
            may hold any share, which neither its size nor its fit counts.
    """

    library: Library
    measure: Measure
    operator: Operator
    uncorrected: Rates
    held_out: np.ndarray
    damping: np.ndarray
    steps: Steps | None = None
    symmetries: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, library: Library, measure: Measure, first: Findings, operator: Operator, some: np.ndarray) -> _Problem:
        """By what a first pass has found; `some` snapshots tell what damps."""
        rates, held_out = _rates(first, measure, library, operator)
        damping = clock.damping(library, some, measure.scaling, measure.grid, operator)
        made = cls(library, measure, operator, rates, held_out, damping)
        for free in fit.unseen(rates):
            made = made.beside(free)
        return made

    def beside(self, free: np.ndarray) -> _Problem:
        """The same problem where any share of this velocity, which keeps the ensemble as well, does not count."""
        root = self.uncorrected.root
        velocity = root @ free / np.linalg.norm(root @ free)
        left = root - np.outer(velocity, velocity @ root)
        left[:, (left**2).sum(axis=0) < GONE * (root**2).sum(axis=0)] = 0.0
        return replace(self, uncorrected=replace(self.uncorrected, root=left), symmetries=(*self.symmetries, free))

    def beside_symmetries(self) -> list[_Problem]:
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
        """Rates of the observables of the fit, corrected for steps."""
        return self.steps.corrected(self.uncorrected) if self.steps else self.uncorrected

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

    def judged(self, free: np.ndarray) -> float:
        """The largest z-score by size of the rates of the held-out observables."""
        if self.steps:
            drift, doubt = self.steps.added(self.held_out, free)
        else:
            drift, doubt = self.held_out @ free, np.zeros(1)
        error = np.hypot(drift.std(axis=0, ddof=1) / np.sqrt(len(drift)), doubt)
        return float(np.abs(drift.mean(axis=0) / np.maximum(error, np.finfo(float).tiny)).max())

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
        damped = self.damped(made) or float(self._full @ made)
        return made / speed * (-1 if damped < 0 else 1)

    def damped(self, free: np.ndarray) -> float:
        """How much short waves are damped; 0 by terms without neighbours."""
        return -float(self.damping @ (self.library.ties @ free))

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
        system = System.of_terms("found", self.library.name_terms(self.library.ties @ free))
        longest = EULER / fastest
        if self.steps and self.steps.seen:  # smooth observables are polynomials of short steps alone
            longest = min(longest, AS_LONG * self.steps.length)
        return free, Trial(system, self.operator, longest)


def _choose_operator(problems: list[_Problem], snapshots: Snapshots) -> _Problem:
    """The problem whose operator fits best, with the fewest terms.

    What steps add is measured at the equations so far, and again at the better ones that it leads to, until the length
    of the steps settles.
    """

    def best() -> _Problem:
        if len(problems) == 1:
            return problems[0]
        # The same for all, as of few runs it varies with the number of terms.
        earned = max(problem.allowance for problem in problems)
        return min(problems, key=lambda each: each.worth(earned))

    measure, before = problems[0].measure, 0.0
    if measure.rounded:  # what rounding leaves would pass for steps
        return best()
    if any(measure.noise):
        return _stepped([best()], snapshots)[0]
    for number in range(PASSES):
        problems = _stepped(problems, snapshots)
        steps = best().steps
        length, error = (steps.length, steps.error) if steps and steps.seen else (0.0, 0.0)
        settled = abs(length - before) <= max(SETTLED * length, error)
        seen = any(problem.steps and problem.steps.seen for problem in problems)
        if best().fits and settled and (number or not seen):
            break
        before = length
    return best()


def _stepped(problems: list[_Problem], snapshots: Snapshots) -> list[_Problem]:
    """Problems that know what explicit steps add to the rates of their equations so far, by one more pass."""
    tried = [problem.trial for problem in problems]
    trials = tuple(trial for _, trial in tried if trial)
    if not trials:
        return problems
    found = _measure_runs(snapshots, Stepped(problems[0].measure, trials), problems[0].library)
    made, place, noisy = [], 0, any(problems[0].measure.noise)
    for problem, (free, trial) in zip(problems, tried, strict=True):
        if trial:
            velocity = problem.rates.root @ free
            along = problem.rates.root.T @ velocity / (velocity @ velocity)
            steps = Steps(along, found["rows"][:, place], found["held_out"][:, place], trial.longest, not noisy)
            steps = steps.measured(problem.uncorrected, problem.chosen[0])
            problem = replace(problem, steps=steps)
            place += 1
        made.append(problem)
    return made


def _discovery(
    library: Library, measure: Measure, operator: Operator, free: np.ndarray, draws: list[np.ndarray], **others: Any
) -> Discovery:
    coefficients = np.array([library.ties @ draw for draw in draws])
    terms = library.name_terms(library.ties @ free)
    deviation, (low, high) = coefficients.std(axis=0), np.percentile(coefficients, INTERVAL, axis=0)
    places = {s: {term: library.place(s, term) for term in of_species} for s, of_species in terms.items()}
    noise = measure.noise or (0.0,) * len(measure.species)
    return Discovery(
        terms=terms,
        errors={s: {term: float(deviation[i]) for term, i in own.items()} for s, own in places.items()},
        intervals={s: {t: (float(low[i]), float(high[i])) for t, i in own.items()} for s, own in places.items()},
        noise=noise,
        smoothing=measure.smoothing,
        rounded=measure.rounded,
        grid=measure.grid,
        operator=operator,
        **others,
    )


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The equation of the kept terms, its errors, and what it is worth."""

    problem: _Problem
    kept: np.ndarray
    snapshots: Snapshots
    config: DiscoverConfig
    system: System | None

    def discovery(self, frequency: np.ndarray | None, imbalance: float) -> Discovery:
        """The result."""
        problem, library, measure = self.problem, self.problem.library, self.problem.measure
        subset = problem.rates.over(self.kept)
        solution = subset.solution()
        free = problem.whole(solution.coefficients, self.kept)
        draws, directed = self._resampled(subset, solution, free)
        steps = problem.steps
        z_max = problem.judged(free)
        spectrum = problem.rates.solution().statistics / problem.rates.freedom
        gap = float(spectrum[1] / max(spectrum[0], 1.0)) if len(spectrum) > 1 else np.inf
        misfit = float(solution.statistics[0] - subset.freedom) / len(problem.held_out)
        runs, count, _ = problem.rates.rows.shape
        if runs < RUNS_PER_WEIGHT * fit.weighed(solution):
            verdict = too_few_text(runs, count)
        else:
            noisy = any(measure.noise)
            verdict = verdict_text(gap, spectrum, misfit, z_max, runs, noisy=noisy, rounded=measure.rounded)
        unit = self._unit(free, draws)
        free = free * unit.factors[0]
        draws = [draw * factor for draw, factor in zip(draws, unit.factors[1:], strict=True)]
        slower = abs(unit.factors[0])
        return _discovery(
            library,
            measure,
            problem.operator,
            free,
            draws,
            frequency=None if frequency is None else library.name_terms(library.ties @ frequency),
            gap=gap,
            spectrum=tuple(spectrum[:SMALLEST_FITS].tolist()),
            misfit=misfit,
            z_max=z_max,
            unbalanced=imbalance,
            step=(steps.length / slower, steps.error / slower) if steps and steps.seen else None,
            snapshots=len(self.snapshots.runs),
            verdict=verdict,
            unit_of_time=unit.name,
            directed=directed or unit.directed,
        )

    def _resampled(self, subset: Rates, solution: fit.Solution, free: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Free numbers over bootstrap resamples of the runs, and whether these are sure of the direction of time."""
        problem, config = self.problem, self.config
        draws, alike = [], []
        speed = problem.rates.root @ free
        for _, c in subset.resampled(solution, config.bootstrap, config.seed):
            own = problem.whole(c, self.kept)
            alike.append(speed @ (problem.rates.root @ own) > 0)
            draws.append(free + subset.inflation(solution) * (own - free))
        return draws, bool(problem.damped(free)) and float(np.mean(alike)) >= SURE

    def _unit(self, free: np.ndarray, draws: list[np.ndarray]) -> _Unit:
        """The unit of time: what is known, or told by the times of frames, or of the system; otherwise a convention."""
        library, measure, every = self.problem.library, self.problem.measure, [free, *draws]
        if self.config.known:
            weights, value, words = clock.known_place(self.config.known, library)
            sizes = [float(weights @ (library.ties @ own)) for own in every]
            if not sizes[0]:
                raise UserError(f"known = {self.config.known!r}: the equation has no such term; name one it has")
            return _Unit(f"{words}, as given", [value / size for size in sizes], directed=True)
        found = System.of_terms("found", library.name_terms(library.ties @ free))
        timed = clock.measure_clock(self.snapshots, found, measure, self.problem.operator)
        if timed and timed.tells:
            rng = np.random.Generator(np.random.Philox(self.config.seed))
            off = np.concatenate([[0.0], rng.standard_normal(len(draws))])
            sure = 100 * timed.error / abs(timed.factor)
            told = f"that of {timed.pairs} pairs of frames at known times, to {sure:.2g} %"
            return _Unit(told, (timed.factor + timed.error * off).tolist(), directed=True)
        known = Known.of(self.system) if self.system else named(found.terms)
        if known and known.rest(found.terms) > 0:
            sizes = [known.rest(library.name_terms(library.ties @ own)) for own in every]
            return _Unit(known.unit_of_time, [1 / size for size in sizes])
        if self.system:
            states = self.snapshots.some(DAMPED_AT).astype(np.float64)
            own, true = (
                measure.scaling.velocity_to_training(one.rate(states, measure.grid, self.problem.operator))
                for one in (found, self.system)
            )
            factor = abs(float((own * true).sum() / (own**2).sum()))
            return _Unit(f"that of {self.system.name}", [factor] * len(every))
        return _Unit(clock.MEAN_SQUARE, [1.0] * len(every))


@dataclass(frozen=True)
class _Unit:
    """A unit of time.

    Attributes:
        name: in words.
        factors: to multiply the free numbers by, and those of each resample.
        directed: whether it tells the direction of time as well.
    """

    name: str
    factors: list[float]
    directed: bool = False


@dataclass(frozen=True, eq=False)
class _Balanced:
    """A system whose terms nearly add up to zero: what they leave, with which operator, and its free numbers."""

    left: float
    known: Known
    operator: Operator
    free: np.ndarray


@dataclass(frozen=True, eq=False)
class _Steady:
    """Where nothing moves: the parameters of the steady state of a system, named or recognised."""

    snapshots: Snapshots
    measure: Measure
    config: DiscoverConfig
    imbalance: float
    system: System | None

    def discovery(self, library: Library) -> Discovery:
        """The result; of no system nothing but that nothing moves."""
        own = Known.of(self.system) if self.system else None
        if self.config.library != FREE:
            own = Known(load_system(self.config.library), library)
        tried = [own] if own else list(known_systems(self.snapshots.species))
        measure, gram = self._products(tried)
        fits = [self._fit(known, measure, gram) for known in tried]
        if own is None:  # recognised are those that are as balanced as anything can be
            fits = [one for one in fits if one.left <= AS_BALANCED * self.imbalance]
        if not fits:
            nothing = free_library(("1",), self.snapshots.species)
            still = np.zeros(len(self.snapshots.species))
            return _discovery(nothing, measure, measure.operators[0], still, [still], **self._others(None))
        best = min(fits, key=lambda one: one.left)
        tied, resampled = best.known.library, fit.resamples(len(gram), self.config.bootstrap, self.config.seed)
        draws = [_balanced(gram[again], measure, tied, best.operator) for again in resampled]
        others = self._others(best.known, named=own is not None)
        return _discovery(tied, measure, best.operator, best.free, draws, **others)

    def _products(self, tried: list[Known]) -> tuple[Measure, np.ndarray]:
        """How the terms of these systems are measured, and their mean products in each run, [N, M, M]; in one pass."""
        species = self.snapshots.species
        terms = tuple(dict.fromkeys(term for known in tried for term in known.library.terms))
        measured, _ = expanded(("1", *species, *terms), species, self.measure.scaling)
        measure = replace(self.measure, terms=measured)
        if not tried:
            return measure, np.zeros((0, 0, 0))
        return measure, _measure_runs(self.snapshots, Rows(measure), free_library(terms, species))["gram"]

    @staticmethod
    def _fit(known: Known, measure: Measure, gram: np.ndarray) -> _Balanced:
        """The parameters of a system, with the operator that leaves least."""
        tied, fits = known.library, []
        for operator in measure.operators:
            free = _balanced(gram, measure, tied, operator)
            left = _unbalanced(gram.mean(axis=0), measure, tied, operator, free)
            fits.append(_Balanced(left, known, operator, free))
        return min(fits, key=lambda one: one.left)

    def _others(self, known: Known | None, named: bool = False) -> dict[str, Any]:
        unit = "none, as nothing moves"
        if known:
            first = known.library.names[0]
            unit = f"{first} = 1, as steady states tell ratios" if known.library.names[-1] else known.unit_of_time
        return {
            "frequency": None,
            "gap": 0.0,
            "spectrum": (),
            "misfit": 0.0,
            "z_max": None,
            "unbalanced": self.imbalance,
            "step": None,
            "snapshots": len(self.snapshots.runs),
            "verdict": static_text(self.imbalance, known.title if known else "", named=named),
            "unit_of_time": unit,
            "directed": True,
        }


def _balanced(gram: np.ndarray, measure: Measure, tied: Library, operator: Operator) -> np.ndarray:
    """The free numbers for which a system's terms add up to least in every cell, of products [N, M, M]."""
    root = _root(gram.mean(axis=0), measure, tied, operator)
    if tied.names[-1]:
        free = fit.smallest(root, np.diag(np.sqrt((root**2).sum(axis=0))))[1]
        return free / (free[0] or 1.0)
    return np.array([*np.linalg.lstsq(root[:, :-1], -root[:, -1])[0], 1.0])


def _unbalanced(gram: np.ndarray, measure: Measure, tied: Library, operator: Operator, free: np.ndarray) -> float:
    """What a system's terms add up to beside its Laplacians, in mean square, the largest of all species."""
    untied = replace(tied, ties=np.eye(len(tied.ties)))
    parts = _root(gram, measure, untied, operator) * (tied.ties @ free)
    rows, columns = len(parts) // len(tied.species), len(tied.terms)
    curved = np.array(tied.differential)
    left = []
    for s in range(len(tied.species)):
        own = parts[s * rows : (s + 1) * rows, s * columns : (s + 1) * columns]
        scale = own[:, curved] if (own[:, curved] != 0).any() else own
        left.append(np.sum(own.sum(axis=1) ** 2) / np.sum(scale**2))
    return float(max(left))
