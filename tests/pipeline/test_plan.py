"""A plan is arithmetic: known numbers for known rates, and the work that holds each stage up."""

import json
from dataclasses import replace

import pytest

from p2d.cli import main
from p2d.config import PlanConfig, RunConfig, SimulateConfig
from p2d.errors import UserError
from p2d.pipeline.plan import Machines, Rates, plan, plan_run

# 1,000 snapshots of 2 species on 64 x 64, 4,096,000 cells and 32,768,000 bytes, in 10 shards of 100.
RUN = RunConfig(simulate=SimulateConfig(num_samples=1000, height=64, width=64, steps=5000, chunk=100))
CELLS, BYTES = 1000 * 64 * 64, 1000 * 64 * 64 * 2 * 4
MACHINES = Machines(nodes=2, cpus=4, gpus=0, memory=8e9)
RATES = Rates(updates=1e9, score=1e6, flow=2e6, passes=1e5, written=1e8, read=1e9, ratio=2.0)


def stage(name, run=RUN, machines=MACHINES, rates=RATES):
    return next(stage for stage in plan_run(run, machines, rates).stages if stage.stage == name)


def test_a_simulation_takes_its_updates_over_the_cores():
    simulate = stage("simulate")
    assert simulate.works == {"simulation": CELLS * 5000 / 8e9, "writing": BYTES / 8e8}
    assert simulate.bytes == BYTES / 2
    assert (simulate.bound, simulate.seconds) == ("simulation", 2.56)
    assert plan_run(RUN, MACHINES, RATES).shards == 10


def test_more_devices_than_shards_do_not_help_a_simulation():
    many = replace(MACHINES, nodes=100)
    assert stage("simulate", machines=many).works["simulation"] == CELLS * 5000 / 10e9


def test_gpus_simulate_and_train_and_cores_write():
    gpus = replace(MACHINES, gpus=1)
    assert stage("simulate", machines=gpus).works == {"simulation": CELLS * 5000 / 2e9, "writing": BYTES / 8e8}
    assert stage("train-score", machines=gpus).works["training"] == pytest.approx(16 * 0.9 * CELLS / 2e6)


def test_a_training_has_no_more_workers_than_snapshots_in_a_batch():
    batch = RUN.score.batch_size
    huge = replace(MACHINES, nodes=64)
    assert stage("train-score", machines=huge).works["training"] == pytest.approx(16 * 0.9 * CELLS / (1e6 * batch))


def test_what_does_not_fit_the_memory_is_read_again_in_every_epoch():
    fits = stage("train-score").works["reading"]
    small = replace(MACHINES, memory=BYTES / 10)
    streams = stage("train-score", machines=small)
    assert streams.works["reading"] == pytest.approx(16 * fits)
    assert streams.memory == 0.25 * small.memory


def test_a_slow_storage_holds_up_what_passes_through_it():
    slow = replace(MACHINES, bandwidth=1e4)
    whole = plan_run(RUN, slow, RATES)
    assert [stage.bound for stage in whole.stages][:1] == ["storage"]
    assert stage("discover", machines=slow).works["storage"] == 4 * BYTES / 2 / 1e4
    assert whole.bottleneck.stage == "discover" and "bottleneck: discover, storage" in str(whole)


def test_the_plan_as_json_has_every_stage_and_their_sum():
    told = plan_run(RUN, MACHINES, RATES).to_dict()
    assert json.dumps(told)
    assert list(told["stages"]) == ["simulate", "discover", "train-flow", "train-score", "evaluate", "sample"]
    assert told["seconds"] == pytest.approx(sum(stage["seconds"] for stage in told["stages"].values()))


def test_rates_of_gpus_that_are_not_here_must_be_given(monkeypatch):
    monkeypatch.setattr("p2d.systems.stepping.has_gpu", lambda: False)
    with pytest.raises(UserError, match="rates of a GPU cannot be measured here; give --updates-per-second"):
        plan(PlanConfig(gpus=8))


def test_the_grid_is_that_of_both_sides():
    sized = PlanConfig(grid=256).planned.simulate
    assert (sized.height, sized.width) == (256, 256)


@pytest.mark.slow
def test_a_plan_is_made_from_rates_measured_here(capsys):
    main(["plan", "--samples", "1_000", "--grid", "64", "--steps", "200", "--nodes", "4", "--cpus", "8", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["snapshots"] == 1000 and told["machines"]["nodes"] == 4
    assert all(rate > 0 for rate in told["rates"].values())
