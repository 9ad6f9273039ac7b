"""Initial states. A state is a function of (seed, run id) alone, whatever else is simulated beside it.

discs    the rest state but in five discs, of the system's blots in turn
centre   the rest state but in a central square, shared out among the blots
noise    white noise of the system's amplitudes around the rest state; of a system that gives none, as small noise
         dies in it, patches where a Gaussian random field is at its highest, from rest to blot
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2d.errors import UserError, nearest
from p2d.systems.system import System

DISCS = 5
RADIUS = (3, 7)  # cells, both ends included
CORRELATION = 6.0  # cells: standard deviation of the Gaussian that smooths noise
PATCHES = 0.16  # share of the grid that noise seeds: where a Gaussian exceeds its standard deviation
JITTER = 0.01  # of the central square's cells, so that no two samples are the same
Shape = tuple[int, int]


def generator(seed: int, run_id: int) -> np.random.Generator:
    """The random stream of one run: Philox, a counter-based generator, keyed by (seed, run id)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, run_id], dtype=np.uint64)))


def discs(system: System, rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """The rest state everywhere but in five discs, which hold the blots in turn.

    Radii are drawn from 3 to 7 cells (less on grids too small for them), centres at least a radius from the edge.

    Returns:
        float32 [C, H, W].
    """
    state, blots = _resting(system, shape), system.blots
    largest = max(1, (_shorter(shape) - 1) // 2)
    for number in range(DISCS):
        radius = min(int(rng.integers(RADIUS[0], RADIUS[1] + 1)), largest)
        centre = [0 if size == 1 else rng.integers(radius, max(radius + 1, size - radius)) for size in shape]
        rows, columns = (np.arange(size) - middle for size, middle in zip(shape, centre, strict=True))
        inside = rows[:, None] ** 2 + columns**2 <= radius**2
        state[:, inside] = blots[number % len(blots)].astype(np.float32)[:, None]
    return state


def centre(system: System, rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """The rest state but in a central square of a fifth of the shorter side, of the blots with 1 % of noise.

    Pearson 1993, with the square in proportion to the grid; several blots stand side by side in it. Patterns that
    settle remember it: at 10,000 steps the runs of holes, stripes or worms are still much alike, and no independent
    samples; those of waves have forgotten.

    Returns:
        float32 [C, H, W].
    """
    state, blots = _resting(system, shape), system.blots
    side = max(1, _shorter(shape) // 5)
    sides = [min(side, size) for size in shape]
    top, left = ((size - own) // 2 for size, own in zip(shape, sides, strict=True))
    noise = 1 + JITTER * rng.uniform(-1, 1, (len(system.species), *sides))
    share = np.minimum(np.arange(sides[1]) * len(blots) // sides[1], len(blots) - 1)
    state[:, top : top + sides[0], left : left + sides[1]] = blots[share].T[:, None, :] * noise
    return _within_limits(system, state)


def noise(system: System, rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """White noise around the rest state; of a system that gives no amplitudes, patches from rest to blot.

    Of those, white noise would be no seed: diffusion levels it within a few steps, and the uniform mean dies.

    Returns:
        float32 [C, H, W].
    """
    rest, amplitude = system.amounts("rest")[:, None, None], system.amounts("noise")[:, None, None]
    if amplitude.any():
        state = (rest + amplitude * rng.standard_normal((len(rest), *shape))).astype(np.float32)
        return _within_limits(system, state)
    state = np.broadcast_to(rest, (len(rest), *shape)).copy()
    for blot in system.blots:
        state += (blot[:, None, None] - rest) * _patches(rng, shape)
    return state.astype(np.float32)


def _patches(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A field [H, W] of 0, and up to 1 where a Gaussian random field exceeds its standard deviation."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    smoothing = np.exp(-2 * (np.pi * CORRELATION) ** 2 * (rows**2 + columns**2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * smoothing, s=shape)
    threshold = np.quantile(field, 1 - PATCHES)
    return np.clip((field - threshold) / max(min(field.std(), field.max() - threshold), 1e-12), 0, 1)


def _shorter(shape: Shape) -> int:
    """The shorter side; an axis of length 1 is none."""
    return min((size for size in shape if size > 1), default=1)


def _resting(system: System, shape: Shape) -> np.ndarray:
    rest = system.amounts("rest").astype(np.float32)
    return np.broadcast_to(rest[:, None, None], (len(rest), *shape)).copy()


def _within_limits(system: System, state: np.ndarray) -> np.ndarray:
    for s, name in enumerate(system.species):
        if name in system.limits:
            state[s] = state[s].clip(*system.limits[name])
    return state


KINDS: dict[str, Callable[[System, np.random.Generator, Shape], np.ndarray]] = {
    "discs": discs,
    "centre": centre,
    "noise": noise,
}


def usual_kind(system: System) -> str:
    """The kind that a system asks for, or that it gives amounts for."""
    return system.start.kind or ("discs" if len(system.blots) else "noise")


def refuse_kind(system: System, kind: str) -> None:
    """Refuse a kind that is not known, or that the system gives no amounts for.

    Raises:
        UserError: says what is missing, or the nearest kind.
    """
    if kind not in KINDS:
        raise UserError(f"unknown initial {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}, or a dataset")
    if not len(system.blots) and (kind != "noise" or not system.amounts("noise").any()):
        raise UserError(f"{system.name} has no blot for --initial {kind}; give [start] blot in its file, or take noise")


def initial_states(system: System, seed: int, run_ids: np.ndarray, shape: Shape, kind: str = "") -> np.ndarray:
    """Initial states of the given runs: float32 [N, C, H, W], in the system's units.

    Raises:
        UserError: a kind that is not known, or that the system gives no amounts for.
    """
    kind = kind or usual_kind(system)
    refuse_kind(system, kind)
    return np.stack([KINDS[kind](system, generator(seed, int(i)), shape) for i in run_ids])
