"""Ray keeps what it keeps where a place is, and what it has kept is a place again."""

from pathlib import Path

from ray.train import Checkpoint

from p2d.cluster import storage
from p2d.runs import write_json


def test_a_checkpoint_of_ray_is_a_place(anywhere):
    folder = anywhere / "run" / "checkpoint"
    write_json(folder / "config.json", {"kind": "flow"})
    kept = Checkpoint(storage.path(folder), filesystem=storage.filesystem(folder))
    assert storage.place_of(kept, anywhere) == folder
    with kept.as_directory() as copy:
        assert '"flow"' in Path(copy, "config.json").read_text()


def test_no_credentials_go_to_workers(s3_folder):
    state = str(storage.filesystem(s3_folder).__reduce__())
    assert "127.0.0.1" in state
    assert "testing" not in state
    assert "not-to-be-shown" not in state
