"""The flow as a user holds it: values of the species in, values per unit time out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from p2d.config import FlowConfig
from p2d.errors import UNREADABLE, UserError
from p2d.fields import Grid, Operator, Scaling
from p2d.flow.skew import SkewField
from p2d.flow.system_field import SystemField
from p2d.flow.velocity import PERIODIC, LocalField, at_cells, lattice
from p2d.places import place
from p2d.score.model import ScoreModel, model_options
from p2d.score.spectrum import Spectrum
from p2d.systems.system import System
from p2d.training.checkpoint import fitted, origin_text, read_checkpoint


class Flow(nn.Module):
    """A velocity field on the values of C species, on a grid of any size.

    Example:
        import torch, p2d
        flow = p2d.Flow.load("runs/flow/waves")              # what p2d train-flow has made
        c = torch.rand(2, 2, 64, 64)                         # values [B, C, H, W], in the species' units
        velocity = flow(c)                                   # their rate of change, shaped as c

    The unit of time is a convention, as snapshots cannot tell it: the mean square of the velocity, in training
    coordinates, is 1 over the training data. So is its direction: diffusion damps (negative mean divergence); that of a
    training-free flow, which has no divergence, is the sign it was asked for.

    Args:
        field: v(x) in training coordinates x of values c.
        scaling: between the two.
        alpha: signal level of the noised states that the field keeps as they are; None: it keeps the clean ones.
    """

    origin = "not loaded from a checkpoint"  # objective and dataset of one that is

    def __init__(
        self, field: LocalField | SkewField | SystemField, scaling: Scaling, alpha: float | None = None
    ) -> None:
        super().__init__()
        self.field = field
        self.scaling = scaling
        self.alpha = alpha

    def forward(self, c: Tensor) -> Tensor:
        """Velocity [B, C, H, W] at values c [B, C, H, W]."""
        return self.scaling.velocity_to_values(self.field(self.scaling.to_training(c)))

    def __repr__(self) -> str:
        level = "" if self.alpha is None else f", alpha {self.alpha:g}"
        return f"Flow: {self.origin}{level}, {sum(parameter.numel() for parameter in self.parameters()):,} weights"

    def on(self, grid: Grid) -> Flow:
        """The flow with the edges of this grid, in the place of those it was learnt with: its law is that of a cell.

        Raises:
            UserError: the grid's cells are of another size.
        """
        if grid.spacing != self.field.grid.spacing:
            raise UserError(
                f"the flow was learnt from cells {self.field.grid.spacing:g} apart, and these are {grid.spacing:g} "
                "apart; train one on such"
            )
        self.field.grid = grid
        return self

    @property
    def reach(self) -> int:
        """How many cells away a velocity sees, where that tells in which cells it is known."""
        return self.field.reach

    @classmethod
    def of_system(
        cls, system: System, states: Tensor, scaling: Scaling, grid: Grid = PERIODIC, operator: Operator = "5-point"
    ) -> Flow:
        """The velocity of a system, in the unit of time of flows over these states [B, C, H, W], in its own units."""
        field = SystemField(system, scaling, 1.0, grid, operator)
        cells = lattice(grid.sized(states.shape), 1, field.reach)
        field.speed = float(at_cells(field(scaling.to_training(states)), cells).square().mean().sqrt())
        return cls(field, scaling).eval()

    @classmethod
    def load(cls, path: str | Path) -> Flow:
        """The flow of a checkpoint folder, on the CPU, in evaluation mode.

        Raises:
            UserError: no checkpoint there, one of another kind, or weights that its config does not describe.
        """
        config, weights = read_checkpoint(place(path), "flow")
        try:
            settings = FlowConfig.from_dict(config["settings"])
            data = config["data"]
            scaling, grid = (
                Scaling.from_dict(data["scaling"]),
                Grid.from_dict(data["grid"]) if "grid" in data else PERIODIC,
            )
            species = len(scaling.scale)

            def build() -> LocalField | SkewField:
                if settings.objective == "training-free":
                    return skew_field(settings, _empty_score(config["score"], weights, grid), species, grid)
                return LocalField(**field_options(settings), species=species, grid=grid)

            field = fitted(build, weights)
        except (RuntimeError, *UNREADABLE) as error:
            raise UserError(
                f"{path}/model.safetensors does not hold the flow that its config.json describes; train the flow again"
            ) from error
        noised = settings.objective != "stationarity"
        flow = cls(field, scaling, settings.alpha if noised else None)
        flow.origin = f"{settings.objective}, {origin_text(config)}"
        return flow.eval()


def field_options(settings: FlowConfig) -> dict[str, Any]:
    """Constructor arguments of the LocalField that these settings make."""
    return {"hidden": settings.hidden, "radius": settings.radius, "activation": settings.activation}


def skew_field(settings: FlowConfig, score: ScoreModel, species: int, grid: Grid) -> SkewField:
    """The training-free field of these settings and this score model."""
    sign = 1 if settings.sign == "+" else -1
    return SkewField(score, settings.alpha, settings.kernel_radius, sign, species, grid)


def _empty_score(settings: dict[str, Any], weights: dict[str, Tensor], grid: Grid) -> ScoreModel:
    """A score model that these weights, whose names start with 'score.', fit into."""
    knots, power, mean = (weights[f"score.spectrum.{name}"] for name in ("wavenumber", "power", "mean"))
    spectrum = Spectrum(knots, power, mean, grid.edges)
    return ScoreModel(**model_options(settings), spectrum=spectrum, grid=grid)
