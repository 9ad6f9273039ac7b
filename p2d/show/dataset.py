"""A dataset on the screen: its card in words, and a contact sheet of its snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from p2d.evaluate.tables import table_text
from p2d.fields import Grid
from p2d.show.figures import draw_states
from p2d.show.view import View
from p2d.snapshots.card import Card
from p2d.snapshots.store import Dataset
from p2d.snapshots.writing import ensembles_text

COLUMNS, MOST_ROWS, ALL_ROWS = 6, 4, 8  # of pictures; rows of a species, and of all
LINES = 64  # snapshots of one dimension
LISTED = 8  # conditions that are told one by one


def chosen_for_sheet(dataset: Dataset) -> np.ndarray:
    """Ids of the snapshots of a contact sheet, evenly spread over those that live, or over all where none does."""
    ids = dataset.living if len(dataset.living) else dataset.sample_ids
    most = LINES
    if 1 not in dataset.card.grid.shape:
        most = COLUMNS * min(MOST_ROWS, max(1, ALL_ROWS // len(dataset.card.species)))
    count = min(most, len(ids))
    count -= count % COLUMNS if count > COLUMNS else 0  # rows are full
    return ids[np.arange(count) * len(ids) // count]


def draw_contact_sheet(path: Path, states: np.ndarray, view: View, name: str) -> None:
    """Snapshots [N, C, H, W] of the species that are shown, six a row, on one scale a species."""
    draw_states(path, states, view, f"{name}, {len(states)} snapshots", COLUMNS, len(states))


def info_text(dataset: Dataset) -> str:
    """The card of a dataset in words, a line a heading."""
    rows = info_rows(dataset)
    return f"{dataset.folder.name}\n{table_text(rows[0], rows[1:])}"


def info_rows(dataset: Dataset) -> list[tuple[str, str]]:
    """The card of a dataset in words, by heading."""
    card = dataset.card
    return [
        ("made", _made_text(card)),
        ("snapshots", _count_text(dataset)),
        ("species", "; ".join(_species_text(card, s) for s in range(len(card.species)))),
        ("grid", grid_text(card.grid)),
        ("runs", _runs_text(dataset)),
        *_conditions(card),
        *(("ensemble", line) for line in (ensembles_text(card) if card.systems else ())),
        ("hash", card.dataset_hash),
    ]


def _made_text(card: Card) -> str:
    """How it came about."""
    kind = str(card.origin.get("kind", ""))
    if kind == "imported":
        files = int(card.origin.get("files", 0))
        what = f"imported from {files} file{'s' * (files != 1)}"
    elif kind:
        what = f"{kind} from {card.origin.get('source', card.origin.get('dataset', 'another'))}"
    else:
        what = f"simulated on {card.device}"
    packages = ", ".join(f"{name} {version}" for name, version in card.software.items() if name == "p2d")
    return f"{what}, {packages}" if packages else what


def _count_text(dataset: Dataset) -> str:
    card = dataset.card
    dead = card.samples - card.alive
    left_out = f"; {dead} are uniform, and left out" if dead else ""
    shards = len(card.shards)
    rows, columns = card.grid.shape
    size = f"{columns} cells" if rows == 1 else f"{rows} x {columns} cells"
    return f"{card.samples} of {size}, in {shards} shard{'s' * (shards != 1)}{left_out}"


def _species_text(card: Card, s: int) -> str:
    species = card.species[s]
    return f"{species.name} {species.low:.4g} to {species.high:.4g}" + (f" ({species.unit})" if species.unit else "")


def grid_text(grid: Grid) -> str:
    """Spacing, edges and mask: 'spacing 0.65 um; periodic rows, open columns; a mask of 78 % of the cells'."""
    spacing = f"spacing {grid.spacing:g}{f' {grid.unit}' if grid.unit else ''}"
    named = [(edge, name) for edge, name, n in zip(grid.edges, ("rows", "columns"), grid.shape, strict=True) if n > 1]
    edges = f"{named[0][0]} edges" if len({edge for edge, _ in named}) == 1 else ", ".join(map(" ".join, named))
    mask = f"; a mask of {grid.mask.cells.mean():.0%} of the cells" if grid.mask else ""
    return f"{spacing}; {edges}{mask}"


def _runs_text(dataset: Dataset) -> str:
    """Runs, and times where they are known."""
    ids = dataset.sample_ids
    runs, times = np.unique(dataset.runs(ids), return_counts=True)[1], dataset.times(ids)
    each = f"{runs.min()}" if runs.min() == runs.max() else f"{runs.min()} to {runs.max()}"
    text = f"{len(runs)} of {each} snapshot{'' if runs.max() == 1 else 's'} each"
    known = times[np.isfinite(times)]
    if not len(known):
        return f"{text}; no times known"
    unit = f" {dataset.card.time_unit}" if dataset.card.time_unit else ""
    when = f"{known.min():g}{unit}" if known.min() == known.max() else f"{known.min():g} to {known.max():g}{unit}"
    return f"{text}; taken at {when}"


def _conditions(card: Card) -> Iterator[tuple[str, str]]:
    """What is known of how the samples were made: parameters of a system, or named conditions."""
    known = {label: (system.name, system.parameters) for label, system in card.systems.items()}
    known |= {label: ("", values) for label, values in card.conditions.items() if label not in known and values}
    for label, (name, values) in list(known.items())[:LISTED]:
        numbers = ", ".join(f"{key} = {value:g}" for key, value in values.items())
        yield "system" if name else "condition", f"{label}: " + ", ".join(filter(None, (name, numbers)))
    if len(known) > LISTED:
        yield "", f"and {len(known) - LISTED} more"
