"""p2d in Python without Ray: for small data and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.flow import discover as closed_form
from p2d.simulation import ALIVE_SPREAD, simulate_here
from p2d.snapshots.store import Dataset


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
    return simulate_here(config, Path(out) / "data" / config.dataset_name)


def discover(states: np.ndarray, library: str = "cubic", bootstrap: int = 50, seed: int = 0) -> closed_form.Discovery:
    """The equation that keeps an ensemble of snapshots stationary.

    Args:
        states: concentrations in [0, 1], [N, 2, H, W]; dead (uniform) snapshots are left out.
        library: 'cubic' or 'gray-scott'.
        bootstrap: resamples for the error bars.
        seed: of the resamples.

    Raises:
        UserError: another shape, values that are not finite or outside [0, 1], or too few living snapshots.
    """
    states = np.asarray(states)
    if states.ndim != 4 or states.shape[1] != 2:
        raise UserError(f"states have shape {list(states.shape)}; they must be [N, 2, H, W]")
    if not (np.isfinite(states).all() and states.min() >= 0 and states.max() <= 1):
        raise UserError(f"states range from {states.min()} to {states.max()}; concentrations lie in [0, 1]")
    alive = np.flatnonzero(states[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD)
    closed_form.enough(len(alive))
    return closed_form.discover(closed_form.moments(alive, states[alive]), library, bootstrap, seed)
