"""A dataset that was interrupted, damaged or is asked for with other settings: mended, or refused in one line."""

import errno
import os
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from p2d.errors import UserError
from p2d.snapshots import files, simulated
from p2d.snapshots import writing as writing_module
from p2d.snapshots.card import load_card
from p2d.snapshots.simulated import is_finished, shard_labels, simulate_here, simulate_samples, writing
from p2d.snapshots.store import open_dataset
from p2d.snapshots.writing import kept_shards
from p2d.systems import stepping

from .snapshots.helpers import (
    DAMAGES,
    altered,
    altered_card,
    as_version_3,
    contents,
    interrupted,
    of_last_year,
    simulation_of,
    small,
)

SEVERAL = {"snapshots_per_run": 3, "interval": 11}

# Damage


@pytest.mark.parametrize("place", [0, 3, 100, 0.25, 0.5, 0.9, 0.999])
def test_any_altered_byte_of_a_finished_dataset_is_noticed(tmp_path, place):
    simulate_here(small(), tmp_path)
    file = tmp_path / "shard-00000.parquet"
    data = file.read_bytes()
    assert is_finished(simulation_of(), tmp_path)
    file.write_bytes(altered(data, place if isinstance(place, int) else int(place * len(data))))
    assert not is_finished(simulation_of(), tmp_path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_a_damaged_shard_is_noticed_and_remade(tmp_path, damage, finished):
    made = simulate_here(small(), tmp_path)
    sound, file = contents(tmp_path), tmp_path / "shard-00001.parquet"
    if not finished:
        interrupted(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert not is_finished(simulation_of(), tmp_path)
    labels = shard_labels(simulation_of())
    assert kept_shards(tmp_path, load_card(tmp_path), labels).missing.tolist() == [1]
    mended = simulate_here(small(), tmp_path)
    assert mended.card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound
    assert is_finished(simulation_of(), tmp_path)


def test_a_finished_dataset_is_known_by_size_and_time_and_read_where_these_are_in_doubt(tmp_path, monkeypatch):
    simulate_here(small(num_samples=20, chunk=1), tmp_path)
    of_last_year(tmp_path)
    hashed = []

    def counted(path):
        hashed.append(path.name)
        return files.file_hash(path)

    monkeypatch.setattr(writing_module, "file_hash", counted)
    assert is_finished(simulation_of(num_samples=20, chunk=1), tmp_path)
    assert hashed == []
    (tmp_path / "shard-00007.parquet").touch()
    assert is_finished(simulation_of(num_samples=20, chunk=1), tmp_path)
    assert hashed == ["shard-00007.parquet"]
    os.truncate(tmp_path / "shard-00007.parquet", 1000)
    assert not is_finished(simulation_of(num_samples=20, chunk=1), tmp_path)
    assert len(hashed) == 1
    as_version_3(tmp_path)  # which says no sizes
    (tmp_path / "shard-00007.parquet").unlink()
    assert not is_finished(simulation_of(num_samples=20, chunk=1), tmp_path)
    assert len(hashed) == 20


def test_a_dataset_of_version_3_is_known_and_mended(tmp_path):
    made = simulate_here(small(preset=("waves", "life")), tmp_path)
    sound = contents(tmp_path)
    as_version_3(tmp_path)
    assert is_finished(simulation_of(preset=("waves", "life")), tmp_path)
    assert open_dataset(tmp_path).index.equals(made.index)
    (tmp_path / "shard-00001.parquet").unlink()
    mended = simulate_here(small(preset=("waves", "life")), tmp_path)
    assert contents(tmp_path) == sound
    assert mended.index.equals(made.index)
    assert (mended.card.dataset_hash, mended.card.ensembles) == (made.card.dataset_hash, made.card.ensembles)


# Interruption


def interrupt_at_shard(monkeypatch, index: int) -> None:
    def simulate(simulation, shard, *where):
        if shard.index == index:
            raise KeyboardInterrupt
        return simulate_samples(simulation, shard, *where)

    monkeypatch.setattr(simulated, "simulate_samples", simulate)


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
    assert not is_finished(later.simulation(), folder)
    dataset = simulate_here(later, folder)
    assert dataset.card.dataset_hash == whole.card.dataset_hash
    assert contents(folder) == contents(tmp_path / "whole")
    assert {name: (folder / name).stat().st_mtime_ns for name in written} == written
    assert is_finished(later.simulation(), folder)


def test_the_writer_is_told_the_chunk_that_the_shards_have(tmp_path):
    with writing(simulation_of(), tmp_path):
        pass
    with writing(simulation_of(chunk=9), tmp_path) as (card, simulation):
        assert simulation == simulation_of()
        assert card == load_card(tmp_path)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"preset": ("waves", "life")}, {"preset": ("life", "waves")}),
        ({"set": ("F=0.02,0.03", "k=0.05,0.06")}, {"set": ("k=0.06,0.05", "F=0.02,0.03")}),
    ],
    ids=["presets", "parameters"],
)
def test_systems_in_another_order_are_the_same_dataset_in_its_own_order(tmp_path, first, again, finished):
    made = simulate_here(small(**first), tmp_path)
    sound = contents(tmp_path)
    if not finished:
        interrupted(tmp_path)
        (tmp_path / "shard-00001.parquet").unlink()
    else:
        assert is_finished(simulation_of(**again), tmp_path)
    assert simulate_here(small(**again), tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound


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
    run = stepping.run

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
        patched.setattr(simulated.stepping, "run", rounds_otherwise)
        for _ in range(2):  # the second finds the shard of the first, which is not the one that the card knows
            with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
                simulate_here(small(), tmp_path)
            assert (tmp_path / "card.json").read_bytes() == card
            assert not is_finished(simulation_of(), tmp_path)
    assert simulate_here(small(), tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound


# Other settings


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 1}, "seed is 0 there, 1 was asked"),
        ({"steps": 31}, "systems.waves.run.steps is 30 there, 31 was asked"),
        ({"num_samples": 12}, "num_samples is 10 there, 12 was asked"),
        ({"preset": ("waves", "life")}, "systems is ['waves'] there, ['waves', 'life'] was asked"),
        (
            {"preset": ("waves", "life"), "steps": 31},
            "systems is ['waves'] there, ['waves', 'life'] was asked; "
            "systems.waves.run.steps is 30 there, 31 was asked",
        ),
        ({"height": 12, "width": 10}, "grid.shape is [10, 12] there, [12, 10] was asked"),
        ({"edges": ("mirror",)}, "grid.edges is ['periodic', 'periodic'] there, ['mirror', 'mirror'] was asked"),
        (
            {"spacing": "2um"},
            "grid.spacing is 1.0 there, 2.0 was asked; grid.unit is '' there, 'um' was asked; "
            "systems.waves.run.spacing is 1.0 there, 2.0 was asked",
        ),
        ({"operator": "9-point"}, "operator is '5-point' there, '9-point' was asked"),
        ({"integrator": "etdrk4"}, "integrator is 'euler' there, 'etdrk4' was asked"),
        ({"normalize": False}, "normalize is True there, False was asked"),
        (
            {"set": ("F=0.02,0.03",)},
            "systems is ['waves'] there, ['F0.02_k0.049', 'F0.03_k0.049'] was asked",
        ),
        ({"set": ("k=0.05",)}, "systems is ['waves'] there, ['F0.018_k0.05'] was asked"),
        ({"dt": 0.5, "set": ("D_u=0.2",)}, "systems is ['waves'] there, ['F0.018_k0.049_Du0.2_dt0.5'] was asked"),
        ({"noise": 0.02}, "noise is 0.0 there, 0.02 was asked"),
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
        patched.setattr(files.pq, "write_table", fills_up)
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
