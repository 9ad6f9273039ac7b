"""What a shard holds: one row a sample, readable with pyarrow alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PARAMETERS = ("D_u", "D_v", "F", "k", "dt")
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Samples:
    """Rows of a shard that share one preset.

    Attributes:
        state: float32 [N, 2, H, W], concentrations in [0, 1].
        sample_id: int64 [N].
        alive: bool [N], False for a pattern that has died out (uniform).
        seed, preset, parameters, steps: the same for all rows; parameters by name, see PARAMETERS.
    """

    state: np.ndarray
    sample_id: np.ndarray
    alive: np.ndarray
    seed: int
    preset: str
    parameters: dict[str, float]
    steps: int

    def digests(self) -> list[bytes]:
        """A hash a row over everything the row says: the dataset's hash is made of these, whatever the shards."""
        common = repr((self.seed, self.preset, sorted(self.parameters.items()), self.steps))
        return [
            row_digest(f"{common} {int(i)} {bool(a)}", s)
            for i, a, s in zip(self.sample_id, self.alive, self.state, strict=True)
        ]

    def table(self) -> pa.Table:
        """The rows as an Arrow table; `state` is Arrow's own fixed_shape_tensor of shape [2, H, W]."""
        n = len(self.state)
        columns: dict[str, pa.Array] = {
            "sample_id": pa.array(self.sample_id, pa.int64()),
            "seed": pa.array([self.seed] * n, pa.int64()),
            "preset": pa.array([self.preset] * n, pa.string()),
            **{key: pa.array([float(self.parameters[key])] * n, pa.float64()) for key in PARAMETERS},
            "steps": pa.array([self.steps] * n, pa.int64()),
            "alive": pa.array(self.alive, pa.bool_()),
            "digest": pa.array(self.digests(), pa.binary(DIGEST_BYTES)),
            "state": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(self.state, np.float32)),
        }
        return pa.table(columns)


def row_digest(labels: str, state: np.ndarray) -> bytes:
    """Hash of one row's labels and the bytes of its state."""
    digest = hashlib.blake2b(labels.encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(state, np.float32).data)
    return digest.digest()


def states_of(table: pa.Table) -> np.ndarray:
    """The column `state` as float32 [N, 2, H, W]."""
    return table.column("state").combine_chunks().to_numpy_ndarray()


def digests_of(table: pa.Table) -> list[bytes]:
    """Recomputed row digests of a table read from a shard, to be held against its column `digest`."""
    labels = table.drop_columns(["state", "digest"]).to_pylist()
    return [
        row_digest(
            f"{(r['seed'], r['preset'], sorted((k, r[k]) for k in PARAMETERS), r['steps'])!r}"
            f" {r['sample_id']} {r['alive']}",
            state,
        )
        for r, state in zip(labels, states_of(table), strict=True)
    ]
