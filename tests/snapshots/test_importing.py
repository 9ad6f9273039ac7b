"""Datasets of others' files: the values that the files hold, labels and card; nothing of what cannot be kept."""

import json
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import p2d
from p2d.config import ImportConfig
from p2d.errors import DataError, UserError
from p2d.fields import Grid
from p2d.observables import averages
from p2d.snapshots import importing, sources
from p2d.snapshots.files import read_table
from p2d.snapshots.importing import report_text
from p2d.snapshots.shards import shard_name
from p2d.snapshots.sources import Sources, fingerprint
from p2d.snapshots.verify import verify
from tests.snapshots.helpers import patterns

SHAPE = (24, 2, 16, 20)


def waves(count=24, species=2, height=16, width=20, dtype=np.float32):
    """Smooth periodic fields, each of its own phases."""
    rng = np.random.default_rng(1)
    i, j = np.mgrid[:height, :width]
    phases = rng.uniform(0, 2 * np.pi, (3, count, species, 1, 1))
    made = np.sin(2 * np.pi * i / height + phases[0]) + np.cos(2 * np.pi * j / width + phases[1])
    return (made + 0.5 * np.sin(4 * np.pi * j / width + phases[2])).astype(dtype)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("plates.npy", waves())
    return "plates.npy"


def bring(*files, **settings):
    return p2d.import_files(files, **({"edges": "open"} | settings))


def no_dataset():
    return not os.path.isdir("runs/data") or os.listdir("runs/data") == []


def test_values_come_as_they_are_with_what_is_said_of_them(file):
    made = bring(file, species=("activator", "inhibitor"), spacing="0.65µm", unit="mM", edges=("open", "mirror"))
    assert made.folder.name == "plates_16x20"
    assert_array_equal(made.states(), waves())
    card = made.card
    assert card.names == ("activator", "inhibitor") and {s.unit for s in card.species} == {"mM"}
    assert card.grid == Grid((16, 20), 0.65, ("open", "mirror"), "um")
    assert (card.systems, card.conditions, card.time_unit) == ({}, {}, "")
    assert [s.low for s in card.species] == waves().min(axis=(0, 2, 3)).tolist()
    assert card.origin["kind"] == "imported" and card.origin["files"] == 1
    assert_allclose(card.scaling.shift, waves().mean(axis=(0, 2, 3), dtype=float), rtol=1e-6)
    assert_allclose(card.scaling.scale, 2 * waves().std(axis=(0, 2, 3), dtype=float), rtol=1e-6)
    assert_array_equal(made.runs(made.sample_ids), np.arange(24))
    assert np.isnan(made.times(made.sample_ids)).all()
    assert verify(made.folder) == []
    told = report_text(made)
    assert "snapshots of activator (mM), inhibitor (mM) on 16 x 20 pixels of 0.65 um, open (y) and mirror (x)" in told
    table = read_table(made.folder / shard_name(0))
    assert_array_equal(np.stack(table["averages"].to_pylist()), averages(waves(), card.grid))


def test_a_card_of_before_knows_no_unit_of_time(file):
    made = bring(file)
    values = json.loads((made.folder / "card.json").read_text())
    del values["time_unit"]
    (made.folder / "card.json").write_text(json.dumps(values))
    assert p2d.open_dataset(made.folder).card.time_unit == ""


def test_shards_hold_whole_snapshots_of_one_condition(file, monkeypatch):
    monkeypatch.setattr(importing, "SHARD_BYTES", 5 * 4 * 2 * 16 * 20)
    with open("t.csv", "w") as table:
        table.write("run,time,F\n" + "".join(f"{n // 4},{n % 4},{0.1 * (n // 4 % 2)}\n" for n in range(24)))
    made = bring(file, table="t.csv")
    assert made.card.conditions == {"F=0": {"F": 0.0}, "F=0.1": {"F": 0.1}}
    assert made.card.shards.rows.tolist() == [5, 5, 2, 5, 5, 2]
    order = [n for odd in (0, 1) for n in range(24) if n // 4 % 2 == odd]
    assert_array_equal(made.states(), waves()[order])
    assert_array_equal(made.runs(made.sample_ids), np.repeat(np.arange(6), 4))
    assert_array_equal(made.times(made.sample_ids), np.tile(np.arange(4.0), 6))
    assert made.index["system"].to_pylist() == ["F=0"] * 12 + ["F=0.1"] * 12
    assert verify(made.folder) == []
    assert "condition F=0.1: 12 snapshots" in report_text(made)
    assert bring(file, table=os.path.abspath("t.csv")).card == made.card  # the same table by another path


def test_snapshots_of_several_conditions_are_no_mixture(file):
    np.save("both.npy", np.concatenate([patterns(32, 32, wave=0.08), patterns(32, 32, wave=0.2)]))
    with open("t.csv", "w") as table:
        table.write("F\n" + "0\n" * 32 + "1\n" * 32)
    alone, known = (bring("both.npy", name=name, table=table) for name, table in (("alone", ""), ("known", "t.csv")))
    kinds = [[f["kind"] for f in made.card.origin["survey"]["findings"]] for made in (alone, known)]
    assert "mixture" in kinds[0] and "mixture" not in kinds[1]


def test_the_bytes_are_the_same_however_little_is_read_at_a_time(file, monkeypatch):
    settings = {"bin": 2, "scale": 3.0, "every": 5}
    made = bring(file, **settings)
    monkeypatch.setattr(importing, "READ_BYTES", 1)
    other = bring(file, **settings, out="other")
    assert made.card.samples == 5 and made.card.dataset_hash == other.card.dataset_hash
    binned = 3 * waves()[::5].astype(float).reshape(5, 2, 8, 2, 10, 2).mean(axis=(3, 5))
    assert_array_equal(made.states(), binned.astype(np.float32))
    assert made.card.grid.spacing == 1.0
    assert bring(file, bin=2, spacing="0.5", name="spaced").card.grid.spacing == 1.0


def test_an_import_goes_on_where_it_was_stopped(file, monkeypatch):
    monkeypatch.setattr(importing, "SHARD_BYTES", 6 * 4 * 2 * 16 * 20)
    whole = bring(file, out="whole")
    average, made = importing.averages, []

    def stopping(states, grid):
        made.append(len(states))
        if len(made) == 3:
            raise KeyboardInterrupt
        return average(states, grid)

    monkeypatch.setattr(importing, "averages", stopping)
    with pytest.raises(KeyboardInterrupt):
        bring(file)
    with pytest.raises(UserError, match="unfinished; run the same p2d import again to finish it"):
        p2d.open_dataset("runs/data/plates_16x20")
    finished = bring(file)
    assert len(made) == 3 + 2  # two of the four shards were there
    assert finished.card.dataset_hash == whole.card.dataset_hash
    assert [s["hash"] for s in finished.card.shards] == [s["hash"] for s in whole.card.shards]
    assert bring(file).card == finished.card and len(made) == 5  # nothing to do


def test_files_that_have_changed_are_another_dataset(file):
    bring(file)
    changed = waves()
    changed[0, 0, 0, 0] += 1
    np.save(file, changed)
    with pytest.raises(UserError, match=r"was made with other settings: files\.sources"):
        bring(file)
    assert bring(file, name="changed").states()[0, 0, 0, 0] == changed[0, 0, 0, 0]


def test_files_are_known_by_names_sizes_and_ends_wherever_they_are(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for n in range(20):
            (tmp_path / folder / f"{n}.dat").write_bytes(bytes([n]) * 200_000)
    known = [fingerprint([str(tmp_path / f / f"{n}.dat") for n in range(20)]) for f in ("one", "two")]
    assert known[0] == known[1] and known[0]["files"] == 20 and known[0]["bytes"] == 4_000_000
    few = fingerprint([str(tmp_path / "one/3.dat")])
    assert list(few) == ["3.dat"] and few["3.dat"][0] == 200_000
    with (tmp_path / "one/3.dat").open("r+b") as data:
        data.seek(199_999)
        data.write(b"x")
    assert fingerprint([str(tmp_path / "one/3.dat")]) != few


def test_what_is_not_finite_is_told_where_and_leaves_nothing(file, monkeypatch):
    stored = waves()
    stored[17, 1, 3, 5] = np.nan
    np.save(file, stored)
    monkeypatch.setattr(importing, "LOOKED_AT", 4)
    monkeypatch.setattr(importing, "SHARD_BYTES", 6 * 4 * 2 * 16 * 20)  # it is met when shards are there
    with pytest.raises(DataError, match=r"plates.npy\[17\]: v at row 3, column 5 is nan; .*--mask nan"):
        bring(file)
    assert no_dataset()
    monkeypatch.setattr(importing, "LOOKED_AT", 256)
    with pytest.raises(DataError, match=r"plates.npy\[17\]"):
        bring(file)
    made = bring(file, mask="nan")
    assert made.card.grid.mask.cells.sum() == 16 * 20 - 1
    states = made.states()
    assert_array_equal(states[..., made.card.grid.mask.cells], stored[..., made.card.grid.mask.cells])
    outside = states[..., ~made.card.grid.mask.cells][..., 0]
    assert_allclose(outside, stored[..., made.card.grid.mask.cells].mean(axis=-1, dtype=float), rtol=1e-6)
    assert "319 of them inside the mask" in report_text(made)


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        (lambda s: 0 * s + 7, {}, "every one of the 24 snapshots looked at is constant .u 7, v 7."),
        (lambda s: 1e39 * s, {}, "beyond what 32 bits can hold; make it smaller with --scale"),
        (lambda s: s, {"crop": "0:99,:"}, "the snapshots have 16 rows"),
        (lambda s: s, {"unit": ("mM", "mM", "mM")}, "unit = mM mM mM is not possible"),
        (lambda s: s, {"scale": (1.0, 2.0, 3.0)}, "scale = 1 2 3 is not possible"),
        (lambda s: s, {"mask": "12345"}, "no pixel is that"),
        (lambda s: s, {"interval": "30s"}, "needs snapshots of one run"),
    ],
)
def test_data_and_settings_that_do_not_do_leave_nothing(file, change, settings, told):
    np.save(file, change(waves(dtype=np.float64)))
    with pytest.raises(UserError, match=told):
        bring(file, **settings)
    assert no_dataset()


def test_what_is_too_large_for_32_bits_can_be_scaled(file):
    stored = 1e39 * waves(dtype=np.float64)
    np.save(file, stored)
    assert_array_equal(bring(file, scale=1e-39).states(), (stored * 1e-39).astype(np.float32))


def test_what_32_bits_lose_is_told_with_what_helps(file):
    stored = 1e6 + waves(dtype=np.float64)
    np.save(file, stored)
    assert "around 1e+06, which 32 bits hold in steps of 0.062" in report_text(bring(file))
    made = bring(file, offset=-1e6, name="taken off")
    assert "32 bits" not in report_text(made)
    assert_array_equal(made.states(), (stored - 1e6).astype(np.float32))


def test_uniform_snapshots_are_kept_and_not_learnt_from(file):
    stored = waves()
    stored[3:5] = 0.25
    np.save(file, stored)
    made = bring(file)
    assert made.card.samples == 24 and made.card.alive == 22
    assert made.living.tolist() == [n for n in range(24) if n not in (3, 4)]
    assert "2 snapshots are uniform" in report_text(made)


def test_a_crop_of_periodic_data_is_open_unless_the_user_says_otherwise(file, monkeypatch):
    monkeypatch.setattr(sources, "open_stacks", periodic_stacks(sources.open_stacks))
    assert bring(file, crop="2:12,:", edges=()).card.grid.edges == ("open", "periodic")
    assert bring(file, edges=(), name="all").card.grid.edges == ("periodic", "periodic")
    assert bring(file, crop="2:12,:", edges="mirror", name="wall").card.grid.edges == ("mirror", "mirror")


def periodic_stacks(opening):
    from dataclasses import replace

    def stacks(*asked):
        return [
            replace(s, about=replace(s.about, edges=("periodic",) * 2, species=("A b", "v"))) for s in opening(*asked)
        ]

    return stacks


def test_uneven_light_is_taken_out(file):
    i, j = np.mgrid[-1:1:16j, -1:1:20j]
    surface = 1 + 0.1 * i - 0.05 * j
    patterns = 5 + waves(200)
    np.save(file, patterns * surface)
    made = bring(file, flatten=True)
    # The mean of 200 waves of variance 1.1 around 5 is itself uneven by 1.5 %.
    assert_allclose(made.states(), patterns, rtol=0.02)
    assert_allclose(bring(file, name="as it is").states(), patterns * surface, rtol=1e-6)


def test_names_that_cannot_stand_in_equations_are_told(file, monkeypatch):
    monkeypatch.setattr(sources, "open_stacks", periodic_stacks(sources.open_stacks))
    made = bring(file)
    assert made.card.names == ("u", "v")
    assert "note: the species are called u (A b) and v (v), as equations need" in report_text(made)


def test_edges_and_a_repeated_end_are_told(file):
    made = bring(file, edges=())
    assert made.card.grid.edges == ("periodic", "periodic")
    np.save("ends.npy", np.concatenate([waves(), waves()[..., :1]], axis=-1))
    ends = bring("ends.npy", edges=())
    assert ends.folder.name == "ends_16x20" and ends.card.origin["survey"]["repeated"] == [False, True]
    assert_array_equal(ends.states(), waves())
    assert bring("ends.npy", edges=()).card == ends.card


def test_several_files_of_one_size_are_one_dataset_and_of_several_are_listed(file):
    os.mkdir("folder")
    for n in range(3):
        np.save(f"folder/p{n}.npy", waves()[8 * n : 8 * n + 8])
    made = bring("folder", axes="NCHW")
    assert made.folder.name == "folder_16x20" and made.card.origin["files"] == 3
    assert_array_equal(made.states(), waves())
    assert bring(*(f"folder/p{n}.npy" for n in range(3)), axes="NCHW").card == made.card
    assert Sources.of(ImportConfig(("folder/*.npy",), axes="NCHW")).config.own_name == "folder"
    np.save("folder/small.npy", waves(4, height=8))
    with pytest.raises(UserError, match=r"16 x 20.*8 x 20"):
        bring("folder", name="mixed", axes="NCHW")
