"""A dataset is read again as a whole: every fault is named, and nothing that is sound."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p2d.errors import UserError
from p2d.snapshots.card import load_card
from p2d.snapshots.files import file_hash, shard_entry, write_shard
from p2d.snapshots.schema import array_of, digests_of
from p2d.snapshots.shards import Shards
from p2d.snapshots.simulated import simulate_here, writing
from p2d.snapshots.verify import Fault, verify

from .helpers import (
    CUT_SHARDS,
    altered,
    altered_card,
    gray_scott,
    interrupted,
    rewritten,
    samples_of,
    simulation_of,
    small,
    with_living,
)

NOT_THE_FILE = "not the file that the card says, though its rows are sound in themselves"
ALTERED = "altered: rows differ from their digests"
NOT_FINITE = "holds a value that is not finite"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Three shards, of 4, 4 and 2 samples."""
    return simulate_here(small(), tmp_path_factory.mktemp("simulated") / "d").folder


@pytest.fixture
def folder(simulated, tmp_path):
    """A copy of them, to be damaged."""
    return shutil.copytree(simulated, tmp_path, dirs_exist_ok=True)


def shard(index: int) -> str:
    return f"shard-{index:05d}.parquet"


def with_the_hash_of(folder, index: int) -> None:
    """Let the card know the shard as it is now."""
    shards = json.loads((folder / "card.json").read_text())["shards"]
    hashes = shards["hash"].split()
    hashes[index] = file_hash(folder / shard(index))
    altered_card(folder, shards={**shards, "hash": " ".join(hashes)})


def redigested(file, **columns) -> None:
    """A shard with other columns and digests that match them."""
    rewritten(file, **columns)
    rewritten(file, digest=pa.array(digests_of(pq.read_table(file)), pa.binary(16)))


# Sound


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"chunk": 64},
        {"preset": ("waves", "life"), "set": ("F=0.02,0.03",)},
        {"snapshots_per_run": 3, "interval": 7},
        {"preset": ("holes",), "num_samples": 12, "height": 12, "width": 16, "steps": 300},  # some of these die
        {"normalize": False, "initial": "noise", "dt": 0.5},
    ],
    ids=str,
)
def test_a_sound_dataset_has_no_faults(tmp_path, settings):
    simulate_here(small(**settings), tmp_path)
    assert verify(tmp_path) == []


def test_files_beside_the_shards_are_no_faults(folder):
    for name in ("notes.txt", ".shard-00000.parquet.0123.tmp", "shard-00009.parquet.foreign"):
        (folder / name).write_text("mine")
    assert verify(folder) == []


# Shards


@pytest.mark.parametrize("place", [0, 3, 4, 40, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99, -9, -8, -4, -1])
@pytest.mark.parametrize("index", [0, 2])
def test_a_flipped_bit_is_named_and_nothing_else(folder, index, place):
    file = folder / shard(index)
    data = file.read_bytes()
    file.write_bytes(altered(data, int(place * len(data)) if isinstance(place, float) else place % len(data)))
    assert [fault.name for fault in verify(folder)] == [shard(index)]


def test_a_flipped_bit_anywhere_in_the_file_is_named(folder):
    file = folder / shard(1)
    data = file.read_bytes()
    for place in range(7, len(data), 41):  # no divisor of the length of anything in it
        file.write_bytes(altered(data, place))
        assert [fault.name for fault in verify(folder)] == [shard(1)], f"byte {place} of {len(data)}"


@pytest.mark.parametrize("cut", CUT_SHARDS.values(), ids=CUT_SHARDS)
def test_a_cut_file_is_named(folder, cut):
    file = folder / shard(1)
    file.write_bytes(cut(file.read_bytes()))
    (fault,) = verify(folder)
    assert fault.name == shard(1)
    assert fault.what.startswith("cut or damaged (")


@pytest.mark.parametrize("gone", [[0], [2], [0, 1, 2]])
def test_missing_shards_are_named(folder, gone):
    for index in gone:
        (folder / shard(index)).unlink()
    assert verify(folder) == [Fault(shard(index), "missing") for index in gone]


@pytest.mark.parametrize("name", ["shard-00003.parquet", "shard-00000-copy.parquet", "other.parquet"])
def test_a_shard_that_the_card_does_not_know_is_named(folder, name):
    shutil.copy(folder / shard(0), folder / name)
    assert verify(folder) == [Fault(name, "a foreign shard: the card does not know it")]


@pytest.mark.parametrize("other", [{"seed": 1}, {"steps": 31}, {"preset": ("life",)}, {"height": 12}], ids=str)
def test_a_shard_of_another_dataset_under_a_known_name_is_named(folder, tmp_path_factory, other):
    elsewhere = tmp_path_factory.mktemp("other")
    simulate_here(small(**other), elsewhere)
    shutil.copy(elsewhere / shard(1), folder / shard(1))
    assert verify(folder) == [Fault(shard(1), NOT_THE_FILE)]


def test_two_shards_that_changed_places_are_both_named(folder):
    first, second = folder / shard(0), folder / shard(1)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert verify(folder) == [Fault(shard(0), NOT_THE_FILE), Fault(shard(1), NOT_THE_FILE)]


@pytest.mark.parametrize("card_knows", [False, True])
def test_altered_rows_are_named_even_where_the_card_knows_the_file(folder, card_knows):
    rewritten(folder / shard(1), alive=pa.array([True, False, True, True]))
    if card_knows:
        with_the_hash_of(folder, 1)
    assert verify(folder) == [Fault(shard(1), ALTERED)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("card_knows", [False, True])
def test_a_value_that_is_not_finite_is_named(tmp_path, value, card_knows):
    states = with_living(tmp_path, [True] * 10).states(np.arange(4, 8))
    states[3, 1, 3, 5] = value
    write_shard(tmp_path, 1, samples_of(states, 4))
    if card_knows:
        with_the_hash_of(tmp_path, 1)
    assert verify(tmp_path) == [Fault(shard(1), NOT_FINITE)]


def test_all_faults_are_named_at_once_in_the_order_of_shards(tmp_path):
    simulate_here(small(num_samples=20), tmp_path)
    files = [tmp_path / shard(i) for i in range(5)]
    files[4].unlink()
    files[3].write_bytes(files[2].read_bytes())
    rewritten(files[1], seed=pa.array([1] * 4))
    files[0].write_bytes(b"")
    shutil.copy(files[2], tmp_path / shard(7))
    faults = verify(tmp_path)
    assert faults[0].what.startswith("cut or damaged")
    assert faults == [
        Fault(shard(0), faults[0].what),
        Fault(shard(1), ALTERED),
        Fault(shard(3), NOT_THE_FILE),
        Fault(shard(4), "missing"),
        Fault(shard(7), "a foreign shard: the card does not know it"),
    ]
    assert str(faults[3]) == "shard-00004.parquet: missing"


# The card


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset_hash", "0" * 32),
        ("dataset_hash", ""),
        ("samples", 11),
        ("alive", 9),
        ("systems", {"life": gray_scott("life").to_dict()}),
        ("systems", {label: gray_scott(label).to_dict() for label in ("waves", "life")}),
    ],
)
def test_an_altered_card_is_named_with_what_is_wrong_in_it(folder, key, value):
    altered_card(folder, **{key: value})
    assert verify(folder) == [Fault("card.json", f"{key} is not that of the rows")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("settings", {"preset": ["waves"]}),
        ("grid", {"shape": [12, 10], "spacing": 1.0, "edges": ["periodic", "periodic"], "unit": ""}),
        ("grid", {"shape": [10, 12], "spacing": 1.0, "edges": ["mirror", "periodic"], "unit": ""}),
        ("scaling", {"scale": [1.0, 1.0], "shift": [0.0, 0.0]}),
        ("systems", {}),
        ("systems", {"waves": gray_scott(F=0.019).to_dict()}),  # another rate than the samples were simulated with
        ("conditions", {}),
        ("species", [{"name": name, "unit": "mM", "low": 0, "high": 1} for name in ("u", "v")]),
        ("chunk", 5),
        ("dead_share", 0.5),
        ("ensembles", {}),
        ("software", {}),
        ("seconds", 1e6),
        ("card_hash", ""),
    ],
)
def test_any_other_altered_word_of_a_card_is_noticed(folder, key, value):
    altered_card(folder, **{key: value})
    assert verify(folder) == [Fault("card.json", "altered since it was written")]


def test_several_wrong_words_of_a_card_are_all_named(folder):
    altered_card(folder, alive=3, samples=5)
    assert [fault.what.split()[0] for fault in verify(folder)] == ["samples", "alive"]


@pytest.mark.parametrize(
    ("columns", "wrong"),
    [
        ({"seed": pa.array([1] * 4)}, ["dataset_hash"]),
        ({"alive": pa.array([True] * 3 + [False])}, ["dataset_hash", "alive"]),
        ({"system": pa.array(["life"] * 4)}, ["dataset_hash", "systems"]),
        ({"time": pa.array([60.0] * 4)}, ["dataset_hash"]),
    ],
    ids=["seed", "alive", "system", "time"],
)
def test_a_card_that_knows_a_shard_of_other_contents_does_not_hide_it(folder, columns, wrong):
    redigested(folder / shard(1), **columns)
    assert verify(folder) == [Fault(shard(1), NOT_THE_FILE)]
    with_the_hash_of(folder, 1)
    assert [fault.what.split()[0] for fault in verify(folder)] == wrong


def test_one_cell_altered_in_shard_and_card_alike_shows_in_the_hash_of_the_whole(folder):
    states = array_of(pq.read_table(folder / shard(2)), "state").copy()
    states[1, 0, 9, 11] = np.nextafter(states[1, 0, 9, 11], np.float32(0))
    redigested(folder / shard(2), state=pa.FixedShapeTensorArray.from_numpy_ndarray(states))
    with_the_hash_of(folder, 2)
    assert verify(folder) == [Fault("card.json", "dataset_hash is not that of the rows")]


@pytest.mark.parametrize(
    ("column", "text"),
    [("first_run", "0 4 9"), ("kind", "0 1 0"), ("size", "0 1 2"), ("alive", "4 3 2")],
)
def test_a_column_of_the_card_that_differs_from_the_shards_is_noticed(folder, column, text):
    shards = json.loads((folder / "card.json").read_text())["shards"]
    other = {**shards["kinds"][0], "steps": [31]}
    mixed = {"1": "b0"} if column == "alive" else {}
    altered_card(folder, shards={**shards, column: text, "kinds": [*shards["kinds"], other], "mixed": mixed})
    told = "altered since it was written" if column == "size" else "says other labels than the rows"
    assert verify(folder) == [Fault("card.json", told)]


def test_shards_of_a_card_of_version_3_in_another_order_are_told(folder):
    altered_card(folder, version=3, shards=list(load_card(folder).shards)[::-1])
    with pytest.raises(UserError, match=r"card\.json is damaged .'shard-00002\.parquet' is no shard 0"):
        verify(folder)


def test_a_shard_that_the_card_has_forgotten_is_a_foreign_one(folder):
    entries = [shard_entry(folder / shard(index)) for index in range(2)]
    altered_card(folder, shards=Shards.of(entries).to_dict())
    assert verify(folder) == [Fault(shard(2), "a foreign shard: the card does not know it")]


UNFINISHED = [Fault("card.json", "says that the dataset is unfinished; run the same p2d simulate again")]


def test_an_unfinished_dataset_is_named(folder, tmp_path_factory):
    interrupted(folder)
    assert verify(folder) == UNFINISHED
    begun = tmp_path_factory.mktemp("begun")
    with writing(simulation_of(), begun):
        assert verify(begun) == UNFINISHED
