"""Pictures of fields as data URIs: PNG with a palette where they stand still, grey WebP where a script colours them."""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from p2d.show.figures import VALUES
from p2d.show.report_page.html import Html, element, joined, typeset
from p2d.show.view import View

LEVELS = 128  # of a palette; one more is transparent, for cells that are no part of the field
QUALITY = 85  # of WebP
Limits = tuple[float, float]


@functools.cache
def colours_of(name: str, count: int = LEVELS) -> np.ndarray:
    """So many colours of a map of matplotlib, uint8 [count, 3]."""
    import matplotlib

    return (matplotlib.colormaps[name](np.linspace(0, 1, count))[:, :3] * 255).round().astype(np.uint8)


def _levels(field: np.ndarray, limits: Limits, count: int) -> np.ndarray:
    low, high = limits
    with np.errstate(invalid="ignore"):
        shares = np.clip((field - low) / (high - low), 0, 1) * (count - 1)
    return np.where(np.isfinite(field), np.round(np.nan_to_num(shares)), count).astype(np.uint16)


def shrunk(fields: np.ndarray, most: int) -> np.ndarray:
    """Fields [..., H, W] whose longer side is at most so many cells: means over squares of cells."""
    rows, columns = fields.shape[-2:]
    by = math.ceil(max(rows, columns) / most)
    if by <= 1:
        return fields
    tall, wide = (min(by, size) for size in (rows, columns))
    rows, columns = rows // tall, columns // wide
    cut = fields[..., : rows * tall, : columns * wide]
    return cut.reshape(*fields.shape[:-2], rows, tall, columns, wide).mean(axis=(-3, -1))


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def png(field: np.ndarray, limits: Limits, colours: str = VALUES) -> str:
    """A field [H, W] as a picture of a pixel a cell; what is not finite is transparent."""
    image = Image.fromarray(_levels(field, limits, LEVELS).astype(np.uint8))
    image.putpalette(colours_of(colours).tobytes() + bytes(3))
    written = io.BytesIO()
    image.save(written, "png", optimize=True, transparency=LEVELS)
    return _uri("png", written.getvalue())


def sprite(frames: np.ndarray, limits: Limits, columns: int) -> str:
    """Frames [T, H, W] side by side, so many a row, in shades of grey; what is not finite is transparent."""
    count, high, wide = frames.shape
    rows = -(-count // columns)
    sheet = np.full((rows * high, columns * wide), np.nan)
    for n, frame in enumerate(frames):
        row, column = divmod(n, columns)
        sheet[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = frame
    levels = _levels(sheet, limits, 256)
    image = Image.fromarray(np.minimum(levels, 255).astype(np.uint8))
    if not np.isfinite(frames).all():
        image.putalpha(Image.fromarray(np.where(levels < 256, 255, 0).astype(np.uint8)))
    written = io.BytesIO()
    image.save(written, "webp", quality=QUALITY, method=4)
    return _uri("webp", written.getvalue())


def picture(field: np.ndarray, limits: Limits, alt: str, colours: str = VALUES, class_: str = "field") -> Html:
    """A field [H, W] as an image element."""
    rows, columns = field.shape
    return element("img", src=png(field, limits, colours), alt=alt, width=columns, height=rows, class_=class_)


def colour_bar(limits: Limits, label: str, colours: str = VALUES) -> Html:
    """The colours of pictures, with the values at their ends."""
    ramp = np.linspace(*limits, LEVELS)[None]
    bar = element("img", src=png(ramp, limits, colours), alt="", class_="ramp", width=LEVELS, height=1)
    least = 1e-4 * (limits[1] - limits[0])  # what is next to nothing beside the other end is told as 0
    ends = [
        element("span", typeset(f"{0.0 if abs(number) < least else number:.3g}"), class_="number") for number in limits
    ]
    return element("div", element("span", label), ends[0], bar, ends[1], class_="bar")


def of_species(view: View, parts: Sequence[Html]) -> Html:
    """One part for each species, of which the chosen one is shown."""
    if len(parts) == 1:
        return parts[0]
    return joined(element("div", part, class_=f"of-species s{s}") for s, part in enumerate(parts))


def reach_of(fields: np.ndarray, view: View) -> Limits:
    """Limits of rates, the same on both sides of 0: three times their root mean square, or all of a curve."""
    known = view.known(fields)
    finite = known[np.isfinite(known)]
    size = float(np.abs(finite).max()) if view.is_line else 3 * float(np.sqrt((finite.astype(float) ** 2).mean()))
    return (-(size or 1.0), size or 1.0)


def size_text(view: View, shown: tuple[int, ...]) -> str:
    """How large pictures are: '64 x 64 cells', '83 x 83 um', and whether they are shown smaller."""
    rows, columns = view.grid.shape
    step, unit = view.step, view.length_unit
    size = f"{columns * step:.4g} {unit}" if view.is_line else f"{columns * step:.4g} × {rows * step:.4g} {unit}"
    return size if tuple(shown[-2:]) == (rows, columns) else f"{size}, shown at lower resolution"
