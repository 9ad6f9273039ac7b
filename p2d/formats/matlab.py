"""MATLAB: files before version 7.3, whose arrays are read whole; later ones are HDF5."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from p2d.errors import UserError
from p2d.fields import MOST_SPECIES
from p2d.formats.containers import Container
from p2d.formats.hdf5 import is_hdf5, open_hdf5
from p2d.formats.reading import reading
from p2d.formats.sources import BOMB_RATIO, Index, Source, refuse_type
from p2d.formats.stack import Asked, Stack

MOST_MATLAB_BYTES = 2**29  # of an array


@dataclass(frozen=True)
class MatlabSource(Source):
    """An array of a MATLAB file before version 7.3, which is read whole."""

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        values = _matlab(self.path, self.size, self.name)
        refuse_type(values.dtype, self.where)  # complex ones show up only here
        return values[index].astype(self.dtype)


@lru_cache(maxsize=MOST_SPECIES)
def _matlab(path: str, size: int, name: str) -> np.ndarray:
    from scipy.io import loadmat

    return np.asarray(loadmat(path, variable_names=[name], appendmat=False)[name])


# Of MATLAB's classes those that hold numbers; cells, structures, objects and functions are left alone.
MATLAB_TYPES = {"double": "f8", "single": "f4", "logical": "u1"} | {
    f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def open_mat(files: list[Path], asked: Asked) -> list[Stack]:
    """Each .mat as a stack; those of version 7.3 are HDF5."""
    return [
        stack for path in files for stack in (open_hdf5([path], asked) if is_hdf5(path) else _open_mat(path, asked))
    ]


def _open_mat(path: Path, asked: Asked) -> list[Stack]:
    from scipy.io import whosmat

    size = path.stat().st_size
    with reading(path):
        variables = whosmat(str(path), appendmat=False)
    arrays: dict[str, Source] = {}
    for name, shape, kind in variables:
        if kind not in MATLAB_TYPES:
            continue
        dtype = np.dtype(MATLAB_TYPES[kind])
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or claimed > MOST_MATLAB_BYTES or claimed > max(BOMB_RATIO * size, 2**20):
            raise UserError(
                f"{path}: {name} claims the shape {' x '.join(map(str, shape))}, {claimed} bytes in a file of {size}; "
                f"up to {MOST_MATLAB_BYTES} are read: store it with -v7.3, or as .npy"
            )
        arrays[name] = MatlabSource(str(path), size, name, tuple(map(int, shape)), dtype.str)
    return [Container(str(path), arrays).stack(asked)]
