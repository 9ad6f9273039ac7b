"""What a trained model was made of, to know it again: settings, data and, for a flow, its score model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2d.config import FlowConfig, ScoreConfig, TrainSource, refuse_other_settings, settings_hash
from p2d.runs import recovered
from p2d.snapshots.store import Dataset
from p2d.training.checkpoint import read_config


def describe(
    config: ScoreConfig | FlowConfig, source: TrainSource, dataset: Dataset, score: Path | None
) -> dict[str, Any]:
    """What a checkpoint says of itself: kind, settings, and the data it was learnt from."""
    data: dict[str, Any] = {
        "dataset_hash": dataset.card.dataset_hash,
        "affine": dataset.card.affine,
        "grid": list(dataset.card.grid),
        "holdout": source.holdout,
    }
    if source.snapshots:
        data["snapshots"] = source.snapshots
    if score is not None:
        data["score"] = settings_hash(read_config(score, "score"))
    kind = "score" if isinstance(config, ScoreConfig) else "flow"
    learnt_from = {"dataset": dataset.folder.name, "systems": list(dataset.card.parameters)}
    description = {"kind": kind, "settings": config.identity(), "data": data, "learnt_from": learnt_from}
    if score is not None and isinstance(config, FlowConfig) and config.objective == "training-free":
        description["score"] = read_config(score, "score")["settings"]  # its weights are part of the flow
    return description


def is_trained(folder: Path, description: dict[str, Any]) -> bool:
    """Whether the folder holds this very model.

    Raises:
        UserError: it holds one of other settings (says which differ).
    """
    if not (recovered(folder) / "config.json").exists():
        return False
    kind = description["kind"]
    made = read_config(folder, kind)
    asked = {**description["settings"], **description["data"]}
    refuse_other_settings(f"the {kind} model {folder}", {**made["settings"], **made["data"]}, asked)
    return True
