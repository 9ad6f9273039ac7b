"""Parquet: tensors and nested lists, a snapshot a row; pickled types are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .helpers import mutated, opened, refused, same_or_refused

FIELD = np.random.default_rng(0).random((50, 2, 16, 12)).astype(np.float32)
TENSORS = pa.FixedShapeTensorArray.from_numpy_ndarray(FIELD)


MIXED = pa.list_(pa.large_list(pa.list_(pa.float32(), 12)))


@pytest.mark.parametrize("column", [TENSORS, pa.array(FIELD.tolist()), pa.array(FIELD.tolist(), MIXED)])
def test_columns_are_read_by_rows(tmp_path, column):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"name": ["a"] * 50, "c": column}), path, row_group_size=20)
    stack = opened(path, trajectories="1::2", axes="NCHW")
    expected = FIELD[1::2]
    for first, last in ((0, 25), (8, 12), (24, 25)):
        np.testing.assert_allclose(stack.read(first, last), expected[first:last])


def test_a_column_for_each_species(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"u": FIELD[:, 0].tolist(), "v": FIELD[:, 1].tolist()}), path)
    np.testing.assert_allclose(opened(path, axes="NHW").read(3, 9), FIELD[3:9])
    assert "--arrays u v" in refused(path, species=("a", "b"))


def test_rows_of_different_shapes_and_gaps(tmp_path):
    path = tmp_path / "a.parquet"
    rows = FIELD[:, 0].tolist()
    rows[7] = rows[7][:5]
    pq.write_table(pa.table({"u": rows}), path)
    assert "not all of shape 16 x 12" in refused(path, axes="NHW")
    rows[7] = [[None] * 12] * 16
    pq.write_table(pa.table({"u": rows}), path)
    assert "missing" in refused(path, axes="NHW")


def test_types_of_ray_are_refused(tmp_path):
    class Pickled(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.binary(), "ray.data.arrow_pickled_object")

        def __arrow_ext_serialize__(self):
            return b""

    table = pa.table({"u": pa.ExtensionArray.from_storage(Pickled(), pa.array([b"x"])), "c": TENSORS[:1]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "pickles" in refused(tmp_path / "a.parquet")


def test_cut_and_mutated_files(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": TENSORS}), path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert str(path) in refused(path)
    for n in range(40):
        same_or_refused(path, mutated(content, np.random.default_rng(n)), axes="NCHW")
