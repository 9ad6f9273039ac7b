"""Random streams depend on their names alone; batches are a permutation; augmentation is a symmetry of the grid."""

import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.fields import Grid, Mask
from p2d.systems.reading import load_system
from p2d.training.randomness import (
    BLOCK,
    WINDOW,
    augmentation,
    augmented,
    batches,
    epoch_order,
    imaged,
    images,
    normal_like,
    restored,
    sample_generator,
    shifting,
    stream_seed,
)

GRIDS = [(5, 5), (3, 5), (6, 4)]


def numbered(height: int, width: int) -> torch.Tensor:
    """A state [2, height, width] whose every entry is another number."""
    return torch.arange(2.0 * height * width).reshape(2, height, width)


def draws(seed: int, step: int, sample_id: int) -> torch.Tensor:
    return torch.randn(50, generator=sample_generator(seed, step, sample_id))


def test_seeds_of_streams_fit_63_bits_and_differ_with_every_part():
    parts = itertools.product((0, 1, 12, -1), (0, 2, 23, "2"), ("order", "sample", 3))
    seeds = [stream_seed(*p) for p in parts]
    assert len(set(seeds)) == 4 * 4 * 3
    assert all(0 <= s < 2**63 for s in seeds)


def test_parts_are_not_run_together():
    assert stream_seed(1, 23) != stream_seed(12, 3)
    assert stream_seed("a", "b") != stream_seed("ab")


@pytest.mark.parametrize(("seed", "step", "sample_id"), [(0, 0, 0), (7, 12, 3), (2**40, -1, 10**6)])
def test_a_stream_depends_on_seed_step_and_sample_alone(seed, step, sample_id):
    first = draws(seed, step, sample_id)
    torch.randn(3)  # the global stream moves on, and so do those of other samples
    draws(seed, step, sample_id + 1)
    assert_close(draws(seed, step, sample_id), first, rtol=0, atol=0)
    assert_close(draws(seed, step, np.int64(sample_id)), first, rtol=0, atol=0)


def test_streams_leave_the_global_one_alone():
    before = torch.get_rng_state()
    draws(0, 0, 0)
    epoch_order(0, 1, 10)
    epoch_order(0, 1, 1000)
    normal_like(torch.zeros(2, 3), 0, 0, [0, 1])
    assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_other_seeds_steps_and_samples_have_other_streams():
    streams = [draws(*names) for names in itertools.product((0, 1, 2), (-1, 0, 1), (0, 1, 2))]
    assert len({s.numpy().tobytes() for s in streams}) == 27


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 16, 16), (3,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_samples_noise_does_not_depend_on_the_rest_of_the_batch(shape, dtype):
    ids = [5, 0, 10**6, 3]
    together = normal_like(torch.zeros(4, *shape, dtype=dtype), 1, 7, ids)
    assert together.shape == (4, *shape)
    assert together.dtype == dtype
    for order in ([2], [3, 1], [1, 0, 3, 2]):
        # nor on the values or the type of what it is shaped as
        part = normal_like(torch.full((len(order), *shape), 9.0), 1, 7, [ids[n] for n in order])
        assert_close(part.to(dtype), together[order], rtol=0, atol=0)
    assert len({noise.numpy().tobytes() for noise in together}) == 4


def test_noise_depends_on_seed_and_step():
    noise = [normal_like(torch.zeros(1, 2, 4, 4), seed, step, [3]) for seed in (0, 1) for step in (-1, 0, 1)]
    assert len({n.numpy().tobytes() for n in noise}) == 6


def test_no_samples_have_no_noise():
    assert normal_like(torch.zeros(0, 2, 4, 6), 0, 0, []).shape == (0, 2, 4, 6)


def test_noise_is_standard_normal():
    noise = normal_like(torch.zeros(64, 2, 32, 32, dtype=torch.float64), 0, 0, list(range(64)))
    # 131,072 numbers: mean, variance and fourth moment have an sd of 0.0028, 0.0039 and 0.027
    for power, expected, tolerance in ((1, 0.0, 0.011), (2, 1.0, 0.016), (4, 3.0, 0.11)):
        assert_close((noise**power).mean().item(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (10, 3), (7, 7), (5, 8), (1, 1), (9, 1)])
def test_an_epochs_batches_are_a_permutation_without_repeats(count, batch_size):
    size = min(count, batch_size)
    found = list(batches(3, 1, count, batch_size))
    assert [len(b) for b in found] == [size] * (count // size)
    visited = torch.cat(found)
    assert_close(visited, epoch_order(3, 1, count)[: len(visited)], rtol=0, atol=0)
    assert len(visited.unique()) == len(visited)
    assert_close(epoch_order(3, 1, count).sort().values, torch.arange(count), rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 30, WINDOW - 1, WINDOW])
def test_the_order_of_a_set_that_fits_a_window_is_a_permutation_of_all(count):
    generator = torch.Generator().manual_seed(stream_seed("order", 5, 2))
    assert_close(epoch_order(5, 2, count), torch.randperm(count, generator=generator), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("count", "block", "window"),
    [(WINDOW + 1, BLOCK, WINDOW), (5000, BLOCK, WINDOW), (8192, BLOCK, WINDOW), (103, 4, 16), (40, 7, 20)],
)
def test_a_large_set_is_read_in_blocks_of_neighbours(count, block, window):
    order = epoch_order(3, 1, count, block, window)
    assert_close(order.sort().values, torch.arange(count), rtol=0, atol=0)
    for part in order.split(window):
        # as many blocks as a window holds; where a shorter or a cut block is among them, one or two more
        assert len(torch.unique(part // block)) <= window // block + 2
    # each block is read once, so all its samples are within two windows that follow each other
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(count)) // window
    for part in place.split(block):
        assert part.max() - part.min() <= 1


def test_a_large_set_is_shuffled_within_windows_and_in_blocks():
    order = epoch_order(3, 1, 8192)
    assert_close(order, epoch_order(3, 1, 8192), rtol=0, atol=0)
    assert (order != epoch_order(3, 2, 8192)).any()
    window = order[:WINDOW]
    # of 512 numbers in random order, about one is followed by its successor
    assert (window.diff() == 1).sum() < 10
    starts = (window // BLOCK).unique() * BLOCK
    # eight of 128 blocks in a row, by chance: 8! / 128^7 < 1e-10
    assert (starts.diff() > BLOCK).any()


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = {(s, e): epoch_order(s, e, 30) for s in (0, 1) for e in (1, 2, 3)}
    assert len({o.numpy().tobytes() for o in orders.values()}) == 6
    for (seed, epoch), order in orders.items():
        assert_close(epoch_order(seed, epoch, 30), order, rtol=0, atol=0)


def test_the_batch_size_does_not_change_the_order():
    small, large = (torch.cat(list(batches(5, 2, 24, size))) for size in (2, 12))
    assert_close(small, large, rtol=0, atol=0)


def symmetries(state: np.ndarray, turns: tuple[int, ...]) -> set[bytes]:
    """Every shift of every mirror image of these quarter turns of a state, as bytes."""
    found = set()
    for turn, mirror in itertools.product(turns, (False, True)):
        turned = np.rot90(state, turn, (-2, -1))
        turned = turned[..., ::-1] if mirror else turned
        for shift in np.ndindex(state.shape[-2:]):
            found.add(np.roll(turned, shift, (-2, -1)).tobytes())
    return found


@pytest.mark.parametrize(
    ("height", "width", "turns", "order"), [(3, 3, (0, 1, 2, 3), 72), (3, 5, (0, 2), 60), (4, 3, (0, 2), 48)]
)
def test_augmentations_are_the_symmetries_of_the_grid_and_all_of_them(height, width, turns, order):
    state = numbered(height, width)
    group = symmetries(state.numpy(), turns)
    assert len(group) == order
    generator = torch.Generator().manual_seed(0)
    # 2,000 draws miss one of 72 with probability 72 * (71 / 72)^2000 < 1e-10
    seen = {augmented(state, augmentation(generator, state)).numpy().tobytes() for _ in range(2000)}
    assert seen == group


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_an_augmented_state_has_the_same_values_species_and_shape(height, width):
    state = numbered(height, width)
    for sample_id in range(40):
        after = augmented(state, augmentation(sample_generator(0, 0, sample_id), state))
        assert after.shape == state.shape
        assert_close(after.flatten(1).sort().values, state.flatten(1), rtol=0, atol=0)
        assert_close(after[1] - after[0], torch.full_like(state[0], height * width), rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_physics_is_the_same_for_an_augmented_state(height, width):
    state = torch.rand(2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rate = load_system("gray_scott").at("waves").rate
    for sample_id in range(20):
        draw = augmentation(sample_generator(0, 0, sample_id), state)
        # the four neighbours are added in another order: float64 rounding of numbers up to 4
        assert_close(rate(augmented(state, draw)), augmented(rate(state), draw), rtol=0, atol=2e-15)


DISC = Mask.of(np.hypot(*(np.mgrid[:9, :9] - 4)) < 4)
HALF = Mask.of(np.mgrid[:8, :8][0] < 3)
CORNER = Mask.of((np.mgrid[:8, :8] * np.array([1, 2]).reshape(2, 1, 1)).sum(0) < 6)


@pytest.mark.parametrize(
    ("grid", "order", "free"),
    [
        (Grid((8, 8)), 8, (True, True)),
        (Grid((8, 6)), 4, (True, True)),
        (Grid((1, 6)), 2, (True, True)),
        (Grid((6, 1)), 2, (True, True)),
        (Grid((8, 8), edges=("mirror", "mirror")), 8, (False, False)),
        (Grid((8, 8), edges=("open", "open")), 8, (False, False)),
        (Grid((8, 8), edges=("periodic", "mirror")), 4, (True, False)),
        (Grid((9, 9), mask=DISC), 8, (False, False)),
        (Grid((8, 8), mask=HALF), 2, (False, False)),
        (Grid((8, 8), edges=("open", "open"), mask=CORNER), 1, (False, False)),
    ],
)
def test_images_are_those_that_the_grid_looks_the_same_after(grid, order, free):
    each = images(grid)
    assert len(each) == order and (0, False) in each
    assert shifting(grid) == free
    places = torch.arange(grid.shape[0] * grid.shape[1]).view(1, *grid.shape)
    assert len({imaged(places, image).numpy().tobytes() for image in each}) == order
    for image in each:
        assert_close(restored(imaged(places, image), image), places, rtol=0, atol=0)
        if grid.mask:
            assert_close(imaged(torch.from_numpy(grid.mask.cells), image), torch.from_numpy(grid.mask.cells))
    draws = [augmentation(sample_generator(0, 0, n), places, grid) for n in range(400)]
    # each image is as likely as any other: counts of 400 draws, within 5 sd of their mean
    for image in each:
        expected = 400 / order
        assert abs(sum(d[2] == image for d in draws) - expected) <= 5 * (expected * (1 - 1 / order)) ** 0.5
    for axis in (0, 1):
        assert any(d[axis] for d in draws) == (free[axis] and grid.shape[axis] > 1)
