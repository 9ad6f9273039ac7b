"""Euler steps on the CPU: one thread a sample, both buffers of a sample in cache, float32 throughout.

float32 is a requirement, not a choice: with half-precision states the patterns drift away or die within 10,000 steps.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from p2d.fields import Operator
from p2d.systems import kernels
from p2d.systems.lowering import Program, lower
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

TOGETHER = 2  # rows at a time, of up to as many species
Compiled = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], None]


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


def shape(system: System, scheme: Scheme, rows: int = 1) -> kernels.Shape:
    """What a kernel's source depends on beside the program."""
    ends = limits(system)
    has = tuple((bool(np.isfinite(low)), bool(np.isfinite(high))) for low, high in zip(*ends, strict=True))
    return kernels.Shape(scheme.grid.edges, scheme.grid.shape[0] == 1, has, rows)


def limits(system: System) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest values of each species, float32 [C]; infinite where there is none."""
    ends = [system.limits.get(s, (-np.inf, np.inf)) for s in system.species]
    return tuple(np.array(e, np.float32) for e in zip(*ends, strict=True))  # type: ignore[return-value]


def compiled(system: System, scheme: Scheme) -> Compiled:
    """The kernel of a system, compiled on its first call and kept in a cache."""
    _prefer_wide_vectors()
    rows = TOGETHER if len(system.species) <= TOGETHER and scheme.grid.shape[0] > 1 else 1
    source = kernels.cpu_source(program(system, scheme), shape(system, scheme, rows))
    return kernels.load(source, "cpu").run


def run(states: np.ndarray, system: System, scheme: Scheme, steps: int, threads: int | None = None) -> np.ndarray:
    """Advance a batch of samples: float32 [B, C, H, W] in and out, see stepping.run."""
    out = np.array(states, dtype=np.float32, order="C")
    kernel = compiled(system, scheme)
    constants = program(system, scheme).values(system.parameters, scheme.grid.spacing, scheme.operator, scheme.dt)
    low, high = limits(system)
    threads = min(threads or os.cpu_count() or 1, len(out)) or 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda sample: kernel(sample, constants, low, high, steps), out))
    return out


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
