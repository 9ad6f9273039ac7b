"""p2d in Python without Ray: for small data and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import DiscoverConfig, Library, SimulateConfig
from p2d.discovery.discover import discover_equation
from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.fields import Grid, Species
from p2d.runs import DATA
from p2d.snapshots.passes import SPECIES, InMemory, Snapshots
from p2d.snapshots.simulated import alive, simulate_here
from p2d.snapshots.store import Dataset, open_dataset


def simulate(*preset: str, out: str | Path = "runs", **settings: Any) -> Dataset:
    """Simulate a dataset in this process, or open it if it is there: the same bytes as `p2d simulate` writes.

    Args:
        preset: names of presets; the system's first, such as 'waves' of Gray-Scott, when none is given.
        out: output folder; the dataset goes to OUT/data/NAME.
        settings: see SimulateConfig.

    Raises:
        UserError: settings that are not possible, or differ from those of the dataset that is there.
    """
    config = SimulateConfig(preset=preset, **settings)
    return simulate_here(config, DATA.place(out, config.dataset_name))


def discover(
    snapshots: np.ndarray | Dataset | str | Path | Snapshots,
    library: Library = "cubic",
    *,
    terms: str = "",
    noise: float | str = "auto",
    smoothing: float | str = "auto",
    bootstrap: int = 100,
    seed: int = 0,
    species: tuple[str, ...] = SPECIES,
    runs: Sequence[int] | np.ndarray | None = None,
) -> Discovery:
    """The equation that keeps an ensemble of snapshots stationary.

    Args:
        snapshots: concentrations in [0, 1], [N, 2, H, W], or a dataset or its folder, of which all living are taken;
            dead (uniform) snapshots are left out.
        library: 'cubic', 'cubic+grad' or 'gray-scott'.
        terms: one's own instead, such as '1, u, v, u*v**2, lap(u), lap(v)'.
        noise: standard deviation of white noise in the snapshots; 'auto': told from them.
        smoothing: width in cells of the kernel they are seen through; 'auto': 1.5 where there is noise, or none.
        bootstrap: resamples for the error bars.
        seed: of the resamples.
        species: names of the two, for an array.
        runs: the run that each snapshot of an array is of, [N]; all are of their own when None.

    Raises:
        UserError: another shape, values that are no concentrations, or too few living snapshots.
    """
    config = DiscoverConfig(library, terms, str(noise), str(smoothing), bootstrap, seed)
    if isinstance(snapshots, str | Path):
        snapshots = open_dataset(snapshots)
    if isinstance(snapshots, Dataset):
        return discover_equation(InMemory.of_dataset(snapshots), config)
    if isinstance(snapshots, Snapshots):
        return discover_equation(snapshots, config)
    return discover_equation(_living(np.asarray(snapshots), species, runs), config)


def _living(states: np.ndarray, species: tuple[str, ...], runs: Sequence[int] | np.ndarray | None) -> InMemory:
    """The living of an array of snapshots [N, 2, H, W], with their places in it as ids."""
    if states.ndim != 4 or states.shape[1] != len(species):
        names = " and ".join(species)
        raise UserError(f"states have shape {list(states.shape)}; they must be [N, {len(species)}, H, W], of {names}")
    if not np.isfinite(states).all():
        raise UserError(f"sample {int(np.argwhere(~np.isfinite(states))[0, 0])} holds values that are not finite")
    if runs is not None and len(runs) != len(states):
        raise UserError(f"runs has {len(runs)} entries for {len(states)} snapshots; it must have one for each")
    ends = zip(states.min(axis=(0, 2, 3)), states.max(axis=(0, 2, 3)), strict=True)
    ranges = tuple(Species(name, "", *map(float, end)) for name, end in zip(species, ends, strict=True))
    living = np.flatnonzero(alive(states, ranges))
    grid = Grid((states.shape[2], states.shape[3]))
    return InMemory(states[living], living, living if runs is None else np.asarray(runs)[living], species, grid)
