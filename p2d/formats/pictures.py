"""PNG, JPEG and BMP pictures: those of one size are a stack, a snapshot each. Values are kept as they are stored."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from p2d.errors import UserError
from p2d.formats.colours import ONLY_GRAY, Picker, choose_channels
from p2d.formats.naming import naming_note, runs_of
from p2d.formats.reading import optional, reading
from p2d.formats.stack import About, Asked, Stack
from p2d.places import place, uri

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp")
FORMATS = ("PNG", "JPEG", "BMP")
LOOKED_AT = 8  # pictures whose colours tell those of all, which are checked as they are read
LISTED = 4  # kinds of pictures that are listed where they must be one


@dataclass(frozen=True)
class Kind:
    """What a stack of pictures has in common.

    Attributes:
        shape: rows and columns.
        bits: of a value, 1, 8 or 16.
        lossy: whether the format keeps values approximately.
    """

    shape: tuple[int, int]
    bits: int
    lossy: bool

    @property
    def dtype(self) -> str:
        """Of the values."""
        return "uint16" if self.bits == 16 else "uint8"

    def __str__(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} of {self.bits} bits{' (JPEG)' * self.lossy}"


NO_KIND = Kind((0, 0), 8, False)


@dataclass(frozen=True, eq=False)
class Pictures(Stack):
    """Pictures of one size; see `open_pictures`."""

    places: tuple[str, ...] = ()
    kind: Kind = NO_KIND
    picker: Picker = ONLY_GRAY

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack."""
        states = np.empty((last - first, *self.shape), self.dtype)
        for state, file in zip(states, self.places[first:last], strict=True):
            state[:] = self.picker.pick(_array(place(file), self.kind), file)
        return states

    def name_of(self, row: int) -> str:
        """See Stack."""
        return self.places[row]

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        return self.places


def open_pictures(files: Sequence[Path], asked: Asked) -> list[Stack]:
    """Pictures as one stack, a snapshot each, in the order given.

    Raises:
        UserError: sizes or depths that differ (lists them), colours of which nothing tells what they are, or a file
            that cannot be read, is cut, or claims more pixels than Pillow takes.
    """
    kinds: dict[Kind, list[Path]] = {}
    for file in files:
        kinds.setdefault(_kind(file), []).append(file)
    if len(kinds) > 1:
        listed = [f"{kind}: {some[0]}{_others(len(some) - 1)}" for kind, some in list(kinds.items())[:LISTED]]
        more = f"; and {len(kinds) - LISTED} kinds more" * (len(kinds) > LISTED)
        raise UserError(f"pictures must be of one size and depth; these are {'; '.join(listed)}{more}")
    kind, looked_at = next(iter(kinds)), files[:: max(1, -(-len(files) // LOOKED_AT))]
    where = f"{files[0]}{_others(len(files) - 1)}"
    picker = choose_channels([_array(file, kind) for file in looked_at], asked, where)
    runs, times = runs_of(list(map(str, files)))
    notes = (*picker.notes, *naming_note(list(map(str, files)), runs, times))
    return [
        Pictures(
            count=len(files),
            shape=(len(picker.channels), *kind.shape),
            dtype=picker.dtype(kind.dtype),
            about=About(bits=0 if picker.weighted else kind.bits, lossy=kind.lossy, notes=notes),
            runs=runs,
            times=times,
            places=tuple(map(uri, files)),
            kind=kind,
            picker=picker,
        )
    ]


def _others(count: int) -> str:
    return f" and {count} more" if count else ""


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    """A picture whose header has been read, and no more.

    Raises:
        UserError: it cannot be read, or claims more pixels than Pillow takes (its guard against decompression bombs).
    """
    from PIL import Image

    with reading(file), file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(stream, formats=FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            most = Image.MAX_IMAGE_PIXELS
            raise UserError(f"{file} claims more than {most} pixels, which is refused: crop it or cut it up") from error
        with image:
            yield image


def _kind(file: Path) -> Kind:
    with _opened(file) as image:
        frames = getattr(image, "n_frames", 1)
        if image.format == "PNG" and frames > 1:
            raise UserError(f"{file} is an animation of {frames} frames; save them as single files, or as a gif or mp4")
        width, height = image.size
        bits = 1 if image.mode == "1" else 16 if _is_deep(image) else 8
        return Kind((height, width), bits, image.format != "PNG" and image.format != "BMP")


def _is_deep(image: Image) -> bool:
    return image.mode.startswith("I") or any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def _array(file: Path, kind: Kind) -> np.ndarray:
    """The values of a picture, [H, W, K] of one to four channels.

    Raises:
        UserError: it cannot be read, is cut, or is not what it was.
    """
    if _kind(file) != kind:
        raise UserError(f"{file} has changed while it was read; it was {kind}")
    with _opened(file) as image:
        if image.format == "PNG":
            image.verify()  # the checksums of all its parts, which decoding takes no notice of
    with _opened(file) as image:
        if kind.bits == 16 and not image.mode.startswith("I"):  # of which Pillow keeps 8 bits
            values = optional("imagecodecs", "pictures with colours of 16 bits").png_decode(file.read_bytes())
        else:
            values = np.asarray(_plain(image))
    values = values.reshape(*values.shape[:2], -1)
    if values.shape[:2] != kind.shape:
        raise UserError(f"{file} has changed while it was read; it was {kind}")
    return values.astype(kind.dtype, copy=False)


def _plain(image: Image) -> Image:
    """A picture in gray or colours, whatever way it is stored."""
    if image.mode in ("1", "L", "LA", "RGB", "RGBA") or image.mode.startswith("I"):
        return image
    return image.convert("RGBA" if "transparency" in image.info or image.mode.endswith(("A", "a")) else "RGB")
