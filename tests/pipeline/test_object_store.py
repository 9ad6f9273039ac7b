"""Every stage with its output folder on an object store: nothing is left on this machine, and nothing is done twice."""

import os

import pytest

from p2d import pipeline
from p2d.config import (
    DenoiseConfig,
    DiscoverConfig,
    EvaluateConfig,
    FlowConfig,
    FlowSource,
    RolloutConfig,
    RolloutSource,
    SampleConfig,
    ScoreConfig,
    SimulateConfig,
    Source,
    SweepConfig,
    TrainSource,
)
from p2d.snapshots.simulated import simulate_here
from p2d.tracking.store import Run

SIMULATION = SimulateConfig(num_samples=24, height=64, width=64, steps=3000, chunk=8)
NETWORK = {"epochs": 1, "channels": (8, 8)}
FLOW = FlowConfig(epochs=1, hidden=(8,), observables=64)
SWEEP = ("flow.hidden=4", "flow.epochs=1", "flow.observables=64")


def stages(out):
    """Each stage, as its command calls it."""
    source, single = Source("waves_64x64"), {"dataset": "waves_64x64", "workers": 1}
    return {
        "simulate": lambda: pipeline.simulate(SIMULATION, out, Run),
        "train-score": lambda: pipeline.train_score(ScoreConfig(**NETWORK), TrainSource(**single), out, Run),
        "train-flow": lambda: pipeline.train_flow(FLOW, FlowSource(**single), out, Run),
        "discover": lambda: pipeline.discover(DiscoverConfig(bootstrap=2), source, out, Run),
        "evaluate": lambda: pipeline.evaluate(EvaluateConfig(), source, out, Run),
        "sample": lambda: pipeline.sample("waves", SampleConfig(num_samples=4, steps=2), out, Run),
        "denoise": lambda: pipeline.denoise(TrainSource(**single), DenoiseConfig(noise=(0.01,), **NETWORK), out, Run),
        "rollout": lambda: pipeline.rollout(
            RolloutSource(), RolloutConfig(steps=20, frames=2, ensemble=2, animation="gif"), out, Run
        ),
        "sweep": lambda: pipeline.sweep(
            SweepConfig(param=SWEEP, objective="stationarity", scheduler="none"), FlowSource(**single), out, Run
        ),
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_stage_works_on_an_object_store(cluster, no_ray, s3_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, stage in stages(s3_folder).items():
        outcome = stage()
        assert outcome.made, name
        assert str(outcome.where).startswith(str(s3_folder).partition("?")[0]), name
    folder, faults = pipeline.verify("waves", s3_folder, repair=False)
    assert faults == []
    (folder / "shard-00001.parquet").unlink()
    _, faults = pipeline.verify("waves", s3_folder, repair=True)
    assert faults == [], "the lost shard is made again"
    for name, stage in stages(s3_folder).items():
        assert not stage().made, name
    here = simulate_here(SIMULATION, tmp_path / "here")
    assert here.card.dataset_hash == pipeline.simulate(SIMULATION, s3_folder, Run).facts["dataset_hash"]
    assert os.listdir(tmp_path) == ["here"]
    left = {file.relative_to(s3_folder) for file in s3_folder.files()}
    assert {"report/waves/summary.json", "report/waves/rollout/rollout.gif"} <= left
    assert "sweep/waves_stationarity/best/config.json" in left
    assert not [name for name in left if "/." in name and "/tune/" not in name], "no lease, nothing unfinished"
