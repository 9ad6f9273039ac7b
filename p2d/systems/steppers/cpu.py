"""Euler steps on the CPU: one thread a sample, both buffers of a sample in cache, float32 throughout.

float32 is a requirement, not a choice: with half-precision states the patterns drift away or die within 10,000 steps.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from p2d.fields import Operator
from p2d.systems import kernels, wiener
from p2d.systems.lowering import Program, lower
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener

TOGETHER = 2  # rows at a time, of up to as many species, without noise: more would not be vectorised
Compiled = Callable[..., None]


def program(system: System, scheme: Scheme) -> Program:
    """The arithmetic of a system's step."""
    return _lowered(
        tuple(system.rates.items()), tuple(system.parameters.items()), scheme.operator, scheme.grid.shape[0] == 1
    )


@functools.lru_cache(maxsize=16)
def _lowered(
    rates: tuple[tuple[str, str], ...], parameters: tuple[tuple[str, float], ...], operator: Operator, flat: bool
) -> Program:
    """See `lower`: who advances states a few steps at a time would else wait longer for this than for the steps."""
    return lower(dict(rates), dict(parameters), operator, flat)


def shape(system: System, scheme: Scheme, rows: int = 1, noise: bool = False) -> kernels.Shape:
    """What a kernel's source depends on beside the program."""
    ends = limits(system)
    has = tuple((bool(np.isfinite(low)), bool(np.isfinite(high))) for low, high in zip(*ends, strict=True))
    return kernels.Shape(scheme.grid.edges, scheme.grid.shape[0] == 1, has, rows, noise)


def limits(system: System) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest values of each species, float32 [C]; infinite where there is none."""
    ends = [system.limits.get(s, (-np.inf, np.inf)) for s in system.species]
    return tuple(np.array(e, np.float32) for e in zip(*ends, strict=True))  # type: ignore[return-value]


def compiled(system: System, scheme: Scheme, noise: bool = False) -> Compiled:
    """The kernel of a system, compiled on its first call and kept in a cache."""
    _prefer_wide_vectors()
    together = len(system.species) <= TOGETHER and scheme.grid.shape[0] > 1 and not noise
    rows = TOGETHER if together else 1
    source = kernels.cpu_source(program(system, scheme), shape(system, scheme, rows, noise))
    return kernels.load(source, "cpu").run


def run(
    states: np.ndarray,
    system: System,
    scheme: Scheme,
    steps: int,
    threads: int | None = None,
    noise: Wiener | None = None,
) -> np.ndarray:
    """Advance a batch of samples: float32 [B, C, H, W] in and out, see stepping.run."""
    out = np.array(states, dtype=np.float32, order="C")
    kernel = compiled(system, scheme, noise is not None)
    constants = program(system, scheme).values(system.parameters, scheme.grid.spacing, scheme.operator, scheme.dt)
    given: list[object] = [constants, *limits(system), steps]
    driven: list[tuple[object, ...]] = [()] * len(out)
    if noise:
        key = np.uint64(noise.seed), np.uint64(noise.step)
        driven = [(noise.amplitudes(scheme.dt), key[0], np.uint64(run), key[1]) for run in noise.runs]
    threads = min(threads or os.cpu_count() or 1, len(out)) or 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda sample, own: kernel(sample, *given, *own), out, driven))
    return out


@functools.cache
def _generator() -> Compiled:
    return kernels.load("\n".join(["import numba", "import numpy as np", *wiener.cpu_source(), ""]), "wiener").wiener


def normals(noise: Wiener, shape: tuple[int, ...]) -> np.ndarray:
    """What drives a step of each run before it is scaled, N(0, 1): float32 [B, C, H, W] of a shape (C, H, W)."""
    count = math.prod(shape)
    bits = np.empty((4, wiener.BLOCK), np.uint32)
    drawn = np.empty((len(noise.runs), wiener.NORMALS * wiener.calls(count)), np.float32)
    for row, run in zip(drawn, noise.runs, strict=True):
        _generator()(row, bits, np.uint64(noise.seed), np.uint64(run), np.uint64(noise.step))
    return drawn[:, :count].reshape(-1, *shape)


def _prefer_wide_vectors() -> None:
    """Have numba use 512-bit vectors where there are some: a tenth to a fifth faster on an Intel Xeon, same bytes.

    By default LLVM takes 256 bits on Intel processors. Numba reads this when it is first imported.
    """
    if "numba" in sys.modules or "NUMBA_CPU_FEATURES" in os.environ:
        return
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        os.environ["NUMBA_CPU_FEATURES"] = f"{features.flatten()},-prefer-256-bit"
