"""Files that hold several arrays by name: which of them are species, which are coordinates, which are conditions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from p2d.errors import UserError, nearest
from p2d.fields import MOST_SPECIES
from p2d.formats.array_stack import ArrayStack, stack_arrays
from p2d.formats.axes import LETTER_OF
from p2d.formats.choosing import choose_rows
from p2d.formats.coordinates import MOST_COORDINATES, Coordinate, with_coordinates, with_names
from p2d.formats.own import about_own, read_own
from p2d.formats.sources import Index, Source, is_numeric, natural
from p2d.formats.stack import About, Asked, Stack

MOST_NAMES = 12  # listed for the user


@dataclass(frozen=True)
class Container:
    """A file with arrays.

    Attributes:
        where: it is, for the user.
        arrays: by name.
        units: of arrays that have one.
        about: what the file itself says.
        own: the text that p2d wrote into it, see own.py; '' in files of others.
    """

    where: str
    arrays: dict[str, Source]
    units: dict[str, str] = field(default_factory=dict)
    about: About = field(default_factory=About)
    own: str = ""

    def stack(self, asked: Asked) -> ArrayStack:
        """The stack of the arrays that are asked for, or of the only ones that can be meant."""
        if self.own and not asked.arrays:
            return self._exported(asked)
        chosen = self.choose(asked)
        coordinates = self.coordinates()
        if any(LETTER_OF.get(own_name(s.name).lower()) == "R" and s.shape for s in self.arrays.values()):
            # Times of several runs beside each other are no axis.
            coordinates = {
                n: c for n, c in coordinates.items() if LETTER_OF[n.lower()] != "T" or (np.diff(c.values) > 0).all()
            }
        chosen = [with_names(source, coordinates) for source in chosen]
        names = tuple(map(own_name, (source.name for source in chosen))) if len(chosen) > 1 else ()
        conditions = self._conditions() | self.about.conditions
        about = replace(self.about, species=self.about.species or names, conditions=conditions)
        stack = with_coordinates(stack_arrays(chosen, asked, about), coordinates)
        return self._with_runs(self._with_conditions(stack))

    def _exported(self, asked: Asked) -> ArrayStack:
        """The stack of arrays that p2d exported.

        Raises:
            UserError: arrays that are not there, or do not belong together.
        """
        about = about_own(read_own(self.own, self.where), self.about, self.where)
        if not self.arrays.keys() >= {"states", "runs", "times"}:
            raise UserError(f"{self.where} lacks states, runs or times, which p2d exports together{self._listed()}")
        own = replace(asked, axes="NCHW", trajectories="", times="")
        stack = stack_arrays([self.arrays["states"]], own, about)
        runs, times = (_all_of(self.arrays[name]).reshape(-1) for name in ("runs", "times"))
        if not len(runs) == len(times) == self.arrays["states"].shape[0]:
            raise UserError(f"{self.where} holds {len(runs)} runs and {len(times)} times for other states")
        numbers = np.unique(runs, return_inverse=True)[1].astype(np.int64)
        known = np.isfinite(times).any()
        return replace(stack, runs=numbers, times=times.astype(float) if known else None)

    def choose(self, asked: Asked) -> list[Source]:
        """The arrays that are the species.

        Raises:
            UserError: a name that is not there, none that could be meant, or several.
        """
        if asked.arrays:
            return [self._called(name) for name in asked.arrays]
        fields = self._fields()
        by_name = {own_name(s.name).lower(): s for s in fields}
        species = [name.lower() for name in asked.species] or ["u", "v"]
        told = bool(asked.species) or set(by_name) == {"u", "v"}
        if told and len(by_name) == len(fields) > 1 and set(species) <= set(by_name):
            return [by_name[name] for name in species]
        if len(fields) == 1:
            return fields
        if not fields:
            raise UserError(f"{self.where} holds no array of numbers with two axes or more{self._listed()}")
        alike = [s.name for s in fields if s.shape == fields[0].shape]
        raise UserError(
            f"{self.where} holds several arrays{self._listed()}: say which are the species, "
            f"such as --arrays {' '.join(alike[:2])}"
        )

    def coordinates(self) -> dict[str, Coordinate]:
        """Those of axes, by the name of the axis."""
        named = [s for s in self.arrays.values() if is_coordinate(s) and s.shape]
        small = [s for s in named if _length(s) == np.prod(s.shape) and _length(s) <= MOST_COORDINATES]
        return {
            own_name(s.name): Coordinate(_all_of(s).reshape(-1).astype(float), self.units.get(s.name, ""))
            for s in small
        }

    def _fields(self) -> list[Source]:
        """Arrays that may be species. Many of one shape whose names differ in numbers are snapshots of one."""
        long = [s for s in self.arrays.values() if sum(size != 1 for size in s.shape) > 1]
        fields = [s for s in long if np.dtype(s.dtype).kind in "fiubc"]
        most = max((len(s.shape) for s in fields if not is_coordinate(s)), default=0)
        fields = [s for s in fields if not (is_coordinate(s) and len(s.shape) < most)]  # X and Y of a mesh
        alike: dict[tuple[str, tuple[int, ...]], list[Source]] = {}
        for source in fields:
            alike.setdefault((re.sub(r"\d+", "*", source.name), source.shape), []).append(source)
        return [
            one
            for (name, _), some in alike.items()
            for one in ([series_of(name, some)] if len(some) > MOST_SPECIES else some)
        ]

    def _called(self, name: str) -> Source:
        if name in self.arrays:
            return self.arrays[name]
        short = [s for s in (*self._fields(), *self.arrays.values()) if name in (s.name, own_name(s.name))]
        if short and (len(short) == 1 or isinstance(short[0], SeriesSource) or short[0] is short[1]):
            return short[0]
        raise UserError(f"{self.where} has no array {name!r}{nearest(name, self.arrays)}{self._listed()}")

    def _conditions(self) -> dict[str, float]:
        single = [s for s in self.arrays.values() if np.prod(s.shape) == 1 and is_numeric(np.dtype(s.dtype))]
        names = Counter(own_name(s.name) for s in single)  # what several groups have is no condition of all
        single = [s for s in single if names[own_name(s.name)] == 1 and not is_coordinate(s)]
        values = {own_name(s.name): float(_all_of(s).reshape(-1)[0]) for s in single[:MOST_NAMES]}
        return {name: value for name, value in values.items() if name.isidentifier() and np.isfinite(value)}

    def _with_conditions(self, stack: ArrayStack) -> ArrayStack:
        """With those of the runs, or of the snapshots without runs, that are the same for all that are taken."""
        size = dict(zip(stack.letters, stack.sources[0].shape, strict=True))
        letter = "R" if "R" in size else "N"
        if letter not in size or size[letter] == 1:
            return stack
        taken = list(stack.picked[0])
        values = {
            own_name(s.name): _all_of(s).reshape(-1)[taken].astype(float)
            for s in self.arrays.values()
            if np.prod(s.shape) == size[letter] and is_numeric(np.dtype(s.dtype)) and not is_label(s)
        }
        same = {name: float(v[0]) for name, v in values.items() if np.isfinite(v[0]) and (v == v[0]).all()}
        notes = stack.about.notes
        if varied := [name for name in values if name not in same]:
            notes = (
                *notes,
                f"{', '.join(varied[:MOST_NAMES])} differ from snapshot to snapshot: they are conditions only where "
                "--trajectories takes snapshots of one value",
            )
        conditions = stack.about.conditions | {name: v for name, v in same.items() if name.isidentifier()}
        return replace(stack, about=replace(stack.about, conditions=conditions, notes=notes))

    def _with_runs(self, stack: ArrayStack) -> ArrayStack:
        """With the run and the time that arrays say of each snapshot."""
        if stack.runs is not None or "N" not in stack.letters:
            return stack
        count = stack.sources[0].shape[stack.letters.index("N")]
        taken = list(stack.picked[0])
        runs = self._of_each("R", count)
        if runs is None:
            return stack
        times = self._of_each("T", count)
        about = stack.about
        if times is not None:
            about = replace(about, time_unit=self.units.get(times.name, ""))
        return replace(
            stack,
            about=about,
            runs=np.unique(_all_of(runs).reshape(-1)[taken], return_inverse=True)[1].astype(np.int64),
            times=None if times is None else _all_of(times).reshape(-1)[taken].astype(float),
        )

    def _of_each(self, letter: str, count: int) -> Source | None:
        """The array that is called as runs or times are and has so many values."""
        fitting = [s for s in self.arrays.values() if LETTER_OF.get(own_name(s.name).lower()) == letter]
        return next((s for s in fitting if s.shape and np.prod(s.shape) == count), None)

    def _listed(self) -> str:
        shapes = [f"{s.name} ({' x '.join(map(str, s.shape)) or '1'} {s.dtype_name})" for s in self.arrays.values()]
        more = f" and {len(shapes) - MOST_NAMES} more" if len(shapes) > MOST_NAMES else ""
        return f"; it holds {', '.join(shapes[:MOST_NAMES])}{more}" if shapes else "; it holds nothing that is read"


@dataclass(frozen=True)
class SeriesSource(Source):
    """Arrays of one shape as one with an axis more, the first.

    Attributes:
        parts: the arrays, in order.
    """

    parts: tuple[Source, ...] = ()

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        return self.parts[0].series(self.parts[index[0]], index[1:])


def series_of(name: str, parts: Sequence[Source]) -> SeriesSource:
    """Arrays in the natural order of their names."""
    parts = sorted(parts, key=lambda part: natural(part.name))
    one, dtype = parts[0], np.result_type(*(np.dtype(part.dtype) for part in parts))
    names = (None, *one.names) if one.names else ()
    return SeriesSource(one.path, one.size, name, (len(parts), *one.shape), dtype.str, names, parts=tuple(parts))


def is_coordinate(source: Source) -> bool:
    """Whether an array is called as a coordinate is."""
    return LETTER_OF.get(own_name(source.name).lower(), "N") in "THWZ" and is_numeric(np.dtype(source.dtype))


def open_container(container: Container, asked: Asked) -> Stack:
    """The stack of a container, of the runs and frames that are asked for."""
    stack = container.stack(asked)
    return choose_rows(stack, asked) if container.own and not asked.arrays else stack


def is_label(source: Source) -> bool:
    """Whether an array says where or when values are, or of which run."""
    return is_coordinate(source) or LETTER_OF.get(own_name(source.name).lower()) == "R"


def own_name(name: str) -> str:
    """The last part of a name such as 'fields/u'."""
    return name.rpartition("/")[2]


def _length(source: Source) -> int:
    return max(source.shape)


def _all_of(source: Source) -> np.ndarray:
    return source.get((slice(None),) * len(source.shape))


def scalar_attributes(values: Mapping[str, object]) -> dict[str, float]:
    """Conditions among the attributes of a file: single finite numbers with a fraction or not, no flags."""
    numbers = {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, float | np.floating) and np.isfinite(value) and str(name).isidentifier()
    }
    return dict(list(numbers.items())[:MOST_NAMES])
