"""The benchmark of the discovery, at a small size."""

import json

import numpy as np
import pytest

from p2d.bench import discover as benchmark
from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system

SIZE = {"num_samples": 48, "height": 48, "width": 48, "steps": 6000, "device": "cpu", "threads": 2, "chunk": 12}


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    return simulate_here(SimulateConfig(preset=("waves",), **SIZE), tmp_path_factory.mktemp("r") / "data/waves_48x48")


@pytest.mark.slow
def test_timings_are_of_both_passes_and_the_fit_with_one_actor_and_two(cluster, waves, capsys):
    main(["bench", "discover", "-o", str(waves.folder.parent.parent), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["snapshots_per_second"] > 0
    assert set(found["actors"]) == {"1", "2"}
    for seconds in found["actors"].values():
        assert 0 < seconds["passes"] + seconds["fit"] <= seconds["all"] + 0.01


@pytest.mark.slow
def test_the_study_has_a_row_for_each_kind_library_and_number(waves, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "STUDY", {"waves": {"preset": ("waves",)}})
    monkeypatch.setattr(benchmark, "KINDS", ("clean", "0.01"))
    monkeypatch.setattr(benchmark, "_dataset", lambda *_: waves)
    main(["bench", "discover", "--study", "-o", str(tmp_path), "--snapshots", "30", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [(r["kind"], r["library"]) for r in found["rows"]] == [
        (kind, name) for kind in ("clean", "0.01") for name in ("free", "gray_scott")
    ]
    for row in found["rows"]:
        assert row["snapshots"] == 30 and row["seconds"] > 0 and 0 <= row["covered"] <= 1
        assert row["cosine"] > 0.99
    rows = [benchmark.Row(**row) for row in found["rows"]]
    identification = [benchmark.Identification(**of_one) for of_one in found["identification"]]
    table = str(benchmark.Study(rows, identification)).splitlines()
    assert len({line.count("|") for line in table[:4]}) == 1, "every row has as many cells as the head"
    assert table[-1].startswith("waves: fits best waves")


@pytest.mark.parametrize("name", ["waves", *(pytest.param(name, marks=pytest.mark.slow) for name in ("chaos", "maze"))])
def test_snapshots_are_told_to_be_of_their_own_preset(name, waves, tmp_path):
    dataset = waves
    if name != "waves":
        settings = SIZE | {"num_samples": 24, "steps": 10_000 if name == "maze" else 6000}
        dataset = simulate_here(SimulateConfig(preset=(name,), **settings), tmp_path / name)
    found = benchmark.identify(name, load_system("gray_scott").at(name), dataset.states(dataset.living))
    assert found.best == name and found.right
    others = [misfit for key, misfit in found.misfit.items() if key != name]
    assert min(others) > 5 * found.misfit[name]


def test_an_instrument_adds_the_noise_it_is_said_to():
    clean = np.full((2, 2, 64, 64), 0.5, np.float32)
    assert (benchmark._as_measured(clean, "clean") == clean).all()
    assert np.unique(benchmark._as_measured(clean, "8 bits")).size == 1
    # 16,384 draws: 0.6 % of standard error
    assert benchmark._as_measured(clean, "0.02").std() == pytest.approx(0.02, rel=0.03)
