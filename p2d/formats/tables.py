"""Text: a grid of numbers a file, or a table with columns x, y, t and a column for each species."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from p2d.errors import UserError, one_line, refuse_unknown
from p2d.fields import MOST_SPECIES
from p2d.formats.array_stack import stack_arrays
from p2d.formats.axes import LETTER_OF
from p2d.formats.coordinates import Coordinate, with_coordinates
from p2d.formats.sources import Index, Source
from p2d.formats.stack import About, Asked, Stack

MOST_TEXT_BYTES = 2**27
COMMENTS = ("#", "%")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True, eq=False)
class Table:
    """What a text holds.

    Attributes:
        values: a grid [rows, columns]; of a table with coordinates [C, T, H, W] of those that it has.
        names: of the axes, where coordinates or a header tell them.
        species: names of columns that are species.
        coordinates: by name of the axis.
    """

    values: np.ndarray
    names: tuple[str, ...] = ()
    species: tuple[str, ...] = ()
    coordinates: tuple[tuple[str, Coordinate], ...] = ()


@dataclass(frozen=True)
class TextSource(Source):
    """A text file, which is read whole.

    Attributes:
        columns: that are species, where a table has such.
    """

    columns: tuple[str, ...] = ()

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        return _chosen(read_table(self.path, self.size), self.columns)[index]


def open_text(files: list[Path], asked: Asked) -> list[Stack]:
    """Each text file as a stack."""
    return [_stack(path, asked) for path in files]


def _stack(path: Path, asked: Asked) -> Stack:
    size = path.stat().st_size
    if size > MOST_TEXT_BYTES:
        raise UserError(f"{path} has {size} bytes; text is read up to {MOST_TEXT_BYTES}: store it as .npy")
    table = read_table(str(path), size)
    for name in asked.arrays:
        refuse_unknown(f"column of {path}", name, table.species)
    named = asked.species if asked.species and set(asked.species) <= set(table.species) else table.species
    columns = asked.arrays or named
    values = _chosen(table, columns)
    source = TextSource(str(path), size, "", values.shape, values.dtype.str, table.names, None, columns)
    own = replace(asked, axes="") if table.names else asked  # a table says itself which axis is which
    return with_coordinates(stack_arrays([source], own, About(species=columns)), dict(table.coordinates))


def _chosen(table: Table, columns: tuple[str, ...]) -> np.ndarray:
    if not table.species:
        return table.values
    return table.values[[table.species.index(name) for name in columns]]


@lru_cache(maxsize=4)
def read_table(path: str, size: int) -> Table:
    """The table of a text file, of so many bytes.

    Raises:
        UserError: no text, no numbers, lines of different length, or coordinates that make no grid.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text (byte {error.start}): its suffix says that it is") from error
    lines = [line.strip(" \r") for line in text.splitlines()]
    comments = [line for line in lines if line.startswith(COMMENTS)]
    lines = [line for line in lines if line.strip() and not line.startswith(COMMENTS)]
    if not lines:
        raise UserError(f"{path} holds no numbers")
    separator = _separator(lines)
    header = None if _is_row(lines[0], separator) else _split(lines.pop(0), separator)
    numbers = _numbers(path, lines, separator)
    if header is None and comments and len(lines) > 1:  # some write the names in a comment
        names = _split(comments[-1].lstrip("".join(COMMENTS)).strip(), separator)
        header = names if len(names) == numbers.shape[1] and "x" in names else None
    if header is None:
        labelled = len(numbers) > 2 < numbers.shape[1] and (numbers[0] == np.arange(numbers.shape[1])).all()
        return Table(numbers[1:] if labelled else numbers)
    return _with_header(path, header, numbers)


def _separator(lines: list[str]) -> str | None:
    """What stands between numbers; None: white space."""
    if all(DECIMAL_COMMA.fullmatch(part) for part in lines[-1].split()) and " " in lines[-1].strip():
        return None
    return next((sign for sign in (";", "\t", ",") if any(sign in line for line in lines)), None)


def _split(line: str, separator: str | None) -> list[str]:
    return [part.strip(" \"'") for part in line.split(separator)]


def _is_row(line: str, separator: str | None) -> bool:
    try:
        [float(part.replace(",", ".")) for part in _split(line.rstrip("\t,;"), separator)]
    except ValueError:
        return False
    return True


def _numbers(path: str, lines: list[str], separator: str | None) -> np.ndarray:
    """[rows, columns]; a comma is a decimal one where something else separates."""
    lines = [line.rstrip("\t,;") for line in lines] if all(line[-1] in "\t,;" for line in lines) else lines
    text = "\n".join(lines)
    if separator != "," and "," in text:
        text = text.replace(",", ".")
    try:
        return np.loadtxt(io.StringIO(text), delimiter=separator, ndmin=2, comments=None)
    except (ValueError, OverflowError) as error:
        told = re.sub(r"; use `usecols`.*", "", one_line(error))
        raise UserError(f"{path} is no table of numbers: {told}") from error


def _with_header(path: str, header: list[str], numbers: np.ndarray) -> Table:
    if len(header) != numbers.shape[1]:
        raise UserError(f"{path} names {len(header)} columns, and holds {numbers.shape[1]}")
    if header[0] == "" and all(name.isdecimal() for name in header[1:]):
        return Table(numbers[:, 1:])  # row and column numbers, as pandas writes them
    axis = {n: LETTER_OF.get(name.lower(), "C") for n, name in enumerate(header)}
    place = {letter: n for n, letter in axis.items() if letter in "THW"}
    if "Z" in axis.values():
        raise UserError(f"{path} has a column {header[list(axis.values()).index('Z')]}: only planes are read")
    if len(place) < sum(letter in "THW" for letter in axis.values()):
        raise UserError(f"{path} has two columns for one axis ({', '.join(header)}): leave one in")
    columns = [n for n, letter in axis.items() if letter not in "THW" and header[n]]
    if not columns or (not place and len(columns) > MOST_SPECIES):
        raise UserError(
            f"{path} has the columns {', '.join(header[:MOST_SPECIES])}: a table needs x, or x and y, and a column for "
            "each species"
        )
    species = tuple(header[n] for n in columns)
    if not set(place) & {"H", "W"}:
        if "T" in place:
            raise UserError(f"{path} has a column {header[place['T']]} and none for x or y: where are the values?")
        return Table(numbers[:, columns].T, ("species", "x"), species)
    return _pivoted(path, {a: numbers[:, place[a]] for a in "THW" if a in place}, numbers[:, columns], species)


def _pivoted(path: str, at: dict[str, np.ndarray], values: np.ndarray, species: tuple[str, ...]) -> Table:
    """A grid of rows that each say where they are."""
    grid = {letter: np.unique(where) for letter, where in at.items()}
    shape = [len(where) for where in grid.values()]
    order = np.lexsort(list(at.values())[::-1])
    full = len(order) == np.prod(shape)
    mesh = np.meshgrid(*grid.values(), indexing="ij") if full else []
    if not full or any((where[order] != m.reshape(-1)).any() for where, m in zip(at.values(), mesh, strict=True)):
        sizes = " x ".join(map(str, shape))
        raise UserError(f"{path}: {len(order)} rows make no full grid of {sizes} ({', '.join(at)}): each place once")
    name = {"T": "time", "H": "y", "W": "x"}
    coordinates = tuple((name[letter], Coordinate(where)) for letter, where in grid.items())
    names = ("species", *(name[letter] for letter in grid))
    return Table(values[order].T.reshape(-1, *shape), names, species, coordinates)
