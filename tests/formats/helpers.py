"""Files in layouts of others, and what every stack must do."""

import pickle

import h5py
import numpy as np
import pytest

from p2d.errors import UserError
from p2d.formats.opening import open_stacks
from p2d.formats.stack import Asked


def opened(path, **asked):
    """The one stack of a file, after a journey to another process."""
    (stack,) = open_stacks([path], Asked(**asked))
    return pickle.loads(pickle.dumps(stack))


def refused(path, **asked):
    """The line that a source is refused with."""
    with pytest.raises(UserError) as error:
        for stack in open_stacks([path], Asked(**asked)):
            stack.read(0, stack.count)
    assert "\n" not in str(error.value)
    return str(error.value)


def same_or_refused(path, content, **asked):
    """A file with this content is read as it says, or refused in one line: nothing else happens."""
    path.write_bytes(content)
    try:
        for stack in open_stacks([path], Asked(**asked)):
            values = stack.read(0, min(stack.count, 100))
            assert values.shape[1:] == stack.shape
    except UserError as error:
        assert "\n" not in str(error)


def mutated(content, rng):
    """Content with a few bytes changed, or cut, somewhere."""
    content = bytearray(content)
    for at in rng.integers(0, len(content), 4):
        content[at] = rng.integers(256)
    return bytes(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content)


def write_well(path, fields, spacing=(2 / 128, 2 / 128), times=None, edges=("PERIODIC", "PERIODIC"), **scalars):
    """A file in the layout of The Well.

    Args:
        fields: by name, each [runs, frames, x, y] or [runs, frames, x].
        times: [frames] or [runs, frames].
        scalars: a number of all runs, or one of each.
    """
    shape = next(iter(fields.values())).shape
    names = ["x", "y", "z"][: len(shape) - 2]
    with h5py.File(path, "w") as file:
        file.attrs.update(
            dataset_name="gray_scott_reaction_diffusion", grid_type="cartesian", n_spatial_dims=len(names)
        )
        file.attrs.update(n_trajectories=shape[0], simulation_parameters=list(scalars))
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = names
        for name, size, step in zip(names, shape[2:], (*spacing, 1.0), strict=False):
            dimensions[name] = (np.arange(size) * step - 1).astype(np.float32)
            dimensions[name].attrs.update(sample_varying=False, time_varying=False)
        dimensions["time"] = np.arange(shape[1]) * 10.0 if times is None else times
        dimensions["time"].attrs.update(sample_varying=np.ndim(times) == 2, time_varying=True)
        for name, kind in zip(names, edges, strict=False):
            boundary = file.create_group(f"boundary_conditions/{name}_{kind.lower()}")
            boundary.attrs.update(bc_type=kind, associated_dims=[name], sample_varying=False, time_varying=False)
            boundary["mask"] = np.isin(np.arange(shape[2 + names.index(name)]), (0, shape[2 + names.index(name)] - 1))
        group = file.create_group("scalars")
        group.attrs["field_names"] = list(scalars)
        for name, value in scalars.items():
            group[name] = value
            group[name].attrs.update(sample_varying=np.ndim(value) == 1, time_varying=False)
        for order in range(3):
            group = file.create_group(f"t{order}_fields")
            group.attrs["field_names"] = list(fields) if order == 0 else []
            for name, values in fields.items() if order == 0 else ():
                group[name] = values
                group[name].attrs.update(sample_varying=True, time_varying=True, dim_varying=[True] * len(names))
