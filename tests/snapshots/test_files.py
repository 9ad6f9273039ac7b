"""One shard: its rows come back bit for bit, it opens with plain pyarrow, and damage is found."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.observables import names
from p2d.snapshots.files import checked_shard, file_hash, read_table, shard_entry, write_shard
from p2d.snapshots.schema import array_of
from p2d.snapshots.simulated import ShardPlan, labels_of, simulate_here
from p2d.snapshots.store import open_dataset

from .helpers import DAMAGES, advanced, averages_of, begun, gray_scott, rewritten, samples_of, small


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (1, 7)])
def test_rows_come_back_to_the_last_bit(tmp_path, height, width):
    states = np.random.default_rng(0).random((5, 2, height, width), dtype=np.float32)
    states[0, 0, 0, :6] = [0.0, -0.0, 1.0, 1e-45, np.nextafter(np.float32(1), np.float32(0)), 0.1]
    alive = np.array([True, False, True, True, False])
    samples = samples_of(states, 20, alive, run_id=np.array([7, 7, 8, 8, 9]))
    entry = write_shard(tmp_path, 7, samples)
    table = read_table(tmp_path / "shard-00007.parquet")
    for column in ("state", "averages", "averages_before"):
        assert array_of(table, column).tobytes() == getattr(samples, column).tobytes()
    assert table.column("sample_id").to_pylist() == [20, 21, 22, 23, 24]
    assert table.column("run_id").to_pylist() == [7, 7, 8, 8, 9]
    assert table.column("alive").to_pylist() == alive.tolist()
    file = tmp_path / "shard-00007.parquet"
    ends = {"low": states.min(axis=(0, 2, 3)).tolist(), "high": states.max(axis=(0, 2, 3)).tolist()}
    assert entry == shard_entry(file)
    known = {"name": file.name, "rows": 5, "alive": 3, "size": file.stat().st_size, "hash": file_hash(file)}
    digests = "".join(digest.hex() for digest in table.column("digest").to_pylist())
    assert entry.items() >= {**known, **ends, "digests": digests, "first_run": 7, "living": "b0"}.items()
    steps = {"steps": [30, 30], "time": [30.0, 30.0]}
    assert entry["labels"] == {"system": "waves", "seed": 3, "runs": [0, 0], **steps}  # and so on with the next run


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_a_shard_opens_with_plain_pyarrow(tmp_path, height, width):
    simulate_here(small(height=height, width=width), tmp_path)
    table = pq.read_table(tmp_path / "shard-00000.parquet")
    assert table.schema.field("state").type == pa.fixed_shape_tensor(pa.float32(), [2, height, width])
    assert table.column("state").combine_chunks().to_numpy_ndarray().shape == (4, 2, height, width)
    row = table.drop_columns(["state", "averages", "averages_before", "digest"]).to_pylist()[2]
    labels = {"sample_id": 2, "run_id": 2, "seed": 0, "system": "waves", "steps": 30, "time": 30.0, "alive": True}
    assert row == labels


@pytest.mark.parametrize("steps", [30, 31])
def test_a_shard_holds_the_averages_of_its_states_and_those_half_way(tmp_path, steps):
    simulate_here(small(steps=steps), tmp_path)
    table = pq.read_table(tmp_path / "shard-00001.parquet")
    half_way = advanced(begun(gray_scott(), 0, np.arange(4, 8), 10, 12), gray_scott(), 15)
    for column, states in (("averages", array_of(table, "state")), ("averages_before", half_way)):
        assert table.schema.field(column).type == pa.fixed_shape_tensor(pa.float64(), [len(names(("u", "v")))])
        assert array_of(table, column).tobytes() == averages_of(states).tobytes()


# Damage


def checked(file: Path, first: int = 4, rows: int = 4, config: SimulateConfig | None = None):
    """The entry of the shard if it is the one planned, with `rows` samples from id `first` on."""
    simulation = (config or small()).simulation()
    system = next(iter(simulation.systems))
    plan = ShardPlan(index=1, system=system, first=first, first_run=first // simulation.snapshots_per_run, rows=rows)
    return checked_shard(file, labels_of(simulation, plan), (2, *simulation.grid.shape))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_no_shard(tmp_path, damage):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00001.parquet"
    assert checked(file) == shard_entry(file)
    assert checked(file).items() >= open_dataset(tmp_path).card.shards[1].items()
    file.write_bytes(damage(file.read_bytes()))
    assert checked(file) is None


@pytest.mark.parametrize(("first", "rows"), [(0, 4), (4, 3), (4, 5), (5, 4)])
def test_a_shard_of_other_samples_is_not_the_one_asked_for(tmp_path, first, rows):
    simulate_here(small(), tmp_path)
    assert checked(tmp_path / "shard-00001.parquet", first, rows) is None


OTHERS = [
    {"seed": 1},
    {"steps": 31},
    {"preset": ("life",)},
    {"snapshots_per_run": 2, "interval": 1},
    {"height": 12},
    {"dt": 0.5},
]


@pytest.mark.parametrize("other", OTHERS, ids=[next(iter(other)) for other in OTHERS])
def test_a_shard_of_another_dataset_is_not_the_one_asked_for(tmp_path, other):
    simulate_here(small(), tmp_path)
    assert checked(tmp_path / "shard-00001.parquet", config=small(**other)) is None


ALTERED_COLUMNS = [
    ("sample_id", pa.array([4, 5, 7, 6])),
    ("run_id", pa.array([4, 5, 6, 6])),
    ("alive", pa.array([True, True, False, True])),
    ("seed", pa.array([0, 0, 1, 0])),
    ("steps", pa.array([30, 30, 30, 31])),
    ("system", pa.array(["waves", "life", "waves", "waves"])),
    ("time", pa.array([30.0, 30.0, np.nextafter(30.0, 31.0), 30.0])),
    ("time", pa.array([30.0, 30.0, None, 30.0])),
    ("digest", pa.array([bytes(16)] * 4, pa.binary(16))),
]


@pytest.mark.parametrize(("name", "column"), ALTERED_COLUMNS, ids=[name for name, _ in ALTERED_COLUMNS])
def test_a_value_that_does_not_match_its_digest_is_noticed(tmp_path, name, column):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00001.parquet"
    rewritten(file, sample_id=pa.array([4, 5, 6, 7]))  # as it was: to write it again does no harm
    assert checked(file)["rows"] == 4
    rewritten(file, **{name: column})
    assert checked(file) is None


@pytest.mark.parametrize(
    ("name", "place"), [("state", (2, 1, 3, 4)), ("averages", (2, 5)), ("averages_before", (0, 0))]
)
def test_one_number_changed_by_its_last_bit_is_noticed(tmp_path, name, place):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00001.parquet"
    numbers = array_of(pq.read_table(file), name).copy()
    numbers[place] = np.nextafter(numbers[place], numbers.dtype.type(1))
    rewritten(file, **{name: pa.FixedShapeTensorArray.from_numpy_ndarray(numbers)})
    assert checked(file) is None


def test_a_missing_shard_is_no_shard(tmp_path):
    assert checked(tmp_path / "shard-00000.parquet", 0, 4) is None


def test_a_damaged_shard_is_told_when_it_is_read(tmp_path):
    dataset = simulate_here(small(), tmp_path)
    (tmp_path / "shard-00001.parquet").write_bytes(b"not a shard")
    with pytest.raises(UserError, match=r"shard-00001\.parquet cannot be read"):
        dataset.states()
