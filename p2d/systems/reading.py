"""Systems as TOML files: the catalogue's and the user's own."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from p2d.errors import UserError, nearest
from p2d.places import place
from p2d.systems.checks import within
from p2d.systems.system import System

CATALOGUE = Path(__file__).parent / "catalogue"


def is_in_catalogue(name: str) -> bool:
    """Whether the catalogue holds a system of this name."""
    return _in_catalogue(name).is_file()


def catalogue() -> dict[str, System]:
    """All systems of the catalogue, by name."""
    return {file.stem: load_system(file.stem) for file in sorted(CATALOGUE.glob("*.toml"))}


def load_system(name: str | Path) -> System:
    """A system by its name in the catalogue, or by the path of its TOML file.

    Raises:
        UserError: no such system (says the nearest), or a file that is none (says the line).
    """
    for file in (_in_catalogue(str(name)), place(name)):
        if file.is_file():
            return _read(file, file.stat().st_mtime_ns)
    known = sorted(f.stem for f in CATALOGUE.glob("*.toml"))
    close = nearest(str(name).replace("-", "_"), known)
    raise UserError(
        f"there is no system {str(name)!r}{close}: give the path of its TOML file, or one of {', '.join(known)}"
    )


def toml_text(system: System) -> str:
    """A system as the text of a TOML file, which is read back as an equal one."""
    values = system.to_dict() | {"limits": system.limits, "presets": system.presets}
    values["start"] = {key: value for key, value in values["start"].items() if value}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    top = {key: value for key, value in values.items() if key not in tables and value not in (None, "")}
    return (
        "\n\n".join(
            "\n".join([*([f"[{name}]"] if name else []), *(f"{_key(k)} = {_written(v)}" for k, v in table.items())])
            for name, table in [("", top), *tables.items()]
            if table
        )
        + "\n"
    )


def _written(value: Any) -> str:
    """A value as TOML writes it; tables within tables on one line."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(k)} = {_written(v)}' for k, v in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(float(value)) if isinstance(value, float) else str(value)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _written(name)


def _in_catalogue(name: str) -> Path:
    return CATALOGUE / f"{name.replace('-', '_')}.toml"


@functools.cache
def _read(file: Path, _: int) -> System:
    try:
        with within(str(file)):
            return System.from_dict(tomllib.loads(file.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is no TOML: {error}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
