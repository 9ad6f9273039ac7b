"""Kernels from text: the source of a system's Euler step for numba, and the cache of files; see kernels_gpu.py, too.

Numba and Triton compile from files alone. A file is named by the hash of its source and written once; numba keeps what
it has compiled beside it, so that a fresh process starts from there.

Two rows at a time share loads, which made Gray-Scott 1.25 times as fast as one; with three species, or with noise, the
compiler no longer vectorises two rows (0.3 G cell updates/s a core; one row at a time 1.6).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from p2d.fields import Edge
from p2d.runs import whole
from p2d.systems import smooth, wiener
from p2d.systems.lowering import Op, Pass, Program

# Below this a value is 0: neither it nor its square comes near the denormal range, where arithmetic is slow.
TINY = 1e-18
SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "power": "**"}
Limits = tuple[tuple[bool, bool], ...]  # of each species: whether it has a lowest, and a highest value


@dataclass(frozen=True)
class Shape:
    """What a kernel's source depends on beside the program.

    Attributes:
        edges: of both axes, periodic or mirror.
        flat: whether the grid is a single row.
        limits: of each species.
        rows: worked out together (CPU); 1 with noise.
        noise: whether each step adds noise, see wiener.py.
    """

    edges: tuple[Edge, Edge]
    flat: bool
    limits: Limits
    rows: int = 1
    noise: bool = False


def load(source: str, kind: str) -> ModuleType:
    """The module of this source, from its file in the cache."""
    name = f"p2d_{kind}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        file = cache_folder() / f"{name}.py"
        if not file.is_file() or file.read_text() != source:
            with whole(file) as part:
                part.write_text(source)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


@functools.cache
def cache_folder() -> Path:
    """Where generated kernels are kept: P2D_CACHE, or p2d's folder in the user's cache, or a temporary one."""
    wished = os.environ.get("P2D_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "p2d")
    folder = Path(wished).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others_write = folder.stat().st_mode & stat.S_IWOTH  # what they put there would be run
        if os.access(folder, os.W_OK | os.X_OK) and not others_write:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="p2d-kernels-"))


def cpu_source(program: Program, shape: Shape) -> str:
    """Source of `run(state, constants, low, high, steps)` for numba, which advances one sample in place.

    With noise it takes also `amplitudes, seed, number, first`: of each species, float32 [C]; the seed's and the run's
    number, and that of the first step, uint64.
    """
    return "\n".join(_Numba(program, shape).lines()) + "\n"


class _Numba:
    """Loops over the cells of padded fields, one a species and one for each that a pass makes; two buffers swapped."""

    HEAD = (
        '"""Generated from the text of a system."""',
        "import math",
        "import numba",
        "import numpy as np",
        f"TINY, ZERO = np.float32({TINY}), np.float32(0)",
    )
    BEGIN = (
        "# Contraction to fused multiply-adds is the one liberty the compiler has: what is not finite must stay so.",
        "# A quotient by 0 is inf or nan, as in numpy: a test of each divisor would keep loops from being vectorised.",
        "@numba.njit(nogil=True, cache=True, fastmath={'contract', 'nsz'}, error_model='numpy')",
    )

    def __init__(self, program: Program, shape: Shape) -> None:
        self.program, self.shape = program, shape
        self.species = range(program.species)
        self.made = range(program.species, program.fields)

    def lines(self) -> Iterator[str]:
        calls = {str(op.arguments[0]) for each in self.program.passes for op in each.ops if op.kind == "call"}
        yield from (*self.HEAD, *smooth.sources(calls), *(wiener.cpu_source() if self.shape.noise else ()), *self.BEGIN)
        yield f"def run(state, constants, low, high, steps{', amplitudes, seed, number, first' * self.shape.noise}):"
        yield "    height, width = state.shape[1:]"
        yield from (f"    c{k} = constants[{k}]" for k in range(len(self.program.constants)))
        yield "    dt = constants[-1]"
        yield from (f"    low{s}, high{s} = low[{s}], high[{s}]" for s in self.species)
        # A row below the halo lets an odd height go two rows at a time: what is written there is not read.
        for name in (*(f"f{s}" for s in self.species), *(f"g{s}" for s in self.species), *(f"f{m}" for m in self.made)):
            yield f"    {name} = np.zeros((height + {2 + self.shape.rows - 1}, width + 2), np.float32)"
        yield from (f"    f{s}[1 : height + 1, 1:-1] = state[{s}]" for s in self.species)
        yield from self._normals() if self.shape.noise else ("    for _ in range(steps):",)
        yield from self._halos(self.species)
        for each in self.program.passes[:-1]:
            yield from self._sweep(each, last=False)
            yield from self._halos(each.results)
        yield from self._sweep(self.program.passes[-1], last=True)
        yield from (f"        f{s}, g{s} = g{s}, f{s}" for s in self.species)
        yield from (f"    state[{s}] = f{s}[1 : height + 1, 1:-1]" for s in self.species)

    def _normals(self) -> Iterator[str]:
        """Begin the steps, each with its normals in w: one field a species, in turn."""
        each = wiener.NORMALS
        yield "    cells = height * width"
        yield f"    w = np.zeros(({self.program.species} * cells + {each - 1}) // {each} * {each}, np.float32)"
        yield f"    bits = np.zeros(({wiener.PAIRS}, {wiener.BLOCK}), np.uint32)"
        for s in self.species:
            yield f"    a{s}, w{s} = amplitudes[{s}], w[{s} * cells : {s + 1} * cells].reshape(height, width)"
        yield "    for step in range(steps):"
        yield "        wiener(w, bits, seed, number, first + np.uint64(step))"

    def _halos(self, numbers: range | dict[int, int]) -> Iterator[str]:
        """Fill the one-cell border from the interior [1..height, 1..width]: columns first, so that corners follow."""
        above, below = ("height", "1") if self.shape.edges[0] == "periodic" else ("1", "height")
        left, right = ("width", "1") if self.shape.edges[1] == "periodic" else ("1", "width")
        for n in numbers:
            yield "        for i in range(1, height + 1):"
            yield f"            f{n}[i, 0] = f{n}[i, {left}]"
            yield f"            f{n}[i, width + 1] = f{n}[i, {right}]"
            if not self.shape.flat:
                yield "        for j in range(width + 2):"
                yield f"            f{n}[0, j] = f{n}[{above}, j]"
                yield f"            f{n}[height + 1, j] = f{n}[{below}, j]"

    def _sweep(self, each: Pass, last: bool) -> Iterator[str]:
        rows = self.shape.rows
        yield f"        for block in range((height + {rows - 1}) // {rows}):"
        yield f"            i = {rows} * block + 1"
        yield "            for j in range(1, width + 1):"
        for row in range(rows):
            yield from (f"                {line}" for line in self._cell(each, row, last))
        # Written once all rows are read: a write between would keep the compiler from sharing loads.
        for row in range(rows):
            for n, place in each.results.items():
                if last:
                    yield f"                g{n}[i + {row}, j] = n{n}r{row}"
                else:
                    made = each.ops[place]
                    value = f"c{made.arguments[0]}" if made.kind == "constant" else f"v{place}r{row}"
                    yield f"                f{n}[i + {row}, j] = {value}"

    def _cell(self, each: Pass, row: int, last: bool) -> Iterator[str]:
        def name(place: int | str) -> str:
            op = each.ops[int(place)]
            return f"c{op.arguments[0]}" if op.kind == "constant" else f"v{place}r{row}"

        for place, op in enumerate(each.ops):
            if op.kind != "constant":
                yield f"{name(place)} = {self._written(op, row, name)}"
        if not last:
            return
        for n, place in each.results.items():
            new = f"n{n}r{row}"
            noise = f" + a{n} * w{n}[i - 1, j - 1]" if self.shape.noise else ""
            yield f"{new} = f{n}[i + {row}, j] + dt * {name(place)}{noise}"
            has_low, has_high = self.shape.limits[n]
            if has_low:
                yield f"{new} = low{n} if {new} < low{n} + TINY else {new}"
            else:
                yield f"{new} = ZERO if abs({new}) < TINY else {new}"
            if has_high:
                yield f"{new} = high{n} if {new} > high{n} else {new}"

    @staticmethod
    def _written(op: Op, row: int, name: Callable[[int | str], str]) -> str:
        if op.kind == "load":
            n, i, j = (int(a) for a in op.arguments)
            return f"f{n}[i + {i + row}, j + {j}]"
        if op.kind == "call":
            function, x = op.arguments[0], name(op.arguments[1])
            return f"{function}({x})" if function in smooth.SOURCES else f"np.float32(math.{function}({x}))"
        a, *rest = (name(argument) for argument in op.arguments)
        if op.kind == "neg":
            return f"-{a}"
        return f"{a} {SIGNS[op.kind]} {rest[0]}"
