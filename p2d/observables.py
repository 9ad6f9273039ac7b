"""Averages that describe an ensemble of states, and whether they still change."""

from __future__ import annotations

from typing import Any

import numpy as np

OBSERVED = ("u", "v", "u^2", "v^2", "u v^2", "|grad v|^2")  # averaged over the grid
FALSE_ALARMS = 1 / 3000  # share of stationary ensembles that are called changing
FEWEST = 8  # runs below which a z-score says nothing


def observe(states: np.ndarray) -> np.ndarray:
    """The averages OBSERVED of each state: [N, 2, H, W] concentrations to float64 [N, 6]."""
    return np.stack([_observe_one(state.astype(np.float64)) for state in states])


def _observe_one(state: np.ndarray) -> np.ndarray:
    u, v = state
    gradient = (np.roll(v, -1, 0) - v) ** 2 + (np.roll(v, -1, 1) - v) ** 2
    return np.array([field.mean() for field in (u, v, u * u, v * v, u * v * v, gradient)])


def moments(observed: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation of u and v over all cells of all states, from their averages [N, 6]."""
    u, v, u2, v2 = observed[:, :4].mean(axis=0) if len(observed) else np.zeros(4)
    return {"mean_u": u, "mean_v": v, "std_u": max(u2 - u * u, 0.0) ** 0.5, "std_v": max(v2 - v * v, 0.0) ** 0.5}


def largest_z(runs: int) -> float:
    """What the largest of the averages' z-scores stays below in a stationary ensemble, but for FALSE_ALARMS.

    Student's t, two sides, Bonferroni over the averages: 4.0 for many runs, 8.6 for eight.
    """
    from scipy import stats  # on use: the command line must start without it

    return float(stats.t.isf(FALSE_ALARMS / len(OBSERVED) / 2, runs - 1))


def change(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Whether the averages of an ensemble change between two times.

    The difference of each average is taken run by run, so what varies from run to run falls out; its mean over its
    standard error is the z-score.

    Args:
        before: averages [N, 6] at the earlier time.
        after: of the same runs at the later time.

    Returns:
        z: the largest z-score by size; average: which; relative: its change relative to its mean; stationary: whether
        |z| is below `largest_z`, None where fewer than 8 runs leave it open.
    """
    if len(after) < FEWEST:
        return {"z": None, "average": None, "relative": None, "stationary": None}
    difference = after - before
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(after))
    z = difference.mean(axis=0) / np.maximum(error, 1e-12 + 1e-9 * np.abs(after).mean(axis=0))
    worst = int(np.abs(z).argmax())
    return {
        "z": round(float(z[worst]), 2),
        "average": OBSERVED[worst],
        "relative": float(difference[:, worst].mean() / max(abs(after[:, worst].mean()), 1e-12)),
        "stationary": bool(abs(z[worst]) < largest_z(len(after))),
    }


def say_change(found: dict[str, Any], steps: int) -> str:
    """In words: '10,000 steps: stationary (largest |z| 1.8)' or '2,000 steps: still changing, z = 9 (v +12 %)'."""
    if found["stationary"] is None:
        return f"{steps:,} steps: too few steps or living runs to tell whether it is stationary"
    if found["stationary"]:
        return f"{steps:,} steps: stationary (largest |z| {abs(found['z']):.1f})"
    told = f"mean of {found['average']} {100 * found['relative']:+.2g} % over their second half"
    return f"{steps:,} steps: still changing, z = {found['z']:.0f} ({told})"
