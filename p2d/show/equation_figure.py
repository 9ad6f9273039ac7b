"""A discovered equation in one picture: coefficients with error bars, the spectrum of fits, rates beside true ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from p2d.show.figures import grid
from p2d.systems import library
from p2d.systems.gray_scott import GrayScott

PICTURED = 8  # snapshots whose rates are compared
POINTS = 4000  # cells of them
COLOURS = {"u": "#1f77b4", "v": "#d62728"}


def equation(path: Path, found: dict[str, Any], truth: GrayScott | None, states: np.ndarray, name: str) -> None:
    """Draw what discover.summary tells; the spectrum where there is one, and the truth where it is known.

    Args:
        states: concentrations [N, 2, H, W] at which rates are compared.
    """
    true = library.gray_scott_equation(truth) if truth else None
    drawn = [lambda place: _coefficients(place, found, true)]
    if found["spectrum"]:
        drawn.append(lambda place: _spectrum(place, found["spectrum"]))
    if true:
        drawn.append(lambda place: _rates(place, found["equation"], true, states.astype(np.float64)))
    with grid(path, 1, len(drawn), f"{name}: the equation from {found['snapshots']} snapshots", 4.2, 3.6) as axes:
        for place, draw in zip(axes[0], drawn, strict=True):
            draw(place)
            place.grid(alpha=0.3)
            place.tick_params(labelsize=8)


def _coefficients(place: Axes, found: dict[str, Any], true: library.Equation | None) -> None:
    """Each coefficient over the true one (or itself, where that is not known), with its 90 % interval."""
    labels, row = [], 0
    for species, terms in found["equation"].items():
        for term, value in terms.items():
            reference = true[species].get(term, 0.0) if true else value
            scale = reference or 1.0
            low, high = (end / scale for end in found["interval"][species][term])
            middle = value / scale
            ends = [[max(middle - min(low, high), 0)], [max(max(low, high) - middle, 0)]]
            marker = "o" if reference else "x"
            place.errorbar([middle], [row], xerr=ends, fmt=marker, color=COLOURS[species], capsize=3, markersize=4)
            shown = term.replace("**", "^").replace("*", " ")
            labels.append(f"d{species}/dt: {shown}" if reference else f"d{species}/dt: {shown} (absent)")
            row += 1
    place.axvline(1.0, color="grey", linewidth=0.8)
    place.set_yticks(range(row), labels)
    place.invert_yaxis()
    beside = "coefficient / true one" if true else "coefficient / itself"
    place.set_title(f"{beside}, 90 % intervals", fontsize=9)


def _spectrum(place: Axes, spectrum: list[float]) -> None:
    place.semilogy(range(1, len(spectrum) + 1), spectrum, "o-", markersize=4)
    place.axhline(1.0, color="grey", linewidth=0.8)
    place.set_xlabel("dynamics, from the best fit on", fontsize=8)
    place.set_title("chi-squared / degrees of freedom", fontsize=9)


def _rates(place: Axes, found: library.Equation, true: library.Equation, states: np.ndarray) -> None:
    """The found rate against the true one, cell by cell."""
    rates = [library.rate(e, states).swapaxes(0, 1).reshape(2, -1) for e in (true, found)]
    chosen = slice(None, None, max(1, rates[0].shape[1] // POINTS))
    for species, x, y in zip("uv", *rates, strict=True):
        place.plot(x[chosen], y[chosen], ".", markersize=2, color=COLOURS[species], label=f"d{species}/dt")
    ends = [float(rates[0].min()), float(rates[0].max())]
    place.plot(ends, ends, color="grey", linewidth=0.8)
    place.set_xlabel("true rate", fontsize=8)
    place.set_title("found rate", fontsize=9)
    place.legend(fontsize=8, markerscale=4)
