"""Datasets of other systems: species of any names, values, edges and spacing are learnt from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.fields import Grid, Mask, Species
from p2d.flow.model import Flow
from p2d.pipeline.refuse import refuse_objective
from p2d.score.model import ScoreModel
from p2d.show import figures
from p2d.snapshots import made
from p2d.snapshots.card import Card
from p2d.snapshots.schema import Labels
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import Dataset, open_dataset
from p2d.snapshots.writing import ShardLabels

SIZE = {"num_samples": 12, "height": 16, "width": 16, "device": "cpu", "threads": 1}
TRAININGS = {
    "train-score": ["-n", "1", "--channels", "4", "4"],
    "train-flow": ["-n", "1", "--hidden", "8", "--observables", "48"],
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A dataset of x and y, of values far from [0, 1], of spacing 1.5; and one of three species with mirror edges."""
    place = tmp_path_factory.mktemp("runs")
    of_two = SimulateConfig(system="brusselator", preset=("turbulence",), steps=200, **SIZE)
    simulate_here(of_two, place / "data" / "two_16x16")
    of_three = SimulateConfig(system="cyclic_competition", edges=("mirror",), steps=20, **SIZE)
    simulate_here(of_three, place / "data" / "three_16x16")
    return place


@pytest.mark.slow
def test_two_species_of_any_names_values_and_spacing_are_trained_on_and_evaluated(out, capsys, no_ray, monkeypatch):
    titles, grid = [], figures.draw_panels

    def named(path, rows, columns, title, *sizes, **more):
        titles.append(title)
        return grid(path, rows, columns, title, *sizes, **more)

    monkeypatch.setattr(figures, "draw_panels", named)
    for command, settings in TRAININGS.items():
        main([command, "two", *settings, "--holdout", "0.25", "-o", str(out), "--no-tracking", "--json"])
        assert np.isfinite(json.loads(capsys.readouterr().out)["validation_loss"])
    scaling = json.loads((out / "data/two_16x16/card.json").read_text())["scaling"]
    flow, score = Flow.load(out / "flow" / "two"), ScoreModel.load(out / "score" / "two")
    assert list(flow.scaling.shift) == scaling["shift"] and min(scaling["shift"]) > 1
    # training coordinates are of unit size, whatever the values are
    assert score.spectrum.mean.abs().max() < 1 and score.spectrum.variance((16, 16)).max() < 1.5
    states = torch.tensor(scaling["shift"]).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    assert flow(states).isfinite().all()
    main(["evaluate", "two", "--holdout", "0.25", "-o", str(out), "--no-tracking", "--json"])
    assert {"score", "flow"} <= json.loads(capsys.readouterr().out).keys()
    assert any(": dy/dt" in title for title in titles)


@pytest.mark.slow
def test_a_score_model_of_three_species_with_mirror_edges_is_learnt_and_sampled(out, capsys, no_ray):
    learning = ["train-score", "three", *TRAININGS["train-score"], "--holdout", "0.25", "-o", str(out), "--no-tracking"]
    main([*learning, "--json"])
    assert np.isfinite(json.loads(capsys.readouterr().out)["validation_loss"])
    model, grid = ScoreModel.load(out / "score" / "three"), Grid((16, 16), edges=("mirror", "mirror"))
    assert model.grid.edges == grid.edges and model.species == 3
    sampled = [
        "sample",
        "--score",
        "three",
        "-n",
        "3",
        "--steps",
        "3",
        "--height",
        "18",
        "-o",
        str(out),
        "--no-tracking",
    ]
    main([*sampled, "--json"])
    capsys.readouterr()
    made = open_dataset(out / "data" / "three_generated_18x16")
    assert made.card.grid.edges == grid.edges and made.shape == (3, 18, 16)
    main([*learning, "--json"])  # is found again, grid and all
    assert np.isfinite(json.loads(capsys.readouterr().out)["validation_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "three"])
def test_the_equation_of_any_field_is_looked_for(name, out, capsys, no_ray):
    main(["discover", name, "--degree", "1", "--bootstrap", "2", "-o", str(out), "--no-tracking", "--json"])
    found = json.loads(capsys.readouterr().out)
    card = open_dataset(out / "data" / f"{name}_16x16").card
    assert tuple(found["equation"]) == card.names and not found["claims"]["velocity_known"]
    assert Grid.from_dict(found["grid"]) == card.grid and found["operator"] in ("5-point", "9-point", "spectral")


def smooth(count: int, species: int, shape: tuple[int, int]) -> np.ndarray:
    """Random fields of waves of some 8 cells, [N, C, H, W]."""
    rng, k = np.random.default_rng(0), [np.fft.fftfreq(n) for n in shape]
    band = np.exp(-(((np.hypot(k[0][:, None], k[1]) - 0.12) / 0.04) ** 2))
    fields = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, species, *shape))) * band).real
    return fields / fields.std()


ROWS, COLUMNS = np.indices((29, 26))
DISH = Mask.of(np.hypot(ROWS - 14, COLUMNS - 12.5) < 12.5)
UNITS = (Species("act", "nM"), Species("inh", "kg"))
FOREIGN = {  # what others' files become: no system, open edges, any size, values and units
    "line": ((Species("h", "um"),), Grid((1, 45), 0.5, ("open", "open"), "mm"), np.array([1e4])),
    "dish": (UNITS, Grid((29, 26), 0.65, ("open", "open"), "um", DISH), np.array([255.0, 1e-6])),
    "tile": ((Species("c"),), Grid((29, 26)), np.array([1.0])),
}


def imported(place: Path, name: str) -> Dataset:
    """A dataset as of others' files: 12 runs of two frames, a quarter of an hour apart."""
    species, grid, sizes = FOREIGN[name]
    states = grid.masked((smooth(24, len(species), grid.shape) * sizes[:, None, None]).astype(np.float32))
    ends = [(float(states[:, s].min()), float(states[:, s].max())) for s in range(len(species))]
    species = tuple(Species(own.name, own.unit, *end) for own, end in zip(species, ends, strict=True))
    card = Card({}, species, grid, chunk=24, origin={"kind": "imported"}, time_unit="min")
    ids = np.arange(24)
    labels = Labels(ids, ids // 2, 0 * ids, 15.0 * (ids % 2), 0, "imported")
    shards = ShardLabels(1, lambda _: labels)
    return made.make(place, card, shards, lambda _: made.samples_of(states, labels, card), "cpu", lambda *_: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_every_stage_works_on_what_others_files_become(name, tmp_path, capsys, no_ray, few_patterns):
    own = imported(tmp_path / "data" / f"{name}_0x0", name)

    def done(*words: str) -> dict:
        main([*words, "-o", str(tmp_path), "--json", *["--no-tracking"] * (words[0] != "verify")])
        return json.loads(capsys.readouterr().out)

    assert done("verify", name)["faults"] == []
    score = ["--score.epochs", "1", "--score.channels", "4", "4"]
    flow = ["--flow.epochs", "1", "--flow.hidden", "8", "--flow.observables", "48"]
    equation = {"degree": "1", "bootstrap": "2", "operator": "5-point", "noise": "0"}
    prefixed = [word for option, value in equation.items() for word in (f"--discover.{option}", value)]
    found = done("run", "--dataset", name, *score, *flow, *prefixed)
    assert np.isfinite(found["score"]["validation_loss"]) and found["flow"]["z_rms"] > 0
    assert "truth" not in found or found["truth"] is None
    kept = done("discover", name, *(word.replace("discover.", "") for word in prefixed))
    assert tuple(kept["equation"]) == own.card.names and Grid.from_dict(kept["grid"]) == own.card.grid
    few = ["-n", "8", "--frames", "2", "--ensemble", "2", "--animation", "none"]
    assert done("rollout", "--flow", name, *few)["clock"]["steps"].startswith("steps (")
    assert done("rollout", "--equation", name, *few, "--time", "1e-6")["clock"]["step"] == pytest.approx(1e-6 / 8)
    patterns = open_dataset(tmp_path / "data" / f"{name}_patterns")
    assert patterns.shape == own.shape and patterns.card.species == own.card.species
    noise = [f"{0.1 * scale}" for scale in own.scaling.scale]
    done("denoise", name, *TRAININGS["train-score"], "--noise", *noise)
    assert {file.name for file in (tmp_path / "report" / name).iterdir()} >= {"velocity.png", "index.html"}


def of(names: str, grid: Grid) -> Dataset:
    return Dataset(Path("data"), Card({}, tuple(map(Species, names)), grid, chunk=8))


def test_objectives_that_mean_nothing_on_a_dataset_are_refused():
    window = Grid((8, 8), edges=("periodic", "open"))
    dish = Grid((8, 8), mask=Mask.of(np.eye(8)))
    for grid, told in ((window, "beyond open edges"), (dish, "outside a mask")):
        with pytest.raises(UserError, match=f"continuity is not possible .*{told}; take the objective stationarity"):
            refuse_objective("continuity", of("uv", grid))
        for objective in ("stationarity", "training-free"):
            refuse_objective(objective, of("uv", grid))
    with pytest.raises(UserError, match="there is one species"):
        refuse_objective("training-free", of("u", Grid((8, 8))))
    for objective in ("stationarity", "continuity"):
        refuse_objective(objective, of("u", Grid((8, 8), edges=("mirror", "periodic"))))
