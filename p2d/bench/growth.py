"""What grows with the number of shards: seconds and memory of all that is done with a dataset as a whole.

Datasets of one-sample shards, ten times as many each time; every line is measured in a process of its own. The exponent
is that of the CPU's seconds over the last ten times: 1 is linear, 0 does not grow.
"""

from __future__ import annotations

import dataclasses
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from p2d.config import SimulateConfig
from p2d.config.bench import BenchGrowthConfig
from p2d.config.simulate import Simulation
from p2d.observables import averages
from p2d.progress import progress
from p2d.snapshots import simulated, writing
from p2d.snapshots.card import Card, load_card
from p2d.snapshots.files import write_shard
from p2d.snapshots.ledger import Ledger
from p2d.snapshots.schema import Samples
from p2d.snapshots.shards import Kind, Shards
from p2d.snapshots.store import Dataset, evenly, open_dataset
from p2d.snapshots.verify import verify
from p2d.threads import in_threads

SIDE = 8  # rows and columns of a snapshot
FEWEST = 100  # shards
SOME = 512  # samples that are read of all
MANY = 1_000_000  # shards of a card that is made in memory alone

Work = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Of one thing that is done: wall time, time of all threads on the CPU, and peak memory."""

    seconds: float
    cpu: float
    mib: float


def simulation_of(count: int) -> Simulation:
    """A simulation whose shards are of one sample each."""
    return SimulateConfig(num_samples=count, height=SIDE, width=SIDE, chunk=1, device="cpu").simulation()


def make(folder: Path, count: int) -> None:
    """Make a dataset of so many one-sample shards, of random states."""
    simulation = simulation_of(count)
    plans = simulated.plan(simulation)

    def written(number: int) -> tuple[int, dict[str, object]]:
        state = np.random.default_rng(number).random((1, len(simulation.species), SIDE, SIDE), dtype=np.float32)
        observed = averages(state, simulation.grid)
        labels = simulated.labels_of(simulation, plans[number])
        return number, write_shard(folder, number, Samples(labels, state, np.ones(1, bool), observed, observed))

    with simulated.writing(simulation, folder) as (card, _), progress("make", count, "shards") as advance:
        ledger = Ledger(count)
        for number, entry in in_threads(written, range(count)):
            ledger.put(number, entry)
            advance(1)
        writing.finish(folder, card, ledger, "cpu", 0.0)


def _unfinished(folder: Path) -> Card:
    return dataclasses.replace(load_card(folder), complete=False)


def _kept(folder: Path) -> Ledger:
    """The shards of an interrupted dataset, each of them checked."""
    card = _unfinished(folder)
    return writing.kept_shards(folder, card, simulated.shard_labels(simulation_of(len(card.shards))))


def _labels(dataset: Dataset) -> object:
    ids = dataset.living
    return dataset.runs(ids), dataset.times(ids)


def _finish(folder: Path) -> Work:
    ledger, card = _kept(folder), _unfinished(folder)
    return lambda: writing.finish(folder, card, ledger, "cpu", 0.0)


def _of(task: Callable[[Dataset], object]) -> Callable[[Path], Work]:
    def prepared(folder: Path) -> Work:
        dataset = open_dataset(folder)
        return lambda: task(dataset)

    return prepared


# What is measured, after what comes before it has been done.
WORK: dict[str, Callable[[Path], Work]] = {
    "nothing": lambda folder: lambda: None,
    "open": lambda folder: lambda: open_dataset(folder),
    "is finished": lambda folder: lambda: simulated.is_finished(simulation_of(len(load_card(folder).shards)), folder),
    "kept shards": lambda folder: lambda: _kept(folder),
    "living, runs, times": _of(_labels),
    "split": _of(lambda dataset: dataset.split(0.1)),
    "512 states": _of(lambda dataset: dataset.states(evenly(dataset.living, SOME))),
    "all states": _of(lambda dataset: dataset.states()),
    "finish": _finish,
    "verify": lambda folder: lambda: verify(folder),
}


def cost_of(name: str, folder: Path) -> Cost:
    """What one of WORK costs in this process."""
    work = WORK[name](folder)
    start, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Cost(seconds, cpu, peak / (2**20 if sys.platform == "darwin" else 2**10))


def measure(config: BenchGrowthConfig, out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """What each of WORK costs by number of shards, in datasets under the output folder that are removed again.

    `mib` is above that of a process that does nothing.

    Also, in the place of shards, `bookkeeping`: seconds to know where 512 of a million samples are.
    """
    out.mkdir(parents=True, exist_ok=True)
    sizes = [FEWEST * 10**n for n in range(10) if FEWEST * 10**n <= config.most]
    costs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in WORK if name != "nothing"}
    fresh = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
    with tempfile.TemporaryDirectory(dir=out) as folder, fresh as pool:
        for size in sizes:
            dataset = Path(folder) / str(size)
            make(dataset, size)
            idle = pool.submit(cost_of, "nothing", dataset).result()
            for name, row in costs.items():
                cost = pool.submit(cost_of, name, dataset).result()
                row[str(size)] = {**vars(cost), "mib": max(0.0, cost.mib - idle.mib)}
    return {**costs, "bookkeeping": {str(MANY): bookkeeping(MANY)}}


def bookkeeping(count: int) -> dict[str, float]:
    """Seconds to know shards, runs and times of 512 samples of so many one-sample shards; no file is read."""
    shards = Shards.empty(count)
    shards.rows[:] = shards.alive[:] = 1
    shards.first_run[:] = np.arange(count)
    shards.kind[:] = 0
    shards.kinds.append(Kind("", 0, (0,), (1,), (1.0,)))
    simulation = simulation_of(1)
    card = Card({}, simulation.species, simulation.grid, 1, shards=shards)
    dataset = Dataset(Path(), card)
    taken = []
    for draw in range(5):
        samples = np.random.default_rng(draw).permutation(dataset.living)[:SOME]
        start = time.perf_counter()
        parts = list(dataset.by_shard(samples))
        runs, times = dataset.runs(samples), dataset.times(samples)
        taken.append(time.perf_counter() - start)
        assert len(parts) == len(runs) == len(times) == SOME
    return {"seconds": float(np.median(taken))}


def print_table(found: dict[str, dict[str, dict[str, float]]], config: BenchGrowthConfig) -> None:
    """The costs as a table on standard output."""
    costs = {name: row for name, row in found.items() if name != "bookkeeping"}
    sizes = list(next(iter(costs.values())))
    table = Table("seconds (on the CPU), MiB", *(f"{int(size):,}" for size in sizes), "exponent")
    for name, row in costs.items():
        cells = [f"{row[size]['seconds']:.2g} ({row[size]['cpu']:.2g}), {row[size]['mib']:.0f}" for size in sizes]
        seconds = [row[size]["cpu"] for size in sizes[-2:]]
        table.add_row(name, *cells, f"{math.log10(seconds[1] / seconds[0]):.2f}" if len(seconds) == 2 else "")
    console = Console(highlight=False, width=120)
    console.print(f"shards of one sample of {SIDE} x {SIDE}", table)
    ((many, cost),) = found["bookkeeping"].items()
    console.print(f"where {SOME} of {int(many):,} samples are: {1000 * cost['seconds']:.2g} ms")
