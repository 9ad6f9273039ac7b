"""From settings to shards: what one simulating process does, without Ray."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d import observables as ensemble
from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots import writing as shards
from p2d.systems import gray_scott, initial, stepper
from p2d.systems.gray_scott import GrayScott

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
    found: list[ShardPlan] = []
    for number, system in enumerate(config.systems()):
        for start in range(0, config.num_samples, most):
            first = number * config.num_samples + start
            first_run = number * config.runs + start // each
            found.append(ShardPlan(len(found), system, first, first_run, min(most, config.num_samples - start)))
    return found


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
        state=measured(state, config.noise, config.seed, labels["sample_id"]),
        alive=state[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD,
        observed=ensemble.observe(state),  # before noise: whether the ensemble still changes is asked of these
        observed_before=np.repeat(before, each, axis=0)[: shard.rows],
    )


def measured(states: np.ndarray, noise: float, seed: int, ids: np.ndarray) -> np.ndarray:
    """States [N, 2, H, W] as an instrument sees them: each with white noise of its own, a function of (seed, id)."""
    if not noise:
        return states
    streams = [np.random.Generator(np.random.Philox(key=[seed, int(i)], counter=[0, 0, 0, 1])) for i in ids]
    drawn = np.stack([rng.standard_normal(states.shape[1:], dtype=np.float32) for rng in streams])
    return states + np.float32(noise) * drawn


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
    """Be the one writer of a new or unfinished dataset while the block runs, see snapshots/writing.py.

    Yields:
        Its card, and the config with the chunk that its shards have.
    """
    with shards.writing(folder, _first_card(config)) as card:
        yield card, dataclasses.replace(config, chunk=card.chunk)


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

    def labels(card: cards.Card) -> shards.Labels:
        chunked = dataclasses.replace(config, chunk=card.chunk)
        return _labels(chunked, plan(chunked))

    return shards.is_finished(folder, config.identity(), labels)


def kept_shards(
    config: SimulateConfig, card: cards.Card, folder: Path, plans: list[ShardPlan]
) -> dict[int, dict[str, Any]]:
    """Entries of the shards on disk that need not be simulated again, by index; each has been checked."""
    return shards.kept_shards(folder, card, _labels(config, plans))


def _labels(config: SimulateConfig, plans: list[ShardPlan]) -> shards.Labels:
    return {shard.index: schema.label_rows(**labels_of(config, shard)) for shard in plans}


def finish(folder: Path, card: cards.Card, entries: list[dict[str, Any]], device: str, seconds: float) -> cards.Card:
    """Complete the card, see snapshots/writing.py."""
    return shards.finish(folder, card, entries, device, seconds, lambda rows: _ensembles(rows, card.burn_in))


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
            plans = plan(config)
            entries = kept_shards(config, card, folder, plans)
            for shard in plans:
                if shard.index not in entries:
                    samples = simulate_samples(config, shard, device, config.threads or None)
                    entries[shard.index] = store.write_shard(folder, shard.index, samples)
            finish(folder, card, [entries[s.index] for s in plans], device, time.monotonic() - start)
    return store.open_dataset(folder)
