"""Tracking: what MLflow holds after runs that end, fail, are stopped or are killed, and what happens without it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from p2d.errors import UserError
from p2d.places import place
from p2d.runs import write_json
from p2d.tracking.store import EXPERIMENT, LARGEST_PARAMETER, Run, open_tracker, store_uri


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with a store of its own; making its tables takes seconds, so the tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield tmp_path_factory.mktemp("tracked")


@pytest.fixture(scope="module")
def root(out) -> Run:
    return open_tracker(out, enabled=True)


@pytest.fixture(scope="module")
def client(out, root) -> MlflowClient:
    return MlflowClient(tracking_uri=store_uri(out))


def status(client: MlflowClient, run: Run) -> str:
    return client.get_run(run.run_id).info.status


def leave(run: Run, name: str, error: BaseException) -> Run:
    """A child run left by an exception."""
    with pytest.raises(type(error)), run.child(name, {}) as child:
        raise error
    return child


def test_child_runs_nest(root, client):
    with root.child("pipeline", {}) as outer, outer.child("score", {}) as inner, inner.child("trial", {}) as innermost:
        pass
    tags = {run: client.get_run(run.run_id).data.tags for run in (outer, inner, innermost)}
    assert "mlflow.parentRunId" not in tags[outer]
    assert tags[inner]["mlflow.parentRunId"] == outer.run_id
    assert tags[innermost]["mlflow.parentRunId"] == inner.run_id
    assert [tags[run]["mlflow.runName"] for run in (outer, inner, innermost)] == ["pipeline", "score", "trial"]


def test_runs_lie_in_the_experiment_of_p2d_with_artifacts_under_the_output_folder(root, client, out, tmp_path):
    (tmp_path / "figure.txt").write_text("a figure")
    with root.child("artifacts", {}) as run:
        run.artifact(tmp_path / "figure.txt")
    assert client.get_run(run.run_id).info.experiment_id == client.get_experiment_by_name(EXPERIMENT).experiment_id
    assert [p.read_text() for p in (out / "mlartifacts").rglob("figure.txt")] == ["a figure"]


def test_metrics_come_back_by_step(root, client):
    with root.child("metrics", {}) as run:
        for step, loss in enumerate([2.5, 1.25, 0.5]):
            run.metrics({"loss": loss, "epoch": step}, step)
    history = client.get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 2.5), (1, 1.25), (2, 0.5)]
    assert client.get_run(run.run_id).data.metrics == {"loss": 0.5, "epoch": 2.0}


def test_what_is_no_number_is_no_metric(root, client):
    with root.child("mixed metrics", {}) as run:
        run.metrics({"verdict": "identified", "complete": True, "nested": {"a": 1}, "samples": 4})
    assert client.get_run(run.run_id).data.metrics == {"samples": 4.0}


def test_parameters_come_back_as_text_and_the_first_value_stays(root, client):
    with root.child("parameters", {"alpha": 0.8, "preset": ("waves", "life")}) as run:
        run.parameters({"alpha": 0.5, "seed": 3})
    assert client.get_run(run.run_id).data.params == {"alpha": "0.8", "preset": "('waves', 'life')", "seed": "3"}


def test_a_long_parameter_is_cut(root, client):
    with root.child("long", {"text": "x" * 2000}) as run:
        pass
    assert client.get_run(run.run_id).data.params == {"text": "x" * LARGEST_PARAMETER}


def test_a_run_is_running_inside_its_block_and_finished_after_it(root, client):
    with root.child("status", {}) as run:
        assert status(client, run) == "RUNNING"
    assert status(client, run) == "FINISHED"


@pytest.mark.parametrize("error", [ValueError("no such thing"), UserError("dt = 2 is unstable"), SystemExit("out")])
def test_a_run_left_by_an_error_is_failed_and_says_why(root, client, error):
    run = leave(root, f"fails with {type(error).__name__}", error)
    assert status(client, run) == "FAILED"
    assert client.get_run(run.run_id).data.tags["p2d.error"] == str(error)


def test_a_run_that_is_interrupted_is_killed(root, client):
    assert status(client, leave(root, "interrupted", KeyboardInterrupt())) == "KILLED"


def test_an_error_in_a_child_fails_its_parent_too(root, client):
    started = []
    with pytest.raises(ValueError, match="inside"), root.child("parent", {}) as parent:
        started.append(parent)
        with parent.child("child", {}) as child:
            started.append(child)
            raise ValueError("inside")
    assert [status(client, run) for run in started] == ["FAILED", "FAILED"]


def test_a_run_left_running_by_a_killed_process_is_continued(root, client, out):
    killed = root.child("continued", {"alpha": 0.8})
    before = killed.__enter__()
    before.metrics({"loss": 2.0}, step=0)
    assert status(client, before) == "RUNNING"
    # a new process opens the store anew
    with open_tracker(out, enabled=True).child("continued", {"alpha": 0.8, "seed": 1}) as after:
        after.metrics({"loss": 1.0}, step=1)
    assert after.run_id == before.run_id
    assert status(client, after) == "FINISHED"
    assert [m.value for m in client.get_metric_history(after.run_id, "loss")] == [2.0, 1.0]
    assert client.get_run(after.run_id).data.params == {"alpha": "0.8", "seed": "1"}


@pytest.mark.parametrize("error", [None, ValueError("failed")])
def test_a_run_that_has_ended_is_not_continued(root, error):
    name = f"ended with {error}"
    if error is None:
        with root.child(name, {}) as first:
            pass
    else:
        first = leave(root, name, error)
    with root.child(name, {}) as second:
        pass
    assert second.run_id != first.run_id


def test_runs_of_the_same_name_under_other_parents_are_others(root):
    # the first one is still running, and could be taken for one to continue
    with (
        root.child("left", {}) as left,
        root.child("right", {}) as right,
        left.child("score", {}) as first,
        right.child("score", {}) as second,
    ):
        pass
    assert first.run_id != second.run_id


def test_the_null_tracker_does_nothing_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("kept")
    root = open_tracker(tmp_path / "runs", enabled=False)
    with root.child("pipeline", {"alpha": 0.8}) as outer, outer.child("score", {}) as inner:
        inner.parameters({"seed": 0})
        inner.metrics({"loss": 1.0}, step=3)
        inner.artifact(tmp_path / "file.txt")
    assert root == outer == inner == Run()
    assert [p.name for p in tmp_path.rglob("*")] == ["file.txt"]


def test_the_null_tracker_lets_errors_through():
    leave(Run(), "null", ValueError("as it is"))


def test_the_store_is_the_one_that_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert store_uri(tmp_path) == "http://127.0.0.1:9"


@pytest.mark.parametrize("uri", [None, "sqlite:////tmp/mlflow.db", "file:///tmp/mlruns", "mlruns"])
def test_beside_an_object_store_there_must_be_a_server(uri, monkeypatch):
    out = place("s3://bucket/runs")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=f"MLFLOW_TRACKING_URI is {uri or 'not set'}: set it to .*, or give --no-track"):
        open_tracker(out, enabled=True)
    assert open_tracker(out, enabled=False) == Run()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert store_uri(out) == "https://mlflow.example"


def test_a_file_on_an_object_store_is_kept_with_its_run(root, client, s3_folder, tmp_path):
    write_json(s3_folder / "card.json", {"samples": 8})
    with root.child("of an object store", {}) as run:
        run.artifact(s3_folder / "card.json")
    kept = client.download_artifacts(run.run_id, "card.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == {"samples": 8}


def test_a_server_that_does_not_answer_is_refused_with_its_address(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9.*--no-tracking"):
        open_tracker(tmp_path, enabled=True)


def test_a_store_that_cannot_be_written_is_refused_with_its_address(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"mlflow\.db.*--no-tracking"):
        open_tracker(tmp_path / "file", enabled=True)
    assert os.listdir(tmp_path) == ["file"]


LEFT_OPEN = """
import os, pathlib, signal, sys
from p2d.tracking.store import open_tracker
with open_tracker(pathlib.Path(sys.argv[1]), True).child("crashes", {}) as parent:
    trial = parent.start("trial", {})
    print(parent.run_id, trial.run_id, flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed_by", ["SIGKILL", "SIGTERM"])
def test_the_runs_of_a_killed_process_do_not_stay_running_and_are_continued(root, client, out, killed_by):
    killed = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, str(out), killed_by], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -getattr(signal, killed_by)
    runs = killed.stdout.split()
    deadline = time.monotonic() + 60
    while {client.get_run(run).info.status for run in runs} != {"KILLED"}:
        assert time.monotonic() < deadline, "they are left RUNNING"
        time.sleep(0.2)
    assert {client.get_run(run).data.tags["p2d.error"] for run in runs} == {"the process was killed"}
    with root.child("crashes", {}) as parent:
        trial = parent.start("trial", {})
        trial.end()
    assert [parent.run_id, trial.run_id] == runs
    assert [client.get_run(run).info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_a_failed_run_is_continued_where_it_is_a_retry_and_only_there(root, client):
    first = root.start("trial 7", {"alpha": 0.5}, key="seven")
    first.end("FAILED", "the loss is nan")
    again = root.start("trial 7", {}, key="seven", retry=True)  # as a trial that is run again
    assert again.run_id == first.run_id
    assert status(client, again) == "RUNNING"
    again.end("FAILED", "the loss is nan")
    assert root.start("trial 7", {}, key="seven").run_id != first.run_id
