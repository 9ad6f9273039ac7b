"""What p2d writes beside values that it exports, so that they can be imported as they were: a JSON text, 'p2d'."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from p2d.errors import UNREADABLE, UserError, one_line
from p2d.fields import Grid, Species
from p2d.formats.stack import About

KEY = "p2d"
FORMAT, VERSION = "p2d export", 1
MOST_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of N snapshots that are exported together.

    Attributes:
        name: of the dataset.
        species: names, units, and lowest and highest value.
        grid: shape, spacing, edges, unit and mask.
        runs: of each snapshot, int64 [N].
        times: of each snapshot, float64 [N], nan where it is not known.
        time_unit: of the times.
        conditions: what is known of how the snapshots were made.
    """

    name: str
    species: tuple[Species, ...]
    grid: Grid
    runs: np.ndarray
    times: np.ndarray
    time_unit: str = ""
    conditions: dict[str, float] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all states: snapshots, species, rows and columns."""
        return (len(self.runs), len(self.species), *self.grid.shape)

    @property
    def has_times(self) -> bool:
        """Whether any is known."""
        return bool(np.isfinite(self.times).any())

    def text(self, **more: Any) -> str:
        """As JSON, without runs and times."""
        values = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "species": [asdict(species) for species in self.species],
            "grid": self.grid.to_dict(),
            "time_unit": self.time_unit,
            "conditions": self.conditions or {},
            **more,
        }
        return json.dumps(values)


def read_own(text: str, where: str) -> dict[str, Any]:
    """The values of such a text.

    Raises:
        UserError: it is none, or of a later version; names where it is.
    """
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has {len(text)} bytes")
        values = json.loads(text)
        if values["format"] != FORMAT or not isinstance(values["version"], int):
            raise ValueError("it is of another format")
    except UNREADABLE as error:
        raise UserError(f"{where}: what p2d noted there is damaged ({one_line(error)}); export it again") from error
    if values["version"] > VERSION:
        raise UserError(f"{where} was exported by a later p2d: update p2d")
    return values


def about_own(values: dict[str, Any], about: About, where: str) -> About:
    """What such values say of snapshots, over what else is known of them.

    Raises:
        UserError: they say nothing that is possible.
    """
    try:
        grid = values["grid"]
        spacing, unit, edges = float(grid["spacing"]), str(grid["unit"]), tuple(map(str, grid["edges"]))
        Grid((1, 1), spacing, edges, unit)  # type: ignore[arg-type]  # refuses what is not possible
        species = tuple(str(one["name"]) for one in values["species"])
        conditions = {str(name): float(value) for name, value in values["conditions"].items()}
        time_unit = str(values["time_unit"])
    except (*UNREADABLE, UserError) as error:
        raise UserError(f"{where}: what p2d noted there is damaged ({one_line(error)}); export it again") from error
    notes = about.notes
    if "mask" in grid:
        notes = (*notes, "cells outside a mask are not a number: --mask nan takes them as masked")
    return replace(
        about,
        species=species,
        spacing=spacing,
        unit=unit,
        edges=edges,  # type: ignore[arg-type]
        time_unit=time_unit,
        conditions=conditions,
        notes=notes,
    )
