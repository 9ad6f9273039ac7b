"""What a discovered equation is worth, in words; all thresholds of the verdict are here."""

from __future__ import annotations

import numpy as np

from p2d.discovery.moments import HELD_OUT

LEAST_RUNS = 8  # fewer independent snapshots have no covariance to speak of
RUNS_PER_WEIGHT = 1.25  # runs over observables that they give weights, below which chi-squared of the fit tells nothing
FEW_RUNS = 64  # below it, more snapshots are the first thing to try
# How much worse the next best dynamics has to fit than the best: below, resampled ensembles exchange terms.
IDENTIFIED_GAP = 20.0
LARGEST_Z = 4.5  # of 40 held-out observables; one in 3,600 ensembles exceeds it by chance
LARGEST_MISFIT = 3.0  # excess of chi-squared a run
SIGNIFICANT = 3.0  # standard errors, of the step and of the variance of a pattern


def verdict_text(
    gap: float, spectrum: np.ndarray, misfit: float, z_max: float, runs: int, *, noisy: bool, rounded: bool
) -> str:
    """Of an equation whose fit and whose held-out observables are these, see result.Discovery."""
    judged = f"largest |z| {z_max:.1f} of {HELD_OUT} held-out observables"
    if misfit > LARGEST_MISFIT or z_max > LARGEST_Z:
        return (
            f"not stationary: under the best equation {judged}, misfit {misfit:.1f} a snapshot (up to {LARGEST_Z:g} "
            f"and {LARGEST_MISFIT:g} are expected); let the system run longer, or take a library that holds its terms"
        )
    if gap < IDENTIFIED_GAP:
        fitting = int((spectrum < IDENTIFIED_GAP * max(spectrum[0], 1.0)).sum())
        few = "too few snapshots" if runs < FEW_RUNS else "ambiguous"
        why = "too noisy" if noisy else few
        return f"{why}: {fitting} dynamics fit about as well (gap {gap:.1f}); more snapshots, or fewer terms, decide"
    # Rounding is no noise: it takes away what is below half a grey level, which other terms then make up for.
    artefacts = "; terms and error bars are those of the rounded images, of which small terms may be artefacts"
    return f"dynamics identified (gap {gap:.2g}), ensemble stationary ({judged}){artefacts * rounded}"


def too_few_text(runs: int, observables: int) -> str:
    """Of runs that are no more than the observables they give weights."""
    return (
        f"too few snapshots: {runs} independent runs cannot give weights to {observables} observables, "
        f"nor tell whether the ensemble is stationary; about {observables} are needed"
    )


def static_text(imbalance: float, system: str, *, named: bool) -> str:
    """Of an ensemble that does not move: a steady state of this system, or of none that is known."""
    seen = f"static: Laplacians are functions of the values in every cell to {imbalance:.0e} of their power, so that "
    if not system:
        return (
            seen
            + "nothing moves, and no velocity can be told; --library SYSTEM gives the parameters of its steady state"
        )
    whose = "these are the parameters of that" if named else "these are the parameters of a"
    return (
        f"{seen}nothing moves; {whose} steady state, if its terms are {system}'s; whether and how fast it moves "
        "otherwise, and the direction of time, cannot be known from it"
    )
