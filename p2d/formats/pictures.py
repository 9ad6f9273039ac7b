"""PNG, JPEG and BMP pictures: those of one size are a stack, a snapshot each. Values are kept as they are stored."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.errors import UNREADABLE, UserError, one_line
from p2d.formats.choosing import choose_rows
from p2d.formats.colours import GRAY, NAMES, ONLY_GRAY, Picker, choose_channels
from p2d.formats.naming import naming_note, runs_of
from p2d.formats.own import KEY, about_own, read_own
from p2d.formats.reading import optional, reading
from p2d.formats.stack import About, Asked, Stack
from p2d.places import place, uri

if TYPE_CHECKING:
    from PIL.Image import Image

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


@dataclass(frozen=True)
class Scale:
    """What levels of an exported picture stand for, see writing_pictures.py; level 0 is outside a mask.

    Attributes:
        low, step: of each species, the value of level 1 and from level to level.
    """

    low: tuple[float, ...]
    step: tuple[float, ...]

    def values(self, levels: np.ndarray) -> np.ndarray:
        """Values, float32, of levels [C, H, W]."""
        low, step = (np.array(numbers)[:, None, None] for numbers in (self.low, self.step))
        return np.where(levels > 0, low + (levels - 1.0) * step, np.nan).astype(np.float32)


NO_KIND = Kind((0, 0), 8, False)


@dataclass(frozen=True, eq=False)
class Pictures(Stack):
    """Pictures of one size; see `open_pictures`."""

    places: tuple[str, ...] = ()
    kind: Kind = NO_KIND
    picker: Picker = ONLY_GRAY
    scale: Scale | None = None

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack."""
        states = np.empty((last - first, *self.shape), self.dtype)
        for state, file in zip(states, self.places[first:last], strict=True):
            levels = self.picker.pick(_array(place(file), self.kind), file)
            state[:] = self.scale.values(levels) if self.scale else levels
        return states

    def name_of(self, row: int) -> str:
        """See Stack."""
        return self.places[row]

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        return self.places


def open_pictures(files: Sequence[Path], asked: Asked) -> list[Stack]:
    """Pictures as one stack, a snapshot each, in the order given; of those that p2d exported one for each condition.

    Raises:
        UserError: sizes or depths that differ (lists them), colours of which nothing tells what they are, or a file
            that cannot be read, is cut, or claims more pixels than Pillow takes.
    """
    kinds: dict[Kind, list[Path]] = {}
    texts: list[str] = []
    for file in files:
        kind, text = _look(file)
        kinds.setdefault(kind, []).append(file)
        texts.append(text)
    if len(kinds) > 1:
        listed = [f"{kind}: {some[0]}{_others(len(some) - 1)}" for kind, some in list(kinds.items())[:LISTED]]
        more = f"; and {len(kinds) - LISTED} kinds more" * (len(kinds) > LISTED)
        raise UserError(f"pictures must be of one size and depth; these are {'; '.join(listed)}{more}")
    if any(texts) and not asked.channels:
        return _exported(files, texts, kind, asked)
    looked_at = files[:: max(1, -(-len(files) // LOOKED_AT))]
    where = f"{files[0]}{_others(len(files) - 1)}"
    picker = choose_channels([_array(file, kind) for file in looked_at], asked, where)
    runs, times = runs_of(list(map(str, files)))
    notes = (*picker.notes, *naming_note(list(map(str, files)), runs, times))
    stack = Pictures(
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
    return [choose_rows(stack, asked)]


def _exported(files: Sequence[Path], texts: list[str], kind: Kind, asked: Asked) -> list[Stack]:
    """Stacks of pictures that p2d exported, with the values that they stand for."""
    if not all(texts):
        raise UserError(
            f"{files[texts.index('')]} was not exported by p2d, and {sum(map(bool, texts))} others were: import them "
            "apart, or give --channels to take all as they are stored"
        )
    alike: dict[str, list[tuple[Path, int, float]]] = {}
    for file, text in zip(files, texts, strict=True):
        values = read_own(text, str(file))
        try:
            run, time = int(values.pop("run")), values.pop("time")
            alike.setdefault(json.dumps(values), []).append((file, run, np.nan if time is None else float(time)))
        except UNREADABLE as error:
            raise UserError(f"{file}: what p2d noted there is damaged ({one_line(error)})") from error
    stacks = (_stack_exported(json.loads(text), rows, kind, asked) for text, rows in alike.items())
    return [choose_rows(stack, asked) for stack in stacks]


def _stack_exported(values: dict[str, Any], rows: list[tuple[Path, int, float]], kind: Kind, asked: Asked) -> Pictures:
    places, runs, times = zip(*rows, strict=True)
    where = str(places[0])
    about = about_own(values, About(), where)
    count = len(about.species)
    picker = Picker((GRAY,) if count == 1 else NAMES[3][:count])
    try:
        scale = Scale(*(tuple(map(float, values["scale"][key])) for key in ("low", "step")))
    except UNREADABLE as error:
        raise UserError(f"{where}: the scale that p2d noted is damaged ({one_line(error)})") from error
    if not len(scale.low) == len(scale.step) == count or len(asked.species) not in (0, count):
        raise UserError(f"{where} holds {count} species ({', '.join(about.species)})")
    return Pictures(
        count=len(rows),
        shape=(count, *kind.shape),
        dtype="float32",
        about=about,
        runs=np.unique(runs, return_inverse=True)[1].astype(np.int64),
        times=np.array(times) if np.isfinite(times).any() else None,
        places=tuple(map(uri, places)),
        kind=kind,
        picker=picker,
        scale=scale,
    )


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


def _look(file: Path) -> tuple[Kind, str]:
    """What kind of picture it is, and what p2d noted in it when it exported it, '' in others."""
    with _opened(file) as image:
        frames = getattr(image, "n_frames", 1)
        if image.format == "PNG" and frames > 1:
            raise UserError(f"{file} is an animation of {frames} frames; save them as single files, or as a gif or mp4")
        width, height = image.size
        bits = 1 if image.mode == "1" else 16 if _is_deep(image) else 8
        kind = Kind((height, width), bits, image.format != "PNG" and image.format != "BMP")
        return kind, str(image.info.get(KEY, ""))


def _is_deep(image: Image) -> bool:
    return image.mode.startswith("I") or any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def _array(file: Path, kind: Kind) -> np.ndarray:
    """The values of a picture, [H, W, K] of one to four channels.

    Raises:
        UserError: it cannot be read, is cut, or is not what it was.
    """
    if _look(file)[0] != kind:
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
