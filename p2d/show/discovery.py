"""A discovered equation in one picture: coefficients with error bars, the spectrum of fits, rates beside true ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from p2d.discovery.result import COLOURS, Discovery
from p2d.show.figures import draw_panels
from p2d.systems.system import System

PICTURED = 8  # snapshots whose rates are compared
POINTS = 4000  # cells of them


def draw_discovery(path: Path, discovery: Discovery, truth: System | None, states: np.ndarray, name: str) -> None:
    """Draw an equation; the spectrum where there is one, and the truth where it is known.

    Args:
        states: [N, C, H, W] at which rates are compared.
    """
    panels = 1 + bool(discovery.spectrum) + (truth is not None)
    title = f"{name}: the equation from {discovery.snapshots} snapshots ({discovery.short_verdict})"
    with draw_panels(path, 1, panels, title, 4.2, 3.6) as axes:
        first, *others = axes[0]
        discovery.plot(first, truth)
        if discovery.spectrum:
            draw_spectrum(others[0], discovery)
        if truth is not None:
            draw_rates(others[-1], discovery, truth, states.astype(np.float64))
        for place in axes[0]:
            place.grid(alpha=0.3)
            place.tick_params(labelsize=8)


def draw_spectrum(axes: Axes, discovery: Discovery) -> None:
    """How badly the best dynamics fits, the next best, and so on."""
    spectrum = discovery.spectrum
    axes.semilogy(range(1, len(spectrum) + 1), spectrum, "o-", markersize=4)
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xlabel("candidate: the best, the second best, ...", fontsize=8)
    axes.set_title("misfit: chi-squared / degrees of freedom", fontsize=9)


def draw_rates(axes: Axes, discovery: Discovery, truth: System, states: np.ndarray) -> None:
    """The rates of an equation against the true ones, cell by cell, over the root mean square of each true one."""
    both = (each.rate(states, discovery.grid, discovery.operator) for each in (truth, discovery.system))
    true, own = (rate.swapaxes(0, 1).reshape(len(truth.species), -1) for rate in both)
    size = np.maximum(np.sqrt((true**2).mean(axis=1, keepdims=True)), 1e-30)
    true, own = true / size, own / size
    some = slice(None, None, max(1, true.shape[1] // POINTS))
    for species, colour, x, y in zip(truth.species, COLOURS, true, own, strict=False):
        axes.plot(x[some], y[some], ".", markersize=2, color=colour, label=f"d{species}/dt")
    ends = [float(true.min()), float(true.max())]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set_xlabel("true rate / its root mean square", fontsize=8)
    axes.set_title("rates, cell by cell", fontsize=9)
    axes.set_ylabel("found rate / root mean square of the true one", fontsize=8)
    axes.legend(fontsize=8, markerscale=4)
