"""The view of a sweep: which trials, which charts, and where it is kept."""

import json

import pytest

from p2d.tracking import charts
from p2d.tracking.store import pages_of, store_uri


def chart_types(shown):
    return [chart["type"] for chart in shown["charts"]]


def test_the_metric_is_drawn_over_the_first_axis_first():
    shown = charts.of_sweep(["alpha", "sym", "hidden"], "cosine")
    assert chart_types(shown) == ["SCATTER", "SCATTER", "PARALLEL", "CONTOUR", "LINE"]
    first = shown["charts"][0]
    assert (first["xaxis"], first["yaxis"]) == ({"key": "alpha", "type": "PARAM"}, {"key": "cosine", "type": "METRIC"})
    assert shown["charts"][2]["selectedParams"] == ["alpha", "sym", "hidden"]


def test_one_axis_has_no_plane():
    assert chart_types(charts.of_sweep(["hidden"], "z_rms")) == ["SCATTER", "PARALLEL", "LINE"]


@pytest.mark.parametrize(("metric", "ascending"), [("cosine", False), ("z_rms", True)])
def test_the_best_trial_is_the_first(metric, ascending):
    state = charts.state("run-1", charts.of_sweep(["alpha"], metric))
    assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{metric}`", ascending)


def test_it_is_a_view_of_the_experiment_that_shows_the_trials_alone(kept, keeper, store):
    with keeper.child("sweep a", {}) as run:
        run.view("a: cosine of 2 trials", charts.of_sweep(["alpha"], "cosine"))
        with run.child("train-score", {"alpha": "(0.5, 0.9)"}):
            pass
        for alpha in (0.5, 0.9):
            with run.child(f"alpha={alpha}", {"alpha": alpha, "objective": "continuity"}):
                pass
    experiment, views = pages_of(store_uri(kept))
    [(key, name)] = [(key, name) for _, key, name in views if key.endswith(run.run_id)]
    assert name == "a: cosine of 2 trials"
    kept_view = json.loads(store.get_experiment(experiment).tags[charts.TAG + key])
    state = json.loads(kept_view["state"])
    shown = {found.info.run_name for found in store.search_runs([experiment], state["searchFilter"])}
    assert shown == {"alpha=0.5", "alpha=0.9"}
    note = store.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert note == f"[a: cosine of 2 trials]({charts.PATH.format(experiment, key)})"


def test_the_oldest_views_make_room_and_others_stay(kept, keeper, store, monkeypatch):
    monkeypatch.setattr(charts, "MOST", 2)
    experiment, _ = pages_of(store_uri(kept))
    store.set_experiment_tag(experiment, f"{charts.TAG}mine", "{}")
    shown = charts.of_sweep(["alpha"], "cosine")
    for at in (1, 3, 2):
        run = store.create_run(experiment).info.run_id
        charts.save(store, experiment, run, f"view {at}", shown, at * 10**15)
        store.set_terminated(run)
    assert [name for _, _, name in pages_of(store_uri(kept))[1]] == ["view 3", "view 2"]
    assert f"{charts.TAG}mine" in store.get_experiment(experiment).tags
