"""Solvers that share no step with p2d's own: Runge-Kutta, Fourier modes, noise in the dynamics.

They are for data of which p2d has to find out what made them. All are of periodic grids, in float32, of systems whose
only operators are Laplacians of species.
"""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np
import scipy.fft

from p2d.fields import STENCILS, Grid, Operator
from p2d.systems import expressions, kernels
from p2d.systems.system import System

BLOCK = 16  # steps whose noise is drawn at a time
TOGETHER = 8  # snapshots advanced together in Fourier modes

SOURCE = '''"""Generated from the text of a system."""
import numba
import numpy as np

@numba.njit(nogil=True, cache=True, fastmath={{"contract", "nsz"}}, error_model="numpy")
def rates(x, c, edge, corner, out):
    """Rates out [C, H, W] of padded fields x [C, H + 2, W + 2], whose ghost cells are filled here."""
    count, height, width = out.shape
    for s in range(count):
        x[s, :, 0], x[s, :, -1] = x[s, :, width], x[s, :, 1]
        x[s, 0], x[s, -1] = x[s, height], x[s, 1]
    middle = np.float32(4) * (edge + corner)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
{cell}

@numba.njit(nogil=True, cache=True)
def rk4(state, c, edge, corner, dt, steps):
    count, height, width = state.shape
    x = np.zeros((count, height + 2, width + 2), np.float32)
    k, total = np.zeros_like(state), np.zeros_like(state)
    half, sixth, two = np.float32(dt / 2), np.float32(dt / 6), np.float32(2)
    for _ in range(steps):
        x[:, 1:-1, 1:-1] = state
        rates(x, c, edge, corner, k)
        total[:] = k
        x[:, 1:-1, 1:-1] = state + half * k
        rates(x, c, edge, corner, k)
        total += two * k
        x[:, 1:-1, 1:-1] = state + half * k
        rates(x, c, edge, corner, k)
        total += two * k
        x[:, 1:-1, 1:-1] = state + np.float32(dt) * k
        rates(x, c, edge, corner, k)
        total += k
        state += sixth * total

@numba.njit(nogil=True, cache=True)
def kicked(state, c, edge, corner, dt, kicks):
    count, height, width = state.shape
    x = np.zeros((count, height + 2, width + 2), np.float32)
    k = np.zeros_like(state)
    for n in range(len(kicks)):
        x[:, 1:-1, 1:-1] = state
        rates(x, c, edge, corner, k)
        state += np.float32(dt) * k + kicks[n]
'''


def is_plain(system: System) -> bool:
    """Whether the only operators of its rates are Laplacians of species, each of its own."""
    laps = {s: {term for term in own if "(" in term} for s, own in system.terms.items()}
    return all(own <= {f"lap({s})"} for s, own in laps.items())


def runge_kutta(
    states: np.ndarray, system: System, grid: Grid, dt: float, steps: int, operator: Operator = "5-point"
) -> np.ndarray:
    """States [N, C, H, W] after so many steps of the classical fourth-order scheme."""
    kernel, constants = _compiled(system)
    out = np.array(states, np.float32)
    for state in out:
        kernel.rk4(state, constants, *_weights(grid, operator), dt, steps)
    return out


def euler_maruyama(
    states: np.ndarray, system: System, grid: Grid, dt: float, steps: int, kicks: np.ndarray, seed: int
) -> np.ndarray:
    """States [N, C, H, W] after so many Euler steps, each followed by white noise.

    Args:
        kicks: standard deviation of the noise of a step, sigma sqrt(dt), of each species [C].
    """
    rng = np.random.Generator(np.random.SFC64(seed))  # the quickest; one stream, as the runs are always the same
    kernel, constants = _compiled(system)
    out, sizes = np.array(states, np.float32), kicks.astype(np.float32)[:, None, None]
    for state in out:
        for begin in range(0, steps, BLOCK):
            noise = rng.standard_normal((min(BLOCK, steps - begin), *state.shape), np.float32)
            kernel.kicked(state, constants, *_weights(grid, "5-point"), dt, sizes * noise)
    return out


def fourier_modes(states: np.ndarray, system: System, grid: Grid, dt: float, steps: int) -> np.ndarray:
    """States [N, C, H, W] after so many steps of the fourth-order scheme with an integrating factor.

    Derivatives are exact, and so is diffusion (Trefethen 2000, Spectral methods in Matlab, program 27).
    """
    diffusion = np.array([own.get(f"lap({s})", 0.0) for s, own in system.terms.items()])
    half = np.exp(dt / 2 * diffusion[:, None, None] * grid.symbol("spectral")).astype(np.float32)
    reaction = System.of_terms(
        "reaction", {s: {t: c for t, c in own.items() if t != f"lap({s})"} for s, own in system.terms.items()}
    )

    def change(modes: np.ndarray) -> np.ndarray:
        rate = reaction.rate(scipy.fft.irfft2(modes, s=grid.shape), grid)
        return np.float32(dt) * scipy.fft.rfft2(rate.astype(np.float32))

    parts = []
    for begin in range(0, len(states), TOGETHER):
        modes = scipy.fft.rfft2(np.asarray(states[begin : begin + TOGETHER], np.float32))
        for _ in range(steps):
            later, whole = half * modes, half * half
            a = change(modes)
            b = change(half * (modes + a / 2))
            c = change(later + b / 2)
            d = change(half * (later + c))
            modes = half * later + (whole * a + 2 * half * (b + c) + d) / 6
        parts.append(scipy.fft.irfft2(modes, s=grid.shape))
    return np.concatenate(parts)


def _compiled(system: System) -> tuple[ModuleType, np.ndarray]:
    """The solvers of a system, compiled on their first call and kept in a cache, and its coefficients."""
    names = {s: f"value_{n}" for n, s in enumerate(system.species)}
    constants: list[float] = []
    lines = [f"{name} = x[{n}, i, j]" for n, name in enumerate(names.values())]
    for n, (s, name) in enumerate(names.items()):
        if any(f"lap({s})" in own for own in system.terms.values()):
            edges = f"x[{n}, i - 1, j] + x[{n}, i + 1, j] + x[{n}, i, j - 1] + x[{n}, i, j + 1]"
            corners = " + ".join(f"x[{n}, i {a} 1, j {b} 1]" for a in "+-" for b in "+-")
            lines.append(f"lap_{name} = edge * ({edges}) + corner * ({corners}) - middle * {name}")
    for n, own in enumerate(system.terms.values()):
        parts = []
        for term, coefficient in own.items():
            factor = re.sub(r"lap\((\w+)\)", r"lap_\1", expressions.factor(term, system.species))
            factor = re.sub(r"\b(lap_)?(\w+)\b", lambda m: (m[1] or "") + names.get(m[2], m[2]), factor)
            parts.append(f"c[{len(constants)}]" + ("" if term == "1" else f" * {factor}"))
            constants.append(coefficient)
        lines.append(f"out[{n}, i - 1, j - 1] = {' + '.join(parts) or 'np.float32(0)'}")
    source = SOURCE.format(cell="\n".join(" " * 12 + line for line in lines))
    return kernels.load(source, "foreign"), np.array(constants, np.float32)


def _weights(grid: Grid, operator: Operator) -> tuple[np.float32, np.float32]:
    edge, corner = (weight / grid.spacing**2 for weight in STENCILS[operator])
    return np.float32(edge), np.float32(corner)
