"""The equation in closed form, from unordered snapshots, with error bars and a verdict.

Two passes over the snapshots (moments.py) and small linear algebra (fit.py). The first pass tells the equation up to
what explicit time steps add to mean rates at second order. The second measures that at the first equation, and the fit
then allows for as much of it as a stable step can cause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from p2d.config import DiscoverConfig
from p2d.discovery import fit
from p2d.discovery.fit import Rates
from p2d.discovery.library import Library, choose_library, free_library
from p2d.discovery.moments import SMOOTHING, Measure, Rows, SecondOrder, refuse_not_finite
from p2d.discovery.reference import REACTION, Reference, reference_of
from p2d.discovery.result import Discovery
from p2d.discovery.steps import Steps
from p2d.discovery.verdict import static_text, too_few_text, verdict_text
from p2d.errors import UserError
from p2d.flow.velocity import feature_statistics
from p2d.snapshots import noise as noises
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.passes import Findings, Snapshots
from p2d.systems.system import System

LEAST_RUNS = 8
RUNS_PER_WEIGHT = 1.25  # runs over observables that they give weights, below which chi-squared of the fit tells nothing
STATIC = 1e-4
SIGNIFICANT = 3.0  # standard errors, of the step and of the variance of a pattern
MASKED = 1e9  # a spread that takes a feature out of held-out observables
INTERVAL = (5.0, 95.0)  # percentiles
SMALLEST_FITS = 8  # of the spectrum, that a discovery keeps


def discover_equation(snapshots: Snapshots, config: DiscoverConfig, measure: Measure | None = None) -> Discovery:
    """The equation that keeps an ensemble stationary.

    Args:
        measure: how to measure the snapshots; None: see `choose_measure`.

    Raises:
        UserError: fewer than 8 runs, nothing but noise, or what is not finite.
    """
    refuse_few_runs(len(np.unique(snapshots.runs)))
    measure = measure or choose_measure(snapshots.some(LOOKED_AT), snapshots.species, config)
    problem = _Problem(
        choose_library(config.library, config.terms, snapshots.species),
        reference_of(snapshots.species),
        measure,
        config,
    )
    first = _measure_runs(snapshots, Rows(measure))
    _refuse_noise_alone(first["gram"], measure)
    imbalance, error = problem.imbalance(first["gram"])
    if imbalance < STATIC + error:
        return problem.static(first["gram"], max(imbalance, error), len(snapshots.runs))
    library = problem.library
    rates, held_out = _rates(first, measure, library)
    kept, frequency, steps = np.arange(rates.rows.shape[2]), None, None
    start_from = fit.choose_terms(rates)[0] if library.sparse else kept
    start = problem.free(rates.over(start_from).solution().coefficients, start_from)
    if library.diffuses(start) and not measure.rounded:  # what rounding leaves would pass for steps
        system = System.of_terms("first", library.name_terms(library.ties @ start))
        second = _measure_runs(snapshots, SecondOrder(measure, system))
        steps = Steps(library, start, second["rows"].mean(axis=0), second["held_out"].mean(axis=0))
        rates = replace(rates, systematic=steps.error)
    if library.sparse:
        kept, frequency = fit.choose_stable_terms(rates, config.seed)
    fitted = _Fitted(problem, rates, kept, steps)
    return fitted.discovery(held_out, frequency, imbalance, len(snapshots.runs))


def choose_measure(states: np.ndarray, species: tuple[str, ...], config: DiscoverConfig) -> Measure:
    """How snapshots like these, [N, C, H, W], are to be measured for the library of these settings."""
    rounded = noises.is_rounded(states)
    noise = noises.seen(states) if config.noise_level is None else (config.noise_level,) * len(species)
    smoothing = config.kernel_width
    if smoothing is None:
        smoothing = SMOOTHING if rounded or any(noise) else 0.0
    terms = choose_library(config.library, config.terms, species).terms
    reference = reference_of(species)
    known = reference.library.terms if reference else ("1", *species)
    measure = Measure((*terms, *(t for t in known if t not in terms)), species, smoothing, rounded, noise)
    mean, std = feature_statistics(torch.from_numpy(measure.smooth(states.astype(np.float64))))
    if any(noise):
        std[len(species) :] = MASKED  # Laplacians are noise then; smooth functions of it are too bent to extrapolate
    return replace(measure, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def measure_misfits(systems: dict[str, System], snapshots: Snapshots, measure: Measure) -> dict[str, float]:
    """How badly each of some known systems fits snapshots, up to the unit of time.

    Returns:
        Chi-squared of the mean rates, with the covariance at each system; where nothing moves, the share of the terms'
        power that a system leaves as velocity.
    """
    first = snapshots.each(Rows(measure))
    library = free_library(measure.terms, measure.species)
    rates, _ = _rates(first, measure, library)
    reference = reference_of(measure.species)
    static = reference and reference.imbalance(first["gram"], measure.terms, any(measure.noise), 0)[0] < STATIC
    misfits = {}
    for name, system in systems.items():
        c = library.coefficients(system.terms)
        if static:
            misfits[name] = float(c @ rates.gram @ c / (c**2 @ np.diag(rates.gram)))
        else:
            alone = replace(rates, rows=rates.rows @ c[:, None], gram=np.eye(1))
            misfits[name] = float(alone.solution().statistics[0])
    return misfits


def refuse_few_runs(count: int) -> None:
    """Refuse too few independent snapshots for an equation."""
    if count < LEAST_RUNS:
        raise UserError(f"{count} living runs are too few for an equation: at least {LEAST_RUNS} are needed")


def _refuse_noise_alone(gram: np.ndarray, measure: Measure) -> None:
    """Refuse runs whose concentrations, corrected for noise, do not vary from cell to cell: they would pass for static.

    Args:
        gram: mean products of terms, [N, K, K].
    """
    one, *species = (measure.terms.index(term) for term in ("1", *measure.species))
    variances = np.stack([gram[:, i, i] - gram[:, i, one] ** 2 for i in species])
    error = variances.std(axis=1, ddof=1) / np.sqrt(len(gram))
    if any(measure.noise) and (variances.mean(axis=1) < SIGNIFICANT * error).all():
        raise UserError(
            f"too noisy: no pattern is seen above noise of {max(measure.noise):.2g}, from which no equation can be told"
        )


def _measure_runs(snapshots: Snapshots, task: Rows | SecondOrder) -> Findings:
    """Means of what a task finds over the snapshots of each run, which are not independent of each other."""
    findings = snapshots.each(task)
    refuse_not_finite(findings, snapshots.sample_ids, task.measure.terms)
    names, place, size = np.unique(snapshots.runs, return_inverse=True, return_counts=True)
    if len(names) == len(snapshots.runs):
        return findings
    means = {}
    for key, values in findings.items():
        total = np.zeros((len(names), *values.shape[1:]))
        np.add.at(total, place, values)
        means[key] = total / size.reshape(-1, *[1] * (values.ndim - 1))
    return means


def _rates(first: Findings, measure: Measure, library: Library) -> tuple[Rates, np.ndarray]:
    """Rates for the library's free numbers, of the observables of the fit, and of those held out [N, 40, P]."""
    species = len(library.species)
    own = [measure.terms.index(term) for term in library.terms]
    columns = [n * len(measure.terms) + i for n in range(species) for i in own]
    gram = np.kron(np.eye(species), first["gram"].mean(axis=0)[np.ix_(own, own)])
    rows, held_out = (first[key][:, :, columns] @ library.ties for key in ("rows", "held_out"))
    return Rates(rows, library.ties.T @ gram @ library.ties, library.degrees), held_out


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is looked for: an equation over a library, in the unit of time of the reference's reaction."""

    library: Library
    reference: Reference | None
    measure: Measure
    config: DiscoverConfig

    def imbalance(self, gram: np.ndarray) -> tuple[float, float]:
        """How far the ensemble is from a steady state of the reference, and the error of that; 1 without one."""
        if self.reference is None:
            return 1.0, 0.0
        return self.reference.imbalance(gram, self.measure.terms, any(self.measure.noise), self.config.seed)

    def free(self, c: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """All free numbers, in units, of those that are kept; the others are zero."""
        whole = np.zeros(self.library.ties.shape[1])
        whole[kept] = c
        return self.in_units(whole)

    def in_units(self, c: np.ndarray) -> np.ndarray:
        """Free numbers so that diffusion damps, at reaction rate 1: snapshots tell no direction and no unit of time."""
        coefficients = self.library.ties @ c
        damps = sum(coefficients[i] for i in self.library.diffusions) >= 0
        reaction = self.reaction(c) * (1 if damps else -1)
        return (c if damps else -c) / (reaction if reaction > 0 else 1.0)

    def reaction(self, c: np.ndarray) -> float:
        """The rate of the reference's reaction; 0 without one."""
        return self.reference.rate(self.library.ties @ c, self.library) if self.reference else 0.0

    def static(self, gram: np.ndarray, imbalance: float, snapshots: int) -> Discovery:
        """The parameters of a steady state: where nothing moves, the reference's terms add up to zero in every cell."""
        reference = self.reference
        assert reference is not None
        bootstrap, seed = self.config.bootstrap, self.config.seed
        free, *draws = reference.steady_state(gram, self.measure.terms, bootstrap, seed)
        return self.discovery(
            reference.library,
            free,
            draws,
            frequency=None,
            gap=0.0,
            spectrum=(),
            misfit=0.0,
            z_max=None,
            unbalanced=imbalance,
            step=None,
            snapshots=snapshots,
            verdict=static_text(imbalance, reference.name),
            unit_of_time=REACTION,
        )

    def discovery(self, library: Library, free: np.ndarray, draws: list[np.ndarray], **others: Any) -> Discovery:
        """The equation of these free numbers of a library, with errors of resampled ones."""
        coefficients = np.array([library.ties @ draw for draw in draws])
        terms = library.name_terms(library.ties @ free)
        deviation, (low, high) = coefficients.std(axis=0), np.percentile(coefficients, INTERVAL, axis=0)
        places = {s: {term: library.place(s, term) for term in of_species} for s, of_species in terms.items()}
        measured = {key: getattr(self.measure, key) for key in ("noise", "smoothing", "rounded")}
        return Discovery(
            terms=terms,
            errors={s: {term: float(deviation[i]) for term, i in own.items()} for s, own in places.items()},
            intervals={s: {t: (float(low[i]), float(high[i])) for t, i in own.items()} for s, own in places.items()},
            **measured,
            **others,
        )


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The equation of the kept terms, its errors, and what it is worth."""

    problem: _Problem
    rates: Rates
    kept: np.ndarray
    steps: Steps | None

    def discovery(
        self, held_out: np.ndarray, frequency: np.ndarray | None, imbalance: float, snapshots: int
    ) -> Discovery:
        """The result, of rates of held-out observables [N, 40, P]."""
        problem, library, measure = self.problem, self.problem.library, self.problem.measure
        subset = self.rates.over(self.kept)
        solution = subset.solution()
        free = problem.free(solution.coefficients, self.kept)
        step, step_error, draws = self._resampled(subset, solution, free)
        drift = held_out @ free
        bias = drift.mean(axis=0) + (step * self.steps.added(free, self.steps.held_out) if self.steps else 0.0)
        z_max = float(np.abs(bias / drift.std(axis=0, ddof=1)).max() * np.sqrt(len(drift)))
        spectrum = self.rates.solution().statistics / self.rates.freedom
        gap = float(spectrum[1] / max(spectrum[0], 1.0))
        misfit = float(solution.statistics[0] - subset.freedom) / len(drift)
        runs, observables, _ = self.rates.rows.shape
        if runs < RUNS_PER_WEIGHT * fit.weighed(solution):
            verdict = too_few_text(runs, observables)
        else:
            noisy = any(measure.noise)
            verdict = verdict_text(gap, spectrum, misfit, z_max, runs, noisy=noisy, rounded=measure.rounded)
        return problem.discovery(
            library,
            free,
            draws,
            frequency=None if frequency is None else library.name_terms(library.ties @ frequency),
            gap=gap,
            spectrum=tuple(spectrum[:SMALLEST_FITS].tolist()),
            misfit=misfit,
            z_max=z_max,
            unbalanced=imbalance,
            step=(step, step_error) if step > SIGNIFICANT * step_error else None,
            snapshots=snapshots,
            verdict=verdict,
            unit_of_time=REACTION if problem.reaction(free) > 0 else "mean square velocity 1",
        )

    def _resampled(
        self, subset: Rates, solution: fit.Solution, free: np.ndarray
    ) -> tuple[float, float, list[np.ndarray]]:
        """Length of the explicit steps, its standard error, and free numbers, over bootstrap resamples of the runs."""
        problem, config = self.problem, self.problem.config

        def length(mean: np.ndarray, c: np.ndarray) -> float:
            return self.steps.length(solution, mean, c, self.kept, problem.in_units) if self.steps else 0.0

        draws, lengths = [], []
        for mean, c in subset.resampled(solution, config.bootstrap, config.seed):
            draws.append(free + subset.inflation(solution) * (problem.free(c, self.kept) - free))
            lengths.append(length(mean, c))
        return length(subset.rows.mean(axis=0), solution.coefficients), float(np.std(lengths)), draws
