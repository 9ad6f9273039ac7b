"""Small datasets, and ways to damage them."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2d.config import SimulateConfig
from p2d.config.simulate import Simulation
from p2d.fields import Grid
from p2d.observables import averages
from p2d.snapshots.card import load_card
from p2d.snapshots.files import read_table, write_shard
from p2d.snapshots.ledger import Ledger
from p2d.snapshots.schema import Labels, Samples
from p2d.snapshots.simulated import plan, writing
from p2d.snapshots.store import Dataset, open_dataset
from p2d.snapshots.writing import finish
from p2d.systems import stepping
from p2d.systems.initial import initial_states
from p2d.systems.reading import load_system
from p2d.systems.stepping import Scheme
from p2d.systems.system import System


def altered(data: bytes, place: int) -> bytes:
    """The same bytes but for one bit."""
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def middle_of_states(data: bytes) -> int:
    """A place in a shard's bytes that holds its states; elsewhere are bytes that no row depends on."""
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    states = columns["state.list.element"]
    return states.data_page_offset + states.total_compressed_size // 2


ALTERED_SHARDS = {
    "a byte of the states altered": lambda data: altered(data, middle_of_states(data)),
    "last byte altered": lambda data: altered(data, len(data) - 1),
}
CUT_SHARDS = {
    "cut in half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "another file": lambda data: b"not a shard at all",
}
DAMAGES = {**ALTERED_SHARDS, **CUT_SHARDS}


def small(**settings) -> SimulateConfig:
    """Ten samples in shards of 4, 4 and 2, young enough to live."""
    few = {"num_samples": 10, "height": 10, "width": 12, "steps": 30, "chunk": 4, "device": "cpu", "threads": 1}
    return SimulateConfig(**{**few, **settings})


def simulation_of(**settings) -> Simulation:
    """What such settings come to."""
    return small(**settings).simulation()


def gray_scott(preset: str = "waves", **parameters: float) -> System:
    """Gray-Scott at a preset, or with other parameters."""
    return load_system("gray_scott").at(preset, **parameters)


def begun(system: System, seed: int, runs: np.ndarray, height: int, width: int, kind: str = "") -> np.ndarray:
    """Initial states of these runs."""
    return initial_states(system, seed, runs, (height, width), kind)


def advanced(states: np.ndarray, system: System, steps: int) -> np.ndarray:
    """States after so many steps of 1 on a periodic grid of spacing 1."""
    return stepping.run(states, system, Scheme(Grid(states.shape[-2:])), steps, "cpu")


def averages_of(states: np.ndarray) -> np.ndarray:
    """Averages of each state over a periodic grid of spacing 1."""
    return averages(states, Grid(states.shape[-2:]))


def samples_of(
    state: np.ndarray, first: int = 0, alive: np.ndarray | None = None, run_id: np.ndarray | None = None
) -> Samples:
    """Rows of a shard with these states, a run each unless told otherwise."""
    ids = np.arange(first, first + len(state))
    steps = np.full(len(state), 30)
    observed = averages_of(np.nan_to_num(state, posinf=0, neginf=0))
    return Samples(
        Labels(ids, ids if run_id is None else run_id, steps, 1.0 * steps, seed=3, system="waves"),
        state=state,
        alive=np.ones(len(state), bool) if alive is None else alive,
        averages=observed,
        averages_before=observed + 0.125,
    )


def with_living(folder: Path, alive: list[bool], chunk: int = 4, snapshots_per_run: int = 1) -> Dataset:
    """A dataset of random states of which these are alive."""
    several = {"snapshots_per_run": snapshots_per_run, "interval": 5} if snapshots_per_run > 1 else {}
    simulation = simulation_of(num_samples=len(alive), height=4, width=6, chunk=chunk, **several)
    states = np.random.default_rng(0).random((len(alive), 2, 4, 6), dtype=np.float32)
    with writing(simulation, folder) as (card, simulation):
        ledger = Ledger(len(plan(simulation)))
        for shard in plan(simulation):
            rows = slice(shard.first, shard.first + shard.rows)
            runs = shard.first_run + np.arange(shard.rows) // snapshots_per_run
            samples = samples_of(states[rows], shard.first, np.array(alive[rows]), runs)
            ledger.put(shard.index, write_shard(folder, shard.index, samples))
        finish(folder, card, ledger, "cpu", 0.0)
    return open_dataset(folder)


def read_rows(folder: Path, columns: tuple[str, ...]) -> pa.Table:
    """These columns of all shards of a folder, in their order."""
    return pa.concat_tables(read_table(file, columns) for file in sorted(folder.glob("*.parquet")))


def altered_card(folder: Path, **values) -> None:
    """Write other values into card.json."""
    file = folder / "card.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def as_version_3(folder: Path) -> None:
    """Let a card be one of version 3, which lists name, rows, living rows and hash of each shard."""
    ends = {"low": [0.0, 0.0], "high": [1.0, 1.0]}
    altered_card(folder, version=3, shards=[{**entry, **ends} for entry in load_card(folder).shards])


def of_last_year(folder: Path) -> None:
    """Let all shards be older than their card, as those of any dataset that took longer than a moment to make."""
    for file in folder.glob("*.parquet"):
        os.utime(file, (1.7e9, 1.7e9))


def interrupted(folder: Path) -> None:
    """Make a finished dataset look as if its making had been interrupted before the end."""
    altered_card(folder, complete=False, shards=[], dataset_hash="")


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every shard."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.parquet"))}


def rewritten(file: Path, **columns: pa.Array) -> None:
    """The same shard with other columns and its old digests: sound parquet, altered contents."""
    table = pq.read_table(file)
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, file)


def patterns(
    runs: int,
    size: int = 32,
    seed: int = 0,
    wave: float = 0.12,
    width: float = 0.03,
    each: int = 1,
    memory: float = 0.0,
) -> np.ndarray:
    """Periodic patterns [N, 2, H, W] between 0.1 and 0.9, whose places are chance: bent Gaussian random fields.

    Args:
        wave: cycles a cell, around which their power is.
        width: of the band.
        each: frames of a run, one after the other.
        memory: correlation with the frame before.
    """
    white = np.random.default_rng(seed).normal(size=(runs, each, 2, size, size))
    white[:, :, 1] = 0.6 * white[:, :, 0] + 0.8 * white[:, :, 1]
    for n in range(1, each):
        white[:, n] = memory * white[:, n - 1] + np.sqrt(1 - memory**2) * white[:, n]
    wavenumber = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    band = np.exp(-(((wavenumber - wave) / width) ** 2) / 2)
    fields = np.fft.ifft2(np.fft.fft2(white) * band).real / np.sqrt((band**2).mean())
    return (0.5 + 0.25 * np.arctan(fields + 0.3 * fields**2 - 0.3)).reshape(-1, 2, size, size)
