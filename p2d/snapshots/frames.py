"""Frames of a rollout in one parquet file: kind of dynamics, time, state; readable with pyarrow alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2d.places import arrow_source
from p2d.runs import whole


def write_frames(path: Path, times: list[int], frames: dict[str, np.ndarray]) -> None:
    """Write frames whole or not at all.

    Args:
        times: of the frames, in steps of the simulator.
        frames: values float32 [T, C, H, W] by kind.
    """
    states = np.ascontiguousarray(np.concatenate(list(frames.values())), dtype=np.float32)
    table = pa.table(
        {
            "kind": pa.array([kind for kind in frames for _ in times], pa.string()),
            "time": pa.array(times * len(frames), pa.int64()),
            "state": pa.FixedShapeTensorArray.from_numpy_ndarray(states),
        }
    )
    with whole(path) as temporary:
        pq.write_table(table, temporary)


def read_frames(path: Path) -> tuple[list[int], dict[str, np.ndarray]]:
    """Times and frames of such a file."""
    table = pq.read_table(arrow_source(path))
    kinds = table.column("kind").to_pylist()
    states = table.column("state").combine_chunks().to_numpy_ndarray()
    shown = dict.fromkeys(kinds)
    chosen = {kind: np.flatnonzero(np.array(kinds) == kind) for kind in shown}
    first = next(iter(chosen.values()))
    return table.column("time").to_numpy()[first].tolist(), {kind: states[rows] for kind, rows in chosen.items()}
