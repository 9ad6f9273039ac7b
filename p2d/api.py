"""p2d in Python without Ray: for small data and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import DiscoverConfig, Library, SimulateConfig
from p2d.discovery import discover as closed_form
from p2d.discovery import moments
from p2d.errors import UserError
from p2d.runs import DATA
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.simulated import ALIVE_SPREAD, simulate_here
from p2d.snapshots.store import Dataset, evenly, open_dataset
from p2d.systems import writing as equation


def simulate(*preset: str, out: str | Path = "runs", **settings: Any) -> Dataset:
    """Simulate a dataset in this process, or open it if it is there: the same bytes as `p2d simulate` writes.

    Args:
        preset: names of presets, 'waves' when none is given.
        out: output folder; the dataset goes to OUT/data/NAME.
        settings: see SimulateConfig.

    Raises:
        UserError: settings that are not possible, or differ from those of the dataset that is there.
    """
    config = SimulateConfig(preset=preset or ("waves",), **settings)
    return simulate_here(config, DATA.place(out, config.dataset_name))


def discover(
    snapshots: np.ndarray | Dataset | str | Path,
    library: Library = "cubic",
    *,
    terms: str = "",
    noise: float | str = "auto",
    smoothing: float | str = "auto",
    bootstrap: int = 100,
    seed: int = 0,
) -> closed_form.Discovery:
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

    Raises:
        UserError: another shape, values that are no concentrations, or too few living snapshots.
    """
    config = DiscoverConfig(library, terms, str(noise), str(smoothing), bootstrap, seed)
    states, ids, runs = _living(snapshots)
    closed_form.enough(len(np.unique(runs)))
    question = closed_form.question(config)
    measure = closed_form.look(evenly(states, LOOKED_AT), question)

    def passing(task: closed_form.Task) -> moments.Fields:
        return moments.sound(moments.collect(task, ids, states), ids, measure.terms)

    return closed_form.discover(passing, runs, measure, question)


def _living(snapshots: np.ndarray | Dataset | str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [N, 2, H, W] of the living, their places among all snapshots, and the run that each is of."""
    if isinstance(snapshots, str | Path):
        snapshots = open_dataset(snapshots)
    if isinstance(snapshots, Dataset):
        living = snapshots.living
        return snapshots.states(living), living, snapshots.runs(living)
    states = np.asarray(snapshots)
    if states.ndim != 4 or states.shape[1] != 2:
        raise UserError(f"states have shape {list(states.shape)}; they must be [N, 2, H, W], of u and v")
    if not np.isfinite(states).all():
        raise UserError(f"sample {int(np.argwhere(~np.isfinite(states))[0, 0])} holds values that are not finite")
    alive = np.flatnonzero(states[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD)
    return states[alive], alive, alive


def format_equation(found: closed_form.Discovery) -> str:
    """The two equations in one line each, coefficients with the error of their last digits in brackets."""
    return equation.text(found.equation, found.error)
