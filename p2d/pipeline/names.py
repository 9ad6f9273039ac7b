"""Models and equations by their names under the output folder, or by their paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2d.errors import UserError
from p2d.snapshots.store import Dataset
from p2d.training.checkpoint import read_config


def find_model(kind: str, name: str, out: Path) -> Path:
    """Folder of a score model or flow, named by its name under OUT/KIND or by its path.

    Raises:
        UserError: no such model (lists those that are there).
    """
    for folder in (out / kind / name, Path(name)):
        if (folder / "config.json").is_file():
            read_config(folder, kind)
            return folder
    there = sorted(p.parent.name for p in (out / kind).glob("*/config.json"))
    held = f"which holds {', '.join(there)}" if there else "which is empty"
    raise UserError(
        f"there is no {kind} model {name!r}, neither as a folder nor under {out / kind} ({held}); "
        f"p2d train-{kind} makes one"
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
    there, here = learnt_from.get("systems"), list(dataset.card.parameters)
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


def optional_model(kind: str, name: str, short: str, out: Path) -> Path | None:
    """The model of this name, or without one that of the dataset's short name, if it is there."""
    if name:
        return find_model(kind, name, out)
    folder = out / kind / short
    return folder if (folder / "config.json").is_file() else None


def find_equation(name: str, short: str, out: Path) -> Path | None:
    """The file of the equation of this name, or without one that of the dataset's short name, if it is there.

    Raises:
        UserError: no equation of this name.
    """
    for file in (out / "discover" / (name or short) / "equation.json", Path(name) / "equation.json", Path(name)):
        if file.is_file():
            return file
    if name:
        place = out / "discover"
        raise UserError(f"there is no equation {name!r}, neither as a file nor under {place}; p2d discover makes one")
    return None
