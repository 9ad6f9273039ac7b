"""The report of tiny datasets: what is measured where the system is known, where it is not, and where nothing moves."""

import json
from pathlib import Path

import numpy as np
import pytest

from p2d.pipeline import report
from p2d.pipeline.stage import Outcome
from p2d.show.summary import print_measurements, print_run
from p2d.systems import library
from p2d.systems.gray_scott import GrayScott, preset

from .helpers import (
    dataset_of,
    field_of,
    linear_field,
    patterns,
    quiet_score,
    waves_at_rest,
    write_flow,
    write_score,
)

CHAOS = preset("chaos")
COSINES = {"cosine", "cosine_u", "cosine_v"}
DISCOVERY = {
    "equation": library.gray_scott_equation(CHAOS),
    "error": {"u": {}, "v": {}},
    "gap": 100.0,
    "verdict": "identified from 8 snapshots",
    "unit_of_time": "reaction rate 1",
    "text": "du/dt = 1",
    "snapshots": 8,
    "noise": [0.0, 0.0],
    "step": None,
}
DIFFUSION = [[0, 0, 0.5, 0], [0, 0, 0, 0.25]]


@pytest.fixture(autouse=True, scope="module")
def fifty_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "ROLLED_STEPS", 50)
        yield


def pale() -> np.ndarray:
    """Twelve patterns of concentrations that chaos has."""
    return patterns(12, 16, 16) * np.float32([[[[1.0]], [[0.4]]]])


def evaluated(
    folder: Path,
    states: np.ndarray,
    system: GrayScott | None = None,
    field=None,
    score=None,
    discovery=DISCOVERY,
    z_rms: float = 1.0,
    **settings,
) -> dict:
    """The report of four held-out states of these, on a flow of this field."""
    dataset = dataset_of(states, folder / "data", system)
    if field is not None:
        write_flow(folder / "flow", dataset, field, z_rms, **settings)
    if score is not None:
        write_score(folder / "score", dataset, score)
    subject = report.Subject(
        name="tiny",
        dataset=dataset,
        held_ids=np.array([2, 5, 8, 11]),
        score=folder / "score" if score is not None else None,
        flow=folder / "flow" if field is not None else None,
        objective=settings.get("objective", "stationarity") if field is not None else "",
        discovery=discovery,
    )
    return report.evaluate(subject, folder / "report", 1)


def told(capsys, found: dict) -> str:
    """What both tables say of it, and the same JSON."""
    assert json.loads(json.dumps(found)) == found
    print_measurements(found)
    said = capsys.readouterr().out
    if "flow" in found and "discover" in found:
        print_run(found, [Outcome("evaluate", True, Path("there"), found, 1.0)], Path("runs"))
        assert said.splitlines()[1] in capsys.readouterr().out
    return said


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("known")
    return evaluated(folder, pale(), CHAOS, field_of(CHAOS, pale())), folder / "report"


@pytest.fixture(scope="module")
def unknown(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("unknown")
    return evaluated(folder, pale(), None, linear_field([0, 0], DIFFUSION)), folder / "report"


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("still")
    return evaluated(folder, waves_at_rest(12, 16, 24) / 3, CHAOS, linear_field([0, 0], DIFFUSION)), folder / "report"


def test_where_the_system_is_known_cosines_are_told(known, capsys):
    found, _ = known
    assert found["held_out"] == 4 and {"z_rms", "z_max"} == set(found["truth"])
    # 48 smooth units that were fitted to the rate on these very states
    assert found["flow"]["cosine"] > 0.99 and set(found["flow"]) > COSINES
    # the equation is the system's own, in float64
    assert found["discover"]["cosine"] == pytest.approx(1, abs=1e-9)
    assert found["discover"]["z_rms"] == pytest.approx(found["truth"]["z_rms"], rel=1e-3)
    said = told(capsys, found)
    assert "flow: cosine with the true velocity" in said and f"{found['flow']['cosine']:.5f}" in said
    assert "true system: the same z-scores" in said


def test_without_known_parameters_z_scores_and_preservation_are_told(unknown, capsys):
    found, _ = unknown
    assert "truth" not in found
    for part in ("flow", "discover"):
        assert not COSINES & set(found[part])
        assert found[part]["z_rms"] > 0 and found[part]["z_max"] >= found[part]["z_rms"]
    kept = found["flow"]["preservation"]
    assert set(kept) == {"recovered", "random", "still", "steps", "decorrelation_time"}
    assert kept["steps"] == 50
    assert kept["recovered"] > kept["still"] > 0, "patterns that diffuse away are not what they were"
    said = told(capsys, found)
    assert "cosine" not in said and "true system" not in said
    assert f"{found['flow']['z_rms']:.2f}, {found['flow']['z_max']:.2f}" in said
    assert "flow: distance to the ensemble, 50 steps on" in said and f"{kept['recovered']:.2f} floors" in said
    assert "the same of random flow, no flow" in said
    assert found["flow"]["verdict"].startswith("stationary from few snapshots")
    assert f"flow: {found['flow']['verdict']}" in said


def test_where_nothing_moves_there_is_no_cosine_and_the_verdict_says_so(still, capsys):
    found, _ = still
    for part in ("flow", "discover"):
        assert {found[part][key] for key in COSINES} == {None}
        assert "z_rms" in found[part]
    assert found["flow"]["imbalance"] < 1e-4  # of plane waves none, but for float32
    assert found["flow"]["verdict"].startswith("static: ")
    assert "preservation" in found["flow"]
    said = told(capsys, found)
    assert "cosine" not in said
    assert "flow: static: the velocity on the data is zero" in said and "z-scores" in said


@pytest.mark.parametrize("name", ["known", "unknown", "still"])
def test_figures_of_all_that_there_is_are_drawn(request, name):
    _, folder = request.getfixturevalue(name)
    assert {p.name for p in folder.iterdir()} == {"snapshots.png", "velocity.png", "losses.png"}


def test_with_a_score_model_its_own_course_and_losses_are_told(tmp_path, capsys):
    states = pale()
    found = evaluated(tmp_path, states, None, linear_field([0, 0], DIFFUSION), quiet_score(states))
    assert found["score"] == {"validation_loss": 0.5, "validation_loss_alpha_0.8": 0.4, "epochs": 1}
    assert found["flow"]["preservation"]["score"] > 0
    said = told(capsys, found)
    assert "score: noise prediction loss at alpha 0.8" in said and "0.4000" in said
    assert "the same of random flow, score alone, no flow" in said
    assert (tmp_path / "report" / "denoised.png").is_file()


def test_a_flow_of_noised_states_is_not_rolled_out_without_a_score_model(tmp_path, capsys):
    found = evaluated(tmp_path, pale(), CHAOS, linear_field([0, 0], DIFFUSION), objective="continuity")
    assert "preservation" not in found["flow"] and found["flow"]["verdict"] == ""
    assert found["flow"]["objective"] == "continuity" and -1 <= found["flow"]["cosine"] <= 1
    assert "flow: distance" not in told(capsys, found)


def test_an_equation_alone_is_evaluated(tmp_path, capsys):
    found = evaluated(tmp_path, pale(), CHAOS)
    assert set(found) == {"dataset_hash", "held_out", "truth", "discover"}
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"snapshots.png", "velocity.png"}
    assert "equation: cosine with the true velocity" in told(capsys, found)


def test_a_flow_under_which_observables_move_is_doubtful(tmp_path, capsys):
    found = evaluated(tmp_path, pale(), None, linear_field([0, 0], DIFFUSION), z_rms=9.0)
    assert found["flow"]["verdict"].startswith("doubtful: ")
    assert "z-scores of rms 9.0" in told(capsys, found)


@pytest.mark.parametrize("growth", [9.0, 0.3])
def test_a_flow_that_blows_up_at_once_or_on_the_way_is_said_to(tmp_path, capsys, growth):
    field = linear_field([0, 0], [[growth, 0, 0.5, 0], [0, 0, 0, 0.25]])
    found = evaluated(tmp_path, pale(), None, field, discovery=None)
    assert found["flow"]["preservation"]["recovered"] is None
    line = next(line for line in told(capsys, found).splitlines() if "distance to the ensemble" in line)
    assert "blown up" in line
