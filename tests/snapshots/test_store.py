"""Shards and datasets: bit for bit what was simulated, whatever the chunks; damage is found and mended."""

import dataclasses
import errno
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d import simulation
from p2d.config import SimulateConfig
from p2d.dynamics import initial, stepper
from p2d.dynamics.gray_scott import preset
from p2d.errors import UserError
from p2d.simulation import ALIVE_SPREAD, begin, finish, is_finished, kept_shards, plan, simulate_here, simulate_shard
from p2d.snapshots import store
from p2d.snapshots.card import read_card
from p2d.snapshots.schema import PARAMETERS, Samples
from p2d.snapshots.store import (
    Dataset,
    checked_shard,
    file_hash,
    find_dataset,
    open_dataset,
    read_table,
    shard_name,
    write_shard,
)

DAMAGES = {
    "a byte of the states altered": lambda data: altered(data, len(data) // 2),
    "last byte altered": lambda data: altered(data, len(data) - 1),
    "cut in half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "another file": lambda data: b"not a shard at all",
}


def altered(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def small(**settings) -> SimulateConfig:
    """Ten samples in shards of 4, 4 and 2, young enough to live."""
    few = {"num_samples": 10, "height": 10, "width": 12, "steps": 30, "chunk": 4, "device": "cpu"}
    return SimulateConfig(**{**few, **settings})


def samples_of(state: np.ndarray, first: int = 0, alive: np.ndarray | None = None) -> Samples:
    count = len(state)
    return Samples(
        state=state,
        sample_id=np.arange(first, first + count),
        alive=np.ones(count, bool) if alive is None else alive,
        seed=3,
        preset="waves",
        parameters={key: getattr(preset("waves"), key) for key in PARAMETERS},
        steps=30,
    )


def with_living(folder: Path, alive: list[bool], chunk: int = 4) -> Dataset:
    """A dataset of random states of which these are alive."""
    config = small(num_samples=len(alive), height=4, width=6, chunk=chunk)
    card, config = begin(config, folder)
    states = np.random.default_rng(0).random((len(alive), 2, 4, 6), dtype=np.float32)
    entries = []
    for shard in plan(config):
        rows = slice(shard.first, shard.first + shard.rows)
        samples = samples_of(states[rows], shard.first, np.array(alive[rows]))
        entries.append(write_shard(folder, shard.index, samples))
    finish(folder, card, entries, "cpu", 0.0)
    return open_dataset(folder)


def altered_card(folder: Path, **values) -> None:
    file = folder / "card.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every shard."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.parquet"))}


# One shard


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (1, 7)])
def test_states_come_back_to_the_last_bit(tmp_path, height, width):
    states = np.random.default_rng(0).random((5, 2, height, width), dtype=np.float32)
    states[0, 0, 0, :6] = [0.0, -0.0, 1.0, 1e-45, np.nextafter(np.float32(1), np.float32(0)), 0.1]
    alive = np.array([True, False, True, True, False])
    entry = write_shard(tmp_path, 7, samples_of(states, 20, alive))
    table = read_table(tmp_path / "shard-00007.parquet")
    assert table.column("state").combine_chunks().to_numpy_ndarray().tobytes() == states.tobytes()
    assert table.column("sample_id").to_pylist() == [20, 21, 22, 23, 24]
    assert table.column("alive").to_pylist() == alive.tolist()
    assert entry == {
        "name": "shard-00007.parquet",
        "rows": 5,
        "alive": 3,
        "hash": file_hash(tmp_path / "shard-00007.parquet"),
    }


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_a_simulated_shard_is_the_simulation_to_the_last_bit(tmp_path, height, width):
    config = small(height=height, width=width, seed=5)
    dataset = simulate_here(config, tmp_path)
    start = initial.initial_states(5, np.arange(10), height, width)
    expected = stepper.run(start, preset("waves"), 30, "cpu")
    assert dataset.states(np.arange(10)).tobytes() == expected.tobytes()
    ids, states = dataset.read_shard("shard-00001.parquet")
    assert_array_equal(ids, [4, 5, 6, 7])
    assert states.tobytes() == expected[4:8].tobytes()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_a_shard_opens_with_plain_pyarrow(tmp_path, height, width):
    simulate_here(small(height=height, width=width), tmp_path)
    table = pq.read_table(tmp_path / "shard-00000.parquet")
    assert table.schema.field("state").type == pa.fixed_shape_tensor(pa.float32(), [2, height, width])
    assert table.column("state").combine_chunks().to_numpy_ndarray().shape == (4, 2, height, width)
    row = table.drop_columns(["state", "digest"]).to_pylist()[2]
    waves = {key: getattr(preset("waves"), key) for key in PARAMETERS}
    assert row == {"sample_id": 2, "seed": 0, "preset": "waves", "steps": 30, "alive": True, **waves}


def test_the_card_is_plain_json_that_says_what_the_shards_say(tmp_path):
    config = small(preset=("waves", "life"), normalize=False)
    dataset = simulate_here(config, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["settings"] == config.identity()
    assert (card["grid"], card["samples"], card["alive"], card["complete"]) == ([10, 12], 20, 20, True)
    assert card["parameters"]["life"] == {key: getattr(preset("life"), key) for key in PARAMETERS}
    assert card["affine"] == {"scale": 1.0, "shift": 0.0}
    assert [(s["name"], s["rows"]) for s in card["shards"]] == [(shard_name(i), n) for i, n in enumerate([4, 4, 2] * 2)]
    assert [s["hash"] for s in card["shards"]] == [file_hash(tmp_path / s["name"]) for s in card["shards"]]
    states = dataset.states().astype(np.float64)
    found = [card["moments"][key] for key in ("mean_u", "mean_v", "std_u", "std_v")]
    # E x^2 - (E x)^2 in float64 loses at most four digits here
    assert_close(found, [*states.mean((0, 2, 3)), *states.std((0, 2, 3))], rtol=1e-10, atol=0)


# The hash of a dataset


@pytest.mark.parametrize("presets", [("waves",), ("waves", "life")])
@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_the_hash_does_not_depend_on_the_chunk(tmp_path, chunk, presets):
    reference = simulate_here(small(preset=presets), tmp_path / "a")
    other = simulate_here(small(preset=presets, chunk=chunk), tmp_path / "b")
    assert len(other.card.shards) == len(presets) * -(-10 // chunk)
    assert other.card.dataset_hash == reference.card.dataset_hash
    assert other.states().tobytes() == reference.states().tobytes()


def test_the_same_settings_give_the_same_bytes(tmp_path):
    simulate_here(small(), tmp_path / "a")
    simulate_here(small(), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


OTHERS = [{"seed": 1}, {"steps": 31}, {"num_samples": 9}, {"preset": ("life",)}, {"height": 12}]


@pytest.mark.parametrize("other", OTHERS, ids=lambda o: next(iter(o)))
def test_other_contents_have_another_hash(tmp_path, other):
    one, two = simulate_here(small(), tmp_path / "a"), simulate_here(small(**other), tmp_path / "b")
    assert one.card.dataset_hash != two.card.dataset_hash


# Damage


@pytest.mark.parametrize("place", [0, 3, 100, 0.25, 0.5, 0.9, 0.999])
def test_any_altered_byte_of_a_finished_dataset_is_noticed(tmp_path, place):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00000.parquet"
    data = file.read_bytes()
    file.write_bytes(altered(data, place if isinstance(place, int) else int(place * len(data))))
    assert not is_finished(small(), tmp_path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_of_a_finished_dataset_is_noticed_and_remade(tmp_path, damage):
    made = simulate_here(small(), tmp_path)
    sound, file = contents(tmp_path), tmp_path / "shard-00001.parquet"
    file.write_bytes(damage(file.read_bytes()))
    assert not is_finished(small(), tmp_path)
    assert kept_shards(made.card, tmp_path, plan(small())).keys() == {0, 2}
    mended = simulate_here(small(), tmp_path)
    assert mended.card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound
    assert is_finished(small(), tmp_path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_of_an_interrupted_dataset_is_noticed_and_remade(tmp_path, damage):
    made = simulate_here(small(), tmp_path)
    sound, file = contents(tmp_path), tmp_path / "shard-00001.parquet"
    altered_card(tmp_path, complete=False, shards=[], dataset_hash="")
    file.write_bytes(damage(file.read_bytes()))
    assert checked_shard(file, 4, 4) is None
    card = read_card((tmp_path / "card.json").read_text(), "here")
    assert kept_shards(card, tmp_path, plan(small())).keys() == {0, 2}
    assert simulate_here(small(), tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound


def rewritten(file: Path, **columns: pa.Array) -> None:
    """The same shard with other columns and its old digests: sound parquet, altered contents."""
    table = pq.read_table(file)
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, file)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("sample_id", pa.array([4, 5, 7, 6])),
        ("alive", pa.array([True, True, False, True])),
        ("seed", pa.array([0, 0, 1, 0])),
        ("steps", pa.array([30, 30, 30, 31])),
        ("preset", pa.array(["waves", "life", "waves", "waves"])),
        ("F", pa.array([0.018, 0.018, 0.018, np.nextafter(0.018, 1)])),
        ("digest", pa.array([bytes(16)] * 4, pa.binary(16))),
    ],
)
def test_a_value_that_does_not_match_its_digest_is_noticed(tmp_path, name, column):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00001.parquet"
    assert checked_shard(file, 4, 4)["rows"] == 4
    rewritten(file, **{name: column})
    assert checked_shard(file, 4, 4) is None


def test_one_cell_of_one_state_changed_by_its_last_bit_is_noticed(tmp_path):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00001.parquet"
    states = pq.read_table(file).column("state").combine_chunks().to_numpy_ndarray().copy()
    states[2, 1, 3, 4] = np.nextafter(states[2, 1, 3, 4], np.float32(1))
    rewritten(file, state=pa.FixedShapeTensorArray.from_numpy_ndarray(states))
    assert checked_shard(file, 4, 4) is None


def test_a_missing_shard_is_no_shard(tmp_path):
    assert checked_shard(tmp_path / "shard-00000.parquet", 0, 4) is None


# Opening


def test_a_missing_shard_is_told_and_restored(tmp_path):
    made = simulate_here(small(), tmp_path)
    (tmp_path / "shard-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"lacks its shard shard-00002\.parquet"):
        open_dataset(tmp_path)
    assert simulate_here(small(), tmp_path).card == dataclasses.replace(
        made.card, seconds=open_dataset(tmp_path).card.seconds
    )


def test_a_damaged_shard_is_told_when_it_is_read(tmp_path):
    dataset = simulate_here(small(), tmp_path)
    (tmp_path / "shard-00001.parquet").write_bytes(b"not a shard")
    with pytest.raises(UserError, match=r"shard-00001\.parquet cannot be read"):
        dataset.states()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=f"no dataset folder {tmp_path / 'nowhere'}"):
        open_dataset(tmp_path / "nowhere")


def test_a_folder_without_a_card_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no card\.json"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("", "not JSON"),
        ('{"format": "p2d da', "not JSON"),
        ("[1, 2]", "not the card"),
        ('{"name": "another program"}', "not the card"),
        ('{"format": "p2d dataset", "version": 99}', "version 99.*reads up to 1.*update p2d"),
        ('{"format": "p2d dataset", "version": 1, "grid": [4, 4]}', "damaged"),
        ('{"format": "p2d dataset", "version": 1}', "damaged"),
    ],
)
def test_a_card_that_is_none_of_ours_is_told(tmp_path, card, told):
    (tmp_path / "card.json").write_text(card)
    with pytest.raises(UserError, match=f"{tmp_path}/card.json.*{told}"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match=told):
        simulate_here(small(), tmp_path)


def test_an_unfinished_dataset_is_told(tmp_path):
    begin(small(), tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path} is unfinished"):
        open_dataset(tmp_path)


# Interruption and other settings


def interrupt_at_shard(monkeypatch, index: int) -> None:
    def simulate(config, folder, shard, threads=None):
        if shard.index == index:
            raise KeyboardInterrupt
        return simulate_shard(config, folder, shard, threads)

    monkeypatch.setattr(simulation, "simulate_shard", simulate)


@pytest.mark.parametrize("chunk_asked_later", [4, 3])
def test_an_interrupted_dataset_goes_on_and_keeps_its_shards(tmp_path, monkeypatch, chunk_asked_later):
    whole = simulate_here(small(), tmp_path / "whole")
    folder = tmp_path / "interrupted"
    with monkeypatch.context() as patched:
        interrupt_at_shard(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            simulate_here(small(), folder)
    assert contents(folder).keys() == {"shard-00000.parquet", "shard-00001.parquet"}
    written = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.parquet")}
    dataset = simulate_here(small(chunk=chunk_asked_later), folder)
    assert dataset.card.dataset_hash == whole.card.dataset_hash
    assert contents(folder) == contents(tmp_path / "whole")
    assert {name: (folder / name).stat().st_mtime_ns for name in written} == written


def test_a_dataset_with_a_shard_gone_and_an_open_card_goes_on(tmp_path):
    made = simulate_here(small(), tmp_path)
    sound = contents(tmp_path)
    altered_card(tmp_path, complete=False, shards=[], dataset_hash="")
    (tmp_path / "shard-00000.parquet").unlink()
    assert simulate_here(small(), tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound


def test_a_finished_dataset_is_not_simulated_again(tmp_path, monkeypatch):
    made = simulate_here(small(), tmp_path)
    interrupt_at_shard(monkeypatch, 0)
    assert simulate_here(small(), tmp_path).card == made.card


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 1}, "seed is 0 there, 1 was asked"),
        ({"steps": 31}, "steps is 30 there, 31 was asked"),
        ({"num_samples": 12}, "num_samples is 10 there, 12 was asked"),
        ({"preset": ("waves", "life")}, r"preset is \['waves'\] there, \['waves', 'life'\] was asked"),
        ({"height": 12, "width": 10}, "height is 10 there, 12 was asked; width is 12 there, 10 was asked"),
        ({"normalize": False}, "normalize is True there, False was asked"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_and_named(tmp_path, other, told, complete):
    simulate_here(small(), tmp_path)
    before = contents(tmp_path)
    altered_card(tmp_path, complete=complete)
    with pytest.raises(UserError, match=f"other settings: {told}"):
        simulate_here(small(**other), tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path} holds files but no card.json"):
        simulate_here(small(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


# Samples that live, and the split


@pytest.mark.parametrize("holdout", [0.01, 0.1, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("pattern", ["1" * 10, "1100", "0101101", "10000000000001", "1" * 37 + "0" * 3])
def test_the_split_is_disjoint_and_covers_the_living(tmp_path, pattern, holdout):
    alive = [digit == "1" for digit in pattern]
    train, held = with_living(tmp_path, alive).split(holdout)
    living = np.flatnonzero(alive)
    assert_array_equal(np.sort(np.concatenate([train, held])), living)
    assert len(held) == min(max(1, round(holdout * len(living))), len(living) - 1)
    assert_array_equal(train, np.sort(train))


@pytest.mark.parametrize("chunk", [1, 3, 40])
def test_the_split_does_not_depend_on_the_chunk(tmp_path, chunk):
    alive = [i % 5 != 2 for i in range(23)]
    reference = with_living(tmp_path / "a", alive).split(0.2)
    for part, same in zip(with_living(tmp_path / "b", alive, chunk).split(0.2), reference, strict=True):
        assert_array_equal(part, same)


@pytest.mark.parametrize("holdout", [0.1, 0.3, 0.5])
def test_what_is_held_out_is_spread_evenly(tmp_path, holdout):
    _, held = with_living(tmp_path, [True] * 40).split(holdout)
    gaps = np.diff(held)
    assert gaps.max() - gaps.min() <= 1
    assert held[-1] == 39


@pytest.mark.parametrize("pattern", ["0000", "0100", "1"])
def test_a_split_of_fewer_than_two_is_refused(tmp_path, pattern):
    dataset = with_living(tmp_path, [digit == "1" for digit in pattern])
    with pytest.raises(UserError, match=f"{pattern.count('1')} living samples of {len(pattern)}: at least 2"):
        dataset.split(0.1)


def test_dead_samples_are_flagged_and_left_out(tmp_path):
    dataset = simulate_here(small(preset=("holes",), num_samples=12, height=12, width=16, steps=300), tmp_path)
    everything = dataset.states(np.arange(12))
    alive = everything[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD
    assert 2 <= alive.sum() < 12  # this preset dies out on some grids of this size
    assert_array_equal(dataset.index.column("alive").to_numpy(zero_copy_only=False), alive)
    assert dataset.card.alive == alive.sum()
    assert dataset.card.samples == 12
    assert dataset.states().tobytes() == everything[alive].tobytes()
    assert_array_equal(np.sort(np.concatenate(dataset.split(0.2))), np.flatnonzero(alive))


def test_states_come_in_the_order_of_the_ids_asked_for(tmp_path):
    dataset = simulate_here(small(), tmp_path)
    everything = dataset.states(np.arange(10))
    assert_array_equal(dataset.states(np.array([9, 0, 5, 4])), everything[[9, 0, 5, 4]])
    assert_array_equal(dataset.read_ids("shard-00001.parquet", np.array([9, 5, 4])), [4, 5])


# Names


def test_a_dataset_is_found_by_name_short_name_and_path(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "waves_10x12"
    made = simulate_here(small(), folder)
    monkeypatch.chdir(tmp_path)
    for name in ("waves_10x12", "waves", str(folder), "data/waves_10x12"):
        found = find_dataset(name, tmp_path)
        assert found.card == made.card
        assert found.folder.resolve() == folder


def test_a_dataset_that_is_not_there_lists_those_that_are(tmp_path):
    simulate_here(small(), tmp_path / "data" / "waves_10x12")
    simulate_here(small(seed=1), tmp_path / "data" / "mine")
    with pytest.raises(UserError, match=r"no dataset 'spirals'.*which holds mine, waves_10x12"):
        find_dataset("spirals", tmp_path)
    with pytest.raises(UserError, match=r"no dataset 'spirals'.*which is empty"):
        find_dataset("spirals", tmp_path / "elsewhere")


def test_a_short_name_of_two_datasets_is_refused(tmp_path):
    for height in (10, 12):
        simulate_here(small(height=height), tmp_path / "data" / f"waves_{height}x12")
    with pytest.raises(UserError, match="several datasets are called 'waves': waves_10x12, waves_12x12"):
        find_dataset("waves", tmp_path)
    assert find_dataset("waves_12x12", tmp_path).card.grid == (12, 12)


# What must not be written, or read


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_its_shard_and_sample(tmp_path, value):
    dataset = with_living(tmp_path, [True] * 10)
    states = dataset.states(np.arange(4, 8))
    states[1, 0, 2, 3] = value
    write_shard(tmp_path, 1, samples_of(states, 4))
    with pytest.raises(UserError, match=r"shard-00001\.parquet: sample 5 holds a value that is not finite"):
        dataset.states()
    assert len(dataset.states(np.array([4, 6, 9]))) == 3


def test_a_simulation_that_is_not_finite_names_its_sample(tmp_path, monkeypatch):
    def diverges(state, *_):
        state[2, 1, 0, 0] = np.nan
        return state

    monkeypatch.setattr(simulation.stepper, "run", diverges)
    with pytest.raises(UserError, match="sample 2 of waves is not finite after 30 steps"):
        simulate_here(small(), tmp_path)
    assert contents(tmp_path) == {}


def test_a_disk_that_fills_up_is_told_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    write_table, written = pq.write_table, []

    def fills_up(table, file, **options):
        if written:
            file.write(b"PAR1 and half a shard")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(table)
        write_table(table, file, **options)

    with monkeypatch.context() as patched:
        patched.setattr(store.pq, "write_table", fills_up)
        with pytest.raises(UserError, match=r"cannot write .*shard-00001\.parquet: No space left on device; free"):
            simulate_here(small(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "shard-00000.parquet"]
    whole = simulate_here(small(), tmp_path / "elsewhere")
    assert simulate_here(small(), tmp_path).card.dataset_hash == whole.card.dataset_hash


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=re.escape(f"cannot write to {tmp_path}/file/data")):
        simulate_here(small(), tmp_path / "file" / "data")
