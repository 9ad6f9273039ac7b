"""A system's rates as a velocity field in training coordinates, so that it can be carried on in time like a flow."""

from __future__ import annotations

from torch import Tensor, nn

from p2d.fields import REACH, Grid, Operator, Scaling
from p2d.flow.velocity import PERIODIC
from p2d.systems.system import System


class SystemField(nn.Module):
    """The rate of change of training coordinates x under a system, over its speed.

    Args:
        scaling: between the system's values and x.
        speed: in training coordinates per unit of the system's time.
        grid: whose spacing and edges the states have, of any size.
        operator: of the Laplacian.
    """

    def __init__(
        self,
        system: System,
        scaling: Scaling,
        speed: float = 1.0,
        grid: Grid = PERIODIC,
        operator: Operator = "5-point",
    ) -> None:
        super().__init__()
        self.system, self.scaling, self.speed = system, scaling, speed
        self.grid, self.operator = grid, operator

    @property
    def reach(self) -> int:
        """How many cells away the rates see."""
        return self.system.reach * REACH[self.operator]

    def forward(self, x: Tensor) -> Tensor:
        """Velocity [B, C, H, W] at states x [B, C, H, W]."""
        grid = self.grid.sized(x.shape)
        rate = self.system.rate(self.scaling.to_values(x), grid, self.operator)
        return grid.masked(self.scaling.velocity_to_training(rate) / self.speed)
