"""Datasets as MLflow keeps them: runs are searched by them, and they lead back to their folder."""

import json
from dataclasses import replace

import pytest
from mlflow.data import get_source

from p2d.fields import Grid
from p2d.systems.reading import load_system
from p2d.tracking import datasets
from p2d.tracking.store import Run
from tests.evaluate.helpers import dataset_of, patterns


def test_runs_are_searched_by_a_dataset_and_what_it_was_to_them(keeper, store, kept):
    snapshots = dataset_of(patterns(4, 24, 40, seed=1), kept / "data" / "others_24x40")
    with keeper.child("learns", {}) as learns, learns.child("is measured", {}) as measured:
        learns.dataset(snapshots)
        measured.dataset(snapshots, datasets.EVALUATION)
        measured.dataset(snapshots, datasets.EVALUATION)  # as a run that is continued
    experiment = store.get_run(learns.run_id).info.experiment_id

    def names(words):
        return {run.info.run_name for run in store.search_runs([experiment], words)}

    assert names("dataset.name = 'others_24x40'") == {"learns", "is measured"}
    assert names("dataset.name = 'others_24x40' AND dataset.context = 'evaluation'") == {"is measured"}
    assert names(f"dataset.digest = '{snapshots.card.dataset_hash}'") == {"learns", "is measured"}
    assert names("tags.`p2d.dataset` = 'others_24x40' AND tags.`p2d.edges` = 'periodic'") == {"learns", "is measured"}
    [used] = store.get_run(measured.run_id).inputs.dataset_inputs
    assert json.loads(used.dataset.schema)["mlflow_tensorspec"]["features"].count("[-1, 2, 24, 40]") == 1
    assert get_source(used.dataset).load() == str(snapshots.folder)


def test_its_profile_says_what_the_snapshots_are(snapshots):
    profile = json.loads(datasets.described(snapshots)["profile"])
    told = {key: profile[key] for key in ("snapshots", "height", "width", "edges", "origin")}
    assert told == {"snapshots": 8, "height": 24, "width": 40, "edges": "periodic", "origin": "generated"}
    assert list(profile["species"]) == ["u", "v"]


@pytest.mark.parametrize(
    ("edges", "told"), [(("mirror", "mirror"), "mirror"), (("open", "periodic"), "open x periodic")]
)
def test_tags_name_system_preset_and_edges(tmp_path, edges, told):
    system = load_system("gray-scott").at("waves")
    dataset = dataset_of(patterns(4, 8, 8), tmp_path / "few", system, Grid((8, 8), edges=edges))
    assert datasets.tags_of(dataset) == {
        "p2d.dataset": "few",
        "p2d.system": system.name,
        "p2d.preset": "waves",
        "p2d.edges": told,
    }


def test_one_on_an_object_store_is_named_by_its_uri(snapshots, s3_folder):
    described = datasets.described(replace(snapshots, folder=s3_folder / "data"))
    assert described["source_type"] == "s3"
    assert json.loads(described["source"]) == {"uri": f"s3://{s3_folder.key}/data"}


def test_without_tracking_nothing_is_described(snapshots):
    Run().dataset(snapshots)
    Run().model("flow", snapshots.folder, snapshots, {})
    Run().view("sweep", {})
