"""Fused CPU kernel: one thread a sample, both buffers of a sample in cache, float32 throughout.

float32 is a requirement, not a choice: with half-precision states the patterns drift away or die within 10,000 steps.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from p2d.systems.gray_scott import GrayScott

# Below this a concentration is 0: neither it nor its square, in the reaction, comes near the denormal range, where
# arithmetic is slow.
TINY = np.float32(1e-18)
ZERO, ONE, FOUR = np.float32(0), np.float32(1), np.float32(4)


@numba.njit(nogil=True, cache=True, inline="always")
def _refresh_halo(field, height, width):  # pragma: no cover - compiled
    """Copy the opposite edges of the interior [1..height, 1..width] into the one-cell border."""
    for j in range(1, width + 1):
        field[0, j] = field[height, j]
        field[height + 1, j] = field[1, j]
    for i in range(1, height + 1):
        field[i, 0] = field[i, width]
        field[i, width + 1] = field[i, 1]


# A Euler step in float32, clamped to [0, 1]. Contraction to fused multiply-adds is the one liberty the compiler has:
# a value that is not finite must stay so, to be reported.
@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def _after_step(u, v, i, j, D_u, D_v, F, removal, dt):  # pragma: no cover - compiled
    """Concentrations (u, v) of cell (i, j) one step later; `removal` is F + k."""
    here_u = u[i, j]
    here_v = v[i, j]
    lap_u = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - FOUR * here_u
    lap_v = v[i - 1, j] + v[i + 1, j] + v[i, j - 1] + v[i, j + 1] - FOUR * here_v
    reaction = here_u * here_v * here_v
    new_u = here_u + dt * (D_u * lap_u - reaction + F * (ONE - here_u))
    new_v = here_v + dt * (D_v * lap_v + reaction - removal * here_v)
    new_u = ZERO if new_u < TINY else new_u
    new_v = ZERO if new_v < TINY else new_v
    return ONE if new_u > ONE else new_u, ONE if new_v > ONE else new_v


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def _run_sample(state, D_u, D_v, F, removal, dt, steps):  # pragma: no cover - compiled
    """Advance one sample in place: state float32 [2, H, W], parameters float32; `removal` is F + k.

    Two rows at a time, as they share loads: 1.25 times as fast as one (three no longer vectorise). A row below the
    halo lets an odd height go the same way: what is written to the halo is overwritten before it is read.
    """
    _, height, width = state.shape
    u = np.zeros((height + 3, width + 2), np.float32)
    v = np.zeros((height + 3, width + 2), np.float32)
    u_next = np.zeros((height + 3, width + 2), np.float32)
    v_next = np.zeros((height + 3, width + 2), np.float32)
    u[1 : height + 1, 1:-1] = state[0]
    v[1 : height + 1, 1:-1] = state[1]
    for _ in range(steps):
        _refresh_halo(u, height, width)
        _refresh_halo(v, height, width)
        for pair in range((height + 1) // 2):
            i = 2 * pair + 1
            for j in range(1, width + 1):
                above_u, above_v = _after_step(u, v, i, j, D_u, D_v, F, removal, dt)
                below_u, below_v = _after_step(u, v, i + 1, j, D_u, D_v, F, removal, dt)
                u_next[i, j] = above_u
                v_next[i, j] = above_v
                u_next[i + 1, j] = below_u
                v_next[i + 1, j] = below_v
        u, u_next = u_next, u
        v, v_next = v_next, v
    state[0] = u[1 : height + 1, 1:-1]
    state[1] = v[1 : height + 1, 1:-1]


def constants(params: GrayScott) -> list[np.float32]:
    """D_u, D_v, F, F + k and dt as both kernels take them; the sum is rounded once, as its error adds up over steps."""
    return [np.float32(x) for x in (params.D_u, params.D_v, params.F, params.F + params.k, params.dt)]


def run(state: np.ndarray, params: GrayScott, steps: int, threads: int | None = None) -> np.ndarray:
    """Advance a batch of samples by `steps` Euler steps.

    Args:
        state: float32 [B, 2, H, W], concentrations; left unchanged.
        params: the system; its dt is the step.
        threads: samples advanced at a time; all cores when None.

    Returns:
        float32 [B, 2, H, W].
    """
    out = np.array(state, dtype=np.float32, order="C")
    rates = constants(params)
    threads = min(threads or os.cpu_count() or 1, len(out)) or 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda sample: _run_sample(sample, *rates, steps), out))  # type: ignore[call-arg]
    return out
