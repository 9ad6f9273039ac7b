"""`p2d info`: what a dataset is, on the screen, as JSON and as a contact sheet."""

import json
import os

import numpy as np
import pytest
from matplotlib.image import imread

import p2d
from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.snapshots.simulated import simulate_here
from tests.snapshots.helpers import patterns

SMALL = {
    "preset": ("maze",),
    "num_samples": 12,
    "height": 24,
    "width": 24,
    "steps": 400,
    "chunk": 12,
    "device": "cpu",
    "threads": 1,
}


def info(out, name: str, *arguments) -> None:
    main(["info", name, "-o", str(out), *arguments])


def test_of_a_simulation_card_findings_and_sheet_are_told(tmp_path, capsys):
    dataset = simulate_here(SimulateConfig(**SMALL), tmp_path / "data" / "maze_24x24")
    info(tmp_path, "maze")
    text = capsys.readouterr().out
    sheet = tmp_path / "report" / "maze" / "contact.png"
    assert text.startswith("maze_24x24\nmade ")
    assert "12 of 24 x 24 cells, in 1 shard" in text
    assert "values stay alike over so many cells" in text
    assert text.rstrip().endswith(f"contact sheet: {sheet}")
    assert imread(sheet).std() > 0.1
    drawn = sheet.stat().st_mtime_ns
    info(tmp_path, str(dataset.folder), "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["card"]["dataset_hash"] == dataset.card.dataset_hash
    assert told["contact_sheet"] == str(sheet)
    assert told["survey"]["findings"][0]["kind"] == "size"
    assert sheet.stat().st_mtime_ns == drawn
    os.utime(dataset.folder / "card.json")  # made anew since
    info(tmp_path, "maze")
    assert sheet.stat().st_mtime_ns > drawn


def test_of_an_import_what_was_found_then_is_told_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("plates.npy", np.concatenate([patterns(20, 24), patterns(20, 24)[:, :, :1]], axis=2).astype(np.float32))
    made = p2d.import_files("plates.npy", out=tmp_path)
    capsys.readouterr()
    info(tmp_path, "plates")
    text = capsys.readouterr().out
    assert "imported from 1 file" in text
    assert "the last row repeats the first; it would count twice, and is dropped" in text
    assert made.shape == (2, 24, 24)


def test_a_dataset_that_is_not_there_is_a_mistake(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        info(tmp_path, "wavs")
    assert end.value.code == 2
    assert "there is no dataset 'wavs'" in capsys.readouterr().err
