"""What a card keeps of the shards says of every row what the row says itself, in a few numbers a shard."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from p2d.errors import UserError
from p2d.snapshots.card import load_card
from p2d.snapshots.files import label_entry
from p2d.snapshots.schema import Labels
from p2d.snapshots.shards import Kind, Shards, shard_name, shard_number
from p2d.snapshots.simulated import simulate_here

from .helpers import altered_card, small


def labels(first: int, runs: list[int], steps: list[int], system: str = "waves") -> Labels:
    """Of rows from this id on; the time of a step below 0 is not known."""
    time = np.where(np.array(steps) < 0, np.nan, 0.1 * np.array(steps))
    ids = np.arange(first, first + len(runs))
    return Labels(ids, np.array(runs), np.array(steps), time, 3, system)


def shards_of(parts: list[Labels], alive: list[list[bool]]) -> Shards:
    """As of shards with these rows."""
    entries = [
        {"name": shard_name(n), "rows": len(part), "alive": sum(lives), "size": 100 + n, "hash": f"{n:032x}"}
        | label_entry(part, np.array(lives))
        for n, (part, lives) in enumerate(zip(parts, alive, strict=True))
    ]
    return Shards.of(entries)


PARTS = [
    labels(0, [0, 0, 0, 1, 1, 1], [30, 37, 44] * 2),
    labels(6, [2, 2, 2, 3, 3], [30, 37, 44, 30, 37]),  # the last run is cut short
    labels(11, [4, 5, 6], [30] * 3, "life"),
    labels(14, [7, 7], [30, 37]),
    labels(16, [9, 8, 8, 12], [-1, 5, 5, 6]),  # in no order
]
ALIVE = [[True] * 6, [True, False, True, True, False], [False] * 3, [False, True], [True] * 4]


def test_a_kind_is_as_short_as_its_rows_allow():
    assert [len(Kind.of(part).runs) for part in PARTS] == [3, 3, 1, 2, 4]
    assert len({Kind.of(labels(n, [n], [30])) for n in range(50)}) == 1
    for part in PARTS:
        assert Kind.from_dict(json.loads(json.dumps(Kind.of(part).to_dict()))) == Kind.of(part)


def test_rows_come_back_from_a_few_numbers_a_shard():
    shards = shards_of(PARTS, ALIVE)
    shards = Shards.from_dict(json.loads(json.dumps(shards.to_dict())))
    for number, (part, lives) in enumerate(zip(PARTS, ALIVE, strict=True)):
        assert shards.labels(number).are(part)
        assert_array_equal(shards.living(number), lives)
    ids = np.random.default_rng(0).permutation(20)
    for column, read in (("run_id", shards.runs), ("steps", shards.steps), ("time", shards.times)):
        assert_array_equal(read(ids), np.concatenate([getattr(part, column) for part in PARTS])[ids])
    assert [shards.kinds[kind].system for kind in shards.kinds_of(ids)] == [
        "life" if 11 <= i < 14 else "waves" for i in ids
    ]


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_any_runs_and_steps_come_back(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, size=6)
    parts = [
        labels(first, np.sort(rng.integers(0, 4, size)).tolist(), rng.integers(-1, 3, size).tolist())
        for first, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True)
    ]
    shards = shards_of(parts, [[True] * size for size in sizes])
    assert all(shards.labels(number).are(part) for number, part in enumerate(parts))


def test_a_card_is_the_same_in_whatever_order_the_shards_came():
    shards = shards_of(PARTS, ALIVE)
    other = Shards.empty(len(PARTS))
    for number in (3, 0, 4, 2, 1):
        entry = {**shards[number], "size": 100 + number} | label_entry(PARTS[number], np.array(ALIVE[number]))
        other.put(number, entry)
    assert other.kinds != shards.kinds
    assert other.in_order() == shards == shards.in_order()


def test_a_shard_is_known_by_its_number_alone():
    assert [shard_number(shard_name(number)) for number in (0, 7, 99_999, 100_000)] == [0, 7, 99_999, 100_000]
    others = ["shard-0.parquet", "shard-000001.parquet", "../shard-00001.parquet", "shard--0001.parquet", "shard-00001"]
    assert [shard_number(name) for name in others] == [None] * 5


@pytest.mark.parametrize(
    "columns",
    [
        {"rows": "4 4"},
        {"rows": "4 4 2 2"},
        {"rows": "4 0 6"},
        {"rows": "4 4 two"},
        {"rows": f"4 4 {'9' * 40}"},
        {"rows": [4, 4, 2]},
        {"alive": "4 5 2"},
        {"alive": "4 -1 2"},
        {"alive": "4 3 2"},  # which of them is not said
        {"alive": "4 3 2", "mixed": {"1": "f0"}},
        {"alive": "4 3 2", "mixed": {"1": "e0e0"}},
        {"mixed": {"1": "f0"}},
        {"mixed": {"x": "f0"}},
        {"kind": "0 1 0"},
        {"kind": "0 -2 0"},
        {"hash": "00"},
        {"hash": "zz"},
        {"kinds": [{}]},
        {"kinds": [{"system": "waves", "seed": 0, "runs": [0], "steps": [], "time": [None]}]},
    ],
    ids=str,
)
def test_columns_that_do_not_fit_each_other_are_a_damaged_card(tmp_path, columns):
    simulate_here(small(), tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    altered_card(tmp_path, shards={**card["shards"], **columns})
    with pytest.raises(UserError, match=r"card\.json is damaged"):
        load_card(tmp_path)
