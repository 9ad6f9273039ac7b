"""What pictures of fields need to know of them: names and units, lengths, and which species are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2d.errors import UserError, nearest
from p2d.fields import Grid, Species

ALL = "all"


@dataclass(frozen=True)
class View:
    """Which species of which fields are shown.

    Attributes:
        species: of the fields.
        grid: which they are on.
        show: the name of the species that is shown, its place, or 'all'; '' for the second one, or the only one.
        shown: places of those that are shown.

    Raises:
        UserError: a species that is not there (says the nearest).
    """

    species: tuple[Species, ...]
    grid: Grid
    show: str = ""
    shown: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [species.name for species in self.species]
        places = {ALL: range(len(names)), "": (min(1, len(names) - 1),)}
        places |= {str(n): (n,) for n in range(len(names))} | {name: (n,) for n, name in enumerate(names)}
        if self.show not in places:
            told = ", ".join(names)
            raise UserError(f"unknown species {self.show!r} to show{nearest(self.show, names)}; known: {told}, {ALL}")
        object.__setattr__(self, "shown", tuple(places[self.show]))

    @property
    def names(self) -> str:
        """Of those that are shown, as titles have them."""
        return ", ".join(self.species[s].name for s in self.shown)

    def label(self, s: int) -> str:
        """A species with its unit: 'n (kg)'."""
        return _with_unit(self.species[s].name, self.species[s].unit)

    def rate_label(self, s: int) -> str:
        """Its rate of change: 'dn/dt (kg / time)'."""
        unit = self.species[s].unit
        return _with_unit(f"d{self.species[s].name}/dt", unit and f"{unit} / time")

    @property
    def is_line(self) -> bool:
        """Whether the fields have one dimension."""
        return 1 in self.grid.shape

    @property
    def axis(self) -> str:
        """What fields of one dimension run along."""
        return "y" if self.grid.shape[1] == 1 else "x"

    @property
    def length_unit(self) -> str:
        """Of what is told of lengths."""
        return self.grid.unit or "cells"

    @property
    def step(self) -> float:
        """From cell to cell, in that unit."""
        return self.grid.spacing if self.grid.unit else 1.0

    def known(self, values: np.ndarray) -> np.ndarray:
        """Fields [..., H, W] with nan in cells that are no part of them."""
        return values if self.grid.mask is None else np.where(self.grid.mask.cells, values, np.nan)

    def limits(self, values: np.ndarray) -> tuple[float, float]:
        """Lowest and highest of the values of fields [..., H, W] that are finite; apart even where all are the same."""
        values = self.known(values)
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        apart = 0.0 if high > low else 1e-3 * max(abs(low), 1.0)
        return low - apart, high + apart


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
