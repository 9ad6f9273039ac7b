"""Solvers that share no step with p2d's own: Runge-Kutta, and Fourier modes.

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

TOGETHER = 8  # snapshots advanced together in Fourier modes

SOURCE = '''"""Generated from the text of a system."""
import numba
import numpy as np

@numba.njit(nogil=True, cache=True, fastmath={{"contract", "nsz"}}, error_model="numpy")
def rates(state, x, c, edge, corner, out):
    count, height, width = state.shape
    for s in range(count):
        for i in range(height):
            for j in range(width):
                x[s, i + 1, j + 1] = state[s, i, j]
        for i in range(1, height + 1):
            x[s, i, 0], x[s, i, width + 1] = x[s, i, width], x[s, i, 1]
        for j in range(width + 2):
            x[s, 0, j], x[s, height + 1, j] = x[s, height, j], x[s, 1, j]
    middle = np.float32(4) * (edge + corner)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
{cell}
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
    (count, height, width), weights = states.shape[1:], _weights(grid, operator)
    padded = np.zeros((count, height + 2, width + 2), np.float32)
    slopes, half, whole = np.zeros((4, count, height, width), np.float32), np.float32(dt / 2), np.float32(dt)
    out = np.array(states, np.float32)
    for state in out:
        for _ in range(steps):
            at = state
            for slope, ahead in zip(slopes, (half, half, whole, whole), strict=True):
                kernel.rates(at, padded, constants, *weights, slope)
                at = state + ahead * slope
            state += whole / 6 * (slopes[0] + 2 * (slopes[1] + slopes[2]) + slopes[3])
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
    """The rates of a system, compiled on their first call and kept in a cache, and its coefficients."""
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
