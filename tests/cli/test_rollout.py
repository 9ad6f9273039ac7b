"""`p2d rollout` as a user types it, at a small size, of a flow that is nearly the true system's rate."""

import json
import runpy
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from numpy.testing import assert_array_equal
from PIL import Image

import p2d
from p2d.cli import main
from p2d.config import RolloutConfig, RolloutSource
from p2d.pipeline import rollout
from p2d.show import figures
from p2d.snapshots.frames import read_frames
from p2d.snapshots.store import open_dataset
from p2d.systems.reading import load_system

from ..discovery.test_result import discovery
from ..evaluate.helpers import dataset_of, field_of, linear_field, patterns, quiet_score, write_flow, write_score
from ..evaluate.test_rollout import run

ROOT = Path(__file__).parent.parent.parent
SMALL = {"num_samples": 12, "height": 32, "width": 32, "device": "cpu", "threads": 1}
FEW = ["-n", "20", "--frames", "4", "--ensemble", "3"]
FILES = {"rollout.json", "frames.parquet", "panels.png", "preservation.png"}
KINDS = {"true", "recovered", "reversed", "random flow", "v = 0"}
COURSE = {
    "ratio_mean",
    "ratio_largest",
    "decorrelation_time",
    "blown_up",
    "step",
    "ratio",
    "correlation",
    "displacement_cosine",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with a dataset of chaos, a flow of it, and one of another name that has a score model."""
    place = tmp_path_factory.mktemp("runs")
    dataset = p2d.simulate("chaos", out=place, steps=300, **SMALL)
    states, system = dataset.states(), load_system("gray_scott").at("chaos")
    way = np.concatenate([states, run(states, system, 10), run(states, system, 20)])
    write_flow(place / "flow" / "chaos", dataset, field_of(system, way))
    scored = dataset_of(patterns(9, 16, 16), place / "data" / "scored_16x16")
    write_flow(place / "flow" / "scored", scored, linear_field([0, 0], [[0, 0, 0.5, 0], [0, 0, 0, 0.25]]))
    write_score(place / "score" / "scored", scored, quiet_score(scored.states(), (0.5, 0.9)))
    return place


@pytest.fixture(scope="module")
def finished(out):
    """What a first rollout wrote, and the facts that it gave."""
    config = RolloutConfig(steps=20, frames=4, ensemble=3)
    outcome = rollout(RolloutSource(flow="chaos"), config, out, untracked)
    return out / "report/chaos/rollout", outcome.facts


@pytest.fixture(scope="module")
def equation(out):
    """The file of an equation: chaos as it is."""
    learnt_from = {"dataset": "chaos_32x32", "systems": ["chaos"]}
    chaos = discovery(terms=load_system("gray_scott").at("chaos").terms)
    return chaos.save(out / "discover" / "chaos", settings={}, learnt_from=learnt_from)


class Notes:
    """Takes the place of a tracked run."""

    def __init__(self):
        self.numbers, self.files, self.parameters = [], [], {}

    @contextmanager
    def child(self, name, parameters):
        self.parameters[name] = parameters
        yield self

    def tags(self, values):
        self.tagged = values

    def dataset(self, dataset, context):
        self.of = dataset.card.dataset_hash, context

    def metrics(self, values, step=0):
        self.numbers.append((step, values))

    def artifact(self, path, folder=""):
        self.files.append(path.name)


def untracked():
    return Notes()


def said(capsys, *arguments) -> dict:
    main(["rollout", *arguments, "--no-tracking", "--json"])
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["rollout", *arguments, "--no-tracking"])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("p2d: ") and told.count("\n") == 1, told
    return told


def test_an_equation_is_carried_on_like_a_flow_and_the_true_one_goes_the_true_way(out, equation):
    config = RolloutConfig(steps=20, frames=4, ensemble=3, animation="none")
    outcome = rollout(RolloutSource(equation="chaos"), config, out, untracked)
    assert outcome.where == out / "report/chaos_equation/rollout"
    assert {p.name for p in outcome.where.iterdir()} == FILES
    # the true rate in Heun's steps beside Euler's: first order in a step that is small beside 20
    assert outcome.facts["recovered"]["displacement_cosine"][-1] > 0.999
    assert not rollout(RolloutSource(equation="chaos"), config, out, untracked).made


@pytest.mark.slow
def test_an_equation_across_conditions_goes_on_at_one_that_nobody_measured(out, capsys):
    system = load_system("gray_scott").at("chaos")
    dataset = open_dataset(out / "data" / "chaos_32x32")
    terms = {s: dict(own) for s, own in system.terms.items()}
    del terms["u"]["1"], terms["u"]["u"]
    terms["u"] |= {"F": 1.0, "F*u": -1.0}
    terms["v"] = {**terms["v"], "v": -system.parameters["k"], "F*v": -1.0}
    tables = {
        "errors": {s: dict.fromkeys(own, 0.0) for s, own in terms.items()},
        "intervals": {s: dict.fromkeys(own, (0.0, 0.0)) for s, own in terms.items()},
    }
    across = discovery(terms=terms, conditions={"F": (0.024, 0.028)}, frequency=None, **tables)
    learnt_from = {"dataset": "chaos_32x32", "systems": ["one", "other"]}
    across.save(out / "discover" / "across", settings={}, learnt_from=learnt_from)
    source = RolloutSource(equation="across", set=("F=0.03",))
    outcome = rollout(source, RolloutConfig(steps=20, frames=4, ensemble=3, animation="none"), out, untracked)
    assert outcome.where == out / "report/across_equation_F0.03/rollout"
    # beside Gray-Scott at that feed, which the dataset's card tells all else of
    assert outcome.facts["recovered"]["displacement_cosine"][-1] > 0.999
    told = capsys.readouterr().err
    assert "F = 0.03 lies outside of 0.024 to 0.028, where the equation was fitted: this is extrapolated" in told
    assert dataset.card.systems["chaos"].parameters["F"] == 0.026
    assert "has no condition 'G'; known: F" in refused(capsys, "--equation", "across", "--set", "G=1", "-o", str(out))


def test_an_equation_of_another_system_is_refused(out, equation, capsys):
    made = json.loads(equation.read_text())
    made["learnt_from"]["systems"] = ["waves"]
    other = equation.with_name("other.json")
    other.write_text(json.dumps(made))
    told = refused(capsys, "--equation", str(other), "-m", "chaos", "-o", str(out))
    assert "is of waves (dataset chaos_32x32)" in told and "is of chaos; name an equation of that" in told


def test_rollout_makes_its_files_and_nothing_else(finished):
    folder, _ = finished
    assert {p.name for p in folder.iterdir()} == FILES | {"rollout.gif"}
    for name in ("panels.png", "preservation.png"):
        assert len(np.unique(imread(folder / name).reshape(-1, 4), axis=0)) > 50, "not blank"
    with Image.open(folder / "rollout.gif") as clip:
        assert clip.n_frames == 5


def test_the_json_on_the_screen_is_that_of_the_file(finished, out, capsys):
    folder, facts = finished
    found = said(capsys, "--flow", "chaos", *FEW, "-o", str(out))
    assert found == json.loads((folder / "rollout.json").read_text()) == json.loads(json.dumps(facts))
    assert set(found) == {"times", "starts", "inputs", "clock"} | KINDS
    assert found["times"] == [0, 5, 10, 15, 20]
    assert len(found["starts"]) == 3 and found["starts"][0] == 0
    for kind in KINDS:
        assert set(found[kind]) == COURSE
    assert min(found["recovered"]["displacement_cosine"]) > 0.999  # as in tests/evaluate/test_rollout.py
    assert found["inputs"]["dataset_hash"] == open_dataset(out / "data/chaos_32x32").card.dataset_hash


def test_the_frames_are_of_the_shown_sample_and_open_with_plain_pyarrow(finished, out):
    folder, found = finished
    states = open_dataset(out / "data/chaos_32x32").states(np.array([0]))
    times, frames = read_frames(folder / "frames.parquet")
    assert times == found["times"] and list(frames) == ["true", "recovered", "reversed"]
    assert_array_equal(frames["true"][-1], run(states, load_system("gray_scott").at("chaos"), 20)[0])
    assert pq.read_table(folder / "frames.parquet").schema.field("state").type.shape == [2, 32, 32]


def test_rollout_again_does_nothing_and_other_settings_do(finished, out, capsys):
    folder, _ = finished
    again = ["--flow", str(out / "flow/chaos"), *FEW, "--animation", "none", "--name", "twice", "-o", str(out)]
    first = said(capsys, *again)
    place = out / "report/twice/rollout"
    written = {p.name: p.stat().st_mtime_ns for p in place.iterdir()}
    assert said(capsys, *again) == first
    assert {p.name: p.stat().st_mtime_ns for p in place.iterdir()} == written
    main(["rollout", *again, "--no-tracking"])
    assert "nothing to do" in capsys.readouterr().out
    other = said(capsys, *again, "--seed", "1")
    assert other["random flow"]["ratio"] != first["random flow"]["ratio"]
    assert (place / "rollout.json").stat().st_mtime_ns != written["rollout.json"]
    assert (folder / "rollout.json").is_file()


@pytest.mark.slow
def test_another_flow_under_the_same_name_is_rolled_out_anew(out, capsys):
    dataset = open_dataset(out / "data/chaos_32x32")
    arguments = ["--flow", "changing", *FEW, "--animation", "none", "-o", str(out)]
    found = []
    for seed, rate in enumerate((0.1, 0.2)):
        field = linear_field([0.0, 0.0], [[0, 0, rate, 0], [0, 0, 0, 0.05]])
        write_flow(out / "flow" / "changing", dataset, field, seed=seed)
        found.append(said(capsys, *arguments))
    assert found[0]["inputs"]["flow"] != found[1]["inputs"]["flow"]
    assert found[0]["recovered"]["ratio"] != found[1]["recovered"]["ratio"]


def test_the_table_has_a_row_for_each_kind(finished, out, capsys):
    main(["rollout", "--flow", "chaos", *FEW, "--no-tracking", "-o", str(out)])
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("20 steps")
    for kind in KINDS:
        assert sum(row.startswith(f"{kind} ") for row in rows) == 1
    assert any("rollout: nothing to do" in row for row in rows) and rows[-1].startswith("next: p2d ui -o ")


@pytest.mark.slow
def test_another_sample_and_another_dataset_are_carried_on(out, capsys):
    larger = p2d.simulate("chaos", out=out, steps=300, **{**SMALL, "num_samples": 8, "height": 64})
    arguments = ["--sample", "4", *FEW, "--animation", "none", "--name", "larger", "-o", str(out)]
    found = said(capsys, "--flow", "chaos", "--from", "chaos_64x32", *arguments)
    assert found["starts"][0] == 4 and len(set(found["starts"])) == 3
    _, frames = read_frames(out / "report/larger/rollout/frames.parquet")
    assert_array_equal(frames["true"][0], larger.states(np.array([4]))[0])
    assert not (out / "report/larger/rollout/rollout.gif").exists()
    # the original's name of the option
    assert said(capsys, "--flow", "chaos", "-m", "chaos_64x32", *arguments) == found


@pytest.mark.slow
def test_with_a_score_model_there_is_a_course_of_it_alone_and_a_corrector(out, capsys):
    few = ["-n", "4", "--frames", "2", "--ensemble", "2", "--animation", "none", "--step", "0.5", "-o", str(out)]
    main(["rollout", "--flow", "scored", *few, "--no-tracking", "--json"])
    screen = capsys.readouterr()
    plain = json.loads(screen.out)
    assert set(plain) == {"times", "starts", "inputs", "clock", "score only"} | KINDS - {"true"}, "it is not known"
    assert "a step is the time in which the fastest change of the flow falls to 1/e" in screen.err
    _, frames = read_frames(out / "report/scored/rollout/frames.parquet")
    assert list(frames) == ["recovered", "score only", "reversed"]
    corrected = said(capsys, "--flow", "scored", *few, "--eta", "0.2", "-a", "0.9", "--name", "corrected")
    assert corrected["recovered"]["ratio"] != plain["recovered"]["ratio"]
    assert corrected["recovered"]["blown_up"] is None
    assert corrected["inputs"]["score"] == plain["inputs"]["score"] is not None


def test_every_frame_is_tracked_at_its_time(out):
    notes = Notes()
    config = RolloutConfig(steps=10, frames=2, ensemble=2, animation="none")
    outcome = rollout(RolloutSource(flow="chaos", name="tracked"), config, out, lambda: notes)
    assert notes.parameters["rollout"]["steps"] == 10 and notes.parameters["rollout"]["flow"] == "chaos"
    assert [step for step, _ in notes.numbers] == [0, 5, 10]
    last = notes.numbers[-1][1]
    assert set(last) <= {"ratio_true", "ratio_recovered", "ratio_reversed", "ratio_random_flow", "ratio_still"}
    assert last["ratio_recovered"] == outcome.facts["recovered"]["ratio"][-1]
    assert set(notes.files) == FILES


def test_a_small_dataset_can_be_rolled_out_by_default(out, capsys):
    few = ["-n", "4", "--frames", "2", "--animation", "none"]
    found = said(capsys, "--flow", "chaos", *few, "--name", "plain", "-o", str(out))
    assert np.isfinite(found["true"]["ratio"]).all()


REFUSED = {
    "unknown flow": (["--flow", "nothing"], "there is no flow model 'nothing'"),
    "unknown sample": (["--sample", "99"], "sample 99 of "),
    "unknown dataset": (["--from", "nothing"], "there is no dataset 'nothing'"),
    "unknown score model": (["--score", "nothing"], "there is no score model 'nothing'"),
    "corrector without a score model": (["--eta", "0.1"], "needs a score model: name one with --score"),
    "a score as a flow": (["--flow", "{out}/score/scored"], "holds a score, not a flow model"),
    "more frames than steps": (["-n", "3"], "frames = 4 is not possible in 3 steps"),
    "a third species": (["--plot-channel", "2"], "unknown species '2' to show"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_line_and_leaves_nothing(case, out, capsys):
    arguments, expected = REFUSED[case]
    given = [a.format(out=out) for a in arguments]
    told = refused(capsys, "--flow", "chaos", *FEW, *given, "--name", "refused", "-o", str(out))
    assert expected in told
    assert not (out / "report/refused").exists()


def test_a_sample_that_has_died_out_is_refused_and_a_living_one_named(out, capsys):
    states = patterns(6, 16, 16)
    states[:2] = 0.5
    dataset = dataset_of(states, out / "data" / "dying_16x16")
    assert dataset.living.tolist() == [2, 3, 4, 5]
    arguments = ["--flow", "scored", "--from", "dying", *FEW, "--name", "refused", "-o", str(out)]
    told = refused(capsys, *arguments, "--sample", "1")
    assert "sample 1 of " in told and "has died out (uniform); such as 2 is" in told
    states[3:] = 0.5
    dataset_of(states, out / "data" / "dead_16x16")
    told = refused(capsys, *arguments, "--from", "dead", "--sample", "2")
    assert "has one living snapshot, and a rollout is measured against others" in told


def test_a_flow_of_another_preset_is_refused(out, capsys):
    p2d.simulate("spots", out=out, steps=50, **{**SMALL, "num_samples": 2})
    told = refused(capsys, "--flow", "chaos", "--from", "spots", *FEW, "--name", "refused", "-o", str(out))
    assert "was trained on chaos (dataset chaos_32x32)" in told and "is of spots" in told


def test_a_corrector_at_a_level_that_its_score_model_does_not_know_is_refused(out, capsys):
    given = ["--flow", "scored", *FEW, "--eta", "0.1", "--alpha", "0.95", "--name", "refused", "-o", str(out)]
    assert "alpha = 0.95 is not what" in (told := refused(capsys, *given)) and "0.5 to 0.9" in told


def test_an_mp4_without_ffmpeg_is_refused_before_anything_is_made(out, capsys, monkeypatch):
    monkeypatch.setattr(figures.FFMpegWriter, "isAvailable", lambda: False)
    arguments = ["--flow", "chaos", *FEW, "--animation", "mp4", "--name", "refused", "-o", str(out)]
    assert "animation = mp4 needs ffmpeg, which is not here; take gif" in refused(capsys, *arguments)
    assert not (out / "report/refused").exists()


@pytest.mark.slow
def test_the_job_script_does_the_same(finished, out, capsys, monkeypatch):
    arguments = ["--flow", "chaos", *FEW, "--no-tracking", "--json", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["rollout.py", *arguments])
    runpy.run_path(str(ROOT / "jobs/rollout.py"), run_name="__main__")
    assert json.loads(capsys.readouterr().out) == said(capsys, *arguments)


@pytest.mark.slow
def test_a_rollout_that_was_cut_short_is_made_again(finished, out, capsys):
    folder, facts = finished
    shutil.copytree(folder, out / "report/cut/rollout")
    (out / "report/cut/rollout/rollout.json").unlink()
    (out / "report/cut/rollout/panels.png").write_bytes(b"")
    found = said(capsys, "--flow", "chaos", *FEW, "--animation", "gif", "--name", "cut", "-o", str(out))
    assert found == json.loads(json.dumps(facts))
    assert (out / "report/cut/rollout/panels.png").read_bytes() == (folder / "panels.png").read_bytes()
