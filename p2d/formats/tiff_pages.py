"""Pages of an open TIFF file, one at a time, and files that lack some of theirs."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.reading import optional, reading
from p2d.formats.tiff_layout import Layout
from p2d.places import as_remote


@contextmanager
def opened_tiff(file: Path) -> Iterator[Any]:
    """A TiffFile.

    Raises:
        UserError: it cannot be read, or a tag lies beyond its end, which tifffile only logs.
    """
    tifffile = optional("tifffile", "TIFF files")
    with ExitStack() as stack:
        stack.enter_context(reading(file))
        messages = stack.enter_context(_logged())
        # A path where there is one: the metadata of an OME-TIFF may lead to files beside it.
        source = stack.enter_context(file.open("rb")) if as_remote(file) else str(file)
        tiff = stack.enter_context(tifffile.TiffFile(source))
        if any("invalid value offset" in message for message in messages):
            raise UserError(f"{file} is cut or damaged: parts of its header lie beyond its end")
        yield tiff


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What tifffile logs while the block runs, which nobody else is told of."""
    logger, messages = logging.getLogger("tifffile"), []
    handler, propagate = logging.Handler(), logger.propagate
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


@dataclass(frozen=True)
class PageReader:
    """Reads pages of an open TiffFile, and no more of them than is asked for."""

    tiff: Any
    layout: Layout
    file: str

    def page(self, part: int, snapshot: int, channel: int) -> np.ndarray:
        """A page, [H, W, K].

        Raises:
            UserError: it is not there, is cut, or is not what it was.
        """
        number = self.layout.page_number(snapshot, channel)
        series = self.tiff.series[part] if part < len(self.tiff.series) else None
        size = math.prod(self.layout.page)
        if (
            series is None
            or series.keyframe.dtype is None
            or (series.dataoffset is None and series.keyframe.size != size)
        ):
            raise UserError(f"{self.file} has changed while it was read")
        offset, stored = series.dataoffset, series.keyframe.dtype.newbyteorder(self.tiff.byteorder)
        if offset is not None:
            offset += number * size * stored.itemsize
            if offset + size * stored.itemsize > self.tiff.filehandle.size:
                raise self._cut()
            values = self.tiff.filehandle.read_array(stored, count=size, offset=offset)
        else:
            values = self._segments(series, number).asarray(maxworkers=1)
        values = values.reshape(self.layout.page).astype(self.layout.dtype, copy=False)
        if self.layout.colours == "first":
            return np.moveaxis(values, 0, -1)
        return values if self.layout.colours else values[..., None]

    def refuse_cut(self) -> None:
        """Refuse a file that lacks data of any page."""
        pages, size = math.prod(self.layout.lengths), math.prod(self.layout.page)
        for series in self.tiff.series:
            if series.dataoffset is None:
                for number in range(pages):
                    self._segments(series, number)
            elif series.dataoffset + pages * size * series.keyframe.dtype.itemsize > self.tiff.filehandle.size:
                raise self._cut()

    def _segments(self, series: Any, number: int) -> Any:
        """A page that is stored in parts, all of which are in the file."""
        page = series.pages[number] if number < len(series.pages) else None
        if page is None:
            raise self._cut()
        size = page.parent.filehandle.size
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if not count or offset + count > size:
                raise self._cut()
        return page

    def _cut(self) -> UserError:
        return UserError(f"{self.file} is cut: it lacks data of pages that its header names")


def refuse_cut_chain(tiff: Any, file: Path) -> None:
    """Refuse a file whose last page leads to one that cannot be read; tifffile leaves those out."""
    at, length = tiff.pages.next_page_offset, tiff.tiff.offsetsize
    if at is None:
        return
    tiff.filehandle.seek(at)
    pointer = tiff.filehandle.read(length)
    if len(pointer) < length or any(pointer):
        raise UserError(f"{file} is cut or damaged: not all pages that it leads to are there")
