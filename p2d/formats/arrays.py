"""Arrays of NumPy: .npy and .npz read in place by offset, whatever the order of their axes."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from p2d.errors import UserError, one_line
from p2d.fields import MOST_SPECIES
from p2d.formats.array_stack import stack_arrays
from p2d.formats.containers import Container, open_container
from p2d.formats.own import KEY, MOST_BYTES
from p2d.formats.reading import reading
from p2d.formats.sources import BOMB_BYTES, BOMB_RATIO, Index, Source, refuse_many, refuse_type
from p2d.formats.stack import Asked, Stack

BLOCK_BYTES = 2**24  # read at once
SKIP_BYTES = 2**12  # what is not wanted is read as well where it is less than this
MOST_HEADER_BYTES = 10_000  # numpy's own limit
MOST_UNPACKED_BYTES = 2**36


@dataclass(frozen=True)
class NpySource(Source):
    """An array as .npy has it.

    Attributes:
        offset: of its first value in the file.
        fortran: whether its first axis runs fastest.
    """

    offset: int = 0
    fortran: bool = False

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        with self.opened() as file:
            return read_strided(file, self.offset, np.dtype(self.dtype), self.shape, index, self.fortran)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The bytes that offsets count in."""
        with Path(self.path).open("rb", buffering=0) as file:
            yield file


@dataclass(frozen=True)
class PackedSource(NpySource):
    """An array in a compressed member of .npz. It is unpacked from its beginning, and on from where it was read last.

    Attributes:
        member: name of the member.
    """

    member: str = ""

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """See NpySource."""
        try:
            yield _unpacking(self.path, self.size, self.member)
        except Exception:
            _unpacking.cache_clear()
            raise


@lru_cache(maxsize=2 * MOST_SPECIES)
def _unpacking(path: str, size: int, member: str) -> IO[bytes]:
    return zipfile.ZipFile(path).open(member)


def read_strided(
    file: IO[bytes], offset: int, dtype: np.dtype, shape: tuple[int, ...], index: Index, fortran: bool
) -> np.ndarray:
    """Part of an array in a file, in native byte order, in memory of its own size and a block.

    Args:
        index: a slice for each axis, with steps of 1 or more.

    Raises:
        EOFError: the file ends before.
    """
    if fortran:
        return read_strided(file, offset, dtype, shape[::-1], index[::-1], False).T
    if not shape:
        return read_strided(file, offset, dtype, (1,), (slice(None),), False).reshape(())
    takes = [range(*part.indices(size)) for part, size in zip(index, shape, strict=True)]
    strides = [math.prod(shape[n + 1 :]) * dtype.itemsize for n in range(len(shape))]
    values = np.empty([len(take) for take in takes], dtype)
    # Axes from `axis` on are read through in one go.
    axis = len(shape) - 1
    while axis and (strides[axis - 1] <= SKIP_BYTES or _is_whole(takes[axis:], shape[axis:])):
        axis -= 1
    take, stride, rest = takes[axis], strides[axis], takes[axis + 1 :]
    starts = np.full((), offset)
    for outer, step in zip(takes[:axis], strides[:axis], strict=True):
        starts = starts[..., None] + np.array(outer) * step
    if take.step == 1 and _is_whole(rest, shape[axis + 1 :]):
        _read_runs(file, (starts + take.start * stride).ravel().tolist(), values)
        return values.astype(dtype.newbyteorder("="), copy=False)
    inner = tuple(slice(t.start, t.stop, t.step) for t in rest)
    rows = values.reshape(-1, *values.shape[axis:])
    for start, row in zip(starts.ravel().tolist(), rows, strict=True):
        for first, last in _blocks(take, stride):
            some = take[first:last]
            block = np.empty((some[-1] + 1 - some[0], *shape[axis + 1 :]), dtype)
            _read_runs(file, [start + some[0] * stride], block)
            row[first:last] = block[(slice(None, None, some.step), *inner)]
    return values.astype(dtype.newbyteorder("="), copy=False)


def _is_whole(takes: list[range], shape: tuple[int, ...]) -> bool:
    return all(len(take) == size for take, size in zip(takes, shape, strict=True))


def _blocks(take: range, stride: int) -> Iterator[tuple[int, int]]:
    """Which of the positions to read in one go."""
    rows = max(BLOCK_BYTES // (stride * take.step), 1)
    if take.step > 1 and stride * take.step > SKIP_BYTES:
        rows = 1
    for first in range(0, len(take), rows):
        yield first, min(first + rows, len(take))


def _read_runs(file: IO[bytes], starts: list[int], values: np.ndarray) -> None:
    """Fill an array with runs of bytes that begin there, all of one length, one after the other.

    Raises:
        EOFError: the file ends before.
    """
    view = values.reshape(-1).view(np.uint8).data
    length = len(view) // max(len(starts), 1)
    read_at = _reader(file)
    for n, start in enumerate(starts):
        part = view[n * length : (n + 1) * length]
        while part:
            count = read_at(part, start)
            if not count:
                raise EOFError(f"it ends {len(part)} bytes early")
            part, start = part[count:], start + count


def _reader(file: IO[bytes]) -> Callable[[memoryview, int], int]:
    """Fills memory with bytes from a place on, and says with how many."""
    if isinstance(file, io.FileIO) and hasattr(os, "preadv"):
        number, preadv = file.fileno(), os.preadv
        return lambda part, start: preadv(number, (part,), start)

    def read(part: memoryview, start: int) -> int:
        file.seek(start)
        return file.readinto(part)  # type: ignore[attr-defined]

    return read


def npy_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether Fortran's order, type and length of the header.

    Raises:
        UserError: not a header of .npy, or objects.
    """
    npy = np.lib.format
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format is not known")
        shape, fortran, dtype = read(file, max_header_size=MOST_HEADER_BYTES)
    except Exception as error:  # a damaged header shows up as any error of Python's parser
        raise UserError(f"{where} has no header of a NumPy array that can be read: {one_line(error)}") from error
    if any(size < 0 for size in shape):
        raise UserError(f"{where} claims the shape {shape}, which is not possible")
    refuse_type(dtype, where)
    return shape, fortran, dtype, file.tell()


def open_npy(files: list[Path], asked: Asked) -> list[Stack]:
    """Each .npy as a stack."""
    return [stack_arrays([_npy(path)], asked) for path in files]


def _npy(path: Path) -> NpySource:
    size = path.stat().st_size
    with path.open("rb") as file:
        shape, fortran, dtype, offset = npy_header(file, str(path))
    refuse_length(str(path), shape, dtype, size - offset)
    return NpySource(str(path), size, "", shape, dtype.str, (), None, offset, fortran)


def refuse_length(where: str, shape: tuple[int, ...], dtype: np.dtype, length: int) -> None:
    """Refuse a header that claims another number of bytes than there are, before memory is taken."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > length:
        raise UserError(
            f"{where} is cut or damaged: {' x '.join(map(str, shape))} values of {dtype} take {claimed} bytes, "
            f"and it holds {length}"
        )
    if claimed < length:
        raise UserError(
            f"{where} holds {length - claimed} bytes more than its header says: several arrays in one file are "
            "stored with np.savez"
        )


def open_npz(files: list[Path], asked: Asked) -> list[Stack]:
    """Each .npz as a stack."""
    return [open_container(Container(str(path), _members(path), own=_own_text(path)), asked) for path in files]


def _own_text(path: Path) -> str:
    """What p2d noted of an array that it exported; '' where nothing."""
    with reading(path), zipfile.ZipFile(path) as archive:
        name = f"{KEY}.npy"
        if name not in archive.namelist() or archive.getinfo(name).file_size > 4 * MOST_BYTES:
            return ""
        with archive.open(name) as file:
            return str(np.lib.format.read_array(file, allow_pickle=False))


def _members(path: Path) -> dict[str, Source]:
    """All arrays of numbers in a .npz.

    Raises:
        UserError: no zip archive, a cut one, a bomb, or members that are no arrays.
    """
    size = path.stat().st_size
    arrays: dict[str, Source] = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        refuse_many(len(members), str(path))
        for info in members:
            source = _member(archive, info, path, size)
            if source:
                arrays[source.name] = source
    if not arrays:
        raise UserError(f"{path} holds no array of numbers")
    return arrays


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, size: int) -> NpySource | None:
    name = info.filename.removesuffix(".npy")
    where = f"{path}: {name}"
    if info.file_size > min(MOST_UNPACKED_BYTES, max(BOMB_BYTES, BOMB_RATIO * info.compress_size)):
        raise UserError(
            f"{where} unpacks from {info.compress_size} to {info.file_size} bytes, which no measured values do: "
            "it is not read"
        )
    with archive.open(info) as file:
        try:
            shape, fortran, dtype, offset = npy_header(file, where)
        except UserError:
            return None  # text or objects, which may lie beside numbers
    refuse_length(where, shape, dtype, info.file_size - offset)
    if info.compress_type != zipfile.ZIP_STORED:
        return PackedSource(str(path), size, name, shape, dtype.str, (), None, offset, fortran, info.filename)
    with path.open("rb") as raw:
        raw.seek(info.header_offset + 26)
        lengths = struct.unpack("<HH", raw.read(4))
    begin = info.header_offset + 30 + sum(lengths)
    if begin + info.file_size > size:
        raise UserError(f"{where} is cut: its values end behind the file")
    return NpySource(str(path), size, name, shape, dtype.str, (), None, begin + offset, fortran)
