"""Initial states: discs, a blot in the centre, noise; each depends on (seed, run id) alone."""

import hashlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import label

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import initial, stepping
from p2d.systems.initial import KINDS, generator
from p2d.systems.stepping import Scheme
from p2d.systems.system import Start, System

from . import by_hand
from .plain import GRAY_SCOTT

GRIDS = [(32, 32), (24, 40), (15, 64)]
TINY_GRIDS = [(1, 1), (1, 7), (7, 1), (3, 3), (5, 9)]


def initial_states(seed, run_ids, height, width, kind=""):
    return initial.initial_states(GRAY_SCOTT, seed, run_ids, (height, width), kind)


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


# All kinds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [*GRIDS, *TINY_GRIDS, (128, 128)])
def test_states_are_concentrations_of_the_shape_asked_for(kind, height, width):
    states = initial_states(0, np.arange(20), height, width, kind)
    assert states.dtype == np.float32
    assert states.shape == (20, 2, height, width)
    assert states.min() >= 0
    assert states.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [*GRIDS, (1, 7)])
def test_a_sample_does_not_depend_on_what_is_drawn_beside_it(kind, height, width):
    whole = initial_states(7, np.arange(6), height, width, kind)
    parts = initial_states(7, np.array([4, 1]), height, width, kind)
    assert_array_equal(parts, whole[[4, 1]])
    assert_array_equal(KINDS[kind](GRAY_SCOTT, generator(7, 3), (height, width)), whole[3])


@pytest.mark.parametrize(
    ("kind", "height", "width"),
    [("discs", 32, 32), ("discs", 15, 64), ("centre", 32, 32), ("centre", 1, 7), ("noise", 64, 64), ("noise", 48, 80)],
)
def test_other_samples_and_other_seeds_are_other_states(kind, height, width):
    states = np.concatenate([initial_states(seed, np.arange(8), height, width, kind) for seed in (0, 1, 2**40)])
    assert len({state.tobytes() for state in states}) == 24


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_run_id_are_not_interchangeable(kind):
    one, two = (initial_states(seed, np.array([run]), 64, 64, kind) for seed, run in ((1, 2), (2, 1)))
    assert one.tobytes() != two.tobytes()


def test_every_64_bit_seed_and_run_id_is_a_key():
    largest = 2**63 - 1
    states = [
        initial.discs(GRAY_SCOTT, generator(*key), (32, 32)).tobytes()
        for key in ((largest, 0), (0, largest), (largest, largest))
    ]
    assert len(set(states)) == 3


def test_the_kind_is_discs_unless_told_otherwise():
    assert_array_equal(initial_states(3, np.arange(4), 24, 40), initial_states(3, np.arange(4), 24, 40, "discs"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["centre", "noise"])
@pytest.mark.parametrize("name", ["waves", "maze", "stripes", "worms", "fingerprints"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_patterns_grow_from_it_and_live(kind, name, height, width):
    states, scheme = initial_states(0, np.arange(4), height, width, kind), Scheme(Grid((height, width)))
    states = stepping.run(states, GRAY_SCOTT.at(name), scheme, 5000, "cpu")
    # patterns of these presets spread by 0.07 to 0.13, a dead one by 0
    assert states[:, 1].std(axis=(1, 2)).min() > 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [*GRIDS, (128, 128), (33, 35), (5, 9), (3, 3)])
def test_gray_scott_begins_with_the_bytes_of_version_1(kind, height, width):
    made = initial_states(11, np.arange(6), height, width, kind)
    expected = [by_hand.KINDS[kind](generator(11, run), height, width) for run in range(6)]
    assert_array_equal(made, np.stack(expected))


# Discs


def test_discs_are_those_of_earlier_datasets_to_the_last_bit():
    # Shards made before there were other kinds must come out the same when they are made again.
    states = initial_states(0, np.arange(3), 32, 48)
    assert hashlib.blake2b(states.tobytes(), digest_size=16).hexdigest() == "ef0b2449d7ea7c459b8ea3d12235839e"


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


# A blot in the centre


@pytest.mark.parametrize(
    ("height", "width", "side"), [(32, 32, 6), (128, 128, 25), (24, 41, 4), (64, 15, 3), (1, 7, 1)]
)
def test_a_square_in_the_centre_holds_the_blot_and_the_rest_nothing(height, width, side):
    states = initial_states(2, np.arange(20), height, width, "centre")
    inside = states[:, 1] > 0
    assert (inside == inside[0]).all()
    rows, columns = np.nonzero(inside[0])
    assert len(rows) == side**2
    for places, size in ((rows, height), (columns, width)):
        assert np.ptp(places) == side - 1
        assert abs(places.min() - (size - 1 - places.max())) <= 1  # as far from one edge as from the other
    u, v = states[:, 0], states[:, 1]
    assert (u[~inside] == 1).all()
    # 1 % of noise, and half a unit in the last place of float32
    assert np.abs(u[inside] / 0.5 - 1).max() <= 0.01 + 1e-7
    assert np.abs(v[inside] / 0.25 - 1).max() <= 0.01 + 1e-7


def test_the_noise_of_the_blot_is_uniform_and_independent_of_cell_and_species():
    states = initial_states(2, np.arange(100), 128, 128, "centre")
    noise = np.stack([states[:, 0] / 0.5, states[:, 1] / 0.25], axis=1)[states[:, [1, 1]] > 0] / 0.01 - 100
    noise = noise.astype(np.float64).reshape(100, 2, 25, 25)
    count = noise.size  # 125,000: means are within 5 standard errors
    # uniform on (-1, 1): mean 0 and variance 1/3, mean square 1/3 and its variance 1/5 - 1/9
    assert abs(noise.mean()) < 5 * (1 / 3 / count) ** 0.5
    assert abs((noise**2).mean() - 1 / 3) < 5 * (4 / 45 / count) ** 0.5
    products = [noise[:, :, 1:] * noise[:, :, :-1], noise[..., 1:] * noise[..., :-1], noise[:, 0] * noise[:, 1]]
    for product in products:  # variance 1/9
        assert abs(product.mean()) < 5 / 3 / product.size**0.5


# Noise


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (15, 64)])
def test_noise_lies_between_the_empty_state_and_the_blot(height, width):
    u, v = initial_states(1, np.arange(50), height, width, "noise").swapaxes(0, 1)
    # u = 1 - s / 2 and v = s / 4 of one s in [0, 1], each rounded to float32
    assert_allclose(u, 1 - 2 * v, rtol=0, atol=1e-7)
    assert v.max() == 0.25
    assert v.min() == 0


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 160)])
def test_noise_covers_what_exceeds_a_standard_deviation(height, width):
    covered = (initial_states(3, np.arange(300), height, width, "noise")[:, 1] > 0).mean(axis=(1, 2))
    # Of a Gaussian 15.87 %. Each grid's own standard deviation is used, which adds less than 1 % on grids of some
    # 100 patches; the mean over 300 has a standard error of 0.25 %.
    assert abs(covered.mean() - 0.1587) < 0.01 + 4 * 0.0025


@pytest.mark.parametrize("axis", [1, 2])
def test_noise_is_patches_and_not_single_cells(axis):
    v = initial_states(3, np.arange(50), 96, 160, "noise")[:, 1]
    # The field's correlation over d cells is exp(-d^2 / 4 / 6^2): 0.993 over one, 0.0013 over four of 6 cells and more
    near, far = (np.corrcoef(v.ravel(), np.roll(v, d, axis).ravel())[0, 1] for d in (1, 32))
    assert near > 0.95
    assert abs(far) < 0.05


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 24), (32, 32), (15, 64), (64, 64)])
def test_noise_is_never_uniform(height, width):
    spread = initial_states(0, np.arange(200), height, width, "noise")[:, 1].std(axis=(1, 2))
    assert (spread < 1e-3).sum() == 0  # a uniform state stays uniform, whatever the preset


# Other systems

ROCK = System(
    "rock",
    {"a": "-a", "b": "-b", "c": "-c"},
    {"k": 2.0},
    limits={"c": (0.0, 4.01)},
    start=Start({"a": 0.5, "b": "k"}, [{"a": 1.0}, {"b": "k/2", "c": 4.0}]),
)
WHITE = System(
    "white", {"u": "-u", "v": "-v"}, limits={"v": (0.0, 9.0)}, start=Start({"u": 3}, noise={"u": 0.5, "v": 0.1})
)


def test_blots_are_taken_in_turn_by_discs(monkeypatch):
    blots = np.float32([[1.0, 2.0, 0.0], [0.5, 1.0, 4.0]])
    for count in (1, 2):
        monkeypatch.setattr(initial, "DISCS", count)
        states = initial.initial_states(ROCK, 0, np.arange(4), (40, 40), "discs")
        for state in states:
            values = {tuple(cell) for cell in state.reshape(3, -1).T}
            assert values <= {(0.5, 2.0, 0.0), *map(tuple, blots[:count])}
            assert tuple(blots[count - 1]) in values  # the last disc lies on top


def test_blots_stand_side_by_side_in_the_central_square():
    (state,) = initial.initial_states(ROCK, 0, np.arange(1), (40, 40), "centre")
    inside = state[0] != 0.5  # 1 % of noise moves every value
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 23, 16, 23)
    assert_allclose(state[:, 16:24, 16:20], np.float32([1, 2, 0])[:, None, None] * np.ones((3, 8, 4)), rtol=0.0101)
    assert_allclose(state[:2, 16:24, 20:24], np.float32([0.5, 1])[:, None, None] * np.ones((2, 8, 4)), rtol=0.0101)
    # 4 and 1 % of noise, but no more than the limit
    assert state[2].max() == np.float32(4.01)
    assert (state[2, 16:24, 20:24] >= 3.96 - 1e-6).all()


def test_white_noise_has_its_amplitudes_around_the_rest_state_and_keeps_the_limits():
    states = initial.initial_states(WHITE, 0, np.arange(20), (40, 50)).astype(np.float64)
    u, v = states[:, 0], states[:, 1]
    count = u.size  # 40,000: within 5 standard errors
    assert abs(u.mean() - 3) < 5 * 0.5 / count**0.5
    assert abs(u.std() - 0.5) < 5 * 0.5 / (2 * count) ** 0.5
    assert abs((u[:, 1:] - 3).ravel() @ (u[:, :-1] - 3).ravel()) < 5 * 0.25 * count**0.5
    # half of v, which rests at its lowest value, is cut off: the other has a mean of sqrt(2 / pi) standard deviations
    assert v.min() == 0
    assert abs((v == 0).mean() - 0.5) < 5 * 0.5 / count**0.5
    assert abs(v.mean() - 0.1 / (2 * np.pi) ** 0.5) < 5 * 0.1 / count**0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turned", [False, True])
def test_one_dimension_is_seeded_as_wide_as_two(kind, turned):
    shape = (90, 1) if turned else (1, 90)
    v = initial.initial_states(GRAY_SCOTT, 0, np.arange(30), shape, kind)[:, 1].reshape(30, 90)
    widths = (v > 0).sum(axis=1)
    assert (widths > 0).all() and (widths <= 75).all()  # five of up to 15 cells
    if kind == "centre":
        assert (widths == 18).all()
    if kind == "discs":
        assert widths.max() > 20


@pytest.mark.parametrize(
    ("system", "kind"),
    [(GRAY_SCOTT, "discs"), (WHITE, "noise"), (System("a", {"u": "-u"}, start=Start(kind="noise")), "noise")],
)
def test_the_usual_kind_is_what_there_are_amounts_for(system, kind):
    assert initial.usual_kind(system) == kind


@pytest.mark.parametrize(
    ("system", "kind", "message"),
    [
        (GRAY_SCOTT, "disc", "unknown initial 'disc' .did you mean 'discs'.*known: discs, centre, noise"),
        (WHITE, "discs", "white has no blot for --initial discs; give .start. blot in its file, or take noise"),
        (WHITE, "centre", "white has no blot for --initial centre"),
        (System("still", {"u": "-u"}, start=Start(noise={"u": 0})), "noise", "still has no blot for --initial noise"),
    ],
)
def test_a_kind_that_a_system_gives_no_amounts_for_is_refused(system, kind, message):
    with pytest.raises(UserError, match=message):
        initial.initial_states(system, 0, np.arange(2), (8, 8), kind)
