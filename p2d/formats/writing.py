"""Snapshots written in the formats of others, a block at a time, with what is known of them.

Of each format a function takes where to write (which is not there yet), blocks of states float32 [n, C, H, W] that add
up to N snapshots, and Facts. Outside a mask states are nan.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2d.formats.own import KEY, Facts
from p2d.formats.reading import optional
from p2d.formats.writing_pictures import refuse_png, write_png, write_tiff
from p2d.formats.writing_well import write_well

Blocks = Iterator[np.ndarray]
CHUNK_BYTES = 2**22  # of a chunk of Zarr, about


@dataclass(frozen=True)
class Format:
    """A format that snapshots can be written in.

    Attributes:
        write: see above.
        suffixes: of a file, the usual one first; none of a format that is a folder of files.
        by_run: snapshots are written run by run, in the order of time; else in that of the dataset.
        alike: runs of one length are written together, those of other lengths apart.
        ranges: it needs the exact lowest and highest values of species.
        refuse: refuses what it cannot hold.
        exact: values come back as they are.
    """

    write: Callable[[Path, Blocks, Facts], None]
    suffixes: tuple[str, ...] = ()
    by_run: bool = False
    alike: bool = False
    ranges: bool = False
    refuse: Callable[[Facts], None] = lambda _: None
    exact: bool = True

    @property
    def suffix(self) -> str:
        """Of a file."""
        return self.suffixes[0] if self.suffixes else ""


def write_npz(path: Path, blocks: Blocks, facts: Facts) -> None:
    """Arrays `states` [N, C, H, W], `runs` and `times` [N], and the text `p2d`, not compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("states.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": facts.shape}
            np.lib.format.write_array_header_1_0(member, header)
            for block in blocks:
                member.write(np.ascontiguousarray(block, "<f4").data)
        for name, values in _beside(facts).items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def write_zarr(path: Path, blocks: Blocks, facts: Facts) -> None:
    """A Zarr group (format 3): arrays `states` [N, C, H, W], `runs` and `times` [N]; the text `p2d` is an attribute."""
    zarr = optional("zarr", "Zarr folders")
    group = zarr.create_group(str(path))
    beside = _beside(facts)
    group.attrs[KEY] = str(beside.pop(KEY))
    rows = max(1, CHUNK_BYTES // (4 * int(np.prod(facts.shape[1:]))))
    chunks = (min(rows, facts.shape[0]), *facts.shape[1:])
    names = ("snapshot", "species", "y", "x")
    states = group.create_array("states", shape=facts.shape, chunks=chunks, dtype="float32", dimension_names=names)
    written = 0
    for block in _of_rows(blocks, rows):
        states[written : written + len(block)] = block
        written += len(block)
    for name, values in beside.items():
        group.create_array(name, data=values, dimension_names=("snapshot",))


def _of_rows(blocks: Blocks, rows: int) -> Blocks:
    """The same states in blocks of so many rows, but for the last."""
    left: list[np.ndarray] = []
    for block in blocks:
        left.append(block)
        while sum(map(len, left)) >= rows:
            joined = np.concatenate(left) if len(left) > 1 else left[0]
            yield joined[:rows]
            left = [joined[rows:]]
    if sum(map(len, left)):
        yield np.concatenate(left)


def _beside(facts: Facts) -> dict[str, np.ndarray]:
    """What is written beside the states, by name."""
    return {"runs": facts.runs, "times": facts.times, KEY: np.array(facts.text())}


FORMATS: dict[str, Format] = {
    "well": Format(write_well, (".hdf5", ".h5"), by_run=True, alike=True),
    "npz": Format(write_npz, (".npz",)),
    "png": Format(write_png, ranges=True, refuse=refuse_png, exact=False),
    "tiff": Format(write_tiff, (".ome.tif", ".tif", ".tiff"), by_run=True),
    "zarr": Format(write_zarr, (".zarr",)),
}
