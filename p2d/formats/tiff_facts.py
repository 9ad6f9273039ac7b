"""What the metadata of a TIFF file say: pixel size, names of channels, time between frames."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from p2d.errors import UserError
from p2d.formats.own import KEY

MICRONS = ("µm", "μm", "um", "micron", "microns", "micrometer", r"\u00B5m")
INCH, CENTIMETER = 2, 3  # ResolutionUnit
IN_MICRONS = {INCH: 25_400.0, CENTIMETER: 10_000.0}
OF_PRINTERS = (72, 96, 150, 300, 600)  # dots an inch that programs write where they know nothing
STORED = {  # by PhotometricInterpretation
    0: "its values are stored with 0 as white, and are taken as they are stored",
    3: "its colour table is left out: values are taken as they are stored",
}
SQUARE = 1e-3  # two pixel sizes that differ by less are one
NO_UNITS = ("", "pixel", "pixels", "reference frame")


@dataclass(frozen=True)
class TiffFacts:
    """What the metadata of a file say; what they do not say is empty.

    Attributes:
        spacing, unit: of pixels.
        names: of channels.
        interval, time_unit: from frame to frame.
        times: of each frame of the first image, in the same unit, where they are told one by one.
        notes: for the user.
        own: the texts that p2d wrote into it, one for each image, see own.py.
    """

    spacing: float = 0.0
    unit: str = ""
    names: tuple[str, ...] = ()
    interval: float = 0.0
    times: tuple[float, ...] = ()
    time_unit: str = ""
    notes: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def facts_of(tiff: Any) -> TiffFacts:
    """What an open TiffFile says of itself."""
    if tiff.is_ome:
        return _ome(tiff.ome_metadata)
    if tiff.is_imagej:
        return _imagej(tiff.imagej_metadata, _sizes(tiff.pages.first))
    return _tags(tiff.pages.first)


def ome_tree(text: str) -> ElementTree.Element:
    """The XML of an OME-TIFF.

    Raises:
        UserError: it declares entities, which can grow without bound.
    """
    if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
        raise UserError("its OME metadata declare entities, which is refused")
    return ElementTree.fromstring(text)


def texts_of(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Elements of a name anywhere below, whatever their namespace."""
    return [one for one in element.iter() if one.tag.rpartition("}")[2] == name]


def _ome(text: str) -> TiffFacts:
    tree = ome_tree(text)
    own = tuple(entry.text or "" for entry in texts_of(tree, "M") if entry.get("K") == KEY)
    pixels = texts_of(tree, "Pixels")[0]
    sizes = [_number(pixels.get(f"PhysicalSize{axis}")) for axis in "XY"]
    units = [_unit(pixels.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XY"]
    names = tuple(channel.get("Name", "") for channel in texts_of(pixels, "Channel"))
    interval = _number(pixels.get("TimeIncrement"))
    time_unit = pixels.get("TimeIncrementUnit", "s") if interval else ""
    times, unit_of_times = ((), "") if interval else _times_of_planes(pixels)
    spacing, unit, notes = _square(sizes, units)
    names = names if all(names) else ()
    return TiffFacts(spacing, unit, names, interval, times, time_unit or unit_of_times, notes, own)


def _times_of_planes(pixels: ElementTree.Element) -> tuple[tuple[float, ...], str]:
    """When each frame of an image was taken, and the unit; nothing where not all of them say so, in one unit."""
    planes = [plane for plane in texts_of(pixels, "Plane") if plane.get("TheC") == plane.get("TheZ") == "0"]
    frames = {plane.get("TheT"): plane for plane in planes}
    units = {plane.get("DeltaTUnit", "s") for plane in planes}
    count = pixels.get("SizeT", "0")
    if len(units) != 1 or not count.isdecimal() or len(frames) != int(count):
        return (), ""
    try:
        times = tuple(float(frames[str(n)].get("DeltaT", "nan")) for n in range(int(count)))
    except (KeyError, ValueError):
        return (), ""
    if not all(map(math.isfinite, times)) or any(later <= before for before, later in itertools.pairwise(times)):
        return (), ""
    return tuple(time - times[0] for time in times), units.pop()


def _imagej(metadata: dict[str, Any], sizes: list[float]) -> TiffFacts:
    unit = _unit(str(metadata.get("unit", "")))
    spacing, unit, notes = _square(sizes, [unit, unit]) if unit else (0.0, "", ())
    interval = _number(metadata.get("finterval"))
    return TiffFacts(spacing, unit, (), interval, (), str(metadata.get("tunit", "s")) if interval else "", notes)


def _tags(page: Any) -> TiffFacts:
    photometric = int(page.photometric)
    notes = (STORED[photometric],) if photometric in STORED else ()
    unit = int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else INCH
    sizes = _sizes(page)
    if unit not in IN_MICRONS or not all(sizes):
        return TiffFacts(notes=notes)
    dots = 1 / sizes[0]
    if unit == INCH and sizes[0] == sizes[1] and round(dots, 3) in OF_PRINTERS:
        note = f"its {dots:g} dots an inch are of printing and are not taken for a pixel size; --spacing gives it"
        return TiffFacts(notes=(*notes, note))
    spacing, name, more = _square([size * IN_MICRONS[unit] for size in sizes], ["um", "um"])
    return TiffFacts(spacing, name, notes=(*notes, *more))


def _square(sizes: list[float], units: list[str]) -> tuple[float, str, tuple[str, ...]]:
    """The one size of pixels and its unit, as X and Y tell it; none, and a note, where they differ."""
    (across, down), (unit, other) = sizes, units
    if not across or not unit:
        return 0.0, "", ()
    if down and (unit != other or abs(across - down) > SQUARE * across):
        note = (
            f"pixels are {across:g} {unit} across and {down:g} {other} down, and must be square: no pixel size is "
            "taken; scale the pictures, or give --spacing"
        )
        return 0.0, "", (note,)
    return across, unit, ()


def _sizes(page: Any) -> list[float]:
    """Of a pixel across and down, in the unit of the tags; 0 where they are not known."""
    sizes = []
    for name in ("XResolution", "YResolution"):
        pixels, units = page.tags[name].value if name in page.tags else (0, 1)
        sizes.append(_number(units / pixels if pixels else 0))
    return sizes


def _number(value: Any) -> float:
    """A finite number above 0; 0 of anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _unit(name: str) -> str:
    name = name.strip().strip("\x00")
    return "um" if name in MICRONS else "" if name.lower() in NO_UNITS else name
