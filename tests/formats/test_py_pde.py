"""Files that py-pde wrote say names, spacing, times and whether edges join."""

import numpy as np
import pde
import pytest

from .helpers import opened, refused


def write(path, fields):
    storage = pde.FileStorage(str(path), write_mode="truncate")
    storage.start_writing(fields)
    for n in range(12):
        storage.append(fields, time=0.5 * n)
    storage.end_writing()
    storage.close()
    return path


def scalar(grid, label, seed):
    return pde.ScalarField(grid, np.random.default_rng(seed).random(grid.shape), label=label)


@pytest.mark.parametrize("periodic, edges", [(True, ("periodic", "periodic")), ([True, False], None)])
def test_collections(tmp_path, periodic, edges):
    grid = pde.CartesianGrid([[0, 8], [0, 12]], [16, 24], periodic=periodic)
    fields = pde.FieldCollection([scalar(grid, "a", 0), scalar(grid, "b", 1)])
    stack = opened(write(tmp_path / "a.h5", fields))
    assert (stack.about.species, stack.about.spacing, stack.about.edges) == (("a", "b"), 0.5, edges)
    assert stack.times.tolist() == (np.arange(12) * 0.5).tolist() and not stack.runs.any()
    np.testing.assert_array_equal(stack.read(3, 4)[0], fields.data)


def test_one_field_in_one_dimension(tmp_path):
    field = scalar(pde.UnitGrid([40], periodic=True), None, 0)
    stack = opened(write(tmp_path / "a.h5", field))
    assert (stack.shape, stack.count, stack.about.species, stack.about.spacing) == ((1, 1, 40), 12, ("u",), 1)
    np.testing.assert_array_equal(stack.read(0, 1)[0, 0, 0], field.data)


def test_radial_grids_are_refused(tmp_path):
    field = scalar(pde.PolarSymGrid(8, 16), "c", 0)
    assert "PolarSymGrid" in refused(write(tmp_path / "a.h5", field))
