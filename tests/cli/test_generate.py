"""`p2d sample` and `p2d denoise` as a user types them, at a small size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from p2d.cli import main
from p2d.config import ScoreConfig, SimulateConfig, TrainSource
from p2d.recipes import build
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.training.checkpoint import read_config, write_checkpoint
from p2d.training.job import TrainJob
from p2d.training.loop import fit
from p2d.training.states import load_data
from p2d.training.workers import Workers

SIZE = {"num_samples": 32, "height": 32, "width": 32, "steps": 600, "device": "cpu", "threads": 1}
SETTINGS = ScoreConfig(epochs=2, channels=(8, 8), precision="float32")


def score_model(dataset, folder: Path, settings: ScoreConfig = SETTINGS) -> None:
    task = build(settings, load_data(dataset, 0.1), dataset.card.grid, dataset.scaling, torch.device("cpu"), None)
    states = []
    fit(task, load_data(dataset, 0.1), settings, Workers(), lambda _, state: states.append(state))
    job = TrainJob(settings, TrainSource(), dataset, folder)
    write_checkpoint(folder, job.description, states[-1]["average"], states[-1])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with a dataset of maze and a score model of it."""
    place = tmp_path_factory.mktemp("runs")
    dataset = simulate_here(SimulateConfig(preset=("maze",), **SIZE), place / "data" / "maze_32x32")
    score_model(dataset, place / "score" / "maze")
    return place


def said(capsys, *arguments) -> dict:
    main([*arguments, "--no-tracking", "--json"])
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--no-tracking"])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_sample_writes_a_dataset_that_says_what_it_is(out, capsys):
    found = said(capsys, "sample", "--score", "maze", "-n", "6", "--steps", "4", "-o", str(out))
    dataset = open_dataset(out / "data/maze_generated_32x32")
    assert dataset.card.origin["kind"] == "generated"
    assert dataset.card.origin["learnt_from"] == read_config(out / "score/maze", "score")["data"]["dataset_hash"]
    assert dataset.card.systems == {} and dataset.card.samples == found["samples"] == 6
    states = dataset.states(np.arange(6))
    assert states.shape == (6, 2, 32, 32) and states.min() >= 0 and states.max() <= 1
    assert {"energy_distance", "spectrum", "nearest", "moments"} == set(found["quality"])
    assert Path(found["contact_sheet"]).is_file()
    main(["verify", "maze_generated", "-o", str(out)])
    assert "sound" in capsys.readouterr().out


def test_sample_again_does_nothing_and_tells_the_same(out, capsys):
    arguments = ["sample", "--score", "maze", "-n", "5", "--steps", "3", "--name", "twice_32x32", "-o", str(out)]
    first = said(capsys, *arguments)
    shard = out / "data/twice_32x32/shard-00000.parquet"
    written = shard.stat().st_mtime_ns
    assert said(capsys, *arguments) == first
    assert shard.stat().st_mtime_ns == written
    told = refused(capsys, *arguments[:5], "--steps", "7", *arguments[7:])
    assert "steps is 3 there, 7 was asked" in told


def test_a_size_of_its_own_is_measured_in_tiles(out, capsys):
    larger = ["--height", "64", "--width", "32", "--steps", "3", "-o", str(out)]
    found = said(capsys, "sample", "--score", str(out / "score/maze"), "-n", "2", *larger)
    assert open_dataset(out / "data/maze_generated_64x32").card.grid.shape == (64, 32)
    assert set(found["quality"]) == {"energy_distance", "moments"}
    assert Path(found["contact_sheet"]).parent.name == "maze_generated_64x32"
    assert "height = 30 does not fit" in refused(capsys, "sample", "--score", "maze", "--height", "30", "-o", str(out))


def test_a_model_of_one_level_cannot_be_sampled(out, capsys):
    dataset = open_dataset(out / "data/maze_32x32")
    score_model(dataset, out / "score" / "one", ScoreConfig(epochs=1, channels=(4,), alpha=(0.8,)))
    assert "alpha = 0.8 and nothing noisier" in refused(capsys, "sample", "--score", "one", "-o", str(out))


def test_a_dataset_of_another_preset_is_refused(out, capsys):
    simulate_here(SimulateConfig(preset=("spots",), **SIZE), out / "data" / "spots_32x32")
    told = refused(capsys, "sample", "--score", "maze", "-m", "spots", "-o", str(out))
    assert "was trained on maze (dataset maze_32x32)" in told and "is of spots" in told
    told = refused(capsys, "evaluate", "-m", "spots", "--score", "maze", "-o", str(out))
    assert "was trained on maze" in told


def test_denoise_makes_a_dataset_that_is_closer_to_the_truth(out, capsys, cluster):
    clean = open_dataset(out / "data/maze_32x32")
    simulate_here(SimulateConfig(preset=("maze",), noise=0.05, **SIZE), out / "data" / "maze_noisy_32x32")
    few = ["-n", "4", "--channels", "8", "8", "-o", str(out)]
    found = said(capsys, "denoise", "maze_noisy", *few)
    # 29 snapshots of 32 x 32: power at wavelengths below two cells is of the noise alone, to a few per cent
    assert found["noise_estimated"] and found["noise"] == pytest.approx([0.05, 0.05], rel=0.05)
    made = open_dataset(out / "data/maze_noisy_denoised_32x32")
    noisy = open_dataset(out / "data/maze_noisy_32x32")
    assert made.card.origin["kind"] == "denoised" and made.card.origin["dataset"] == "maze_noisy_32x32"
    assert made.card.origin["noise"] == found["noise"] and made.card.systems == clean.card.systems
    assert made.index.column("sample_id").equals(noisy.index.column("sample_id"))
    ids = clean.living
    before, after = (np.sqrt(((d.states(ids) - clean.states(ids)) ** 2).mean()) for d in (noisy, made))
    assert before == pytest.approx(0.05, rel=0.02)
    # the linear filter alone, which a fresh network is, takes out more than half
    assert after < before / 2
    assert said(capsys, "denoise", "maze_noisy", *few)["noise"] == found["noise"]
    main(["verify", "maze_noisy_denoised", "-o", str(out)])
    assert "sound" in capsys.readouterr().out


def test_snapshots_without_noise_are_refused(out, capsys):
    assert "shows no noise" in refused(capsys, "denoise", "maze", "-o", str(out))
    assert "as much as the snapshots vary" in refused(capsys, "denoise", "maze", "--noise", "0.9", "-o", str(out))
