"""The stage import: what it makes is there the second time, and the same however it is made."""

import re

import numpy as np
import pytest

import p2d
from p2d import pipeline
from p2d.config import ImportConfig
from p2d.errors import UserError
from p2d.tracking.store import open_tracker


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("film.npy", rng.random((2, 12, 1, 16, 24), np.float32))
    return tmp_path


def stage(folder, **settings):
    config = ImportConfig(("film.npy",), axes="RTCHW", interval="2min", edges=("open",), **settings)
    return pipeline.import_files(config, folder / "runs", lambda: open_tracker(folder / "runs", False))


def test_the_stage_makes_what_python_makes_and_finds_it_again(files):
    made = stage(files)
    assert made.made and made.where == files / "runs/data/film_16x24"
    assert made.facts["samples"] == 24 and made.facts["origin"]["kind"] == "imported"
    assert "24 snapshots of u on 16 x 24 pixels, open edges; of 2 runs" in made.result
    dataset = p2d.open_dataset(made.where)
    assert dataset.card.time_unit == "min"
    np.testing.assert_array_equal(dataset.times(dataset.sample_ids), np.tile(2.0 * np.arange(12), 2))
    again = stage(files, workers=2)
    assert not again.made and again.result == made.result
    alone = p2d.import_files("film.npy", axes="RTCHW", interval="2min", edges="open", out="other")
    assert alone.card.dataset_hash == dataset.card.dataset_hash
    assert [s["hash"] for s in alone.card.shards] == [s["hash"] for s in dataset.card.shards]


def test_a_damaged_dataset_says_how_it_is_mended_and_is(files):
    folder = stage(files).where
    (folder / "shard-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"lacks its shard shard-00000.parquet; run the same p2d import again"):
        p2d.open_dataset(folder)
    with pytest.raises(UserError, match="was not simulated but imported; the same p2d import restores it"):
        pipeline.verify("film", files / "runs", True)
    mended = stage(files)
    assert mended.made and pipeline.verify("film", files / "runs", False)[1] == []


def test_what_was_found_and_what_comes_next_are_on_the_screen(files, capsys):
    from p2d.cli import main

    main(["import", "film.npy", "--axes", "RTCHW", "--edges", "open", "periodic", "--no-tracking"])
    out = capsys.readouterr().out
    assert re.search(r"import: made runs/data/film_16x24 in \d+ s\nnext: p2d discover film_16x24\n$", out)
    assert "open (y) and periodic (x) edges" in out
    main(["import", "film.npy", "--axes", "RTCHW", "--edges", "open", "periodic", "--no-tracking", "--json"])
    assert '"samples": 24' in capsys.readouterr().out


@pytest.mark.slow
def test_from_files_to_the_equation(tmp_path, monkeypatch, capsys):
    from p2d.cli import main

    monkeypatch.chdir(tmp_path)
    states = p2d.simulate("waves", num_samples=24, height=48, width=48, steps=6000).states()
    np.save("plates.npy", states)
    # The other's units: concentrations in per cent, cells of half a unit.
    main(["import", "plates.npy", "--species", "a", "b", "--scale", "100", "--spacing", "0.5mm", "--no-tracking"])
    main(["discover", "plates", "--terms", "1,a,b,a*b**2,lap(a),lap(b)", "--no-tracking", "--bootstrap", "20"])
    assert "periodic edges" in capsys.readouterr().out
    found = p2d.Discovery.load(tmp_path / "runs/discover/plates/equation.json")
    terms = found.terms["a"]
    assert terms["lap(a)"] / terms["a"] == pytest.approx(-0.16 * 0.25 / 0.018, rel=0.05)
    assert found.terms["b"]["lap(b)"] / terms["lap(a)"] == pytest.approx(0.5, rel=0.05)


@pytest.mark.slow
def test_actors_write_the_same_bytes(cluster, files, monkeypatch):
    from p2d.pipeline import importing
    from p2d.snapshots import importing as plans

    monkeypatch.setattr(plans, "SHARD_BYTES", 5 * 4 * 16 * 24)
    monkeypatch.setattr(importing, "SMALL", 0)
    alone = p2d.import_files("film.npy", axes="RTCHW", interval="2min", edges="open", out="alone")
    for workers in (1, 2):
        made = stage(files, name=f"w{workers}", workers=workers)
        card = p2d.open_dataset(made.where).card
        assert [s["hash"] for s in card.shards] == [s["hash"] for s in alone.card.shards]
    broken = np.load("film.npy")
    broken[1, 7, 0, 3, 4] = np.inf
    np.save("film.npy", broken)
    monkeypatch.setattr(plans, "LOOKED_AT", 4)
    with pytest.raises(UserError, match=r"film.npy\[1, 7\]: u at row 3, column 4 is inf"):
        stage(files, name="broken", workers=2)
    assert not (files / "runs/data/broken").exists()


@pytest.mark.slow
def test_an_object_store_takes_it_and_keeps_nothing_of_what_is_refused(files, s3_folder):
    settings = {"axes": "RTCHW", "edges": "open"}
    made = p2d.import_files("film.npy", out=str(s3_folder), **settings)
    alone = p2d.import_files("film.npy", out="alone", **settings)
    assert made.card.dataset_hash == alone.card.dataset_hash
    broken = np.load("film.npy")
    broken[0, 3, 0, 1, 1] = np.nan
    np.save("broken.npy", broken)
    with pytest.raises(UserError, match="is nan"):
        p2d.import_files("broken.npy", out=str(s3_folder), **settings)
    assert p2d.import_files("film.npy", out=str(s3_folder), **settings).card == made.card
    assert [path.name for path in (s3_folder / "data").iterdir()] == ["film_16x24"]
