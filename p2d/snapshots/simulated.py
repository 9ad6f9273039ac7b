"""From a system to shards: what one simulating process does, without Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import overload

import numpy as np

from p2d.config.simulate import SimulateConfig, Simulation
from p2d.errors import UserError, nearest
from p2d.fields import Grid, Species
from p2d.observables import averages
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots import writing as shards
from p2d.systems import initial, stepping
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener

# A species that varies less than this share of its range over the grid has died: it is uniform to within what images
# can show.
ALIVE_SHARE = 1e-3
LARGEST_ROUGHNESS = 4.0  # mean square of the Laplacian over the variance
LARGEST_CHANGE = 0.25  # mean square change of the Laplacian in a step over its own; 4 where all cells alternate
SETTLED = 100  # steps by which diffusion has levelled the edges of an initial state


@dataclass(frozen=True)
class ShardPlan:
    """Which samples a shard holds: `rows` of them from id `first` on, of runs from id `first_run` on."""

    index: int
    system: str
    first: int
    first_run: int
    rows: int


@dataclass(frozen=True)
class Plans(Sequence[ShardPlan]):
    """The shards of a dataset: samples in the order of ids, about `chunk` a shard in whole runs, one system a shard."""

    simulation: Simulation

    @cached_property
    def _most(self) -> int:
        """Samples of a shard, but for the last of a system."""
        each = self.simulation.snapshots_per_run
        return max(1, self.simulation.chunk // each) * each

    @cached_property
    def _labels(self) -> list[str]:
        return list(self.simulation.systems)

    @property
    def _of_each(self) -> int:
        """Shards of each system."""
        return -(-self.simulation.num_samples // self._most)

    def __len__(self) -> int:
        return len(self.simulation.systems) * self._of_each

    @overload
    def __getitem__(self, index: int) -> ShardPlan: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ShardPlan]: ...
    def __getitem__(self, index: int | slice) -> ShardPlan | Sequence[ShardPlan]:
        """The shard of this number, made when it is asked for."""
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        simulation, (number, shard) = self.simulation, divmod(index, self._of_each)
        start = shard * self._most
        first = number * simulation.num_samples + start
        first_run = number * simulation.runs + start // simulation.snapshots_per_run
        rows = min(self._most, simulation.num_samples - start)
        return ShardPlan(index, self._labels[number], first, first_run, rows)


def plan(simulation: Simulation) -> Plans:
    """The shards of a dataset, see `Plans`."""
    return Plans(simulation)


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
    noise_of_runs = simulation.noise_of(labels.run_id[::each])
    runs = _Runs(shard.system, system, scheme, device, threads, noise_of_runs)
    ids, burn_in = labels.sample_id[::each], system.run.steps

    early = burn_in // 2
    states = runs.advance(_initial_states(simulation, system, labels.run_id[::each]), 0, early, ids)
    before = averages(states, scheme.grid)
    states = runs.advance(states, early, burn_in - early, ids)
    snapshots = [states]
    for number in range(1, each):
        step = burn_in + (number - 1) * simulation.interval
        snapshots.append(runs.advance(snapshots[-1], step, simulation.interval, ids + number))
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
    if starts.card.dataset_hash != simulation.initial_hash:
        raise UserError(
            f"{starts.folder}, which the samples begin from, does not hold what it held; take another --name"
        )
    samples, place = np.unique(starts.living[runs % len(starts.living)], return_inverse=True)
    return starts.states(samples)[place]


def with_starts(simulation: Simulation, out: str | Path = "") -> Simulation:
    """The simulation with the folder of the dataset of its initial states, where it names one.

    Raises:
        UserError: neither a kind of initial states nor a dataset, or one of other species or another size.
    """
    if simulation.initial in initial.KINDS:
        return simulation
    try:
        starts = store.find_dataset(simulation.initial, out)
    except UserError as error:
        known = f"{', '.join(initial.KINDS)}{nearest(simulation.initial, initial.KINDS)}"
        raise UserError(f"initial = {simulation.initial} is none of {known}, and no dataset: {error}") from None
    names = tuple(s.name for s in simulation.species)
    if starts.card.names != names or starts.card.grid.shape != simulation.grid.shape:
        own, other = (
            f"{', '.join(species)} on {grid.shape[0]} x {grid.shape[1]}"
            for species, grid in ((names, simulation.grid), (starts.card.names, starts.card.grid))
        )
        raise UserError(f"{starts.folder} holds {other}; initial states must be of {own}")
    if not len(starts.living):
        raise UserError(f"{starts.folder} has no living samples to begin from")
    return replace(simulation, initial=str(starts.folder.resolve()), initial_hash=starts.card.dataset_hash)


def labels_of(simulation: Simulation, shard: ShardPlan) -> schema.Labels:
    """What the rows of a shard say of themselves, known before they are simulated."""
    each = simulation.snapshots_per_run
    rows = np.arange(shard.rows, dtype=np.int64)
    run = simulation.systems[shard.system].run
    steps = run.steps + simulation.interval * (rows % each)
    return schema.Labels(
        sample_id=shard.first + rows,
        run_id=shard.first_run + rows // each,
        steps=steps,
        time=steps * run.dt,
        seed=simulation.seed,
        system=shard.system,
    )


@dataclass(frozen=True)
class _Runs:
    """Runs of one system that are advanced together, and refused where they break down."""

    label: str
    system: System
    scheme: Scheme
    device: str
    threads: int | None
    noise: Wiener | None = None  # in the dynamics

    def advance(self, states: np.ndarray, step: int, steps: int, ids: np.ndarray) -> np.ndarray:
        """States after so many more steps.

        Args:
            states: after `step` steps.
            ids: of the samples, by which a broken one is named.

        Raises:
            UserError: a state is not finite (names its sample and the first step after which), or a checkerboard.
        """
        after = self._run(states, steps, self.noise and self.noise.at(step))
        broken = np.flatnonzero(~np.isfinite(after).all(axis=(1, 2, 3)))
        if len(broken):
            one = broken[:1]
            first = self._first_broken(states[one], step, steps, self.noise and self.noise.of(one))
            raise UserError(
                f"sample {ids[broken[0]]} of {self.label} is not finite from step {first} on; a smaller --dt may help"
            )
        checkered = self._checkered(after) if step + steps >= SETTLED else ids[:0]
        if len(checkered):
            raise UserError(
                f"sample {ids[checkered[0]]} of {self.label} has become a checkerboard by step {step + steps}: "
                f"the scheme is unstable with dt = {self.scheme.dt:g}; give a smaller --dt"
            )
        return after

    def _run(self, states: np.ndarray, steps: int, noise: Wiener | None = None) -> np.ndarray:
        return stepping.run(states, self.system, self.scheme, steps, self.device, self.threads, noise)

    def _first_broken(self, state: np.ndarray, done: int, steps: int, noise: Wiener | None) -> int:
        """The first step after which a state [1, C, H, W] is not finite, of `steps` from `done` on: by halving."""
        reached = done + steps
        while reached - done > 1:
            half = (reached - done) // 2
            middle = self._run(state, half, noise and noise.at(done))
            if np.isfinite(middle).all():
                state, done = middle, done + half
            else:
                reached = done + half
        return reached

    def _checkered(self, states: np.ndarray) -> np.ndarray:
        """Which states have become checkerboards under a step that is too long, for reaction or diffusion.

        Their neighbouring cells alternate, and with every step, too. Patterns as fine as the grid are as rough, and
        change little within a step. Noise in the dynamics roughens, too; without it that is levelled, a checkerboard
        stays.
        """
        rough = self._rough(states)
        if self.noise and len(rough):
            states = states.copy()
            states[rough] = self._run(states[rough], SETTLED)
            rough = self._rough(states)
        if not len(rough):
            return rough
        now, then = (_relief(fields, self.scheme.grid) for fields in (states[rough], self._run(states[rough], 1)))
        change, size = ((fields**2).mean(axis=(2, 3)) for fields in (then - now, now))
        return rough[(change > LARGEST_CHANGE * size).any(axis=1)]

    def _rough(self, states: np.ndarray) -> np.ndarray:
        return np.flatnonzero([any(_is_rough(field, self.scheme.grid) for field in state) for state in states])


def _relief(fields: np.ndarray, grid: Grid) -> np.ndarray:
    """By how much each cell differs from its neighbours: the Laplacian at a spacing of 1."""
    return replace(grid, spacing=1.0).laplacian(fields)


def _is_rough(field: np.ndarray, grid: Grid) -> bool:
    """Whether neighbouring cells alternate: the mean square of the Laplacian is large beside the variance.

    Their ratio is 64 for a checkerboard, and at most 0.4 at 3,000 steps of any of Gray-Scott's presets. On grids below
    8 cells even the longest waves are short, so nothing can be told.
    """
    long = [size for size in field.shape if size > 1]
    variance = field.var(dtype=np.float64)
    if not long or min(long) < 8 or variance <= (ALIVE_SHARE * max(np.abs(field).max(), ALIVE_SHARE)) ** 2:
        return False
    return bool((_relief(field, grid) ** 2).mean() > LARGEST_ROUGHNESS * len(long) ** 2 / 4 * variance)


@contextmanager
def writing(simulation: Simulation, folder: Path) -> Iterator[tuple[cards.Card, Simulation]]:
    """Be the one writer of a new or unfinished dataset while the block runs, see snapshots/writing.py.

    Yields:
        Its card, and the simulation with the chunk and the order of systems that its shards have.
    """
    first_card = cards.Card(
        settings=simulation.identity(),
        species=simulation.species,
        grid=simulation.grid,
        systems={label: replace(system, presets={}) for label, system in simulation.systems.items()},
        conditions={label: dict(system.parameters) for label, system in simulation.systems.items()},
        chunk=simulation.chunk,
    )
    with shards.writing(folder, first_card) as card:
        yield card, _as_begun(simulation, card)


def _as_begun(simulation: Simulation, card: cards.Card) -> Simulation:
    """The simulation with the chunk and the order of systems that the shards have, neither of which is a setting."""
    systems = {label: simulation.systems[label] for label in card.settings["systems"]}
    return replace(simulation, chunk=card.chunk, systems=systems)


def is_finished(simulation: Simulation, folder: Path) -> bool:
    """Whether the folder holds this very dataset, complete, every shard as its card says.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """

    def labels(card: cards.Card) -> shards.ShardLabels:
        return shard_labels(_as_begun(simulation, card))

    return shards.is_finished(folder, simulation.identity(), labels)


def shard_labels(simulation: Simulation) -> shards.ShardLabels:
    """The labels of the rows of each of its shards, by number."""
    plans = plan(simulation)
    return shards.ShardLabels(len(plans), partial(_labels_of_shard, plans))


def _labels_of_shard(plans: Plans, number: int) -> schema.Labels:
    return labels_of(plans.simulation, plans[number])


@dataclass(frozen=True)
class Simulated:
    """Makes the shards of a simulation, see snapshots/writing.py."""

    simulation: Simulation

    def on(self, device: str, threads: int, tell: Callable[[int], None]) -> Callable[[int], schema.Samples]:
        """Simulates the shard of a number."""
        plans = plan(self.simulation)

        def samples(number: int) -> schema.Samples:
            made = simulate_samples(self.simulation, plans[number], device, threads)
            tell(plans[number].rows)
            return made

        return samples


def simulate_here(config: SimulateConfig, folder: Path) -> store.Dataset:
    """Make a dataset in this process, without Ray: for small data, notebooks and tests."""
    simulation = with_starts(config.simulation())
    if is_finished(simulation, folder):
        return store.open_dataset(folder)
    device = stepping.choose_device(config.wished_device)
    with writing(simulation, folder) as (card, simulation):
        samples = Simulated(simulation).on(device, config.threads or os.cpu_count() or 1, lambda _: None)
        make_shards = shards.written_here(folder, samples)
        return shards.make(folder, card, shard_labels(simulation), make_shards, device, normalize=simulation.normalize)
