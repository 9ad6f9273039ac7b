"""Kernels from text for the GPU: the source of a system's Euler step for Triton."""

from __future__ import annotations

from collections.abc import Iterator

from p2d.systems import wiener
from p2d.systems.kernels import SIGNS, TINY, Shape
from p2d.systems.lowering import Op, Pass, Program


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
