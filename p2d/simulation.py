"""From settings to shards: what one simulating process does, without Ray."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import SimulateConfig, refuse_other_settings
from p2d.dynamics import ensemble, gray_scott, initial, stepper
from p2d.dynamics.gray_scott import GrayScott
from p2d.errors import UserError
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots.lock import sole_writer

# A pattern whose v varies less than this over the grid has died: it is uniform to within what images can show.
ALIVE_SPREAD = 1e-3
LARGEST_ROUGHNESS = 4.0  # mean square of the Laplacian over the variance
SETTLED = 100  # steps by which diffusion has levelled the edges of an initial state


@dataclass(frozen=True)
class ShardPlan:
    """Which samples a shard holds: `rows` of them from id `first` on, of runs from id `first_run` on."""

    index: int
    system: str
    first: int
    first_run: int
    rows: int


def plan(config: SimulateConfig) -> list[ShardPlan]:
    """The shards of a dataset: samples in the order of ids, about `chunk` a shard in whole runs, one system a shard."""
    each = config.snapshots_per_run
    most = max(1, config.chunk // each) * each
    shards: list[ShardPlan] = []
    for number, system in enumerate(config.systems()):
        for start in range(0, config.num_samples, most):
            first = number * config.num_samples + start
            first_run = number * config.runs + start // each
            shards.append(ShardPlan(len(shards), system, first, first_run, min(most, config.num_samples - start)))
    return shards


def simulate_samples(
    config: SimulateConfig, shard: ShardPlan, device: str = "cpu", threads: int | None = None
) -> schema.Samples:
    """Simulate the samples of one shard.

    Raises:
        UserError: a field that is not finite (names the sample and the step), or a checkerboard.
    """
    params = config.systems()[shard.system]
    labels = labels_of(config, shard)
    each, ids, steps = config.snapshots_per_run, labels["sample_id"][:: config.snapshots_per_run], _times(config)
    runs = labels["run_id"][::each]

    def advance(states: np.ndarray, step: int, steps: int, snapshot: int = 0) -> np.ndarray:
        after = stepper.run(states, params, steps, device, threads)
        _refuse_broken(after, states, step, steps, ids + snapshot, params, device)
        return after

    early = config.steps // 2
    states = initial.initial_states(config.seed, runs, config.height, config.width, config.initial)
    states = advance(states, 0, early)
    before = ensemble.observe(states)
    states = advance(states, early, config.steps - early)
    snapshots = [states]
    for number in range(1, each):
        snapshots.append(advance(snapshots[-1], int(steps[number - 1]), config.interval, number))
    # [runs, snapshots a run, ...] in the order of ids; the last run may be cut short.
    state = np.stack(snapshots, axis=1).reshape(-1, *states.shape[1:])[: shard.rows]
    return schema.Samples(
        **labels,
        state=state,
        alive=state[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD,
        observed=ensemble.observe(state),
        observed_before=np.repeat(before, each, axis=0)[: shard.rows],
    )


def _times(config: SimulateConfig) -> np.ndarray:
    """Euler steps from the initial state to each snapshot of a run, int64."""
    return config.steps + config.interval * np.arange(config.snapshots_per_run, dtype=np.int64)


def labels_of(config: SimulateConfig, shard: ShardPlan) -> dict[str, Any]:
    """What the rows of a shard say of themselves, known before they are simulated, as schema.Samples takes it."""
    each = config.snapshots_per_run
    rows = np.arange(shard.rows, dtype=np.int64)
    return {
        "sample_id": shard.first + rows,
        "run_id": shard.first_run + rows // each,
        "steps": _times(config)[rows % each],
        "seed": config.seed,
        "preset": shard.system,
        "parameters": dataclasses.asdict(config.systems()[shard.system]),
    }


def _refuse_broken(
    after: np.ndarray, states: np.ndarray, step: int, steps: int, ids: np.ndarray, params: GrayScott, device: str
) -> None:
    """Raise if a state is not finite, naming its sample and the first step after which it is not, or a checkerboard.

    `after` is what `steps` steps have made of `states`, which are those after step `step`.
    """
    label = gray_scott.label(params)
    bad = np.flatnonzero(~np.isfinite(after).all(axis=(1, 2, 3)))
    if len(bad):
        state = states[bad[:1]]
        for _ in range(steps):
            state = stepper.run(state, params, 1, device)
            step += 1
            if not np.isfinite(state).all():
                break
        raise UserError(f"sample {ids[bad[0]]} of {label} is not finite from step {step} on; a smaller --dt may help")
    if step + steps < SETTLED:
        return
    bad = np.flatnonzero([_is_checkerboard(v) for v in after[:, 1]])
    if len(bad):
        raise UserError(
            f"sample {ids[bad[0]]} of {label} has become a checkerboard: the Euler scheme is unstable with "
            f"dt = {params.dt:g}; give a smaller --dt"
        )


def _is_checkerboard(field: np.ndarray) -> bool:
    """Whether neighbouring cells alternate, as they do under a step that is too long for reaction and diffusion.

    The mean square of the Laplacian over the variance is 64 for a checkerboard, and at most 0.4 at 3,000 steps of any
    preset. On grids below 8 cells even the longest waves are short, so nothing can be told.
    """
    if min(field.shape) < 8 or field.std() <= ALIVE_SPREAD:
        return False
    return (gray_scott.laplacian(field) ** 2).mean() > LARGEST_ROUGHNESS * field.var()


@contextmanager
def writing(config: SimulateConfig, folder: Path) -> Iterator[tuple[cards.Card, SimulateConfig]]:
    """Be the one writer of a new or unfinished dataset while the block runs.

    Yields:
        Its card, and the config with the chunk that its shards have. What dead runs left half written is gone.

    Raises:
        UserError: the folder holds a dataset of other settings or something else, cannot be written, or is being
            written by another process.
    """
    fresh = not (folder / "card.json").exists()
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if fresh and any(p for p in folder.iterdir() if not p.name.startswith(".")):
                raise UserError(
                    f"{folder} holds files but no card.json, so it is no dataset; take another --name or --out"
                )
            stack.enter_context(sole_writer(folder))
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
            opened = _card_of(config, folder)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}; take another --out") from error
        yield opened


def _card_of(config: SimulateConfig, folder: Path) -> tuple[cards.Card, SimulateConfig]:
    """The card on disk, held against the settings asked for, or a new one."""
    if (folder / "card.json").exists():
        card = cards.load_card(folder)
        refuse_other_settings(f"the dataset {folder}", card.settings, config.identity())
        return card, dataclasses.replace(config, chunk=card.chunk)
    card = _first_card(config)
    cards.write_card(folder, card)
    return card, config


def _first_card(config: SimulateConfig) -> cards.Card:
    systems = config.systems().items()
    affine = {"scale": 2.0, "shift": -1.0} if config.normalize else {"scale": 1.0, "shift": 0.0}
    return cards.Card(
        settings=config.identity(),
        parameters={name: dataclasses.asdict(params) for name, params in systems},
        grid=(config.height, config.width),
        burn_in=config.steps,
        affine=affine,
        chunk=config.chunk,
    )


def is_finished(config: SimulateConfig, folder: Path) -> bool:
    """Whether the folder holds this very dataset, complete, every shard with the hash its card says.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """
    if not (folder / "card.json").exists():
        return False
    card, config = _card_of(config, folder)
    return card.complete and len(kept_shards(config, card, folder, plan(config))) == len(card.shards)


def kept_shards(
    config: SimulateConfig, card: cards.Card, folder: Path, shards: list[ShardPlan]
) -> dict[int, dict[str, Any]]:
    """Entries of the shards on disk that need not be simulated again, by index; each has been checked.

    A finished dataset's shards are held against the card, an interrupted one's against the plan and their own digests.
    """
    known = {entry["name"]: entry for entry in card.shards}
    found = {}
    for shard in shards:
        path = folder / store.shard_name(shard.index)
        if card.complete:
            entry = known.get(path.name)
            sound = entry and path.is_file() and store.file_hash(path) == entry["hash"]
            entry = entry if sound else None
        else:
            entry = store.checked_shard(path, schema.label_rows(**labels_of(config, shard)), card.grid)
        if entry:
            found[shard.index] = entry
    return found


def finish(folder: Path, card: cards.Card, entries: list[dict[str, Any]], device: str, seconds: float) -> cards.Card:
    """Complete the card: entries of all shards in order, what the ensembles are like, the dataset's hash.

    Raises:
        UserError: the dataset was complete before, and what has been made again is not what it was.
    """
    rows = store.read_rows(folder, [entry["name"] for entry in entries])
    found = cards.dataset_hash(rows.column("digest").to_pylist())
    software = cards.software()
    if card.complete and found != card.dataset_hash:
        raise UserError(
            f"{folder}: the shards made again are not what they were: first made on {card.device} with "
            f"{_told(card.software)}, now on {device} with {_told(software)}; simulate it anew under another --name"
        )
    samples, alive = (sum(entry[key] for entry in entries) for key in ("rows", "alive"))
    card = dataclasses.replace(
        card,
        complete=True,
        samples=samples,
        alive=alive,
        dead_share=round(1 - alive / samples, 6),
        ensembles=_ensembles(rows, card.burn_in),
        device=device,
        seconds=round(seconds + card.seconds, 3),
        software=software,
        shards=entries,
        dataset_hash=found,
    )
    cards.write_card(folder, card)
    return card


def _told(software: dict[str, str]) -> str:
    return ", ".join(f"{name} {software[name]}" for name in ("numba", "numpy") if name in software)


def _ensembles(rows: Any, burn_in: int) -> dict[str, dict[str, Any]]:
    """For each system: its living samples, their moments, and whether averages still change late in the burn-in."""
    column = {name: rows.column(name).to_numpy(zero_copy_only=False) for name in ("preset", "alive", "steps")}
    after, before = (schema.array_of(rows, name) for name in ("observed", "observed_before"))
    found = {}
    for system in dict.fromkeys(column["preset"]):
        living = (column["preset"] == system) & column["alive"]
        # One step has no half.
        first = living & (column["steps"] == burn_in) & (burn_in > 1)
        found[str(system)] = {
            "samples": int((column["preset"] == system).sum()),
            "alive": int(living.sum()),
            **{name: round(float(value), 9) for name, value in ensemble.moments(after[living]).items()},
            "change": ensemble.change(before[first], after[first]),
        }
    return found


def describe_ensembles(card: cards.Card) -> list[str]:
    """For each system a line: how many patterns live, and whether the ensemble is stationary."""
    lines = []
    for name, found in card.ensembles.items():
        dead = found["samples"] - found["alive"]
        told = f"{dead} of {found['samples']} patterns died out and are left out of training" if dead else "all alive"
        lines.append(f"{name}: {told}; {ensemble.say_change(found['change'], card.burn_in)}")
    return lines


def simulate_here(config: SimulateConfig, folder: Path) -> store.Dataset:
    """Make a dataset in this process, without Ray: for small data, notebooks and tests."""
    start = time.monotonic()
    if not is_finished(config, folder):
        device = stepper.pick_device(config.wished_device)
        with writing(config, folder) as (card, config):
            shards = plan(config)
            entries = kept_shards(config, card, folder, shards)
            for shard in shards:
                if shard.index not in entries:
                    samples = simulate_samples(config, shard, device, config.threads or None)
                    entries[shard.index] = store.write_shard(folder, shard.index, samples)
            finish(folder, card, [entries[s.index] for s in shards], device, time.monotonic() - start)
    return store.open_dataset(folder)
