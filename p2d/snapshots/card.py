"""The dataset card: card.json beside the shards says what the data are and how they came about."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from p2d.config import write_json
from p2d.errors import UserError

FORMAT = "p2d dataset"
VERSION = 1
PACKAGES = ("p2d", "numpy", "numba", "pyarrow", "torch", "ray")


@dataclass(frozen=True)
class Card:
    """What a reader of the data needs to know.

    Attributes:
        settings: what decides the contents; a rerun must ask for the same.
        parameters: for each preset D_u, D_v [cells^2 / time], F, k [1 / time], dt [time].
        grid: rows and columns, spacing 1, periodic.
        affine: training sees x = scale * c + shift of concentrations c.
        shards: name, rows and hash of each.
        dataset_hash: hash of the contents alone, the same for any chunk and number of actors.
        complete: False while the dataset is being written.
    """

    settings: dict[str, Any]
    parameters: dict[str, dict[str, float]]
    grid: tuple[int, int]
    affine: dict[str, float]
    chunk: int
    complete: bool = False
    samples: int = 0
    alive: int = 0
    moments: dict[str, float] = field(default_factory=dict)
    device: str = ""
    seconds: float = 0.0
    software: dict[str, str] = field(default_factory=dict)
    shards: list[dict[str, Any]] = field(default_factory=list)
    dataset_hash: str = ""
    generator: str = "numpy Philox keyed by (seed, sample id)"
    boundary: str = "periodic, grid spacing 1, 5-point Laplacian"
    format: str = FORMAT
    version: int = VERSION


def read_card(text: str, where: str) -> Card:
    """A card from its JSON.

    Raises:
        UserError: text that is no card of this format, or one from a newer version.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}/card.json is not JSON ({error}); simulate the dataset again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{where}/card.json is not the card of a {FORMAT}; p2d simulate makes one")
    there = values.get("version")
    if not isinstance(there, int) or there > VERSION:
        raise UserError(f"{where}/card.json has version {there}, this p2d reads up to {VERSION}: update p2d")
    try:
        return Card(**{**values, "grid": tuple(values["grid"])})
    except (TypeError, KeyError) as error:
        raise UserError(f"{where}/card.json is damaged ({error}); simulate the dataset again") from error


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
    """Write card.json of a dataset."""
    write_json(folder / "card.json", asdict(card))
