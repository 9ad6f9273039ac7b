"""What --help shows: the options of a command in groups, in plain lines, and below them the page of its part of p2d.

tyro reads the command line; its own help knows no groups, and draws boxes.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from p2d.config.base import ARGUMENTS, DATA, MACHINE, MODEL, OUTPUT, TRAINING, Group

WIDEST, LEFT = 100, 26  # columns: of a page, and of the names of options
ORDER = (ARGUMENTS, DATA, MODEL, TRAINING, MACHINE)  # what is in no group of these follows, and OUTPUT is the last
SHORT = re.compile(r" \[(-\w)\]$")  # another name of one letter, at the end of what an option says
FORMS = {int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Option:
    """An option or argument of a command.

    Attributes:
        name: as it is typed, without '--no-'.
        form: of its value, '' of a switch.
        help: what it says.
        default: its usual value; None where there is none, or where it is nothing.
        group: the heading it stands under.
    """

    name: str
    form: str
    help: str
    default: Any
    group: Group

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be typed."""
        before, _, last = self.name.removeprefix("--").rpartition(".")
        return (self.name, f"--{before}{'.' * bool(before)}no-{last}") if self.is_switch else (self.name,)

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return isinstance(self.default, bool)

    @property
    def lines(self) -> list[str]:
        """Of the page."""
        names = f"{', '.join(self.names)}" if self.default is True else f"{self.name} {self.form}".rstrip()
        short = SHORT.search(self.help)
        if short and "." not in self.name and self.group is not ARGUMENTS:
            names = f"{short[1]}, {names}"
        words = f"{SHORT.sub('', self.help) if '.' in self.name or short else self.help}{self._usual()}"
        body = textwrap.wrap(words, _width() - LEFT - 2, break_on_hyphens=False)
        first = f"  {names:<{LEFT - 2}}"
        if len(names) > LEFT - 4:
            return [f"  {names}", *(" " * LEFT + line for line in body)]
        return [first + body[0], *(" " * LEFT + line for line in body[1:])]

    def _usual(self) -> str:
        value = self.default
        if value is None or value in ("", ()) or value is False:
            return ""
        if value is True:
            return " (default: on)"
        values = value if isinstance(value, tuple) else (value,)
        return f" (default: {' '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)})"


def _width() -> int:
    return min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)


def options(form: Any, prefix: str = "", group: Group | None = None) -> Iterator[Option]:
    """The options that tyro reads into a form: a dataclass, and those in it, whose options have a prefix or none."""
    hints = get_type_hints(form, include_extras=True)
    for field in dataclasses.fields(form):
        kind, extras = _parts(hints[field.name])
        told = next((e for e in extras if hasattr(e, "metavar")), tyro.conf.arg())
        if not is_dataclass(kind):
            own = next((e for e in extras if isinstance(e, Group)), getattr(form, "group", DATA))
            yield _option(field, kind, told, prefix, ARGUMENTS if tyro.conf.Positional in extras else group or own)
        elif getattr(told, "name", None) == "":
            yield from options(kind, prefix, group)
        else:
            title = f"{field.name}: {str(kind.__doc__).partition(chr(10))[0]}"
            yield from options(kind, f"{prefix}{field.name}.", Group(title))


def _option(field: dataclasses.Field[Any], kind: Any, told: Any, prefix: str, group: Group) -> Option:
    name = told.name or field.name.replace("_", "-")
    default = None if field.default is dataclasses.MISSING else field.default
    if group is ARGUMENTS:
        return Option(told.metavar or name.upper(), "", told.help or "", default, group)
    form = "" if isinstance(default, bool) else told.metavar or _form(kind)
    return Option(f"--{prefix}{name}", form, told.help or "", default, group)


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what is annotated to it."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        return kind, tuple(extras)
    return hint, ()


def _form(kind: Any) -> str:
    """How a value of a type is written: 'N', 'X ...', 'a | b'."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin is tuple:
        return f"{_form(inner[0])} ..."
    if origin in (Union, UnionType):
        return _form(next(one for one in inner if one is not NoneType))
    return FORMS.get(kind, "TEXT")


def page(program: str, says: str, form: Any, package: str = "") -> str:
    """The help of a command.

    Args:
        says: what it does.
        form: what its options are read into.
        package: of p2d whose docstring stands below them.
    """
    groups: dict[Group, list[str]] = {group: [] for group in ORDER}
    for one in options(form):
        groups.setdefault(one.group, []).extend(one.lines)
    groups[OUTPUT] = groups.pop(OUTPUT, [])
    groups[OUTPUT].append(f"  {'--help':<{LEFT - 2}}this page")
    arguments = " ".join(f"[{one.name}]" for one in options(form) if one.group is ARGUMENTS)
    parts = [f"usage: {program} {arguments} [OPTIONS]".replace("  ", " "), _wrapped(says)]
    parts += ["\n".join([_wrapped(group.title), *lines]) for group, lines in groups.items() if lines]
    if below := docstring(package):
        parts.append(f"{'-' * _width()}\n{below}")
    return "\n\n".join(parts)


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), _width()) for part in text.split("\n\n"))


def docstring(package: str) -> str:
    """The docstring of a package of p2d, which is not imported: that would take seconds."""
    if not package:
        return ""
    file = Path(__file__).parent / package / "__init__.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def command_list(groups: dict[str, dict[str, str]]) -> str:
    """Commands under their headings, each with what it does."""
    parts = []
    for title, commands in groups.items():
        lines = [title] if title else []
        for name, says in commands.items():
            body = textwrap.wrap(" ".join(says.partition("\n\n")[0].split()), _width() - 16)
            lines += [f"  {name:<14}{body[0]}", *(" " * 16 + line for line in body[1:])]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
