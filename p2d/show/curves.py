"""Figures of curves, one function each: how a training goes, power spectra, how an ensemble is preserved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2d.evaluate.course import Rollout
from p2d.show.figures import draw_panels
from p2d.show.view import View
from p2d.training.history import History


def draw_losses(path: Path, histories: dict[str, History], labels: dict[str, str], title: str) -> None:
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
    with draw_panels(path, 1, len(panels), f"{title}: losses", width=3.4, height=2.9) as axes:
        for place, (kind, metric, label) in zip(axes[0], panels, strict=True):
            histories[kind].plot(place, (metric,))
            place.set_title(f"{kind}: {label}", fontsize=8)


def draw_training(path: Path, history: History, title: str) -> None:
    """How a training goes: losses, the loss by signal level, gradient norm, learning rate and samples a second."""
    prefix = "training_loss_alpha_"
    levels = {k.removeprefix(prefix): loss for k, loss in history.last.metrics.items() if k.startswith(prefix)}
    curves = ["training_loss", "validation_loss", "gradient_norm", "learning_rate", "samples_per_second"]
    panels = [*curves, "loss by signal level"] if levels else curves
    with draw_panels(path, 1, len(panels), f"{title}: training", width=2.7, height=2.5) as axes:
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


def draw_spectra(path: Path, spectra: dict[str, np.ndarray], view: View, title: str) -> None:
    """Power of each species over wavenumbers, [C, K] with rings of one cycle a hundred cells, a line each."""
    count = len(view.species)
    columns = min(4, count)
    rows = -(-count // columns)
    with draw_panels(path, rows, columns, f"{title}: power spectra", width=3.6, height=2.9) as axes:
        for place in axes.flat[count:]:
            place.axis("off")
        for s, place in zip(range(count), axes.flat, strict=False):
            for label, power in spectra.items():
                wavenumber = np.arange(power.shape[-1]) / (100 * view.step)
                place.semilogy(wavenumber[1:], power[s, 1:], label=label, linewidth=1.2)
            place.set_title(view.label(s), fontsize=9)
            place.set_xlabel(f"cycles / {view.length_unit.removesuffix('s')}", fontsize=8)
            place.grid(alpha=0.3)
            place.tick_params(labelsize=8)
        axes[0, 0].set_ylabel("power", fontsize=8)
        axes[0, 0].legend(fontsize=8)


def draw_preservation(path: Path, rollout: Rollout, title: str) -> None:
    """How far ensembles go from the data over time, beside the floor, and how they lose the memory of their start."""
    with draw_panels(path, 1, 2, f"{title}: does the ensemble stay what it is, and does it move?", 4.2, 3.2) as axes:
        rollout.plot(axes[0])
