"""A system's rates as a velocity field in training coordinates, so that it can be carried on in time like a flow."""

from __future__ import annotations

from torch import Tensor, nn

from p2d.fields import Scaling
from p2d.systems.system import System


class SystemField(nn.Module):
    """The rate of change of training coordinates x under a system, over its speed.

    Args:
        scaling: between the system's values and x.
        speed: in training coordinates per unit of the system's time.
    """

    def __init__(self, system: System, scaling: Scaling, speed: float = 1.0) -> None:
        super().__init__()
        self.system, self.scaling, self.speed = system, scaling, speed

    def forward(self, x: Tensor) -> Tensor:
        """Velocity [B, C, H, W] at states x [B, C, H, W]."""
        return self.scaling.velocity_to_training(self.system.rate(self.scaling.to_values(x))) / self.speed
