"""The order of a run: the equation before what takes longest, and of --quick nothing else."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from p2d.config import FlowConfig, RunConfig, ScoreConfig, SimulateConfig
from p2d.tracking.store import Run

module = importlib.import_module("p2d.pipeline.run")
STAGES = ("simulate", "discover", "train_flow", "train_score", "evaluate", "sample", "report")


@pytest.fixture
def order(monkeypatch):
    """The names of the stages that run, in their order."""
    called = []
    for name in STAGES:
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: called.append(name))

    def of(config: RunConfig, quick: bool = False) -> list[str]:
        called.clear()
        for stage in module._stages(config, "waves", Path("runs"), Run, quick).values():
            stage()
        return list(called)

    return of


def test_the_equation_comes_first_and_the_models_follow(order):
    assert order(RunConfig()) == list(STAGES)


def test_a_quick_run_is_the_equation_and_its_page(order):
    assert order(RunConfig(), quick=True) == ["simulate", "discover", "evaluate", "report"]
    assert order(RunConfig(dataset="plates"), quick=True) == ["discover", "evaluate", "report"]


def test_a_flow_that_begins_with_a_score_model_comes_after_it(order):
    called = order(RunConfig(flow=FlowConfig(objective="continuity")))
    assert called[:4] == ["simulate", "discover", "train_score", "train_flow"]


@pytest.mark.parametrize("score", [ScoreConfig(alpha=(0.8,)), ScoreConfig(sampling=0.0)])
def test_a_score_model_that_knows_no_noisier_levels_is_not_sampled(order, score):
    assert "sample" not in order(RunConfig(score=score))


def test_a_quick_run_has_few_snapshots_under_a_name_of_their_own():
    quick = RunConfig().quickened()
    assert quick.simulate.num_samples < RunConfig().simulate.num_samples
    assert quick.source().dataset == "waves_quick_128x128" != RunConfig().source().dataset
    assert replace(quick, simulate=SimulateConfig()) == RunConfig()


def test_a_quick_run_keeps_what_is_asked_for():
    asked = SimulateConfig(preset=("maze",), num_samples=40, name="mine")
    assert RunConfig(simulate=asked).quickened().simulate == asked
    assert RunConfig(dataset="plates").quickened() == RunConfig(dataset="plates")
