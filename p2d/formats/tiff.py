"""TIFF: pages, ImageJ's hyperstacks and OME-TIFF, read page by page through tifffile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UNREADABLE, UserError, one_line
from p2d.fields import MOST_SPECIES
from p2d.formats.choosing import choose_rows
from p2d.formats.colours import Picker, choose_channels
from p2d.formats.naming import naming_note, runs_of
from p2d.formats.own import about_own, read_own
from p2d.formats.stack import About, Asked, Stack
from p2d.formats.tiff_facts import TiffFacts, facts_of
from p2d.formats.tiff_layout import IN_PAGE, Layout, choose_axes
from p2d.formats.tiff_pages import PageReader, opened_tiff, refuse_cut_chain
from p2d.places import as_remote, place, uri

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
MOST_PIXELS = 2**27  # of a page; a header may claim any number
LOOKED_AT = 8  # pages whose colours tell those of all, which are checked as they are read
LISTED = 4
RGB = 2  # PhotometricInterpretation
BITS = {"uint8": 8, "uint16": 16, "uint32": 32, "int8": 8, "int16": 16, "int32": 32}


NO_LAYOUT = Layout("", (), (0, 0), "", "uint8")


@dataclass(frozen=True, eq=False)
class Pages(Stack):
    """Snapshots of TIFF files of one layout; see `open_tiff`."""

    places: tuple[str, ...] = ()
    layout: Layout = NO_LAYOUT
    channels: tuple[int, ...] = ()
    picker: Picker | None = None

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack."""
        states = np.empty((last - first, *self.shape), self.dtype)
        each, row = self.layout.snapshots * self.layout.parts, first
        while row < last:
            number, end = row // each, min(last, (row // each + 1) * each)
            file = self.places[number]
            with opened_tiff(place(file)) as tiff:
                pages = PageReader(tiff, self.layout, file)
                for at in range(row, end):
                    states[at - first] = self._snapshot(pages, at - number * each, self.name_of(at))
            row = end
        return states

    def _snapshot(self, pages: PageReader, row: int, where: str) -> np.ndarray:
        part, snapshot = divmod(row, self.layout.snapshots)
        if self.picker:
            return self.picker.pick(pages.page(part, snapshot, 0), where)
        if self.layout.samples > 1:
            return pages.page(part, snapshot, 0)[..., list(self.channels)].transpose(2, 0, 1)
        return np.stack([pages.page(part, snapshot, channel)[..., 0] for channel in self.channels])

    def name_of(self, row: int) -> str:
        """See Stack."""
        number, own = divmod(row, self.layout.snapshots * self.layout.parts)
        part, snapshot = divmod(own, self.layout.snapshots)
        series = f", image {part}" * (self.layout.parts > 1)
        return self.places[number] + series + f", snapshot {snapshot}" * (self.layout.snapshots > 1)

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        return self.places


def open_tiff(files: Sequence[Path], asked: Asked) -> list[Stack]:
    """Files of one snapshot and one size as one stack, in the order given; of those with more, each its own.

    Raises:
        UserError: more than one plane, axes that cannot be told, colours or channels of which nothing tells what they
            are, or a file that cannot be read or is cut.
    """
    stacks: list[Pages] = []
    covered: set[Path] = set()
    for file in files:
        if as_remote(file) is None and file.resolve() in covered:
            continue  # OME metadata may lead from one file to others
        stack, others = _open(file, asked)
        covered |= others
        stacks.append(stack)
    if any(stack.count > 1 for stack in stacks):
        return [choose_rows(stack, asked) for stack in stacks]
    kinds: dict[Any, Pages] = {}
    for stack in stacks:
        kinds.setdefault((stack.shape, stack.dtype, stack.layout), stack)
    if len(kinds) > 1:
        listed = [f"{' x '.join(map(str, s.shape))} of {s.dtype}: {s.places[0]}" for s in kinds.values()]
        more = f"; and {len(listed) - LISTED} kinds more" * (len(listed) > LISTED)
        raise UserError(f"pictures must be of one size and type; these are {'; '.join(listed[:LISTED])}{more}")
    names = list(map(str, files))
    runs, times = runs_of(names)
    notes = (*stacks[0].about.notes, *naming_note(names, runs, times))
    joined = replace(
        stacks[0],
        count=len(stacks),
        about=replace(stacks[0].about, notes=notes),
        runs=runs,
        times=times,
        places=tuple(stack.places[0] for stack in stacks),
    )
    return [choose_rows(joined, asked)]


def _open(file: Path, asked: Asked) -> tuple[Pages, set[Path]]:
    """A file as a stack, and all files that it leads to."""
    with opened_tiff(file) as tiff:
        refuse_cut_chain(tiff, file)
        layout, facts = _layout(tiff, asked, str(file)), facts_of(tiff)
        reader = PageReader(tiff, layout, str(file))
        reader.refuse_cut()
        count = layout.snapshots * layout.parts
        coloured = int(tiff.series[0].keyframe.photometric) == RGB and layout.samples > 1
        channels, picker, names = _species(reader, count, facts, asked, coloured)
        others = {Path(page.parent.filehandle.path).resolve() for s in tiff.series for page in s.pages if page}
    dtype = picker.dtype(layout.dtype) if picker else layout.dtype
    runs, frames = layout.runs_and_frames()
    times, time_unit, told = _times(frames, facts, layout.parts)
    about = About(
        species=names,
        spacing=facts.spacing,
        unit=facts.unit,
        time_unit=time_unit,
        bits=BITS.get(dtype, 0),
        notes=(*facts.notes, *(picker.notes if picker else ()), *told),
    )
    stack = Pages(
        count=count,
        shape=(len(picker.channels if picker else channels), *layout.shape),
        dtype=dtype,
        about=about,
        runs=runs,
        times=times,
        places=(uri(file),),
        layout=layout,
        channels=channels,
        picker=picker,
    )
    return _exported(stack, facts.own, str(file)) if facts.own else stack, others


def _times(frames: np.ndarray | None, facts: TiffFacts, parts: int) -> tuple[np.ndarray | None, str, tuple[str, ...]]:
    """When each snapshot was taken, of which frame of its run it is, the unit, and what the user is told of it."""
    if frames is None:
        return None, "", ()
    if facts.interval:
        return frames * facts.interval, facts.time_unit, ()
    if len(facts.times) == frames.max() + 1 and parts == 1:
        return np.array(facts.times)[frames], facts.time_unit, ()
    return frames * 1.0, "frame", ("the time between frames is not told: times are numbers of frames",)


def _exported(stack: Pages, texts: tuple[str, ...], file: str) -> Pages:
    """A stack with what p2d noted when it exported these snapshots.

    Raises:
        UserError: it is damaged, or of other snapshots.
    """
    noted = [read_own(text, file) for text in texts]
    try:
        runs = [int(run) for one in noted for run in one["runs"]]
        times = [math.nan if time is None else float(time) for one in noted for time in one["times"]]
    except UNREADABLE as error:
        raise UserError(f"{file}: what p2d noted there is damaged ({one_line(error)}); export it again") from error
    if not len(runs) == len(times) == stack.count:
        raise UserError(f"{file} holds {stack.count} snapshots, and p2d noted {len(runs)} there; export it again")
    about = about_own(noted[0], replace(stack.about, notes=()), file)
    own = np.unique(runs, return_inverse=True)[1].astype(np.int64)
    known = np.isfinite(times).any()
    return replace(stack, about=about, runs=own, times=np.array(times) if known else None)


def _layout(tiff: Any, asked: Asked, file: str) -> Layout:
    """How the snapshots of a file lie in it.

    Raises:
        UserError: no pages, series of several sizes (lists them), or see `choose_axes`.
    """
    series = list(tiff.series)
    kinds = {(one.axes, one.shape, str(one.dtype)) for one in series}
    if len(kinds) != 1:
        listed = "; ".join(f"{axes} {list(shape)} of {dtype}" for axes, shape, dtype in sorted(kinds)[:LISTED])
        raise UserError(f"{file} holds {len(series)} series of {len(kinds)} kinds ({listed}); save one kind to a file")
    page, one = series[0].keyframe, series[0]
    if math.prod(page.shape) > MOST_PIXELS:
        raise UserError(f"{file} claims pages of {list(page.shape)}, more than {MOST_PIXELS} pixels: crop it")
    if page.dtype is None or page.dtype.kind not in "fiub":
        raise UserError(f"{file} holds {page.dtype}, and must hold real numbers")
    letters = [(axis, length) for axis, length in zip(one.axes, one.shape, strict=True) if length > 1 or axis in "YX"]
    axes, shape = "".join(axis for axis, _ in letters), tuple(length for _, length in letters)
    axes = choose_axes(axes, shape, asked, file)
    outer = sum(axis not in IN_PAGE for axis in axes)
    in_page = math.prod(shape[outer:])
    if any(axis in IN_PAGE for axis in axes[:outer]) or (one.dataoffset is None and in_page != page.size):
        raise UserError(f"{file} has axes {one.axes}, whose pages are not rows and columns; save it as TCYX")
    colours = "" if "S" not in axes else "last" if axes.endswith("S") else "first"
    dtype = np.dtype(page.dtype).newbyteorder("=").name
    return Layout(axes[:outer], shape[:outer], shape[outer:], colours, dtype, len(series))


def _species(
    reader: PageReader, count: int, facts: TiffFacts, asked: Asked, coloured: bool
) -> tuple[tuple[int, ...], Picker | None, tuple[str, ...]]:
    """Which channels are species, or what picks colours, and their names."""
    layout, file = reader.layout, reader.file
    if coloured or (layout.samples > 1 and layout.species > 1):
        if layout.species > 1:
            raise UserError(f"{file} has {layout.species} channels of colours; save one of the two as gray")
        rows = range(0, count, max(1, -(-count // LOOKED_AT)))
        looked_at = [reader.page(*divmod(row, layout.snapshots), 0) for row in rows]
        return (), choose_channels(looked_at, asked, file), ()
    number = max(layout.species, layout.samples)
    names = facts.names if len(facts.names) == number else ()
    known = [name.lower() for name in names]
    picked = []
    for channel in asked.channels:
        index = known.index(channel.lower()) if channel.lower() in known else None
        index = int(channel) if index is None and channel.isdecimal() else index
        if index is None and channel == "gray" and number == 1:
            index = 0
        if index is None or index >= number:
            told = ", ".join(names or map(str, range(number)))
            raise UserError(f"unknown channel {channel!r} of {file}; known: {told}")
        picked.append(index)
    channels = tuple(picked) or tuple(range(number))
    if len(channels) > MOST_SPECIES:
        raise UserError(
            f"{file} has {number} channels, and p2d knows up to {MOST_SPECIES} species: pick some with --channels, or "
            "give --axes if they are frames (T) or snapshots (N)"
        )
    if asked.species and len(asked.species) != len(channels):
        raise UserError(
            f"{len(asked.species)} species are named ({', '.join(asked.species)}), and {file} has {len(channels)} "
            "channels: give as many --species, or pick with --channels"
        )
    return channels, None, tuple(names[channel] for channel in channels) if names else ()
