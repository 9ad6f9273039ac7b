"""What a flow is trained as: one of its three objectives, around features that are standardised on the data."""

from __future__ import annotations

from pathlib import Path

import torch

from p2d.config import FlowConfig
from p2d.fields import Grid
from p2d.flow.continuity import Continuity
from p2d.flow.model import field_options, skew_field
from p2d.flow.skew import TrainingFree
from p2d.flow.stationarity import Stationarity
from p2d.flow.velocity import LocalField, bound_features, feature_statistics
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.training.randomness import stream_seed
from p2d.training.task import Data, Task, spread

OBSERVABLES_PER_WEIGHT = 1.5  # of the last layer, at least
FEATURE_STATES, SPEED_STATES = 4096, 32  # that statistics are measured on; more add nothing


def flow_task(config: FlowConfig, data: Data, grid: Grid, score: Path | None) -> Task:
    """The training of a flow on a grid; `score` is the score model's folder, for the objectives that need one."""
    species = data.states(torch.arange(1)).shape[1]
    if config.objective == "training-free":
        assert score is not None
        skew = skew_field(config, ScoreModel.load(score), species, grid)
        skew.set_speed(data.states(spread(data.count, SPEED_STATES)))
        return TrainingFree(skew, config.probes, config.seed)
    generator = torch.Generator().manual_seed(stream_seed("weights", config.seed))
    states = data.states(spread(data.count, FEATURE_STATES))
    if config.objective == "continuity":
        eps = torch.randn(states.shape, generator=generator)
        states = noise.add_noise(states, eps, torch.full((len(states),), config.alpha))
    mean, std = feature_statistics(states, config.radius, grid)
    options = {**field_options(config), "species": species, "grid": grid}
    field = LocalField(**options, mean=mean, std=std, generator=generator)
    if config.objective == "stationarity":
        bound_features(field, states)
        # More than there are weights, or some field would have no rates at all.
        observables = max(config.observables, round(OBSERVABLES_PER_WEIGHT * field.last.numel()))
        return Stationarity(field, observables, config.seed)
    assert score is not None
    probes = config.probes if config.divergence == "hutchinson" else 0
    return Continuity(
        field, ScoreModel.load(score), config.alpha, config.gaussian_weight, config.sym, probes, config.seed
    )
