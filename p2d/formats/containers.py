"""Files that hold several arrays by name: which of them are species, which are coordinates, which are conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from p2d.errors import UserError, nearest
from p2d.formats.array_stack import ArrayStack, stack_arrays
from p2d.formats.axes import LETTER_OF
from p2d.formats.own import about_own, read_own
from p2d.formats.sources import Source, is_numeric
from p2d.formats.stack import About, Asked

MOST_NAMES = 12  # listed for the user
MOST_COORDINATES = 10**7
UNEVEN = 1e-3  # of the spacing, by which single steps may differ from it


@dataclass(frozen=True, eq=False)
class Coordinate:
    """Where the positions of an axis are.

    Attributes:
        values: of each position.
        unit: of them, '' where it is not known.
    """

    values: np.ndarray
    unit: str = ""


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
        chosen = [_with_names(source, coordinates) for source in chosen]
        names = tuple(map(own_name, (source.name for source in chosen))) if len(chosen) > 1 else ()
        conditions = self.about.conditions or self._conditions()
        about = replace(self.about, species=self.about.species or names, conditions=conditions)
        stack = with_coordinates(stack_arrays(chosen, asked, about), coordinates)
        return self._with_conditions(stack)

    def _exported(self, asked: Asked) -> ArrayStack:
        """The stack of arrays that p2d exported.

        Raises:
            UserError: arrays that are not there, or do not belong together.
        """
        about = about_own(read_own(self.own, self.where), self.about, self.where)
        if not self.arrays.keys() >= {"states", "runs", "times"}:
            raise UserError(f"{self.where} lacks states, runs or times, which p2d exports together{self._listed()}")
        stack = stack_arrays([self.arrays["states"]], replace(asked, axes="NCHW"), about)
        runs, times = (_all_of(self.arrays[name]).reshape(-1) for name in ("runs", "times"))
        (taken,) = stack.picked
        if not len(runs) == len(times) == self.arrays["states"].shape[0]:
            raise UserError(f"{self.where} holds {len(runs)} runs and {len(times)} times for other states")
        own = np.unique(runs[taken], return_inverse=True)[1].astype(np.int64)
        known = np.isfinite(times).any()
        return replace(stack, runs=own, times=times[taken].astype(float) if known else None)

    def choose(self, asked: Asked) -> list[Source]:
        """The arrays that are the species.

        Raises:
            UserError: a name that is not there, none that could be meant, or several.
        """
        if asked.arrays:
            return [self.arrays[self._called(name)] for name in asked.arrays]
        fields = [s for s in self.arrays.values() if self._is_field(s)]
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
        named = [s for s in self.arrays.values() if self._is_coordinate(s) and s.shape]
        small = [s for s in named if _length(s) == np.prod(s.shape) and _length(s) <= MOST_COORDINATES]
        return {
            own_name(s.name): Coordinate(_all_of(s).reshape(-1).astype(float), self.units.get(s.name, ""))
            for s in small
        }

    def _called(self, name: str) -> str:
        short = [known for known in self.arrays if own_name(known) == name]
        if name in self.arrays or len(short) == 1:
            return name if name in self.arrays else short[0]
        raise UserError(f"{self.where} has no array {name!r}{nearest(name, self.arrays)}{self._listed()}")

    def _is_coordinate(self, source: Source) -> bool:
        return LETTER_OF.get(own_name(source.name).lower(), "N") in "THWZ" and is_numeric(np.dtype(source.dtype))

    def _is_field(self, source: Source) -> bool:
        long = sum(size != 1 for size in source.shape)
        return long > 1 and np.dtype(source.dtype).kind in "fiubc" and not self._is_coordinate(source)

    def _conditions(self) -> dict[str, float]:
        single = [s for s in self.arrays.values() if np.prod(s.shape) == 1 and is_numeric(np.dtype(s.dtype))]
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
            if np.prod(s.shape) == size[letter] and is_numeric(np.dtype(s.dtype)) and not self._is_coordinate(s)
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

    def _listed(self) -> str:
        shapes = [f"{s.name} ({' x '.join(map(str, s.shape)) or '1'} {s.dtype_name})" for s in self.arrays.values()]
        more = f" and {len(shapes) - MOST_NAMES} more" if len(shapes) > MOST_NAMES else ""
        return f"; it holds {', '.join(shapes[:MOST_NAMES])}{more}" if shapes else "; it holds nothing that is read"


def own_name(name: str) -> str:
    """The last part of a name such as 'fields/u'."""
    return name.rpartition("/")[2]


def _length(source: Source) -> int:
    return max(source.shape)


def _all_of(source: Source) -> np.ndarray:
    return source.get((slice(None),) * len(source.shape))


def _with_names(source: Source, coordinates: Mapping[str, Coordinate]) -> Source:
    """An array without names of its axes takes those of the coordinates that are as long as one of them alone."""
    if any(source.names):
        return source
    lengths = [len(c.values) for c in coordinates.values()]
    names = {
        len(c.values): name
        for name, c in coordinates.items()
        if source.shape.count(len(c.values)) == 1 and lengths.count(len(c.values)) == 1
    }
    return replace(source, names=tuple(names.get(size) for size in source.shape)) if names else source


def with_coordinates(stack: ArrayStack, coordinates: Mapping[str, Coordinate]) -> ArrayStack:
    """A stack with the spacing and the times that coordinates of its axes tell."""
    source = stack.sources[0]
    of_axis: dict[str, Coordinate] = {}
    for letter, size, name in zip(
        stack.letters, source.shape, source.names or (None,) * len(source.shape), strict=True
    ):
        same = [c for n, c in coordinates.items() if n == name or (not name and LETTER_OF.get(n.lower()) == letter)]
        if same and len(same[0].values) == size and size > 1:
            of_axis[letter] = same[0]
    spacing, unit, notes = spacing_of([of_axis[a] for a in "WH" if a in of_axis])
    about = replace(stack.about, notes=(*stack.about.notes, *notes))
    if not about.spacing:
        about = replace(about, spacing=spacing, unit=unit)
    if "T" not in of_axis or stack.times is not None:
        return replace(stack, about=about)
    times = of_axis["T"]
    about = replace(about, time_unit=times.unit.partition(" since ")[0].strip())
    return replace(stack, about=about, times=stack.times_of_frames(times.values))


def spacing_of(axes: Sequence[Coordinate]) -> tuple[float, str, list[str]]:
    """From cell to cell, its unit, and what to say: 0 where it is not known, not uniform, or differs between axes."""
    steps = []
    for axis in axes:
        if "degree" in axis.unit.lower():
            return 0.0, "", ["coordinates are degrees, which are no lengths: give --spacing"]
        step = np.diff(axis.values)
        mean = abs(float(step.mean()))
        rounding = 4 * float(np.abs(axis.values).max()) * np.finfo(np.float32).eps
        if not np.isfinite(mean) or np.abs(np.abs(step) - mean).max() > UNEVEN * mean + rounding or mean == 0:
            return 0.0, "", ["coordinates are not evenly spaced: --spacing is taken as that of an even grid"]
        steps.append(mean)
    if not steps:
        return 0.0, "", []
    if max(steps) > (1 + UNEVEN) * min(steps):
        told = f"cells are {steps[0]:.4g} wide and {steps[1]:.4g} high: only square ones are known, give --spacing"
        return 0.0, "", [told]
    return steps[0], axes[0].unit, []


def scalar_attributes(values: Mapping[str, object]) -> dict[str, float]:
    """Conditions among the attributes of a file: single finite numbers with a fraction or not, no flags."""
    numbers = {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, float | np.floating) and np.isfinite(value) and str(name).isidentifier()
    }
    return dict(list(numbers.items())[:MOST_NAMES])
