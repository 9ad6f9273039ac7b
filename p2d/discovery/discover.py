"""The equation in closed form, from unordered snapshots, with error bars and a verdict.

Two passes over the snapshots (moments.py) and small linear algebra (fit.py). The first pass tells the equation up to
what explicit time steps add to mean rates at second order. The second measures that at the first equation, and the fit
then allows for as much of it as a stable step can cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from p2d.config import DiscoverConfig, number_or_auto
from p2d.discovery import fit
from p2d.discovery.fit import Rates
from p2d.discovery.moments import HELD_OUT, SMOOTHING, Fields, Measure, Rows, SecondOrder
from p2d.errors import UserError
from p2d.flow.velocity import feature_statistics
from p2d.snapshots import noise as noises
from p2d.systems import writing as equations
from p2d.systems.library import GRAY_SCOTT_TERMS, REACTION, Equation, Library, gray_scott_parameters
from p2d.systems.library import library as find_library

Task = Rows | SecondOrder
Collect = Callable[[Task], Fields]  # what a task finds in all snapshots, in the order of their ids
LEAST_RUNS = 8
FEW_RUNS = 64
ENOUGH = 1.25  # runs over observables that they give weights, below which chi-squared of the fit tells nothing
IDENTIFIED_GAP = 20.0
LARGEST_Z = 4.5
LARGEST_MISFIT = 3.0
STATIC = 1e-4
BALANCE_DRAWS = 20
EULER = 4.0  # an explicit step is stable up to 1 / (4 max D)
SIGNIFICANT = 3.0  # standard errors, of the step and of the variance of a pattern
UNSEEN = 1e9  # a spread that takes a feature out of held-out observables
INTERVAL = (5.0, 95.0)  # percentiles


@dataclass(frozen=True)
class Question:
    """What is asked of the snapshots.

    Attributes:
        library: of terms.
        bootstrap: resamples for the error bars.
        noise: standard deviation of white noise; None: to be told from the snapshots.
        smoothing: width of the kernel in cells; None: 1.5 where there is noise, otherwise none.
        seed: of the resamples.
    """

    library: Library = field(default_factory=lambda: find_library("cubic"))
    bootstrap: int = 100
    noise: float | None = None
    smoothing: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Discovery:
    """A discovered equation.

    Attributes:
        equation: terms and coefficients, in the unit of time that unit_of_time says.
        error: standard deviations of the coefficients over bootstrap resamples.
        interval: their 90 % intervals.
        frequency: share of the resampled ensembles that keep each term; None where no term is ever left out.
        gap: how much worse the next best dynamics fits, relative to the best.
        spectrum: the smallest chi-squared values of orthogonal dynamics, over their degrees of freedom, ascending.
        misfit: excess of chi-squared of the mean rates, a run; far below 1 where the library holds the dynamics.
        z_max: the largest z-score of the rates of 40 held-out observables; None where nothing moves.
        unbalanced: share of the power of u v^2 that no linear terms balance cell by cell; about 0 where nothing moves.
        step: length of the explicit steps that made the snapshots and its standard error, in the unit of time; None
            where there is no sign of them.
        measure: how the snapshots were measured: noise that is corrected for, smoothing.
        snapshots: how many it is from.
        verdict: in words.
    """

    equation: Equation
    error: Equation
    interval: dict[str, dict[str, list[float]]]
    frequency: Equation | None
    gap: float
    spectrum: list[float]
    misfit: float
    z_max: float | None
    unbalanced: float
    step: tuple[float, float] | None
    measure: Measure
    snapshots: int
    verdict: str
    unit_of_time: str


def question(config: DiscoverConfig) -> Question:
    """The question that settings ask."""
    return Question(
        library=find_library(config.library, config.terms),
        bootstrap=config.bootstrap,
        noise=number_or_auto("noise", config.noise),
        smoothing=number_or_auto("smoothing", config.smoothing),
        seed=config.seed,
    )


def look(states: np.ndarray, question: Question) -> Measure:
    """How snapshots like these, concentrations [N, 2, H, W], are to be measured."""
    rounded = noises.is_rounded(states)
    noise = noises.seen(states) if question.noise is None else (question.noise,) * 2
    smoothing = question.smoothing
    if smoothing is None:
        smoothing = SMOOTHING if rounded or any(noise) else 0.0
    terms = question.library.terms
    measure = Measure((*terms, *(t for t in GRAY_SCOTT_TERMS if t not in terms)), smoothing, rounded, noise)
    mean, std = feature_statistics(torch.from_numpy(measure.smooth(states.astype(np.float64))))
    if any(noise):
        std[2:] = UNSEEN  # Laplacians are noise then, of which smooth functions are too bent to be extrapolated
    return replace(measure, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def discover(collect: Collect, runs: np.ndarray, measure: Measure, question: Question) -> Discovery:
    """The equation that keeps an ensemble stationary.

    Args:
        collect: carries out a task on every snapshot.
        runs: the run that each snapshot is of, in the order of their ids; runs are independent of each other.
        measure: see `look`.

    Raises:
        UserError: fewer than 8 runs, or nothing but noise.
    """
    enough(len(np.unique(runs)))
    library = question.library
    first = _by_run(collect(Rows(measure)), runs)
    _refuse_noise_alone(first["gram"], measure)
    unbalanced, error = _balance(first["gram"], measure, question.seed)
    if unbalanced < STATIC + error:
        return _static(first["gram"], max(unbalanced, error), measure, question, len(runs))
    rates, held_out = _rates(first, measure, library)
    every, share = np.arange(rates.rows.shape[2]), None
    kept = fit.chosen(rates)[0] if library.sparse else every
    start = _free(rates.over(kept).solution().coefficients, kept, library)
    steps = None
    if library.diffuses(start) and not measure.rounded:  # what rounding leaves would pass for steps
        second = _by_run(collect(SecondOrder(measure, library.equation(library.ties @ start))), runs)
        steps = Steps(library, start, second["rows"].mean(axis=0), second["held_out"].mean(axis=0))
        rates = replace(rates, systematic=steps.error)
    if library.sparse:
        kept, share = fit.needed(rates, question.seed)
    return _judged(rates, kept, share, held_out, steps, unbalanced, measure, question, len(runs))


def misfits(equations: dict[str, Equation], first: Fields, measure: Measure) -> dict[str, float]:
    """How badly each of some known equations fits snapshots that a first pass measured, up to the unit of time.

    Returns:
        Chi-squared of the mean rates, with the covariance at each equation; where nothing moves, the share of the
        terms' power that an equation leaves as velocity.
    """
    library = find_library("", ", ".join(measure.terms))
    rates, _ = _rates(first, measure, library)
    static = _balance(first["gram"], measure, 0)[0] < STATIC
    found = {}
    for name, equation in equations.items():
        c = library.coefficients(equation)
        if static:
            found[name] = float(c @ rates.gram @ c / (c**2 @ np.diag(rates.gram)))
        else:
            found[name] = replace(rates, rows=rates.rows @ c[:, None], gram=np.eye(1)).solution().statistics[0]
    return {name: float(value) for name, value in found.items()}


def enough(count: int) -> None:
    """Refuse too few independent snapshots for an equation."""
    if count < LEAST_RUNS:
        raise UserError(f"{count} living runs are too few for an equation: at least {LEAST_RUNS} are needed")


def _refuse_noise_alone(gram: np.ndarray, measure: Measure) -> None:
    """Refuse runs whose concentrations, corrected for noise, do not vary from cell to cell: they would pass for static.

    Args:
        gram: mean products of terms, [N, K, K].
    """
    one, *species = (measure.terms.index(term) for term in ("1", "u", "v"))
    variances = np.stack([gram[:, i, i] - gram[:, i, one] ** 2 for i in species])
    error = variances.std(axis=1, ddof=1) / np.sqrt(len(gram))
    if any(measure.noise) and (variances.mean(axis=1) < SIGNIFICANT * error).all():
        raise UserError(
            f"too noisy: no pattern is seen above noise of {max(measure.noise):.2g}, from which no equation can be told"
        )


def _by_run(found: Fields, runs: np.ndarray) -> Fields:
    """Means over the snapshots of each run, which are not independent of each other."""
    names, place, size = np.unique(runs, return_inverse=True, return_counts=True)
    if len(names) == len(runs):
        return found
    means = {}
    for key, values in found.items():
        total = np.zeros((len(names), *values.shape[1:]))
        np.add.at(total, place, values)
        means[key] = total / size.reshape(-1, *[1] * (values.ndim - 1))
    return means


def _rates(first: Fields, measure: Measure, library: Library) -> tuple[Rates, np.ndarray]:
    """Rates for the library's free numbers, of the observables of the fit, and of those held out [N, 40, P]."""
    own = [measure.terms.index(term) for term in library.terms]
    columns = [species * len(measure.terms) + i for species in (0, 1) for i in own]
    gram = np.kron(np.eye(2), first["gram"].mean(axis=0)[np.ix_(own, own)])
    rows, held_out = (first[key][:, :, columns] @ library.ties for key in ("rows", "held_out"))
    return Rates(rows, library.ties.T @ gram @ library.ties, library.degrees), held_out


def _free(c: np.ndarray, kept: np.ndarray, library: Library) -> np.ndarray:
    """All free numbers in units, see `_in_units`, of those that are kept; the others are zero."""
    found = np.zeros(library.ties.shape[1])
    found[kept] = c
    return _in_units(found, library)


def _in_units(c: np.ndarray, library: Library) -> np.ndarray:
    """Free numbers in the direction and unit of time that snapshots cannot tell: diffusion damps, reaction rate 1."""
    coefficients = library.ties @ c
    damps = sum(coefficients[i] for i in library.diffusions) >= 0
    reaction = _reaction(c, library) * (1 if damps else -1)
    return (c if damps else -c) / (reaction if reaction > 0 else 1.0)


def _reaction(c: np.ndarray, library: Library) -> float:
    """Coefficient of u v^2 in dv/dt."""
    return float((library.ties @ c)[library.place("v", REACTION)]) if REACTION in library.terms else 0.0


class Steps:
    """What explicit steps of an unknown length add to mean rates at second order, see moments.SecondOrder.

    Args:
        library: of terms.
        start: free numbers [P] of the equation that the second order was measured at.
        rows, held_out: its means, for the observables of the fit and for those held out.
    """

    def __init__(self, library: Library, start: np.ndarray, rows: np.ndarray, held_out: np.ndarray) -> None:
        self.library, self.start, self.rows, self.held_out = library, start, rows, held_out

    def longest(self, c: np.ndarray) -> float:
        """The longest stable step in the unit of time of free numbers c; 0 where nothing diffuses, as of no bound."""
        diffusion = self.library.diffuses(c)
        return 1 / (EULER * diffusion) if diffusion else 0.0

    def added(self, c: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """What steps of unit length add to the measured rates when the free numbers are c."""
        return ((c @ self.start) / (self.start @ self.start)) ** 2 * measured

    def error(self, c: np.ndarray) -> np.ndarray:
        """Standard error [J] of mean rates from not knowing the step."""
        return self.longest(c) * self.added(c, self.rows)


def _judged(
    rates: Rates,
    kept: np.ndarray,
    share: np.ndarray | None,
    held_out: np.ndarray,
    steps: Steps | None,
    unbalanced: float,
    measure: Measure,
    question: Question,
    snapshots: int,
) -> Discovery:
    """The equation of the kept terms, its errors, and what it is worth."""
    library, subset = question.library, rates.over(kept)
    solution = subset.solution()
    free = _free(solution.coefficients, kept, library)
    step = _step(solution, subset.rows.mean(axis=0), solution.coefficients, subset, steps, kept)
    draws, again = [], []
    for mean, c in subset.resampled(solution, question.bootstrap, question.seed):
        draws.append(free + subset.inflation(solution) * (_free(c, kept, library) - free))
        again.append(_step(solution, mean, c, subset, steps, kept))
    drift = held_out @ free
    bias = drift.mean(axis=0) + (step * steps.added(free, steps.held_out) if steps else 0.0)
    z_max = float(np.abs(bias / drift.std(axis=0, ddof=1)).max() * np.sqrt(len(drift)))
    spectrum = rates.solution().statistics / rates.freedom
    gap = float(spectrum[1] / max(spectrum[0], 1.0))
    misfit = float(solution.statistics[0] - subset.freedom) / len(drift)
    error, interval = _errors(draws, free, library)
    return Discovery(
        equation=library.equation(library.ties @ free),
        error=error,
        interval=interval,
        frequency=None if share is None else library.equation(library.ties @ share),
        gap=gap,
        spectrum=spectrum[:8].tolist(),
        misfit=misfit,
        z_max=z_max,
        unbalanced=unbalanced,
        step=(step, float(np.std(again))) if step > SIGNIFICANT * np.std(again) else None,
        measure=measure,
        snapshots=snapshots,
        verdict=_too_few(rates, solution) or _verdict(gap, spectrum, misfit, z_max, measure, len(drift)),
        unit_of_time="reaction rate 1" if _reaction(free, library) > 0 else "mean square velocity 1",
    )


def _step(
    solution: fit.Solution, mean: np.ndarray, c: np.ndarray, subset: Rates, steps: Steps | None, kept: np.ndarray
) -> float:
    """Length of the explicit steps that mean rates [J, P] of free numbers c [P] show, in their unit of time."""
    if steps is None or subset.systematic is None:
        return 0.0
    free = _free(c, kept, steps.library)
    forward = np.sign(free[kept] @ c)
    share = fit.amplitude(solution, mean @ c * forward, subset.systematic(c))
    return share * steps.longest(free)


def _errors(draws: list[np.ndarray], free: np.ndarray, library: Library) -> tuple[Equation, dict]:
    """Standard deviations and 90 % intervals over resampled free numbers, of the terms of the equation."""
    coefficients = np.array([library.ties @ draw for draw in draws])
    equation = library.equation(library.ties @ free)
    deviation, (low, high) = coefficients.std(axis=0), np.percentile(coefficients, INTERVAL, axis=0)
    places = {s: {term: library.place(s, term) for term in terms} for s, terms in equation.items()}
    error = {s: {term: float(deviation[i]) for term, i in terms.items()} for s, terms in places.items()}
    interval = {s: {term: [float(low[i]), float(high[i])] for term, i in terms.items()} for s, terms in places.items()}
    return error, interval


def _balance(gram: np.ndarray, measure: Measure, seed: int) -> tuple[float, float]:
    """Share of the power of u v^2 left by its best fit with 1, u, v, lap u and lap v, cell by cell; and its error.

    Where nothing moves, u v^2 = F (1 - u) + D_u lap u holds in every cell, and no velocity can be read off the data.
    """
    linear = [measure.terms.index(term) for term in GRAY_SCOTT_TERMS if term != REACTION]
    reaction = measure.terms.index(REACTION)

    def left(mean: np.ndarray) -> float:
        found = np.linalg.lstsq(mean[np.ix_(linear, linear)], mean[linear, reaction], rcond=1e-9)[0]
        return float(1 - found @ mean[linear, reaction] / mean[reaction, reaction])

    found = left(gram.mean(axis=0))
    if not any(measure.noise):
        return found, 0.0  # clean snapshots tell it exactly
    draws = [left(gram[again].mean(axis=0)) for again in fit.resamples(len(gram), BALANCE_DRAWS, seed)]
    return found, 2 * float(np.std(draws))  # what noise leaves varies, and about zero


def _static(gram: np.ndarray, unbalanced: float, measure: Measure, question: Question, snapshots: int) -> Discovery:
    """The parameters of a steady state: where nothing moves, Gray-Scott's terms add up to zero in every cell."""
    library = find_library("gray-scott")
    places = [measure.terms.index(term) for term in library.terms]
    gram = gram[:, places][:, :, places]

    def parameters(mean: np.ndarray) -> np.ndarray:
        energy = library.ties.T @ np.kron(np.eye(2), mean) @ library.ties
        return fit.least_squares(energy, fixed=library.ties.shape[1] - 1)

    free = parameters(gram.mean(axis=0))
    resampled = fit.resamples(len(gram), question.bootstrap, question.seed)
    draws = [parameters(gram[again].mean(axis=0)) for again in resampled]
    error, interval = _errors(draws, free, library)
    return Discovery(
        equation=library.equation(library.ties @ free),
        error=error,
        interval=interval,
        frequency=None,
        gap=0.0,
        spectrum=[],
        misfit=0.0,
        z_max=None,
        unbalanced=unbalanced,
        step=None,
        measure=measure,
        snapshots=snapshots,
        verdict=(
            f"static: reaction and diffusion balance in every cell to {unbalanced:.0e} of the reaction's power; "
            "these are the parameters of that steady state, if its terms are Gray-Scott's; whether and how fast it "
            f"moves otherwise, and the direction of time, cannot be known from it"
        ),
        unit_of_time="reaction rate 1",
    )


def _too_few(rates: Rates, solution: fit.Solution) -> str:
    """What is said of runs that are no more than the observables they give weights; nothing where they are enough."""
    runs, observables, _ = rates.rows.shape
    if runs >= ENOUGH * fit.weighed(solution):
        return ""
    return (
        f"too few snapshots: {runs} independent runs cannot give weights to {observables} observables, "
        f"nor tell whether the ensemble is stationary; about {observables} are needed"
    )


def _verdict(gap: float, spectrum: np.ndarray, misfit: float, z_max: float, measure: Measure, runs: int) -> str:
    judged = f"largest |z| {z_max:.1f} of {HELD_OUT} held-out observables"
    if misfit > LARGEST_MISFIT or z_max > LARGEST_Z:
        return (
            f"not stationary: under the best equation {judged}, misfit {misfit:.1f} a snapshot (up to {LARGEST_Z:g} "
            f"and {LARGEST_MISFIT:g} are expected); let the system run longer, or take a library that holds its terms"
        )
    if gap < IDENTIFIED_GAP:
        fitting = int((spectrum < IDENTIFIED_GAP * max(spectrum[0], 1.0)).sum())
        few = "too few snapshots" if runs < FEW_RUNS else "ambiguous"
        why = "too noisy" if any(measure.noise) else few
        return f"{why}: {fitting} dynamics fit about as well (gap {gap:.1f}); more snapshots, or fewer terms, decide"
    # Rounding is no noise: it takes away what is below half a grey level, which other terms then make up for.
    rounded = "; terms and error bars are those of the rounded images, of which small terms may be artefacts"
    return f"dynamics identified (gap {gap:.2g}), ensemble stationary ({judged}){rounded * measure.rounded}"


def summary(found: Discovery) -> dict[str, Any]:
    """The discovery as JSON: the equation in several forms, its errors, and the numbers of the verdict."""
    told = {key: value for key, value in vars(found).items() if key != "measure"}
    parameters = {}
    if set(found.equation["u"]) | set(found.equation["v"]) <= set(GRAY_SCOTT_TERMS) and _tied(found.equation):
        parameters = {"parameters": gray_scott_parameters(found.equation)}
    return {
        **told,
        **parameters,
        "noise": list(found.measure.noise),
        "smoothing": found.measure.smoothing,
        "text": equations.text(found.equation, found.error),
        **equations.written(found.equation),
    }


def _tied(equation: Equation) -> bool:
    """Whether an equation of Gray-Scott's terms is a Gray-Scott system, with a reaction of rate 1."""
    u, v = equation["u"], equation["v"]
    return v.get(REACTION) == 1 == -u.get(REACTION, 0.0) and u.get("1", 0.0) == -u.get("u", 0.0)
