"""What a shard holds: one row a sample, readable with pyarrow alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

PARAMETERS = ("D_u", "D_v", "F", "k", "dt")
DIGEST_BYTES = 16
LABELS = ("sample_id", "run_id", "seed", "preset", *PARAMETERS, "steps", "alive")  # all but averages and state


@dataclass(frozen=True)
class Samples:
    """Rows of a shard that share one system.

    Attributes:
        state: float32 [N, 2, H, W], concentrations in [0, 1].
        sample_id: int64 [N].
        run_id: int64 [N], the simulated run that the snapshot was taken of.
        steps: int64 [N], Euler steps from the initial state to the snapshot.
        alive: bool [N], False for a pattern that has died out (uniform).
        observed: float64 [N, K], averages over the snapshot without measurement noise, see dynamics/ensemble.py.
        observed_before: float64 [N, K], those of the same run after half of the burn-in.
        seed, preset, parameters: the same for all rows; the system's label, and its parameters, see PARAMETERS; none of
            a system that is not known.
    """

    state: np.ndarray
    sample_id: np.ndarray
    run_id: np.ndarray
    steps: np.ndarray
    alive: np.ndarray
    observed: np.ndarray
    observed_before: np.ndarray
    seed: int
    preset: str
    parameters: dict[str, float]

    def table(self) -> pa.Table:
        """The rows as an Arrow table; `state` is Arrow's own fixed_shape_tensor of shape [2, H, W]."""
        n = len(self.state)
        columns: dict[str, pa.Array] = {
            "sample_id": pa.array(self.sample_id, pa.int64()),
            "run_id": pa.array(self.run_id, pa.int64()),
            "seed": pa.array([self.seed] * n, pa.int64()),
            "preset": pa.array([self.preset] * n, pa.string()),
            **{key: pa.array([_parameter(self.parameters, key)] * n, pa.float64()) for key in PARAMETERS},
            "steps": pa.array(self.steps, pa.int64()),
            "alive": pa.array(self.alive, pa.bool_()),
            "observed": _tensors(self.observed, np.float64),
            "observed_before": _tensors(self.observed_before, np.float64),
            "state": _tensors(self.state, np.float32),
        }
        table = pa.table(columns)
        return table.append_column("digest", pa.array(digests_of(table), pa.binary(DIGEST_BYTES)))


def _parameter(parameters: dict[str, float], key: str) -> float | None:
    return float(parameters[key]) if parameters else None


def label_rows(
    sample_id: np.ndarray,
    run_id: np.ndarray,
    steps: np.ndarray,
    seed: int,
    preset: str,
    parameters: dict[str, float],
) -> list[dict[str, Any]]:
    """The labels of rows that are not simulated yet, all but `alive`, as they will be read from their shard."""
    common = {"seed": seed, "preset": preset, **{key: _parameter(parameters, key) for key in PARAMETERS}}
    return [
        {"sample_id": int(i), "run_id": int(run), **common, "steps": int(step)}
        for i, run, step in zip(sample_id, run_id, steps, strict=True)
    ]


def _tensors(values: np.ndarray, dtype: Any) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values, dtype))


def array_of(table: pa.Table, column: str) -> np.ndarray:
    """A tensor column as an array: `state` as float32 [N, 2, H, W], the averages as float64 [N, K]."""
    return table.column(column).combine_chunks().to_numpy_ndarray()


def is_as_digested(table: pa.Table) -> bool:
    """Whether every row is as its own digest says."""
    return digests_of(table) == table.column("digest").to_pylist()


def digests_of(table: pa.Table) -> list[bytes]:
    """A hash a row over everything the row says but its digest; the dataset's hash is made of these."""
    tensors = [array_of(table, column) for column in ("observed", "observed_before", "state")]
    labels = table.select(LABELS).to_pylist()
    return [_digest(repr([row[key] for key in LABELS]), arrays) for row, *arrays in zip(labels, *tensors, strict=True)]


def _digest(labels: str, arrays: list[np.ndarray]) -> bytes:
    digest = hashlib.blake2b(labels.encode(), digest_size=DIGEST_BYTES)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
