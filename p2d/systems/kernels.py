"""Kernels from text: the source of a system's Euler step for numba (CPU) and Triton (GPU), kept in a cache of files.

Both compile from files alone. A file is named by the hash of its source and written once; numba keeps what it has
compiled beside it, so that a fresh process starts from there.

Two rows at a time share loads, which made Gray-Scott 1.25 times as fast as one; with three species the compiler no
longer vectorises two rows (0.3 G cell updates/s a core; one row at a time 1.6).
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


def gpu_source(program: Program, shape: Shape) -> str:
    """Source of `steps_kernel`, `pass_kernels` and, with noise, `noise_kernel` for Triton, see steppers/gpu.py."""
    return "\n".join(_Triton(program, shape).lines()) + "\n"


class _Triton:
    """A function a pass, over a block of cells of one sample, and the two kernels that call them.

    Fused multiply-adds are written out and the compiler is told to make none: which it makes differs between kernels,
    grids and versions of Triton, and with it the last bit.
    """

    HEAD = (
        '"""Generated from the text of a system."""',
        "import triton",
        "import triton.language as tl",
        f"TINY = tl.constexpr({TINY})",
    )
    SIZES = "H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr"

    def __init__(self, program: Program, shape: Shape) -> None:
        self.program, self.shape = program, shape
        species = range(program.species)
        ends = [f"{end}{s}" for s in species for end in ("low", "high")]
        self.numbers = ", ".join([*(f"c{k}" for k in range(len(program.constants))), "dt", *ends])
        self.made = program.fields - program.species
        self.noise, self.clock = (", noise", ", noise, runs, clock") if shape.noise else ("", "")
        self.numbers += "".join(f", a{s}" for s in species if shape.noise)
        self.calls = f"(H * W * {program.species} + {wiener.NORMALS - 1}) // {wiener.NORMALS}"

    def lines(self) -> Iterator[str]:
        yield from self.HEAD
        yield from wiener.gpu_source() if self.shape.noise else ()
        for number, each in enumerate(self.program.passes):
            yield from self._pass(number, each, last=number == len(self.program.passes) - 1)
        yield from self._steps_kernel()
        for number in range(len(self.program.passes)):
            yield from self._pass_kernel(number)
        yield from self._noise_kernel() if self.shape.noise else ()
        yield f"pass_kernels = [{', '.join(f'pass_kernel{n}' for n in range(len(self.program.passes)))}]"

    def _pass(self, number: int, each: Pass, last: bool) -> Iterator[str]:
        yield "@triton.jit"
        yield f"def _pass{number}(state, made, after{self.noise}, first, {self.numbers}, {self.SIZES}):"
        yield from (f"    {line}" for line in self._cells(each, last))

    def _cells(self, each: Pass, last: bool) -> Iterator[str]:
        yield "CELLS: tl.constexpr = H * W"
        yield "here = first + tl.arange(0, BLOCK)"
        yield "mask = here < CELLS"
        yield "row, column = here // W, here % W"
        rows, columns = self.shape.edges
        yield f"up = tl.where(row == 0, {'CELLS - W' if rows == 'periodic' else '0'}, -W)"
        yield f"down = tl.where(row == H - 1, {'W - CELLS' if rows == 'periodic' else '0'}, W)"
        yield f"left = tl.where(column == 0, {'W - 1' if columns == 'periodic' else '0'}, -1)"
        yield f"right = tl.where(column == W - 1, {'1 - W' if columns == 'periodic' else '0'}, 1)"
        fused = self._fused(each)
        for place, op in enumerate(each.ops):
            if op.kind != "constant" and place not in fused.values():
                yield f"v{place} = {self._written(each, place, op, fused)}"
        for n, place in each.results.items():
            value = self._name(each, place)
            if not last:
                target = f"made + {n - self.program.species} * CELLS + here"
                yield f"tl.store({target}, {value} + tl.zeros([BLOCK], tl.float32), mask=mask)"
                continue
            yield f"old = tl.load(state + {n} * CELLS + here, mask=mask, other=0.0)"
            yield f"new = tl.fma(dt, {value}, old)"
            if self.shape.noise:
                yield f"new = tl.fma(a{n}, tl.load(noise + {n} * CELLS + here, mask=mask, other=0.0), new)"
            # Compared, as minimum and maximum drop a NaN, which must stay to be reported.
            has_low, has_high = self.shape.limits[n]
            yield f"new = tl.where({f'new < low{n} + TINY, low{n}' if has_low else 'tl.abs(new) < TINY, 0.0'}, new)"
            if has_high:
                yield f"new = tl.where(new > high{n}, high{n}, new)"
            yield f"tl.store(after + {n} * CELLS + here, new, mask=mask)"

    @staticmethod
    def _fused(each: Pass) -> dict[int, int]:
        """The sums and differences that take a product, used by nothing else, into a fused multiply-add; and it."""
        uses, fused = each.uses(), {}
        for place, op in enumerate(each.ops):
            if op.kind in ("add", "sub"):
                candidates = [a for a in reversed(op.arguments) if each.ops[int(a)].kind == "mul" and uses[int(a)] == 1]
                if candidates:
                    fused[place] = int(candidates[0])
        return fused

    @staticmethod
    def _name(each: Pass, place: int | str) -> str:
        op = each.ops[int(place)]
        return f"c{op.arguments[0]}" if op.kind == "constant" else f"v{place}"

    def _written(self, each: Pass, place: int, op: Op, fused: dict[int, int]) -> str:
        if op.kind == "load":
            return self._load(*(int(a) for a in op.arguments))
        if op.kind == "call":
            x = self._name(each, op.arguments[1])
            tanh = f"1.0 - 2.0 / (tl.exp(2.0 * {x}) + 1.0)"
            return tanh if op.arguments[0] == "tanh" else f"tl.{op.arguments[0]}({x})"
        if place in fused:
            product = fused[place]
            first, second = (self._name(each, a) for a in each.ops[product].arguments)
            other = next(a for a in op.arguments if a != product)
            rest = self._name(each, other)
            if op.kind == "add":
                return f"tl.fma({first}, {second}, {rest})"
            if product == op.arguments[1]:
                return f"tl.fma(-{first}, {second}, {rest})"
            return f"tl.fma({first}, {second}, -{rest})"
        a, *more = (self._name(each, argument) for argument in op.arguments)
        if op.kind == "neg":
            return f"-{a}"
        if op.kind == "power":
            return f"tl.exp2({more[0]} * tl.log2({a}))"
        return f"{a} {SIGNS[op.kind]} {more[0]}"

    def _load(self, number: int, i: int, j: int) -> str:
        field = f"state + {number}" if number < self.program.species else f"made + {number - self.program.species}"
        moved = {(-1, 0): " + up", (1, 0): " + down"}.get((i, 0), "") + {-1: " + left", 1: " + right", 0: ""}[j]
        return f"tl.load({field} * CELLS + here{moved}, mask=mask, other=0.0)"

    def _steps_kernel(self) -> Iterator[str]:
        yield '@triton.jit(do_not_specialize=["pairs"])  # else 1 and multiples of 16 would be compiled anew'
        yield f"def steps_kernel(state, made, spare{self.clock}, pairs, {self.numbers}, {self.SIZES}):"
        # 64 bits: a batch of more than 2^31 numbers overflows an int32 offset.
        yield "    sample = tl.program_id(0).to(tl.int64) * (H * W)"
        yield f"    state += sample * {self.program.species}"
        yield f"    spare += sample * {self.program.species}"
        yield f"    made += sample * {self.made}"
        yield from self._begin_noise("tl.program_id(0)") if self.shape.noise else ()
        yield "    while pairs > 0:  # no range: the interpreter and NumPy do not agree on one"
        for source, target in (("state", "spare"), ("spare", "state")):
            if self.shape.noise:
                yield "        for first in range(0, CALLS, BLOCK // 4):"
                yield "            _normals(noise, seed, run, step, first, CALLS, BLOCK // 4)"
                yield "        tl.debug_barrier()"
                yield "        step += 1"
            for number in range(len(self.program.passes)):
                yield "        for first in range(0, H * W, BLOCK):"
                fields = f"{source}, made, {target}{self.noise}"
                yield f"            _pass{number}({fields}, first, {self.numbers}, H, W, BLOCK)"
                yield "        tl.debug_barrier()  # all threads of the program have written, and see what others wrote"
        yield "        pairs -= 1"

    def _pass_kernel(self, number: int) -> Iterator[str]:
        yield "@triton.jit"
        yield f"def pass_kernel{number}(state, made, after{self.noise}, {self.numbers}, {self.SIZES}):"
        yield "    BLOCKS: tl.constexpr = (H * W + BLOCK - 1) // BLOCK"
        yield "    sample = (tl.program_id(0) // BLOCKS).to(tl.int64) * (H * W)"
        yield "    first = (tl.program_id(0) % BLOCKS) * BLOCK"
        if self.shape.noise:
            yield f"    CALLS: tl.constexpr = {self.calls}"
            yield f"    noise += (tl.program_id(0) // BLOCKS).to(tl.int64) * ({wiener.NORMALS} * CALLS)"
        yield f"    _pass{number}(state + sample * {self.program.species}, made + sample * {self.made}, "
        yield f"        after + sample * {self.program.species}{self.noise}, first, {self.numbers}, H, W, BLOCK)"

    def _begin_noise(self, sample: str) -> Iterator[str]:
        """The noise of a sample, and what its numbers depend on."""
        yield f"    CALLS: tl.constexpr = {self.calls}"
        yield f"    noise += ({sample}).to(tl.int64) * ({wiener.NORMALS} * CALLS)"
        yield f"    run, seed, step = tl.load(runs + {sample}), tl.load(clock), tl.load(clock + 1)"

    def _noise_kernel(self) -> Iterator[str]:
        """The normals of a step, a program for each block of calls of a sample."""
        yield "@triton.jit"
        yield "def noise_kernel(noise, runs, clock, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):"
        yield f"    BLOCKS: tl.constexpr = ({self.calls} + BLOCK - 1) // BLOCK"
        yield from self._begin_noise("tl.program_id(0) // BLOCKS")
        yield "    _normals(noise, seed, run, step, (tl.program_id(0) % BLOCKS) * BLOCK, CALLS, BLOCK)"
