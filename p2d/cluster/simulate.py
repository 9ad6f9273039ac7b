"""Ray Data actors that simulate and write shards: one input row is one shard, and only its card entry comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from p2d.cluster import runtime
from p2d.config import SimulateConfig
from p2d.dynamics import stepper
from p2d.errors import UserError
from p2d.simulation import ShardPlan, begin, finish, kept_shards, plan, simulate_shard
from p2d.snapshots import store


class Simulator:
    """An actor: simulates the shards whose plans it is given."""

    def __init__(self, config: dict[str, Any], folder: str, threads: int) -> None:
        self.config = SimulateConfig.from_dict(config)
        self.folder = Path(folder)
        self.threads = threads

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Card entries, as JSON, of the planned shards; a user's mistake comes back as its message."""
        return {"entry": [self._entry(ShardPlan(**json.loads(row))) for row in batch["plan"]]}

    def _entry(self, shard: ShardPlan) -> str:
        try:
            return json.dumps({"index": shard.index, **simulate_shard(self.config, self.folder, shard, self.threads)})
        except UserError as error:
            return json.dumps({"error": str(error)})


def simulate(config: SimulateConfig, out: Path, advance: Callable[..., None] | None = None) -> store.Dataset:
    """Make a dataset with Ray Data actors; finished shards are kept, so an interrupted run goes on where it was.

    Args:
        config: what to simulate.
        out: the output folder; the dataset goes to OUT/data/NAME.
        advance: told the samples of each shard as it is finished.

    Raises:
        UserError: settings that differ from what is there, a folder or disk that cannot be written, more actors than
            the machine can hold, a GPU that is not there.
    """
    folder = runtime.shared_folder(out / "data" / config.dataset_name)
    start = time.monotonic()
    device = stepper.pick_device(config.wished_device)
    runtime.start()
    runtime.worker_count(config.actors, config.num_samples, "actors")  # refused before anything is written
    card, config = begin(config, folder)
    shards = plan(config)
    entries = kept_shards(card, folder, shards)
    missing = [s for s in shards if s.index not in entries]
    if advance and len(missing) < len(shards):
        advance(sum(s.rows for s in shards if s.index in entries), f"{len(entries)} shards kept")
    for entry in _run_actors(config, folder, missing, device) if missing else ():
        entries[entry.pop("index")] = entry
        if advance:
            advance(entry["rows"])
    finish(folder, card, [entries[s.index] for s in shards], device, time.monotonic() - start)
    return store.open_dataset(folder)


def _run_actors(config: SimulateConfig, folder: Path, missing: list[ShardPlan], device: str) -> Any:
    """Card entries of the shards, with their index, as they are finished."""
    actors = runtime.worker_count(config.actors, len(missing), "actors")
    rows = [{"plan": json.dumps(vars(s))} for s in missing]
    resources: dict[str, Any] = {"num_cpus": runtime.cpu_share(actors)}
    if device == "cuda":
        actors = min(actors, max(runtime.gpus(), 1))
        resources = {"num_cpus": runtime.cpu_share(actors), "num_gpus": 1}
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Simulator,
        fn_constructor_kwargs={
            "config": config.to_dict(),
            "folder": str(folder),
            "threads": max(1, runtime.cpus() // actors),
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        **resources,
    )
    for row in results.iter_rows():
        entry = json.loads(row["entry"])
        if "error" in entry:
            raise UserError(entry["error"])
        yield entry
