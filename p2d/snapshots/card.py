"""The dataset card: card.json beside the shards says what the data are and how they came about."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from p2d.errors import UserError
from p2d.runs import write_json

FORMAT = "p2d dataset"
VERSION = 2
ENTRY = {"name", "rows", "alive", "hash"}  # of a shard
UNITS = {
    "D_u": "cells^2 / time",
    "D_v": "cells^2 / time",
    "F": "1 / time",
    "k": "1 / time",
    "dt": "time",
    "state": "concentration, 0 to 1",
}
PACKAGES = ("p2d", "numpy", "numba", "pyarrow", "torch", "ray")


@dataclass(frozen=True)
class Card:
    """What a reader of the data needs to know.

    Attributes:
        settings: what decides the contents; a rerun must ask for the same.
        parameters: of each system, by label; see `units`.
        grid: rows and columns, spacing 1, periodic.
        burn_in: Euler steps from the initial state to the first snapshot of a run.
        affine: training sees x = scale * c + shift of concentrations c.
        shards: name, rows and hash of each.
        dataset_hash: hash of the contents alone, the same for any chunk and number of actors.
        complete: False while the dataset is being written.
        samples, alive, dead_share: snapshots, those whose pattern lives, and the share of those that have died out.
        ensembles: of each system, over its living samples: their number, mean and standard deviation of u and v, and
            whether averages still change late in the burn-in (dynamics/ensemble.py).
        origin: of a dataset that was not simulated, its kind ('generated', 'denoised') and what it was made from.
        device, seconds, software: where, in what wall time and with which packages it was made.
    """

    settings: dict[str, Any]
    parameters: dict[str, dict[str, float]]
    grid: tuple[int, int]
    burn_in: int
    affine: dict[str, float]
    chunk: int
    complete: bool = False
    samples: int = 0
    alive: int = 0
    dead_share: float = 0.0
    ensembles: dict[str, dict[str, Any]] = field(default_factory=dict)
    device: str = ""
    seconds: float = 0.0
    software: dict[str, str] = field(default_factory=dict)
    shards: list[dict[str, Any]] = field(default_factory=list)
    dataset_hash: str = ""
    units: dict[str, str] = field(default_factory=lambda: dict(UNITS))
    generator: str = "numpy Philox keyed by (seed, run id)"
    boundary: str = "periodic, grid spacing 1, 5-point Laplacian"
    format: str = FORMAT
    version: int = VERSION
    card_hash: str = ""
    origin: dict[str, Any] = field(default_factory=dict)


def read_card(text: str, where: str) -> Card:
    """A card from its JSON.

    Raises:
        UserError: text that is no card of this format, or one from another version.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}/card.json is not JSON ({error}); simulate the dataset again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{where}/card.json is not the card of a {FORMAT}; p2d simulate makes one")
    there = values.get("version")
    if not isinstance(there, int):
        raise UserError(f"{where}/card.json is damaged (its version is {there!r}); simulate the dataset again")
    if there > VERSION:
        raise UserError(f"{where}/card.json has version {there}, this p2d reads version {VERSION}: update p2d")
    if there < VERSION:
        raise UserError(
            f"{where} was written by an earlier p2d (version {there} of the format, now {VERSION}); "
            "simulate it again under another --name"
        )
    if not all(entry.keys() >= ENTRY for entry in values.get("shards", [])):
        raise UserError(f"{where}/card.json is damaged (a shard without its hash); simulate the dataset again")
    try:
        return Card(**{**values, "grid": tuple(values["grid"])})
    except (TypeError, KeyError) as error:
        raise UserError(f"{where}/card.json is damaged ({error}); simulate the dataset again") from error


def load_card(folder: Path) -> Card:
    """The card of a dataset's folder.

    Raises:
        UserError: no such folder, no card, a foreign format or another version.
    """
    if not folder.is_dir():
        raise UserError(f"there is no dataset folder {folder}; p2d simulate makes one")
    file = folder / "card.json"
    if not file.is_file():
        raise UserError(f"{folder} holds no card.json, so it is no dataset of p2d; p2d simulate makes one")
    return read_card(file.read_text(errors="replace"), str(folder))


def dataset_hash(digests: list[bytes]) -> str:
    """One hash of all rows, from their digests in the order of sample ids."""
    return hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()


def software() -> dict[str, str]:
    """Versions of what took part in making the data."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return found


def write_card(folder: Path, card: Card) -> None:
    """Write card.json of a dataset, with a hash of all that it says."""
    write_json(folder / "card.json", _said(replace(card, card_hash=card_hash(card))))


def _said(card: Card) -> dict[str, Any]:
    """A card as JSON types; a simulated dataset's says nothing of an origin, as it did before there were others."""
    return {key: value for key, value in asdict(card).items() if value or key != "origin"}


def card_hash(card: Card) -> str:
    """Hash of all that a card says but this hash."""
    said = json.dumps(_said(replace(card, card_hash="")), sort_keys=True)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
