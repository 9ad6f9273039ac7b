"""Arrays in files, read in place: what the readers of arrays share."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.reading import reading

MOST_SNAPSHOT_BYTES = 2**28
MOST_SNAPSHOTS = 10**8
MOST_ARRAYS = 10**5
# What unpacks to more bytes, and to more times what is stored, is a bomb or was never written: measurements hold noise.
BOMB_BYTES, BOMB_RATIO = 2**28, 1000
Index = tuple[slice, ...]


@dataclass(frozen=True)
class Packing:
    """How values are stored (CF conventions, section 8.1): scale * stored + offset, and nan where stored is `fill`.

    Attributes:
        stored: type of what is stored.
    """

    stored: str
    scale: float = 1.0
    offset: float = 0.0
    fill: float | None = None

    @classmethod
    def of(cls, attributes: Mapping[str, Any], stored: np.dtype) -> Packing | None:
        """That which the attributes of an array tell; None: values are stored as they are."""
        names = ("scale_factor", "add_offset", "_FillValue")
        scale, offset, fill = (_number(attributes.get(name)) for name in names)
        if fill is not None and (np.isnan(fill) or (stored.kind != "f" and scale is None and offset is None)):
            fill = None  # whole numbers stay whole numbers: 255 of a picture is no gap
        if not is_numeric(stored) or (scale, offset, fill) == (None, None, None):
            return None
        return cls(stored.str, 1.0 if scale is None else scale, offset or 0.0, fill)

    @property
    def dtype(self) -> str:
        """Of values."""
        return "<f4" if np.dtype(self.stored) == np.float32 and (self.scale, self.offset) == (1, 0) else "<f8"

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """The values."""
        values = stored.astype(self.dtype) * np.dtype(self.dtype).type(self.scale) + self.offset
        return values if self.fill is None else np.where(stored == stored.dtype.type(self.fill), np.nan, values)


def _number(value: Any) -> float | None:
    values = np.asarray(np.nan if value is None else value)
    return (
        float(values.reshape(-1)[0]) if value is not None and values.size == 1 and values.dtype.kind in "fiu" else None
    )


@dataclass(frozen=True)
class Source(ABC):
    """An array in a file; it holds where that is, and no values.

    Attributes:
        path: of the file.
        size: of the file in bytes when it was opened.
        name: of the array in it; '' where it is the only one.
        shape, dtype: of the array.
        names: of its dimensions, as the file has them; empty or None where it has none.
        packing: how values are stored, where it is not as they are.
    """

    path: str
    size: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    names: tuple[str | None, ...] = ()
    packing: Packing | None = None

    @abstractmethod
    def values(self, index: Index) -> np.ndarray:
        """Part of the array: a slice for each axis, with steps of 1 or more.

        Raises:
            Exception: any, of a damaged file; `get` makes it a UserError.
        """

    def series(self, parts: Sequence[Source], index: Index) -> np.ndarray:
        """The same part of arrays of the same file, of one shape, [len(parts), ...]."""
        return np.stack([part.get(index) for part in parts])

    @property
    def where(self) -> str:
        """For the user: 'run.h5: fields/u'."""
        return f"{self.path}: {self.name}" if self.name else self.path

    @property
    def dtype_name(self) -> str:
        """For the user: 'float32'."""
        return np.dtype(self.dtype).name

    def get(self, index: Index) -> np.ndarray:
        """Part of the array, checked.

        Raises:
            UserError: a file that is no longer what it was, or cannot be read.
        """
        refuse_changed(self.path, self.size)
        shape = tuple(len(range(*part.indices(size))) for part, size in zip(index, self.shape, strict=True))
        with reading(self.where):
            values = self.values(index)
        if values.shape != shape:
            raise UserError(f"{self.where} is no longer what it was when it was opened: import it again")
        return self.packing.unpack(values) if self.packing else values


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts a2 before a10."""
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p.lower()) for p in re.split(r"(\d+)", text) if p]


def refuse_changed(path: str, size: int) -> None:
    """Refuse a file that is gone or of another size than it was."""
    try:
        now = Path(path).stat().st_size
    except OSError as error:
        raise UserError(f"{path} cannot be read any more: {error.strerror}") from error
    if now != size and Path(path).is_file():
        raise UserError(f"{path} has {now} bytes, and had {size} when it was opened: import it again")


def refuse_claims(array: Any, where: str, stored: int, by: str = "") -> None:
    """Refuse an array of HDF5 or Zarr in chunks that do not fit into memory, or one that nothing stored backs.

    Args:
        stored: bytes that its values take.
        by: what makes chunks smaller, such as ' with h5repack'.
    """
    itemsize = array.dtype.itemsize
    if array.chunks and math.prod(array.chunks) * itemsize > MOST_SNAPSHOT_BYTES:
        raise UserError(
            f"{where} is stored in chunks of {' x '.join(map(str, array.chunks))}, above "
            f"{MOST_SNAPSHOT_BYTES // 2**20} MiB each: store it in smaller ones{by}"
        )
    claimed = math.prod(array.shape) * itemsize
    if claimed > max(BOMB_BYTES, BOMB_RATIO * stored):
        raise UserError(
            f"{where} claims {' x '.join(map(str, array.shape))} values, {claimed} bytes, of which {stored} are "
            "stored: was it ever written?"
        )


def refuse_many(arrays: int, where: str) -> None:
    """Refuse a file of more arrays than are listed."""
    if arrays > MOST_ARRAYS:
        raise UserError(f"{where} holds more than {MOST_ARRAYS} arrays: store them as one, with an axis more")


def is_numeric(dtype: np.dtype) -> bool:
    """Whether values of this type are real numbers that numpy computes with."""
    return dtype.kind in "fiub" and dtype.itemsize <= 8


def refuse_type(dtype: np.dtype, where: str) -> None:
    """Refuse values that are not real numbers: objects are pickles, which could run code."""
    if dtype.kind == "c" or {name[0] for name in dtype.names or ()} == {"r", "i"}:
        raise UserError(
            f"{where} holds complex values ({dtype}): store real and imaginary part as two arrays of real numbers, "
            "which are two species"
        )
    if dtype.hasobject:
        raise UserError(f"{where} holds Python objects, which are pickles and are never loaded: store plain numbers")
    if not is_numeric(dtype):
        raise UserError(f"{where} holds values of type {dtype}: real numbers of up to 64 bits are read")


def bits_of(dtype: np.dtype) -> int:
    """Of each value, where they are whole numbers; 0 of others."""
    return {"b": 1, "i": 8 * dtype.itemsize, "u": 8 * dtype.itemsize}.get(dtype.kind, 0)
