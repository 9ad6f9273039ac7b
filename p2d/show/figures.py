"""Figures of a report, one function each: data in, a PNG file out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from p2d.evaluate.course import Rollout
from p2d.training.history import History

SPECIES = ("u", "v")  # where nothing else is said
CELL = 2.1  # inches of a panel
CONCENTRATION, VELOCITY = "viridis", "RdBu_r"
PANELS, FRAMES_A_SECOND = 6, 12  # of a rollout


@contextmanager
def grid(
    path: Path, rows: int, columns: int, title: str, width: float = CELL, height: float = CELL
) -> Iterator[np.ndarray]:
    """Axes [rows, columns] of a figure that is saved when the block ends."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(width * columns + 0.6, height * rows + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=11)
    yield figure.subplots(rows, columns, squeeze=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def colour(name: str, share: float) -> tuple[float, ...]:
    """The colour of a map at a share of its range."""
    return tuple(matplotlib.colormaps[name](share))


def _picture(axes: Axes, field: np.ndarray, colours: str, low: float, high: float, title: str = "") -> None:
    axes.imshow(field, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def snapshots(path: Path, states: np.ndarray, channel: int, name: str, species: tuple[str, ...] = SPECIES) -> None:
    """Up to eight snapshots, concentrations [N, 2, H, W], on one colour scale."""
    count = min(8, len(states))
    contact_sheet(path, states[:count], channel, f"{name}: {species[channel]} in {count} held-out snapshots")


def contact_sheet(path: Path, states: np.ndarray, channel: int, title: str, columns: int = 0) -> None:
    """States [N, 2, H, W] side by side, four to eight a row by default, on one colour scale, which the title tells."""
    shown = states[:, channel]
    columns = columns or min(4 if len(shown) <= 16 else 8, len(shown))
    rows = -(-len(shown) // columns)
    low, high = shown.min(), shown.max()
    with grid(path, rows, columns, f"{title}, {low:.2f} to {high:.2f}") as axes:
        for place in axes.flat:
            place.axis("off")
        for place, field in zip(axes.flat, shown, strict=False):
            _picture(place, field, CONCENTRATION, low, high)


def denoised(
    path: Path,
    clean: np.ndarray,
    panels: list[tuple[float, np.ndarray, np.ndarray]],
    channel: int,
    name: str,
    species: tuple[str, ...] = SPECIES,
) -> None:
    """One snapshot [2, H, W] beside its noised and denoised states, a row for each signal level.

    Args:
        panels: alpha, noised state over sqrt(alpha), and posterior mean, all as concentrations.
    """
    low, high = clean[channel].min(), clean[channel].max()
    with grid(path, len(panels), 3, f"{name}: {species[channel]} denoised by the score model") as axes:
        for row, (alpha, noisy, mean) in zip(axes, panels, strict=True):
            error = np.sqrt(((mean[channel] - clean[channel]) ** 2).mean())
            before = np.sqrt(((noisy[channel] - clean[channel]) ** 2).mean())
            _picture(row[0], clean[channel], CONCENTRATION, low, high, "snapshot")
            _picture(row[1], noisy[channel], CONCENTRATION, low, high, f"alpha {alpha:g}: rms noise {before:.3f}")
            _picture(row[2], mean[channel], CONCENTRATION, low, high, f"denoised: rms error {error:.3f}")


def velocities(
    path: Path,
    states: np.ndarray,
    fields: dict[str, np.ndarray],
    cosines: dict[str, float],
    channel: int,
    name: str,
    species: tuple[str, ...] = SPECIES,
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
    with grid(path, len(states), 1 + len(fields), f"{name}: d{species[channel]}/dt, true and recovered") as axes:
        for i, row in enumerate(axes):
            _picture(row[0], states[i, channel], CONCENTRATION, states[:, channel].min(), states[:, channel].max())
            for place, (title, field) in zip(row[1:], fields.items(), strict=True):
                own = np.sqrt((field[:, channel] ** 2).mean())
                _picture(place, field[i, channel] * scale / max(own, 1e-30), VELOCITY, -limit, limit)
                if i == 0:
                    told = f"\ncosine {cosines[title]:.4f}" if title in cosines else ""
                    place.set_title(f"{title}{told}", fontsize=9)
        axes[0, 0].set_title(species[channel], fontsize=9)


def losses(path: Path, histories: dict[str, History], labels: dict[str, str], name: str) -> None:
    """Training and validation losses over epochs, a panel each.

    Args:
        histories: by training.
        labels: what the validation loss of each training is.
    """
    panels = [
        (kind, metric, label)
        for kind, history in histories.items()
        for metric, label in (("training_loss", "training loss"), ("validation_loss", labels[kind]))
        if history.curve(metric)
    ]
    with grid(path, 1, len(panels), f"{name}: losses", width=3.4, height=2.9) as axes:
        for place, (kind, metric, label) in zip(axes[0], panels, strict=True):
            histories[kind].plot(place, (metric,))
            place.set_title(f"{kind}: {label}", fontsize=8)


def training(path: Path, history: History, name: str) -> None:
    """How a training goes: losses, the loss by signal level, gradient norm, learning rate and samples a second."""
    prefix = "training_loss_alpha_"
    levels = {k.removeprefix(prefix): loss for k, loss in history.last.metrics.items() if k.startswith(prefix)}
    curves = ["training_loss", "validation_loss", "gradient_norm", "learning_rate", "samples_per_second"]
    panels = [*curves, "loss by signal level"] if levels else curves
    with grid(path, 1, len(panels), f"{name}: training", width=2.7, height=2.5) as axes:
        for place, key in zip(axes[0], panels, strict=True):
            if key in curves:
                history.plot(place, (key,))
            else:
                noise = [((1 - float(alpha)) / float(alpha)) ** 0.5 for alpha in levels]
                place.semilogx(noise, list(levels.values()), "o-", markersize=3)
                place.set_xlabel("sigma = ((1 - alpha) / alpha)^(1/2)", fontsize=8)
            if key in ("learning_rate", "samples_per_second"):
                place.set_yscale("linear")
            place.set_title(key.replace("_", " "), fontsize=8)
            place.grid(alpha=0.3, which="both")
            place.tick_params(labelsize=7, which="both")


def spectra(path: Path, found: dict[str, np.ndarray], name: str, species: tuple[str, ...] = SPECIES) -> None:
    """Power of both species over wavenumbers, [2, K] with rings of one cycle a hundred cells, a line each."""
    with grid(path, 1, 2, f"{name}: power spectra", width=3.6, height=2.9) as axes:
        for channel, place in enumerate(axes[0]):
            for label, power in found.items():
                wavenumber = np.arange(power.shape[-1]) / 100
                place.semilogy(wavenumber[1:], power[channel, 1:], label=label, linewidth=1.2)
            place.set_title(species[channel], fontsize=9)
            place.set_xlabel("cycles a cell", fontsize=8)
            place.grid(alpha=0.3)
            place.tick_params(labelsize=8)
        axes[0, 0].legend(fontsize=8)


def strip(
    path: Path,
    times: list[int],
    frames: dict[str, np.ndarray],
    channel: int,
    name: str,
    species: tuple[str, ...] = SPECIES,
) -> None:
    """A rollout as rows of panels, one kind of dynamics each: frames [T, 2, H, W], nan from where one has blown up."""
    chosen = np.unique(np.linspace(0, len(times) - 1, PANELS).round().astype(int))
    low, high = _limits(frames, channel)
    with grid(path, len(frames), len(chosen), f"{name}: {species[channel]} over steps of the simulator") as axes:
        for row, (kind, states) in zip(axes, frames.items(), strict=True):
            row[0].set_ylabel(kind, fontsize=9)
            for place, n in zip(row, chosen, strict=True):
                title = f"{times[n]} steps" if place in axes[0] else ""
                _picture(place, states[n, channel], CONCENTRATION, low, high, title)
                _say_blown_up(place, states[n])


def _limits(frames: dict[str, np.ndarray], channel: int) -> tuple[float, float]:
    """The range of a species in the first frame of all kinds that start alike."""
    starts = next(iter(frames.values()))[:, channel]
    return float(np.nanmin(starts)), float(np.nanmax(starts))


def _say_blown_up(place: Axes, state: np.ndarray) -> None:
    if not np.isfinite(state).all():
        place.text(0.5, 0.5, "blown up", transform=place.transAxes, ha="center", va="center", fontsize=9)


def preservation(path: Path, rollout: Rollout, name: str) -> None:
    """How far ensembles go from the data over time, beside the floor, and how they lose the memory of their start."""
    with grid(path, 1, 2, f"{name}: does the ensemble stay what it is, and does it move?", 4.2, 3.2) as axes:
        rollout.plot(axes[0])


def animation(
    path: Path,
    times: list[int],
    frames: dict[str, np.ndarray],
    channel: int,
    name: str,
    species: tuple[str, ...] = SPECIES,
) -> None:
    """A rollout as a GIF or, by the path's ending, an MP4: the kinds of dynamics side by side."""
    matplotlib.use("Agg")
    low, high = _limits(frames, channel)
    figure = Figure(figsize=(CELL * len(frames) + 0.2, CELL + 0.7), layout="constrained")
    axes = figure.subplots(1, len(frames), squeeze=False)[0]
    writer = FFMpegWriter(FRAMES_A_SECOND) if path.suffix == ".mp4" else PillowWriter(FRAMES_A_SECOND)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writer.saving(figure, str(path), dpi=100):
        for n, time in enumerate(times):
            figure.suptitle(f"{name}: {species[channel]} after {time} steps", fontsize=10)
            for place, (kind, states) in zip(axes, frames.items(), strict=True):
                place.clear()
                _picture(place, states[n, channel], CONCENTRATION, low, high, kind)
                _say_blown_up(place, states[n])
            writer.grab_frame()


def can_animate(kind: str) -> bool:
    """Whether an animation of this kind, 'gif', 'mp4' or 'none', can be written here."""
    return kind != "mp4" or bool(FFMpegWriter.isAvailable())
