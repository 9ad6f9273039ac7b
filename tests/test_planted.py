"""Loading never runs code: a pickled object in the place of a file, or inside of one, is refused before it is made."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.evaluate.evaluation import Evaluation
from p2d.flow.model import Flow
from p2d.flow.velocity import LocalField
from p2d.score.model import ScoreModel
from p2d.snapshots.card import load_card
from p2d.snapshots.frames import read_frames, write_frames
from p2d.snapshots.simulated import is_finished, simulate_here
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import verify
from p2d.systems.kernels import cache_folder
from p2d.systems.reading import load_system
from p2d.training.checkpoint import read_state, write_checkpoint

SMALL = {"num_samples": 4, "height": 8, "width": 8, "steps": 20, "chunk": 2, "device": "cpu", "threads": 1}


class Planted:
    """Made from its pickle, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """What a planted object would write; that one is made where pickles are loaded is seen first."""
    file = tmp_path / "marker"
    pickle.loads(pickle.dumps(Planted(file)))
    file.unlink()
    return file


@pytest.fixture
def folder(tmp_path):
    """A dataset, frames, an equation and both models, all in one folder."""
    folder = tmp_path / "folder"
    simulate_here(SimulateConfig(**SMALL), folder)
    write_frames(folder / "frames.parquet", [0], {"flow": np.zeros((1, 2, 4, 4), np.float32)})
    return folder


def forms(marker: Path, tmp_path: Path) -> list[bytes]:
    """A planted object as pickle, as torch and as numpy write one."""
    torch.save(Planted(marker), tmp_path / "zip.pt")
    torch.save(Planted(marker), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "array.npy", np.array([Planted(marker)]), allow_pickle=True)
    np.savez(tmp_path / "arrays.npz", state=np.array([Planted(marker)]))
    files = [(tmp_path / name).read_bytes() for name in ("zip.pt", "old.pt", "array.npy", "arrays.npz")]
    assert zipfile.is_zipfile(tmp_path / "zip.pt") and not marker.exists()
    return [pickle.dumps(Planted(marker)), *files]


def model(folder: Path, kind: str) -> Path:
    data = {"grid": [8, 8], "affine": {"scale": 2.0, "shift": -1.0}}
    made = {"flow": LocalField((4,)), "score": ScoreModel((4,), (0.5, 0.99))}[kind]
    settings = {"flow": {"hidden": [4]}, "score": {"channels": [4], "alpha": [0.5, 0.99], "sampling": 0.25}}[kind]
    write_checkpoint(folder, {"kind": kind, "settings": settings, "data": data}, made.state_dict(), {"history": []})
    return folder


READERS = {
    "card.json": load_card,
    "config.json": Flow.load,
    "model.safetensors": Flow.load,
    "state.pt": read_state,
    "frames.parquet": lambda folder: read_frames(folder / "frames.parquet"),
    "shard-00000.parquet": lambda folder: open_dataset(folder).states(),
    "equation.json": Discovery.load,
    "summary.json": lambda folder: Evaluation.load(folder / "summary.json"),
    "system.toml": lambda folder: load_system(folder / "system.toml"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_the_place_of_a_file_is_refused(name, folder, marker, tmp_path):
    if name in ("config.json", "model.safetensors", "state.pt"):
        folder = model(tmp_path / "model", "flow")
    for content in forms(marker, tmp_path):
        (folder / name).write_bytes(content)
        with pytest.raises(UserError) as refused:
            READERS[name](folder)
        assert "\n" not in str(refused.value) and not marker.exists()


def test_a_score_model_is_not_unpickled_either(marker, tmp_path):
    folder = model(tmp_path / "score", "score")
    assert ScoreModel.load(folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Planted(marker)))
    with pytest.raises(UserError):
        ScoreModel.load(folder)
    assert not marker.exists()


def test_a_dataset_of_arrays_is_none(marker, tmp_path, capsys):
    forms(marker, tmp_path)
    for name in ("array.npy", "arrays.npz", "zip.pt"):
        with pytest.raises(SystemExit) as stop:
            main(["verify", str(tmp_path / name), "-o", str(tmp_path)])
        assert stop.value.code == 2 and not marker.exists()


@pytest.mark.parametrize("where", ["a label", "inside a list", "its metadata"])
def test_a_shard_with_pickled_objects_in_a_column_is_refused(where, folder, marker):
    import ray.data  # noqa: F401  whose extension types are read by unpickling, once they are registered
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectArray

    shard = folder / "shard-00000.parquet"
    table = pq.read_table(shard)
    planted = ArrowPythonObjectArray.from_objects([Planted(marker)] * table.num_rows)
    if where == "inside a list":
        planted = pa.ListArray.from_arrays(list(range(table.num_rows + 1)), planted)
    if where == "its metadata":
        written = pa.field("system", pa.binary(), metadata=_py_extension(marker))
        planted = pa.array([b"x"] * table.num_rows, pa.binary())
        table = table.drop_columns(["system"]).append_column(written, planted)
    else:
        table = table.set_column(table.column_names.index("system"), "system", planted)
    pq.write_table(table, shard)
    readers = [
        lambda: open_dataset(folder).index,
        lambda: open_dataset(folder).states(),
        lambda: is_finished(SimulateConfig(**SMALL).simulation(), folder),
        lambda: read_frames(shard),
    ]
    for read in readers:
        try:
            read()
        except UserError as error:
            assert "\n" not in str(error)
        assert not marker.exists()
    assert any(fault.name == shard.name for fault in verify(folder)) and not marker.exists()


def _py_extension(marker: Path) -> dict[bytes, bytes]:
    """What pyarrow took for a pickled type before version 14.0.1."""
    return {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Planted(marker)),
    }


def test_kernels_are_not_loaded_from_a_folder_that_others_may_write(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("P2D_CACHE", str(shared))
    assert cache_folder.__wrapped__() != shared
    shared.chmod(0o700)
    assert cache_folder.__wrapped__() == shared


def test_texts_of_equations_and_systems_are_not_executed(marker, tmp_path):
    text = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    system = {"name": "own", "rates": {"u": text}}
    (tmp_path / "own.toml").write_text(f"name = 'own'\n[rates]\nu = {json.dumps(text)}\n")
    (tmp_path / "equation.json").write_text(json.dumps({"found": {"equation": {"u": {text: 1.0}}, "system": system}}))
    for read in (lambda: load_system(tmp_path / "own.toml"), lambda: Discovery.load(tmp_path)):
        with pytest.raises(UserError):
            read()
    assert not marker.exists()
