"""Arrays are read in place: the values that numpy wrote, in memory as much as is asked for."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2d.errors import UserError

from .helpers import mutated, opened, refused, same_or_refused

LETTERS = {"N": 5, "C": 2, "H": 9, "W": 11, "R": 3, "T": 4}


def canonical(array, axes):
    """[n, C, H, W] of an array."""
    array = array.transpose([axes.index(letter) for letter in "RNTCHW" if letter in axes])
    size = dict(zip("CHW", (1, 1, 1), strict=True)) | {a: LETTERS[a] for a in "CHW" if a in axes}
    return array.reshape(-1, *size.values())


@pytest.mark.parametrize("axes", ["NCHW", "HWCN", "WNHC", "CNHW", "NHW", "HWN", "RTCHW", "TCHWR", "RNW", "WT", "CHW"])
@pytest.mark.parametrize("order", "CF")
def test_any_order_of_axes(tmp_path, axes, order):
    rng = np.random.default_rng(1)
    array = np.asarray(rng.random([LETTERS[a] for a in axes]), ">f4", order=order)
    np.save(tmp_path / "a.npy", array)
    stack = opened(tmp_path / "a.npy", axes=axes, species=("a", "b") if "C" in axes else ("a",))
    expected = canonical(array, axes)
    assert (stack.count, stack.shape, stack.dtype) == (len(expected), expected.shape[1:], "float32")
    for first, last in ((0, stack.count), (1, stack.count - 1), (stack.count - 1, stack.count), (1, 1)):
        if first <= last:
            values = stack.read(first, last)
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, expected[first:last])


def test_frames_are_of_their_run(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 9, 9)))
    stack = opened(tmp_path / "a.npy", axes="RTHW")
    assert stack.runs.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and stack.times is None
    assert stack.name_of(6).endswith("a.npy[1, 2]")
    assert opened(tmp_path / "a.npy", axes="TNHW").name_of(6).endswith("a.npy[0, 2]")


def test_a_choice_of_runs_and_frames(tmp_path):
    array = np.random.default_rng(0).random((6, 10, 9, 9))
    np.save(tmp_path / "a.npy", array)
    stack = opened(tmp_path / "a.npy", axes="RTHW", trajectories="1:5:2", times="3::3")
    np.testing.assert_array_equal(stack.read(0, 6)[:, 0], array[1:5:2, 3::3].reshape(-1, 9, 9))
    assert stack.name_of(4).endswith("[3, 6]")
    assert opened(tmp_path / "a.npy", axes="RTHW", trajectories="-1", times="2").count == 1
    for wrong in ("a", "7:", "::-1", ":::", "::0"):
        with pytest.raises(UserError, match="--trajectories"):
            opened(tmp_path / "a.npy", axes="RTHW", trajectories=wrong)
    with pytest.raises(UserError, match=r"no axis of frames \(T\)"):
        opened(tmp_path / "a.npy", axes="RNHW", times=":3")


def test_a_cut_or_lengthened_file_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((9, 12, 12)))
    whole = path.read_bytes()
    for content, told in ((whole[:-1], "is cut"), (whole + b"\0", "more than its header"), (whole[:50], "no header")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=told):
            opened(path)
    path.write_bytes(whole)
    stack = opened(path)
    path.write_bytes(whole[:-8])
    with pytest.raises(UserError, match="when it was opened"):
        stack.read(0, 1)


@pytest.mark.parametrize(
    "dtype, told", [("O", "never loaded"), ("c16", "two species"), ("U3", "type <U3"), ("M8[s]", "datetime")]
)
def test_values_that_are_no_numbers_are_refused(tmp_path, dtype, told):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 12, 12), dtype), allow_pickle=True)
    with pytest.raises(UserError, match=told):
        opened(path)


def header(path, shape, dtype="<f8"):
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.write(b"\0" * 80)


@pytest.mark.parametrize("shape", [(10**6, 10**4, 10**4), (2**62, 2**62), (-1, 12, 12), (0, 12, 12)])
def test_headers_that_claim_what_cannot_be(tmp_path, shape):
    header(tmp_path / "a.npy", shape)
    with pytest.raises(UserError):
        opened(tmp_path / "a.npy")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 127), st.binary(min_size=1, max_size=4))
def test_a_mutated_header_is_a_user_error_or_the_same_number_of_values(tmp_path_factory, at, by):
    path = tmp_path_factory.mktemp("mutated") / "a.npy"
    np.save(path, np.zeros((9, 12, 12)))
    content = bytearray(path.read_bytes())
    content[at : at + len(by)] = by
    path.write_bytes(content)
    try:
        stack = opened(path)
    except UserError:
        return
    assert stack.read(0, stack.count).nbytes == 9 * 12 * 12 * 8


@pytest.mark.parametrize("axes, shape", [("NHW", (32768, 128, 128)), ("HWN", (128, 128, 32768))])
def test_a_large_file_is_read_in_bounded_memory(tmp_path, axes, shape):
    path = tmp_path / "a.npy"
    header(path, shape, "<f4")
    offset = path.stat().st_size - 80
    with path.open("r+b") as file:
        file.truncate(offset + 2**31)
        file.seek(offset + 2**30)
        file.write(np.float32(7).tobytes())  # the middle: half of the snapshots, or half of the rows
    stack = opened(path, axes=axes)
    tracemalloc.start()
    first, last = (16384, 16400) if axes == "NHW" else (0, 16)
    values = stack.read(first, last)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
    assert values.shape == (16, 1, 128, 128)
    assert values[0, 0, *((0, 0) if axes == "NHW" else (64, 0))] == 7 and values.sum() == 7


U, V = np.random.default_rng(0).random((2, 30, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_stored_and_compressed(tmp_path, save):
    save(tmp_path / "a.npz", U=U, V=np.asfortranarray(V), F=0.03, a=np.arange(30), note=np.array({}, dtype=object))
    stack = opened(tmp_path / "a.npz")
    expected = np.stack([U, V], 1)
    for first, last in ((20, 25), (3, 9), (0, 30)):  # forwards and back
        np.testing.assert_array_equal(stack.read(first, last), expected[first:last])
    assert stack.about.species == ("U", "V") and stack.about.conditions == {"F": 0.03}
    assert "a differ from snapshot to snapshot" in stack.about.notes[0]
    assert opened(tmp_path / "a.npz", trajectories="7").about.conditions == {"F": 0.03, "a": 7}
    assert opened(tmp_path / "a.npz", arrays=("V",), species=("w",)).about.species == ("w",)
    assert "did you mean 'V'" in refused(tmp_path / "a.npz", arrays=("VV",))
    assert "must be of one shape" in refused(tmp_path / "a.npz", arrays=("U", "a"))


def test_npz_takes_arrays_that_are_called_as_the_species(tmp_path):
    np.savez(tmp_path / "a.npz", b=U, a=V, c=U)
    stack = opened(tmp_path / "a.npz", species=("a", "b"))
    np.testing.assert_array_equal(stack.read(0, 2), np.stack([V, U], 1)[:2])
    told = refused(tmp_path / "a.npz")
    assert "b (30 x 12 x 12 float32), a (30" in told and "such as --arrays b a" in told


def test_npz_coordinates_give_axes_spacing_and_times(tmp_path):
    np.savez(tmp_path / "a.npz", c=np.zeros((40, 25)), x=np.arange(40) * 0.5, t=np.arange(25) * 2.0)
    stack = opened(tmp_path / "a.npz", times="5:")
    assert (stack.letters, stack.count, stack.about.spacing) == ("WT", 20, 0.5) and stack.times[0] == 10


def test_npz_says_run_and_time_of_each_snapshot(tmp_path):
    run, time = np.arange(30) // 10 + 5, np.arange(30) % 10 * 0.5
    np.savez(tmp_path / "a.npz", u=U, run=run, time=time)
    stack = opened(tmp_path / "a.npz", trajectories="5:25")
    assert stack.letters == "NHW" and stack.about.conditions == {} and stack.about.notes == ()
    assert stack.runs.tolist() == (run[5:25] - 5).tolist() and stack.times.tolist() == time[5:25].tolist()


def test_bombs_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("u.npy", "w") as member:
        npy = {"descr": "<f4", "fortran_order": False, "shape": (300, 512, 512)}
        np.lib.format.write_array_header_1_0(member, npy)
        for _ in range(300):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**20 and "no measured values do" in refused(path)


def test_cut_and_mutated_npz(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", u=U)
        content = (tmp_path / "a.npz").read_bytes()
        path = tmp_path / "b.npz"
        path.write_bytes(content[:-100])
        assert str(path) in refused(path) and "damaged" in refused(path)
        ends = content[:300] + content[-200:]
        for n in range(40):
            changed = mutated(ends, np.random.default_rng(n))
            same_or_refused(path, changed[:300] + content[300:-200] + changed[300:])
