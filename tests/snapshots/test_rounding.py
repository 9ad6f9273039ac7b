"""Rounding told from values alone: any step, offset and scale; the blocks of JPEG wherever they begin."""

import io

import numpy as np
import pytest
from PIL import Image

from p2d.fields import Grid, Mask
from p2d.snapshots.rounding import block_edges, is_rounded, lattice, measure_rounding
from tests.snapshots.helpers import patterns

SIZE = 40
GRID = Grid((SIZE, SIZE))


def rounded(states: np.ndarray, levels: int) -> np.ndarray:
    return np.round(states * levels) / levels


def jpeg(states: np.ndarray, quality: int) -> np.ndarray:
    """Each species an image of 8 bits of its own."""

    def seen(field: np.ndarray) -> np.ndarray:
        data = io.BytesIO()
        Image.fromarray(np.round(255 * field).astype(np.uint8)).save(data, "JPEG", quality=quality)
        return np.asarray(Image.open(data)) / 255

    return np.array([[seen(field) for field in state] for state in states])


def in_colour(states: np.ndarray, subsampling: int) -> np.ndarray:
    """Both species the red and green of one image of quality 95."""

    def seen(state: np.ndarray) -> np.ndarray:
        data, image = io.BytesIO(), np.round(255 * np.stack([*state, 0 * state[0]], axis=-1)).astype(np.uint8)
        Image.fromarray(image).save(data, "JPEG", quality=95, subsampling=subsampling)
        return np.moveaxis(np.asarray(Image.open(data))[..., :2], -1, 0) / 255

    return np.array([seen(state) for state in states])


@pytest.mark.parametrize("levels", [255, 256, 500])
@pytest.mark.parametrize("low, scale", [(0, 1), (-3, 0.01), (250, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_step_comes_back_whatever_the_scale_and_offset(levels, low, scale, dtype):
    states = (low + scale * rounded(patterns(6, SIZE), levels)).astype(dtype)
    result = measure_rounding(states, GRID)
    np.testing.assert_allclose(result.steps, scale / levels, rtol=2e-3)  # at the ends of the range levels are missing
    assert result.matters
    assert result.own == (False, False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_on_no_lattice(dtype):
    states = patterns(6, SIZE).astype(dtype)
    assert measure_rounding(states, GRID).steps == (0.0, 0.0)
    # one species alone may be rounded
    states[:, 1] = rounded(states[:, 1], 255)
    first, second = measure_rounding(states, GRID).steps
    assert first == 0
    np.testing.assert_allclose(second, 1 / 255, rtol=2e-3)
    # what is interpolated is on no lattice any more
    between = 0.7 * states + 0.3 * np.roll(states, 1, axis=-1) + 1e-4 * patterns(6, SIZE, seed=1).astype(dtype)
    assert measure_rounding(between, GRID).steps == (0.0, 0.0)


def test_steps_beside_which_laplacians_are_large_do_not_matter():
    states = patterns(6, SIZE)
    assert is_rounded(rounded(states, 500))
    sixteen_bits = measure_rounding(rounded(states, 65535).astype(np.float32), GRID)
    np.testing.assert_allclose(sixteen_bits.steps, 1 / 65535, rtol=1e-3)
    assert not sixteen_bits.matters


def test_the_share_of_the_laplacian_is_what_rounding_adds_to_it():
    states = patterns(6, SIZE)
    coarse = rounded(states, 300)
    added = GRID.laplacian(coarse - states).std(axis=(0, 2, 3)) / GRID.laplacian(coarse).std(axis=(0, 2, 3))
    np.testing.assert_allclose(measure_rounding(coarse, GRID).shares, added, rtol=0.03)


def test_each_snapshot_may_have_its_own_lattice():
    states = rounded(patterns(6, SIZE), 255)
    low, high = (end(states, axis=(2, 3), keepdims=True) for end in (np.min, np.max))
    result = measure_rounding(((states - low) / (high - low)).astype(np.float32), GRID)
    assert result.own == (True, True)
    np.testing.assert_allclose(result.steps, np.median(1 / 255 / (high - low), axis=0).ravel(), rtol=0.05)


@pytest.mark.parametrize("stretch", [1.4, 2.3])
def test_a_contrast_stretched_and_rounded_again_counts_both_roundings(stretch):
    exact = 0.3 + (patterns(8, SIZE) - 0.5) * 0.6
    twice = rounded((rounded(exact, 255) - 0.15) * stretch, 255)
    error = (twice - (exact - 0.15) * stretch).std(axis=(0, 2, 3)) * 12**0.5
    np.testing.assert_allclose(measure_rounding(twice.astype(np.float32), GRID).steps, error, rtol=0.2)


def test_half_precision_is_rounding_of_many_steps():
    states = (1 + 9 * patterns(24, SIZE)).astype(np.float16)
    error = (states.astype(float) - 1 - 9 * patterns(24, SIZE)).std(axis=(0, 2, 3)) * 12**0.5
    np.testing.assert_allclose(measure_rounding(states.astype(np.float32), GRID).steps, error, rtol=0.25)


def test_cells_that_were_filled_or_masked_do_not_hide_a_lattice():
    states = rounded(patterns(6, SIZE), 255)
    states[:, :, :1, :5] = 0.123456
    np.testing.assert_allclose(measure_rounding(states, GRID).steps, 1 / 255, rtol=0.01)
    cells = np.ones((SIZE, SIZE), bool)
    cells[:20] = False
    states[:, :, :20] = patterns(6, SIZE)[:, :, :20]
    np.testing.assert_allclose(
        measure_rounding(states, Grid((SIZE, SIZE), mask=Mask.of(cells))).steps, 1 / 255, rtol=2e-3
    )


def test_constant_values_are_on_no_lattice():
    assert lattice(np.full(100, 0.3)) == (0.0, 0)
    assert measure_rounding(np.full((6, 1, 8, 8), 0.3), Grid((8, 8))).steps == (0.0,)


@pytest.mark.parametrize("row, column", [(0, 0), (3, 6)])
@pytest.mark.parametrize("quality", [90, 95])
def test_blocks_of_jpeg_are_found_wherever_they_begin(row, column, quality):
    seen = jpeg(patterns(24, 64, wave=0.08), quality)[:, :, row : row + 56, column : column + 56]
    excess, axis, place = block_edges(seen, Grid((56, 56), edges=("open", "open")))
    assert excess > 1
    assert place == (-(row, column)[axis]) % 8


@pytest.mark.parametrize("subsampling", [0, 2])
def test_blocks_of_colours_are_found_with_all_and_with_half_of_their_pixels(subsampling):
    assert block_edges(in_colour(patterns(24, 64, wave=0.08), subsampling), Grid((64, 64)))[0] > 1


def test_patterns_and_their_rounding_have_no_blocks():
    largest = [block_edges(patterns(12, SIZE, seed=seed), GRID)[0] for seed in range(25)]
    assert max(largest) < 1
    assert np.mean(largest) > 0.2  # near enough to what chance leaves
    assert block_edges(rounded(patterns(24, SIZE), 255), GRID)[0] < 1
    # frames of one run are one
    assert block_edges(np.repeat(patterns(8, SIZE), 16, axis=0), GRID, np.repeat(range(8), 16))[0] < 1


def test_what_walls_do_to_a_pattern_is_no_edge_of_blocks():
    stronger = 1 + np.exp(-np.arange(48) / 2)[:, None]
    assert block_edges(patterns(64, 48) * stronger, Grid((48, 48), edges=("mirror", "open")))[0] < 1
