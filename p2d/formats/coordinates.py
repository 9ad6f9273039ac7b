"""What coordinates say of an array: which of its axes is which, the spacing of its cells, the times of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2d.formats.array_stack import ArrayStack
from p2d.formats.axes import LETTER_OF
from p2d.formats.sources import Source

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


def with_names(source: Source, coordinates: Mapping[str, Coordinate]) -> Source:
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
