"""The command as a user types it: help, bad input in one line, the whole way at a small size."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time

import pytest

from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.snapshots.simulated import simulate_here

P2D = [sys.executable, "-m", "p2d.cli"]
SMALL = "--num-samples 24 --height 64 --width 64 --steps 3000 --chunk 8 --score.epochs 1 --score.channels 8 8"
SMALL_RUN = [*SMALL.split(), "--flow.epochs", "1", "--flow.hidden", "8", "--flow.observables", "48"]
SMALL_RUN += ["--score.sampling", "0"]  # no patterns are sampled
COMMANDS = ["run", "train-flow", "verify"]  # of each kind one: a pipeline, a stage, and what is neither


def p2d(*arguments, cwd, check=None):
    done = subprocess.run([*P2D, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=280)
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS)], ids=lambda c: c[0] if c else "p2d")
def test_help_answers_at_once(command, tmp_path):
    start = time.monotonic()
    done = p2d(*command, "--help", cwd=tmp_path, check=0)
    assert time.monotonic() - start < 2
    assert done.stdout.startswith("usage: p2d")
    assert os.listdir(tmp_path) == []


BAD_INPUT = {
    "unknown preset": (["run", "-p", "wavse"], "did you mean 'waves'?"),
    "no samples": (["run", "--num-samples", "0"], "num_samples = 0"),
    "negative size": (["simulate", "--height", "-8"], "height = -8"),
    "falling range of alpha": (["run", "--score.alpha", "0.9", "0.5"], "alpha = 0.9 0.5"),
    "alpha of 1": (["train-score", "-a", "1.0"], "alpha = 1.0"),
    "alpha of the flow": (["train-flow", "--objective", "continuity", "-a", "0"], "alpha = 0.0"),
    "missing score model": (["sample", "--score", "nothing"], "there is no score model 'nothing'"),
    "one level to sample": (["sample", "--score", "s", "--steps", "1"], "steps = 1"),
    "picture of a third species": (["run", "--show", "w"], "unknown species 'w' to show; known: u, v, all"),
    "and by the original's option": (["run", "--plot-channel", "2"], "unknown species '2' to show; known: u, v, all"),
    "negative noise": (["denoise", "waves", "--noise", "-0.1"], "noise = -0.1"),
    "missing noisy dataset": (["denoise", "nothing"], "there is no dataset 'nothing'"),
    "missing dataset": (["train-flow", "-m", "nothing"], "there is no dataset 'nothing'"),
    "cuda without a GPU": (["simulate", "--cuda", "--num-samples", "1"], "no CUDA GPU"),
    "nothing to evaluate": (["discover", "-m", "."], "holds no card.json"),
    "a term that is no field": (["discover", "--terms", "1,u,v.real"], "'v.real' at character 5"),
    "unfinished terms": (["discover", "--terms", "1,u,lap(u"], "cannot be read at character"),
    "no number of noise": (
        ["discover", "--noise", "much"],
        "noise = much is not possible: a number",
    ),
    "negative smoothing": (["discover", "--smoothing", "-1"], "smoothing = -1"),
    "missing equation": (["rollout", "--equation", "nothing"], "there is no equation 'nothing'"),
    "conditions without an equation": (["rollout", "--set", "F=0.02"], "--set F=0.02 needs --equation"),
    "a condition without a value": (["rollout", "--equation", "e", "--set", "F"], "--set F is not possible"),
    "two values of a condition": (["rollout", "--equation", "e", "--set", "F=1,2"], "--set F has 2 values"),
    "unknown setting of a sweep": (["sweep", "--param", "flow.hiden=8"], "did you mean 'flow.hidden'?"),
    "no values to sweep": (["sweep", "--param", "flow.hidden="], "flow.hidden has no values to try"),
    "no levels to sweep": (["sweep", "--alpha"], "flow.alpha has no values to try"),
    "level of a sweep": (["sweep", "--alpha", "0.5", "1.2"], "alpha = 1.2"),
    "weights that are not looked at": (["sweep", "--objective", "stationarity", "--sym", "0"], "sym is not for"),
    "unknown metric": (["sweep", "--metric", "cosin"], "did you mean 'cosine'?"),
    "missing dataset of a sweep": (["sweep", "-m", "nothing"], "there is no dataset 'nothing'"),
    "nothing to import": (["import"], "import needs files or folders, before all options"),
    "missing file to import": (["import", "plates.npy"], "there is no file plates.npy"),
    "an empty folder": (["import", "."], "the folder . is empty"),
    "unknown unit": (["import", "x", "--spacing", "0.65um2"], "spacing = 0.65um2 is not possible"),
    "misspelt unit": (
        ["import", "x", "--spacing", "3 micro"],
        "unknown unit 'micro' of spacing = 3 micro",
    ),
    "unit of time": (
        ["import", "x", "--interval", "5 um"],
        "unknown unit 'um' of interval = 5 um (did you mean 'us'",
    ),
    "unknown edges": (["import", "x", "--edges", "opne"], "unknown edges 'opne' (did you mean 'open'?)"),
    "crop in another form": (["import", "x", "--crop", "10:20"], "crop = 10:20 is not possible: it must be ROW:ROW"),
    "a crop of nothing": (["import", "x", "--crop", "20:10,:"], "crop = 20:10,: is not possible"),
    "no number of a condition": (["import", "x", "--condition", "F=low"], "condition = F=low is not possible"),
    "a species twice": (["import", "x", "--species", "u", "u"], "a name stands twice"),
    "no name of a species": (["import", "x", "--species", "c-di"], "'c-di' cannot stand in an equation"),
    "no regular expression": (["import", "x", "--runs-from", "(a"], "runs_from = (a is no regular expression"),
    "bins of nothing": (["import", "x", "--bin", "0"], "bin = 0"),
    "port of ui without runs": (["ui"], "there are no tracked runs"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line_and_leaves_nothing(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, told = BAD_INPUT[case]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    stderr = capsys.readouterr().err
    assert stop.value.code == 2 and stderr.startswith("p2d: ") and stderr.count("\n") == 1, stderr
    assert told in stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def told_by(capsys, folder, *arguments):
    """What a command prints on standard output and on standard error, in this process, in a folder."""
    with contextlib.chdir(folder):
        main(list(arguments))
    return capsys.readouterr()


def refused(capsys, folder, *arguments):
    """The line of a mistake."""
    with pytest.raises(SystemExit) as stop:
        told_by(capsys, folder, *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    told = refused(capsys, tmp_path, "simulate", "-o", "file/runs")
    assert told.startswith("p2d: cannot make the output folder file/runs")


def test_debug_shows_the_traceback(tmp_path):
    done = p2d("simulate", "-p", "wavse", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr and done.returncode != 0


@pytest.fixture(scope="module")
def finished(cluster, tmp_path_factory):
    """A run that is killed while it trains the flow, and goes on: its folder, summary, and what it said then."""
    folder, told, said = tmp_path_factory.mktemp("run"), io.StringIO(), io.StringIO()
    log = folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen([*P2D, "run", *SMALL_RUN], cwd=folder, stderr=stderr, stdout=subprocess.DEVNULL)
        while "train-flow ->" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        time.sleep(1)  # in the middle of it
        process.kill()
        process.wait()
    assert "nothing to do" not in log.read_text()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        main(["run", *SMALL_RUN, "--json"])
    return folder, json.loads(said.getvalue()), told.getvalue()


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_from_there(finished, tmp_path):
    told = finished[2]
    for stage in ("simulate", "discover"):
        assert f"{stage}: nothing to do" in told
    assert "train-flow ->" in told and "train-score ->" in told
    config = SimulateConfig(num_samples=24, height=64, width=64, steps=3000, chunk=8)
    undisturbed = simulate_here(config, tmp_path / "waves_64x64")
    assert finished[1]["dataset_hash"] == undisturbed.card.dataset_hash


def test_run_makes_everything_and_prints_the_summary(finished):
    folder, summary, _ = finished
    report = folder / "runs/report/waves"
    assert summary == json.loads((report / "summary.json").read_text())
    assert set(summary["seconds"]) == {"simulate", "score", "flow", "discover", "evaluate", "report"}
    assert 0 < summary["score"]["validation_loss"] < 1
    assert -1 <= summary["flow"]["cosine"] <= 1
    assert summary["discover"]["cosine"] > 0.9
    assert summary["discover"]["equation"]["v"]["u*v**2"] == pytest.approx(1, rel=0.1)  # of few, after few steps
    assert {"cosine", "equation", "error", "gap", "verdict"} <= set(summary["discover"])
    assert {p.name for p in report.iterdir()} == {"summary.json", "index.html", "velocity.png", "training"}


def test_run_again_does_nothing_and_says_so(finished, capsys):
    folder, summary, _ = finished
    out, err = told_by(capsys, folder, "run", *SMALL_RUN, "--json")
    assert err.count("nothing to do") == 6
    assert json.loads(out) == summary


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--steps", "200"], "steps is 3000 there, 200 was asked"),
        (["--score.epochs", "2"], "epochs is 1 there, 2 was asked"),
        (["--flow.hidden", "9"], "hidden is [8] there, [9] was asked"),
        (["--discover.library", "gray-scott"], "library is 'free' there, 'gray-scott' was asked"),
    ],
)
def test_other_settings_are_refused_by_name(finished, arguments, told, capsys):
    folder, *_ = finished
    assert told in refused(capsys, folder, "run", *SMALL_RUN, *arguments)


def test_tracked_as_children_of_one_run(finished):
    from mlflow import MlflowClient

    folder, summary, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("p2d").experiment_id])
    by_name = {r.info.run_name: r for r in runs}
    assert set(by_name) == {"run waves", "simulate", "train-score", "train-flow", "discover", "evaluate", "report"}
    assert {r.info.status for r in runs} == {"FINISHED"}
    parent = by_name.pop("run waves")
    assert {r.data.tags["mlflow.parentRunId"] for r in by_name.values()} == {parent.info.run_id}
    assert parent.data.metrics["flow_cosine"] == pytest.approx(summary["flow"]["cosine"])
    epochs = client.get_metric_history(by_name["train-score"].info.run_id, "validation_loss")
    assert [m.step for m in epochs] == [0, 1]
    artifacts = {a.path for a in client.list_artifacts(by_name["evaluate"].info.run_id)}
    assert {"velocity.png", "summary.json"} <= artifacts


def test_the_continuity_objective_uses_the_score_model(finished, no_ray, capsys):
    folder, *_ = finished
    flow = ["train-flow", "--objective", "continuity", "-n", "1", "--hidden", "8", "--sym", "0.1", "--json"]
    facts = json.loads(told_by(capsys, folder, *flow).out)
    assert facts["continuity_residual"] == facts["validation_loss"]
    assert (folder / "runs/flow/waves_continuity/model.safetensors").is_file()
    assert "alpha = 0.2 is not what" in refused(capsys, folder, *flow, "-a", "0.2")
