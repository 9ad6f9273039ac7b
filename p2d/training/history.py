"""What a training came to, epoch by epoch: read from its checkpoint, printed, and drawn."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2d.places import place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES = ("training_loss", "validation_loss")


@dataclass(frozen=True)
class Epoch:
    """An epoch's number (0: before any training) and its metrics by name, `validation_loss` always among them."""

    number: int
    metrics: dict[str, float]

    @property
    def validation_loss(self) -> float:
        """The one number to judge by."""
        return self.metrics["validation_loss"]

    def to_dict(self) -> dict[str, float]:
        """As JSON, MLflow and Tune have it."""
        return {"epoch": self.number, **self.metrics}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Epoch:
        """The inverse of `to_dict`."""
        return cls(int(values["epoch"]), {name: value for name, value in values.items() if name != "epoch"})


@dataclass(frozen=True)
class History:
    """The epochs of a training, from 0 on. Prints, draws itself, and shows in notebooks."""

    epochs: tuple[Epoch, ...] = ()

    @classmethod
    def load(cls, folder: str | Path) -> History:
        """The history of the checkpoint in this folder."""
        return cls.from_dicts(json.loads((place(folder) / "history.json").read_text()))

    def save(self, folder: Path) -> None:
        """Write it beside the weights."""
        (folder / "history.json").write_text(json.dumps(self.to_dicts(), indent=1) + "\n")

    @classmethod
    def from_dicts(cls, epochs: list[dict[str, Any]]) -> History:
        """The inverse of `to_dicts`."""
        return cls(tuple(map(Epoch.from_dict, epochs)))

    def to_dicts(self) -> list[dict[str, float]]:
        """As JSON has it, and the state that training goes on from."""
        return [epoch.to_dict() for epoch in self.epochs]

    def followed_by(self, epoch: Epoch) -> History:
        """With one more epoch."""
        return History((*self.epochs, epoch))

    @property
    def last(self) -> Epoch:
        """The epoch whose model is kept."""
        return self.epochs[-1]

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return sum(epoch.metrics["seconds"] for epoch in self.epochs)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Number and value of every epoch that has this metric."""
        return [(epoch.number, epoch.metrics[name]) for epoch in self.epochs if name in epoch.metrics]

    def __str__(self) -> str:
        if not self.epochs:
            return "not trained yet"
        fresh, last = self.epochs[0], self.last
        if last is fresh:
            return f"epoch {last.number}: validation loss {last.validation_loss:.4g}"
        lowest = min(self.epochs, key=lambda e: e.validation_loss if math.isfinite(e.validation_loss) else math.inf)
        epochs = f"{last.number} epoch" + "s" * (last.number > 1)
        return (
            f"{epochs}: validation loss {last.validation_loss:.4g}, from {fresh.validation_loss:.4g}\n"
            f"lowest in epoch {lowest.number}: {lowest.validation_loss:.4g}"
        )

    def plot(self, axes: Axes, names: tuple[str, ...] = LOSSES) -> Axes:
        """Draw metrics over epochs, a line each, on a logarithmic scale where all values are positive.

        Args:
            axes: to draw on.
            names: of the metrics; those that no epoch has are left out.

        Returns:
            The same axes.
        """
        from matplotlib.ticker import MaxNLocator

        curves = {name.replace("_", " "): curve for name in names if (curve := self.curve(name))}
        for label, curve in curves.items():
            axes.plot(*zip(*curve, strict=True), "o-", markersize=3, label=label)
        if all(value > 0 for curve in curves.values() for _, value in curve):
            axes.set_yscale("log")
        if len(curves) > 1:
            axes.legend(fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", fontsize=8)
        axes.grid(alpha=0.3, which="both")
        axes.tick_params(labelsize=8, which="both")
        return axes

    def _repr_html_(self) -> str:
        from matplotlib.figure import Figure

        figure, drawn = Figure(figsize=(4, 3), layout="constrained"), io.StringIO()
        self.plot(figure.subplots())
        figure.savefig(drawn, format="svg")
        _, tag, svg = drawn.getvalue().partition("<svg")
        return f"<pre>{self}</pre>{tag}{svg}"
