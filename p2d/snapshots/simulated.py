"""From a system to shards: what one simulating process does, without Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config.simulate import SimulateConfig, Simulation
from p2d.errors import UserError
from p2d.fields import Grid, Species
from p2d.observables import averages
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots import writing as shards
from p2d.systems import initial, stepping
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

# A species that varies less than this share of its range over the grid has died: it is uniform to within what images
# can show.
ALIVE_SHARE = 1e-3
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


def plan(simulation: Simulation) -> list[ShardPlan]:
    """The shards of a dataset: samples in the order of ids, about `chunk` a shard in whole runs, one system a shard."""
    each = simulation.snapshots_per_run
    most = max(1, simulation.chunk // each) * each
    plans: list[ShardPlan] = []
    for number, system in enumerate(simulation.systems):
        for start in range(0, simulation.num_samples, most):
            first = number * simulation.num_samples + start
            first_run = number * simulation.runs + start // each
            plans.append(ShardPlan(len(plans), system, first, first_run, min(most, simulation.num_samples - start)))
    return plans


def simulate_samples(
    simulation: Simulation, shard: ShardPlan, device: str = "cpu", threads: int | None = None
) -> schema.Samples:
    """Simulate the samples of one shard.

    Raises:
        UserError: a field that is not finite (names the sample and the step), or a checkerboard.
    """
    system, scheme = simulation.systems[shard.system], simulation.scheme(shard.system)
    labels = labels_of(simulation, shard)
    each = simulation.snapshots_per_run
    ids, runs, steps = labels.sample_id[::each], labels.run_id[::each], _steps(simulation, shard)

    def advance(states: np.ndarray, step: int, steps: int, snapshot: int = 0) -> np.ndarray:
        after = stepping.run(states, system, scheme, steps, device, threads)
        _refuse_broken(after, states, step, steps, ids + snapshot, system, scheme, device)
        return after

    early = system.run.steps // 2
    states = advance(_initial_states(simulation, system, runs), 0, early)
    before = averages(states, scheme.grid)
    states = advance(states, early, system.run.steps - early)
    snapshots = [states]
    for number in range(1, each):
        snapshots.append(advance(snapshots[-1], int(steps[number - 1]), simulation.interval, number))
    # [runs, snapshots a run, ...] in the order of ids; the last run may be cut short.
    state = np.stack(snapshots, axis=1).reshape(-1, *states.shape[1:])[: shard.rows]
    species = simulation.species
    noise = simulation.noise * np.array([s.span for s in species])
    return schema.Samples(
        labels,
        state=measured(state, noise, simulation.seed, labels.sample_id),
        alive=alive(state, species),
        averages=averages(state, scheme.grid),  # before noise: whether the ensemble still changes is asked of these
        averages_before=np.repeat(before, each, axis=0)[: shard.rows],
    )


def alive(states: np.ndarray, species: tuple[Species, ...]) -> np.ndarray:
    """Which of states [N, C, H, W] live: those in which any species varies by more than a share of its range."""
    spans = np.array([s.span for s in species])
    return (states.std(axis=(2, 3)) > ALIVE_SHARE * spans).any(axis=1)


def measured(states: np.ndarray, noise: np.ndarray, seed: int, ids: np.ndarray) -> np.ndarray:
    """States [N, C, H, W] as an instrument sees them: each with white noise of its own, a function of (seed, id).

    Args:
        noise: standard deviation of each species, [C].
    """
    if not noise.any():
        return states
    streams = [np.random.Generator(np.random.Philox(key=[seed, int(i)], counter=[0, 0, 0, 1])) for i in ids]
    drawn = np.stack([rng.standard_normal(states.shape[1:], dtype=np.float32) for rng in streams])
    return states + noise.astype(np.float32)[:, None, None] * drawn


def _initial_states(simulation: Simulation, system: System, runs: np.ndarray) -> np.ndarray:
    if simulation.initial in initial.KINDS:
        return initial.initial_states(system, simulation.seed, runs, simulation.grid.shape, simulation.initial)
    starts = store.open_dataset(simulation.initial)
    refuse_starts(starts, simulation)
    chosen = starts.living[runs % len(starts.living)]
    return np.concatenate([starts.states(chosen[n : n + 1]) for n in range(len(chosen))])


def refuse_starts(starts: store.Dataset, simulation: Simulation) -> None:
    """Refuse a dataset of initial states that are of other species or another size.

    Raises:
        UserError: says which.
    """
    names = tuple(s.name for s in simulation.species)
    if starts.card.names != names or starts.card.grid.shape != simulation.grid.shape:
        own, other = ", ".join(names), ", ".join(starts.card.names)
        raise UserError(
            f"{starts.folder} holds {other} on {_size(starts.card.grid)}; initial states must be of {own} on "
            f"{_size(simulation.grid)}"
        )
    if not len(starts.living):
        raise UserError(f"{starts.folder} has no living samples to begin from")


def _size(grid: Grid) -> str:
    return f"{grid.shape[0]} x {grid.shape[1]}"


def _steps(simulation: Simulation, shard: ShardPlan) -> np.ndarray:
    """Steps from the initial state to each snapshot of a run, int64."""
    burn_in = simulation.systems[shard.system].run.steps
    return burn_in + simulation.interval * np.arange(simulation.snapshots_per_run, dtype=np.int64)


def labels_of(simulation: Simulation, shard: ShardPlan) -> schema.Labels:
    """What the rows of a shard say of themselves, known before they are simulated."""
    each = simulation.snapshots_per_run
    rows = np.arange(shard.rows, dtype=np.int64)
    steps = _steps(simulation, shard)[rows % each]
    return schema.Labels(
        sample_id=shard.first + rows,
        run_id=shard.first_run + rows // each,
        steps=steps,
        time=steps * simulation.systems[shard.system].run.dt,
        seed=simulation.seed,
        system=shard.system,
    )


def _refuse_broken(
    after: np.ndarray,
    states: np.ndarray,
    step: int,
    steps: int,
    ids: np.ndarray,
    system: System,
    scheme: Scheme,
    device: str,
) -> None:
    """Raise if a state is not finite, naming its sample and the first step after which it is not, or a checkerboard.

    `after` is what `steps` steps have made of `states`, which are those after step `step`.
    """
    bad = np.flatnonzero(~np.isfinite(after).all(axis=(1, 2, 3)))
    if len(bad):
        first = step + _first_broken(states[bad[:1]], steps, system, scheme, device)
        raise UserError(
            f"sample {ids[bad[0]]} of {system.label} is not finite from step {first} on; a smaller --dt may help"
        )
    if step + steps < SETTLED:
        return
    checkered = [any(_is_checkerboard(field, scheme.grid) for field in state) for state in after]
    if any(checkered):
        raise UserError(
            f"sample {ids[int(np.argmax(checkered))]} of {system.label} has become a checkerboard by step "
            f"{step + steps}: the scheme is unstable with dt = {scheme.dt:g}; give a smaller --dt"
        )


def _first_broken(state: np.ndarray, steps: int, system: System, scheme: Scheme, device: str) -> int:
    """After how many steps a state [1, C, H, W], which is not finite after `steps`, is no longer: by halving."""
    done, reached = 0, steps
    while reached - done > 1:
        half = (reached - done) // 2
        middle = stepping.run(state, system, scheme, half, device)
        if np.isfinite(middle).all():
            state, done = middle, done + half
        else:
            reached = done + half
    return reached


def _is_checkerboard(field: np.ndarray, grid: Grid) -> bool:
    """Whether neighbouring cells alternate, as they do under a step that is too long for reaction and diffusion.

    The mean square of the Laplacian over the variance is 64 for a checkerboard, and at most 0.4 at 3,000 steps of any
    of Gray-Scott's presets. On grids below 8 cells even the longest waves are short, so nothing can be told.
    """
    long = [size for size in field.shape if size > 1]
    variance = field.var(dtype=np.float64)
    if not long or min(long) < 8 or variance <= (ALIVE_SHARE * max(np.abs(field).max(), ALIVE_SHARE)) ** 2:
        return False
    rough = (replace(grid, spacing=1.0).laplacian(field) ** 2).mean()
    return bool(rough > LARGEST_ROUGHNESS * len(long) ** 2 / 4 * variance)


@contextmanager
def writing(simulation: Simulation, folder: Path) -> Iterator[tuple[cards.Card, Simulation]]:
    """Be the one writer of a new or unfinished dataset while the block runs, see snapshots/writing.py.

    Yields:
        Its card, and the simulation with the chunk that its shards have.
    """
    with shards.writing(folder, _first_card(simulation)) as card:
        yield card, replace(simulation, chunk=card.chunk)


def _first_card(simulation: Simulation) -> cards.Card:
    return cards.Card(
        settings=simulation.identity(),
        species=simulation.species,
        grid=simulation.grid,
        systems=simulation.systems,
        conditions={label: dict(system.parameters) for label, system in simulation.systems.items()},
        chunk=simulation.chunk,
    )


def is_finished(simulation: Simulation, folder: Path) -> bool:
    """Whether the folder holds this very dataset, complete, every shard with the hash its card says.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """

    def labels(card: cards.Card) -> shards.Labels:
        chunked = replace(simulation, chunk=card.chunk)
        return shard_labels(chunked, plan(chunked))

    return shards.is_finished(folder, simulation.identity(), labels)


def shard_labels(simulation: Simulation, plans: list[ShardPlan]) -> shards.Labels:
    """The labels of the rows of each of these shards, by number."""
    return {shard.index: labels_of(simulation, shard) for shard in plans}


def simulate_here(config: SimulateConfig, folder: Path) -> store.Dataset:
    """Make a dataset in this process, without Ray: for small data, notebooks and tests."""
    start = time.monotonic()
    simulation = config.simulation()
    if not is_finished(simulation, folder):
        device = stepping.choose_device(config.wished_device)
        with writing(simulation, folder) as (card, simulation):
            plans = plan(simulation)
            entries: dict[int, dict[str, Any]] = shards.kept_shards(folder, card, shard_labels(simulation, plans))
            for shard in plans:
                if shard.index not in entries:
                    samples = simulate_samples(simulation, shard, device, config.threads or None)
                    entries[shard.index] = store.write_shard(folder, shard.index, samples)
            made = [entries[s.index] for s in plans]
            shards.finish(folder, card, made, device, time.monotonic() - start, simulation.normalize)
    return store.open_dataset(folder)
