"""The Gray-Scott reaction-diffusion system: parameters, presets and the rate of change.

    du/dt = D_u lap(u) - u v^2 + F (1 - u)
    dv/dt = D_v lap(v) + u v^2 - (F + k) v

Pearson 1993, "Complex patterns in a simple system". Grid spacing 1, periodic, 5-point Laplacian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2d.errors import UserError, nearest


@dataclass(frozen=True)
class GrayScott:
    """Parameters of the Gray-Scott system, checked on construction.

    Attributes:
        D_u, D_v: diffusion coefficients, cells^2 per unit time.
        F: feed rate of u, per unit time.
        k: kill rate of v, per unit time.
        dt: step of the forward Euler scheme, unit time.

    Raises:
        UserError: a value that is negative or not finite, or a step beyond the stability limits.
    """

    D_u: float
    D_v: float
    F: float
    k: float
    dt: float = 1.0

    def __post_init__(self) -> None:
        for name in ("D_u", "D_v", "F", "k"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise UserError(f"{name} = {value} is not possible: it must be a finite number, 0 or above")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise UserError(f"dt = {self.dt} is not possible: it must be a finite number above 0")
        if self.dt > self.largest_stable_dt:
            raise UserError(
                f"dt = {self.dt:g} is unstable with D = {max(self.D_u, self.D_v):g}: "
                f"Euler needs dt <= 1 / (4 max(D)) = {self.largest_stable_dt:.4g}"
            )
        if self.dt * (self.F + self.k) > 1:
            raise UserError(
                f"dt = {self.dt:g} is too long with F + k = {self.F + self.k:g}: a step would remove more than there "
                f"is; it needs dt <= 1 / (F + k) = {1 / (self.F + self.k):.4g}"
            )

    @property
    def largest_stable_dt(self) -> float:
        """1 / (4 max(D)): beyond it the shortest wave of the 5-point Laplacian grows (von Neumann)."""
        largest = max(self.D_u, self.D_v)
        return 1.0 / (4.0 * largest) if largest > 0 else np.inf

    def rate(self, state: Any) -> Any:
        """(du/dt, dv/dt) at `state`: [..., 2, H, W] concentrations, numpy array or torch tensor, same kind back."""
        u, v = state[..., 0, :, :], state[..., 1, :, :]
        reaction = u * v * v
        du = self.D_u * laplacian(u) - reaction + self.F * (1 - u)
        dv = self.D_v * laplacian(v) + reaction - (self.F + self.k) * v
        return _stack_species(du, dv)


def laplacian(field: Any) -> Any:
    """5-point periodic Laplacian over the last two axes, grid spacing 1; numpy array or torch tensor."""
    roll = np.roll if isinstance(field, np.ndarray) else _torch().roll
    neighbours = roll(field, 1, -1) + roll(field, -1, -1) + roll(field, 1, -2) + roll(field, -1, -2)
    return neighbours - 4 * field


def _stack_species(du: Any, dv: Any) -> Any:
    if isinstance(du, np.ndarray):
        return np.stack([du, dv], axis=-3)
    return _torch().stack([du, dv], dim=-3)


def _torch() -> Any:
    # Imported on use: the command line reads the presets from this file and must start without torch.
    import torch

    return torch


PRESETS: dict[str, GrayScott] = {
    "waves": GrayScott(0.16, 0.08, 0.018, 0.049),
    "spirals": GrayScott(0.16, 0.08, 0.007, 0.028),
    "maze": GrayScott(0.16, 0.08, 0.029, 0.057),
    "life": GrayScott(0.16, 0.08, 0.006, 0.045),
    "spots": GrayScott(0.16, 0.08, 0.035, 0.065),
    "dots": GrayScott(0.16, 0.08, 0.040, 0.070),
    "stripes": GrayScott(0.16, 0.08, 0.035, 0.060),
    "holes": GrayScott(0.16, 0.08, 0.039, 0.058),
    "chaos": GrayScott(0.10, 0.05, 0.026, 0.051),
    "bubbles": GrayScott(0.16, 0.08, 0.090, 0.059),
    "worms": GrayScott(0.16, 0.08, 0.046, 0.063),
    "solitons": GrayScott(0.10, 0.05, 0.030, 0.060),
    "pulsating_solitons": GrayScott(0.10, 0.05, 0.025, 0.060),
    "u_skate": GrayScott(0.16, 0.08, 0.062, 0.061),
    "fingerprints": GrayScott(0.16, 0.08, 0.040, 0.064),
}


def preset(name: str) -> GrayScott:
    """The parameters of a named preset.

    Raises:
        UserError: a name that is not in PRESETS; lists the known ones and the nearest.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}{nearest(name, PRESETS)}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def label(params: GrayScott) -> str:
    """The name of a system: its preset's, or its rates, with diffusion and step where they are not the usual ones."""
    for name, known in PRESETS.items():
        if params == known:
            return name
    usual = PRESETS["waves"]
    said = [f"F{params.F:.10g}", f"k{params.k:.10g}"]
    for symbol, key in (("Du", "D_u"), ("Dv", "D_v"), ("dt", "dt")):
        value = getattr(params, key)
        if value != getattr(usual, key):
            said.append(f"{symbol}{value:.10g}")
    return "_".join(said)
