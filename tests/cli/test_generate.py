"""`p2d sample` and `p2d denoise` as a user types them, at a small size."""

import dataclasses
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from p2d.cli import main
from p2d.cluster.shards import Wish, make
from p2d.config import ScoreConfig, SimulateConfig, TrainSource
from p2d.fields import Grid, Mask, Scaling, Species
from p2d.recipes import build
from p2d.score.denoise import Denoised, of_equal_noise
from p2d.score.sample import Patterns
from p2d.snapshots import made as derived
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.snapshots.writing import writing
from p2d.training.checkpoint import read_config, write_checkpoint
from p2d.training.job import TrainJob
from p2d.training.loop import fit
from p2d.training.states import load_data
from p2d.training.workers import Workers

from ..cluster.test_faults_of_shards import making_actors, wait_for

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


def patterns_of(out, folder: Path, wish: Wish, steps: int = 3):
    """Twenty generated patterns in three shards, made over these actors."""
    learnt = open_dataset(out / "data/maze_32x32").card
    card = derived.first_card({}, {"kind": "generated"}, learnt.species, learnt.grid, learnt.scaling, 8)
    maker = Patterns(out / "score/maze", card, 20, steps, 0, 0.4)
    with writing(folder, card) as kept:
        return make(maker, wish, folder, kept, derived.generated_labels(20, 8, 0), lambda *_: None)


def shards(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("shard-*.parquet"))]


def test_patterns_have_the_same_bytes_for_any_number_of_actors_and_threads(out, cluster, tmp_path):
    wishes = {"here": Wish("cpu", 1, threads=3, cores=8), "one": Wish("cpu", 1), "two": Wish("cpu", 2, threads=2)}
    for name, wish in wishes.items():
        patterns_of(out, tmp_path / name, wish)
    assert len(shards(tmp_path / "here")) == 3
    assert shards(tmp_path / "here") == shards(tmp_path / "one") == shards(tmp_path / "two")


@pytest.mark.slow
def test_a_killed_actor_s_patterns_are_made_again(out, cluster, tmp_path):
    whole = patterns_of(out, tmp_path / "whole", Wish("cpu", 1, cores=8), steps=40)
    killer = threading.Thread(target=lambda: [wait_for(making_actors)[0].kill()])
    killer.start()
    made = patterns_of(out, tmp_path / "killed", Wish("cpu", 2), steps=40)
    killer.join()
    assert made.card.dataset_hash == whole.card.dataset_hash


def test_a_size_of_its_own_is_measured_in_tiles(out, capsys):
    larger = ["--height", "64", "--width", "32", "--steps", "3", "-o", str(out)]
    found = said(capsys, "sample", "--score", str(out / "score/maze"), "-n", "2", *larger)
    assert open_dataset(out / "data/maze_generated_64x32").card.grid.shape == (64, 32)
    assert set(found["quality"]) == {"energy_distance", "moments"}
    assert Path(found["contact_sheet"]).parent.name == "maze_generated_64x32"
    assert "height = 1 does not fit" in refused(capsys, "sample", "--score", "maze", "--height", "1", "-o", str(out))


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


def test_denoise_makes_a_dataset_that_is_closer_to_the_truth(out, capsys, cluster, no_ray):
    clean = open_dataset(out / "data/maze_32x32")
    simulate_here(SimulateConfig(preset=("maze",), noise=0.05, chunk=20, **SIZE), out / "data" / "maze_noisy_32x32")
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
    coordinates, level = of_equal_noise(noisy.scaling, found["noise"])
    maker = Denoised(out / "score/maze_noisy_denoiser", noisy, coordinates, level, made.card)
    folder, labels = out / "data" / "again", derived.labels_like(noisy)
    with writing(folder, dataclasses.replace(made.card, complete=False)) as kept:
        make(maker, Wish("cpu", 2), folder, kept, labels, lambda *_: None)
    assert len(shards(folder)) == 2 and shards(folder) == shards(made.folder)


def test_snapshots_without_noise_are_refused(out, capsys):
    assert "shows no noise" in refused(capsys, "denoise", "maze", "-o", str(out))
    assert "as much as the snapshots vary" in refused(capsys, "denoise", "maze", "--noise", "0.9", "-o", str(out))


DISH = Mask.of(np.hypot(*(np.mgrid[:18, :18] - 8.5)) < 8)


@pytest.fixture(scope="module")
def dish(out):
    """Snapshots of three species in a dish, of values far from [0, 1], and a score model of them."""
    system = SimulateConfig(system="cyclic_competition", **{**SIZE, "steps": 400, "height": 24, "width": 24})
    states = simulate_here(system, out / "data" / "whole_24x24").states()[..., :18, :18]
    factors = np.float32([1, 10, 200]).reshape(3, 1, 1)
    states = np.where(DISH.cells, states * factors, -1e6).astype(np.float32)
    species = tuple(Species(name, low=-high, high=high) for name, high in (("a", 1.0), ("b", 10.0), ("c", 200.0)))
    grid, scaling = Grid((18, 18), 0.5, ("open", "open"), "mm", DISH), Scaling((0.5, 5.0, 100.0), (0.5, 5.0, 100.0))
    card = derived.first_card({}, {"kind": "imported"}, species, grid, scaling, len(states))
    labels = derived.generated_labels(len(states), len(states), 0)
    made = derived.make(
        out / "data" / "dish_18x18", card, labels, lambda n: derived.samples_of(states, labels[n], card), "cpu", print
    )
    score_model(made, out / "score" / "dish")
    return made


def test_patterns_of_three_species_in_a_dish_are_generated_in_a_dish(out, dish, capsys):
    found = said(capsys, "sample", "--score", "dish", "-n", "4", "--steps", "3", "-o", str(out))
    made = open_dataset(out / "data/dish_generated_18x18")
    assert made.card.grid == dish.card.grid and made.card.species == dish.card.species
    states = made.states(np.arange(4))
    assert np.ptp(states[..., DISH.cells], axis=-1).min() > 0
    outside = states[..., ~DISH.cells]
    assert_allclose(outside, np.broadcast_to(outside[:1, :, :1], outside.shape))  # the means of the species
    means = dish.states(dish.split(0.1)[0])[..., DISH.cells].mean(axis=(0, 2))
    assert_allclose(outside[0, :, 0], means, rtol=1e-5)
    assert {"a", "b^2", "|grad c|^2", "a c"} <= set(found["quality"]["moments"])
    told = refused(capsys, "sample", "--score", "dish", "--height", "24", "-o", str(out))
    assert "whose grid has a mask: it is for 18 x 18 alone" in told and told.count("\n") == 1


def test_noise_is_given_for_all_species_or_for_each(out, dish, capsys):
    assert "one for all 3 species, or one for each" in refused(
        capsys, "denoise", "dish", "--noise", "0.1", "0.2", "-o", str(out)
    )
    told = refused(capsys, "denoise", "dish", "--noise", "0.01", "0.1", "100", "-o", str(out))
    assert "noise = a 0.01, b 0.1, c 100 is as much as the snapshots vary in all (a " in told


@pytest.mark.slow
def test_species_of_other_scales_are_denoised_each_by_its_own_noise(out, dish, capsys, no_ray):
    noise = np.float32([0.02, 0.5, 30.0]).reshape(3, 1, 1)
    clean, random = dish.states(), np.random.default_rng(0)
    states = (clean + noise * random.standard_normal(clean.shape)).astype(np.float32)
    labels = derived.generated_labels(len(states), len(states), 0)
    card = derived.first_card({}, {"kind": "imported"}, dish.card.species, dish.card.grid, dish.scaling, len(states))
    derived.make(
        out / "data" / "noisy_18x18", card, labels, lambda n: derived.samples_of(states, labels[n], card), "cpu", print
    )
    few = ["--noise", "0.02", "0.5", "30", "-n", "8", "--channels", "8", "8", "-o", str(out)]
    assert said(capsys, "denoise", "noisy", *few)["noise"] == [0.02, 0.5, 30.0]
    after = open_dataset(out / "data/noisy_denoised_18x18").states(np.arange(len(states)))
    errors = np.sqrt(((after - clean)[..., DISH.cells] ** 2).mean(axis=(0, 2))) / noise.ravel()
    # a fiftieth, a twentieth and a seventh of the ranges: the less noise there is, the less a pattern tells of it
    assert (errors < [0.97, 0.8, 0.5]).all()
