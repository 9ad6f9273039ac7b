"""What is trained: from settings and data to a task for the one loop of training/.

`build` makes the task of a score model (score.py) or of a flow (flow.py). Whatever is measured on the data before
training starts (spectrum, spread of the features, speed) is measured here, and weights are drawn from the seed. A new
kind of model has its settings in config/, a Task beside its model, and a function here that puts the two together.
"""

from __future__ import annotations

from pathlib import Path

import torch

from p2d.config import ModelConfig, ScoreConfig
from p2d.fields import Grid, Scaling
from p2d.recipes.flow import flow_task
from p2d.recipes.score import score_task
from p2d.training.task import Data, Task


def build(
    config: ModelConfig, data: Data, grid: Grid, scaling: Scaling, device: torch.device, score: Path | None
) -> Task:
    """The task of these settings, on its device.

    Args:
        grid: of the states.
        scaling: of the training coordinates.
        score: the score model's folder, for the continuity and training-free objectives.

    Raises:
        UserError: levels clearer than the snapshots, or a score model that cannot be read.
    """
    if isinstance(config, ScoreConfig):
        return score_task(config, data, grid, scaling, device).to(device)
    return flow_task(config, data, grid, score).to(device)
