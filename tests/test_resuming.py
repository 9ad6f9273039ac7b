"""A dataset that was interrupted, damaged or is asked for with other settings: mended, or refused in one line."""

import errno
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from p2d.errors import UserError
from p2d.snapshots import simulated as simulation
from p2d.snapshots import store
from p2d.snapshots.card import load_card
from p2d.snapshots.simulated import is_finished, kept_shards, plan, simulate_here, simulate_samples, writing
from p2d.systems import stepper

from .snapshots.helpers import DAMAGES, altered, altered_card, contents, interrupted, small

SEVERAL = {"snapshots_per_run": 3, "interval": 11}

# Damage


@pytest.mark.parametrize("place", [0, 3, 100, 0.25, 0.5, 0.9, 0.999])
def test_any_altered_byte_of_a_finished_dataset_is_noticed(tmp_path, place):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00000.parquet"
    data = file.read_bytes()
    assert is_finished(small(), tmp_path)
    file.write_bytes(altered(data, place if isinstance(place, int) else int(place * len(data))))
    assert not is_finished(small(), tmp_path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_a_damaged_shard_is_noticed_and_remade(tmp_path, damage, finished):
    made = simulate_here(small(), tmp_path)
    sound, file = contents(tmp_path), tmp_path / "shard-00001.parquet"
    if not finished:
        interrupted(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert not is_finished(small(), tmp_path)
    assert kept_shards(small(), load_card(tmp_path), tmp_path, plan(small())).keys() == {0, 2}
    mended = simulate_here(small(), tmp_path)
    assert mended.card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound
    assert is_finished(small(), tmp_path)


# Interruption


def interrupt_at_shard(monkeypatch, index: int) -> None:
    def simulate(config, shard, *where):
        if shard.index == index:
            raise KeyboardInterrupt
        return simulate_samples(config, shard, *where)

    monkeypatch.setattr(simulation, "simulate_samples", simulate)


@pytest.mark.parametrize("settings", [{}, SEVERAL], ids=["single", "several a run"])
@pytest.mark.parametrize("chunk_asked_later", [4, 5, 1])
def test_an_interrupted_dataset_goes_on_and_keeps_its_shards(tmp_path, monkeypatch, chunk_asked_later, settings):
    whole = simulate_here(small(**settings), tmp_path / "whole")
    folder = tmp_path / "interrupted"
    with monkeypatch.context() as patched:
        interrupt_at_shard(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            simulate_here(small(**settings), folder)
    assert contents(folder).keys() == {"shard-00000.parquet", "shard-00001.parquet"}
    written = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.parquet")}
    later = small(**{**settings, "chunk": chunk_asked_later})
    assert not is_finished(later, folder)
    dataset = simulate_here(later, folder)
    assert dataset.card.dataset_hash == whole.card.dataset_hash
    assert contents(folder) == contents(tmp_path / "whole")
    assert {name: (folder / name).stat().st_mtime_ns for name in written} == written
    assert is_finished(later, folder)


def test_the_writer_is_told_the_chunk_that_the_shards_have(tmp_path):
    with writing(small(), tmp_path):
        pass
    with writing(small(chunk=9, threads=2), tmp_path) as (card, config):
        assert config == small(threads=2)
        assert card == load_card(tmp_path)


def test_a_dataset_with_a_shard_gone_and_an_open_card_goes_on(tmp_path):
    made = simulate_here(small(), tmp_path)
    sound = contents(tmp_path)
    interrupted(tmp_path)
    (tmp_path / "shard-00000.parquet").unlink()
    assert simulate_here(small(), tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound


def test_a_finished_dataset_is_not_simulated_again(tmp_path, monkeypatch):
    made = simulate_here(small(), tmp_path)
    interrupt_at_shard(monkeypatch, 0)
    assert simulate_here(small(), tmp_path).card == made.card


# Made again with other bytes


def test_a_dataset_made_again_with_other_bytes_is_refused_and_its_card_left(tmp_path, monkeypatch):
    made = simulate_here(small(), tmp_path)
    card, sound = (tmp_path / "card.json").read_bytes(), contents(tmp_path)
    (tmp_path / "shard-00001.parquet").unlink()
    run = stepper.run

    def rounds_otherwise(*arguments):
        after = run(*arguments)
        after[-1, 1, 9, 11] = np.nextafter(after[-1, 1, 9, 11], np.float32(1))
        return after

    numbers = f"numba {made.card.software['numba']}, numpy {made.card.software['numpy']}"
    told = (
        f"{tmp_path}: the shards made again are not what they were: first made on cpu with {numbers}, "
        f"now on cpu with {numbers}; make it anew under another --name"
    )
    with monkeypatch.context() as patched:
        patched.setattr(simulation.stepper, "run", rounds_otherwise)
        for _ in range(2):  # the second finds the shard of the first, which is not the one that the card knows
            with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
                simulate_here(small(), tmp_path)
            assert (tmp_path / "card.json").read_bytes() == card
            assert not is_finished(small(), tmp_path)
    assert simulate_here(small(), tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound


# Other settings


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 1}, "seed is 0 there, 1 was asked"),
        ({"steps": 31}, "steps is 30 there, 31 was asked"),
        ({"num_samples": 12}, "num_samples is 10 there, 12 was asked"),
        ({"preset": ("waves", "life")}, "preset is ['waves'] there, ['waves', 'life'] was asked"),
        ({"height": 12, "width": 10}, "height is 10 there, 12 was asked; width is 12 there, 10 was asked"),
        ({"normalize": False}, "normalize is True there, False was asked"),
        ({"feed": (0.02, 0.03)}, "feed is [] there, [0.02, 0.03] was asked"),
        ({"kill": (0.05,)}, "kill is [] there, [0.05] was asked"),
        ({"dt": 0.5, "diffusion_u": 0.2}, "diffusion_u is None there, 0.2 was asked; dt is None there, 0.5 was asked"),
        ({"diffusion_v": 0.1}, "diffusion_v is None there, 0.1 was asked"),
        ({"noise": 0.02}, "noise is None there, 0.02 was asked"),
        ({"initial": "noise"}, "initial is 'discs' there, 'noise' was asked"),
        (SEVERAL, "interval is 0 there, 11 was asked; snapshots_per_run is 1 there, 3 was asked"),
    ],
)
@pytest.mark.parametrize("complete", [True, False], ids=["finished", "interrupted"])
def test_other_settings_are_refused_and_named(tmp_path, other, told, complete):
    simulate_here(small(), tmp_path)
    altered_card(tmp_path, complete=complete)
    card, before = (tmp_path / "card.json").read_bytes(), contents(tmp_path)
    with pytest.raises(UserError, match=f"other settings: {re.escape(told)}. Take another"):
        simulate_here(small(**other), tmp_path)
    assert (contents(tmp_path), (tmp_path / "card.json").read_bytes()) == (before, card)


# Folders and disks


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path} holds files but no card.json"):
        simulate_here(small(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_shards_whose_card_is_gone_are_not_written_over(tmp_path):
    simulate_here(small(), tmp_path)
    before = contents(tmp_path)
    (tmp_path / "card.json").unlink()
    with pytest.raises(UserError, match=r"no card\.json"):
        simulate_here(small(seed=1), tmp_path)
    assert contents(tmp_path) == before


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
            simulate_here(small(), tmp_path / "full")
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == [".lock", "card.json", "shard-00000.parquet"]
    whole = simulate_here(small(), tmp_path / "elsewhere")
    assert simulate_here(small(), tmp_path / "full").card.dataset_hash == whole.card.dataset_hash


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=re.escape(f"cannot write to {tmp_path}/file/data")):
        simulate_here(small(), tmp_path / "file" / "data")


def test_a_shard_of_another_dataset_in_an_interrupted_one_is_remade(tmp_path):
    made = simulate_here(small(), tmp_path / "this")
    simulate_here(small(seed=1), tmp_path / "other")
    interrupted(tmp_path / "this")
    shutil.copy(tmp_path / "other" / "shard-00001.parquet", tmp_path / "this" / "shard-00001.parquet")
    assert simulate_here(small(), tmp_path / "this").card.dataset_hash == made.card.dataset_hash
