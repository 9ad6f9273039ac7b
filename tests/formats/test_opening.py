"""What a user names becomes stacks of one size and the same species, or one line that says why not."""

import os
import pickle

import numpy as np
import pytest

from p2d.errors import UserError
from p2d.formats.opening import open_stacks
from p2d.formats.sources import natural
from p2d.formats.stack import Asked


def save(path, *shape):
    np.save(path, np.random.default_rng(0).random(shape))
    return path


def refused(*sources, **asked):
    with pytest.raises(UserError) as error:
        open_stacks(sources, Asked(**asked))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_read_in_natural_order(tmp_path):
    for n in (10, 2, 1):
        save(tmp_path / f"a{n}.npy", 9, 12, 12)
    (tmp_path / ".hidden.npy").write_bytes(b"no array")
    (tmp_path / "notes.doc").write_text("no array either")
    stacks = open_stacks([tmp_path], Asked())
    assert [stack.files[0].rpartition("/")[2] for stack in stacks] == ["a1.npy", "a2.npy", "a10.npy"]


def test_globs_that_the_shell_left_are_expanded(tmp_path):
    save(tmp_path / "b2.npy", 9, 12, 12), save(tmp_path / "b10.npy", 9, 12, 12), save(tmp_path / "c.npy", 10, 9, 9)
    stacks = open_stacks([str(tmp_path / "b*.npy")], Asked())
    assert [stack.files[0][-7:] for stack in stacks] == ["/b2.npy", "b10.npy"]
    assert "no file fits" in refused(str(tmp_path / "d*.npy"))


def test_natural_order():
    names = ["a10b2", "a2", "a10b1", "B1", "a"]
    assert sorted(names, key=natural) == ["a", "a2", "a10b1", "a10b2", "B1"]


def test_what_is_not_there_is_told_with_the_nearest_name(tmp_path):
    save(tmp_path / "plates.npy", 9, 12, 12)
    assert "did you mean 'plates.npy'" in refused(tmp_path / "plate.npy")
    assert "no folder" in refused(tmp_path / "none" / "plate.npy")
    assert "no file is named" in refused()


def test_folders_with_nothing_to_read(tmp_path):
    assert "is empty" in refused(tmp_path)
    (tmp_path / "a.doc").write_text("x")
    assert ".doc" in refused(tmp_path) and ".npy" in refused(tmp_path)


def test_unknown_suffixes_are_told_with_those_that_are_read(tmp_path):
    path = tmp_path / "a.dat1"
    path.write_text("x")
    assert ".npy" in refused(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "it holds HDF5" in refused(path)


@pytest.mark.parametrize(
    "content, told",
    [
        (b"\x89PNG\r\n\x1a\n....", "holds a PNG picture"),
        (pickle.dumps([1]), "pickle, which is never loaded"),
        (b"", "is empty"),
        (b"nothing known", "does not begin as a NumPy array"),
    ],
)
def test_a_file_is_what_its_name_says(tmp_path, content, told):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    assert told in refused(path)


def test_mixed_sizes_are_listed_with_a_file_each(tmp_path):
    save(tmp_path / "a.npy", 9, 12, 12), save(tmp_path / "b.npy", 9, 12, 12), save(tmp_path / "c.npy", 10, 9, 9)
    told = refused(tmp_path)
    assert "1 species of 12 x 12 (18, such as" in told and "a.npy" in told
    assert "1 species of 9 x 9 (10, such as" in told and "c.npy" in told


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = save(tmp_path / "a.npy", 9, 12, 12)
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_stores_are_told_to_be_copied(tmp_path):
    assert "copy the files here" in refused("s3://bucket/a.npy")


def test_files_of_one_species_each_are_joined(tmp_path):
    rng = np.random.default_rng(0)
    u, v = rng.random((2, 9, 12, 12)).astype(np.float32)
    np.save(tmp_path / "u.npy", u), np.save(tmp_path / "w.npy", v.astype(float))
    (stack,) = open_stacks([tmp_path / "u.npy", tmp_path / "w.npy"], Asked(species=("u", "v")))
    stack = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(stack.read(2, 8), np.stack([u, v], 1)[2:8])
    assert stack.about.species == ("u", "v") and len(stack.files) == 2 and stack.dtype == "float64"
    np.save(tmp_path / "w.npy", v[:5])
    assert "no axis holds the 2 species" in refused(tmp_path / "u.npy", tmp_path / "w.npy", species=("u", "v"))


def test_two_files_of_two_species_are_not_joined(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.npy", 9, 2, 12, 12)
    assert [stack.count for stack in open_stacks([tmp_path], Asked(species=("u", "v")))] == [9, 9]


@pytest.mark.parametrize("missing", ["h5py", "zarr"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    path = tmp_path / {"h5py": "a.h5", "zarr": "a.zarr"}[missing]
    if missing == "zarr":
        path.mkdir()
        (path / "zarr.json").write_text("{}")
    else:
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert f'need the package {missing}: pip install "p2d[data]"' in refused(path)
