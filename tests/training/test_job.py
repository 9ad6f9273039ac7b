"""A training's one object: what its checkpoint says of itself, when it is done already, and that it travels."""

import dataclasses
import pickle

import pytest

from p2d.config import FlowConfig, ScoreConfig, TrainSource
from p2d.errors import UserError
from p2d.score.model import ScoreModel
from p2d.training.checkpoint import write_checkpoint
from p2d.training.job import TrainJob

from ..snapshots.helpers import with_living

SCORE = ScoreConfig(channels=(4,), alpha=(0.5, 0.99))


@pytest.fixture
def job(tmp_path) -> TrainJob:
    dataset = with_living(tmp_path / "patterns", [True] * 20, chunk=10)
    return TrainJob(SCORE, TrainSource(holdout=0.25), dataset, tmp_path / "score" / "a")


def test_it_is_described_by_its_settings_and_its_data(job):
    described = job.description
    assert (described["kind"], described["settings"]) == ("score", SCORE.identity())
    assert described["data"]["dataset_hash"] == job.dataset.card.dataset_hash
    assert described["data"]["holdout"] == 0.25
    assert described["learnt_from"]["dataset"] == "patterns"
    assert "snapshots" not in described["data"], "all are the default, and older checkpoints do not say so"


def test_it_learns_from_those_that_are_not_held_out_or_as_many_as_asked_for(job):
    assert job.training_snapshots == 15
    few = dataclasses.replace(job, source=dataclasses.replace(job.source, snapshots=6))
    assert few.training_snapshots == few.description["data"]["snapshots"] == 6


def test_a_training_free_flow_is_described_with_its_score_model(job, tmp_path):
    write_checkpoint(job.folder, job.description, ScoreModel((4,), (0.5, 0.99)).state_dict())
    for objective, has in (("continuity", False), ("training-free", True)):
        flow = TrainJob(FlowConfig(objective=objective), job.source, job.dataset, tmp_path / "flow", score=job.folder)
        assert len(flow.description["data"]["score"]) == 10
        assert flow.description.get("score") == (SCORE.identity() if has else None)


def test_it_is_done_when_its_folder_holds_this_very_model(job):
    assert not job.is_trained()
    write_checkpoint(job.folder, job.description, {})
    assert job.is_trained()
    assert dataclasses.replace(job, source=dataclasses.replace(job.source, workers=2), beside=3).is_trained()
    with pytest.raises(UserError, match=r"the score model .*a was made with other settings: seed is 0 there, 1 was"):
        dataclasses.replace(job, config=dataclasses.replace(SCORE, seed=1)).is_trained()


def test_only_an_equal_training_goes_on_in_its_storage(job):
    assert job.storage.parent == job.folder.parent
    assert dataclasses.replace(job, here=True, threads=4).storage == job.storage
    other = dataclasses.replace(job, config=dataclasses.replace(SCORE, epochs=3))
    assert other.storage != job.storage


def test_it_travels_to_a_worker_as_it_is(job):
    arrived = pickle.loads(pickle.dumps(job))
    assert (arrived.config, arrived.source, arrived.folder) == (job.config, job.source, job.folder)
    assert arrived.description == job.description
    assert arrived.storage == job.storage
