"""A training as one frozen object, which goes from the stage to the loop on every worker."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p2d.config import FlowConfig, ModelConfig, ScoreConfig, TrainSource, refuse_other_settings, settings_hash
from p2d.snapshots.store import Dataset
from p2d.training.checkpoint import read_config


@dataclass(frozen=True)
class TrainJob:
    """What is trained, on what, into which folder, and with how much of the machine.

    Attributes:
        config: of the model and its training.
        source: share held out, number of workers and what they may take.
        dataset: what to learn from.
        folder: where the finished checkpoint goes.
        score: folder of the score model, for the objectives of a flow that need one.
        here: a single worker is this very process, and every epoch's model is shown.
        beside: trainings that run at a time, and share the machine.
        threads: of each worker; cluster/training.py sets it.
    """

    config: ModelConfig
    source: TrainSource
    dataset: Dataset
    folder: Path
    score: Path | None = None
    here: bool = False
    beside: int = 1
    threads: int = 1

    @property
    def kind(self) -> str:
        """'score' or 'flow'."""
        return "score" if isinstance(self.config, ScoreConfig) else "flow"

    @property
    def training_snapshots(self) -> int:
        """How many snapshots it learns from."""
        return len(self.dataset.split(self.source.holdout, self.source.snapshots)[0])

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the checkpoint says of itself: kind, settings, and the data it was learnt from."""
        card = self.dataset.card
        data: dict[str, Any] = {
            "dataset_hash": card.dataset_hash,
            "scaling": self.dataset.scaling.to_dict(),
            "grid": card.grid.to_dict(),
            "holdout": self.source.holdout,
        }
        if self.source.snapshots:
            data["snapshots"] = self.source.snapshots
        if self.score is not None:
            data["score"] = settings_hash(read_config(self.score, "score"))
        species = [asdict(species) for species in card.species]
        learnt_from = {"dataset": self.dataset.folder.name, "systems": list(card.systems), "species": species}
        settings = self.config.identity()
        description = {"kind": self.kind, "settings": settings, "data": data, "learnt_from": learnt_from}
        if self.score is not None and isinstance(self.config, FlowConfig) and self.config.objective == "training-free":
            description["score"] = read_config(self.score, "score")["settings"]  # its weights are part of the flow
        return description

    @property
    def storage(self) -> Path:
        """Where checkpoints lie while it runs; the name stands for the settings, so that only an equal one goes on."""
        return self.folder.with_name(f".{self.folder.name}-{settings_hash(self.description)}")

    def is_trained(self) -> bool:
        """Whether the folder holds this very model.

        Raises:
            UserError: it holds one of other settings (says which differ).
        """
        if not (self.folder / "config.json").exists():
            return False
        made, asked = read_config(self.folder, self.kind), self.description
        refuse_other_settings(
            f"the {self.kind} model {self.folder}",
            {**made["settings"], **made["data"]},
            {**asked["settings"], **asked["data"]},
        )
        return True
