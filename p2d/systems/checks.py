"""What a system must be: names, numbers and tables that fit together; where they do not, one line says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from p2d.errors import UserError, nearest
from p2d.fields import MOST_SPECIES
from p2d.systems import expressions

if TYPE_CHECKING:
    from p2d.systems.system import System

SETTINGS = ("dt", "steps", "spacing", "moves")  # what a preset may say beside parameters
TABLES = ("rates", "parameters", "usual", "limits", "units", "presets")
KINDS = {bool: "true or false", str: "text", dict: "a table"}


def refuse_system(system: System) -> None:
    """Refuse a system whose parts do not fit together.

    Raises:
        UserError: says which part, its value, and the nearest name where one is not known.
    """
    with within(f"system {system.name!r}"):
        for key in TABLES:
            _refuse_other_kind(key, getattr(system, key), dict)
        _refuse_names(system)
        for species, text in system.rates.items():
            if not isinstance(text, str):
                raise UserError(f"the rate of {species} is {text!r}; write it as text, in quotes")
            with within(f"rate of {species}"):
                tree = expressions.parse(text, system.rates, system.parameters)
                expressions.folded(tree, system.rates, system.parameters)
        _refuse_settings(system)
        _refuse_start(system)


@contextmanager
def within(where: str) -> Iterator[None]:
    """Say where a mistake of the block is, in front of it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _refuse_names(system: System) -> None:
    if not system.rates:
        raise UserError("there are no rates; [rates] needs one for each species")
    if len(system.rates) > MOST_SPECIES:
        raise UserError(f"there are {len(system.rates)} species; {MOST_SPECIES} are the most")
    for name in system.rates:
        expressions.refuse_name(name, "species")
    for name, value in (*system.parameters.items(), *system.usual.items()):
        expressions.refuse_name(name, "parameter")
        _refuse_no_number(f"parameter {name}", value)
        if name in system.rates:
            raise UserError(f"{name!r} is both a species and a parameter")
        if name in SETTINGS:
            raise UserError(f"parameter {name!r} has the name of a setting; call it otherwise")


def _refuse_settings(system: System) -> None:
    """Refuse presets, [run], limits and units of what is not declared, or that are none."""
    for name, preset in system.presets.items():
        _refuse_unknown(f"presets.{name}", preset, (*system.parameters, *SETTINGS))
        for key, value in preset.items():
            if key == "moves":
                _refuse_other_kind(f"presets.{name}.moves", value, bool)
            else:
                _refuse_no_number(f"presets.{name}.{key}", value)
    for key, value in vars(system.run).items():
        _refuse_no_number(f"run.{key}", value)
        if value < 0 or (key == "spacing" and value == 0):
            raise UserError(f"run.{key} = {value!r} is not possible: it must be above 0")
    _refuse_unknown("limits", system.limits, system.rates)
    for name, ends in system.limits.items():
        numbers = isinstance(ends, tuple) and len(ends) == 2 and all(map(_is_number, ends))
        if not (numbers and ends[0] < ends[1]):
            raise UserError(f"limits of {name} are {ends!r}; give [lowest, highest]")
    _refuse_unknown("units", system.units, system.rates)
    for name, unit in system.units.items():
        _refuse_other_kind(f"unit of {name}", unit, str)


def _refuse_start(system: System) -> None:
    _refuse_other_kind("start.kind", system.start.kind, str)
    for key, amounts in system.start.tables():
        _refuse_unknown(f"start.{key}", amounts, system.rates)
        for species, amount in amounts.items():
            with within(f"start.{key}.{species}"):
                value = system.value(amount)
            if not math.isfinite(value):
                raise UserError(f"start.{key}.{species} = {amount!r} is no finite number")


def _refuse_unknown(table: str, given: Any, known: Iterable[str]) -> None:
    _refuse_other_kind(table, given, dict)
    for name in given:
        if name not in known:
            raise UserError(f"unknown name {name!r} in [{table}]{nearest(name, known)}; known: {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_no_number(where: str, value: Any) -> None:
    if not (_is_number(value) and math.isfinite(value)):
        raise UserError(f"{where} = {value!r} is no finite number")


def _refuse_other_kind(where: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise UserError(f"{where} is {value!r}; it must be {KINDS[kind]}")
