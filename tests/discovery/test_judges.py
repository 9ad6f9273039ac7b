"""Observables that judge: their rates are derivatives, on any grid, and they see what they are for."""

import numpy as np
import pytest
from torch.testing import assert_close

from p2d.discovery.judges import EACH, KINDS, SMOOTH, Judges
from p2d.discovery.observables import Fields
from p2d.fields import Grid, Mask

DISH = Grid((40, 44), mask=Mask.of(np.hypot(*(np.indices((40, 44)) - 20)) < 19))
GRIDS = [Grid((32, 24)), Grid((1, 64)), Grid((40, 44), edges=("open", "mirror")), Grid((36, 36), 0.5), DISH]


def smooth_fields(grid: Grid, count: int, seed: int = 0) -> np.ndarray:
    rows, columns = np.indices(grid.shape)
    rng = np.random.default_rng(seed)
    waves = [
        np.cos(2 * np.pi * (a * rows / grid.shape[0] + b * columns / grid.shape[1]) + phase)
        for a, b, phase in zip(*rng.integers(1, 4, (2, 3)), rng.uniform(0, 6, 3), strict=True)
    ]
    return np.stack([rng.normal(size=3) @ np.stack(waves).reshape(3, -1) for _ in range(count)]).reshape(
        count, *grid.shape
    ) + 0.1 * rng.normal(size=(count, *grid.shape))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_rates_are_derivatives_along_the_velocity(grid):
    z, v = smooth_fields(grid, 2), smooth_fields(grid, 2, seed=1)
    judges = Judges.of(z[None], grid, 0, (0.0, 3.0), noisy=False)
    window = None if grid.is_closed else grid.inside(1).astype(float)
    cells = z[0].size if window is None else window.sum()
    here, along = Fields(z, grid.in_cells, window), Fields(v, grid.in_cells, window)
    rates = judges.rates(here, [along])[:, 0] / cells
    ends = [judges.values(Fields(z + sign * 1e-4 * v, grid.in_cells, window)) / cells for sign in (1, -1)]
    assert len(judges) == EACH * len(KINDS) == len(rates)
    assert_close(rates, (ends[0] - ends[1]) / 2e-4, rtol=1e-4, atol=1e-6)  # central differences
    rows = judges.rows(here, v.reshape(2, -1))
    assert_close(rows[:, 0] + rows[:, 3], rates * cells, rtol=1e-9, atol=1e-9)
    moved = judges.values(here.moved(along, 0.5))
    assert_close(moved, judges.values(Fields(z + 0.5 * v, grid.in_cells, window)), rtol=1e-9, atol=1e-9)


def test_cells_beyond_edges_and_masks_do_not_matter():
    for grid in (Grid((40, 44), edges=("open", "open")), DISH):
        z = smooth_fields(grid, 2)
        judges = Judges.of(z[None], grid, 1, (0.0, 3.0), noisy=False)
        other = np.where(grid.inside(1), z, 7.0)  # what lies within the margin is not known
        values = [judges.values(Fields(f, grid.in_cells, grid.inside(1).astype(float))) for f in (z, other)]
        assert_close(values[0], values[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [0.0, 1.5])
def test_second_derivatives_are_those_of_white_noise_seen_through_the_kernel(width):
    grid = Grid((32, 32))
    z = smooth_fields(grid, 2)
    judges = Judges.of(z[None], grid, 0, (width, 5.0), noisy=False)
    point = np.zeros(grid.shape)
    point[16, 16] = 1.0
    from scipy.ndimage import gaussian_filter

    seen = gaussian_filter(point, width, mode="wrap", truncate=5.0) if width else point
    fields = Fields(z, grid, None)
    spreads = judges.spreads(fields, {})
    power = np.zeros(len(judges))
    for shift in np.ndindex(32, 32):  # the noise of each cell is its own
        moved = np.stack([np.roll(seen, shift, (0, 1)), np.zeros(grid.shape)])
        power += judges.along(Fields(moved, grid, None))[:, 0] ** 2
    from_cells = -np.cos(judges.along(fields) + judges.drawn()[1]).mean(axis=1) * 32 * 32 * power
    assert_close(spreads[:, 0], from_cells, rtol=1e-6, atol=1e-9)


def test_noise_leaves_judges_of_smooth_filters_alone():
    z = smooth_fields(Grid((32, 32)), 1)
    assert Judges.of(z[None], Grid((32, 32)), 0, (1.5, 5.0), noisy=True).kinds == SMOOTH
