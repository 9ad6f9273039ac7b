"""What a sweep leaves in MLflow, without Ray: its trials only say that they have run. tests/cluster has real ones."""

import pytest

from p2d import pipeline
from p2d.cluster import sweeps
from p2d.cluster.trial import Room
from p2d.config import FlowSource, SweepConfig
from p2d.tracking import charts
from tests.evaluate.helpers import linear_field, write_flow

CONFIG = SweepConfig(objective="stationarity", param=("flow.hidden=48,24",), metric="z_rms")
Z_RMS = {"hidden=48": 1.25, "hidden=24": 2.5}


@pytest.fixture
def tried(monkeypatch, snapshots):
    """Trials that are there at once; the one that an error is named for raises it."""
    errors = {}

    def run(sweep, watcher, room):
        rows = []
        for point in sweep.config.points():
            trial = sweep.config.label(point)
            watcher.started(trial, point)
            if trial in errors:
                raise errors[trial]
            write_flow(sweep.trial_folder(trial), snapshots, linear_field([0.0, 0.0], [[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
            values = {"epoch": 1.0, "z_rms": Z_RMS[trial], "seconds": 1.0}
            watcher.reported(trial, values)
            watcher.ended(trial, "FINISHED", "")
            rows.append(sweeps.Row(trial, point, "FINISHED", "", values))
        return rows

    monkeypatch.setattr(sweeps, "start", lambda *_: None)
    monkeypatch.setattr(sweeps, "choose_room", lambda *_: Room(1, 1, 1, 1.0, 0))
    monkeypatch.setattr(sweeps, "run", run)
    return errors


def swept(name, snapshots, kept, keeper):
    source = FlowSource(dataset=str(snapshots.folder), name=name, holdout=0.25)
    return pipeline.sweep(CONFIG, source, kept, lambda: keeper)


def runs_below(store, name):
    """The run of a sweep, and those of its trials by name."""
    [experiment] = [one.experiment_id for one in store.search_experiments() if one.name == "p2d"]
    [parent] = store.search_runs([experiment], f"attributes.run_name = 'sweep {name}'")
    below = store.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, {run.info.run_name: run for run in below}


def test_the_best_trial_s_flow_is_registered_and_the_charts_are_linked(tried, snapshots, kept, keeper, store, capsys):
    swept("both", snapshots, kept, keeper)
    parent, trials = runs_below(store, "both")
    assert {name: run.info.status for name, run in trials.items()} == dict.fromkeys(Z_RMS, "FINISHED")
    for run in (parent, *trials.values()):
        assert [used.dataset.name for used in run.inputs.dataset_inputs] == ["stripes_24x40"]
    best = store.get_model_version_by_alias("p2d-flow-both", "best")
    assert best.run_id == trials["hidden=48"].info.run_id
    [output] = trials["hidden=48"].outputs.model_outputs
    assert ("z_rms", 1.25) in [(m.key, m.value) for m in store.get_logged_model(output.model_id).metrics]
    view = f"{charts.OWN}{parent.info.run_id}"
    assert view in parent.data.tags[charts.NOTE]
    assert charts.TAG + view in store.get_experiment(parent.info.experiment_id).tags
    assert "models:/p2d-flow-both@best" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "KILLED"), (ValueError("out of memory"), "FAILED")])
def test_no_trial_stays_running_when_a_sweep_is_stopped_or_fails(tried, snapshots, kept, keeper, store, error, state):
    tried["hidden=24"] = error
    name = f"left by {type(error).__name__}"
    with pytest.raises(type(error)):
        swept(name, snapshots, kept, keeper)
    parent, trials = runs_below(store, name)
    assert parent.info.status == state
    assert {name: run.info.status for name, run in trials.items()} == {"hidden=48": "FINISHED", "hidden=24": "KILLED"}
