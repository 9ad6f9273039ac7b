"""What the report page shows: all that there is of a dataset, read and measured before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config.stored import Json
from p2d.discovery.result import Discovery
from p2d.evaluate.course import Rollout
from p2d.evaluate.evaluation import Evaluation
from p2d.evaluate.quality import Quality
from p2d.evaluate.short_rollout import ShortRollout
from p2d.show.view import View
from p2d.snapshots.store import Dataset
from p2d.systems.system import System
from p2d.training.history import History


@dataclass(frozen=True, eq=False)
class Generated:
    """Patterns that a score model has made up, beside held-out ones.

    Attributes:
        states, held: values [N, C, H, W] and [M, C, h, w].
        spectra: means of the power of each species over rings of wavenumbers [C, K], by what they are of; {} where the
            sizes differ.
    """

    name: str
    states: np.ndarray
    held: np.ndarray
    quality: Quality | None
    spectra: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Material:
    """What is shown.

    Attributes:
        name: of the page.
        view: of the snapshots; all species are shown, and that of the view first.
        states: some held-out values, [N, C, H, W].
        velocities: there, [N, C, H, W], by 'true', 'flow' and 'equation', as far as there are any; nan where
            they are not known.
        sheet: other snapshots, [M, C, H, W].
        truth: the system that the snapshots are of, where that is known and the same for all.
        denoised: alpha, noised and denoised states [C, H, W] of the first held-out snapshot.
        rollouts: measured by `p2d rollout`, by name.
        sweeps: by name, as their sweep.json has them.
        settings: of everything that was made, by its place.
        events: what happened, the oldest first.
    """

    name: str
    dataset: Dataset
    view: View
    states: np.ndarray
    sheet: np.ndarray
    velocities: dict[str, np.ndarray] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    discovery: Discovery | None = None
    truth: System | None = None
    histories: dict[str, History] = field(default_factory=dict)
    objective: str = ""
    denoised: list[tuple[float, np.ndarray, np.ndarray]] = field(default_factory=list)
    short: ShortRollout | None = None
    generated: Generated | None = None
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    sweeps: dict[str, Json] = field(default_factory=dict)
    settings: dict[str, Json] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    out: Path = Path("runs")
