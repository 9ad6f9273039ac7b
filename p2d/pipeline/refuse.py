"""What was learnt from other data than a stage works on is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2d.config.learn import Objective
from p2d.errors import UserError
from p2d.flow.skew import cyclic
from p2d.snapshots.store import Dataset
from p2d.training.checkpoint import read_config


def refuse_objective(objective: Objective, dataset: Dataset) -> None:
    """Refuse an objective of flows that means nothing on a dataset.

    Raises:
        UserError: says why, and what to take.
    """
    grid = dataset.card.grid
    if objective == "training-free":
        cyclic(len(dataset.card.species))
    if objective == "continuity" and not grid.is_closed:
        where = "outside a mask" if grid.mask else "beyond open edges"
        raise UserError(
            f"continuity is not possible on {dataset.folder}: it asks div v + v . s of whole states, whose velocity is "
            f"not known beside what lies {where}; take the objective stationarity"
        )


def refuse_other_systems(kind: str, model: Path, dataset: Dataset) -> None:
    """Refuse a model that was trained on another preset, or other rates, than the dataset is of.

    Raises:
        UserError: names both.
    """
    learnt_from = read_config(model, kind).get("learnt_from", {})
    refuse_systems(f"{model} was trained on", learnt_from, dataset, f"a {kind} model")


def refuse_systems(told: str, learnt_from: dict[str, Any], dataset: Dataset, wanted: str) -> None:
    """Refuse what was learnt from other systems than the dataset is of.

    Raises:
        UserError: begins with what is told, names both, and ends with what is wanted instead.
    """
    there, here = learnt_from.get("systems"), list(dataset.card.systems)
    if there and here and there != here:
        raise UserError(
            f"{told} {', '.join(there)} (dataset {learnt_from['dataset']}), and {dataset.folder} is of "
            f"{', '.join(here)}; name {wanted} of that"
        )


def refuse_other_levels(score: Path, alpha: float) -> None:
    """Refuse a signal level that a score model was not trained for.

    Raises:
        UserError: names the level and those it was trained for.
    """
    levels = read_config(score, "score")["settings"]["alpha"]
    if not min(levels) <= alpha <= max(levels):
        told = " to ".join(map(str, levels))
        raise UserError(f"alpha = {alpha} is not what {score} was trained for, which is {told}")
