"""Stacks of snapshots in arrays: one array for all species, or one for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from string import ascii_lowercase

import numpy as np

from p2d.errors import UserError
from p2d.fields import MOST_SPECIES
from p2d.formats.axes import SNAPSHOTS, tell_axes
from p2d.formats.sources import MOST_SNAPSHOT_BYTES, MOST_SNAPSHOTS, Index, Source, bits_of, refuse_type
from p2d.formats.stack import About, Asked, Stack


def name_species(count: int, asked: Asked, names: Sequence[str], where: str, axes: str = "") -> tuple[str, ...]:
    """Names of so many species: the user's, else the file's, else u, or u and v.

    Args:
        axes: letters that were given or told, for the user.

    Raises:
        UserError: another number of names than of species, too many, or none where they are needed.
    """
    holds = f"{where} holds {count} species" + (f", taken as {axes} (else give --axes)" if axes else "")
    if count > MOST_SPECIES:
        raise UserError(f"{holds}; up to {MOST_SPECIES} are read: choose some")
    if asked.species and len(asked.species) != count:
        raise UserError(f"{holds}, and {len(asked.species)} named ({' '.join(asked.species)}): give one name for each")
    if asked.species:
        return asked.species
    if len(names) == count:
        return tuple(names)
    if count > 2:
        raise UserError(f"{holds}: name them, such as --species {' '.join(ascii_lowercase[:count])}")
    return ("u", "v")[:count]


def chosen(text: str, size: int, option: str) -> range:
    """The numbers that 'start:stop:step' (or one number) takes of so many.

    Raises:
        UserError: not of this form, or none.
    """
    parts = text.split(":") if text else ["", ""]
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if (
        not 1 <= len(numbers) <= 3
        or numbers == [None]
        or (len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1)
    ):
        raise UserError(f"{option} {text}: it must be start:stop:step with a step of 1 or more, such as 0:10 or ::5")
    if len(numbers) == 1:
        one = int(numbers[0] or 0)
        picked = range(size)[one : one + 1 or None]
    else:
        picked = range(size)[slice(*numbers)]
    if not picked:
        raise UserError(f"{option} {text} takes none of the {size} that there are (0 to {size - 1})")
    return picked


def pieces(shape: tuple[int, ...], first: int, last: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Positions first to last of an array in C order as boxes: a start and a stop for each axis, in order."""
    if first >= last:
        return
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    (start, ahead), (stop, behind) = divmod(first, inner), divmod(last, inner)
    if start == stop:
        yield from (((start, start + 1), *box) for box in pieces(shape[1:], ahead, behind))
        return
    if ahead:
        yield from (((start, start + 1), *box) for box in pieces(shape[1:], ahead, inner))
        start += 1
    if stop > start:
        yield ((start, stop), *((0, size) for size in shape[1:]))
    yield from (((stop, stop + 1), *box) for box in pieces(shape[1:], 0, behind))


@dataclass(frozen=True, eq=False)
class ArrayStack(Stack):
    """Snapshots in arrays: one array for all species, or one for each.

    Attributes:
        sources: the arrays.
        letters: for each axis of an array, see axes.py.
        picked: of each axis of snapshots that there is, in the order of SNAPSHOTS, the positions that are taken.
    """

    sources: tuple[Source, ...] = ()
    letters: str = ""
    picked: tuple[range, ...] = field(default_factory=tuple)

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack."""
        if not 0 <= first <= last <= self.count:
            raise IndexError(f"rows {first} to {last} of {self.count}")
        parts = [self._of(source, first, last) for source in self.sources]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _of(self, source: Source, first: int, last: int) -> np.ndarray:
        species = 1 if len(self.sources) > 1 else self.shape[0]
        dtype = np.dtype(self.dtype)
        boxes = list(pieces(tuple(map(len, self.picked)), first, last))
        if len(boxes) == 1:
            return np.ascontiguousarray(self._arranged(source.get(self._index(boxes[0]))), dtype)
        values = np.empty((last - first, species, *self.shape[1:]), dtype)
        row = 0
        for box in boxes:
            part = self._arranged(source.get(self._index(box)))
            values[row : row + len(part)] = part
            row += len(part)
        return values

    @cached_property
    def _axes(self) -> tuple[str, ...]:
        return tuple(letter for letter in SNAPSHOTS if letter in self.letters)

    def _index(self, box: tuple[tuple[int, int], ...]) -> Index:
        index = dict.fromkeys("CHW-", slice(None))
        for letter, taken, (start, stop) in zip(self._axes, self.picked, box, strict=True):
            some = taken[start:stop]
            index[letter] = slice(some[0], some[-1] + 1, taken.step)
        return tuple(index[letter] for letter in self.letters)

    def _arranged(self, part: np.ndarray) -> np.ndarray:
        """[n, C, H, W] of part of an array."""
        kept = [n for n, letter in enumerate(self.letters) if letter != "-"]
        part = part.reshape([part.shape[n] for n in kept])
        letters = [self.letters[n] for n in kept]
        order = [letters.index(letter) for letter in (*self._axes, *"CHW") if letter in letters]
        return part.transpose(order).reshape(-1, self.shape[0] if "C" in letters else 1, *self.shape[1:])

    def name_of(self, row: int) -> str:
        """See Stack."""
        at = np.unravel_index(row, tuple(map(len, self.picked))) if self.picked else ()
        place = {letter: taken[int(n)] for letter, taken, n in zip(self._axes, self.picked, at, strict=True)}
        where = self.sources[0].where
        numbers = ", ".join(str(place[letter]) for letter in self.letters if letter in place)
        return f"{where}[{numbers}]" if numbers else where

    def times_of_frames(self, times: np.ndarray) -> np.ndarray:
        """The time of each row, of those of each position of the axis T, [T] or [R, T]."""
        lengths = [len(taken) for taken in self.picked]
        frames = list(self.picked[-1])
        times = times[frames] if times.ndim == 1 else times[list(self.picked[0])][:, frames]
        return np.broadcast_to(times.astype(float), lengths).reshape(-1).copy()

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        return tuple(dict.fromkeys(source.path for source in self.sources))


def stack_arrays(sources: Sequence[Source], asked: Asked, about: About | None = None) -> ArrayStack:
    """A stack of one array with all species, or of one array for each.

    Args:
        about: what the file says; species and bits are filled in.

    Raises:
        UserError: values that are not real numbers, arrays of different shapes, axes that cannot be told, a wrong
            number of names, more than fits.
    """
    one, where = sources[0], sources[0].where
    for source in sources:
        refuse_type(np.dtype(source.dtype), source.where)
        if source.shape != one.shape:
            raise UserError(
                f"{source.where} has shape {source.shape}, and {where} {one.shape}: species must be of one shape"
            )
    if 0 in one.shape:
        raise UserError(f"{where} has shape {one.shape}: there is nothing in it")
    letters = tell_axes(one.shape, where, asked.axes, 1 if len(sources) > 1 else len(asked.species), one.names)
    size = dict(zip(letters, one.shape, strict=True))
    if len(sources) > 1 and size.get("C", 1) > 1:
        raise UserError(f"{where} holds {size['C']} species (axis C), and each array is to be one: give one of them")
    shape = (len(sources) if len(sources) > 1 else size.get("C", 1), size.get("H", 1), size["W"])
    about = about or About()
    species = name_species(shape[0], asked, about.species, where, letters)
    picked = _picked(size, asked, where)
    dtype = np.result_type(*(np.dtype(source.dtype).newbyteorder("=") for source in sources))
    count = math.prod(map(len, picked))
    _refuse_size(count, math.prod(shape) * dtype.itemsize, where)
    axes = [letter for letter in SNAPSHOTS if letter in size]
    bits = max(bits_of(np.dtype(s.packing.stored if s.packing else s.dtype)) for s in sources)
    return ArrayStack(
        count,
        shape,
        dtype.name,
        replace(about, species=species, bits=about.bits or bits),
        _runs(axes, picked),
        None,
        tuple(sources),
        letters,
        picked,
    )


def _picked(size: dict[str, int], asked: Asked, where: str) -> tuple[range, ...]:
    of_runs = "R" if "R" in size else "N"
    for text, letter, option in ((asked.trajectories, of_runs, "--trajectories"), (asked.times, "T", "--times")):
        if text and letter not in size:
            what = "runs (R) or snapshots (N)" if letter == "N" else "frames (T)"
            raise UserError(f"{option} {text}: {where} has no axis of {what} to choose from")
    asks = {of_runs: (asked.trajectories, "--trajectories"), "T": (asked.times, "--times")}
    return tuple(chosen(asks.get(a, ("", ""))[0], size[a], asks.get(a, ("", ""))[1]) for a in SNAPSHOTS if a in size)


def _refuse_size(count: int, snapshot_bytes: int, where: str) -> None:
    if snapshot_bytes > MOST_SNAPSHOT_BYTES:
        raise UserError(
            f"one snapshot of {where} takes {snapshot_bytes / 2**20:.0f} MiB; up to "
            f"{MOST_SNAPSHOT_BYTES // 2**20} MiB are read: are the axes right?"
        )
    if count > MOST_SNAPSHOTS:
        raise UserError(f"{where} holds {count} snapshots; up to {MOST_SNAPSHOTS} are read: are the axes right?")


def _runs(axes: Sequence[str], picked: tuple[range, ...]) -> np.ndarray | None:
    """The run of each row: the innermost of several axes counts snapshots of a run; frames are always of one."""
    if "T" not in axes and len(axes) < 2:
        return None
    inner = len(picked[-1])
    return np.arange(math.prod(map(len, picked))) // inner


@dataclass(frozen=True, eq=False)
class JoinedStack(Stack):
    """Snapshots whose species are in files of their own.

    Attributes:
        parts: a stack of one species each, of the same snapshots in the same order.
    """

    parts: tuple[Stack, ...] = ()

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack."""
        return np.concatenate([part.read(first, last) for part in self.parts], axis=1)

    def name_of(self, row: int) -> str:
        """See Stack."""
        return self.parts[0].name_of(row)

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        return tuple(name for part in self.parts for name in part.files)


def join_species(parts: Sequence[Stack]) -> JoinedStack:
    """Stacks of one species each as one of all.

    Raises:
        UserError: they are not of the same number and size, or of several species.
    """
    one = parts[0]
    for part in parts:
        if (part.count, part.shape) != (one.count, one.shape) or part.shape[0] != 1:
            raise UserError(
                f"{part.files[0]} holds {part.count} snapshots of {part.shape}, and {one.files[0]} {one.count} of "
                f"{one.shape}: files of one species each must be alike"
            )
    names = tuple(name for part in parts for name in part.about.species)
    shape = (len(parts), *one.shape[1:])
    dtype = np.result_type(*(part.dtype for part in parts)).name
    about = replace(one.about, species=names, bits=max(part.about.bits for part in parts))
    return JoinedStack(one.count, shape, dtype, about, one.runs, one.times, tuple(parts))
