"""HDF5, netCDF and MATLAB 7.3: arrays by name, read a stretch at a time, with what dimension scales tell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats import py_pde
from p2d.formats.containers import Container, own_name, scalar_attributes
from p2d.formats.reading import optional, reading
from p2d.formats.sources import (
    MOST_ARRAYS,
    Index,
    Packing,
    Source,
    is_numeric,
    refuse_claims,
    refuse_many,
)
from p2d.formats.stack import About, Asked, Stack
from p2d.formats.the_well import is_well, open_well

HDF5_MARK = b"\x89HDF\r\n\x1a\n"
NO_COORDINATE = b"This is a netCDF dimension but not a netCDF variable"
MATLAB_NUMBERS = {"double", "single", "logical"} | {f"{s}int{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)}


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, as newer ones of netCDF and MATLAB are; something else may stand before it."""
    with path.open("rb") as file:
        return HDF5_MARK in file.read(1024)


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An HDF5 file, open for reading.

    Raises:
        UserError: it cannot be read: names it.
    """
    h5py = optional("h5py", "HDF5 files")
    with reading(path), h5py.File(path, "r") as file:
        yield file


@dataclass(frozen=True)
class Hdf5Source(Source):
    """A dataset of an HDF5 file.

    Attributes:
        reversed: whether its axes are those of the file backwards, as MATLAB's are.
    """

    reversed: bool = False

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        with opened(self.path) as file:
            return self._values(file, index)

    def series(self, parts: Sequence[Source], index: Index) -> np.ndarray:
        """See Source; the file is opened once."""
        with opened(self.path) as file:
            values = [part._values(file, index) for part in parts if isinstance(part, Hdf5Source)]
        unpacked = [v if p.packing is None else p.packing.unpack(v) for p, v in zip(parts, values, strict=True)]
        return np.stack(unpacked)

    def _values(self, file: Any, index: Index) -> np.ndarray:
        dataset = file[self.name]
        if dataset.shape != (self.shape[::-1] if self.reversed else self.shape):
            raise UserError(f"{self.where} is no longer what it was when it was opened: import it again")
        return dataset[index[::-1]].T if self.reversed else dataset[index]


def open_hdf5(files: list[Path], asked: Asked) -> list[Stack]:
    """Each HDF5 file, or netCDF 4, as a stack; of The Well's layout, one for each set of conditions."""
    stacks: list[Stack] = []
    for path in files:
        with opened(path) as file:
            container = container_of(file, path)
            stacks += open_well(file, container, asked) if is_well(file) else [container.stack(asked)]
    return stacks


def container_of(file: Any, path: Path) -> Container:
    """All arrays of numbers in a file, by name; links to other files are not followed."""
    import h5py

    arrays: dict[str, Source] = {}
    units: dict[str, str] = {}
    matlab = "MATLAB_class" in {key for item in file.values() for key in item.attrs}

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset) and _holds_values(item):
            arrays[name] = _source(item, name, path, matlab)
            units[name] = _text(item.attrs.get("units", ""))
        return True if len(arrays) > MOST_ARRAYS else None

    file.visititems(visit)
    refuse_many(len(arrays), str(path))
    about = About(conditions=scalar_attributes(dict(file.attrs)))
    if py_pde.KEY in file.attrs:
        about = py_pde.about_pde(_text(file.attrs[py_pde.KEY]), str(path))
    return Container(str(path), arrays, units, about)


def _holds_values(dataset: Any) -> bool:
    if dataset.shape is None or _text(dataset.attrs.get("NAME", "")).startswith(NO_COORDINATE.decode()):
        return False
    kind = _text(dataset.attrs.get("MATLAB_class", "double"))
    return kind in MATLAB_NUMBERS and not dataset.dtype.hasobject


def _source(dataset: Any, name: str, path: Path, matlab: bool) -> Hdf5Source:
    refuse_storage(dataset, f"{path}: {name}")
    packing = Packing.of(dataset.attrs, dataset.dtype)
    dtype = packing.dtype if packing else dataset.dtype.str
    if dataset.dtype.names:  # complex values of MATLAB, or a table: listed, and refused when they are asked for
        dtype = "<c16" if {n[0] for n in dataset.dtype.names} == {"r", "i"} else f"|V{dataset.dtype.itemsize}"
    shape, names = dataset.shape, tuple(map(_name_of, dataset.dims))
    if matlab:
        shape, names = shape[::-1], names[::-1]
    return Hdf5Source(str(path), path.stat().st_size, name, shape, dtype, names, packing, matlab)


def _name_of(dimension: Any) -> str | None:
    if dimension.label:
        return str(dimension.label)
    return own_name(dimension[0].name) if len(dimension) else None


def refuse_storage(dataset: Any, where: str) -> None:
    """Refuse what lies in other files, chunks that do not fit into memory, and claims that nothing stored backs."""
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{where} lies in other files, which are not followed: copy it into one with h5repack")
    refuse_claims(dataset, where, dataset.id.get_storage_size(), " with h5repack")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Netcdf3Source(Source):
    """A variable of a netCDF 3 file."""

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        with _netcdf3(self.path) as file:
            return np.array(file.variables[self.name].data[index])  # a copy: the map is closed


def open_netcdf(files: list[Path], asked: Asked) -> list[Stack]:
    """Each netCDF file as a stack: version 4 is HDF5."""
    stacks: list[Stack] = []
    for path in files:
        stacks += open_hdf5([path], asked) if is_hdf5(path) else [_container3(path).stack(asked)]
    return stacks


def _netcdf3(path: str) -> Any:
    """A netCDF 3 file, mapped: no more is read than is looked at."""
    from scipy.io import netcdf_file

    warnings.filterwarnings("ignore", "Cannot close a netcdf_file")  # of a damaged one
    return netcdf_file(path, "r", mmap=True)


def _container3(path: Path) -> Container:
    size = path.stat().st_size
    arrays: dict[str, Source] = {}
    units: dict[str, str] = {}
    with reading(path), _netcdf3(str(path)) as file:
        for name, variable in file.variables.items():
            dtype, attributes = variable.data.dtype, variable._attributes
            packing = Packing.of(attributes, dtype)
            kind = packing.dtype if packing else dtype.str
            shape = tuple(map(int, variable.data.shape))
            if is_numeric(dtype):
                arrays[name] = Netcdf3Source(str(path), size, name, shape, kind, variable.dimensions, packing)
                units[name] = _text(attributes.get("units", ""))
        conditions = scalar_attributes(file._attributes)
        del variable
    return Container(str(path), arrays, units, About(conditions=conditions))
