"""Steps in Fourier modes: ETDRK4, and Euler with operators that reach far; float64 throughout.

Each species' own linear part, c lap(s), c lap(lap(s)) and c s, is exact in the modes of a periodic grid:
ds/dt = L s + N(s). Cox & Matthews 2002, eq. 26 to 29, with the coefficients by contour integrals of Kassam & Trefethen
2005. Mirror edges are those of the grid continued evenly to twice its size.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from p2d.fields import Grid
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener
from p2d.threads import torch_threads

POINTS = 32  # of the contour
CHUNK = 16  # samples at a time


def run(
    states: np.ndarray,
    system: System,
    scheme: Scheme,
    steps: int,
    device: str = "cpu",
    threads: int | None = None,
    noise: Wiener | None = None,
) -> np.ndarray:
    """Advance a batch of samples: float32 [B, C, H, W] in and out, see stepping.run."""
    height, width = scheme.grid.shape
    if not len(states):
        return np.array(states, np.float32)
    states = np.ascontiguousarray(states)  # torch takes no array that is turned or mirrored
    step = _Step(system, replace(scheme, grid=scheme.grid.unfolded), device)
    with torch_threads(threads or torch.get_num_threads()), torch.no_grad():
        parts = []
        for first in range(0, len(states), CHUNK):
            rows = slice(first, first + CHUNK)
            driven = noise.of(rows) if noise else None
            parts.append(_advanced(torch.tensor(states[rows]), step, steps, scheme.grid, device, driven))
    return torch.cat(parts)[..., :height, :width].float().numpy()


def _advanced(states: Tensor, step: _Step, steps: int, grid: Grid, device: str, noise: Wiener | None = None) -> Tensor:
    x = grid.continued(states.to(device, torch.float64))
    for number in range(steps):
        x = step(x, _added(noise.at(noise.step + number), step, grid, device) if noise else None)
    return x.cpu()


def _added(noise: Wiener, step: _Step, grid: Grid, device: str) -> Tensor:
    """What noise adds in a step to states on the grid continued evenly."""
    amplitudes = noise.amplitudes(step.scheme.dt)[:, None, None]
    drawn = amplitudes * cpu.normals(noise, (len(amplitudes), *grid.shape))
    return grid.continued(torch.from_numpy(drawn).to(device, torch.float64))


class _Step:
    """One step of states float64 [B, C, H, W] on a periodic grid."""

    def __init__(self, system: System, scheme: Scheme, device: str) -> None:
        self.system, self.scheme, self.grid = system, scheme, scheme.grid
        ends = [system.limits.get(s, (-np.inf, np.inf)) for s in system.species]
        self.low, self.high = torch.tensor(ends, dtype=torch.float64, device=device).T[:, :, None, None]
        if scheme.integrator == "etdrk4":
            linear = linear_part(system, scheme)
            self.linear = torch.from_numpy(linear).to(device)
            self.weights = [torch.from_numpy(w).to(device) for w in etd_weights(linear, scheme.dt)]

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        made = self._etdrk4(x) if self.scheme.integrator == "etdrk4" else x + self.scheme.dt * self._rate(x)
        made = made if added is None else made + added
        # Compared, as minimum and maximum drop a nan, which must stay to be reported.
        made = torch.where(made < self.low, self.low, made)
        return torch.where(made > self.high, self.high, made)

    def _rate(self, x: Tensor) -> Tensor:
        return self.system.rate(x, self.grid, self.scheme.operator)

    def _rest(self, modes: Tensor) -> Tensor:
        """Modes of what is not linear, N, at a state of these modes."""
        return torch.fft.rfft2(self._rate(torch.fft.irfft2(modes, s=self.grid.shape))) - self.linear * modes

    def _etdrk4(self, x: Tensor) -> Tensor:
        whole, half, to_half, first, middle, last = self.weights
        modes = torch.fft.rfft2(x)
        n = self._rest(modes)
        a = half * modes + to_half * n
        n_a = self._rest(a)
        n_b = self._rest(half * modes + to_half * n_a)
        n_c = self._rest(half * a + to_half * (2 * n_b - n))
        made = whole * modes + first * n + middle * (n_a + n_b) + last * n_c
        return torch.fft.irfft2(made, s=self.grid.shape)


def linear_part(system: System, scheme: Scheme) -> np.ndarray:
    """L of each species over the modes of rfft2, float64 [C, H, W / 2 + 1]: what of its rate is linear in itself."""
    lap = scheme.grid.symbol(scheme.operator)
    parts = []
    for s, rate in system.terms.items():
        known = {s: np.ones_like(lap), f"lap({s})": lap, f"lap(lap({s}))": lap**2}
        parts.append(sum((c * known[term] for term, c in rate.items() if term in known), start=np.zeros_like(lap)))
    return np.stack(parts)


def etd_weights(linear: np.ndarray, dt: float) -> list[np.ndarray]:
    """exp(L dt), exp(L dt / 2), and the weights of N: to the half step; of the first, middle and last evaluation."""
    z = dt * linear[..., None] + np.exp(1j * np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    e = np.exp(z)
    to_half = dt * ((np.exp(z / 2) - 1) / z).mean(-1).real
    first = dt * ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(-1).real
    middle = 2 * dt * ((2 + z + e * (z - 2)) / z**3).mean(-1).real
    last = dt * ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(-1).real
    return [np.exp(dt * linear), np.exp(dt * linear / 2), to_half, first, middle, last]
