"""Does an ensemble stay what it is: nothing between equals, a floor beside it, and how memory of a start is lost."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.evaluate import preservation
from p2d.evaluate.preservation import Ensemble, correlation, decorrelation_time, displacement_cosine, observed
from p2d.evaluate.quality import energy_distance
from p2d.fields import Grid
from p2d.observables import averages

from .helpers import patterns

COUNT = 7  # averages of two species

# Tiles


@pytest.mark.parametrize(
    ("height", "width", "tiles", "tile"),
    [
        (64, 64, 1, (64, 64)),
        (128, 192, 6, (64, 64)),
        (24, 40, 1, (24, 40)),
        (128, 40, 2, (64, 40)),
        (96, 64, 1, (96, 64)),
    ],
)
def test_grids_are_cut_into_tiles_of_64_on_the_sides_that_are_multiples(height, width, tiles, tile):
    states = patterns(3, height, width)
    found = observed(states)
    assert found.shape == (3, tiles, COUNT) and found.dtype == np.float64
    assert_array_equal(found.reshape(-1, COUNT), averages(states, Grid((height, width)), tile))


# The distance and its floor


@pytest.mark.parametrize(("height", "width"), [(24, 24), (16, 40), (128, 64)])
def test_an_ensemble_is_no_distance_from_itself(height, width):
    states = patterns(12, height, width)
    # the root of what rounding leaves of squares of standardised averages, up to 1e3 each: 1e-6 at most
    assert abs(Ensemble(states).distance(observed(states[::-1]))) < 1e-5


def test_further_samples_are_as_far_as_the_floor_and_another_ensemble_is_farther():
    ensemble = Ensemble(patterns(600, 24, 24))
    more = observed(patterns(60, 24, 24, seed=1))
    floor = ensemble.floor(60)
    # one draw more than the floor's; draws of 60 of 600 vary by a third of themselves
    assert 0.4 < ensemble.distance(more) / floor < 2.2
    for other in (lambda s: 0.1 + s, lambda s: 0.5 + 0.5 * (s - 0.5)):
        assert ensemble.distance(observed(other(patterns(60, 24, 24, seed=1)))) / floor > 10


@pytest.mark.parametrize(("ensemble", "samples"), [(24, 16), (16, 16)])
def test_further_samples_are_as_far_as_the_floor_of_a_small_ensemble(ensemble, samples):
    ratios = []
    for seed in range(12):
        states = patterns(ensemble + samples, 24, 24, seed)
        small = Ensemble(states[samples:])
        ratios.append(small.distance(observed(states[:samples])) / small.floor(samples))
    # a mean of 12 that vary by a third of themselves
    assert np.mean(ratios) == pytest.approx(1, abs=4 * 0.33 / 12**0.5)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (128, 64)])
def test_the_distance_is_the_energy_distance_in_spreads_of_the_ensemble(height, width):
    states, others = patterns(9, height, width), 0.8 * patterns(5, height, width, seed=1)
    a, b = (observed(s).reshape(-1, COUNT) for s in (others, states))
    spread = b.std(axis=0)
    # squares are expanded here: rounding of 1e-13, and its root where points coincide
    assert_allclose(Ensemble(states).distance(observed(others)), energy_distance(a / spread, b / spread), rtol=1e-5)


@pytest.mark.parametrize(("tiles", "snapshots"), [(1, 1), (2, 1), (8, 4), (20, 10)])
def test_the_floor_is_that_of_draws_of_whole_snapshots_on_average(tiles, snapshots):
    states = patterns(40, 128, 64)  # two tiles each
    own = observed(states)
    floor = Ensemble(states).floor(tiles)
    rng = np.random.default_rng(7)
    orders = [rng.permutation(40) for _ in range(100)]
    draws = [Ensemble(states[n[snapshots:]]).distance(own[n[:snapshots]]) for n in orders]
    # distances go as 1 / n + 1 / m: from those to the others to those to an ensemble of all
    draws = np.array(draws) * (1 / snapshots + 1 / 40) / (1 / snapshots + 1 / (40 - snapshots))
    assert floor > 0
    # means of 32 and of 100 draws; four standard errors of their difference
    error = np.std(draws) * (1 / preservation.DRAWS + 1 / len(draws)) ** 0.5
    assert abs(floor - np.mean(draws)) < 4 * error


def test_the_floor_of_more_snapshots_is_lower():
    ensemble = Ensemble(patterns(200, 24, 24))
    floors = [ensemble.floor(count) for count in (2, 8, 32)]
    # it falls as one over their number, and draws of it vary by a third at most
    assert floors[0] > 2 * floors[1] > 4 * floors[2] > 0


def test_what_is_drawn_is_a_function_of_the_seed():
    states = patterns(30, 16, 16)
    floors = [Ensemble(states, seed).floor(4) for seed in (0, 0, 1)]
    assert floors[0] == floors[1] != floors[2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_states_that_are_not_finite_are_infinitely_far(value):
    states = patterns(6, 16, 16)
    broken = states.copy()
    broken[2, 1, 3, 4] = value
    assert Ensemble(states).distance(observed(broken)) == math.inf


def test_so_many_tiles_at_most_make_the_reference(monkeypatch):
    monkeypatch.setattr(preservation, "REFERENCE", 10)
    ensemble = Ensemble(patterns(12, 128, 64))
    every = ensemble.tiles.reshape(-1, COUNT)
    assert ensemble.reference.shape == (10, COUNT)
    assert all((every == tile).all(axis=1).sum() == 1 for tile in ensemble.reference)


# Memory


@pytest.mark.parametrize(("height", "width"), [(24, 24), (16, 40)])
def test_states_correlate_with_themselves_and_against_their_mirror_image(height, width):
    states = patterns(6, height, width)
    # float32 means of some 10,000 entries
    assert_allclose(correlation(states, states), 1.0, atol=1e-5)
    assert_allclose(correlation(1 - states, states), -1.0, atol=1e-5)
    scaled = states * np.float32([[[[0.3]], [[2.0]]]]) + np.float32(0.1)  # each species of its own
    assert_allclose(correlation(scaled, states), 1.0, atol=1e-5)


def test_patterns_that_know_nothing_of_each_other_do_not_correlate():
    found = correlation(patterns(40, 32, 32), patterns(40, 32, 32, seed=1))
    # about one independent number for each 6 x 6 cells, 28 a species and state; the species are not independent
    assert abs(found) < 4 / (28 * 40) ** 0.5


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_mixture_correlates_by_the_start_s_share_of_its_spread(share):
    rng = np.random.default_rng(0)
    starts, others = rng.standard_normal((2, 20, 2, 32, 32))
    found = correlation(share * starts + (1 - share**2) ** 0.5 * others, starts)
    assert abs(found - share) < 4 / starts.size**0.5  # of independent numbers


@pytest.mark.parametrize(
    ("times", "correlations", "expected"),
    [
        ([0, 10], [1.0, 0.0], 10 * (1 - math.exp(-1))),
        ([0, 10, 30], [1.0, 0.5, 0.25], 10 + 20 * (0.5 - math.exp(-1)) / 0.25),
        ([0, 5, 10, 15, 20], [1.0, 0.3, 0.9, 0.1, 0.0], 5 * (1 - math.exp(-1)) / 0.7),  # the first time
        ([0, 4, 8], [1.0, math.exp(-1), 0.9], 4),
        ([0, 4], [1.0, -1.0], 4 * (1 - math.exp(-1)) / 2),
        ([0, 10, 20], [1.0, 0.9, 0.8], None),
        ([0, 10], [1.0, 1.0], None),
        ([0], [1.0], None),
        ([], [], None),
    ],
)
def test_the_decorrelation_time_lies_between_the_times_around_it_or_is_none(times, correlations, expected):
    found = decorrelation_time(times, correlations)
    assert found is None if expected is None else found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1e-3, -1.0, -20.0])
def test_displacements_along_each_other_have_a_cosine_of_one_with_their_sign(factor):
    starts, step = np.random.default_rng(0).standard_normal((2, 3, 2, 6, 8))
    assert_allclose(displacement_cosine(starts + factor * step, starts + step, starts), np.sign(factor), rtol=1e-12)


def test_displacements_at_a_right_angle_and_none_at_all_have_a_cosine_of_nothing():
    starts = np.random.default_rng(0).standard_normal((3, 2, 6, 8))
    one, other = np.zeros((2, *starts.shape))
    one[0], other[1:] = 1.0, 1.0
    assert displacement_cosine(starts + one, starts + other, starts) == 0
    assert displacement_cosine(starts, starts + one, starts) == 0


def test_displacements_of_all_states_are_pooled():
    starts = np.zeros((2, 2, 3, 3))
    one, other = np.zeros((2, *starts.shape))
    one[0, 0, 0, 0], one[1, 0, 0, 0] = 3.0, 4.0
    other[0, 0, 0, 0] = 1.0
    assert_allclose(displacement_cosine(one, other, starts), 3 / 5, rtol=1e-14)
