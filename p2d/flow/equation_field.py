"""An equation as a velocity field in training coordinates, so that it can be carried on in time like a flow."""

from __future__ import annotations

from torch import Tensor, nn

from p2d.systems.library import Equation, rate

AFFINE = {"scale": 2.0, "shift": -1.0}  # training coordinates x = 2 c - 1


class EquationField(nn.Module):
    """v(x) = scale rate(c) of concentrations c = (x - shift) / scale.

    Args:
        equation: terms and coefficients of each species.
        affine: scale and shift.
    """

    def __init__(self, equation: Equation, affine: dict[str, float]) -> None:
        super().__init__()
        self.equation, self.affine = equation, affine

    def forward(self, x: Tensor) -> Tensor:
        """Velocity [B, 2, H, W] at states x [B, 2, H, W]."""
        scale, shift = self.affine["scale"], self.affine["shift"]
        return scale * rate(self.equation, (x - shift) / scale)
