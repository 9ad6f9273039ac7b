"""What all settings share: options, checks, JSON, comparison, and the hash of what decides a result.

A field marked `HOW` says how the work is done (workers, chunks, device) and not what comes out; such fields may differ
between two runs of the same name. All others are the identity of a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import tyro

from p2d.errors import UserError, nearest

HOW: dict[str, Any] = {"how": True}
ConfigT = TypeVar("ConfigT", bound="Config")


def option(*short: str, help: str) -> Any:
    """Help text of a field; `short` names the original scripts' forms of the option, which cli.SHORT translates."""
    return tyro.conf.arg(help=f"{help} [{', '.join(short)}]" if short else help)


DatasetName = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="DATASET", help="its name under OUT/data, or its path [-m, --model, --dataset]"),
]


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a setting below its smallest useful value."""
    if not value >= least:
        raise UserError(f"{name} = {value} is not possible: it must be {least} or above")


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside the open interval (low, high)."""
    if not low < value < high:
        raise UserError(f"{name} = {value} is not possible: it must lie between {low} and {high}, ends excluded")


def widths(name: str, values: tuple[int, ...]) -> None:
    """Refuse an empty list of layer widths, or one below 1."""
    if not values or min(values) < 1:
        raise UserError(f"{name} = {values} is not possible: one or more numbers of 1 or above")


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a name that is not known, with the nearest one."""
    if value not in known:
        raise UserError(f"unknown {name} {value!r}{nearest(value, known)}; known: {', '.join(known)}")


@dataclass(frozen=True)
class Config:
    """What all stages share: JSON, comparison, a hash of the settings that decide the result."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls: type[ConfigT], values: dict[str, Any]) -> ConfigT:
        """The config with these values.

        Raises:
            UserError: a key that is not a setting of this stage.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise UserError(f"unknown setting {key!r}{nearest(key, known)} in a {cls.__name__}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out, as JSON types."""
        decisive = {f.name for f in dataclasses.fields(self) if not f.metadata.get("how")}
        return {k: v for k, v in self.to_dict().items() if k in decisive}


def settings_hash(identity: dict[str, Any]) -> str:
    """Ten hex digits that stand for these settings."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]


def refuse_other_settings(what: str, made_with: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise a UserError that names each setting in which `asked` differs from what is on disk."""
    differing = "; ".join(
        f"{key} is {made!r} there, {other!r} was asked" for key, made, other in _differences(made_with, asked)
    )
    if differing:
        raise UserError(f"{what} was made with other settings: {differing}. Take another --name or --out, or remove it")


def _differences(made: dict[str, Any], asked: dict[str, Any], inside: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each setting that differs, nested ones as 'grid.shape'; of tables that others lack, the names alone."""
    for key in sorted(made.keys() | asked.keys()):
        pair = (made.get(key), asked.get(key))
        if pair[0] == pair[1]:
            continue
        tables = [value for value in pair if isinstance(value, dict)]
        if len(tables) < 2:
            made_value, asked_value = (list(value) if isinstance(value, dict) else value for value in pair)
            yield f"{inside}{key}", made_value, asked_value
            continue
        one, other = tables
        if one.keys() != other.keys() and any(isinstance(value, dict) for value in (*one.values(), *other.values())):
            yield f"{inside}{key}", list(one), list(other)
            shared = one.keys() & other.keys()
            one, other = ({k: v for k, v in table.items() if k in shared} for table in tables)
        yield from _differences(one, other, f"{inside}{key}.")
