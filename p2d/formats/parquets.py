"""Parquet with a column of tensors or nested lists: a snapshot a row."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.containers import Container
from p2d.formats.reading import reading
from p2d.formats.sources import MOST_SNAPSHOT_BYTES, Index, Source, is_numeric
from p2d.formats.stack import Asked, Stack

BATCH_BYTES = 2**22
# Ray registers types whose values, and whose very description, are pickled.
PICKLED = b"ray.data"


@dataclass(frozen=True)
class ParquetSource(Source):
    """A column of a parquet file, [rows, ...]."""

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        import pyarrow.parquet as pq

        rows = range(*index[0].indices(self.shape[0]))
        parts = []
        with pq.ParquetFile(self.path, buffer_size=2**20) as file:
            first = 0
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if first < rows.stop and last > rows.start:
                    parts += self._of_group(file, group, first, rows)
                first = last
        return np.concatenate(parts)[(slice(None), *index[1:])]

    def _of_group(self, file: Any, group: int, first: int, rows: range) -> list[np.ndarray]:
        """Of the rows that a group has, which begins with this one."""
        size = max(BATCH_BYTES // (math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize), 1)
        parts = []
        for batch in file.iter_batches(size, row_groups=[group], columns=[self.name]):
            taken = [row - first for row in rows if first <= row < first + len(batch)]
            if taken:
                parts.append(array_of(batch.column(0), self.shape[1:])[taken])
            first += len(batch)
            if first >= rows.stop:
                break
        return parts


def open_parquet(files: list[Path], asked: Asked) -> list[Stack]:
    """Each parquet file as a stack."""
    return [Container(str(path), _columns(path)).stack(asked) for path in files]


def _columns(path: Path) -> dict[str, Source]:
    """All columns of numbers, single or nested.

    Raises:
        UserError: the file cannot be read, or has types that are not Arrow's own.
    """
    import pyarrow.parquet as pq

    size = path.stat().st_size
    sources: dict[str, Source] = {}
    with reading(path):
        metadata = pq.read_metadata(path)
        if PICKLED in base64.b64decode((metadata.metadata or {}).get(b"ARROW:schema", b"")):
            raise UserError(
                f"{path} has columns of Ray's own types, which are pickles: store Arrow's fixed_shape_tensor"
            )
        with pq.ParquetFile(path) as file:
            first: Any = next(file.iter_batches(1), None)
            for field in file.schema_arrow if first else ():
                kind = _inner(field.type)
                if kind is not None:
                    shape = shape_of(first.column(field.name), f"{path}: {field.name}")
                    sources[field.name] = ParquetSource(
                        str(path), size, field.name, (metadata.num_rows, *shape), kind.str
                    )
    return sources


def _inner(kind: Any) -> np.dtype | None:
    """Type of the numbers in a column; None of others."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return _inner(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _inner(kind.value_type)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    dtype = np.dtype(kind.to_pandas_dtype())
    return dtype if is_numeric(dtype) else None


def shape_of(column: Any, where: str) -> tuple[int, ...]:
    """Of the first row: lists in lists are rows of columns."""
    import pyarrow as pa

    if isinstance(column.type, pa.FixedShapeTensorType):
        shape = tuple(column.type.shape)
        order = column.type.permutation
        return tuple(shape[n] for n in order) if order else shape
    shape = ()
    while hasattr(column.type, "value_type") and len(column):
        length = len(column[0]) if column[0].is_valid else 0
        shape, column = (*shape, length), column.slice(0, 1).flatten()
    if math.prod(shape) * 8 > MOST_SNAPSHOT_BYTES:
        raise UserError(f"{where}: one row holds {' x '.join(map(str, shape))} values, which is too many")
    return shape


def array_of(column: Any, shape: tuple[int, ...]) -> np.ndarray:
    """[rows, ...] of a column.

    Raises:
        ValueError: rows of different shapes, or gaps.
    """
    import pyarrow as pa

    count = len(column)
    if isinstance(column.type, pa.FixedShapeTensorType):
        return column.to_numpy_ndarray()
    for size in shape:
        if column.null_count or (np.asarray(column.value_lengths()) != size).any():
            raise ValueError(f"rows are not all of shape {' x '.join(map(str, shape))}")
        column = column.flatten()
    if column.null_count:
        raise ValueError("values are missing (null): store nan")
    return column.to_numpy(zero_copy_only=False).reshape(count, *shape)
