"""Films: mp4, mov, avi, mkv, webm and gif. Their frames are snapshots of one run, decoded one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.choosing import choose_rows
from p2d.formats.colours import GRAY, ONLY_GRAY, Picker, choose_channels
from p2d.formats.reading import optional, reading
from p2d.formats.stack import About, Asked, Stack
from p2d.places import place, uri

# The container of each ending. It is not told from the file: a playlist would lead to other files and to the network.
CONTAINERS = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".mov": "mov",
    ".avi": "avi",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".gif": "gif",
}
EXACT = (
    "rawvideo",
    "ffv1",
    "huffyuv",
    "ffvhuff",
    "utvideo",
    "png",
    "qtrle",
    "gif",
)  # codecs that keep values as they are
MOST_PIXELS = 2**27
NEUTRAL = 3  # levels, of 8 bits, that the colour of what is gray may be off by
OPEN = 2  # decoders that a process keeps


@dataclass(frozen=True, eq=False)
class Film(Stack):
    """The frames of a film; see `open_films`."""

    path: str = ""
    picker: Picker = ONLY_GRAY
    only_gray: bool = False

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack. Stretches read one after the other are decoded once; one further back begins anew."""
        states = np.empty((last - first, *self.shape), self.dtype)
        with reading(self.path), _LOCK:
            try:
                for n, frame in enumerate(_decoder(self.path, first).frames(first, last)):
                    states[n] = _values(frame, self.picker, self.only_gray, self.name_of(first + n))
            except BaseException:
                _close(self.path)
                raise
        return states

    def name_of(self, row: int) -> str:
        """See Stack."""
        return f"{self.path}, frame {row}"

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        return (self.path,)


def open_films(files: Sequence[Path], asked: Asked) -> list[Stack]:
    """Each film as a stack of one run, with times from when its frames are shown.

    Each is decoded once, as only that tells how many frames there are and whether all of them can be read.

    Raises:
        UserError: colours of which nothing tells what they are, or a film that cannot be read or is cut.
    """
    return [choose_rows(_open(file, asked), asked) for file in files]


def _open(file: Path, asked: Asked) -> Film:
    path, samples, times = uri(file), [], []
    with reading(file), _Decoder(path) as decoder:
        for n, frame in enumerate(decoder.frames()):
            times.append(frame.time)
            if (
                n & (n - 1) == 0
            ):  # frames 0, 1, 2, 4, 8, ...: their colours tell those of all, which are checked as read
                samples.append(_looked_at(frame))
        rate, codec = decoder.rate, decoder.codec
        if not times or decoder.promised > len(times):
            raise UserError(f"{file} is cut: it says that it has {decoder.promised} frames, and {len(times)} are there")
        deep, bits = frame.format.components[0].bits > 8, frame.format.components[0].bits
        shape, in_planes = (frame.height, frame.width), _in_planes(frame)
    picker = choose_channels(samples, asked, str(file))
    if in_planes and picker.channels == (GRAY,):  # brightness as it is stored
        picker = Picker((GRAY,), notes=picker.notes)
    elif deep:
        bits = 16
    if codec == "gif":
        _refuse_cut_gif(file)
    steady, told = _times(times, rate) if len(times) > 1 else (None, ())
    kept = ("a gif keeps 256 colours: values between them are lost",) * (codec == "gif")
    return Film(
        count=len(times),
        shape=(len(picker.channels), *shape),
        dtype=picker.dtype("uint16" if deep else "uint8"),
        about=About(
            time_unit="s" if told else "",
            bits=0 if picker.weighted else bits,
            lossy=codec not in EXACT,
            notes=(*picker.notes, *told, *kept),
        ),
        runs=np.zeros(len(times), np.int64) if steady is not None else None,
        times=steady,
        path=path,
        picker=picker,
        only_gray=not asked.channels,
    )


def _refuse_cut_gif(file: Path) -> None:
    """Refuse a gif that does not end as gifs do: decoders fill up what is missing."""
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        if stream.read(1) != b";":
            raise UserError(f"{file} is cut: its end is missing")


def _times(shown: list[float | None], rate: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """When each frame is shown, from the first one on, and what the user is told of it."""
    times = np.array([np.nan if time is None else time for time in shown])
    times -= times[0]
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        times = np.arange(len(shown)) / (rate or 1.0)
    rate = (len(shown) - 1) / times[-1]
    note = (
        f"times are those of the film, {rate:g} frames a second: if it runs faster or slower than what it shows, rates "
        "are in its seconds"
    )
    return times, (note,)


class _Decoder:
    """Frames of a film in their order."""

    def __init__(self, path: str) -> None:
        av = optional("av", "films")
        file = place(path)
        self.path, self.next = path, 0
        self.stream = file.open("rb")
        try:
            self.container = av.open(self.stream, format=CONTAINERS[file.suffix.lower()])
            if not self.container.streams.video:
                raise UserError(f"{path} holds no film")
            video = self.container.streams.video[0]
        except BaseException:
            self.stream.close()
            raise
        self.codec = video.codec_context.name
        self.promised = video.frames
        self.rate = float(video.average_rate or 0)
        self._size = (video.codec_context.width, video.codec_context.height)
        if self._size[0] * self._size[1] > MOST_PIXELS:
            self.close()
            raise UserError(
                f"{path} claims frames of {self._size[0]} x {self._size[1]}, more than {MOST_PIXELS} pixels"
            )
        self._frames = self.container.decode(video)

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[Any]:
        """Frames from a number on, which must not lie before the last one that was given."""
        while last is None or self.next < last:
            frame = next(self._frames, None)
            if frame is None and last is None:
                return
            if frame is None:
                raise UserError(f"{self.path} is cut: it ends after frame {self.next - 1}")
            if frame.is_corrupt or (frame.width, frame.height) != self._size:
                raise UserError(f"{self.path}, frame {self.next}: damaged, or of another size than those before it")
            self.next += 1
            if self.next > first:
                yield frame

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):
            self.container.close()
        self.stream.close()

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_LOCK = threading.Lock()
_DECODERS: dict[str, _Decoder] = {}  # of this process, the last used last


def _decoder(path: str, first: int) -> _Decoder:
    """The decoder of a film that is not beyond a frame yet."""
    decoder = _DECODERS.pop(path, None)
    if decoder and decoder.next > first:
        decoder.close()
        decoder = None
    for other in list(_DECODERS)[: len(_DECODERS) - OPEN + 1]:
        _close(other)
    _DECODERS[path] = decoder or _Decoder(path)
    return _DECODERS[path]


def _close(path: str) -> None:
    if decoder := _DECODERS.pop(path, None):
        decoder.close()


def _in_planes(frame: Any) -> bool:
    """Whether brightness has a plane of its own."""
    return bool(frame.format.name.startswith(("gray", "yuv", "nv12", "nv21")))


def _values(frame: Any, picker: Picker, only_gray: bool, where: str) -> np.ndarray:
    """The species [C, H, W] of a frame."""
    if _in_planes(frame) and picker.channels == (GRAY,) and not picker.weighted:
        if only_gray and not _is_gray(frame):
            raise UserError(
                f"{where} has colours, and others are gray: give --channels, such as gray (brightness) or r"
            )
        return _brightness(frame)[None]
    return picker.pick(_rgb(frame), where)


def _looked_at(frame: Any) -> np.ndarray:
    """A frame, [H, W, K]; of one without colours its brightness alone."""
    return _brightness(frame)[..., None] if _in_planes(frame) and _is_gray(frame) else _rgb(frame)


def _rgb(frame: Any) -> np.ndarray:
    return frame.to_ndarray(format="rgb48le" if frame.format.components[0].bits > 8 else "rgb24")


def _brightness(frame: Any) -> np.ndarray:
    return _plane(frame, 0)[: frame.height, : frame.width]


def _is_gray(frame: Any) -> bool:
    bits = frame.format.components[0].bits
    middle, off = 2 ** (bits - 1), NEUTRAL * 2 ** (bits - 8)
    for n in range(1, min(len(frame.planes), 3)):
        colour = _plane(frame, n).astype(np.int32)
        if np.abs(colour - middle).max() > off:
            return False
    return True


def _plane(frame: Any, number: int) -> np.ndarray:
    """A plane of a frame as it is stored, [rows, columns]."""
    plane, component = frame.planes[number], frame.format.components[0]
    order = ">" if frame.format.name.endswith("be") else "<"
    dtype = np.dtype(f"{order}u2" if component.bits > 8 else "u1")
    values = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    width = plane.width * (2 if frame.format.name.startswith("nv") and number else 1)
    return values[:, :width].astype(dtype.newbyteorder("="))
