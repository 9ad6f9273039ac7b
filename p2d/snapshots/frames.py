"""Frames of a rollout in one parquet file: kind of dynamics, time, state; readable with pyarrow alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2d.errors import UNREADABLE, UserError, one_line
from p2d.places import arrow_source
from p2d.runs import whole
from p2d.snapshots.schema import of_plain_types


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
    """Times and frames of such a file.

    Raises:
        UserError: a file that is damaged.
    """
    try:
        table = of_plain_types(pq.read_table(arrow_source(path)))
        kinds = table.column("kind").to_pylist()
        states = table.column("state").combine_chunks().to_numpy_ndarray()
        times = table.column("time").to_numpy()
    except (pa.ArrowException, OSError, UserError, *UNREADABLE) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); p2d rollout makes it again") from error
    shown = dict.fromkeys(kinds)
    chosen = {kind: np.flatnonzero(np.array(kinds) == kind) for kind in shown}
    first = next(iter(chosen.values()))
    return times[first].tolist(), {kind: states[rows] for kind, rows in chosen.items()}
