"""The stage that simulates: names under the output folder, what is done once, and what is refused before it starts."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.pipeline.simulate import simulate
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.systems.reading import load_system
from p2d.tracking.datasets import MADE

SMALL = {"num_samples": 4, "height": 10, "width": 12, "steps": 30, "chunk": 2, "device": "cpu", "threads": 1}


class Run:
    """Keeps what it is told."""

    def __init__(self):
        self.told, self.tagged, self.files = {}, {}, []

    @contextmanager
    def child(self, name, parameters):
        self.name, self.parameters = name, parameters
        yield self

    def tags(self, values):
        self.tagged |= values

    def dataset(self, dataset, context):
        self.of = dataset.card.dataset_hash, context

    def metrics(self, values):
        self.told |= values

    def artifact(self, file):
        self.files.append(file.name)


def no_tracking():
    raise AssertionError("nothing is to be tracked")


def test_a_dataset_is_made_once_and_what_it_is_like_is_tracked(cluster, tmp_path):
    run = Run()
    config = SimulateConfig(**SMALL, preset=("waves", "life"))
    made = simulate(config, tmp_path, lambda: run)
    assert (made.made, made.where) == (True, tmp_path / "data" / "waves+life_10x12")
    card = open_dataset(made.where).card
    assert made.facts["dataset_hash"] == card.dataset_hash
    assert made.facts["ensembles"] == {label: e.to_dict() for label, e in card.ensembles.items()}
    json.dumps(made.facts)
    keys = ("samples", "alive", "mean_u", "mean_v", "std_u", "std_v")
    assert run.told.keys() == {f"{label}_{key}" for label in ("waves", "life") for key in keys}
    assert run.told["life_std_v"] == card.ensembles["life"].std["v"]
    assert (run.name, run.files, run.of) == ("simulate", ["card.json"], (card.dataset_hash, MADE))
    again = simulate(config, tmp_path, no_tracking)
    assert (again.made, again.where, again.facts) == (False, made.where, made.facts)


def test_initial_states_are_a_dataset_by_its_name_or_its_path(cluster, tmp_path, monkeypatch):
    starts = simulate_here(SimulateConfig(**SMALL), tmp_path / "data" / "waves_10x12")
    config = SimulateConfig(**SMALL, name="more", initial="waves")
    made = simulate(config, tmp_path, Run)
    direct = simulate_here(SimulateConfig(**SMALL, initial=str(starts.folder)), tmp_path / "direct")
    assert made.facts["dataset_hash"] == direct.card.dataset_hash
    longer = simulate_here(SimulateConfig(**{**SMALL, "steps": 60}), tmp_path / "longer")
    ids = np.arange(4)
    assert open_dataset(made.where).states(ids).tobytes() == longer.states(ids).tobytes()
    # told in another way, and from elsewhere, it is the same
    monkeypatch.chdir(tmp_path)
    for name in (str(starts.folder), "data/waves_10x12", "waves_10x12"):
        assert not simulate(replace(config, initial=name), tmp_path, no_tracking).made


@pytest.mark.parametrize(
    ("initial", "told"),
    [
        ("disc", "initial = disc is none of discs, centre, noise (did you mean 'discs'?), and no dataset: there is no"),
        ("other", "initial = other is none of discs, centre, noise, and no dataset: there is no dataset 'other'"),
    ],
)
def test_initial_states_that_are_neither_a_kind_nor_a_dataset_are_refused(tmp_path, initial, told):
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        simulate(SimulateConfig(**SMALL, initial=initial), tmp_path, no_tracking)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_discovered_equation_is_simulated_as_a_system(cluster, tmp_path):
    terms = load_system("gray_scott").terms
    numbers = {"gap": 9.0, "misfit": 0.0, "z_max": None, "unbalanced": 0.0, "step": None, "smoothing": 0.0}
    words = {"verdict": "moves", "unit_of_time": "that of the steps"}
    tables = {
        "error": {species: dict.fromkeys(own, 0.0) for species, own in terms.items()},
        "interval": {species: {term: (value, value) for term, value in own.items()} for species, own in terms.items()},
    }
    others = {"frequency": None, "spectrum": [], "noise": [0.0, 0.0], "snapshots": 9}
    discovery = Discovery.from_dict({"equation": terms} | tables | others | numbers | words)
    file = discovery.save(tmp_path / "discover" / "waves")
    starts = simulate_here(SimulateConfig(**SMALL), tmp_path / "starts")
    settings = {**SMALL, "initial": str(starts.folder), "dt": 1.0}
    made = simulate(SimulateConfig(**settings, equation="waves"), tmp_path, Run)
    assert made.where == tmp_path / "data" / "waves_equation_10x12"
    dataset, truth = open_dataset(made.where), simulate_here(SimulateConfig(**settings), tmp_path / "truth")
    (system,) = dataset.card.systems.values()
    assert system.parameters == discovery.system.parameters
    # the same rates with other coefficients folded: float32 rounding over 30 steps
    np.testing.assert_allclose(dataset.states(), truth.states(), atol=3e-6)
    file.write_text("{}")
    with pytest.raises(UserError, match=r"equation\.json holds no equation that can be read"):
        simulate(SimulateConfig(**SMALL, equation="waves", name="b"), tmp_path, no_tracking)
    with pytest.raises(UserError, match="there is no equation 'none'"):
        simulate(SimulateConfig(**SMALL, equation="none"), tmp_path, no_tracking)
