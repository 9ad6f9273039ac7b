"""From settings and data to what is trained: the task and schedule of a score model and of a flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from p2d.config import FlowConfig, ScoreConfig
from p2d.flow.continuity import Continuity
from p2d.flow.stationarity import Stationarity
from p2d.flow.velocity import LocalField, feature_statistics, field_options
from p2d.score import noise
from p2d.score.loss import DenoisingScoreMatching
from p2d.score.unet import ScoreModel, model_options
from p2d.snapshots.store import Dataset
from p2d.streams import stream_seed
from p2d.training.loop import Data, Schedule, Task

FLOW_WARMUP = 10  # steps


def load_data(dataset: Dataset, holdout: float) -> Data:
    """All living states in training coordinates, split as every stage splits them.

    Raises:
        UserError: a value that is not finite (names shard and sample), or too few living samples.
    """
    affine = dataset.card.affine
    train, held = dataset.split(holdout)

    def states(ids: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(dataset.states(ids) * np.float32(affine["scale"]) + np.float32(affine["shift"]))

    return Data(states(train), torch.from_numpy(train), states(held), torch.from_numpy(held))


def build(config: ScoreConfig | FlowConfig, data: Data, score: Path | None) -> tuple[Task, Schedule]:
    """The task and schedule of these settings; `score` is the score model's folder, for the continuity objective."""
    if isinstance(config, ScoreConfig):
        return _score(config, data)
    return _flow(config, data, score)


def _score(config: ScoreConfig, data: Data) -> tuple[Task, Schedule]:
    torch.manual_seed(stream_seed("weights", config.seed) % 2**31)  # torch's layers draw from the global stream
    mean, std = data.train.mean(dim=(0, 2, 3)), data.train.std(dim=(0, 2, 3))
    model = ScoreModel(**model_options(config.to_dict()), mean=mean, std=std.clamp(min=1e-6))
    schedule = Schedule(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        ema=config.ema,
        decay="cosine",
        seed=config.seed,
    )
    return DenoisingScoreMatching(model, config.seed, config.augment), schedule


def _flow(config: FlowConfig, data: Data, score: Path | None) -> tuple[Task, Schedule]:
    schedule = Schedule(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=FLOW_WARMUP,
        weight_decay=0.0,
        ema=0.0,
        decay=config.schedule,
        seed=config.seed,
    )
    generator = torch.Generator().manual_seed(stream_seed("weights", config.seed))
    states = data.train
    if config.objective == "continuity":
        eps = torch.randn(states.shape, generator=generator)
        states = noise.add_noise(states, eps, torch.full((len(states),), config.alpha))
    mean, std = feature_statistics(states, config.corners)
    field = LocalField(**field_options(config.to_dict()), mean=mean, std=std, generator=generator)
    if config.objective == "stationarity":
        return Stationarity(field, config.observables, config.seed), schedule
    assert score is not None
    probes = config.probes if config.divergence == "hutchinson" else 0
    task = Continuity(
        field, ScoreModel.load(score), config.alpha, config.gaussian_weight, config.sym, probes, config.seed
    )
    return task, schedule
