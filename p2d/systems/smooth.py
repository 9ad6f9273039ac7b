"""exp and tanh of 32 bits for generated kernels, as source that compilers turn into vectors.

The mathematics library takes one number at a time, which makes a kernel with an exp in it ten times slower. These are
the polynomials of Cephes (Moshier 1989), right to 1.3e-7 of the value; what is not finite comes out as it should.
"""

from __future__ import annotations

EXP = """
HIGHEST, LOWEST = np.float32(89), np.float32(-104)  # beyond, exp is infinite, or 0
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)
E0, E1, E2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
E3, E4, E5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
WORD, BIAS, MANTISSA = np.int32(1), np.int32(127), np.int32(23)
@numba.njit(nogil=True, fastmath={'contract', 'nsz'}, error_model='numpy')
def exp(x):
    x = HIGHEST if x > HIGHEST else x
    x = LOWEST if x < LOWEST else x
    n = np.floor(x * LOG2_E + HALF)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = ((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5
    # 2^n as two factors: one alone would leave the range of exponents before the product does.
    half = np.int32(n) >> WORD
    first = np.int32((half + BIAS) << MANTISSA).view(np.float32)
    second = np.int32((np.int32(n) - half + BIAS) << MANTISSA).view(np.float32)
    return (p * (r * r) + r + ONE) * first * second
"""

TANH = """
T0, T1, T2 = np.float32(-5.70498872745e-3), np.float32(2.06390887954e-2), np.float32(-5.37397155531e-2)
T3, T4, NEAR = np.float32(1.33314422036e-1), np.float32(-3.33332819422e-1), np.float32(0.625)
@numba.njit(nogil=True, fastmath={'contract', 'nsz'}, error_model='numpy')
def tanh(x):
    z = x * x
    near = ((((T0 * z + T1) * z + T2) * z + T3) * z + T4) * z * x + x
    far = ONE - TWO / (exp(TWO * abs(x)) + ONE)
    far = -far if x < ZERO else far
    return near if abs(x) < NEAR else far
"""

SOURCES = {"exp": (EXP,), "tanh": (EXP, TANH)}


def sources(names: set[str]) -> list[str]:
    """What a kernel that calls these has to begin with, line by line."""
    parts = dict.fromkeys(part for name in sorted(names) for part in SOURCES.get(name, ()))
    return [line for part in parts for line in part.strip().splitlines()]
