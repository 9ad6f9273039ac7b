"""Advance Gray-Scott states in time on the device that is there."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import numpy as np

from p2d.errors import UserError
from p2d.systems.gray_scott import GrayScott

DEVICES = ("auto", "cpu", "cuda")


def gpu_is_there() -> bool:
    """Whether a CUDA device and a Triton to compile for it can be used."""
    if shutil.which("nvidia-smi") is None or find_spec("triton") is None:
        return False
    import torch

    return torch.cuda.is_available()


def pick_device(device: str) -> str:
    """'cpu' or 'cuda' for a wish of 'auto', 'cpu' or 'cuda'.

    Raises:
        UserError: an unknown device, or 'cuda' where there is no GPU.
    """
    if device not in DEVICES:
        raise UserError(f"unknown device {device!r}; known: {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    there = gpu_is_there()
    if device == "cuda" and not there:
        raise UserError("device 'cuda' was asked for, but no CUDA GPU can be used here; take --device cpu")
    return "cuda" if there else "cpu"


def run(
    state: np.ndarray, params: GrayScott, steps: int, device: str = "auto", threads: int | None = None
) -> np.ndarray:
    """Advance a batch by `steps` forward Euler steps of params.dt.

    Args:
        state: float32 [B, 2, H, W], concentrations in [0, 1]; left unchanged.
        device: 'auto', 'cpu' or 'cuda'.
        threads: CPU threads, all cores when None.

    Returns:
        float32 [B, 2, H, W], concentrations in [0, 1].

    Raises:
        UserError: a shape that is not [B, 2, H, W], a negative number of steps, or a device that is not there.
    """
    if state.ndim != 4 or state.shape[1] != 2 or min(state.shape[2:]) < 1:
        raise UserError(f"a batch of states has shape {list(state.shape)}; it must be [B, 2, H, W]")
    if steps < 0:
        raise UserError(f"steps = {steps} is not possible: it must be 0 or above")
    if not np.isfinite(state).all():
        raise UserError("a batch of states holds a value that is not finite; concentrations lie in [0, 1]")
    if threads is not None and threads < 1:
        raise UserError(f"threads = {threads} is not possible: it must be 1 or above")
    if pick_device(device) == "cuda":
        from p2d.systems import stepper_gpu

        return stepper_gpu.run(state, params, steps)
    from p2d.systems import stepper_cpu

    return stepper_cpu.run(state, params, steps, threads)
