"""Zarr: what zarr wrote comes back; codecs that could run code, claims and missing chunks are told."""

import json
import pickle
import shutil

import numpy as np
import pytest
import zarr

from .helpers import opened, refused

FIELD = np.random.default_rng(0).random((20, 2, 16, 12)).astype(np.float32)


def write(path, version, store=None):
    group = zarr.open_group(store or path, mode="w", zarr_format=version)
    dimensions = ("time", "species", "y", "x")
    named = {"dimension_names": dimensions} if version == 3 else {}
    array = group.create_array("fields/c", shape=FIELD.shape, chunks=(3, 1, 16, 12), dtype="f4", **named)
    array[:] = FIELD
    if version == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = dimensions
    for name, values in (("x", np.arange(12) * 0.5), ("y", np.arange(16) * 0.5), ("time", np.arange(20) * 2.0)):
        coordinate = group.create_array(f"fields/{name}", shape=values.shape, dtype="f8")
        coordinate[:] = values
        coordinate.attrs["units"] = "s" if name == "time" else "um"
    group.attrs["F"] = 0.03
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_folders(tmp_path, version):
    stack = opened(write(tmp_path / "a.zarr", version), times="::3")
    np.testing.assert_array_equal(stack.read(2, 7), FIELD[6:19:3])
    about = stack.about
    assert (stack.letters, about.spacing, about.unit, about.time_unit) == ("TCHW", 0.5, "um", "s")
    assert about.conditions == {"F": 0.03} and stack.times[:3].tolist() == [0, 6, 12]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_and_single_arrays(tmp_path):
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        write(None, 3, store)
    np.testing.assert_array_equal(opened(tmp_path / "a.zarr.zip").read(0, 20), FIELD)
    content = (tmp_path / "a.zarr.zip").read_bytes()
    (tmp_path / "b.zarr.zip").write_bytes(content[:-40])
    assert "b.zarr.zip" in refused(tmp_path / "b.zarr.zip")
    zarr.save_array(tmp_path / "c.zarr", FIELD[:, 0])
    np.testing.assert_array_equal(opened(tmp_path / "c.zarr", axes="NHW").read(0, 20)[:, 0], FIELD[:, 0])


def test_a_pickle_codec_is_refused_and_never_run(tmp_path):
    path = write(tmp_path / "a.zarr", 2)
    metadata = path / "fields" / "c" / ".zarray"
    values = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(values | {"filters": [{"id": "pickle", "protocol": 5}], "compressor": None}))
    bomb = pickle.dumps(Bomb(str(tmp_path / "ran")))
    for chunk in (path / "fields" / "c").glob("[0-9]*"):
        chunk.write_bytes(bomb)
    assert "pickle" in refused(path)
    assert not (tmp_path / "ran").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_claims_cut_chunks_and_missing_ones(tmp_path):
    path = write(tmp_path / "a.zarr", 3)
    chunk = path / "fields/c/c/2/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    assert "fields/c" in refused(path)
    chunk.unlink()
    assert "1 chunks of 14" in opened(path).about.notes[0]
    shutil.rmtree(path)
    group = zarr.open_group(path, mode="w")
    group.create_array("u", shape=(10**6, 10**4, 10**4), chunks=(1, 100, 100), dtype="f4")
    assert "was it ever written" in refused(path)
    (path / "u" / "zarr.json").write_text("{")
    assert "a.zarr" in refused(path)
