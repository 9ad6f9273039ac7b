"""The dataset card: card.json beside the shards says what the data are and how they came about."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from p2d.errors import UNREADABLE, UserError, one_line, refuse_other_types
from p2d.fields import Grid, Scaling, Species
from p2d.observables import Ensemble
from p2d.runs import write_json
from p2d.snapshots import version_2
from p2d.snapshots.shards import Shards
from p2d.systems.system import System

FORMAT = "p2d dataset"
VERSION = 4
SHARD_VERSION = 3  # of the format of the shards
COMMANDS = {"generated": "sample", "denoised": "denoise", "imported": "import"}  # by kind of the origin
PACKAGES = ("p2d", "numpy", "numba", "pyarrow", "torch", "ray")


@dataclass(frozen=True)
class Card:
    """What a reader of the data needs to know.

    Attributes:
        settings: what decides the contents; a rerun must ask for the same.
        species: names, units and ranges, in the order of the states.
        grid: shape, spacing, edges and unit.
        systems: by label, with the step and the burn-in that were taken; none where they are not known.
        conditions: by label, what is known of how the samples were made, by name.
        time_unit: of the times of the samples; '' where they have none, or it is not known.
        scaling: training sees x = (c - shift) / scale of values c; None until the dataset is complete.
        shards: what is known of each.
        dataset_hash: hash of the contents alone, the same for any chunk and number of actors.
        complete: False while the dataset is being written.
        samples, alive, dead_share: snapshots, those whose pattern lives, and the share of those that have died out.
        ensembles: of each system, see observables.Ensemble.
        origin: of a dataset that was not simulated, its kind (see COMMANDS) and what it was made from.
        device, seconds, software: where, in what wall time and with which packages it was made.
        written: version of the format of the shards.
    """

    settings: dict[str, Any]
    species: tuple[Species, ...]
    grid: Grid
    chunk: int
    systems: dict[str, System] = field(default_factory=dict)
    conditions: dict[str, dict[str, float]] = field(default_factory=dict)
    time_unit: str = ""
    scaling: Scaling | None = None
    complete: bool = False
    samples: int = 0
    alive: int = 0
    dead_share: float = 0.0
    ensembles: dict[str, Ensemble] = field(default_factory=dict)
    device: str = ""
    seconds: float = 0.0
    software: dict[str, str] = field(default_factory=dict)
    shards: Shards = field(default_factory=Shards.empty)
    dataset_hash: str = ""
    generator: str = "numpy Philox keyed by (seed, run id)"
    format: str = FORMAT
    version: int = VERSION
    card_hash: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    written: int = SHARD_VERSION

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"p2d {COMMANDS.get(self.origin.get('kind', ''), 'simulate')}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the species."""
        return tuple(species.name for species in self.species)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["species"] = [asdict(species) for species in self.species]
        values["grid"] = self.grid.to_dict()
        values["systems"] = {label: system.to_dict() for label, system in self.systems.items()}
        values["shards"] = self.shards.to_dict()
        values["scaling"] = self.scaling.to_dict() if self.scaling else None
        values["ensembles"] = {label: ensemble.to_dict() for label, ensemble in self.ensembles.items()}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Card:
        """The card of these JSON types.

        Raises:
            UserError, or one of UNREADABLE: they are none.
        """
        scaling = values.get("scaling")
        typed = {
            "shards": Shards.from_dict(values.get("shards", [])),
            "species": tuple(Species(**species) for species in values["species"]),
            "grid": Grid.from_dict(values["grid"]),
            "systems": {label: System.from_dict(system) for label, system in values["systems"].items()},
            "scaling": Scaling.from_dict(scaling) if scaling else None,
            "ensembles": {label: Ensemble.from_dict(e) for label, e in values.get("ensembles", {}).items()},
        }
        card = cls(**{**values, **typed})
        refuse_other_types(card, cls, "card")
        return card


def load_card(folder: Path) -> Card:
    """The card of a dataset's folder; that of version 2 as what it is, of Gray-Scott on a periodic grid of spacing 1.

    Raises:
        UserError: no such folder, no card, one that is damaged, of a foreign format or of another version.
    """
    if not folder.is_dir():
        raise UserError(f"there is no dataset folder {folder}; p2d simulate makes one")
    file = folder / "card.json"
    if not file.is_file():
        raise UserError(f"{folder} holds no card.json, so it is no dataset of p2d; p2d simulate makes one")
    try:
        values = json.loads(file.read_text(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}); simulate the dataset again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{file} is not the card of a {FORMAT}; p2d simulate makes one")
    own = values.get("version")
    if not isinstance(own, int):
        raise UserError(f"{file} is damaged (its version is {own!r}); simulate the dataset again")
    if own > VERSION:
        raise UserError(f"{file} has version {own}, this p2d reads version {VERSION}: update p2d")
    if own < version_2.VERSION:
        raise UserError(
            f"{folder} was written by an earlier p2d (version {own} of the format, now {VERSION}); "
            "simulate it again under another --name"
        )
    try:
        values = version_2.upgraded(values) if own == version_2.VERSION else values
        return Card.from_dict({**values, "version": VERSION})  # that of 3 has other words for its shards alone
    except (*UNREADABLE, UserError) as error:
        raise UserError(f"{file} is damaged ({one_line(error)}); simulate the dataset again") from error


def software() -> dict[str, str]:
    """Versions of what took part in making the data."""
    made = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            made[package] = version(package)
        except ModuleNotFoundError:
            continue
    return made


def write_card(folder: Path, card: Card) -> None:
    """Write card.json of a dataset, with a hash of all that it says."""
    values = card.to_dict()
    write_json(folder / "card.json", {**values, "card_hash": card_hash(values)})


def card_hash(values: dict[str, Any]) -> str:
    """Hash of all that a card of this or the last version says, as JSON types, but this hash."""
    text = json.dumps({**values, "card_hash": ""}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
