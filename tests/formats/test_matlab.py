"""MATLAB files of both kinds: numbers in MATLAB's own order of axes, and nothing else."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from .helpers import mutated, opened, refused, same_or_refused

FIELD = np.random.default_rng(0).random((40, 25))


@pytest.mark.parametrize("compress", [False, True])
def test_version_5(tmp_path, compress):
    path = tmp_path / "a.mat"
    values = {"usol": FIELD, "x": np.arange(40) * 0.5, "t": np.arange(25) * 2.0, "F": 0.03, "s": {"a": 1}, "w": "text"}
    savemat(path, values, do_compression=compress)
    stack = opened(path)
    np.testing.assert_array_equal(stack.read(3, 9)[:, 0, 0], FIELD.T[3:9])
    assert (stack.letters, stack.about.spacing, stack.times[2]) == ("WT", 0.5, 4)
    assert stack.about.conditions == {"F": 0.03}
    assert opened(path, axes="NW").count == 40


def test_version_7_3_has_its_axes_as_matlab_shows_them(tmp_path):
    path = tmp_path / "a.mat"
    u = np.random.default_rng(0).random((16, 12, 30))
    with h5py.File(path, "w", userblock_size=512) as file:
        file["u"] = u.T
        file["name"] = np.frombuffer(b"a\0b\0", np.uint16)
        file["F"] = [[0.03]]
        for name, kind in (("u", "double"), ("name", "char"), ("F", "double")):
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    stack = opened(path, axes="HWN")
    np.testing.assert_array_equal(stack.read(2, 30)[:, 0], u.transpose(2, 0, 1)[2:])
    assert stack.about.conditions == {"F": 0.03}


def test_what_is_not_read(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"u": FIELD + 1j})
    assert "complex" in refused(path, axes="WN")
    savemat(path, {"u": np.array([[1, "a"], [2, "b"]], dtype=object)})
    assert "no array of numbers" in refused(path)


def test_cut_and_mutated_files(tmp_path):
    path = tmp_path / "a.mat"
    for compress in (False, True):
        savemat(path, {"u": np.random.default_rng(0).random((20, 20))}, do_compression=compress)
        content = path.read_bytes()
        path.write_bytes(content[:1000])
        assert str(path) in refused(path)
        for n in range(60):
            changed = mutated(content[:300], np.random.default_rng(n)).ljust(300, b"\0")
            same_or_refused(path, changed + content[300:])


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"u": np.zeros((20, 20))})
    content = path.read_bytes()
    sizes = np.array([20, 20], "<i4").tobytes()
    path.write_bytes(content.replace(sizes, np.array([10**5, 10**5], "<i4").tobytes()))
    assert "claims the shape 100000 x 100000" in refused(path)
