"""Frames of a rollout: they come back bit for bit, open with plain pyarrow, and are there whole or not at all."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from p2d.snapshots import frames
from p2d.snapshots.frames import read_frames, write_frames


def frames_of(*kinds: str, count: int = 3, height: int = 6, width: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {kind: rng.random((count, 2, height, width), dtype=np.float32) for kind in kinds}


@pytest.mark.parametrize("kinds", [("true", "recovered", "score only"), ("v = 0",)])
@pytest.mark.parametrize(("times", "height", "width"), [([0, 5, 12], 6, 8), ([0], 1, 3), ([0, 1], 9, 9)])
def test_frames_come_back_bit_for_bit(tmp_path, kinds, times, height, width):
    shown = frames_of(*kinds, count=len(times), height=height, width=width)
    shown[kinds[-1]][-1] = np.nan  # it has blown up
    write_frames(tmp_path / "new" / "frames.parquet", times, shown)
    known, found = read_frames(tmp_path / "new" / "frames.parquet")
    assert known == times
    assert list(found) == list(kinds)
    for kind in kinds:
        assert found[kind].dtype == np.float32
        assert_array_equal(found[kind], shown[kind])


def test_plain_pyarrow_reads_kind_time_and_state(tmp_path):
    shown = frames_of("true", "recovered")
    write_frames(tmp_path / "frames.parquet", [0, 5, 12], shown)
    table = pq.read_table(tmp_path / "frames.parquet")
    assert table.column_names == ["kind", "time", "state"]
    assert table.column("kind").to_pylist() == ["true"] * 3 + ["recovered"] * 3
    assert table.column("time").to_pylist() == [0, 5, 12, 0, 5, 12]
    assert table.schema.field("state").type.shape == [2, 6, 8]
    states = table.column("state").combine_chunks().to_numpy_ndarray()
    assert_array_equal(states, np.concatenate([shown["true"], shown["recovered"]]))


def test_frames_of_other_precision_are_kept_in_float32(tmp_path):
    shown = {kind: states.astype(np.float64) + 1e-12 for kind, states in frames_of("true").items()}
    write_frames(tmp_path / "frames.parquet", [0, 5, 12], shown)
    assert_array_equal(read_frames(tmp_path / "frames.parquet")[1]["true"], shown["true"].astype(np.float32))


def test_frames_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    file = tmp_path / "frames.parquet"
    shown = frames_of("true")
    write_frames(file, [0, 5, 12], shown)
    assert [p.name for p in tmp_path.iterdir()] == ["frames.parquet"], "nothing temporary is left"

    def cut(table, path):
        path.write_bytes(b"PAR1")
        raise OSError("no space left")

    monkeypatch.setattr(frames.pq, "write_table", cut)
    with pytest.raises(OSError, match="no space left"):
        write_frames(file, [0, 1, 2], frames_of("recovered"))
    times, found = read_frames(file)
    assert times == [0, 5, 12]
    assert_array_equal(found["true"], shown["true"])
