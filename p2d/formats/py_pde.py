"""What py-pde (Zwicker 2020) notes in its HDF5 files beside the fields: names, grid, and whether edges join."""

from __future__ import annotations

import json
from typing import Any

from p2d.errors import UNREADABLE, UserError
from p2d.fields import Edge
from p2d.formats.stack import About

KEY = "field_attributes"
MOST_BYTES = 2**20
GRIDS = ("CartesianGrid", "UnitGrid")


def about_pde(text: str, where: str) -> About:
    """What such a note says; nothing where it is none.

    Raises:
        UserError: fields on a grid that is not made of squares, such as a radial one.
    """
    try:
        note = json.loads(text[:MOST_BYTES])
        fields = json.loads(note["fields"]) if "fields" in note else [note]
        labels = [json.loads(one["label"]) for one in fields]
        grid = json.loads(fields[0]["grid"])
        kind = grid["class"]
        if kind in GRIDS:
            return _about([str(label or "") for label in labels], grid)
    except UNREADABLE:
        return About()
    raise UserError(f"{where} holds fields on a {kind}: {' and '.join(GRIDS)} are read")


def _about(labels: list[str], grid: dict[str, Any]) -> About:
    shape = [int(size) for size in grid["shape"]]
    bounds = grid.get("bounds", [[0, size] for size in shape])
    steps = [(float(high) - float(low)) / size for (low, high), size in zip(bounds, shape, strict=True)]
    square = max(steps) - min(steps) <= 1e-6 * max(steps)
    notes = () if square else (f"cells are {steps[0]:g} and {steps[1]:g} wide along x and y: give --spacing",)
    edges: tuple[Edge, Edge] | None = ("periodic", "periodic") if all(grid["periodic"]) else None
    return About(tuple(labels) if all(labels) else (), steps[0] if square else 0.0, edges=edges, notes=notes)
