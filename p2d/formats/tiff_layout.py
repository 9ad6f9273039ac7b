"""How snapshots lie in a TIFF file: what its axes are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2d.errors import UserError
from p2d.fields import MOST_SPECIES
from p2d.formats.stack import Asked

FRAMES, SPECIES, COLOURS, DEPTH = "T", "C", "S", "Z"
IN_PAGE = "SYX"
SAME = {"H": "Y", "W": "X"}  # letters of one meaning


@dataclass(frozen=True)
class Layout:
    """How the snapshots of a file lie in it.

    Attributes:
        outer: a letter for each axis of pages: T frames of a run, C species; any other counts separate snapshots.
        lengths: of these axes, the first varying slowest.
        page: as it is stored: rows and columns, and colours before or behind them.
        colours: where colours are in a page: '' (none), 'first', 'last'.
        dtype: of the values, in the machine's byte order.
        parts: equal series in the file, such as positions of a microscope.
    """

    outer: str
    lengths: tuple[int, ...]
    page: tuple[int, ...]
    colours: str
    dtype: str
    parts: int = 1

    @property
    def counted(self) -> tuple[int, ...]:
        """The lengths of the axes that count snapshots."""
        return tuple(length for axis, length in zip(self.outer, self.lengths, strict=True) if axis != SPECIES)

    @property
    def snapshots(self) -> int:
        """In a part."""
        return math.prod(self.counted)

    @property
    def species(self) -> int:
        """Pages of a snapshot."""
        return self.lengths[self.outer.index(SPECIES)] if SPECIES in self.outer else 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = {"": self.page, "first": self.page[1:], "last": self.page[:-1]}[self.colours]
        return rows, columns

    @property
    def samples(self) -> int:
        """Values of a pixel of a page."""
        return {"": 1, "first": self.page[0], "last": self.page[-1]}[self.colours]

    def runs_and_frames(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Of each snapshot of all parts its run and which frame of that it is; None without a time axis."""
        if FRAMES not in self.outer:
            return None, None
        time = self.outer.replace(SPECIES, "").index(FRAMES)
        others = [length for axis, length in enumerate(self.counted) if axis != time]
        numbers = np.arange(math.prod(others) * self.parts, dtype=np.int64).reshape(self.parts, *others)
        full = (self.parts, *self.counted)
        runs = np.broadcast_to(np.expand_dims(numbers, time + 1), full).ravel()
        return runs, _along(full, time + 1)

    def page_number(self, snapshot: int, channel: int) -> int:
        """Which page of a part holds a species of a snapshot."""
        index = [int(n) for n in np.unravel_index(snapshot, self.counted)] if self.counted else []
        if SPECIES in self.outer:
            index.insert(self.outer.index(SPECIES), channel)
        return int(np.ravel_multi_index(index, self.lengths)) if index else 0


def _along(shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The index along an axis, of each element."""
    index = np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(len(shape))])
    return np.broadcast_to(index, shape).ravel()


def choose_axes(axes: str, shape: tuple[int, ...], asked: Asked, file: str) -> str:
    """What the axes of a series are, of which those of pages are fixed.

    Args:
        axes: a letter for each, as tifffile tells them.
        shape: their lengths.

    Returns:
        A letter for each: T, C, S, Y, X, or N for one that counts snapshots.

    Raises:
        UserError: a third dimension, axes that cannot be told, or --axes that do not fit.
    """
    told = "".join(SAME.get(letter, letter) for letter in asked.axes.upper())
    fixed = 3 if axes.endswith(COLOURS) else 2  # colours that are planes may also be something else
    if told:
        if len(told) != len(axes) or told[len(axes) - fixed :].replace("C", "S") != axes[len(axes) - fixed :]:
            raise UserError(
                f"--axes {asked.axes} does not fit {file}, whose axes {axes} are {list(shape)}: give a letter for each "
                f"(N snapshots, R runs, T frames, C species), the last {fixed} as they are"
            )
        return told[: len(axes) - fixed] + axes[len(axes) - fixed :]
    if DEPTH in axes:
        planes = shape[axes.index(DEPTH)]
        like = "".join("{}" if axis == DEPTH else axis for axis in axes)
        raise UserError(
            f"{file} has {planes} planes (axes {axes}, {list(shape)}), and p2d knows one or two dimensions: choose one "
            f"plane or project them; if they are no planes but frames of a run, give --axes {like.format('T')}, if "
            f"separate snapshots --axes {like.format('N')}"
        )
    known = "".join(axis if axis in (FRAMES, SPECIES, *IN_PAGE) else "N" for axis in axes)
    return known if SPECIES in known else _with_species(known, shape, asked, file)


def _with_species(axes: str, shape: tuple[int, ...], asked: Asked, file: str) -> str:
    """Axes of which none is named species: which of those that count may be it."""
    counted = [n for n, axis in enumerate(axes) if axis == "N"]
    named = [n for n in counted if len(asked.species) > 1 and shape[n] == len(asked.species)]
    if len(named) == 1:
        return axes[: named[0]] + SPECIES + axes[named[0] + 1 :]
    if len(counted) > 1 and min(shape[n] for n in counted) <= MOST_SPECIES:
        raise UserError(
            f"{file} has axes of {list(shape)}, of which nothing tells which is what: give --axes, such as "
            f"{'NCHW' if len(axes) == 4 else 'RTCHW'}, with a letter for each"
        )
    return axes
