"""Settings of an import: where the snapshots are, what the user knows of them, and what is to be made of them."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from p2d.config.base import HOW, MACHINE, Check, Config, least, option, quantity
from p2d.errors import UserError
from p2d.fields import Edge
from p2d.formats.stack import Asked
from p2d.systems import expressions

# Units by what they are called here, and others' words for them.
LENGTHS = {"nm": (), "um": ("µm", "μm", "micron", "microns"), "mm": (), "cm": (), "m": (), "km": ()}
TIMES = {
    "ns": (),
    "us": ("µs", "μs"),
    "ms": (),
    "s": ("sec", "second", "seconds"),
    "min": ("minute", "minutes"),
    "h": ("hr", "hour", "hours"),
    "d": ("day", "days"),
    "yr": ("year", "years"),
}
COLOUR = re.compile(r"#([0-9a-fA-F]{6})")
ENDINGS = r"(\.ome)?\.[A-Za-z]\w{0,6}$"
REAL = Check(math.isfinite, "finite numbers", each=True)
FACTOR = Check(lambda value: math.isfinite(value) and value != 0, "finite numbers other than 0", each=True)


@dataclass(frozen=True)
class ImportConfig(Config):
    """Make a dataset of your own files, and say what was found in them: images, films, arrays, HDF5, Zarr, tables."""

    sources: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="SOURCE", help="files or folders with snapshots; give them before all options"),
    ] = field(default=(), metadata=HOW)
    # What the files hold, where they do not say it.
    species: Annotated[
        tuple[str, ...],
        option(help="names of what was measured, in the files' order, such as activator inhibitor; u v when empty"),
    ] = ()
    channels: Annotated[
        tuple[str, ...], option(help="of colour pictures: the channel of each species: r, g, b, a, gray, or 0, 1, ...")
    ] = ()
    axes: Annotated[
        str,
        option(
            help="a letter for each axis of an array: N snapshots, R runs, T frames of a run, C species, H rows, W "
            "columns, such as NCHW; told from the shape when empty"
        ),
    ] = ""
    arrays: Annotated[
        tuple[str, ...], option(help="names of arrays in a file that holds several: one, or one for each species")
    ] = ()
    trajectories: Annotated[str, option(help="only these runs of a file, as start:stop:step; all when empty")] = ""
    times: Annotated[str, option(help="only these frames of each run, as start:stop:step; all when empty")] = ""
    # What is known of the snapshots.
    unit: Annotated[
        tuple[str, ...], option(help="of the values, of all species or of each, such as mM; none when empty")
    ] = ()
    spacing: Annotated[
        str,
        option(help="from one pixel to the next, such as 0.65um; the files' own when empty, or else counted in pixels"),
    ] = ""
    edges: Annotated[
        tuple[Edge, ...],
        option(
            help="what is beyond the picture: periodic (it goes on at the other side), mirror (a wall), open (more of "
            "the same, which is not seen: a window of something larger); of both axes or of y and x; told when empty"
        ),
    ] = ()
    condition: Annotated[
        tuple[str, ...], option(help="known conditions of all snapshots, such as F=0.03 temperature=21")
    ] = ()
    table: Annotated[
        str,
        option(
            help="csv file with a line for each file, or for each snapshot in order: columns file, run, time, and "
            "conditions, of any other name; each may be left out"
        ),
    ] = ""
    runs_from: Annotated[
        str,
        option(
            help="regular expression whose groups say, in a file's name, which experiment a snapshot is of: "
            "'plate(\\d+)'; a group (?P<time>...) says when it was taken"
        ),
    ] = ""
    interval: Annotated[str, option(help="from one frame of a run to the next, such as 30s; unit may be left out")] = ""
    # What is to be made of them, in this order.
    every: Annotated[int, option(help="take only every n-th snapshot, or frame of a run"), least(1)] = 1
    crop: Annotated[
        str,
        option(help="take only these rows and columns: 10:138,0:128 are rows 10 to 137, columns 0 to 127; ':,20:'"),
    ] = ""
    mask: Annotated[
        str,
        option(
            help="leave out pixels: a file (npy, or a black and white picture) that is 0 there; nan: those that are "
            "not finite; a number, or a colour as #000000: those that always are that"
        ),
    ] = ""
    bin: Annotated[int, option(help="make one pixel of n x n, their mean"), least(1)] = 1
    scale: Annotated[tuple[float, ...], option(help="values are multiplied by this, one or one a species"), FACTOR] = (
        1.0,
    )
    offset: Annotated[tuple[float, ...], option(help="and then this is added, one or one a species"), REAL] = (0.0,)
    flatten: Annotated[bool, option(help="divide by the smooth surface of the mean picture: uneven illumination")] = (
        False
    )
    name: Annotated[str, option(help="name under OUT/data; the file's or the folder's, and the size, when empty")] = (
        field(default="", metadata=HOW)
    )
    workers: Annotated[
        int, MACHINE, option(help="processes; 1: this one alone, in less than 1 GiB; 0: as many as pay"), least(0)
    ] = field(default=0, metadata=HOW)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources:
            raise UserError("import needs files or folders, before all options: p2d import plates/*.tif --edges open")
        for name in self.species:
            expressions.refuse_name(name, "species")
        if len(set(self.species)) < len(self.species):
            raise UserError(f"species = {' '.join(self.species)}: a name stands twice; each needs its own")
        if len(self.edges) > 2:
            raise UserError(
                f"edges = {' '.join(self.edges)} is not possible: give one for both axes, or those of y and x"
            )
        for read in (self.length, self.frame_interval, self.conditions, self.cropped):
            read()
        if self.runs_from:
            try:
                re.compile(self.runs_from)
            except re.error as error:
                raise UserError(
                    f"runs_from = {self.runs_from} is no regular expression: {error}; such as 'plate(\\d+)'"
                ) from None

    def asked(self) -> Asked:
        """What the readers of files are told."""
        return Asked(self.axes, self.arrays, self.species, self.channels, self.trajectories, self.times)

    def length(self) -> tuple[float, str]:
        """The spacing of the stored pixels, and its unit; 0 and '' where it is not given."""
        length, unit = quantity("spacing", self.spacing, LENGTHS, "0.65um") if self.spacing else (0.0, "")
        if self.spacing and not length > 0:
            raise UserError(f"spacing = {self.spacing} is not possible: it must be a finite number above 0")
        return length, unit

    def frame_interval(self) -> tuple[float, str]:
        """The time from one frame of a run to the next, and its unit; 0 and '' where it is not given."""
        length, unit = quantity("interval", self.interval, TIMES, "30s") if self.interval else (0.0, "")
        if self.interval and not length > 0:
            raise UserError(f"interval = {self.interval} is not possible: it must be a finite number above 0")
        return length, unit

    def conditions(self) -> dict[str, float]:
        """The conditions that all snapshots have, by name."""
        made: dict[str, float] = {}
        for text in self.condition:
            name, _, value = text.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if not name or not math.isfinite(number):
                raise UserError(f"condition = {text} is not possible: it must be NAME=NUMBER, such as F=0.03")
            if name in made:
                raise UserError(f"condition {name} is given twice; what differs between files stands in a --table")
            expressions.refuse_name(name, "condition")
            made[name] = number
        return made

    def cropped(self) -> tuple[slice, slice]:
        """The rows and the columns to take."""
        parts = [part.strip() for part in self.crop.split(",")] if self.crop else [":", ":"]
        slices = [_stretch(part) for part in parts]
        if len(slices) != 2 or None in slices:
            raise UserError(
                f"crop = {self.crop} is not possible: it must be ROW:ROW,COLUMN:COLUMN, such as 10:138,0:128 or :,20:"
            )
        return slices[0], slices[1]  # type: ignore[return-value]

    @property
    def own_name(self) -> str:
        """What the dataset is called, without its size: as the file, or the folder of several files."""
        paths = [Path(source.rstrip("/") or source) for source in self.sources]
        path = paths[0] if len(paths) == 1 else Path(os.path.commonpath([p.absolute() for p in paths]))
        while re.search(r"[*?\[]", path.name):
            path = path.absolute().parent
        name = path.name if path.name.strip(".") else path.resolve().name
        name = name if path.is_dir() and path.suffix != ".zarr" else re.sub(ENDINGS, "", name) or name
        return re.sub(r"[^\w.+-]", "-", name).strip(".-") or "imported"


def _stretch(text: str) -> slice | None:
    """'10:138' as a slice; None of what is none, or holds nothing."""
    ends = re.fullmatch(r"(\d*)\s*:\s*(\d*)", text)
    if ends is None or (ends[1] and ends[2] and not int(ends[1]) < int(ends[2])):
        return None
    return slice(int(ends[1] or 0), int(ends[2]) if ends[2] else None)
