"""Datasets go into other formats and come back by import, whole or not at all."""

import io
import json

import numpy as np
import pytest

import p2d
from p2d import pipeline
from p2d.config import ExportConfig
from p2d.errors import UserError
from p2d.formats.writing import FORMATS
from p2d.snapshots import exporting


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    sizes = {"height": 16, "width": 20, "steps": 200, "chunk": 4}
    p2d.simulate("waves", out=folder, num_samples=6, snapshots_per_run=3, interval=10, spacing="2um", **sizes, name="w")
    p2d.simulate("waves", "maze", out=folder, num_samples=5, snapshots_per_run=2, interval=10, **sizes, name="two")
    return folder


@pytest.mark.parametrize("to", FORMATS)
def test_a_dataset_goes_there_and_back(out, tmp_path, to):
    outcome = pipeline.export(ExportConfig("w", str(tmp_path / "w"), to), out)
    before = p2d.open_dataset(out / "data" / "w")
    again = p2d.import_files(outcome.where, out=tmp_path)
    states = before.states(before.sample_ids)
    tolerance = 0 if FORMATS[to].exact else 2e-5
    np.testing.assert_allclose(again.states(again.sample_ids), states, rtol=0, atol=tolerance)
    ids = before.sample_ids
    np.testing.assert_array_equal(again.runs(ids), before.runs(ids))
    np.testing.assert_array_equal(again.times(ids), before.times(ids))
    assert again.card.names == before.card.names
    assert (again.card.grid.spacing, again.card.grid.unit) == (2.0, "um")
    assert again.card.grid.edges == before.card.grid.edges
    (conditions,) = again.card.conditions.values()
    assert conditions == before.card.conditions["waves"]


def test_a_second_time_there_is_nothing_to_do(out):
    first = pipeline.export(ExportConfig("w", to="npz"), out)
    second = pipeline.export(ExportConfig("w", to="npz"), out)
    assert first.made and not second.made and str(first.result) == str(second.result)
    assert first.where == out / "export" / "w_npz"
    assert json.loads((first.where / "config.json").read_text())["files"] == ["w.npz"]
    with pytest.raises(UserError, match="is there already"):
        pipeline.export(ExportConfig("two", str(first.where), "npz"), out)


def test_conditions_and_lengths_of_runs_have_files_of_their_own(out, tmp_path):
    made = p2d.export(out / "data" / "two", tmp_path / "two", to="well")
    # 5 snapshots, 2 of each run: the last run has one.
    assert sorted(made.files) == [
        f"two_{label}_{frames}-frames.hdf5" for label in ("maze", "waves") for frames in (1, 2)
    ]
    assert any("trajectory of one step" in note for note in made.notes)
    assert p2d.export(out / "data" / "two", tmp_path / "z", to="zarr").files == ("two_maze.zarr", "two_waves.zarr")
    with pytest.raises(UserError, match=r"one file, and 2 are needed \(two_maze, two_waves"):
        p2d.export(out / "data" / "two", tmp_path / "two.npz")
    again = p2d.import_files(tmp_path / "z", out=tmp_path, name="again")
    before = p2d.open_dataset(out / "data" / "two")
    ids = np.arange(10)
    np.testing.assert_array_equal(again.states(ids), before.states(np.roll(ids, 5)))  # maze is the first by name
    assert list(again.card.conditions.values()) == [before.card.conditions[label] for label in ("maze", "waves")]


def test_one_file_by_its_name(out, tmp_path):
    made = p2d.export(out / "data" / "w", tmp_path / "some" / "x.npz")
    with np.load(tmp_path / "some" / "x.npz") as arrays:
        assert arrays["states"].shape == (6, 2, 16, 20) and arrays["runs"].tolist() == [0, 0, 0, 1, 1, 1]
    assert "6 snapshots" in str(made)
    with pytest.raises(UserError, match="is there already"):
        p2d.export(out / "data" / "w", tmp_path / "some" / "x.npz")
    with pytest.raises(UserError, match=r"x\.npz is named as a file of another format: give a name with \.ome\.tif"):
        p2d.export(out / "data" / "w", tmp_path / "x.npz", to="tiff")
    with pytest.raises(UserError, match="unknown format 'npy'"):
        p2d.export(out / "data" / "w", tmp_path / "x", to="npy")


@pytest.mark.parametrize("place", ["x.npz", "x"])
def test_what_fails_leaves_nothing(out, tmp_path, monkeypatch, place):
    def failing(dataset, ids, advance):
        yield dataset.states(ids[:2])
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "blocks_of", failing)
    with pytest.raises(KeyboardInterrupt):
        p2d.export(out / "data" / "w", tmp_path / place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_states_are_read_a_block_at_a_time(out, tmp_path, monkeypatch, to):
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 2 * 4 * 2 * 16 * 20)
    sizes = []
    dataset = p2d.open_dataset(out / "data" / "w")
    exporting.export_dataset(dataset, to, tmp_path / "w", sizes.append)
    assert max(sizes) == 2 and sum(sizes) == exporting.snapshots_to_read(dataset, to)


def test_runs_that_were_taken_turn_about_are_written_one_by_one(out, tmp_path, monkeypatch):
    dataset = p2d.open_dataset(out / "data" / "two")
    ids = np.array([7, 2, 9, 0, 4, 1, 3])  # far more changes of shard than shards
    blocks = list(exporting.blocks_of(dataset, ids, lambda *_: None))
    np.testing.assert_array_equal(np.concatenate(blocks), dataset.states(ids))
    ids = np.array([1, 2, 3, 4, 5, 6])
    blocks = list(exporting.blocks_of(dataset, ids, lambda *_: None))
    np.testing.assert_array_equal(np.concatenate(blocks), dataset.states(ids))
    assert len(blocks) > 1


def test_exports_to_an_object_store(out, s3_folder):
    for to in ("png", "zarr"):
        first = pipeline.export(ExportConfig("w", str(s3_folder / to), to), out)
        second = pipeline.export(ExportConfig("w", str(s3_folder / to), to), out)
        assert first.made and not second.made and second.result == first.result
    assert len([file for file in (s3_folder / "png").files() if file.suffix == ".png"]) == 6
    pipeline.export(ExportConfig("w", str(s3_folder / "w.npz")), out)
    with np.load(io.BytesIO((s3_folder / "w.npz").read_bytes())) as arrays:
        assert arrays["states"].shape == (6, 2, 16, 20)
    with pytest.raises(UserError, match="is there already"):
        pipeline.export(ExportConfig("w", str(s3_folder / "w.npz")), out)
