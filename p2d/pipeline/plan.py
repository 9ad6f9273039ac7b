"""What a run comes to before it is run: shards, bytes, time and memory of every stage, and what holds it up."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from p2d.config import RunConfig, SampleConfig
from p2d.config.plan import PlanConfig
from p2d.errors import UserError
from p2d.evaluate.tables import table_text
from p2d.memory import memory_limit
from p2d.pipeline.discover import PASSES
from p2d.snapshots.simulated import plan as shard_plans
from p2d.systems import stepping

EVALUATED = 3  # passes over the held-out snapshots: the truth, a flow, an equation
COPIES = 4  # of a shard while it is made or read: states, their table, its pages, and those of the shard before
KEPT = 0.25  # share of the memory that snapshots may fill; more are streamed
PARTS = 8  # that a run's samples are made in
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Machines:
    """So many nodes, with what each has.

    Attributes:
        memory: bytes of each.
        bandwidth: bytes a second of the storage that all share; 0 where it holds nobody up.
    """

    nodes: int
    cpus: int
    gpus: int
    memory: float
    bandwidth: float = 0.0

    @property
    def devices(self) -> int:
        """What simulates and trains: GPUs where there are some, otherwise cores."""
        return self.nodes * (self.gpus or self.cpus)

    @property
    def cores(self) -> int:
        """Of all nodes."""
        return self.nodes * self.cpus


@dataclass(frozen=True)
class Rates:
    """What one device or core does in a second.

    Attributes:
        updates: cell updates of a device.
        score, flow: cells that a device trains on.
        passes: cells that a core measures for an equation.
        written, read: bytes of states that a core compresses and writes, or reads.
        ratio: bytes of states over those on the disk.
    """

    updates: float
    score: float
    flow: float
    passes: float
    written: float
    read: float
    ratio: float


@dataclass(frozen=True)
class StagePlan:
    """A stage: seconds of each of its works, which go on at the same time, bytes on the disk, and memory a node."""

    stage: str
    works: dict[str, float]
    bytes: float
    memory: float

    @property
    def bound(self) -> str:
        """The work that takes longest."""
        return max(self.works, key=lambda work: self.works[work])

    @property
    def seconds(self) -> float:
        """Of that work."""
        return self.works[self.bound]


@dataclass(frozen=True)
class Plan:
    """A run on these machines."""

    snapshots: int
    shards: int
    machines: Machines
    rates: Rates
    stages: tuple[StagePlan, ...]

    @property
    def bottleneck(self) -> StagePlan:
        """The stage that takes longest."""
        return max(self.stages, key=lambda stage: stage.seconds)

    def to_dict(self) -> dict[str, Any]:
        """As --json prints it."""
        stages = {s.stage: {**asdict(s), "seconds": s.seconds, "bound": s.bound} for s in self.stages}
        whole = {"bottleneck": f"{self.bottleneck.stage}: {self.bottleneck.bound}"}
        return {**asdict(self), "stages": stages, "seconds": sum(s.seconds for s in self.stages), **whole}

    def __str__(self) -> str:
        rows = [(s.stage, _time(s.seconds), _size(s.bytes), _size(s.memory), s.bound) for s in self.stages]
        rows.append(
            ("all", _time(sum(s.seconds for s in self.stages)), _size(sum(s.bytes for s in self.stages)), "", "")
        )
        machines, rates = self.machines, self.rates
        device = "GPU" if machines.gpus else "core"
        what = f"{machines.gpus} GPUs and {machines.cpus} cores" if machines.gpus else f"{machines.cpus} cores"
        return (
            f"{self.snapshots:,} snapshots in {self.shards:,} shards, {machines.nodes} nodes of {what}\n"
            f"a {device}: {rates.updates:.3g} cell updates/s, {rates.score:.3g} and {rates.flow:.3g} cells/s of "
            f"training; a core: {rates.passes:.3g} cells/s of discovery, writes {_size(rates.written)}/s, reads "
            f"{_size(rates.read)}/s; {rates.ratio:.2g} times compressed\n\n"
            f"{table_text(('stage', 'time', 'on disk', 'memory a node', 'held up by'), rows)}\n"
            f"bottleneck: {self.bottleneck.stage}, {self.bottleneck.bound}"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def plan(config: PlanConfig) -> Plan:
    """The plan of a run; rates that are not given are measured here.

    Raises:
        UserError: of a dataset that is there, or rates of a GPU that are neither given nor can be measured here.
    """
    from p2d.pipeline.rates import measure_rates

    if config.run.dataset:
        raise UserError("--dataset is of p2d run: a plan begins with a simulation; give --num-samples and its size")
    given = (config.updates_per_second, config.cells_per_second)
    if config.gpus and not all(given) and not stepping.has_gpu():
        raise UserError(
            "the rates of a GPU cannot be measured here; give --updates-per-second (3.5e10 on an H100, all told) "
            "and --cells-per-second (2e6 in batches of 4, 2e7 of 64)"
        )
    machines = Machines(
        config.nodes,
        config.cpus or os.cpu_count() or 1,
        config.gpus,
        config.memory * 2**30 or memory_limit(),
        config.bandwidth * 1e9,
    )
    return plan_run(config.planned, machines, measure_rates(config.planned, bool(config.gpus), *given))


def plan_run(run: RunConfig, machines: Machines, rates: Rates) -> Plan:
    """What a run comes to on these machines at these rates: arithmetic alone."""
    simulation = run.simulate.simulation()
    shards = shard_plans(simulation)
    snapshots = run.simulate.num_samples * len(simulation.systems)
    height, width = simulation.grid.shape
    cells = height * width
    states = float(snapshots * cells * len(simulation.species) * FLOAT)  # bytes
    shard = states / len(shards)
    held = max(1, round(run.holdout * snapshots))

    def stored(share: float) -> dict[str, float]:
        """Seconds that this share of the dataset takes on its way to or from the storage."""
        return {"storage": share * states / rates.ratio / machines.bandwidth} if machines.bandwidth else {}

    def reading(share: float) -> dict[str, float]:
        return {"reading": share * states / rates.read / machines.cores, **stored(share)}

    def training(stage: str, rate: float, passes: int, batch: int) -> StagePlan:
        workers = min(machines.devices, batch)
        each = (snapshots - held) / snapshots * states / min(machines.nodes, workers)
        room = KEPT * machines.memory
        reads = 1 if each <= room else max(passes, 1)  # those that do not fit are read again in every epoch
        work = max(passes, 1) * (snapshots - held) * cells / (rate * workers)
        return StagePlan(stage, {"training": work, **reading(reads)}, 0.0, min(each, room))

    making = {
        "simulation": simulation.updates / (rates.updates * min(machines.devices, len(shards))),
        "writing": states / rates.written / machines.cores,
        **stored(1.0),
    }
    on_each = min(machines.gpus or machines.cpus, -(-len(shards) // machines.nodes))
    score, flow = run.score, run.flow
    patterns = SampleConfig()
    forwards = patterns.num_samples * (2 * patterns.steps - 1)  # of the network, each a third of a training step
    sampling = StagePlan(
        "sample", {"sampling": forwards * cells / (3 * rates.score * min(machines.devices, PARTS))}, 0.0, 0.0
    )
    passing = cells / (rates.passes * min(machines.cores, len(shards)))
    memory = machines.cpus * COPIES * shard
    return Plan(
        snapshots,
        len(shards),
        machines,
        rates,
        (
            StagePlan("simulate", making, states / rates.ratio, on_each * 2 * COPIES * shard),
            StagePlan(
                "discover",
                {"passes": PASSES * (snapshots - held) * passing, **reading(PASSES)},
                0.0,
                memory,
            ),
            training("train-flow", rates.flow, flow.passes, flow.batch_size),
            training("train-score", rates.score, score.passes, score.batch_size),
            StagePlan(
                "evaluate",
                {"passes": EVALUATED * held * passing, **reading(EVALUATED * held / snapshots)},
                0.0,
                memory,
            ),
            *([sampling] if run.score.is_sampled else []),
        ),
    )
