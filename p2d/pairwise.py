"""Sums over fields in one pass, to the last bit those of numpy: pairwise, which keeps rounding small."""

from __future__ import annotations

import numba
import numpy as np

FEW, BLOCK = 8, 128  # fewer numbers are added one by one, and up to so many in eight sums side by side
DEEPEST = 64  # halves of halves, of any number of numbers


@numba.njit(nogil=True, cache=True, error_model="numpy")
def block_sum(values: np.ndarray, first: int, count: int) -> float:  # pragma: no cover
    """Sum of at most BLOCK values [M] from the first on."""
    if count < FEW:
        total = 0.0
        for i in range(first, first + count):
            total += values[i]
        return total
    a, b, c, d = values[first], values[first + 1], values[first + 2], values[first + 3]
    e, f, g, h = values[first + 4], values[first + 5], values[first + 6], values[first + 7]
    for i in range(first + 8, first + count - count % 8, 8):
        a += values[i]
        b += values[i + 1]
        c += values[i + 2]
        d += values[i + 3]
        e += values[i + 4]
        f += values[i + 5]
        g += values[i + 6]
        h += values[i + 7]
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(first + count - count % 8, first + count):
        total += values[i]
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def pairwise(values: np.ndarray, left: np.ndarray, rest: np.ndarray) -> float:  # pragma: no cover
    """Sum of values [M], added as numpy adds numbers that lie side by side: the sums of two halves, and so on.

    A function that calls itself would say it in four lines, and cannot be kept compiled: loaded again it crashes.

    Args:
        left, rest: float64 [DEEPEST] and int64 [DEEPEST], room for the sums of left halves, and the lengths of right
            ones; 0 where the right one is under way.
    """
    depth, first, count = 0, 0, len(values)
    while True:
        while count > BLOCK:
            half = count // 2
            half -= half % 8
            rest[depth] = count - half
            depth, count = depth + 1, half
        total = block_sum(values, first, count)
        first += count
        while depth > 0 and rest[depth - 1] == 0:
            depth -= 1
            total = left[depth] + total
        if depth == 0:
            return total
        left[depth - 1], count, rest[depth - 1] = total, rest[depth - 1], 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def squared_slopes(field: np.ndarray, shape: tuple[int, int], wraps: tuple[bool, bool], out: np.ndarray) -> None:
    # pragma: no cover
    """Squares of what the next cells down and to the right have more than each, added up; 0 at a wall.

    Args:
        field, out: [H W].
        wraps: whether rows and columns go on at the other side.
    """
    height, width = shape
    for i in range(height):
        here = field[i * width : (i + 1) * width]
        below = here
        if i + 1 < height:
            below = field[(i + 1) * width : (i + 2) * width]
        elif wraps[0]:
            below = field[:width]
        squares = out[i * width : (i + 1) * width]
        for j in range(width - 1):
            down, right = below[j] - here[j], here[j + 1] - here[j]
            squares[j] = down * down + right * right
        down = below[width - 1] - here[width - 1]
        right = here[0] - here[width - 1] if wraps[1] else here[width - 1] - here[width - 1]
        squares[width - 1] = down * down + right * right


@numba.njit(nogil=True, cache=True, error_model="numpy")
def field_sums(
    states: np.ndarray, cells: np.ndarray, inner: np.ndarray, wraps: tuple[bool, bool], area: float
) -> np.ndarray:  # pragma: no cover
    """Sums over cells: of each species, of its square and of its squared slope, and of products of pairs.

    Args:
        states: [N, C, H, W].
        cells, inner: where values, and slopes, count, bool [H W]; empty: everywhere.
        wraps: whether rows and columns go on at the other side.
        area: of a cell.

    Returns:
        float64 [N, 3 C + C (C - 1) / 2].
    """
    count, species, height, width = states.shape
    size, column = height * width, 3 * species
    sums = np.empty((count, column + species * (species - 1) // 2))
    fields, part = np.empty((species, size)), np.empty(size)
    left, rest = np.empty(DEEPEST), np.empty(DEEPEST, np.int64)
    for n in range(count):
        for s in range(species):
            field, stored = fields[s], states[n, s].reshape(-1)
            for i in range(size):
                field[i] = stored[i]
            for i in range(len(cells)):
                field[i] = field[i] if cells[i] else 0.0
            sums[n, s] = pairwise(field, left, rest)
            for i in range(size):
                part[i] = field[i] * field[i]
            sums[n, species + s] = pairwise(part, left, rest)
            squared_slopes(field, (height, width), wraps, part)
            if area != 1.0:
                for i in range(size):
                    part[i] = part[i] / area
            for i in range(len(inner)):
                part[i] = part[i] if inner[i] else 0.0
            sums[n, 2 * species + s] = pairwise(part, left, rest)
        column = 3 * species
        for one in range(species):
            for other in range(one + 1, species):
                for i in range(size):
                    part[i] = fields[one, i] * fields[other, i]
                sums[n, column] = pairwise(part, left, rest)
                column += 1
    return sums
