"""PNG of 16 bits, and OME-TIFF of float32."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.own import KEY, Facts
from p2d.formats.reading import optional

LEVELS = 2**16 - 1
GRAY, RGB = (0, 1), (2, 3)  # colour type of PNG, channels
MOST_IN_PNG = 3
CLASSIC_BYTES = 2**32 - 2**26  # that a TIFF with offsets of 32 bits holds
OME_LENGTHS = {"nm": "nm", "um": "µm", "mm": "mm", "cm": "cm", "m": "m", "km": "km"}
OME_TIMES = {"ns": "ns", "us": "µs", "ms": "ms", "s": "s", "min": "min", "h": "h", "d": "d"}


def refuse_png(facts: Facts) -> None:
    """Refuse more species than a picture has colours.

    Raises:
        UserError: says which formats would do.
    """
    if len(facts.species) > MOST_IN_PNG:
        raise UserError(
            f"{facts.name} has {len(facts.species)} species, and a PNG holds up to {MOST_IN_PNG}: take tiff, npz, zarr "
            "or well"
        )


def scale_of(facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """The value of level 1, and from level to level, of each species: [C, 1, 1] each. Level 0 is outside a mask."""
    low, high = (np.array([getattr(s, end) for s in facts.species], float)[:, None, None] for end in ("low", "high"))
    return low, np.where(high > low, high - low, 1.0) / (LEVELS - 1)


def write_png(folder: Path, blocks: Iterator[np.ndarray], facts: Facts) -> None:
    """A picture for each snapshot, run3_t0012.png, of 16 bits: gray of one species, red, green and blue of more.

    The scale is in a text chunk: value = low + (level - 1) * step; level 0 is outside a mask.
    """
    folder.mkdir(exist_ok=True)
    low, step = scale_of(facts)
    scale = {"low": low.ravel().tolist(), "step": step.ravel().tolist()}
    kind, channels = GRAY if len(facts.species) == 1 else RGB
    frames = np.zeros(len(facts.runs), np.int64)
    for run in np.unique(facts.runs):
        frames[facts.runs == run] = np.arange(np.count_nonzero(facts.runs == run))
    digits = [len(str(int(numbers.max()))) for numbers in (facts.runs, frames)]
    row = 0
    for block in blocks:
        for state in block:
            levels = np.rint((state - low) / step).clip(0, LEVELS - 1) + 1
            pixels = np.zeros((*facts.grid.shape, channels), ">u2")
            pixels[..., : len(state)] = np.nan_to_num(levels, nan=0.0).transpose(1, 2, 0)
            time = float(facts.times[row]) if np.isfinite(facts.times[row]) else None
            text = facts.text(scale=scale, run=int(facts.runs[row]), time=time)
            name = f"run{facts.runs[row]:0{digits[0]}}_t{frames[row]:0{digits[1]}}.png"
            (folder / name).write_bytes(_png(pixels, kind, text))
            row += 1


def _png(pixels: np.ndarray, kind: int, text: str) -> bytes:
    """A PNG file of 16 bits of pixels [H, W, channels], each row stored as its difference to the one above."""
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    filtered = np.full((len(rows), rows.shape[1] + 1), 2, np.uint8)  # filter 2: Up
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"zTXt", KEY.encode() + b"\0\0" + zlib.compress(text.encode("latin-1", "backslashreplace"))),
        (b"IDAT", zlib.compress(filtered.tobytes(), 6)),
        (b"IEND", b""),
    )
    made = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def write_tiff(path: Path, blocks: Iterator[np.ndarray], facts: Facts) -> None:
    """OME-TIFF of float32, axes TCYX: an image for each run; separate snapshots are frames of one image."""
    tifffile = optional("tifffile", "TIFF files")
    ends = [*(np.flatnonzero(np.diff(facts.runs)) + 1).tolist(), len(facts.runs)]
    if len(ends) == len(facts.runs):
        ends = ends[-1:]
    pages = (plane for block in blocks for state in block for plane in state)
    bigtiff = 4 * int(np.prod(facts.shape)) > CLASSIC_BYTES
    with tifffile.TiffWriter(path, ome=True, bigtiff=bigtiff) as writer:
        for first, last in pairwise([0, *ends]):
            shape = (last - first, *facts.shape[1:])
            some = (next(pages) for _ in range(shape[0] * shape[1]))
            metadata = _ome_metadata(facts, first, last)
            writer.write(some, shape=shape, dtype="float32", photometric="minisblack", metadata=metadata)


def _ome_metadata(facts: Facts, first: int, last: int) -> dict[str, Any]:
    """What OME has a place for, and the text with all of it."""
    times = facts.times[first:last]
    known = [float(time) if np.isfinite(time) else None for time in times]
    text = facts.text(runs=facts.runs[first:last].tolist(), times=known)
    metadata: dict[str, Any] = {
        "axes": "TCYX",
        "Name": f"{facts.name} run {facts.runs[first]}",
        "Channel": {"Name": [species.name for species in facts.species]},
        "MapAnnotation": {KEY: text},
    }
    if facts.grid.unit in OME_LENGTHS:
        for axis in "XY":
            metadata[f"PhysicalSize{axis}"] = facts.grid.spacing
            metadata[f"PhysicalSize{axis}Unit"] = OME_LENGTHS[facts.grid.unit]
    steps = np.diff(times)
    if len(steps) and facts.time_unit in OME_TIMES and steps[0] > 0 and np.allclose(steps, steps[0]):
        metadata |= {"TimeIncrement": float(steps[0]), "TimeIncrementUnit": OME_TIMES[facts.time_unit]}
    return metadata
