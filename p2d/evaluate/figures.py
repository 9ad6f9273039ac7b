"""Figures of a report, one function each: data in, a PNG file out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SPECIES = ("u", "v")
CELL = 2.1  # inches of a panel
CONCENTRATION, VELOCITY = "viridis", "RdBu_r"


@contextmanager
def _grid(
    path: Path, rows: int, columns: int, title: str, width: float = CELL, height: float = CELL
) -> Iterator[np.ndarray]:
    """Axes [rows, columns] of a figure that is saved when the block ends."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(width * columns + 0.6, height * rows + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=11)
    yield figure.subplots(rows, columns, squeeze=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _picture(axes: Axes, field: np.ndarray, colours: str, low: float, high: float, title: str = "") -> None:
    axes.imshow(field, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def snapshots(path: Path, states: np.ndarray, channel: int, name: str) -> None:
    """Up to eight snapshots, concentrations [N, 2, H, W], on one colour scale."""
    shown = states[:8, channel]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    low, high = shown.min(), shown.max()
    title = f"{name}: {SPECIES[channel]} in {len(shown)} held-out snapshots, {low:.2f} to {high:.2f}"
    with _grid(path, rows, columns, title) as axes:
        for place in axes.flat:
            place.axis("off")
        for place, field in zip(axes.flat, shown, strict=False):
            _picture(place, field, CONCENTRATION, low, high)


def denoised(
    path: Path, clean: np.ndarray, panels: list[tuple[float, np.ndarray, np.ndarray]], channel: int, name: str
) -> None:
    """One snapshot [2, H, W] beside its noised and denoised states, a row for each signal level.

    Args:
        panels: alpha, noised state over sqrt(alpha), and posterior mean, all as concentrations.
    """
    low, high = clean[channel].min(), clean[channel].max()
    with _grid(path, len(panels), 3, f"{name}: {SPECIES[channel]} denoised by the score model") as axes:
        for row, (alpha, noisy, mean) in zip(axes, panels, strict=True):
            error = np.sqrt(((mean[channel] - clean[channel]) ** 2).mean())
            before = np.sqrt(((noisy[channel] - clean[channel]) ** 2).mean())
            _picture(row[0], clean[channel], CONCENTRATION, low, high, "snapshot")
            _picture(row[1], noisy[channel], CONCENTRATION, low, high, f"alpha {alpha:g}: rms noise {before:.3f}")
            _picture(row[2], mean[channel], CONCENTRATION, low, high, f"denoised: rms error {error:.3f}")


def velocities(
    path: Path, states: np.ndarray, fields: dict[str, np.ndarray], cosines: dict[str, float], channel: int, name: str
) -> None:
    """Snapshots beside velocity fields there, each field scaled to the root mean square of the first.

    Args:
        states: concentrations [N, 2, H, W], a row each.
        fields: velocities [N, 2, H, W] by title; the first is the reference.
        cosines: with the true field, by title; said where known.
    """
    reference = next(iter(fields.values()))[:, channel]
    scale = np.sqrt((reference**2).mean())
    limit = 3 * scale
    with _grid(path, len(states), 1 + len(fields), f"{name}: d{SPECIES[channel]}/dt, true and recovered") as axes:
        for i, row in enumerate(axes):
            _picture(row[0], states[i, channel], CONCENTRATION, states[:, channel].min(), states[:, channel].max())
            for place, (title, field) in zip(row[1:], fields.items(), strict=True):
                own = np.sqrt((field[:, channel] ** 2).mean())
                _picture(place, field[i, channel] * scale / max(own, 1e-30), VELOCITY, -limit, limit)
                if i == 0:
                    told = f"\ncosine {cosines[title]:.4f}" if title in cosines else ""
                    place.set_title(f"{title}{told}", fontsize=9)
        axes[0, 0].set_title(f"{SPECIES[channel]}", fontsize=9)


def losses(path: Path, histories: dict[str, list[dict[str, float]]], labels: dict[str, str], name: str) -> None:
    """Training and validation losses over epochs, a panel each.

    Args:
        histories: metrics of each epoch, by training.
        labels: what the validation loss of each training is.
    """
    panels = []
    for kind, history in histories.items():
        for key, label in (("training_loss", "training loss"), ("validation_loss", labels[kind])):
            points = [(h["epoch"], h[key]) for h in history if key in h]
            if points:
                panels.append((kind, label, points))
    with _grid(path, 1, len(panels), f"{name}: losses", width=3.4, height=2.9) as axes:
        for place, (kind, label, points) in zip(axes[0], panels, strict=True):
            place.plot(*zip(*points, strict=True), "o-", markersize=3)
            if all(y > 0 for _, y in points):
                place.set_yscale("log")
            place.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            place.set_xlabel("epoch")
            place.set_title(f"{kind}: {label}", fontsize=8)
            place.grid(alpha=0.3, which="both")
            place.tick_params(labelsize=8, which="both")
