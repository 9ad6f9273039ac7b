"""Whether snapshots are independent, told from themselves: copies, and frames of one run given as runs of their own.

Where a pattern stands is chance, so that two independent snapshots are as much alike as when one of them is shifted;
frames of one run are more alike. Both are compared in the modes that hold most of the power, each divided by its mean
amplitude, where independent snapshots are as good as orthogonal and shifts are phases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from p2d.fields import Grid

POWER, MOST = 0.9, 400  # share of the power that the modes hold, and how many they are at most, of all species
DRAWS = 64  # of shifts, that say how much alike independent snapshots are
# Standard deviations above the mean of the largest likeness of all pairs in each draw, which is Gumbel's: exceeded in
# 1 of 10,000 ensembles. Likeness along the order, and of all pairs, is a sum of squares; 0 of 432 clean ensembles of
# 32 to 128 snapshots of six Gray-Scott patterns exceeded 5.
LARGEST, SUMMED = 7.0, 5.0
LAGS = 4  # in the order of files
COPIES, SAME = 1e-5, 1e-6  # beside the spread, by which descriptors and cells of copies may differ
NAMED = 100  # pairs of copies, at most
FEWEST = 8  # snapshots
ROUNDS, SURELY = 3, 8.0  # of joining snapshots to runs; times the median likeness, at first
FOLLOW = 2.0  # times as much alike as all pairs are, that neighbours in the order of a run are
APART = 1.5  # times as many runs told as all pairs are worth: their ends do not show


@dataclass(frozen=True, eq=False)
class Modes:
    """Snapshots in their strongest modes.

    Attributes:
        values: complex [N, M], of mean square 1 over snapshots.
        mirrored: the same of the snapshots mirrored between edges that are not periodic, [F, N, M]; first as they are.
        waves: cycles a cell along rows and columns, [M, 2]; 0 between edges that are not periodic.
        shape: of the grid.
    """

    values: np.ndarray
    mirrored: np.ndarray
    waves: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, states: np.ndarray, grid: Grid) -> Modes:
        """The modes of snapshots [N, C, H, W]."""
        states = (states - states.mean(axis=(-2, -1), keepdims=True)).astype(np.float32)
        walls = [axis for axis in (0, 1) if grid.edges[axis] != "periodic" and grid.shape[axis] > 1]
        for axis in walls:  # what does not end at an edge as it begins at the other would leak into all modes
            taper = np.hanning(grid.shape[axis] + 2)[1:-1].astype(np.float32)
            states = states * (taper[:, None] if axis == 0 else taper)
        spectrum = np.fft.rfft2(states).astype(np.complex64)
        power = (np.abs(spectrum) ** 2).mean(axis=0, dtype=np.float64)
        share = power / np.maximum(power.sum(axis=(1, 2), keepdims=True), 1e-300)
        order = np.argsort(share, axis=None)[::-1]
        held = np.cumsum(share.ravel()[order]) / max(share.sum(), 1e-300)
        species, rows, columns = np.unravel_index(order[: min(MOST, int((held < POWER).sum()) + 1)], share.shape)
        scale = 1 / np.sqrt(np.maximum(power[species, rows, columns], 1e-30)).astype(np.float32)
        flips = [*({axis} for axis in walls), *([set(walls)] if len(walls) > 1 else [])]
        fields = (np.flip(states, tuple(axis - 2 for axis in axes)) for axes in flips)
        mirrored = [np.fft.rfft2(each)[:, species, rows, columns] * scale for each in fields]
        values = spectrum[:, species, rows, columns] * scale
        waves = np.stack([np.fft.fftfreq(grid.shape[0])[rows], columns / grid.shape[1]], axis=1)
        waves[:, walls] = 0
        return cls(values, np.stack([values, *mirrored]).astype(np.complex64), waves, grid.shape)

    def moved(self, runs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The snapshots again and again, each run shifted by chance or, between edges, mirrored.

        Args:
            runs: of the snapshots, [N], numbered from 0.

        Yields:
            Their modes [N, M], and which pairs moved against each other, [N, N].
        """
        rng, count = np.random.default_rng(0), len(self.values)
        stands = not self.waves.any()
        for _ in range(DRAWS):
            shift = rng.integers(0, self.shape, (count, 2))[runs]
            flip = rng.integers(0, len(self.mirrored), count)[runs]
            phase = np.exp(2j * np.pi * (shift @ self.waves.T)).astype(np.complex64)
            yield self.mirrored[flip, range(count)] * phase, (flip[:, None] != flip) | (not stands)


@dataclass(frozen=True, eq=False)
class Dependence:
    """What belongs together.

    Attributes:
        copies: pairs of snapshots that are the same but for shifts, turns and mirroring.
        runs: which snapshots belong together, [N]: as they were given, and copies, and those more alike than
            independent ones ever are; where neighbours in the order are alike but no ends of runs show, stretches.
        are_told: whether runs end where the snapshots show it.
        z: standard deviations by which neighbours in the order (the largest of some lags), and all pairs, are more
            alike than independent ones, copies aside.
        effective: number of independent runs that tell as much of quadratic means.
    """

    copies: list[tuple[int, int]]
    runs: np.ndarray
    are_told: bool
    z: tuple[float, float]
    effective: float

    @property
    def is_seen(self) -> bool:
        """Whether snapshots that are no copies are dependent."""
        return self.are_told or max(self.z) > SUMMED


def measure_dependence(states: np.ndarray, grid: Grid, runs: np.ndarray) -> Dependence:
    """Dependence between snapshots [N, C, H, W] of runs that are told apart.

    Args:
        runs: that they are said to be of, [N]; what is alike within them is no news.
    """
    given = np.unique(runs, return_inverse=True)[1]
    count, said = len(states), int(given.max()) + 1
    if said < FEWEST:
        return Dependence([], given, False, (0.0, 0.0), float(said))
    known = given[:, None] == given
    states, grid = unmasked(states, grid)
    copies = [(i, j) for i, j in find_copies(states, grid) if not known[i, j]]
    known[tuple(np.array(copies, int).reshape(-1, 2).T)] = True
    known |= known.T
    others, again = ~known, sorted({j for _, j in copies})
    others[again], others[:, again] = False, False  # a copy says nothing that the first one does not
    modes = Modes.of(states, grid)
    likeness = _likeness(modes.values)
    null = [(_likeness(values), moved) for values, moved in modes.moved(given)]
    places = np.arange(count)
    lags = [others & (places - places[:, None] == lag) for lag in range(1, LAGS + 1)]
    squares = np.array([[_mean_square(r, of & moved) for of in (others, *lags)] for r, moved in null]).T
    surplus = np.array([_mean_square(likeness, of) for of in (others, *lags)]) - squares.mean(axis=1)
    chance = np.maximum(squares.std(axis=1), 1e-12)
    every, *near = map(float, surplus / chance)
    before = _joined(known)
    joined = _find_runs(likeness, null, known, (others, np.any(lags, axis=0)))
    said = int(before.max()) + 1
    effective = max(1.0, said / (1 + max(0.0, surplus[0]) * (said - 1)))
    are_told = joined.max() < before.max() and joined.max() + 1 <= APART * effective
    follow = max(near) > SUMMED and surplus[1:].max() > FOLLOW * surplus[0]
    if follow and joined.max() + 1 > APART * effective:
        stretch = given // max(1, round(said / effective))
        joined, are_told = _joined(known | (stretch[:, None] == stretch)), False
    return Dependence(copies, joined, are_told, (max(near), every), effective)


def unmasked(states: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """The largest square within the mask, of states [N, C, H, W]: what shifts and mirroring ask for is a window."""
    if grid.mask is None:
        return states, grid
    from scipy.ndimage import distance_transform_cdt  # on use: the command line must start without it

    far = distance_transform_cdt(np.pad(grid.mask.cells, 1), "chessboard")[1:-1, 1:-1]
    row, column = np.unravel_index(far.argmax(), far.shape)
    reach = int(far.max()) - 1
    cut = states[..., row - reach : row + reach + 1, column - reach : column + reach + 1]
    return cut, Grid((cut.shape[-2], cut.shape[-1]), edges=("open", "open"))


def _find_runs(
    likeness: np.ndarray,
    null: list[tuple[np.ndarray, np.ndarray]],
    known: np.ndarray,
    compared: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Ids of runs [N]: what is known to belong together, and what is more alike than independent snapshots ever are.

    Args:
        null: likenesses of moved snapshots, and which pairs moved.
        compared: all pairs that may be of one run, and those near in the order, which are fewer, and so are less alike
            by chance.
    """
    joined = _joined(known | (compared[0] & (likeness > SURELY * np.median(likeness))))
    for _ in range(ROUNDS):
        independent = joined[:, None] != joined  # what belongs together may be alike when moved, too
        linked = known.copy()
        for of in compared:
            largest = [r[independent & moved & of].max(initial=0) for r, moved in null]
            linked |= of & (likeness > np.mean(largest) + LARGEST * np.std(largest))
        joined = _joined(linked)
    return joined


def _likeness(values: np.ndarray) -> np.ndarray:
    """How much alike all pairs of snapshots are in modes [N, M]: Fisher's z of their correlation, [N, N].

    Its size alone, as frames half a period apart are opposites.
    """
    flat = np.ascontiguousarray(values - values.mean(axis=0)).view(np.float32)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
    return np.arctanh(np.minimum(np.abs(flat @ flat.T), 1 - 1e-6))


def _mean_square(likeness: np.ndarray, pairs: np.ndarray) -> float:
    return float((np.tanh(likeness[pairs]) ** 2).mean()) if pairs.any() else 0.0


def _joined(linked: np.ndarray) -> np.ndarray:
    """Ids of the groups [N] that links [N, N] join."""
    from scipy.sparse import csr_array  # on use: the command line must start without it
    from scipy.sparse.csgraph import connected_components

    return connected_components(csr_array(linked), directed=False)[1]


def find_copies(states: np.ndarray, grid: Grid) -> list[tuple[int, int]]:
    """Pairs of snapshots [N, C, H, W] that are the same but for shifts, quarter turns and mirroring; the first 100."""
    numbers = _unmoved(states, grid)
    spread = np.maximum(numbers.std(axis=0), 1e-12 * np.abs(numbers).max(axis=0) + 1e-300)
    order = np.argsort(numbers[:, 0])
    pairs: list[tuple[int, int]] = []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if abs(numbers[j, 0] - numbers[i, 0]) > COPIES * spread[0] or len(pairs) == NAMED:
                break
            close = (np.abs(numbers[j] - numbers[i]) < COPIES * spread).all()
            if close and _same_when_moved(states[i], states[j], grid):
                pairs.append((int(min(i, j)), int(max(i, j))))
    return sorted(pairs)


def _unmoved(states: np.ndarray, grid: Grid) -> np.ndarray:
    """Numbers of each snapshot that neither shifts nor turns change, [N, F]."""
    cells, numbers = grid.inside(0), []
    for state in states:
        x = state[:, cells].astype(np.float64)
        products = x @ x.T
        numbers.append([*x.sum(axis=1), *products[np.triu_indices(len(x))], *((x**2) @ x.T).ravel()])
    return np.array(numbers)


def _same_when_moved(first: np.ndarray, second: np.ndarray, grid: Grid) -> bool:
    """Whether one snapshot [C, H, W] is the other one turned, mirrored or shifted."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    near = SAME * (first.max() - first.min())
    target = np.fft.rfft2(first - first.mean(axis=(-2, -1), keepdims=True)).conj()
    turns = range(4) if grid.shape[0] == grid.shape[1] else (0, 2)
    for turned in (np.rot90(x, n, (-2, -1)) for x in (second, np.flip(second, -1)) for n in turns):
        likeness = np.fft.irfft2((target * np.fft.rfft2(turned)).sum(axis=0), s=grid.shape)
        rows, columns = np.unravel_index(likeness.argmax(), grid.shape)
        if np.abs(np.roll(turned, (-int(rows), -int(columns)), (-2, -1)) - first).max() <= near:
            return True
    return False
