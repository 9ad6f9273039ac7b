"""The equation in closed form, from unordered snapshots, with error bars and a verdict.

A few passes over the snapshots (moments.py) and small linear algebra (fit.py). The first pass tells the equation up to
what explicit time steps add to mean rates. Further ones measure that at the equations so far (steps.py), each with one
of the operators to choose from, until the length of the steps settles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from p2d.config import DiscoverConfig
from p2d.discovery import clock, fit
from p2d.discovery.across import Across, Together, turned_name
from p2d.discovery.diffusion import Stirred
from p2d.discovery.evidence import Evidence
from p2d.discovery.examining import examined, examined_parts, refuse_few_of_each
from p2d.discovery.fit import Rates
from p2d.discovery.known import Known, named
from p2d.discovery.library import FREE, Library, choose_library, free_library, known_place
from p2d.discovery.measuring import choose_measure, choose_tiles, imbalance_of
from p2d.discovery.moments import Measure, Rows
from p2d.discovery.problem import Problem, choose_operator
from p2d.discovery.rates import measure_runs, rates_of
from p2d.discovery.result import Discovery
from p2d.discovery.steady import Steady, SteadyState
from p2d.discovery.stirring import Begun, choose_problem, rather_than_camera
from p2d.discovery.verdict import (
    FEWEST,
    LEAST_P,
    LEAST_RUNS,
    RUNS_PER_WEIGHT,
    SIGNIFICANT,
    Claims,
    camera_doubt,
    few_doubt,
    film_doubt,
    judged_doubt,
    own_parameters_doubt,
    symmetry_doubt,
    untied_doubt,
)
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.flow.solve import standard_error, weighted_mean
from p2d.snapshots import noise as noises
from p2d.snapshots import static
from p2d.snapshots.doubts import Doubt
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.passes import InMemory, Means, Snapshots
from p2d.snapshots.store import evenly
from p2d.systems.system import System
from p2d.threads import one_thread

SMALLEST_FITS = 8  # of the spectrum, that a discovery keeps
# Errors over those of resamples, corrected for weights, where there are no tiles: z-scores of the coefficients of the
# same systems had standard deviations of 0.7 to 1.4, 1.13 together.
WIDER = 1.15
STEADY_AT = 12  # snapshots, at most, of which each may stand still by itself
DAMPED_AT = 8  # snapshots that are looked at for what damps
SURE = 0.95  # share of the resampled ensembles in which short waves are damped


@one_thread()
def discover_equation(
    snapshots: Snapshots, config: DiscoverConfig, measure: Measure | None = None, system: System | None = None
) -> Discovery:
    """The equation that keeps an ensemble stationary.

    Args:
        measure: how to measure the snapshots; None: see `choose_measure`.
        system: that the snapshots are known to be of: its unit of time is taken, and where nothing moves its terms.

    Raises:
        UserError: fewer than 8 snapshots, unless a system is named, nothing but noise, or what is not finite.
    """
    library = choose_library(config, snapshots.species, snapshots.grid)
    sample, given = snapshots.some(LOOKED_AT), snapshots
    if config.across and not snapshots.conditions:
        raise UserError(f"nothing is known of {' and '.join(config.across)} of these snapshots; give their conditions")
    if snapshots.conditions:
        return _across_conditions(snapshots, config, library, sample, measure)
    few = snapshots.run_count < LEAST_RUNS and _is_of_few(snapshots, config)
    is_film = snapshots.run_count < LEAST_RUNS and not few
    if is_film:
        snapshots = snapshots.in_runs(np.arange(len(snapshots.sample_ids)))
    snapshots, seen = examined(snapshots, is_film=is_film)
    seen = (film_doubt(given.run_count, len(given.sample_ids)), *seen) if is_film else seen
    _refuse_still_species(sample, snapshots.species, snapshots.grid)
    measure = measure or choose_measure(sample, snapshots.species, snapshots.grid, config)
    measure = replace(measure, tiles=choose_tiles(snapshots.grid, snapshots.run_count))
    imbalance, error = imbalance_of(sample, measure)
    still = imbalance < static.STATIC + error
    if few or (still and not any(measure.noise)):
        return Steady(snapshots, measure, config, max(imbalance, error), system).discovery(library)

    def begin(own: Measure) -> Begun:
        first = measure_runs(snapshots, Rows(own), library)
        _refuse_noise_alone(first, own)
        bases = [Problem.of(library, own, first, operator, sample[:DAMPED_AT]) for operator in own.operators]
        stirred = Stirred.of_pass(first, own) if own.stirred else None
        _, observables, free = bases[0].uncorrected.rows.shape
        # With fewer observables than are fitted everything would fit.
        return bases, stirred if stirred and observables - stirred.rows.shape[2] > free else None

    problem = None
    told = any(measure.noise) and config.noise_levels(len(snapshots.species)) is None and not still
    if measure.stirred and told and not noises.is_flat(sample, snapshots.grid, measure.noise):
        others = ({"noise": ("0",)}, {"smoothing": "0"})
        sharp, camera = (
            replace(
                choose_measure(sample, snapshots.species, snapshots.grid, replace(config, **o)), tiles=measure.tiles
            )
            for o in others
        )
        problem = rather_than_camera(begin(sharp), lambda: begin(camera), snapshots)
        seen = (*seen, camera_doubt()) if problem else seen
    if problem is None:
        begun = begin(measure)
        if still:
            return Steady(snapshots, measure, config, max(imbalance, error), system).discovery(library)
        problem = choose_problem(*begun, snapshots)
    discovery = _Fitted(problem, snapshots, given, config, system).discovery(imbalance, seen)
    if config.library == FREE or discovery.claims.velocity_known:
        return discovery
    return _doubted_as_steady(discovery, snapshots, config)


def _is_of_few(snapshots: Snapshots, config: DiscoverConfig) -> bool:
    """Whether few runs show a steady state of the system that is named; or, of many frames, are films to be fitted.

    Raises:
        UserError: neither.
    """
    frames = len(snapshots.sample_ids)
    if frames and config.library != FREE:
        return frames < LEAST_RUNS or steady_state(snapshots, config).is_settled
    if frames < LEAST_RUNS:
        refuse_few_runs(snapshots.run_count)
    return False


def steady_state(snapshots: Snapshots, config: DiscoverConfig) -> SteadyState:
    """The steady state of the system that settings name, on few snapshots.

    Raises:
        UserError: see `discover_equation`.
    """
    library = choose_library(config, snapshots.species, snapshots.grid)
    sample = snapshots.some(LOOKED_AT)
    _refuse_still_species(sample, snapshots.species, snapshots.grid)
    measure = choose_measure(sample, snapshots.species, snapshots.grid, config)
    state = Steady(snapshots, measure, config, 0.0, None).state(library)
    assert state is not None  # of a named system
    return state


def _doubted_as_steady(discovery: Discovery, snapshots: Snapshots, config: DiscoverConfig) -> Discovery:
    """An equation that fits badly, with the doubt where half of the snapshots, or more, stand still by themselves."""
    looked_at = evenly(snapshots.sample_ids, STEADY_AT)
    states = snapshots.states_of(looked_at)
    each = (InMemory.of_states(state[None], snapshots.species, snapshots.grid) for state in states)
    settled = sum(steady_state(one, config).is_settled for one in each)
    if 2 * settled < len(states):
        return discovery
    doubts = (own_parameters_doubt(settled, len(states)), *discovery.claims.doubts)
    return replace(discovery, claims=replace(discovery.claims, doubts=doubts))


def _across_conditions(
    snapshots: Snapshots, config: DiscoverConfig, library: Library, sample: np.ndarray, measure: Measure | None
) -> Discovery:
    """The equation that holds across known conditions.

    Noise in the dynamics is not looked for: it may differ with the conditions as well.

    Raises:
        UserError: a library of a system, few runs of some condition, or one under which nothing moves.
    """
    if not library.sparse:
        raise UserError(
            f"across = {' '.join(config.across)} is not possible with the library {config.library}, whose free numbers "
            "are its own parameters; take a free one, or give --terms"
        )
    refuse_few_of_each(snapshots)
    _refuse_still_species(sample, snapshots.species, snapshots.grid)
    measure = measure or choose_measure(sample, snapshots.species, snapshots.grid, config)
    given = snapshots
    snapshots, fewest, imbalance, doubts = examined_parts(snapshots, measure)
    measure = replace(measure, tiles=choose_tiles(snapshots.grid, fewest), stirred=False, walls=())
    first = measure_runs(snapshots, Rows(measure), library)
    _refuse_noise_alone(first, measure)
    across = Across.of(snapshots, library, len(measure.tile_masks))
    problems = [Problem.of(library, measure, first, o, sample[:DAMPED_AT], across) for o in measure.operators]
    return _Fitted(choose_operator(problems, snapshots), snapshots, given, config, None).discovery(imbalance, doubts)


def measure_misfits(systems: dict[str, System], snapshots: Snapshots, measure: Measure) -> dict[str, float]:
    """How badly each of some known systems fits snapshots, up to the unit of time.

    Returns:
        Chi-squared of the mean rates, with the covariance at each system; where nothing moves, the share of the terms'
        power that a system leaves as velocity.
    """
    terms = tuple(dict.fromkeys(t for system in systems.values() for own in system.terms.values() for t in own))
    library = free_library(terms, measure.species)
    first = measure_runs(snapshots, Rows(measure), library)
    rates, _ = rates_of(first, measure, library, measure.operators[0])
    is_static = imbalance_of(snapshots.some(LOOKED_AT), measure)[0] < static.STATIC
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
        raise UserError(
            f"{count} living run{'s are' if count != 1 else ' is'} too few for an equation: at least {LEAST_RUNS} are "
            "needed, or as many frames of a film; or one snapshot that stands still and the name of its system, "
            "--library SYSTEM"
        )


def _refuse_still_species(states: np.ndarray, species: tuple[str, ...], grid: Grid) -> None:
    """Refuse a species that has one value everywhere: it has no dynamics, and is none of the others' doing."""
    spread = np.ptp(states[..., grid.inside(0)], axis=(0, 2))
    for name, own in zip(species, spread, strict=True):
        if own == 0:  # what is not finite is named later
            raise UserError(f"species {name!r} has the same value in every cell of every snapshot; leave it out")


def _refuse_noise_alone(first: Means, measure: Measure) -> None:
    """Refuse runs whose values, corrected for noise, do not vary from cell to cell: they would pass for static."""
    gram = first.of["gram"]
    one, *species = measure.places(("1", *measure.species), measure.operators[0])
    variances = np.stack([gram[:, i, i] - gram[:, i, one] ** 2 for i in species], axis=1)
    mean, error = weighted_mean(variances, first.runs), standard_error(variances, first.runs)
    if any(measure.noise) and (mean < SIGNIFICANT * error).all():
        raise UserError(
            f"too noisy: no pattern is seen above noise of {max(measure.noise):.2g}, from which no equation can be told"
        )


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The equation of the kept terms, its errors, and what it is worth."""

    problem: Problem
    snapshots: Snapshots
    films: Snapshots  # in runs as they were given, whose frames at known times tell the unit of time
    config: DiscoverConfig
    system: System | None

    @cached_property
    def evidence(self) -> Evidence:
        """What the ensemble leaves open."""
        problem = self.problem
        kept, _ = problem.chosen
        solution = problem.rates.over(kept).solution()
        sparse = problem.library.sparse
        stability = fit.measure_stability(problem.rates, kept, solution, self.config.seed, sparse=sparse)
        return Evidence(problem, kept, solution, stability)

    def claims(self, doubts: tuple[Doubt, ...]) -> Claims:
        """What is known, for all that the snapshots themselves show."""
        evidence, problem = self.evidence, self.problem
        bound = evidence.velocity
        groups, count, _ = problem.rates.rows.shape
        runs, independent = self.snapshots.run_count, groups / problem.uncorrected.dilution
        if runs < FEWEST or independent < RUNS_PER_WEIGHT * fit.weighed(evidence.solution):
            doubts = (few_doubt(runs, count), *doubts)
        if evidence.p_value < LEAST_P:
            doubts = (judged_doubt(evidence.p_value, bound), *doubts)
        if problem.symmetries or problem.undamped(evidence.free):
            doubts = (symmetry_doubt(), *doubts)
        if isinstance(rates := problem.rates, Together) and not rates.over(evidence.kept).tied:
            doubts = (untied_doubt(), *doubts)
        kept, sets = tuple(evidence.kept.tolist()), evidence.stability.sets
        # What rounding makes of Laplacians is as a share of the velocity's size that is not known.
        rough = max((doubt.numbers.get("share", 0.0) for doubt in doubts if doubt.kind == "rounded"), default=0.0)
        return Claims(
            velocity=None if bound is None else min(1.0, bound + rough**2 / 2),
            stable=sets.count(kept) / len(sets),
            fewest=float(evidence.stability.frequency[evidence.kept].min()),
            p_value=evidence.p_value,
            alternatives=evidence.alternatives() if problem.library.sparse else (),
            doubts=doubts,
        )

    def discovery(self, imbalance: float, doubts: tuple[Doubt, ...]) -> Discovery:
        """The result."""
        problem, library, measure, evidence = self.problem, self.problem.library, self.problem.measure, self.evidence
        subset, solution, free = problem.rates.over(evidence.kept), evidence.solution, evidence.free
        draws, directed = self._resampled(subset, solution, free)
        steps = problem.steps
        spectrum = problem.rates.solution().statistics / problem.rates.freedom
        gap = float(spectrum[1] / max(spectrum[0], 1.0)) if len(spectrum) > 1 else np.inf
        misfit = float(solution.statistics[0] - subset.freedom) / self.snapshots.run_count
        frequency = library.name_terms(library.ties @ evidence.stability.frequency) if library.sparse else None
        unit = self._unit(free, draws)
        noise = self._noise(free, draws, self._widening(subset, solution), unit)
        free = free * unit.factors[0]
        draws = [draw * factor for draw, factor in zip(draws, unit.factors[1:], strict=True)]
        slower = abs(unit.factors[0])
        return Discovery.of(
            library,
            measure,
            problem.operator,
            free,
            draws,
            frequency=frequency,
            gap=gap,
            spectrum=tuple(spectrum[:SMALLEST_FITS].tolist()),
            misfit=misfit,
            z_max=problem.judged(free),
            unbalanced=imbalance,
            step=(steps.length / slower, steps.error / slower) if steps and steps.seen else None,
            snapshots=len(self.snapshots.sample_ids),
            claims=self.claims(doubts),
            unit_of_time=unit.name,
            timed=unit.timed,
            directed=directed or unit.directed or bool(noise),
            dynamics_noise={s: sigma for s, (sigma, _) in noise.items()},
            dynamics_noise_errors={s: error for s, (_, error) in noise.items()},
            conditions=self.snapshots.conditions.known if self.snapshots.conditions else {},
        )

    def _resampled(self, subset: Rates, solution: fit.Solution, free: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Free numbers over bootstrap resamples of the groups, and whether these are sure of the direction of time."""
        problem, config = self.problem, self.config
        draws, alike = [], []
        speed = problem.rates.root @ free
        for _, c in subset.resampled(solution, config.bootstrap, config.seed):
            own = problem.whole(c, self.evidence.kept)
            alike.append(speed @ (problem.rates.root @ own) > 0)
            draws.append(free + self._widening(subset, solution) * (own - free))
        return draws, bool(problem.damped(free)) and float(np.mean(alike)) >= SURE

    @staticmethod
    def _widening(subset: Rates, solution: fit.Solution) -> float:
        """Deviations of coefficients over those of resamples with fixed weights."""
        return subset.inflation(solution) * (WIDER if subset.tiles == 1 else 1.0)

    def _noise(
        self, free: np.ndarray, draws: list[np.ndarray], inflation: float, unit: _Unit
    ) -> dict[str, tuple[float, float]]:
        """Sigma of noise in the dynamics, and its error over the resamples, by species; {} where there is none."""
        problem, species = self.problem, self.snapshots.species
        if not problem.diffusion:
            return {}
        variance = problem.diffusion.variances(free) * unit.factors[0]
        sigma = np.sqrt(np.maximum(variance, 0.0))
        plain = [free + (draw - free) / inflation for draw in draws]
        resampled = problem.diffusion.resampled(problem.corrected, plain, self.config.seed)
        own = np.stack([v * factor for v, factor in zip(resampled, unit.factors[1:], strict=True)])
        error = inflation * own.std(axis=0) / (2 * np.maximum(sigma, np.finfo(float).tiny))
        return {
            species[s]: (float(a), float(b))
            for s, a, b in zip(problem.diffusion.stirred.species, sigma, error, strict=True)
            if a > 0
        }

    def _turning(self, weights: np.ndarray, condition: str, free: np.ndarray) -> bool:
        """Whether the one coefficient with weights [C K] turns with a condition."""
        library = self.problem.library
        s, k = divmod(int(weights.argmax()), len(library.terms))
        return free[library.place(library.species[s], turned_name(library.terms[k], condition))] != 0

    def _unit(self, free: np.ndarray, draws: list[np.ndarray]) -> _Unit:
        """The unit of time: what is known, or told by the times of frames, or of the system; otherwise a convention."""
        library, measure, every = self.problem.library, self.problem.measure, [free, *draws]
        if self.config.known:
            weights, value, words = known_place(self.config.known, library)
            sizes = [float(weights @ (library.ties @ own)) for own in every]
            turning = {name: self._turning(weights, name, free) for name in library.conditions}
            if any(turning.values()):
                name = max(turning, key=lambda n: turning[n])
                raise UserError(f"known = {self.config.known!r}: that turns with {name}; name a term that does not")
            if not sizes[0]:
                raise UserError(f"known = {self.config.known!r}: the equation has no such term; name one it has")
            return _Unit(f"{words}, as given", [value / size for size in sizes], directed=True)
        found = self.problem.system(free)
        timed = clock.measure_clock(self.films, found, measure, self.problem.operator)
        if timed and timed.tells:
            rng = np.random.Generator(np.random.Philox(self.config.seed))
            off = np.concatenate([[0.0], rng.standard_normal(len(draws))])
            sure = 100 * timed.error / abs(timed.factor)
            told = f"that of {timed.pairs} pairs of frames at known times, to {sure:.2g} %"
            return _Unit(told, (timed.factor + timed.error * off).tolist(), directed=True, timed=True)
        known = Known.of(self.system) if self.system else named(found.terms)
        if known and known.rest(found.terms) > 0:
            sizes = [known.rest(self.problem.system(own).terms) for own in every]
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
        timed: whether it is that of the times of frames.
    """

    name: str
    factors: list[float]
    directed: bool = False
    timed: bool = False
