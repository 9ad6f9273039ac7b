"""Ray Data actors that make and write shards: one input row is one shard, and only its card entry comes back."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from p2d import places
from p2d.cluster import placement, runtime
from p2d.cluster.mapping import over_tasks
from p2d.config.simulate import SimulateConfig, Simulation
from p2d.errors import DataError, UserError
from p2d.progress import Advance
from p2d.snapshots import store
from p2d.snapshots import writing as shards
from p2d.snapshots.card import Card
from p2d.snapshots.files import write_shard
from p2d.snapshots.simulated import Simulated, plan, shard_labels, writing
from p2d.systems import stepping
from p2d.threads import in_threads

SHARDS_IN_FLIGHT = 2  # of an actor: one is made while the one before is written
SMALL = 4e9  # cell updates that a core makes in about the seconds in which Ray and its actors start


@dataclass(frozen=True)
class Wish:
    """How shards are to be made.

    Attributes:
        device: 'cpu' or 'cuda'.
        actors: processes; 0: as many as the cluster holds.
        threads: CPU threads of each; 0: the cores shared out.
        cores: CPUs that an actor is worth, where their number is left open.
        small: so little work that starting actors takes longer.
        name: of the option that asks for actors.
    """

    device: str
    actors: int = 0
    threads: int = 0
    cores: int = 1
    small: bool = False
    name: str = "actors"


@dataclass(frozen=True)
class Placement:
    """Where the actors go: how many, with what of the cluster's resources each, and how many threads of the CPU."""

    actors: int
    cpus: float
    gpus: float
    threads: int


def place(wish: Wish, count: int) -> Placement:
    """One actor a GPU; one for some cores on CPUs; as many as asked for or have a shard.

    Raises:
        UserError: more actors than the cluster's CPUs or GPUs can hold.
    """
    if wish.device == "cuda":
        actors = _actors_on_gpus(wish, count)
        threads = wish.threads or max(1, placement.cpus() // actors)
        return Placement(actors, placement.cpu_share(actors), 1.0, threads)
    usual = max(1, placement.cpus() // wish.cores)
    actors = placement.worker_count(wish.actors or usual, count, wish.name)
    nodes = placement.Machines(tuple(placement.Node(node.cpus) for node in placement.machines(0).nodes if node.cpus))
    threads, cpus = nodes.share(min(actors, sum(nodes.slots())))
    return Placement(actors, cpus, 0.0, wish.threads or threads)


def _actors_on_gpus(wish: Wish, count: int) -> int:
    gpus = placement.gpus()
    if gpus < max(wish.actors, 1):
        raise UserError(
            f"{max(wish.actors, 1)} {wish.name} of a GPU each are more than the {gpus} GPUs here can hold; give fewer "
            f"--{wish.name}"
        )
    return min(wish.actors or gpus, max(count, 1))


def find_device(wish: str) -> str:
    """'cuda' or 'cpu': of the cluster of RAY_ADDRESS, whose driver may have no GPU, or of this machine.

    Raises:
        UserError: 'cuda' where there is no GPU.
    """
    if not os.environ.get("RAY_ADDRESS") or wish == "cpu":
        return stepping.choose_device(wish)
    runtime.start()
    if wish == "cuda" and not placement.gpus():
        raise UserError("device 'cuda' was asked for, but the cluster has no GPU; take --device cpu")
    return "cuda" if placement.gpus() else "cpu"


class ShardMaker:
    """An actor: makes the shards whose numbers it is given. Two calls at a time: one makes, the other writes."""

    def __init__(self, maker: shards.Maker, folder: str, device: str, threads: int) -> None:
        self.folder = places.place(folder)
        self.making = threading.Lock()
        self.samples = functools.cache(lambda: maker.on(device, threads, lambda _: None))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Card entries, as JSON, of the shards; a user's mistake comes back as its message."""
        return {"entry": [self._entry(int(number)) for number in batch["number"]]}

    def _entry(self, number: int) -> str:
        try:
            with self.making:
                samples = self.samples()(number)
            return json.dumps({"number": number, **write_shard(self.folder, number, samples)})
        except UserError as error:
            return json.dumps({"error": str(error), "data": isinstance(error, DataError)})


def run_actors(
    maker: shards.Maker, wish: Wish, folder: Path, numbers: list[int], actor: type = ShardMaker
) -> Iterator[dict[str, Any]]:
    """Card entries of these shards, with their number, as they are finished. A killed actor's shards are done again.

    Raises:
        UserError: what an actor has met, or more of them than the cluster can hold.
    """
    where = place(wish, len(numbers))
    results = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=len(numbers)).map_batches(
        actor,
        fn_constructor_kwargs={
            "maker": maker,
            "folder": str(folder),
            "device": wish.device,
            "threads": where.threads,
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=where.actors, max_concurrent_calls_per_actor=SHARDS_IN_FLIGHT, enable_true_multi_threading=True
        ),
        num_cpus=where.cpus,
        num_gpus=where.gpus or None,
    )
    for row in results.iter_rows():
        entry = json.loads(row["entry"])
        if "error" in entry:
            raise (DataError if entry["data"] else UserError)(entry["error"])
        yield entry


def is_here(wish: Wish, count: int) -> bool:
    """Whether so many shards are better made in this process than by actors that have to start first.

    That is where this process has the device, not several actors are asked for, and there is little work, one shard, or
    a machine that is worth one actor.
    """
    if wish.actors > 1 or (wish.device == "cuda" and not stepping.has_gpu()):
        return False
    is_one = wish.device == "cpu" and not os.environ.get("RAY_ADDRESS") and (os.cpu_count() or 1) < 2 * wish.cores
    return wish.small or count <= 1 or is_one


def refuse(wish: Wish, count: int, folder: Path) -> None:
    """Refuse to make so many shards in a folder, before anything is written.

    Raises:
        UserError: more actors than the cluster's CPUs or GPUs can hold, or a folder that a node does not see.
    """
    if not is_here(wish, count):
        runtime.start()
        runtime.refuse_unshared(folder)
        place(wish, count)


def make(
    maker: shards.Maker,
    wish: Wish,
    folder: Path,
    card: Card,
    labels: shards.ShardLabels,
    advance: Advance,
    normalize: bool = True,
) -> store.Dataset:
    """Make the shards that are missing, over actors or in this process (`is_here`), and complete the card.

    Args:
        folder: of a dataset that this process is the one writer of.
        card, labels, advance, normalize: see snapshots/writing.py, as for what is raised.
    """

    def entries(missing: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        if is_here(wish, len(missing)):
            samples = maker.on(wish.device, wish.threads or os.cpu_count() or 1, advance)
            yield from shards.written_here(folder, samples)(missing)
            return
        runtime.start()
        for entry in run_actors(maker, wish, folder, missing):
            advance(entry["rows"])
            yield entry.pop("number"), entry

    each = over_tasks() if ray.is_initialized() else in_threads
    return shards.make(folder, card, labels, entries, wish.device, advance, normalize, each)


def simulate(
    simulation: Simulation, config: SimulateConfig, folder: Path, advance: Callable[..., None] | None = None
) -> store.Dataset:
    """Make a simulated dataset; finished shards are kept, so an interrupted run goes on where it was.

    Args:
        simulation: what to simulate.
        config: how: actors, threads, device.
        folder: the dataset's.
        advance: told the samples of each shard as it is finished.

    Raises:
        UserError: settings that differ from what is there, a folder or disk that cannot be written, another process
            that writes there, more actors than the machine can hold, a GPU that is not there.
    """
    folder = runtime.shared_folder(folder)
    device = find_device(config.wished_device)
    small = device == "cpu" and simulation.is_fast and simulation.updates < SMALL
    wish = Wish(device, config.actors, config.threads, small=small)
    refuse(wish, len(plan(simulation)), folder)
    with writing(simulation, folder) as (card, simulation):
        labels = shard_labels(simulation)
        tell = advance or (lambda *_: None)
        return make(Simulated(simulation), wish, folder, card, labels, tell, simulation.normalize)
