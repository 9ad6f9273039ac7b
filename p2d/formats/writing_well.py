"""The Well's layout of HDF5 (Ohana et al. 2024): runs of one length, t0_fields/NAME [runs, frames, x, y].

Its loader (the_well.data.WellDataset) wants all files of a folder of one size; files may differ in their conditions and
in the length of their runs. Rows of a field are its x, columns its y.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from p2d.fields import Edge
from p2d.formats.own import KEY, Facts
from p2d.formats.reading import optional

EDGES: dict[Edge, str] = {"periodic": "PERIODIC", "mirror": "WALL", "open": "OPEN"}
RESERVED = ("dataset_name", "grid_type", "n_spatial_dims", "n_trajectories", "simulation_parameters", KEY)


def write_well(path: Path, blocks: Iterator[np.ndarray], facts: Facts) -> None:
    """Runs that all have as many snapshots, one after the other, each in the order of time."""
    h5py = optional("h5py", "HDF5 files")
    runs, (count, _, *size) = len(np.unique(facts.runs)), facts.shape
    frames, size = count // runs, [length for length in size if length > 1] or [1]
    with h5py.File(path, "w") as file:
        _write_attributes(file, facts, runs, len(size))
        _write_dimensions(file, facts, size, facts.times.reshape(runs, frames))
        _write_edges(file, facts, size)
        _write_scalars(file.create_group("scalars"), facts.conditions or {})
        for order in ("t0_fields", "t1_fields", "t2_fields"):
            file.create_group(order).attrs["field_names"] = []
        fields = [
            _field(file["t0_fields"], species.name, (runs, frames, *size), species.unit) for species in facts.species
        ]
        file["t0_fields"].attrs["field_names"] = [species.name for species in facts.species]
        row = 0
        for block in blocks:
            for state in block:
                for field, values in zip(fields, state, strict=True):
                    field[divmod(row, frames)] = values.reshape(size)
                row += 1


def _write_attributes(file: Any, facts: Facts, runs: int, dimensions: int) -> None:
    conditions = {name: value for name, value in (facts.conditions or {}).items() if name not in RESERVED}
    file.attrs.update(conditions)
    file.attrs["dataset_name"] = facts.name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = dimensions
    file.attrs["n_trajectories"] = runs
    file.attrs["simulation_parameters"] = list(conditions)
    file.attrs[KEY] = facts.text(has_times=facts.has_times)


def _write_dimensions(file: Any, facts: Facts, size: list[int], times: np.ndarray) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = names = ["x", "y"][: len(size)]
    for name, length in zip(names, size, strict=True):
        values = group.create_dataset(name, data=np.arange(length) * facts.grid.spacing)
        values.attrs.update(sample_varying=False, time_varying=False, units=facts.grid.unit)
    same = bool(np.array_equal(times, np.broadcast_to(times[0], times.shape), equal_nan=True))
    frames = np.broadcast_to(np.arange(times.shape[1], dtype=float), times.shape)
    times = np.where(np.isfinite(times), times, frames)  # numbers of frames where nothing is known
    values = group.create_dataset("time", data=times[0] if same else times)
    values.attrs.update(sample_varying=not same, time_varying=True, units=facts.time_unit)


def _write_edges(file: Any, facts: Facts, size: list[int]) -> None:
    group = file.create_group("boundary_conditions")
    edges = facts.grid.edges if len(size) == 2 else facts.grid.edges[-1:]
    for name, edge, length in zip("xy", edges, size, strict=False):
        one = group.create_group(f"{name}_{EDGES[edge].lower()}")
        one.attrs.update(bc_type=EDGES[edge], sample_varying=False, time_varying=False)
        one.attrs["associated_dims"], one.attrs["associated_fields"] = [name], []
        at_ends = np.zeros(length, bool)
        at_ends[[0, -1]] = True
        one.create_dataset("mask", data=at_ends)


def _write_scalars(group: Any, conditions: dict[str, float]) -> None:
    group.attrs["field_names"] = list(conditions)
    for name, value in conditions.items():
        group.create_dataset(name, data=np.float64(value))
        group[name].attrs.update(sample_varying=False, time_varying=False)


def _field(group: Any, name: str, shape: tuple[int, ...], unit: str) -> Any:
    chunks = (1, 1, *shape[2:])
    field = group.create_dataset(name, shape, "float32", chunks=chunks)
    field.attrs.update(sample_varying=True, time_varying=True, units=unit)
    field.attrs["dim_varying"] = [True] * (len(shape) - 2)
    return field
