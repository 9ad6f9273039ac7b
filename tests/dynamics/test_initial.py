"""Initial states: what the discs look like, and that a sample depends on (seed, sample id) alone."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.ndimage import label

from p2d.dynamics import initial
from p2d.dynamics.initial import discs, generator, initial_states

GRIDS = [(32, 32), (24, 40), (15, 64)]


def lattice_disc(radius: int) -> np.ndarray:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


def lone_discs(monkeypatch, height: int, width: int, count: int) -> list[np.ndarray]:
    """The cells of one disc, cut to its bounding box, for `count` samples."""
    monkeypatch.setattr(initial, "DISCS", 1)
    boxes = []
    for state in initial_states(5, np.arange(count), height, width):
        rows, columns = np.nonzero(state[1])
        boxes.append(state[1][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] > 0)
    return boxes


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_sample_does_not_depend_on_what_is_drawn_beside_it(height, width):
    whole = initial_states(7, np.arange(6), height, width)
    parts = initial_states(7, np.array([4, 1]), height, width)
    assert_array_equal(parts, whole[[4, 1]])
    assert_array_equal(discs(generator(7, 3), height, width), whole[3])


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_other_samples_and_other_seeds_are_other_states(height, width):
    states = np.concatenate([initial_states(seed, np.arange(8), height, width) for seed in (0, 1, 2**40)])
    assert len({state.tobytes() for state in states}) == 24


def test_seed_and_sample_id_are_not_interchangeable():
    assert discs(generator(1, 2), 32, 32).tobytes() != discs(generator(2, 1), 32, 32).tobytes()


@pytest.mark.parametrize(("height", "width"), [*GRIDS, (3, 3), (5, 9)])
def test_a_cell_is_background_or_disc_and_nothing_else(height, width):
    states = initial_states(0, np.arange(20), height, width)
    assert states.dtype == np.float32
    assert states.shape == (20, 2, height, width)
    inside = states[:, 1] > 0
    assert_array_equal(states[:, 0], np.where(inside, np.float32(0.5), np.float32(1)))
    assert_array_equal(states[:, 1], np.where(inside, np.float32(0.25), np.float32(0)))
    assert inside.any(axis=(1, 2)).all()


@pytest.mark.parametrize(("height", "width"), [*GRIDS, (3, 3), (5, 9)])
def test_discs_are_whole_so_their_centres_are_a_radius_from_the_edge(monkeypatch, height, width):
    for box in lone_discs(monkeypatch, height, width, 100):
        assert_array_equal(box, lattice_disc(len(box) // 2))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_every_radius_from_3_to_7_is_drawn_and_no_other(monkeypatch, height, width):
    # 200 draws miss one of five radii with probability 5 * 0.8^200 < 1e-18
    assert {len(box) // 2 for box in lone_discs(monkeypatch, height, width, 200)} == {3, 4, 5, 6, 7}


@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 9), (12, 8)])
def test_radii_shrink_on_grids_too_small_for_them(monkeypatch, height, width):
    largest = (min(height, width) - 1) // 2
    assert max(len(box) // 2 for box in lone_discs(monkeypatch, height, width, 100)) == largest


@pytest.mark.parametrize(("height", "width"), [(256, 256), (200, 400)])
def test_a_sample_has_five_discs(height, width):
    # on a wide grid discs seldom touch: never more than five pieces, and five in most samples
    pieces = [label(state[1])[1] for state in initial_states(1, np.arange(20), height, width)]
    assert max(pieces) == 5
    assert np.median(pieces) == 5


@pytest.mark.parametrize("row_or_column", [0, 1])
def test_discs_reach_all_parts_of_the_grid(row_or_column):
    states = initial_states(3, np.arange(200), 24, 24)
    # 1,000 discs of at least 7 cells across: the edge rows and columns are touched by some of them
    touched = (states[:, 1] > 0).any(axis=(0, 2 - row_or_column))
    assert touched.all()
