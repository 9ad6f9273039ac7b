"""Figures of a sweep: the metric over two axes, its curves over the first, and all trials in parallel coordinates.

A setting of a few values is drawn with a place for each; one of many, as of a random search, by its number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize

from p2d.show import figures

COLOURS = "viridis"
LUMINANCE = np.array([0.3, 0.6, 0.1])  # of red, green and blue
MEASURED = ("cosine", "z_rms", "validation_loss")  # beside what was varied, in parallel coordinates
NAMES = {"cosine": "cosine with the true velocity", "z_rms": "rms z of stationarity", "z_max": "largest |z|"}
MANY = 8  # more values than these are drawn by number
WIDE = 30.0  # numbers that span more than this ratio are drawn by their logarithm
MARKERS = {"FINISHED": "o", "KILLED": "d", "FAILED": "x"}
STATES = {"FINISHED": "finished", "KILLED": "stopped early", "FAILED": "failed"}


@dataclass(frozen=True)
class Trial:
    """A trial as it is drawn: its settings as text by label, its last values, FINISHED, KILLED or FAILED."""

    settings: dict[str, str]
    values: dict[str, float]
    state: str

    def value(self, metric: str) -> float:
        """The metric; NaN where it was not measured, is not finite, or the trial failed."""
        value = self.values.get(metric, math.nan)
        return value if self.state != "FAILED" and math.isfinite(value) else math.nan


def draw_heat_map(path: Path, trials: list[Trial], labels: list[str], metric: str, best: str, title: str) -> None:
    """The metric over the first two labels, or over the only one; the mean over trials that differ in others.

    Points instead of cells where values are many and most of their combinations were not tried.

    Args:
        best: 'max' or 'min', the end that is drawn bright.
    """
    if _scattered(trials, labels[:2]):
        _points(path, trials, labels, metric, best, title)
        return
    across, down = labels[0], labels[1] if len(labels) > 1 else ""
    columns = trial_levels(trials, across)
    rows = trial_levels(trials, down) if down else [""]
    wide, high = 0.95 * len(columns) + 1.9, 0.6 * len(rows) + 0.8
    with figures.draw_panels(path, 1, 1, title, width=max(wide, 4.2), height=max(high, 1.8)) as axes:
        place: Axes = axes[0, 0]
        cells = [[trial_cell(trials, {across: x} | ({down: y} if down else {}), metric) for x in columns] for y in rows]
        values: np.ndarray = np.array([[value for value, _ in row] for row in cells])
        low, high = _ends(values.ravel().tolist())
        image = place.imshow(values, cmap=_bright(best), vmin=low, vmax=high, aspect="auto", origin="lower")
        shades = image.to_rgba(values)
        place.set_facecolor("0.88")
        for (y, x), value in np.ndenumerate(values):
            bright = not np.isfinite(value) or shades[y, x, :3] @ LUMINANCE > 0.5
            place.text(x, y, cells[y][x][1], ha="center", va="center", color="black" if bright else "white", fontsize=8)
        place.set_xticks(range(len(columns)), columns)
        place.set_yticks(range(len(rows)), rows)
        stopped = any(t.state == "KILLED" for t in trials)
        place.set_xlabel(across + ("\n(in brackets: stopped early)" if stopped else ""))
        place.set_ylabel(down)
        place.figure.colorbar(image, ax=place, label=NAMES.get(metric, metric))


def trial_cell(trials: list[Trial], settings: dict[str, str], metric: str) -> tuple[float, str]:
    """The mean of a metric over the trials of a cell, and what is written there: in brackets if stopped early."""
    there = [t for t in trials if settings.items() <= t.settings.items()]
    known = [t.value(metric) for t in there if math.isfinite(t.value(metric))]
    failed = sum(t.state == "FAILED" for t in there)
    if not known:
        return np.nan, "failed" if failed else "not finite" if there else ""
    told = f"{np.mean(known):.3g}" + (f"\n±{np.std(known, ddof=1):.1g}" if len(known) > 1 else "")
    told = f"({told})" if any(t.state == "KILLED" for t in there) else told
    return float(np.mean(known)), told + (f"\n{failed} failed" if failed else "")


def _points(path: Path, trials: list[Trial], labels: list[str], metric: str, best: str, title: str) -> None:
    """A point a trial, coloured by the metric, over two labels, or the metric over the only one."""
    across, down = labels[0], labels[1] if len(labels) > 1 else ""
    with figures.draw_panels(path, 1, 1, title, width=5.6, height=3.8) as axes:
        place: Axes = axes[0, 0]
        colours = ScalarMappable(Normalize(*_ends([t.value(metric) for t in trials])), _bright(best))
        xs = _positions(place, "x", trial_levels(trials, across))
        ys = _positions(place, "y", trial_levels(trials, down)) if down else {}
        for state, marker in MARKERS.items():
            there = [t for t in trials if t.state == state and (down or state != "FAILED")]
            if there:
                x = [xs[t.settings[across]] for t in there]
                y = [ys[t.settings[down]] if down else t.value(metric) for t in there]
                shades = colours.to_rgba(np.array([t.value(metric) for t in there]))
                inside, edge = ("0.5", None) if state == "FAILED" else (shades, "0.3")
                place.scatter(x, y, s=55, marker=marker, label=STATES[state], c=inside, edgecolors=edge, linewidths=0.8)
        if any(t.state != "FINISHED" for t in trials):
            place.figure.legend(*place.get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=3)
        place.set_xlabel(across)
        place.set_ylabel(down or NAMES.get(metric, metric))
        place.grid(alpha=0.3)
        place.figure.colorbar(colours, ax=place, label=NAMES.get(metric, metric))


def draw_curves(path: Path, trials: list[Trial], labels: list[str], metric: str, title: str) -> None:
    """The metric over the first label, a curve for each value of the second, from lowest to highest over the others.

    Trials that were stopped early are hollow points; points alone where values are many and most were tried once.
    """
    across, along = labels[0], labels[1] if len(labels) > 1 else ""
    columns = trial_levels(trials, across)
    lines = trial_levels(trials, along) if along else [""]
    numbers, joined = _numbers(lines), not _scattered(trials, labels[:2])
    norm = _norm(numbers) if numbers else Normalize(0, 1)
    with figures.draw_panels(path, 1, 1, title, width=5.6, height=3.6) as axes:
        place: Axes = axes[0, 0]
        xs = _positions(place, "x", columns)
        for line, order in zip(lines, np.linspace(0, 0.85, len(lines)), strict=True):
            chosen = [t for t in trials if not along or t.settings[along] == line]
            colour = matplotlib.colormaps[COLOURS](float(norm(float(line))) if numbers else order)
            label = f"{along} = {line}" if along and not numbers else None
            found = [_known(chosen, {across: x}, metric) or [np.nan] for x in columns]  # NaN: no line across a gap
            spots = [xs[x] for x in columns]
            style = "o-" if joined else "o"
            place.plot(spots, [np.mean(f) for f in found], style, color=colour, label=label, markersize=4)
            if joined:
                low, high = ([end(f) for f in found] for end in (min, max))
                place.fill_between(spots, low, high, color=colour, alpha=0.15, linewidth=0)
            stopped = [t for t in chosen if t.state == "KILLED" and math.isfinite(t.value(metric))]
            where = [xs[t.settings[across]] for t in stopped]
            place.plot(where, [t.value(metric) for t in stopped], "o", color=colour, markerfacecolor="none")
        if any(t.state == "KILLED" for t in trials):
            place.plot([], [], "o", color="0.4", markerfacecolor="none", label=STATES["KILLED"])
        place.set_xlabel(across)
        place.set_ylabel(NAMES.get(metric, metric))
        place.grid(alpha=0.3)
        if place.get_legend_handles_labels()[0]:
            place.legend(fontsize=8)
        if numbers:
            place.figure.colorbar(ScalarMappable(norm, COLOURS), ax=place, label=along)


def _known(trials: list[Trial], settings: dict[str, str], metric: str) -> list[float]:
    """The metric of the trials of these settings that were not given up."""
    there = [t for t in trials if settings.items() <= t.settings.items() and t.state == "FINISHED"]
    return [t.value(metric) for t in there if math.isfinite(t.value(metric))]


def draw_parallel(path: Path, trials: list[Trial], labels: list[str], metric: str, best: str, title: str) -> None:
    """A line a trial through what was varied and what was measured, coloured by the metric; dashed: stopped early."""
    drawn = [t for t in trials if math.isfinite(t.value(metric))]
    measured = [m for m in dict.fromkeys((*MEASURED, metric)) if any(math.isfinite(t.value(m)) for t in drawn)]
    columns = [*labels, *measured]
    with figures.draw_panels(path, 1, 1, title, width=1.5 * len(columns) + 1.0, height=3.4) as axes:
        place: Axes = axes[0, 0]
        heights = {label: _heights(trial_levels(trials, label)) for label in labels}
        ends = {m: _ends([t.value(m) for t in drawn]) for m in measured}
        colours = ScalarMappable(Normalize(*ends.get(metric, (0, 1))), _bright(best))
        drawn.sort(key=lambda t: t.value(metric), reverse=best == "min")
        for trial, colour in zip(drawn, colours.to_rgba(np.array([t.value(metric) for t in drawn])), strict=True):
            line = [heights[label][trial.settings[label]] for label in labels]
            line += [(trial.value(m) - ends[m][0]) / (ends[m][1] - ends[m][0]) for m in measured]
            style = "--" if trial.state == "KILLED" else "-"
            place.plot(range(len(columns)), line, style, color=colour, alpha=0.75, linewidth=1.4)
        for n, column in enumerate(columns):
            place.axvline(n, color="0.6", linewidth=0.8)
            spots = heights[column] if column in heights else _written(*ends[column])
            for text, height in _marks(spots):
                behind = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8}
                place.text(n + 0.04, height, text, fontsize=7, va="center", bbox=behind)
        place.set_xticks(range(len(columns)), columns)
        place.set_yticks([])
        place.set_xlim(-0.1, len(columns) - 0.7)
        place.set_ylim(-0.05, 1.05)
        place.spines[:].set_visible(False)
        dashed = ["dashed: stopped early"] if any(t.state == "KILLED" for t in drawn) else []
        missing = len(trials) - len(drawn)
        place.set_xlabel("; ".join([*dashed, *([f"not drawn: {missing} without {metric}"] if missing else [])]), size=8)


def _heights(levels: list[str]) -> dict[str, float]:
    """Where each value lies on an axis from 0 to 1: by number where they are many, else evenly."""
    numbers = _numbers(levels)
    if numbers:
        shares = np.log(numbers) if _is_wide(numbers) else np.array(numbers)
        shares = (shares - shares[0]) / (shares[-1] - shares[0])
    else:
        shares = np.arange(len(levels)) / (len(levels) - 1) if len(levels) > 1 else np.array([0.5])
    return dict(zip(levels, shares.tolist(), strict=True))


def _written(low: float, high: float) -> dict[str, float]:
    """The ends of a measured axis as text, at their heights; once, between them, where they read the same."""
    first, last = f"{low:.3g}", f"{high:.3g}"
    return {first: 0.0, last: 1.0} if first != last else {first: 0.5}


def _marks(heights: dict[str, float], apart: float = 0.06) -> list[tuple[str, float]]:
    """The values that are written beside an axis: those that are not too near to the one below; the ends always."""
    levels = list(heights.items())
    kept = levels[:1]
    for text, height in levels[1:]:
        if height - kept[-1][1] >= apart and (height == levels[-1][1] or levels[-1][1] - height >= apart):
            kept.append((text, height))
    return kept


def trial_levels(trials: Iterable[Trial], label: str) -> list[str]:
    """The values of a setting, in the order of numbers where they are numbers, or widths such as 32x32."""
    values = {t.settings[label] for t in trials}
    try:
        return sorted(values, key=lambda value: [float(part) for part in value.split("x")])
    except ValueError:
        return sorted(values)


def _numbers(levels: list[str]) -> list[float]:
    """The values as numbers, where they are many; none where they are few, or no numbers."""
    try:
        return [float(value) for value in levels] if len(levels) > MANY else []
    except ValueError:
        return []


def _is_wide(numbers: list[float]) -> bool:
    return min(numbers) > 0 and max(numbers) > WIDE * min(numbers)


def _scattered(trials: list[Trial], labels: list[str]) -> bool:
    """Whether values are many, and less than half of their combinations were tried; of one label, whether many."""
    levels = [trial_levels(trials, label) for label in labels]
    tried = {tuple(t.settings[label] for label in labels) for t in trials}
    return any(map(_numbers, levels)) and (len(labels) == 1 or 2 * len(tried) < math.prod(map(len, levels)))


def _positions(place: Axes, side: Literal["x", "y"], levels: list[str]) -> dict[str, float]:
    """Where each value lies on a side of a figure, whose scale and ticks are set."""
    numbers = _numbers(levels)
    if numbers:
        place.set(**{f"{side}scale": "log" if _is_wide(numbers) else "linear"})
        return dict(zip(levels, numbers, strict=True))
    place.set(**{f"{side}ticks": range(len(levels)), f"{side}ticklabels": levels})
    if side == "x" and sum(map(len, levels)) > 50:
        place.tick_params(axis="x", rotation=30)
    return {level: float(n) for n, level in enumerate(levels)}


def _bright(best: str) -> str:
    """The colours whose bright end is the best."""
    return COLOURS if best == "max" else f"{COLOURS}_r"


def _norm(numbers: list[float]) -> Normalize:
    return (LogNorm if _is_wide(numbers) else Normalize)(min(numbers), max(numbers))


def _ends(values: list[float]) -> tuple[float, float]:
    """Lowest and highest of the finite values, apart."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    apart = 0.0 if high > low else max(abs(low), 1.0) * 1e-6
    return low - apart, high + apart
