"""HDF5, netCDF and The Well: datasets by name, with the lengths, times, edges and conditions that they declare."""

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from p2d.formats.opening import open_stacks
from p2d.formats.stack import Asked

from .helpers import mutated, opened, refused, same_or_refused, write_well

pytestmark = pytest.mark.filterwarnings("ignore:Cannot close a netcdf_file")  # scipy's, of damaged ones
RNG = np.random.default_rng(0)
FIELD = RNG.random((20, 16, 16))


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("_in_", "/")] = values
    return path


def test_the_only_field_is_taken_and_others_are_listed(tmp_path):
    path = write(tmp_path / "a.h5", u=FIELD, F=0.03, label="text")
    stack = opened(path)
    np.testing.assert_array_equal(stack.read(3, 7)[:, 0], FIELD[3:7])
    assert stack.about.conditions == {"F": 0.03} and stack.name_of(4).endswith("a.h5: u[4]")
    path = write(tmp_path / "b.h5", fields_in_A=FIELD, fields_in_B=FIELD[::-1], mean=FIELD.mean((1, 2)))
    told = refused(path)
    assert "fields/A (20 x 16 x 16 float64)" in told and "--arrays fields/A fields/B" in told
    assert "did you mean 'fields/A'" in refused(path, arrays=("field/A",))
    stack = opened(path, arrays=("A", "fields/B"))
    assert stack.about.species == ("A", "B") and "mean differ" in stack.about.notes[0]
    np.testing.assert_array_equal(stack.read(0, 20), np.stack([FIELD, FIELD[::-1]], 1))


def test_a_group_for_each_step_is_a_series_of_snapshots(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for n, values in enumerate(FIELD):
            file[f"step{n}/u"], file[f"step{n}/v"], file[f"step{n}/t"] = values, 1 - values, 0.5 * n
    stack = opened(tmp_path / "a.h5")
    np.testing.assert_array_equal(stack.read(9, 12), np.stack([FIELD, 1 - FIELD], 1)[9:12])
    assert stack.about.species == ("u", "v")
    assert opened(tmp_path / "a.h5", arrays=("v",), trajectories="3:5").count == 2


def test_species_that_are_called_as_coordinates_are(tmp_path):
    stack = opened(write(tmp_path / "a.h5", X=FIELD, Y=FIELD + 1, x=np.arange(16) * 0.5), arrays=("X", "Y"))
    assert stack.about.species == ("X", "Y") and stack.count == 20
    x, y = np.meshgrid(np.arange(16), np.arange(16))
    assert opened(write(tmp_path / "b.h5", h=FIELD, X=x, Y=y)).shape == (1, 16, 16)


def test_compressed_chunks_and_any_axis_order(tmp_path):
    values = RNG.random((16, 18, 2, 30)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("all", data=values, chunks=(4, 18, 1, 7), compression="gzip", shuffle=True)
        file.attrs["F"] = 0.04
    stack = opened(tmp_path / "a.h5", axes="HWCN", trajectories="2::3")
    np.testing.assert_array_equal(stack.read(1, 5), values.transpose(3, 2, 0, 1)[2::3][1:5])
    assert stack.about.conditions == {"F": 0.04}


def write_netcdf4(path, x=None):
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(20) * 0.5
        file["time"].attrs["units"] = "hours since 2020-01-01"
        file["x"], file["y"] = np.arange(16) * 0.25 if x is None else x, np.arange(16)[::-1] * 0.25
        for name in ("x", "y"):
            file[name].attrs["units"] = "mm"
        for name in ("time", "y", "x"):
            file[name].make_scale(name)
        file["c"] = FIELD
        for axis, name in enumerate(("time", "y", "x")):
            file["c"].dims[axis].attach_scale(file[name])
    return path


def test_dimension_scales_give_axes_spacing_unit_and_times(tmp_path):
    stack = opened(write_netcdf4(tmp_path / "a.nc"))
    assert stack.letters == "THW" and (stack.about.spacing, stack.about.unit) == (0.25, "mm")
    assert stack.about.time_unit == "hours" and stack.times.tolist() == (np.arange(20) * 0.5).tolist()
    assert not stack.runs.any()
    assert opened(tmp_path / "a.nc", times="::4").times.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("x, told", [(np.arange(16.0) ** 2, "not evenly"), (np.arange(16) * 0.5, "0.5 wide and 0.25")])
def test_coordinates_that_are_no_square_grid_are_told(tmp_path, x, told):
    stack = opened(write_netcdf4(tmp_path / "a.nc", x))
    assert stack.about.spacing == 0 and told in stack.about.notes[0]


def test_packed_values_are_unpacked(tmp_path):
    stored = RNG.integers(0, 1000, (20, 16, 16)).astype(np.int16)
    stored[0, 0, 0] = -9
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["c"] = stored
        file["c"].attrs.update(scale_factor=0.01, add_offset=5.0, _FillValue=np.int16(-9))
    stack = opened(tmp_path / "a.nc")
    expected = stored * 0.01 + 5.0
    expected[0, 0, 0] = np.nan
    np.testing.assert_array_equal(stack.read(0, 20)[:, 0], expected)
    assert stack.about.bits == 16 and stack.dtype == "float64"


def test_netcdf_3(tmp_path):
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, size in (("time", None), ("y", 16), ("x", 16)):
            file.createDimension(name, size)
        for name, values in (("time", np.arange(20.0)), ("x", np.arange(16) * 0.5), ("y", np.arange(16) * 0.5)):
            file.createVariable(name, "d", (name,))[:] = values
            file.variables[name].units = "s" if name == "time" else "um"
        file.createVariable("c", "d", ("time", "y", "x"))[:] = FIELD
    stack = opened(tmp_path / "a.nc")
    np.testing.assert_array_equal(stack.read(2, 20)[:, 0], FIELD[2:])
    assert (stack.about.spacing, stack.about.unit, stack.about.time_unit) == (0.5, "um", "s")
    content = (tmp_path / "a.nc").read_bytes()
    for n in range(40):
        same_or_refused(tmp_path / "b.nc", mutated(content, np.random.default_rng(n)))
    assert "cut" in refused_cut(tmp_path / "c.nc", content[:20000]) or "damaged" in refused(tmp_path / "c.nc")


def refused_cut(path, content):
    path.write_bytes(content)
    return refused(path)


def test_the_well(tmp_path):
    a, b = RNG.random((2, 3, 5, 16, 12)).astype(np.float32)
    write_well(tmp_path / "a.hdf5", {"A": a, "B": b}, F=0.03, k=0.06)
    stack = opened(tmp_path / "a.hdf5", trajectories=":2", times="1::2")
    assert stack.about.species == ("u", "v") and stack.about.edges == ("periodic", "periodic")
    assert abs(stack.about.spacing - 2 / 128) < 1e-8 and stack.about.conditions == {"F": 0.03, "k": 0.06}
    assert stack.times.tolist() == [10, 30, 10, 30] and stack.runs.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(stack.read(0, 4), np.stack([a[:2, 1::2], b[:2, 1::2]], 2).reshape(4, 2, 16, 12))
    assert stack.name_of(3).endswith("t0_fields/A[1, 3]")
    assert opened(tmp_path / "a.hdf5", species=("B",)).about.species == ("B",)
    assert opened(tmp_path / "a.hdf5", arrays=("B",), species=("v",)).shape == (1, 16, 12)
    assert "did you mean 'A'" in refused(tmp_path / "a.hdf5", arrays=("AA",))
    assert "takes none of the 3" in refused(tmp_path / "a.hdf5", trajectories="5:")


def test_the_well_with_values_of_each_run_is_a_stack_for_each_value(tmp_path):
    fields = {"c": RNG.random((4, 3, 32))}
    times = np.arange(12.0).reshape(4, 3)
    write_well(tmp_path / "a.h5", fields, times=times, edges=("WALL",), D=2.0, F=np.array([1.0, 1, 2, 1]))
    stacks = open_stacks([tmp_path / "a.h5"], Asked())
    assert [stack.about.conditions for stack in stacks] == [{"D": 2, "F": 1}, {"D": 2, "F": 2}, {"D": 2, "F": 1}]
    assert [stack.count for stack in stacks] == [6, 3, 3] and stacks[1].times.tolist() == [6, 7, 8]
    np.testing.assert_array_equal(stacks[2].read(0, 3)[:, 0, 0], fields["c"][3])
    assert stacks[0].about.edges == ("open", "open") and "WALL" in stacks[0].about.notes[-1]


def test_the_well_of_three_dimensions_is_refused(tmp_path):
    write_well(tmp_path / "a.h5", {"c": np.zeros((1, 2, 8, 8, 8))})
    assert "3 dimensions" in refused(tmp_path / "a.h5")


def test_our_well_files_open_with_its_own_loader(tmp_path):
    from the_well.data import WellDataset

    write_well(tmp_path / "a.hdf5", {"A": RNG.random((2, 4, 16, 12)).astype(np.float32)}, F=0.03)
    item = WellDataset(path=str(tmp_path), use_normalization=False, full_trajectory_mode=True)[1]
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(item["output_fields"][..., 0], file["t0_fields/A"][1, 1:])


def test_what_hdf5_claims_and_does_not_hold_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", (10**6, 10**4, 10**4), "f4", chunks=(1, 100, 100))
    assert "was it ever written" in refused(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("u", (10**4, 4000, 4000), "f4", chunks=(20, 4000, 4000))
    assert "h5repack" in refused(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("u", (20, 16, 16), "f8", external=[(str(tmp_path / "secret"), 0, 20 * 16 * 16 * 8)])
        file["linked"] = h5py.ExternalLink("a.h5", "u")
    assert "other files" in refused(tmp_path / "c.h5")


@pytest.mark.parametrize("values, told", [(FIELD + 1j, "complex"), (np.zeros((20, 16), "S3"), "no array of numbers")])
def test_values_that_are_no_numbers(tmp_path, values, told):
    assert told in refused(write(tmp_path / "a.h5", u=values))


def test_cut_and_mutated_files_are_user_errors(tmp_path):
    content = write(tmp_path / "a.h5", u=FIELD.astype(np.float32)).read_bytes()
    path = tmp_path / "b.h5"
    path.write_bytes(content[: len(content) // 2])
    assert str(path) in refused(path) and "damaged" in refused(path)
    path.write_bytes(b"\0" * 100)
    assert "does not begin as HDF5" in refused(path)
    head = 2048  # where the structure is
    for n in range(60):
        rng = np.random.default_rng(n)
        same_or_refused(path, mutated(content[:head], rng).ljust(head, b"\0") + content[head:])
