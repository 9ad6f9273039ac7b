"""Ray Data actors that simulate and write shards: one input row is one shard, and only its card entry comes back."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from p2d import places
from p2d.cluster import placement, runtime
from p2d.config.simulate import SimulateConfig, Simulation
from p2d.errors import UserError
from p2d.snapshots import store
from p2d.snapshots import writing as shards
from p2d.snapshots.files import write_shard
from p2d.snapshots.simulated import ShardPlan, plan, shard_labels, simulate_samples, writing
from p2d.systems import stepping

SHARDS_IN_FLIGHT = 2  # of an actor: one is simulated while the one before is written


class Simulator:
    """An actor: simulates the shards whose plans it is given. Two calls at a time: one simulates, the other writes."""

    def __init__(self, simulation: Simulation, folder: str, device: str, threads: int) -> None:
        self.simulation = simulation
        self.folder = places.place(folder)
        self.device = device
        self.threads = threads
        self.simulating = threading.Lock()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Card entries, as JSON, of the planned shards; a user's mistake comes back as its message."""
        return {"entry": [self._entry(ShardPlan(**json.loads(row))) for row in batch["plan"]]}

    def _entry(self, shard: ShardPlan) -> str:
        try:
            with self.simulating:
                samples = simulate_samples(self.simulation, shard, self.device, self.threads)
            return json.dumps({"index": shard.index, **write_shard(self.folder, shard.index, samples)})
        except UserError as error:
            return json.dumps({"error": str(error)})


@dataclass(frozen=True)
class Placement:
    """Where the actors go: how many, with what of the cluster's resources each, and how many threads of the CPU."""

    actors: int
    cpus: float
    gpus: float
    threads: int


def place(config: SimulateConfig, shards: int, device: str) -> Placement:
    """One actor a GPU, or a share of one, on GPUs; one a core on CPUs; as many as asked for, and no more than shards.

    Raises:
        UserError: more actors than the cluster's CPUs or GPUs can hold.
    """
    if device == "cuda":
        actors = _actors_on_gpus(config, shards)
        gpus = config.gpus_per_actor
    else:
        actors = placement.worker_count(config.actors, shards, "actors")
        gpus = 0.0
    threads = config.threads or max(1, placement.cpus() // actors)
    return Placement(actors, placement.cpu_share(actors), gpus, threads)


def _actors_on_gpus(config: SimulateConfig, shards: int) -> int:
    share, gpus = config.gpus_per_actor, placement.gpus()
    room = gpus * int(1 / share + 1e-9) if share < 1 else gpus // int(share)
    if room < max(config.actors, 1):
        raise UserError(
            f"{max(config.actors, 1)} actors of {share:g} GPUs are more than the {gpus} GPUs here can hold; "
            "give fewer --actors, or a smaller --gpus-per-actor"
        )
    return min(config.actors or room, max(shards, 1))


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


def simulate(
    simulation: Simulation, config: SimulateConfig, folder: Path, advance: Callable[..., None] | None = None
) -> store.Dataset:
    """Make a dataset with Ray Data actors; finished shards are kept, so an interrupted run goes on where it was.

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
    start = time.monotonic()
    device = find_device(config.wished_device)
    runtime.start()
    runtime.refuse_unshared(folder)
    place(config, simulation.num_samples, device)  # refused before anything is written
    with writing(simulation, folder) as (card, simulation):
        plans = plan(simulation)
        ledger = shards.kept_shards(folder, card, shard_labels(simulation))
        missing = [plans[number] for number in ledger.missing.tolist()]
        if advance and len(missing) < len(plans):
            advance(int(ledger.shards.rows.sum()), f"{len(ledger)} shards kept")
        for entry in run_actors(simulation, config, folder, missing, device) if missing else ():
            ledger.put(entry["index"], entry)
            if advance:
                advance(entry["rows"])
        shards.finish(folder, card, ledger, device, time.monotonic() - start, simulation.normalize)
    return store.open_dataset(folder)


def run_actors(
    simulation: Simulation,
    config: SimulateConfig,
    folder: Path,
    missing: Sequence[ShardPlan],
    device: str,
    actor: type = Simulator,
) -> Iterator[dict[str, Any]]:
    """Card entries of the shards, with their index, as they are finished. A killed actor's shards are done again."""
    placement = place(config, len(missing), device)
    rows = [{"plan": json.dumps(vars(s))} for s in missing]
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        actor,
        fn_constructor_kwargs={
            "simulation": simulation,
            "folder": str(folder),
            "device": device,
            "threads": placement.threads,
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=placement.actors, max_concurrent_calls_per_actor=SHARDS_IN_FLIGHT, enable_true_multi_threading=True
        ),
        num_cpus=placement.cpus,
        num_gpus=placement.gpus or None,
    )
    for row in results.iter_rows():
        entry = json.loads(row["entry"])
        if "error" in entry:
            raise UserError(entry["error"])
        yield entry
