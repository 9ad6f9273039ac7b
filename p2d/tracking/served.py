"""Models as MLflow loads them: an MLmodel names this module, and what it loads is our own files, never pickled code.

`mlflow.pyfunc.load_model` gives a model whose `predict` takes snapshots [N, C, H, W] float32, in the units of the
species, and gives an array of the same shape:

    score      the posterior mean of the clean snapshots, or the score there, of snapshots with white noise
    flow       the velocity, in the flow's own unit of time
    equation   the rates of change, in the equation's unit of time, under conditions where it was fitted across some

Cells whose neighbours are not known, along open edges, are nan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.fields import REACH, Grid, Scaling
from p2d.flow.model import Flow
from p2d.runs import read_json
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.training.checkpoint import read_config

TOGETHER = 8  # snapshots in memory at a time
DENOISED, SCORE = "denoised", "score"  # what a score model gives
Params = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """A model of a checkpoint folder or an equation.json, for MLflow.

    Attributes:
        kind: 'score', 'flow' or 'equation'.
        species: how many.
        grid: of the data that it was learnt from.
        one_size: it is for that grid alone.
        defaults: parameters of a prediction.
        function: snapshots [N, C, H, W] and all parameters, to an array of that shape.
        reach: how many cells away an entry of it sees.
    """

    kind: str
    species: int
    grid: Grid
    one_size: bool
    defaults: Params
    function: Callable[[np.ndarray, Params], np.ndarray]
    reach: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it takes and gives; -1 where any size will do."""
        rows, columns = (size if self.one_size or size == 1 else -1 for size in self.grid.shape)
        return (-1, self.species, rows, columns)

    def predict(self, states: Any, params: Params | None = None) -> np.ndarray:
        """What the model gives at snapshots.

        Raises:
            UserError: another shape, or parameters that are not possible.
        """
        states = np.asarray(states, np.float32)
        if states.ndim != 4 or any(own not in (-1, size) for own, size in zip(self.shape, states.shape, strict=True)):
            raise UserError(f"states have shape {list(states.shape)}; they must be {list(self.shape)}, -1 for any size")
        given = {**self.defaults, **(params or {})}
        parts = [self.function(states[i : i + TOGETHER], given) for i in range(0, len(states), TOGETHER)]
        made = np.concatenate(parts) if parts else states
        grid = self.grid.sized(states.shape)
        if self.reach and not grid.is_closed:
            made[..., ~grid.inside(self.reach)] = np.nan
        return made.astype(np.float32)


def load(path: Path) -> Served:
    """The model of a checkpoint folder, or of an equation.json or its folder.

    Raises:
        UserError: it holds none, or a damaged one.
    """
    if path.is_file() or (path / "equation.json").is_file():
        return _equation(Discovery.load(path))
    config = path / "config.json"
    is_flow = config.is_file() and read_json(config).get("kind") == "flow"
    return _flow(path) if is_flow else _score(path)


def _load_pyfunc(path: str) -> Served:
    """Called by MLflow, with the folder of our files."""
    return load(Path(path))


def _score(path: Path) -> Served:
    model, scaling = ScoreModel.load(path), Scaling.from_dict(read_config(path, "score")["data"]["scaling"])
    defaults = {"alpha": float(model.alpha[-1]), "output": DENOISED}

    @torch.no_grad()
    def function(states: np.ndarray, params: Params) -> np.ndarray:
        """Of snapshots y = c + scale sigma n, with sigma^2 = (1 - alpha) / alpha: E[c | y], or grad log p(y)."""
        if params["output"] not in (DENOISED, SCORE):
            raise UserError(f"output = {params['output']!r} is not possible: {DENOISED} or {SCORE}")
        alpha = torch.tensor(float(params["alpha"]))
        y = scaling.to_training(torch.from_numpy(states))
        mean = model.denoise(alpha.sqrt() * y, float(alpha))
        if params["output"] == DENOISED:
            return scaling.to_values(mean).numpy()
        return scaling.velocity_to_training((mean - y) / noise.sigma_of(alpha) ** 2).numpy()  # Tweedie's formula

    return Served("score", model.species, model.grid, model.mask is not None, defaults, function)


def _flow(path: Path) -> Served:
    flow = Flow.load(path)
    grid = flow.field.grid

    @torch.no_grad()
    def function(states: np.ndarray, params: Params) -> np.ndarray:
        return flow(torch.from_numpy(states)).numpy()

    return Served("flow", len(flow.scaling.scale), grid, grid.mask is not None, {}, function, flow.reach)


def _equation(discovery: Discovery) -> Served:
    grid = discovery.grid or Grid((2, 2))
    operator = discovery.operator

    def function(states: np.ndarray, params: Params) -> np.ndarray:
        system = discovery.at(**{name: float(value) for name, value in params.items()})
        return system.rate(states.astype(np.float64), grid.sized(states.shape), operator)

    species, reach = len(discovery.terms), discovery.system.reach * REACH[operator]
    return Served("equation", species, grid, grid.mask is not None, dict(discovery.middle), function, reach)
