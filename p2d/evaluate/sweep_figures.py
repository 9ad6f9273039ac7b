"""Figures of a sweep: the metric over two axes, its curves over the first, and all trials in parallel coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from p2d.evaluate import figures

COLOURS = "viridis"
LUMINANCE = np.array([0.3, 0.6, 0.1])  # of red, green and blue
MEASURED = ("cosine", "z_rms", "validation_loss")  # beside what was varied, in parallel coordinates
NAMES = {"cosine": "cosine with the true velocity", "z_rms": "rms z of stationarity", "z_max": "largest |z|"}


@dataclass(frozen=True)
class Trial:
    """A trial as it is drawn: its settings as text by label, its last values, FINISHED, KILLED or FAILED."""

    settings: dict[str, str]
    values: dict[str, float]
    state: str


def heat_map(path: Path, trials: list[Trial], labels: list[str], metric: str, best: str, title: str) -> None:
    """The metric over the first two labels, or over the only one; the mean over trials that differ in others.

    Args:
        best: 'max' or 'min', the end that is drawn bright.
    """
    across, down = labels[0], labels[1] if len(labels) > 1 else ""
    columns = _levels(trials, across)
    rows = _levels(trials, down) if down else [""]
    wide, high = 0.95 * len(columns) + 1.9, 0.6 * len(rows) + 0.8
    with figures.grid(path, 1, 1, title, width=max(wide, 4.2), height=max(high, 1.8)) as axes:
        place: Axes = axes[0, 0]
        cells = [[_cell(trials, {across: x} | ({down: y} if down else {}), metric) for x in columns] for y in rows]
        values: np.ndarray = np.array([[value for value, _ in row] for row in cells])
        image = place.imshow(values, cmap=COLOURS if best == "max" else f"{COLOURS}_r", aspect="auto", origin="lower")
        place.set_facecolor("0.88")
        for (y, x), value in np.ndenumerate(values):
            bright = not np.isfinite(value) or image.to_rgba(values)[y, x, :3] @ LUMINANCE > 0.5
            place.text(x, y, cells[y][x][1], ha="center", va="center", color="black" if bright else "white", fontsize=8)
        _ticks(place.set_xticks, columns)
        _ticks(place.set_yticks, rows)
        place.set_xlabel(across)
        place.set_ylabel(down)
        place.figure.colorbar(image, ax=place, label=NAMES.get(metric, metric))


def _cell(trials: list[Trial], settings: dict[str, str], metric: str) -> tuple[float, str]:
    """The mean of a metric over the trials of a cell, and what is written there: in brackets if stopped early."""
    there = [t for t in trials if settings.items() <= t.settings.items()]
    known = [t.values[metric] for t in there if t.state != "FAILED" and np.isfinite(t.values.get(metric, np.nan))]
    if not known:
        return np.nan, "failed" if there else ""
    told = f"{np.mean(known):.3g}" + (f"\n±{np.std(known, ddof=1):.1g}" if len(known) > 1 else "")
    return float(np.mean(known)), f"({told})" if any(t.state == "KILLED" for t in there) else told


def curves(path: Path, trials: list[Trial], labels: list[str], metric: str, title: str) -> None:
    """The metric over the first label, a curve for each value of the second, from lowest to highest over the others."""
    across, along = labels[0], labels[1] if len(labels) > 1 else ""
    columns = _levels(trials, across)
    with figures.grid(path, 1, 1, title, width=5.2, height=3.4) as axes:
        place: Axes = axes[0, 0]
        lines = _levels(trials, along) if along else [""]
        shades = np.linspace(0.0, 0.85, len(lines))
        for line, shade in zip(lines, shades, strict=True):
            chosen = [t for t in trials if not along or t.settings[along] == line]
            found = [_known(chosen, {across: x}, metric) for x in columns]
            there = [n for n, values in enumerate(found) if values]
            colour = figures.colour(COLOURS, shade)
            label = f"{along} = {line}" if along else None
            place.plot(there, [np.mean(found[n]) for n in there], "o-", color=colour, label=label, markersize=4)
            low, high = ([f(found[n]) for n in there] for f in (min, max))
            place.fill_between(there, low, high, color=colour, alpha=0.15, linewidth=0)
        _ticks(place.set_xticks, columns)
        place.set_xlabel(across)
        place.set_ylabel(NAMES.get(metric, metric))
        place.grid(alpha=0.3)
        if along:
            place.legend(fontsize=8)


def _known(trials: list[Trial], settings: dict[str, str], metric: str) -> list[float]:
    """The metric of the trials of these settings that were not given up."""
    there = [t for t in trials if settings.items() <= t.settings.items() and t.state == "FINISHED"]
    return [t.values[metric] for t in there if np.isfinite(t.values.get(metric, np.nan))]


def parallel(path: Path, trials: list[Trial], labels: list[str], metric: str, best: str, title: str) -> None:
    """A line a trial through what was varied and what was measured, coloured by the metric; dashed: stopped early."""
    drawn = [t for t in trials if np.isfinite(t.values.get(metric, np.nan))]
    measured = [m for m in dict.fromkeys((*MEASURED, metric)) if any(m in t.values for t in drawn)]
    columns = [*labels, *measured]
    with figures.grid(path, 1, 1, title, width=1.5 * len(columns) + 1.0, height=3.4) as axes:
        place: Axes = axes[0, 0]
        levels = {label: _levels(drawn, label) for label in labels}
        ends = {m: _ends([t.values[m] for t in drawn if m in t.values]) for m in measured}
        norm = Normalize(*ends[metric])
        for trial in sorted(drawn, key=lambda t: t.values[metric], reverse=best == "min"):
            heights = [_share(levels[label].index(trial.settings[label]), len(levels[label])) for label in labels]
            heights += [(trial.values.get(m, np.nan) - ends[m][0]) / (ends[m][1] - ends[m][0]) for m in measured]
            shade = float(norm(trial.values[metric]))
            style = "--" if trial.state == "KILLED" else "-"
            colour = figures.colour(COLOURS, shade if best == "max" else 1 - shade)
            place.plot(range(len(columns)), heights, style, color=colour, alpha=0.75, linewidth=1.4)
        for n, column in enumerate(columns):
            place.axvline(n, color="0.6", linewidth=0.8)
            marks = levels.get(column)
            spots = [(_share(i, len(marks)), text) for i, text in enumerate(marks)] if marks else []
            spots = spots or [(h, f"{low + h * (high - low):.3g}") for low, high in [ends[column]] for h in (0.0, 1.0)]
            for height, text in spots:
                place.text(n + 0.03, height, text, fontsize=7, va="center")
        place.set_xticks(range(len(columns)), columns)
        place.set_yticks([])
        place.set_xlim(-0.1, len(columns) - 0.7)
        place.spines[:].set_visible(False)


def _levels(trials: Iterable[Trial], label: str) -> list[str]:
    """The values of a setting, in the order of numbers where they are numbers."""
    values = {t.settings[label] for t in trials}
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def _ticks(setter: Callable[..., object], levels: list[str]) -> None:
    setter(range(len(levels)), levels)


def _share(place: int, count: int) -> float:
    return place / (count - 1) if count > 1 else 0.5


def _ends(values: list[float]) -> tuple[float, float]:
    """Lowest and highest of the finite values, apart."""
    finite = [v for v in values if np.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    return low, high if high > low else low + max(abs(low), 1.0) * 1e-6
