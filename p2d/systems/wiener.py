"""White noise in the dynamics, dc = v dt + sigma dW: increments that depend on (seed, run, step, cell, species) alone.

The random bits are those of Philox 4x32-10 (Salmon, Moraes, Dror & Shaw 2011), keyed by the seed, at the counter (call,
step, run, run >> 32). No state is carried, so that any order, chunk, number of threads or split of the steps gives the
same numbers. The values of a field are numbered n = (species * H + row) * W + column, and call q makes the normals of
n = q, q + Q, ... q + 7 Q, where Q = `calls`: each eighth is written in order, which compilers turn into vectors.

Each of a call's four words is the radius of a pair of normals (Box & Muller 1958), up to 6.76 sigma; the pair's angle
is the lowest 12 bits of the next word. 4,096 even directions have the joint moments of all directions up to order
4,095, and what these bits are to a radius is 2^-20 of its uniform number: squares of one pair and angles of another are
correlated by less than 1e-6. The logarithm is right to 2e-7 of its value, sine and cosine to 1e-7. CPU and GPU take the
same bits, and differ by roundings of 32-bit arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from p2d.errors import UserError

ROUNDS, MULTIPLIERS, WEYL = 10, (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
PAIRS = 4
NORMALS = 2 * PAIRS  # a call
BLOCK = 512  # calls whose bits wait in L1 to be transformed: one loop for both would spill registers
MOST_STEPS = 2**32

# By powers of x: -2 ln(1 + x) / x around 0, and by those of t^2: sin(pi t / 2) / t and cos(pi t / 2), least in the
# largest error (Lawson 1961).
POLYNOMIALS = {
    "LOG": (-1.9999999, 1.0000073, -0.66670118, 0.49939818, -0.39800332, 0.3450166, -0.32445158, 0.20213782),
    "SIN": (1.57079629, -0.64596336, 0.0796884805, -0.00467222793, 0.000150820567),
    "COS": (1.0, -1.23370053, 0.253669323, -0.0208626884, 0.000917724884, -2.38249346e-05),
}
LN2 = -2 * float(np.log(2))
FRACTION, ROOT_HALF = 0x7FFFFF, 0x3F3504F3  # bits of a float: of its fraction, and of sqrt(1/2)


@dataclass(frozen=True)
class Wiener:
    """The noise that drives a batch of states.

    Attributes:
        sigma: of each species, in its unit a square root of a unit of time: one step adds sigma sqrt(dt) N(0, 1) to
            each cell (Ito, Euler-Maruyama).
        seed: of all runs, 0 to 2^63 - 1.
        runs: the number of each state's run, int64 [B]; of another number, independent noise.
        step: how many steps the states have behind them.

    Raises:
        UserError: a sigma below 0 or not finite.
    """

    sigma: tuple[float, ...]
    seed: int
    runs: np.ndarray
    step: int = 0

    def __post_init__(self) -> None:
        for sigma in self.sigma:
            if not (np.isfinite(sigma) and sigma >= 0):
                raise UserError(f"dynamics noise = {sigma} is not possible: it must be a finite number, 0 or above")

    def refuse(self, species: int, batch: int, steps: int) -> None:
        """Refuse states that this noise is not for.

        Raises:
            UserError: other numbers of species or of states, or more steps than can be counted.
        """
        if (len(self.sigma), len(self.runs)) != (species, batch):
            own = f"{len(self.sigma)} species and {len(self.runs)} runs"
            raise UserError(f"dynamics noise of {own} cannot drive {batch} states of {species} species")
        if not 0 <= self.step <= MOST_STEPS - steps:
            raise UserError(f"steps {self.step} to {self.step + steps} cannot have noise: at most {MOST_STEPS} can")

    def amplitudes(self, dt: float) -> np.ndarray:
        """Standard deviations of what a step adds, float32 [C]."""
        return (np.array(self.sigma) * np.sqrt(dt)).astype(np.float32)

    def at(self, step: int) -> Self:
        """The same noise, later or earlier."""
        return replace(self, step=step)

    def of(self, rows: np.ndarray | slice) -> Self:
        """The noise of some of the runs."""
        return replace(self, runs=self.runs[rows])


def calls(numbers: int) -> int:
    """Of the generator, for so many normals."""
    return -(-numbers // NORMALS)


def cpu_source() -> list[str]:
    """Source of `wiener(normals, bits, seed, run, step)` for numba, line by line.

    It fills normals, float32 [8 Q], by way of bits, uint32 [4, BLOCK]. Words are kept in lanes of 64 bits, of whose
    lower halves one instruction makes the whole product; of 32 bits, a product would take seven.
    """
    lines = [f"{name}{k} = np.float32({c})" for name, cs in POLYNOMIALS.items() for k, c in enumerate(cs)]
    rounds = "".join(ROUND.format(*((number * weyl) % 2**32 for weyl in WEYL)) for number in range(ROUNDS))
    body = CPU.format(rounds=rounds, log=_horner("LOG", "x"), sin=_horner("SIN", "z"), cos=_horner("COS", "z"))
    return [*lines, *body.strip().splitlines()]


ROUND = """
            p, q = M0 * (a & LOW), M1 * (c & LOW)
            a, b = (q >> UPPER) ^ b ^ ((k0 + U64({})) & LOW), q
            c, d = (p >> UPPER) ^ d ^ ((k1 + U64({})) & LOW), p"""

CPU = f"""
U64, LOW, UPPER = np.uint64, np.uint64(0xFFFFFFFF), np.uint64(32)
M0, M1 = np.uint64({MULTIPLIERS[0]}), np.uint64({MULTIPLIERS[1]})
LN2, UNIT, MIDDLE = np.float32({LN2}), np.float32(2.0**-32), np.float32(2.0**-33)
FRACTION, ROOT_HALF, PLACES = np.int32({FRACTION}), np.int32({ROOT_HALF}), np.int32(23)
ANGLE, HALF_TURN, SIGN = np.uint32(20), np.uint32(1), np.uint32(0x80000000)
WHOLE, QUARTERS = np.float32(1), np.float32(2.0**-31)
@numba.njit(nogil=True, fastmath={{{{'contract', 'nsz'}}}}, error_model='numpy')
def wiener(normals, bits, seed, run, step):
    k0, k1 = seed & LOW, seed >> UPPER
    calls = len(normals) // {NORMALS}
    for first in range(0, calls, {BLOCK}):
        block = min({BLOCK}, calls - first)
        for i in range(block):
            a, b, c, d = U64(first + i), step, run & LOW, run >> UPPER{{rounds}}
            bits[0, i], bits[1, i], bits[2, i], bits[3, i] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)
        for pair in range({PAIRS}):
            even = 2 * pair * calls + first
            cosines, sines = normals[even : even + block], normals[even + calls : even + calls + block]
            words, others = bits[pair], bits[(pair + 1) % {PAIRS}]
            for i in range(block):
                m = np.int32(np.float32(np.float32(words[i]) * UNIT + MIDDLE).view(np.int32) - ROOT_HALF)
                x = np.int32((m & FRACTION) + ROOT_HALF).view(np.float32) - WHOLE
                r = np.sqrt(np.float32(m >> PLACES) * LN2 + x * {{log}})
                angle = np.uint32(others[i] << ANGLE)
                r = np.uint32(np.float32(r).view(np.uint32) | (angle & SIGN)).view(np.float32)
                t = np.float32(np.int32(np.uint32(angle << HALF_TURN))) * QUARTERS
                z = t * t
                cosines[i] = r * {{cos}}
                sines[i] = r * t * {{sin}}
"""


def _horner(name: str, x: str) -> str:
    """A polynomial of the constants NAME0, NAME1, ... as text."""
    last = len(POLYNOMIALS[name]) - 1
    return "".join(f"({name}{k} + {x} * " for k in range(last)) + f"{name}{last}" + ")" * last


def gpu_source() -> list[str]:
    """Source of `_normals(noise, seed, run, step, first, CALLS, BLOCK)` for Triton, line by line.

    It writes the normals of BLOCK calls from `first` on to noise, float32 [8 CALLS].
    """
    log, sin, cos = (_fused(name, x) for name, x in (("LOG", "x"), ("SIN", "z"), ("COS", "z")))
    return GPU.format(log=log, sin=sin, cos=cos).strip().splitlines()


GPU = f"""
@triton.jit
def _pair(word, other):
    u = tl.fma(word.to(tl.float32), {2.0**-32}, {2.0**-33})
    m = u.to(tl.int32, bitcast=True) - {ROOT_HALF}
    x = ((m & {FRACTION}) + {ROOT_HALF}).to(tl.float32, bitcast=True) - 1.0
    r = tl.sqrt_rn(tl.fma((m >> 23).to(tl.float32), {LN2}, x * {{log}}))
    r = tl.where((other & 2048) != 0, -r, r)
    t = (other << 21).to(tl.int32, bitcast=True).to(tl.float32) * {2.0**-31}
    z = t * t
    return r * {{cos}}, r * t * {{sin}}
@triton.jit
def _normals(noise, seed, run, step, first, CALLS: tl.constexpr, BLOCK: tl.constexpr):
    call = first + tl.arange(0, BLOCK)
    mask = call < CALLS
    zero = call.to(tl.uint32) * 0
    a, b, c, d = tl.philox(
        seed, call.to(tl.uint32), zero + step.to(tl.uint32), zero + run.to(tl.uint32), zero + (run >> 32).to(tl.uint32)
    )
    even, odd = _pair(a, b)
    tl.store(noise + call, even, mask=mask)
    tl.store(noise + CALLS + call, odd, mask=mask)
    even, odd = _pair(b, c)
    tl.store(noise + 2 * CALLS + call, even, mask=mask)
    tl.store(noise + 3 * CALLS + call, odd, mask=mask)
    even, odd = _pair(c, d)
    tl.store(noise + 4 * CALLS + call, even, mask=mask)
    tl.store(noise + 5 * CALLS + call, odd, mask=mask)
    even, odd = _pair(d, a)
    tl.store(noise + 6 * CALLS + call, even, mask=mask)
    tl.store(noise + 7 * CALLS + call, odd, mask=mask)
"""


def _fused(name: str, x: str) -> str:
    """The polynomial as text of fused multiply-adds."""
    *rest, last = POLYNOMIALS[name]
    return "".join(f"tl.fma({x}, " for _ in rest) + str(last) + "".join(f", {c})" for c in reversed(rest))
