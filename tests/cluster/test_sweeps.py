"""Sweeps with Ray Tune: what they leave on disk and in MLflow, and what they survive."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from p2d import pipeline
from p2d.cli import main
from p2d.cluster import placement, sweeps, training
from p2d.cluster.placement import Machines, Node
from p2d.config import FlowSource, SimulateConfig, SweepConfig
from p2d.errors import UserError
from p2d.flow.model import Flow
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.tracking.store import EXPERIMENT, Run, open_tracker, store_uri
from p2d.training.history import History
from p2d.training.job import TrainJob

FAST = ("flow.hidden=8", "flow.observables=16", "flow.epochs=2", "flow.batch_size=8")
WIDTHS = SweepConfig(objective="stationarity", param=("flow.hidden=4,8", *FAST[1:]), scheduler="none")
CONTINUITY = SweepConfig(
    alpha=(0.5, 0.9), sym=(0.0, 0.3), param=("flow.epochs=2", "flow.hidden=8", "flow.batch_size=8"), scheduler="none"
)
SOURCE = FlowSource(dataset="solitons", holdout=0.25)
ALONE = dataclasses.replace(SOURCE, workers=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with a dataset and a store; each test's sweep has a name of its own."""
    out = tmp_path_factory.mktemp("runs")
    config = SimulateConfig(preset=("pulsating_solitons",), num_samples=24, height=32, width=32, steps=1000, chunk=8)
    simulate_here(config, out / "data" / "solitons_32x32")
    return out


@pytest.fixture(scope="module")
def root(out):
    return open_tracker(out, enabled=True)


@pytest.fixture(scope="module")
def client(out, root):
    return MlflowClient(tracking_uri=store_uri(out), registry_uri=store_uri(out))


def swept(config, out, name, root=None, **source):
    """What --json tells of a sweep."""
    track = (lambda: Run()) if root is None else (lambda: root)
    return pipeline.sweep(config, dataclasses.replace(SOURCE, name=name, **source), out, track).facts


def runs_of(client, name):
    """The run of a sweep, and those of its trials by name."""
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    every = client.search_runs([experiment], max_results=500)
    (parent,) = [run for run in every if run.info.run_name == f"sweep {name}"]
    below = [run for run in every if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    trials = {run.info.run_name: run for run in below if not run.info.run_name.startswith("train-score")}
    assert len(trials) == len([run for run in below if not run.info.run_name.startswith("train-score")])
    return parent, trials


@pytest.fixture(scope="module")
def continuity(cluster, out, root):
    """A sweep of two signal levels and two weights, with a score model that is trained on the way."""
    return swept(CONTINUITY, out, "continuity", root)


@pytest.mark.slow
def test_every_point_of_the_grid_is_a_trial_that_comes_to_its_end(continuity):
    settings = [(t["settings"]["alpha"], t["settings"]["sym"]) for t in continuity["trials"]]
    assert sorted(settings) == [("0.5", "0"), ("0.5", "0.3"), ("0.9", "0"), ("0.9", "0.3")]
    assert {t["state"] for t in continuity["trials"]} == {"FINISHED"}
    assert {t["values"]["epoch"] for t in continuity["trials"]} == {2}


@pytest.mark.slow
def test_all_trials_share_one_score_model_which_is_trained_once(continuity, out):
    assert [p.parent.name for p in (out / "score").glob("*/config.json")] == ["solitons"]
    hashes = {
        json.loads((out / "sweep" / "continuity" / "trials" / t["trial"] / "config.json").read_text())["data"]["score"]
        for t in continuity["trials"]
    }
    assert len(hashes) == 1
    seconds, scored = continuity["seconds"], History.load(out / "score" / "solitons").seconds
    assert seconds["score_models"] == pytest.approx(scored)
    assert seconds["score_in_each_trial"] == pytest.approx(seconds["trials"] + 4 * scored)


@pytest.mark.slow
def test_the_best_is_the_trial_of_the_highest_cosine_and_its_flow_is_kept(continuity, out):
    folder = out / "sweep" / "continuity"
    best = max(continuity["trials"], key=lambda t: t["values"]["cosine"])
    assert continuity["metric"] == "cosine"
    assert continuity["best"] == best
    kept, own = (load_file(p / "model.safetensors") for p in (folder / "best", folder / "trials" / best["trial"]))
    assert all(torch.equal(kept[key], own[key]) for key in own)
    Flow.load(folder / "best")
    assert not [p for p in folder.rglob(".*") if "tune" not in p.parts], "nothing half-made is left"


@pytest.mark.slow
def test_a_trial_trains_the_flow_that_train_flow_trains(continuity, out):
    trial = continuity["trials"][-1]
    point = {"flow." + k: v for k, v in trial["settings"].items()}
    source = dataclasses.replace(SOURCE, name="alone", score="solitons", cpus_per_worker=1)
    where = pipeline.train_flow(CONTINUITY.flow(point), source, out, lambda: Run()).where
    alone = load_file(where / "model.safetensors")
    swept_one = load_file(out / "sweep" / "continuity" / "trials" / trial["trial"] / "model.safetensors")
    assert all(torch.equal(alone[key], swept_one[key]) for key in alone)


@pytest.mark.slow
def test_mlflow_holds_a_run_for_each_trial_under_that_of_the_sweep(continuity, client):
    parent, trials = runs_of(client, "continuity")
    assert set(trials) == {"alpha=0.5 sym=0", "alpha=0.5 sym=0.3", "alpha=0.9 sym=0", "alpha=0.9 sym=0.3"}
    assert {run.info.status for run in (parent, *trials.values())} == {"FINISHED"}
    run = trials["alpha=0.9 sym=0.3"]
    assert (run.data.params["alpha"], run.data.params["sym"], run.data.params["epochs"]) == ("0.9", "0.3", "2")
    for key in ("cosine", "z_rms", "validation_loss", "seconds"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, key)] == [0, 1, 2], key
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"losses.png", "velocity.png"}
    there = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert there == {"heat_map.png", "curves.png", "parallel.png", "trials.csv", "sweep.json"}
    assert parent.data.metrics["finished"] == 4
    assert parent.data.metrics["best_cosine"] == pytest.approx(continuity["best"]["values"]["cosine"])
    assert {used.dataset.name for run in trials.values() for used in run.inputs.dataset_inputs} == {"solitons_32x32"}
    assert parent.info.run_id in parent.data.tags["mlflow.note.content"], "no link to the charts"


@pytest.mark.slow
def test_the_best_flow_of_a_sweep_is_registered(continuity, client):
    _, trials = runs_of(client, "continuity")
    best = client.get_model_version_by_alias("p2d-flow-continuity", "best")
    assert best.run_id == trials[continuity["best"]["trial"].replace("_", " ")].info.run_id
    [output] = client.get_run(best.run_id).outputs.model_outputs
    measured = {metric.key: metric.value for metric in client.get_logged_model(output.model_id).metrics}
    assert measured["cosine"] == pytest.approx(continuity["best"]["values"]["cosine"])


@pytest.mark.slow
def test_the_table_has_a_row_for_each_trial(continuity, out):
    with (out / "sweep" / "continuity" / "trials.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    told = {(t["settings"]["alpha"], t["settings"]["sym"]): t["values"] for t in continuity["trials"]}
    assert {(row["alpha"], row["sym"]) for row in rows} == set(told)
    for row in rows:
        assert float(row["cosine"]) == pytest.approx(told[row["alpha"], row["sym"]]["cosine"])
        assert (row["state"], row["error"]) == ("FINISHED", "")


@pytest.mark.slow
def test_a_finished_sweep_is_not_done_again_and_not_with_other_settings(continuity, out):
    source = dataclasses.replace(SOURCE, name="continuity")
    again = pipeline.sweep(CONTINUITY, source, out, lambda: pytest.fail("there is nothing to track"))
    assert (again.made, again.facts) == (False, continuity)
    told = r"was made with other settings: axes\.flow\.alpha is .*0\.9.* there, .*0\.8.* was asked"
    with pytest.raises(UserError, match=told):
        pipeline.sweep(dataclasses.replace(CONTINUITY, alpha=(0.5, 0.8)), source, out, lambda: Run())


@pytest.mark.slow
def test_levels_that_the_score_model_does_not_know_are_refused_before_training(continuity, out):
    with pytest.raises(UserError, match=r"alpha = 0.3 is not what .*solitons was trained for, which is 0.5 to 0.999"):
        swept(SweepConfig(alpha=(0.3, 0.8)), out, "levels")
    assert not (out / "sweep" / "levels").exists()


@pytest.mark.slow
def test_a_score_model_for_each_level_is_trained_once_for_each(continuity, cluster, out):
    param = ("flow.epochs=1", "flow.hidden=4", "score.epochs=1", "score.channels=4")
    config = SweepConfig(alpha=(0.6, 0.9), sym=(0.3,), param=param, score_per_alpha=True, scheduler="none")
    found = swept(config, out, "each")
    made = sorted((out / "sweep" / "each" / "score").iterdir())
    levels = [json.loads((p / "config.json").read_text())["settings"]["alpha"] for p in made]
    assert levels == [[0.6], [0.9]]
    assert {t["state"] for t in found["trials"]} == {"FINISHED"}


def test_a_failing_combination_is_recorded_and_does_not_end_the_sweep(cluster, out, root, client):
    config = dataclasses.replace(WIDTHS, param=("data.snapshots=8,500", *FAST))
    found = swept(config, out, "failing", root)
    states = {t["settings"]["snapshots"]: (t["state"], t["error"]) for t in found["trials"]}
    assert states["8"] == ("FINISHED", "")
    assert states["500"][0] == "FAILED"
    assert states["500"][1].startswith("snapshots = 500 is more than the ")
    _, trials = runs_of(client, "failing")
    assert {name: run.info.status for name, run in trials.items()} == {
        "snapshots=8": "FINISHED",
        "snapshots=500": "FAILED",
    }
    assert trials["snapshots=500"].data.tags["p2d.error"] == states["500"][1]
    assert found["best"]["settings"]["snapshots"] == "8"


@pytest.mark.slow
def test_a_sweep_of_which_every_trial_fails_says_why_and_can_be_run_again(cluster, out):
    config = dataclasses.replace(WIDTHS, param=("data.snapshots=500", *FAST))
    for _ in range(2):
        with pytest.raises(UserError, match=r"of 1 trials none has come to its end: snapshots = 500 is more than"):
            swept(config, out, "hopeless")


@pytest.mark.slow
def test_trials_that_fall_behind_are_stopped_early_and_are_killed_in_mlflow(cluster, out, root, client):
    # One after the other: the clearer the level the larger the residual, so that all after the first fall behind.
    config = SweepConfig(
        alpha=(0.5, 0.9),
        param=("flow.epochs=4", "flow.hidden=8", "flow.batch_size=8"),
        metric="validation_loss",
        max_concurrent=1,
    )
    found = swept(config, out, "early", root)
    epochs = {t["settings"]["alpha"]: (t["state"], t["values"]["epoch"]) for t in found["trials"]}
    assert epochs == {"0.5": ("FINISHED", 4), "0.9": ("KILLED", 1)}
    assert found["best"]["settings"]["alpha"] == "0.5"
    _, trials = runs_of(client, "early")
    assert {name: run.info.status for name, run in trials.items()} == {
        "alpha=0.5": "FINISHED",
        "alpha=0.9": "KILLED",
    }
    assert trials["alpha=0.9"].data.tags["p2d.error"] == "stopped early: others were ahead"


def trial_processes():
    """The trials of this process's own cluster."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::ImplicitFunc") and os.getpid() in {p.pid for p in process.parents()}:
            found.append(process)
    return found


@pytest.mark.slow
def test_a_killed_trial_goes_on_from_its_checkpoint_in_the_same_run(cluster, out, root, client):
    config = SweepConfig(
        objective="stationarity", param=("flow.epochs=20", *FAST[:2], "flow.batch_size=8"), scheduler="none"
    )
    dataset = open_dataset(out / "data" / "solitons_32x32")
    job = TrainJob(config.flow(config.points()[0]), ALONE, dataset, out / "flow" / "undisturbed", here=True)
    training.train(job, lambda epoch, model: None)

    def kill_once():
        storage = out / "sweep" / "disturbed" / "trials"
        while True:
            for history in storage.glob(".*/checkpoint/history.json"):
                if len(json.loads(history.read_text() or "[]")) > 3:
                    for process in trial_processes():
                        process.kill()
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    disturbed = swept(config, out, "disturbed", root)
    killer.join(timeout=1)
    assert not killer.is_alive(), "no trial was killed"
    trial = out / "sweep" / "disturbed" / "trials" / disturbed["best"]["trial"]
    one, two = (load_file(folder / "model.safetensors") for folder in (job.folder, trial))
    assert all(torch.equal(one[key], two[key]) for key in one)
    _, trials = runs_of(client, "disturbed")
    (run,) = trials.values()
    assert run.info.status == "FINISHED"
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "z_rms")]
    assert sorted(set(steps)) == list(range(21))


ONE = dataclasses.replace(WIDTHS, param=("flow.hidden=8", "flow.observables=48", "flow.epochs=1"))


@pytest.fixture(scope="module")
def loss_here(cluster, out):
    """The loss of the flow of ONE, trained in this process with the states in memory."""
    dataset = open_dataset(out / "data" / "solitons_32x32")
    job = TrainJob(ONE.flow(ONE.points()[0]), ALONE, dataset, out / "flow" / "here", here=True)
    training.train(job, lambda epoch, model: None)
    return History.load(job.folder).last.validation_loss


def loss_of(facts):
    (trial,) = facts["trials"]
    return trial["values"]["validation_loss"]


@pytest.mark.slow
def test_two_workers_train_inside_a_trial(loss_here, cluster, out):
    assert loss_of(swept(ONE, out, "two_workers", workers=2)) == pytest.approx(loss_here, rel=1e-4)


@pytest.mark.slow
def test_states_that_do_not_fit_are_streamed_inside_trials(loss_here, cluster, out):
    assert loss_of(swept(ONE, out, "streamed", memory=1e-6)) == pytest.approx(loss_here, rel=1e-12)


@pytest.mark.slow
def test_optuna_proposes_as_many_trials_as_asked_for(cluster, out):
    pytest.importorskip("optuna")
    param = ("flow.learning_rate=1e-4..1e-2:log", "flow.hidden=4,8", "flow.observables=16", "flow.epochs=1")
    config = SweepConfig(objective="stationarity", param=param, search="optuna", samples=2, scheduler="none")
    found = swept(config, out, "optuna")
    assert len(found["trials"]) == 2
    assert {t["state"] for t in found["trials"]} == {"FINISHED"}
    assert all(1e-4 <= float(t["settings"]["learning_rate"]) <= 1e-2 for t in found["trials"])


SWEEP = ["sweep", "-m", "solitons", "--objective", "stationarity", "--scheduler", "none", "--name", "killed"]
SWEEP += ["--max-concurrent", "1", "--holdout", "0.25"]
for text in ("flow.hidden=4,8", "flow.observables=16", "flow.epochs=40"):
    SWEEP += ["--param", text]


@pytest.mark.slow
def test_a_sweep_whose_driver_is_killed_goes_on_and_runs_no_finished_trial_again(cluster, out, root, client, capsys):
    command = [sys.executable, "-m", "p2d.cli", *SWEEP, "--out", str(out)]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    trials = out / "sweep" / "killed" / "trials"
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as driver:
        deadline = time.monotonic() + 200
        while not list(trials.glob("*/config.json")) or not list(trials.glob(".*/checkpoint")):
            assert driver.poll() is None, driver.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
    psutil.wait_procs(below, timeout=30)
    made = {p: p.stat().st_mtime_ns for p in trials.glob("*/model.safetensors")}
    _, before = runs_of(client, "killed")
    deadline = time.monotonic() + 60
    while "RUNNING" in {run.info.status for run in (parent_of(client), *runs_of(client, "killed")[1].values())}:
        assert time.monotonic() < deadline, "runs are left RUNNING"
        time.sleep(0.5)
    capsys.readouterr()
    main([*command[3:], "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [t["state"] for t in found["trials"]] == ["FINISHED"] * 2
    assert len(made) == 1
    assert {p: p.stat().st_mtime_ns for p in made} == made, "finished trials are as they were"
    parent, after = runs_of(client, "killed")
    assert {run.info.status for run in (parent, *after.values())} == {"FINISHED"}
    assert all(after[name].info.run_id == run.info.run_id for name, run in before.items()), "no second run is opened"


def parent_of(client):
    return runs_of(client, "killed")[0]


# What fits, without a cluster


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many CPUs and GPUs, as Ray would tell."""

    def of(cpus, gpus=0):
        monkeypatch.setattr(placement, "machines", lambda: Machines((Node(cpus, gpus),)))

    return of


GRID = SweepConfig(alpha=(0.5, 0.8, 0.9), sym=(0.0, 0.1))


@pytest.mark.parametrize(
    ("cpus", "gpus", "source", "concurrent", "expected"),
    [
        (2, 0, {}, 0, (2, 1, 1)),
        (1, 0, {}, 0, (1, 1, 1)),
        (2, 0, {}, 1, (1, 1, 2)),
        (2, 0, {"workers": 2}, 0, (1, 2, 1)),
        (2, 0, {"cpus_per_worker": 2}, 0, (1, 1, 2)),
        (64, 0, {}, 0, (6, 1, 10)),
        (64, 4, {}, 0, (4, 1, 16)),
        (64, 4, {"workers": 2}, 0, (2, 2, 16)),
    ],
)
def test_as_many_trials_run_at_a_time_as_fit(machine, cpus, gpus, source, concurrent, expected):
    machine(cpus, gpus)
    config = dataclasses.replace(GRID, max_concurrent=concurrent)
    room = sweeps.choose_room(config, FlowSource(**source))
    assert (room.trials, room.workers, room.threads, room.gpus) == (*expected, int(gpus > 0))
    assert 0 < room.trials * room.workers * room.cpus < cpus, "something is left for Ray's own tasks"


@pytest.mark.parametrize(
    ("source", "concurrent", "told"),
    [
        ({"workers": 3}, 0, "a trial of 3 workers of 1 CPUs does not fit the 2 CPUs here"),
        ({"cpus_per_worker": 4}, 0, "a trial of 1 workers of 4 CPUs does not fit the 2 CPUs here"),
        ({}, 8, "max_concurrent = 8 is more than the 2 trials that fit here"),
    ],
)
def test_trials_that_do_not_fit_are_refused(machine, source, concurrent, told):
    machine(2)
    with pytest.raises(UserError, match=told):
        sweeps.choose_room(dataclasses.replace(GRID, max_concurrent=concurrent), FlowSource(**source))


def test_a_store_that_does_not_answer_ends_the_sweep_before_it_starts(out, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"MLflow does not answer at http://127\.0\.0\.1:9"):
        pipeline.sweep(WIDTHS, dataclasses.replace(SOURCE, name="dumb"), out, lambda: open_tracker(tmp_path, True))
    assert not (out / "sweep" / "dumb").exists()
