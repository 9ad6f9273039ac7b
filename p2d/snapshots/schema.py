"""What a shard holds: one row a sample, readable with pyarrow alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p2d.errors import UserError

DIGEST_BYTES = 16
KNOWN = {  # of a row before it is made, and what Arrow holds it as
    "sample_id": pa.int64(),
    "run_id": pa.int64(),
    "seed": pa.int64(),
    "system": pa.string(),
    "steps": pa.int64(),
    "time": pa.float64(),
}
LABELS = (*KNOWN, "alive")  # all but averages and state
AVERAGES = ("averages", "averages_before")
# Of version 2, which knew one system.
OLD_LABELS = ("sample_id", "run_id", "seed", "preset", "D_u", "D_v", "F", "k", "dt", "steps", "alive")
OLD_AVERAGES = ("observed", "observed_before")


@dataclass(frozen=True)
class Labels:
    """What the rows of a shard say of themselves, known before they are made.

    Attributes:
        sample_id: int64 [N].
        run_id: int64 [N], the run that the snapshot was taken of.
        steps: int64 [N], steps from the initial state to the snapshot.
        time: float64 [N], the same in the system's time; nan where it is not known.
        seed: of the dataset.
        system: a label that leads to the card.
    """

    sample_id: np.ndarray
    run_id: np.ndarray
    steps: np.ndarray
    time: np.ndarray
    seed: int
    system: str

    def columns(self) -> dict[str, list[Any]]:
        """What each row says, by column; None for a time that is not known."""
        ids, runs, steps, times = (array.tolist() for array in (self.sample_id, self.run_id, self.steps, self.time))
        times = [None if np.isnan(time) else time for time in times]
        values = (ids, runs, [self.seed] * len(ids), [self.system] * len(ids), steps, times)
        return dict(zip(KNOWN, values, strict=True))

    def rows(self) -> list[dict[str, Any]]:
        """Each row's labels but `alive`, as they are read from a shard."""
        return [dict(zip(KNOWN, row, strict=True)) for row in zip(*self.columns().values(), strict=True)]

    @classmethod
    def of(cls, table: pa.Table) -> Labels:
        """Of a shard's rows as they are read, by columns of LABELS or OLD_LABELS.

        Raises:
            UserError: no rows, or rows of several systems or seeds.
        """
        table = upgraded_labels(table)
        one = [pc.unique(table[key]).to_pylist() for key in ("seed", "system")]
        if [len(values) for values in one] != [1, 1]:
            raise UserError("a shard holds rows of one system and one seed")
        ids, runs, steps = (table[key].to_numpy().astype(np.int64) for key in ("sample_id", "run_id", "steps"))
        return cls(ids, runs, steps, table["time"].to_numpy().astype(np.float64), one[0][0], one[1][0])

    def are(self, other: Labels) -> bool:
        """Whether other labels say the very same."""
        same = (self.seed, self.system) == (other.seed, other.system)
        same = same and np.array_equal(self.time, other.time, equal_nan=True)
        return same and all(
            np.array_equal(getattr(self, key), getattr(other, key)) for key in ("sample_id", "run_id", "steps")
        )

    def __len__(self) -> int:
        return len(self.sample_id)


@dataclass(frozen=True)
class Samples:
    """Rows of a shard that share one system.

    Attributes:
        labels: of the rows.
        state: float32 [N, C, H, W].
        alive: bool [N], False for a pattern that has died out (uniform).
        averages: float64 [N, K], over the snapshot without measurement noise, see observables.averages.
        averages_before: float64 [N, K], those of the same run after half of the burn-in.
    """

    labels: Labels
    state: np.ndarray
    alive: np.ndarray
    averages: np.ndarray
    averages_before: np.ndarray

    def table(self) -> pa.Table:
        """The rows as an Arrow table; `state` is Arrow's own fixed_shape_tensor of shape [C, H, W]."""
        columns: dict[str, pa.Array] = {
            **{key: pa.array(values, KNOWN[key]) for key, values in self.labels.columns().items()},
            "alive": pa.array(self.alive, pa.bool_()),
            "averages": _tensors(self.averages, np.float64),
            "averages_before": _tensors(self.averages_before, np.float64),
            "state": _tensors(self.state, np.float32),
        }
        table = pa.table(columns)
        return table.append_column("digest", pa.array(digests_of(table), pa.binary(DIGEST_BYTES)))


def _tensors(values: np.ndarray, dtype: Any) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values, dtype))


def of_plain_types(table: pa.Table) -> pa.Table:
    """The table, of which every column is of Arrow's own types, as all of ours are.

    Raises:
        UserError: another extension type, names its column: Ray registers one whose values are pickled objects, so that
            reading them runs what somebody has put there.
    """
    for field in table.schema:
        if not _is_plain(field.type):
            raise UserError(f"column {field.name!r} is of type {field.type}, which is not one of Arrow's own")
    return table


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.FixedShapeTensorType):
        return _is_plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return False
    inner = [kind.field(n).type for n in range(kind.num_fields)]
    return all(map(_is_plain, [*inner, kind.value_type] if pa.types.is_dictionary(kind) else inner))


def array_of(table: pa.Table, column: str) -> np.ndarray:
    """A tensor column as an array: `state` as float32 [N, C, H, W], the averages as float64 [N, K]."""
    chunks = table.column(column)
    return (chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()).to_numpy_ndarray()


def upgraded_labels(table: pa.Table) -> pa.Table:
    """The labels of rows, those of version 2 as version 3 has them."""
    if "preset" not in table.column_names:
        return table.select(LABELS)
    time = pc.multiply(pc.cast(table["steps"], pa.float64()), table["dt"])
    return table.rename_columns({"preset": "system"}).append_column("time", time).select(LABELS)


def averages_in(table: pa.Table) -> tuple[str, str]:
    """What a shard calls its averages and those of half of the burn-in before."""
    return OLD_AVERAGES if "preset" in table.column_names else AVERAGES


def is_as_digested(table: pa.Table) -> bool:
    """Whether every row is as its own digest says."""
    return digests_of(table) == table.column("digest").to_pylist()


def digests_of(table: pa.Table) -> list[bytes]:
    """A hash a row over everything the row says but its digest; the dataset's hash is made of these."""
    old = "preset" in table.column_names
    names, columns = (OLD_LABELS, OLD_AVERAGES) if old else (LABELS, AVERAGES)
    tensors = [array_of(table, column) for column in (*columns, "state")]
    labels = table.select(names).to_pylist()
    return [_digest(repr([row[key] for key in names]), arrays) for row, *arrays in zip(labels, *tensors, strict=True)]


def _digest(labels: str, arrays: list[np.ndarray]) -> bytes:
    digest = hashlib.blake2b(labels.encode(), digest_size=DIGEST_BYTES)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
