"""Zarr of format 2 and 3, folders and zip archives: arrays by name, read a chunk at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.containers import Container, open_container, scalar_attributes
from p2d.formats.own import KEY
from p2d.formats.reading import optional, reading
from p2d.formats.sources import (
    BOMB_BYTES,
    BOMB_RATIO,
    Index,
    Packing,
    Source,
    is_numeric,
    refuse_claims,
    refuse_many,
)
from p2d.formats.stack import About, Asked, Stack

# Codecs that turn bytes into numbers and do nothing else; others, such as pickle, could run code.
CODECS = frozenset(
    """adler32 astype bitround blosc bytes bz2 crc32 crc32c delta endian fixedscaleoffset fletcher32 gzip lz4 lzma
    packbits pcodec quantize sharding_indexed shuffle transpose zfpy zlib zstd""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class ZarrSource(Source):
    """An array of a Zarr store."""

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        array = _array(self.path, self.size, self.name)
        if array.shape != self.shape:
            raise UserError(f"{self.where} is no longer what it was when it was opened: import it again")
        return np.asarray(array[index])


@lru_cache(maxsize=16)
def _array(path: str, size: int, name: str) -> Any:
    root = _root(path)
    return root[name] if name else root


def _root(path: str) -> Any:
    zarr = optional("zarr", "Zarr stores")
    return zarr.open(zarr.storage.ZipStore(path, mode="r") if Path(path).is_file() else path, mode="r")


def open_zarr(files: list[Path], asked: Asked) -> list[Stack]:
    """Each Zarr folder or archive as a stack."""
    return [open_container(_container(path), asked) for path in files]


def _container(path: Path) -> Container:
    zarr = optional("zarr", "Zarr stores")
    stored, size = _stored_bytes(path), path.stat().st_size
    arrays: dict[str, Source] = {}
    units: dict[str, str] = {}
    notes: list[str] = []
    with reading(path):
        root = _root(str(path))
        members = [("", root)] if isinstance(root, zarr.Array) else list(root.members(max_depth=None))
        refuse_many(len(members), str(path))
        for name, array in members:
            if isinstance(array, zarr.Array) and (is_numeric(array.dtype) or array.dtype.kind == "c"):
                arrays[name] = source = _source(array, name, path, size)
                units[name] = str(array.attrs.get("units", ""))
                refuse_claims(array, source.where, stored)
                if missing := array.nchunks - array.nchunks_initialized:
                    notes.append(
                        f"{missing} chunks of {array.nchunks} of {name or path.name} are not stored: "
                        f"{array.fill_value} there"
                    )
        conditions = scalar_attributes(dict(root.attrs))
        own = str(root.attrs.get(KEY, ""))
    return Container(str(path), arrays, units, About(conditions=conditions, notes=tuple(notes)), own)


def _source(array: Any, name: str, path: Path, size: int) -> ZarrSource:
    metadata = array.metadata.to_dict()
    if unknown := set(_codecs(metadata)) - CODECS:
        raise UserError(f"{path}: {name or 'the array'} is stored with {', '.join(sorted(unknown))}, which is not read")
    names = metadata.get("dimension_names") or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    names = tuple(names) if len(names) == array.ndim else ()
    packing = Packing.of(dict(array.attrs), array.dtype)
    dtype = packing.dtype if packing else array.dtype.str
    return ZarrSource(str(path), size, name, tuple(array.shape), dtype, names, packing)


def _codecs(metadata: dict[str, Any]) -> Iterator[str]:
    """Names of all codecs, those within others too."""
    inner = [metadata.get("compressor"), *(metadata.get("filters") or ())]  # format 2
    for codec in filter(None, inner):
        yield str(codec["id"])
    for key in ("codecs", "index_codecs"):  # format 3
        for codec in metadata.get(key) or ():
            yield str(codec["name"]).removeprefix("numcodecs.")
            yield from _codecs(codec.get("configuration") or {})


def _stored_bytes(path: Path) -> int:
    """That the files of a store take; refuses an archive that unpacks to more than measured values could."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    with reading(path), zipfile.ZipFile(path) as archive:
        sizes = [(info.file_size, info.compress_size) for info in archive.infolist()]
    unpacked, packed = sum(size for size, _ in sizes), sum(size for _, size in sizes)
    if unpacked > max(BOMB_BYTES, BOMB_RATIO * packed):
        raise UserError(
            f"{path} unpacks from {packed} to {unpacked} bytes, which no measured values do: it is not read"
        )
    return unpacked
