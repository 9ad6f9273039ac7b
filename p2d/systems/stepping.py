"""Advance states of a system in time, on the device that there is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np

from p2d.errors import UserError, refuse_unknown
from p2d.fields import Grid, Operator
from p2d.systems import stability
from p2d.systems.expressions import functions_in
from p2d.systems.system import System
from p2d.systems.wiener import Wiener

DEVICES = ("auto", "cpu", "cuda")
Integrator = Literal["euler", "etdrk4"]


@dataclass(frozen=True)
class Scheme:
    """How a system is advanced: the grid, the Laplacian on it, the integrator and its step.

    Attributes:
        dt: step, in the system's unit of time.
        operator: of the Laplacian.
        integrator: euler (forward), or etdrk4: fourth order, exact in each species' own diffusion and decay.

    Raises:
        UserError: what is not known, does not fit together, or a step that is not above 0.
    """

    grid: Grid
    dt: float = 1.0
    operator: Operator = "5-point"
    integrator: Integrator = "euler"

    def __post_init__(self) -> None:
        refuse_unknown("integrator", self.integrator, get_args(Integrator))
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise UserError(f"dt = {self.dt} is not possible: it must be a finite number above 0")
        if not self.grid.is_closed:
            raise UserError(
                "open edges and masks cannot be simulated: nothing is known beyond them; take periodic or mirror edges"
            )
        self.grid.refuse_operator(self.operator)

    def refuse(self, system: System) -> None:
        """Refuse a system that this scheme cannot advance: what does not fit the grid, or blows up with it.

        Raises:
            UserError: says what, and what would do.
        """
        self.grid.refuse_operator(self.operator, system.reach)
        stability.refuse_growth(system, self.grid, self.operator)
        if self.integrator == "euler":
            stability.refuse_long_step(system, self.grid, self.operator, self.dt)
        elif "mirror" in self.grid.edges and any("d" in functions_in(tree) for tree in system.trees.values()):
            raise UserError(
                f"etdrk4 cannot take the first derivatives of {system.name} at mirror edges; take --integrator euler"
            )

    def refuse_noise(self) -> None:
        """Refuse noise in the dynamics for steps that are not explicit ones.

        Raises:
            UserError: says what would do.
        """
        if self.integrator != "euler":
            raise UserError(f"{self.integrator} takes no noise in the dynamics; take --integrator euler")


def has_gpu() -> bool:
    """Whether a CUDA device and a Triton to compile for it can be used."""
    if shutil.which("nvidia-smi") is None or find_spec("triton") is None:
        return False
    import torch

    return torch.cuda.is_available()


def choose_device(device: str) -> str:
    """'cpu' or 'cuda', of 'auto', 'cpu' or 'cuda'.

    Raises:
        UserError: an unknown device, or 'cuda' where there is no GPU.
    """
    refuse_unknown("device", device, DEVICES)
    if device != "cpu" and has_gpu():
        return "cuda"
    if device == "cuda":
        raise UserError("device 'cuda' was asked for, but no CUDA GPU can be used here; take --device cpu")
    return "cpu"


def run(
    states: np.ndarray,
    system: System,
    scheme: Scheme,
    steps: int,
    device: str = "auto",
    threads: int | None = None,
    noise: Wiener | None = None,
) -> np.ndarray:
    """Advance a batch by `steps` steps.

    Args:
        states: float32 [B, C, H, W], in the units of the system; left unchanged.
        device: 'auto', 'cpu' or 'cuda'.
        threads: CPU threads, all cores when None.
        noise: in the dynamics, by the run and the step of the states; later steps take noise.at(noise.step + steps).

    Returns:
        float32 [B, C, H, W].

    Raises:
        UserError: another shape, a negative number of steps, noise that the scheme cannot take or that is of other
            states, or a device that is not there.
    """
    noise = noise if noise and any(noise.sigma) else None
    _refuse(states, scheme, len(system.species), steps, threads, noise)
    device = choose_device(device)
    if scheme.integrator == "etdrk4" or scheme.operator in ("spectral", "8th-order"):
        from p2d.systems.steppers import modes

        return modes.run(states, system, scheme, steps, device, threads, noise)
    if device == "cuda":
        from p2d.systems.steppers import gpu

        return gpu.run(states, system, scheme, steps, noise)
    from p2d.systems.steppers import cpu

    return cpu.run(states, system, scheme, steps, threads, noise)


def _refuse(
    states: np.ndarray, scheme: Scheme, species: int, steps: int, threads: int | None, noise: Wiener | None
) -> None:
    shape = (species, *scheme.grid.shape)
    if states.ndim != 4 or states.shape[1:] != shape:
        raise UserError(
            f"a batch of states has shape {list(states.shape)}; it must be [B, {', '.join(map(str, shape))}]"
        )
    if steps < 0:
        raise UserError(f"steps = {steps} is not possible: it must be 0 or above")
    if not np.isfinite(states).all():
        raise UserError("a batch of states holds a value that is not finite")
    if threads is not None and threads < 1:
        raise UserError(f"threads = {threads} is not possible: it must be 1 or above")
    if noise:
        scheme.refuse_noise()
        noise.refuse(species, len(states), steps)
