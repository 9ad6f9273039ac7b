"""What a discovered equation is worth, in words."""

from __future__ import annotations

import numpy as np

from p2d.discovery.moments import HELD_OUT

FEW_RUNS = 64
IDENTIFIED_GAP = 20.0
LARGEST_Z = 4.5
LARGEST_MISFIT = 3.0


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


def static_text(unbalanced: float, system: str) -> str:
    """Of an ensemble that does not move: a steady state of this system."""
    return (
        f"static: reaction and diffusion balance in every cell to {unbalanced:.0e} of the reaction's power; "
        f"these are the parameters of that steady state, if its terms are {system}'s; whether and how fast it "
        f"moves otherwise, and the direction of time, cannot be known from it"
    )
