"""The report of tiny datasets: what is measured where the system is known, where it is not, and where nothing moves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from p2d.evaluate import report
from p2d.evaluate.evaluation import Evaluation
from p2d.fields import Grid, Mask
from p2d.flow.velocity import LocalField
from p2d.pipeline.stage import Outcome
from p2d.show.report import draw_report
from p2d.show.summary import run_text
from p2d.show.view import View
from p2d.systems.reading import load_system
from p2d.systems.system import Run, System

from ..discovery.test_result import discovery
from .helpers import (
    HIDDEN,
    dataset_of,
    field_of,
    linear_field,
    patterns,
    quiet_score,
    waves_at_rest,
    write_flow,
    write_score,
)

CHAOS = load_system("gray_scott").at("chaos")
COSINES = {"cosine", "cosine_u", "cosine_v"}
DISCOVERY = discovery(terms=CHAOS.terms, snapshots=8, z_max=7.5)
DIFFUSION = [[0, 0, 0.5, 0], [0, 0, 0, 0.25]]


STEPS = 20


@pytest.fixture(autouse=True, scope="module")
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "ROLLED_STEPS", STEPS)
        yield


def pale() -> np.ndarray:
    """Twelve patterns of concentrations that chaos has."""
    return patterns(12, 16, 16) * np.float32([[[[1.0]], [[0.4]]]])


def evaluated(
    folder: Path,
    states: np.ndarray,
    system: System | None = None,
    field=None,
    score=None,
    discovery=DISCOVERY,
    z_rms: float = 1.0,
    grid: Grid | None = None,
    **settings,
) -> Evaluation:
    """The evaluation of four held-out states of these, on a flow of this field, and its figures."""
    dataset = dataset_of(states, folder / "data", system, grid)
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
    measured = report.measure_report(subject)
    view = View(dataset.card.species, dataset.card.grid)
    draw_report(folder / "report", subject, measured, view)
    return measured.evaluation


def told(found: Evaluation) -> str:
    """What its own table and that of a run say, the same when it has been through a file."""
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    said = str(found)
    assert said in run_text(found, [Outcome("evaluate", True, Path("there"), {}, 1.0)], Path("runs"))
    return said


HEAT = System("heat", {"a": "0.2*lap(a)", "b": "0.1*lap(b)", "c": "0.05*lap(c) - 0.02*c"}, run=Run(dt=0.5))


@torch.no_grad()
def heat_field(grid: Grid) -> LocalField:
    """The velocity of HEAT, in training coordinates: c = x / 2 + 1 / 2."""
    field = LocalField(HIDDEN, species=3, grid=grid, generator=torch.Generator().manual_seed(0))
    field.last.zero_()
    field.last[range(3), range(4, 7)] = torch.tensor([0.2, 0.1, 0.05])
    field.last[2, [0, 3]] = -0.02
    return field


@pytest.mark.parametrize("walls", [*(pytest.param(w, marks=pytest.mark.slow) for w in ("mirror", "open")), "mask"])
def test_three_species_with_walls_are_evaluated_in_the_cells_that_are_known(walls, tmp_path):
    disc = np.hypot(*(np.mgrid[:36, :36] - 17.5)) < 17
    grids = {
        "mirror": Grid((36, 36), edges=("mirror", "mirror")),
        "open": Grid((36, 36), edges=("open", "open")),
        "mask": Grid((36, 36), mask=Mask.of(disc)),
    }
    grid = grids[walls]
    states = np.concatenate([patterns(12, 36, 36), patterns(12, 36, 36, 1)[:, :1]], axis=1)
    states[..., ~grid.inside(0)] = 0.1
    found = evaluated(tmp_path, states, HEAT, heat_field(grid), discovery=None, grid=grid)
    # the same velocity, in float32
    assert found.flow.field.cosines == pytest.approx(dict.fromkeys(["cosine", *(f"cosine_{s}" for s in "abc")], 1.0))
    assert found.flow.field.z_rms == pytest.approx(found.truth.z_rms, rel=1e-3)
    ratios = found.flow.preservation.ratios
    assert set(ratios) == {"recovered", "random", "still"} and ratios["recovered"] is not None
    assert "cosine with the true velocity" in told(found) and "(a 1.0000, b 1.0000, c 1.0000)" in told(found)


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> tuple[Evaluation, Path]:
    folder = tmp_path_factory.mktemp("known")
    return evaluated(folder, pale(), CHAOS, field_of(CHAOS, pale())), folder / "report"


@pytest.fixture(scope="module")
def unknown(tmp_path_factory) -> tuple[Evaluation, Path]:
    folder = tmp_path_factory.mktemp("unknown")
    return evaluated(folder, pale(), None, linear_field([0, 0], DIFFUSION)), folder / "report"


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> tuple[Evaluation, Path]:
    folder = tmp_path_factory.mktemp("still")
    return evaluated(folder, waves_at_rest(12, 16, 24) / 3, CHAOS, linear_field([0, 0], DIFFUSION)), folder / "report"


def test_where_the_system_is_known_cosines_are_told(known):
    found, _ = known
    assert found.held_out == 4 and set(found.to_dict()["truth"]) == {"z_rms", "z_max"}
    # 48 smooth units that were fitted to the rate on these very states
    assert found.flow.field.cosine > 0.99 and set(found.flow.to_dict()) > COSINES
    # the equation is the system's own, in float64
    assert found.equation.field.cosine == pytest.approx(1, abs=1e-9)
    assert found.equation.field.z_rms == pytest.approx(found.truth.z_rms, rel=1e-3)
    said = told(found)
    assert "flow: cosine with the true velocity" in said and f"{found.flow.field.cosine:.5f}" in said
    assert "true system: the same z-scores" in said


def test_the_z_scores_of_an_equation_are_those_of_its_rates_and_the_discovery_keeps_its_own(known):
    found, _ = known
    values = found.to_dict()["discover"]
    assert values["z_max"] == found.equation.field.z_max == pytest.approx(found.truth.z_max, rel=1e-3)
    assert values["discovery_z_max"] == found.equation.discovery.z_max == 7.5


def test_the_equation_s_own_ensemble_is_told_where_something_moves_and_its_start_is_known(known, unknown, still):
    found, _ = known
    fresh = found.equation.fresh
    assert (fresh.runs, fresh.steps) == (32, CHAOS.run.steps)
    assert found.to_dict()["discover"]["fresh"]["alive"] == fresh.alive
    line = next(line for line in told(found).splitlines() if "from fresh starts" in line)
    assert line.startswith("equation: distance to the ensemble, from fresh starts  ") and line.endswith(str(fresh))
    for other, _ in (unknown, still):
        assert other.equation.fresh is None and "fresh" not in other.to_dict()["discover"]
        assert "from fresh starts" not in told(other)


def test_without_known_parameters_z_scores_and_preservation_are_told(unknown):
    found, _ = unknown
    assert found.truth is None and "truth" not in found.to_dict()
    for part in (found.flow, found.equation):
        assert not COSINES & set(part.to_dict()) and part.field.cosine is None
        assert part.field.z_rms > 0 and part.field.z_max >= part.field.z_rms
    kept = found.flow.preservation
    assert set(kept.to_dict()) == {"recovered", "random", "still", "steps", "decorrelation_time"}
    assert kept.steps == STEPS
    assert kept.ratios["recovered"] > kept.ratios["still"] > 0, "patterns that diffuse away are not what they were"
    said = told(found)
    assert "cosine" not in said and "true system" not in said
    assert f"{found.flow.field.z_rms:.2f}, {found.flow.field.z_max:.2f}" in said
    assert (
        f"flow: distance to the ensemble, {STEPS} steps on" in said and f"{kept.ratios['recovered']:.2f} floors" in said
    )
    assert "the same of random flow, no flow" in said
    assert found.flow.verdict.startswith("stationary from few snapshots")
    assert f"flow: {found.flow.verdict}" in said


def test_where_nothing_moves_there_is_no_cosine_and_the_verdict_says_so(still):
    found, _ = still
    for part in (found.flow, found.equation):
        assert {part.to_dict()[key] for key in COSINES} == {None}
        assert part.field.z_rms > 0
    assert found.flow.imbalance < 1e-4  # of plane waves none, but for float32
    assert found.flow.verdict.startswith("static: ")
    assert found.flow.preservation is not None
    said = told(found)
    assert "cosine" not in said
    assert "flow: static: the velocity on the data is zero" in said and "z-scores" in said


@pytest.mark.parametrize("name", ["known", "unknown", "still"])
def test_the_velocities_are_drawn(request, name):
    _, folder = request.getfixturevalue(name)
    assert [p.name for p in folder.iterdir()] == ["velocity.png"]


@pytest.mark.slow
def test_with_a_score_model_its_own_course_and_losses_are_told(tmp_path):
    states = pale()
    found = evaluated(tmp_path, states, None, linear_field([0, 0], DIFFUSION), quiet_score(states))
    assert found.score == {"validation_loss": 0.5, "validation_loss_alpha_0.8": 0.4, "epochs": 1}
    assert found.flow.preservation.ratios["score"] > 0
    said = told(found)
    assert "score: noise prediction loss at alpha 0.8" in said and "0.4000" in said
    assert "the same of random flow, score alone, no flow" in said


def test_a_flow_of_noised_states_is_not_rolled_out_without_a_score_model(tmp_path):
    found = evaluated(tmp_path, pale(), CHAOS, linear_field([0, 0], DIFFUSION), objective="continuity")
    assert found.flow.preservation is None and found.flow.verdict == ""
    assert found.flow.objective == "continuity" and -1 <= found.flow.field.cosine <= 1
    assert "flow: distance" not in told(found)


def test_an_equation_alone_is_evaluated(tmp_path):
    found = evaluated(tmp_path, pale(), CHAOS)
    assert set(found.to_dict()) == {"dataset_hash", "held_out", "truth", "discover"}
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["velocity.png"]
    assert "equation: cosine with the true velocity" in told(found)


def test_a_flow_under_which_observables_move_is_doubtful(tmp_path):
    found = evaluated(tmp_path, pale(), None, linear_field([0, 0], DIFFUSION), z_rms=9.0)
    assert found.flow.verdict.startswith("doubtful: ")
    assert "z-scores of rms 9.0" in told(found)


@pytest.mark.parametrize("growth", [9.0, 0.75])
def test_a_flow_that_blows_up_at_once_or_on_the_way_is_said_to(tmp_path, growth):
    field = linear_field([0, 0], [[growth, 0, 0.5, 0], [0, 0, 0, 0.25]])
    found = evaluated(tmp_path, pale(), None, field, discovery=None)
    assert found.flow.preservation.ratios["recovered"] is None
    line = next(line for line in told(found).splitlines() if "distance to the ensemble" in line)
    assert "blown up" in line


def test_an_evaluation_is_saved_and_loaded_whole_and_says_in_a_line_what_it_is_of(known, tmp_path):
    found, _ = known
    found.save(tmp_path / "summary.json")
    assert Evaluation.load(tmp_path / "summary.json") == found
    assert repr(found) == "<Evaluation of flow and equation on 4 held-out snapshots>"
