"""How fast this machine does what a run is made of: a few seconds of each, on a small dataset of the same system."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from p2d.config import ModelConfig, RunConfig, ScoreConfig
from p2d.discovery.measuring import choose_measure
from p2d.discovery.moments import Rows
from p2d.pipeline.plan import Rates
from p2d.progress import say
from p2d.recipes import build
from p2d.snapshots.files import write_shard
from p2d.snapshots.simulated import Simulated, simulate_here
from p2d.snapshots.store import Dataset
from p2d.systems import stepping
from p2d.threads import torch_threads
from p2d.training.states import load_data
from p2d.training.workers import Workers

SAMPLES, SIDE, UPDATES = 32, 128, 2e9  # of the small dataset: at most so large, and cell updates to make it
SECONDS = 2.0  # of each measurement


def measure_rates(run: RunConfig, on_gpu: bool, updates: float = 0.0, score: float = 0.0) -> Rates:
    """What one device and one core of this machine do in a second.

    Args:
        on_gpu: the device is a GPU, otherwise a core.
        updates, score: rates that are known, of the device; it is then taken to train a flow by as much faster.
    """
    say("measuring the rates of this machine")
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        return _measured(run, Path(folder), "cuda" if on_gpu and stepping.has_gpu() else "cpu", updates, score)


def _measured(run: RunConfig, folder: Path, device: str, updates: float, score: float) -> Rates:
    whole = run.simulate
    side: dict[str, Any] = {"height": min(whole.height, SIDE), "width": min(whole.width, SIDE)}
    each = SAMPLES * side["height"] * side["width"]
    steps = max(system.run.steps for system in whole.simulation().systems.values())
    small = replace(
        whole,
        **side,
        num_samples=SAMPLES,
        chunk=SAMPLES,
        threads=1,
        device="cpu",
        steps=min(steps, int(UPDATES / each)),
    )
    dataset = simulate_here(small, folder / "data")
    simulation = small.simulation()
    samples = Simulated(simulation).on(device, 1, lambda _: None)
    made = samples(0)
    states = float(made.state.nbytes)
    stored = sum(path.stat().st_size for path in (folder / "data").glob("*.parquet"))
    count = len(simulation.systems)
    measure = choose_measure(made.state, dataset.card.names, dataset.card.grid, run.discover)
    task = Rows(measure)
    own = {config: _training(config, dataset, torch.device(device)) for config in (run.score, run.flow)}
    faster = score / own[run.score] if score else 1.0
    return Rates(
        updates=updates or simulation.updates / count / _seconds(lambda: samples(0)),
        score=own[run.score] * faster,
        flow=own[run.flow] * faster,
        passes=side["height"] * side["width"] / _seconds(lambda: task(0, made.state[0])),
        written=states / _seconds(lambda: write_shard(folder, 0, made)),
        read=states / _seconds(lambda: dataset.states(dataset.living)) * len(dataset.living) / len(made.state),
        ratio=count * states / stored,
    )


def _training(config: ModelConfig, dataset: Dataset, device: torch.device) -> float:
    """Cells a second of gradient steps."""
    data = load_data(dataset, 0.1)
    light = replace(config, compile="off") if isinstance(config, ScoreConfig) else config
    task = build(light, data, dataset.card.grid, dataset.scaling, device, None)
    batch = min(config.batch_size, data.count)
    x, ids = next(iter(data.batches(0, 1, batch, Workers())))

    def step() -> None:
        sums = task(x.to(device), ids, 0)
        task.loss(sums).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return len(x) * x.shape[-2] * x.shape[-1] / _seconds(step)


def _seconds(work: Callable[[], object]) -> float:
    """Of one time, the first left out: it compiles and fills caches."""
    work()
    start, times = time.perf_counter(), 0
    while times < 1 or time.perf_counter() - start < SECONDS:
        work()
        times += 1
    return (time.perf_counter() - start) / times
