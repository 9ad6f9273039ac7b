"""What all settings share: options, checks, JSON, comparison, and the hash of what decides a result.

A field marked `HOW` says how the work is done (workers, chunks, device) and not what comes out; such fields may differ
between two runs of the same name. All others are the identity of a result.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from p2d.errors import UserError, nearest, refuse_other_types, refuse_unknown

HOW: dict[str, Any] = {"how": True}
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ConfigT = TypeVar("ConfigT", bound="Config")


def option(*short: str, help: str) -> Any:
    """Help text of a field; `short` names the original scripts' forms of the option, which cli.SHORT translates."""
    return tyro.conf.arg(help=f"{help} [{', '.join(short)}]" if short else help)


@dataclass(frozen=True)
class Group:
    """A heading of --help that an option stands under: a part of its annotation, or `group` of its config."""

    title: str


ARGUMENTS, DATA, MODEL, TRAINING, MACHINE, OUTPUT = map(
    Group, ("arguments", "data", "model", "training", "machine", "output")
)
DatasetName = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="DATASET", help="its name under OUT/data, or its path [-m, --model, --dataset]"),
]


Show = Annotated[
    str,
    OUTPUT,
    option("--plot-channel 0 | 1", help="species in pictures, or all; the second one, or the only one, when empty"),
]


@dataclass(frozen=True)
class Check:
    """What a setting must be, beside its type; a part of its annotation.

    Attributes:
        holds: of a value that is possible.
        must: what it must be, in words.
        each: of a tuple, whether each of its values is checked.
    """

    holds: Callable[[Any], bool]
    must: str
    each: bool = False

    def refuse(self, name: str, value: Any) -> None:
        """Refuse a setting that is not possible."""
        for one in value if self.each else (value,):
            if not self.holds(one):
                raise UserError(f"{name} = {one} is not possible: {self.must}")


def least(smallest: float, each: bool = False) -> Check:
    """A number that has a smallest useful value."""
    return Check(lambda value: value >= smallest, f"it must be {smallest} or above", each)


def between(low: float, high: float, each: bool = False) -> Check:
    """A number of the open interval (low, high)."""
    return Check(lambda value: low < value < high, f"it must lie between {low} and {high}, ends excluded", each)


WIDTHS = Check(lambda widths: bool(widths) and min(widths) >= 1, "one or more numbers of 1 or above")
SIGMAS = Check(lambda sigma: math.isfinite(sigma) and sigma >= 0, "finite numbers, 0 or above", each=True)
FINITE = Check(lambda value: math.isfinite(value) and value >= 0, "a finite number, 0 or above")


def at_least(name: str, value: float, smallest: float) -> None:
    """Refuse a setting below its smallest useful value."""
    least(smallest).refuse(name, value)


def of_each(name: str, values: tuple[float, ...], species: int) -> tuple[float, ...]:
    """A setting of each of C species, which is given for all of them or for each.

    Raises:
        UserError: for another number of species.
    """
    if len(values) not in (1, species):
        told = " ".join(f"{value:g}" for value in values)
        raise UserError(f"{name} = {told} is not possible: give one for all {species} species, or one for each")
    return values * species if len(values) == 1 else values


def quantity(name: str, text: str, units: Mapping[str, Sequence[str]] | None, such: str) -> tuple[float, str]:
    """A number and its unit, which may be left out.

    Args:
        units: those that are known, each with other words for it; None: any.
        such: an example.

    Raises:
        UserError: another form, or an unknown unit (with the nearest one).
    """
    number = re.fullmatch(rf"\s*({NUMBER})\s*([^\W\d_]*)\s*", text)
    if number is None:
        raise UserError(f"{name} = {text} is not possible: a number with or without a unit, such as {such}")
    value, unit = float(number[1]), number[2]
    if units is None or not unit:
        return value, unit
    own = {word: known for known, others in units.items() for word in (known, *others)}
    if unit not in own:
        known = ", ".join(units)
        raise UserError(f"unknown unit {unit!r} of {name} = {text}{nearest(unit, own)}; known: {known}, or none")
    return value, own[unit]


@dataclass(frozen=True)
class Config:
    """What all stages share: JSON, comparison, a hash of the settings that decide the result.

    Raises:
        UserError: on construction, of a value that is none of its Literal, or that a Check of its annotation refuses.
    """

    group: ClassVar[Group] = DATA  # of its options, in --help

    def __post_init__(self) -> None:
        own: Any = type(self)
        for name, (kind, *extras) in _annotated(own).items():
            if get_origin(kind) is Literal:
                refuse_unknown(name, getattr(self, name), get_args(kind))
            for check in extras:
                if isinstance(check, Check):
                    check.refuse(name, getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls: type[ConfigT], values: dict[str, Any]) -> ConfigT:
        """The config with these values.

        Raises:
            UserError: a key that is not a setting of this stage, or a value that is not of its type.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise UserError(f"unknown setting {key!r}{nearest(key, known)} in a {cls.__name__}")
        made = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for key, kind in get_type_hints(cls).items():
            if key in made and get_origin(kind) is not Literal:  # whose mistakes are told with the nearest one
                refuse_other_types(made[key], kind, key)
        return cls(**made)

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out, as JSON types."""
        decisive = {f.name for f in dataclasses.fields(self) if not f.metadata.get("how")}
        return {k: v for k, v in self.to_dict().items() if k in decisive}


@functools.cache
def _annotated(config: Any) -> dict[str, tuple[Any, ...]]:
    """The type and the annotations of each field of a config that has some."""
    hints = get_type_hints(config, include_extras=True)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}


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


def values_set(texts: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """The numbers of --set by name: F=0.014,0.018.

    Raises:
        UserError: text that is no such, or a name that is set twice.
    """
    given: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if name in given:
            raise UserError(f"{name} is set twice; give all its values together, as {name}=1,2")
        try:
            given[name] = tuple(float(value) for value in values.split(",")) if equals else ()
        except ValueError:
            given[name] = ()
        if not given[name] or not all(map(math.isfinite, given[name])):
            raise UserError(f"--set {text} is not possible: it must be NAME=NUMBER, or NAME=NUMBER,NUMBER")
    return given
