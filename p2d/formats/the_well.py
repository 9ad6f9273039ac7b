"""The layout of The Well (Ohana et al. 2024): runs of scalar fields on a grid, with times, edges and constants.

t0_fields/NAME [n_trajectories, n_steps, x, y]; dimensions/time and dimensions/x, y; boundary_conditions; scalars.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from p2d.errors import UserError, refuse_unknown
from p2d.fields import MOST_SPECIES, Edge
from p2d.formats.array_stack import ArrayStack, chosen, stack_arrays
from p2d.formats.containers import Container, own_name
from p2d.formats.coordinates import MOST_COORDINATES, Coordinate, spacing_of
from p2d.formats.own import KEY, about_own, read_own
from p2d.formats.sources import Source, is_numeric
from p2d.formats.stack import About, Asked, Stack

AXES = {1: "W", 2: "HW"}
# Gray-Scott's species there, and here.
GRAY_SCOTT = {"A": "u", "B": "v"}


def is_well(file: Any) -> bool:
    """Whether an HDF5 file has this layout."""
    return "t0_fields" in file and "dimensions" in file and "spatial_dims" in file["dimensions"].attrs


def open_well(file: Any, container: Container, asked: Asked) -> list[Stack]:
    """Stacks of the runs, one for each set of conditions.

    Raises:
        UserError: a grid of three dimensions or of another type, fields that are not there, or too many.
    """
    dimensions = _names(file["dimensions"].attrs["spatial_dims"])
    grid = _text(file.attrs.get("grid_type", "cartesian"))
    if len(dimensions) not in AXES or grid != "cartesian":
        raise UserError(
            f"{container.where} holds fields on a {grid} grid of {len(dimensions)} dimensions: cartesian ones of 1 or "
            "2 are read"
        )
    names, notes = _fields(file, asked, container.where)
    varying = file["t0_fields"][names[0]].attrs
    letters = "R" * bool(varying.get("sample_varying", True)) + "T" * bool(varying.get("time_varying", True))
    letters += AXES[len(dimensions)]
    sources = [container.arrays[f"t0_fields/{name}"] for name in names]
    _refuse_shape(sources, letters, container.where)
    if len(dimensions) == 2:
        notes.append(f"{dimensions[0]} of the file runs from row to row, {dimensions[1]} along a row")
    spacing, unit, uneven = spacing_of([c for d in dimensions if (c := _coordinate(file, d)) is not None])
    edges, at_edges = _edges(file, dimensions)
    species = tuple(GRAY_SCOTT[n] if set(names) == set(GRAY_SCOTT) else n for n in names)
    about = About(species, spacing, unit, edges, notes=(*notes, *uneven, *at_edges))
    exported = read_own(_text(file.attrs[KEY]), container.where) if KEY in file.attrs else {}
    if exported:
        about = about_own(exported, replace(about, notes=()), container.where)
    own = replace(asked, axes=letters, arrays=())
    constants, of_run = _scalars(file, letters)
    runs = chosen(asked.trajectories, sources[0].shape[0], "--trajectories") if "R" in letters else None
    stacks: list[Stack] = []
    for values, some in _alike(of_run, runs):
        one = replace(own, trajectories=some or own.trajectories)
        stack = stack_arrays(sources, one, replace(about, conditions=constants | values))
        stacks.append(_timed(stack, file) if exported.get("has_times", True) else stack)
    return stacks


def _fields(file: Any, asked: Asked, where: str) -> tuple[list[str], list[str]]:
    """Names of the scalar fields that are species, and what to say of others."""
    group = file["t0_fields"]
    names = _names(group.attrs.get("field_names", list(group)))
    missing = [name for name in names if name not in group]
    if missing:
        raise UserError(f"{where} lists the field {missing[0]}, and does not hold it")
    full = [name for name in names if all(group[name].attrs.get("dim_varying", [True]))]
    notes = [f"{name} is the same along an axis, and was left out" for name in names if name not in full]
    for order in ("t1_fields", "t2_fields"):
        if order in file and (others := _names(file[order].attrs.get("field_names", list(file[order])))):
            what = "vectors" if order == "t1_fields" else "tensors"
            notes.append(f"{', '.join(others)} in {order} are {what}, and were left out")
    if asked.arrays:
        names = [own_name(name) for name in asked.arrays]
        for name in names:
            refuse_unknown(f"field of {where}", name, full)
        return names, notes
    if asked.species and set(asked.species) <= set(full):
        return list(asked.species), notes
    changing = [name for name in full if group[name].attrs.get("time_varying", True)]
    notes += [f"{name} does not change in time, and was left out" for name in full if name not in changing]
    if not changing or len(changing) > MOST_SPECIES:
        raise UserError(
            f"{where} holds {len(changing)} scalar fields ({', '.join(changing or names)}); 1 to {MOST_SPECIES} are "
            "read: name them with --arrays"
        )
    return changing, notes


def _refuse_shape(sources: list[Source], letters: str, where: str) -> None:
    for source in sources:
        if len(source.shape) != len(letters):
            raise UserError(f"{source.where} has shape {source.shape}, where The Well's layout has {letters}")


def _coordinate(file: Any, name: str) -> Coordinate | None:
    if name not in file["dimensions"]:
        return None
    values = _values(file["dimensions"][name])
    if values.ndim == 2:  # of each run: the same, or not known
        values = values[0] if (values == values[0]).all() else np.array([0.0, np.nan])
    return Coordinate(values, _text(file["dimensions"][name].attrs.get("units", ""))) if values.size > 1 else None


def _timed(stack: ArrayStack, file: Any) -> ArrayStack:
    """With the times of its rows."""
    if "time" not in file["dimensions"] or "T" not in stack.letters:
        return stack
    times = _values(file["dimensions"]["time"])
    size = dict(zip(stack.letters, stack.sources[0].shape, strict=True))
    if times.shape not in ((size["T"],), (size.get("R", 1), size["T"])):
        note = f"times have shape {times.shape}, which fits no axis: they are not known"
        return replace(stack, about=replace(stack.about, notes=(*stack.about.notes, note)))
    if "R" not in size:
        times = times.reshape(-1)
    unit = _text(file["dimensions"]["time"].attrs.get("units", ""))
    return replace(stack, times=stack.times_of_frames(times), about=replace(stack.about, time_unit=unit))


def _edges(file: Any, dimensions: list[str]) -> tuple[tuple[Edge, Edge] | None, list[str]]:
    """Of rows and of columns; a wall says not what happens there, so that it is taken as open."""
    types: dict[str, str] = {}
    group = file.get("boundary_conditions", {})
    for boundary in group.values():
        of = _names(boundary.attrs.get("associated_dims", []))
        kind = _text(boundary.attrs.get("bc_type", "")).upper()
        for dimension in of:
            types[dimension] = kind if len(of) == 1 and types.get(dimension, kind) == kind else "MIXED"
    if not types:
        return None, []
    notes = [
        f"{d} has edges of type {types.get(d, 'OPEN')}: they are taken as open; where nothing flows through them, "
        "give --edges mirror"
        for d in dimensions
        if types.get(d, "OPEN") not in ("PERIODIC", "OPEN")
    ]
    edges: list[Edge] = ["periodic" if types.get(d) == "PERIODIC" else "open" for d in dimensions]
    return (edges[0], edges[-1]), notes


def _scalars(file: Any, letters: str) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Constants of all runs, and those of each run."""
    constants: dict[str, float] = {}
    of_run: dict[str, np.ndarray] = {}
    group = file.get("scalars", {})
    for name in group:
        varying, values = group[name].attrs, _values(group[name])
        if varying.get("time_varying", False):
            continue
        if varying.get("sample_varying", False) and "R" in letters and values.ndim == 1:
            of_run[name] = values
        elif values.size == 1:
            constants[name] = float(values.reshape(-1)[0])
    for name in _names(file.attrs.get("simulation_parameters", [])):
        value = np.asarray(file.attrs.get(name, np.nan))
        if value.size == 1 and value.dtype.kind in "fiu" and np.isfinite(value).all():
            constants.setdefault(name, float(value.reshape(-1)[0]))
    return constants, of_run


def _alike(of_run: dict[str, np.ndarray], runs: range | None) -> Iterator[tuple[dict[str, float], str]]:
    """Runs beside each other with the same values, as these and a choice of them."""
    if not of_run or runs is None:
        yield {}, ""
        return
    for values, some in groupby(runs, lambda run: tuple(float(of_run[name][run]) for name in of_run)):
        taken = list(some)
        yield dict(zip(of_run, values, strict=True)), f"{taken[0]}:{taken[-1] + 1}:{runs.step}"


def _values(dataset: Any) -> np.ndarray:
    """A small array, whole, float."""
    if not is_numeric(dataset.dtype) or math.prod(dataset.shape) > MOST_COORDINATES:
        raise UserError(f"{dataset.name} has shape {dataset.shape} of {dataset.dtype}: it must be a few numbers")
    return np.asarray(dataset[()], float)


def _names(values: Any) -> list[str]:
    return [_text(value) for value in np.atleast_1d(values).tolist()] if len(np.atleast_1d(values)) else []


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
