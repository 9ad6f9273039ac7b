"""Distances between ensembles: nothing between equals, closed forms where there are some, copies found."""

import functools
import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from p2d.evaluate import quality
from p2d.evaluate.quality import (
    Quality,
    energy_distance,
    measure_nearest,
    spectra,
    spectral_distance,
)
from p2d.fields import Grid, Mask
from p2d.observables import averages, names
from p2d.training.randomness import imaged, images

OBSERVABLES = names(("u", "v"))
measure_quality = functools.partial(quality.measure_quality, species=("u", "v"))
GRIDS = [(32, 32), (24, 40), (16, 12)]


def patterns(count: int, height: int, width: int, seed: int = 0, cells: float = 3.0) -> np.ndarray:
    """Smooth random fields, float32 [N, 2, H, W] in [0, 1], whose species go together as those of patterns do."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    smoothing = np.exp(-2 * (np.pi * cells) ** 2 * (rows**2 + columns**2))
    noise = rng.standard_normal((count, 2, height, width))
    noise[:, 1] -= noise[:, 0]
    fields = np.fft.ifft2(np.fft.fft2(noise) * smoothing).real
    fields /= 2 * fields.std(axis=(0, 2, 3), keepdims=True)
    return (0.5 + 0.3 * np.tanh(fields)).astype(np.float32)


def wave(height: int, width: int, down: int, right: int) -> np.ndarray:
    rows, columns = np.arange(height)[:, None] / height, np.arange(width) / width
    return np.cos(2 * np.pi * (down * rows + right * columns))


# Spectra


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_spectrum_adds_up_to_the_variance(height, width):
    states = patterns(4, height, width)
    found = spectra(states)
    rings = np.round(np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * 100).astype(int)
    count = np.bincount(rings.ravel(), minlength=found.shape[-1])
    variance = states.astype(np.float64).var(axis=(2, 3))
    # Parseval; states lose their mean in float32
    assert_allclose((found * count).sum(axis=-1) / (height * width), variance, rtol=1e-5)


@pytest.mark.parametrize(("down", "right", "ring"), [(1, 0, 3), (0, 1, 2), (3, 4, 12), (5, 0, 16)])
def test_a_wave_has_its_power_at_its_wavenumber(down, right, ring):
    # on 32 x 50 cells: 100 times the length of (down / 32, right / 50), rounded
    states = np.stack([0.5 + 0.2 * wave(32, 50, down, right), 0.5 + 0.1 * wave(32, 50, down, right)])[None]
    (found,) = spectra(states)
    assert_array_equal(found.argmax(axis=-1), [ring, ring])
    assert_allclose(found[0], 4 * found[1], rtol=0, atol=1e-10)
    assert_allclose(np.delete(found, ring, axis=-1), 0, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_mean_has_no_part_in_a_spectrum(height, width):
    states = patterns(2, height, width)
    # float32 rounding of the sum
    assert_allclose(spectra(states + np.float32(0.25)), spectra(states), rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_equal_spectra_have_no_distance(order):
    found = spectra(patterns(3, 24, 24))
    assert abs(spectral_distance(found[order], found)) < 1e-14  # float64 means


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_power_times_a_factor_is_off_by_the_factor_less_one(factor):
    found = spectra(patterns(3, 24, 40))
    assert_allclose(spectral_distance(factor * found, found), abs(factor - 1), rtol=1e-12, atol=1e-14)


def test_power_at_another_wavenumber_counts_twice():
    a, b = np.zeros((2, 1, 2, 9))
    a[..., 3], b[..., 5] = 2.0, 2.0
    assert spectral_distance(a, b) == 2.0
    a[:, 1] = b[:, 1]
    assert spectral_distance(a, b) == 1.0  # one species of two


# The energy distance


@pytest.mark.parametrize(("count", "features"), [(1, 1), (7, 3), (40, 7)])
def test_equal_samples_have_no_energy_distance(count, features):
    sample = np.random.default_rng(0).normal(size=(count, features))
    other = np.random.default_rng(1).permutation(sample)
    assert abs(energy_distance(sample, other)) < 1e-13  # float64 means of numbers of order 1


@pytest.mark.parametrize("features", [1, 2, 7])
def test_of_two_points_the_energy_distance_is_twice_theirs(features):
    a, b = np.random.default_rng(0).normal(size=(2, 1, features))
    assert_allclose(energy_distance(a, b), 2 * np.linalg.norm(a - b), rtol=1e-14)
    # copies of a point do not change what it is a sample of
    assert_allclose(energy_distance(a.repeat(3, axis=0), b.repeat(5, axis=0)), 2 * np.linalg.norm(a - b), rtol=1e-13)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_two_points_moved_have_the_energy_distance_of_their_formula(shift):
    a, b = np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]) + shift
    # means over pairs: E|a - b| of 0, 1 and s, 1 + s, and E|a - a'| = E|b - b'| = 1/2
    expected = 2 * np.mean([shift, 1 + shift, abs(shift - 1), shift]) - 1
    assert_allclose(energy_distance(a, b), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_normal_samples_moved_have_the_energy_distance_of_their_densities(shift):
    a, b = np.random.default_rng(2).normal(size=(2, 3000, 1))

    def mean_size(mu):  # E|z| of a normal number of variance 2
        from math import erf, exp, pi

        return 2 * exp(-mu * mu / 4) / pi**0.5 + mu * erf(mu / 2)

    expected = 2 * mean_size(shift) - 2 * mean_size(0.0)
    # d/ds of the distance is below 2, and means of 3,000 err by 0.018 each
    assert abs(energy_distance(a, b + shift) - expected) < 4 * 2 * 0.018 * 2**0.5
    assert expected > 0.1


def test_the_energy_distance_is_never_negative_and_symmetric():
    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = rng.normal(size=(5, 3)), rng.exponential(size=(8, 3))
        assert energy_distance(a, b) > 0
        assert_allclose(energy_distance(a, b), energy_distance(b, a), rtol=1e-12)


# The nearest training snapshot


SYMMETRIES = {
    "shifted": lambda s: np.roll(s, (5, 11), (-2, -1)),
    "half turned": lambda s: np.rot90(s, 2, (-2, -1)),
    "mirrored left and right": lambda s: s[..., ::-1],
    "mirrored up and down": lambda s: np.roll(s[..., ::-1, :], (1, 0), (-2, -1)),
}
TURNS = {
    "quarter turned": lambda s: np.rot90(s, 1, (-2, -1)),
    "turned back": lambda s: np.roll(np.rot90(s, -1, (-2, -1)), (3, 8), (-2, -1)),
    "transposed": lambda s: s.swapaxes(-2, -1),
    "transposed otherwise": lambda s: np.roll(np.rot90(s, 1, (-2, -1))[..., ::-1], (7, 2), (-2, -1)),
}


@pytest.mark.parametrize(
    ("height", "width", "symmetry"),
    [
        *((height, width, name) for height, width in GRIDS for name in SYMMETRIES),
        *((32, 32, name) for name in TURNS),
        (64, 64, "turned back"),
    ],
)
def test_a_shifted_turned_or_mirrored_copy_is_no_distance_away(height, width, symmetry):
    train, held = patterns(6, height, width), patterns(4, height, width, seed=1)
    copies = {**SYMMETRIES, **TURNS}[symmetry](train[[4, 1]])
    found = measure_nearest(np.ascontiguousarray(copies), train, held)
    # the root of what is left of a difference of float32 sums, 1e-7 each
    assert found.generated_median < 2e-3
    assert found.generated_smallest < 2e-3
    assert found.memorised == 1.0


@pytest.mark.parametrize(("down", "right"), [(2, 0), (4, 3), (3, 5), (7, 2)])
def test_a_copy_is_found_where_only_the_lowest_modes_are_compared(down, right):
    # 128 x 96 cells on 64 x 64 coarser ones, of 2 x 1.5 cells: a copy may lie half of one off, each way
    train, held = patterns(3, 128, 96, cells=6.0), patterns(2, 128, 96, seed=1, cells=6.0)
    copies = np.roll(train[:1], (down, right), (-2, -1))
    found = measure_nearest(copies, train, held).generated_median
    off = (down / 2) % 1, (right / 1.5) % 1
    aligned = [min(part, 1 - part) * size for part, size in zip(off, (2, 1.5), strict=True)]
    rows, columns = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(96)
    mean, std = (f(axis=(0, 2, 3), keepdims=True) for f in (train.mean, train.std))
    power = (np.abs(np.fft.fft2((train - mean) / std)) ** 2)[0].sum(axis=0)
    left = 2 * (power * np.sin(np.pi * (rows * aligned[0] + columns * aligned[1])) ** 2).sum() / power.sum()
    # the root of what is left of a difference of float32 sums, 1e-7 each; modes above the 32nd have next to no power
    assert found < 1.1 * left**0.5 + 2e-3
    assert found < 0.15


@pytest.mark.parametrize(("height", "width", "cells"), [(32, 32, 1.5), (24, 40, 1.5), (128, 128, 4.0)])
def test_patterns_that_know_nothing_of_each_other_are_about_one_apart(height, width, cells):
    train, made, held = (patterns(4, height, width, seed, cells) for seed in range(3))
    found = measure_nearest(made, train, held)
    # over all shifts the best overlap of patterns of thirty and more independent cells is a third to a half
    assert 0.7 < found.generated_smallest <= found.generated_median < 1
    assert 0.7 < found.held_out_smallest <= found.held_out_median < 1
    assert found.memorised == 0.0


@pytest.mark.parametrize("copied", [0, 1, 3])
def test_the_memorised_are_counted(copied):
    train, held = patterns(5, 32, 32), patterns(4, 32, 32, seed=1)
    made = np.concatenate([np.roll(train[:copied], 3, -1), patterns(4 - copied, 32, 32, seed=2)])
    assert measure_nearest(made, train, held).memorised == copied / 4


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_noisy_copy_is_as_far_as_its_noise(share):
    train, held = patterns(4, 32, 32), patterns(3, 32, 32, seed=1)
    std = train.std(axis=(0, 2, 3), keepdims=True)
    noise = np.random.default_rng(5).standard_normal((1, 2, 32, 32)).astype(np.float32)
    found = measure_nearest(train[:1] + share * std * noise, train, held)
    # power of noise over those of pattern, noise and copy; the pattern's own is that of one snapshot, not of all
    power = ((train[0] - train.mean(axis=(0, 2, 3), keepdims=True)) / std).var()
    assert_allclose(found.generated_median**2, share**2 / (2 * power + share**2), rtol=0.15)


# All of it


@pytest.mark.parametrize(("height", "width"), [pytest.param(24, 24, marks=pytest.mark.slow), (16, 24)])
def test_further_samples_of_the_ensemble_are_as_far_as_the_floor(height, width):
    made, train, held = (patterns(n, height, width, seed) for seed, n in enumerate((150, 600, 150)))
    found = measure_quality(made, train, held)
    # a floor is a mean of draws, and the generated are one draw more: distances vary by a third of themselves
    for key in ("energy_distance", "spectrum"):
        assert 0.4 < getattr(found, key).ratio < 2.2, key
    for name in OBSERVABLES:
        moment = found.moments[name]
        # two means of 150 standardised numbers
        assert moment.distance < 4 * (2 / 150) ** 0.5, name
        assert moment.ratio == pytest.approx(moment.distance / moment.floor)
    assert found.nearest.memorised == 0
    assert found.nearest.generated_median == pytest.approx(found.nearest.held_out_median, rel=0.05)


@pytest.mark.parametrize(
    ("other", "moved"),
    [
        (lambda s: 0.1 + s, {"u", "v", "u v", "u^2", "v^2"}),
        (lambda s: 0.5 + 0.5 * (s - 0.5), {"|grad u|^2", "|grad v|^2"}),
    ],
    ids=["brighter", "fainter"],
)
def test_another_ensemble_is_farther_than_the_floor_where_it_differs(other, moved):
    made, train, held = (patterns(n, 24, 24, seed) for seed, n in enumerate((100, 400, 100)))
    found = measure_quality(other(made), train, held)
    assert found.energy_distance.ratio > 10
    for name in moved:
        assert found.moments[name].distance > 1, name
        assert found.moments[name].ratio > 5, name
    assert (found.spectrum.ratio > 5) == ("|grad u|^2" in moved)  # a mean is no part of the spectrum


def test_moments_are_told_in_their_own_units():
    made, train, held = (patterns(n, 24, 24, seed) for seed, n in enumerate((5, 20, 7)))
    found = measure_quality(made, train, held).moments
    for number, name in enumerate(OBSERVABLES):
        own, learnt, apart = (averages(s, Grid((24, 24)))[:, number] for s in (made, train, held))
        assert found[name].generated == pytest.approx(own.mean(), rel=1e-12)
        assert found[name].held_out == pytest.approx(apart.mean(), rel=1e-12)
        expected = abs(own.mean() - apart.mean()) / learnt.std()
        assert found[name].distance == pytest.approx(expected, rel=1e-6)  # of standard deviations of a snapshot


def test_as_many_generated_as_training_snapshots_have_the_floor_of_all_of_them():
    made, train, held = (patterns(n, 16, 16, seed) for seed, n in enumerate((20, 20, 9)))
    found = measure_quality(made, train, held)
    features = [averages(s, Grid((16, 16))) for s in (train, held)]
    spread = features[0].std(axis=0)
    assert_allclose(found.energy_distance.floor, energy_distance(*(f / spread for f in features)), rtol=1e-6)
    assert_allclose(found.spectrum.floor, spectral_distance(spectra(train), spectra(held)), rtol=1e-12)


def test_training_snapshots_in_the_place_of_generated_ones_are_the_floor_and_memorised():
    train, held = patterns(20, 16, 16), patterns(9, 16, 16, seed=1)
    found = measure_quality(train[::-1], train, held)
    for part in (found.energy_distance, found.spectrum, *found.moments.values()):
        assert part.ratio == pytest.approx(1, rel=1e-6)
    assert found.nearest.memorised == 1


def test_larger_generated_patterns_are_compared_tile_by_tile():
    train, held = patterns(300, 16, 16), patterns(80, 16, 16, seed=1)
    tiled = np.tile(patterns(60, 16, 16, seed=2), (1, 1, 2, 3))  # a periodic pattern is its own continuation
    found, plain = measure_quality(tiled, train, held), measure_quality(tiled[..., :16, :16], train, held)
    assert found.to_dict().keys() == {"energy_distance", "moments"}
    assert found.spectrum is None and found.nearest is None
    for name in OBSERVABLES:
        assert found.moments[name].distance == pytest.approx(plain.moments[name].distance, rel=1e-9)
    assert found.energy_distance.distance == pytest.approx(plain.energy_distance.distance, rel=1e-9)


@pytest.mark.parametrize("grid", [(24, 16), (16, 40), (8, 16)])
def test_grids_that_cannot_be_cut_into_tiles_are_refused(grid):
    with pytest.raises(ValueError, match="cannot be cut into tiles"):
        measure_quality(patterns(2, *grid), patterns(3, 16, 16), patterns(2, 16, 16))


def test_the_draws_of_the_floor_are_a_function_of_the_seed():
    made, train, held = (patterns(n, 16, 16, seed) for seed, n in enumerate((8, 40, 9)))
    floors = [measure_quality(made, train, held, seed).energy_distance.floor for seed in (0, 0, 1)]
    assert floors[0] == floors[1] != floors[2]


def test_all_numbers_are_told_under_names_of_their_own():
    found = measure_quality(*(patterns(n, 16, 16, seed) for seed, n in enumerate((4, 9, 3))))
    numbers = found.metrics()
    assert len(numbers) == 2 * 3 + 5 + len(OBSERVABLES) * 5
    assert numbers["energy_distance_ratio"] == found.energy_distance.ratio
    assert numbers["spectrum_floor"] == found.spectrum.floor
    assert numbers["nearest_memorised"] == found.nearest.memorised
    assert numbers["moments_u_v_generated"] == found.moments["u v"].generated
    assert numbers["moments_grad_u2_distance"] == found.moments["|grad u|^2"].distance
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert set(itertools.chain.from_iterable(numbers)) <= allowed


@pytest.mark.parametrize("tiles", [1, 2])
def test_quality_prints_its_table_and_comes_back_from_its_file(tmp_path, tiles):
    made, train, held = (patterns(n, 16, 16, seed) for seed, n in enumerate((4, 9, 3)))
    found = measure_quality(np.tile(made, (1, 1, tiles, 1)), train, held)
    found.save(tmp_path / "quality.json", contact_sheet="generated.png")
    assert Quality.load(tmp_path / "quality.json") == found
    lines = str(found).splitlines()
    assert lines[0].split("  ")[0] == "distance to held-out"
    energy, floor = found.energy_distance.distance, found.energy_distance.floor
    line = next(line for line in lines if line.startswith("energy distance"))
    assert line.split()[2:] == [f"{energy:.4f}", f"{floor:.4f}", f"{energy / floor:.2f}"]
    assert sum(line.startswith("mean of ") for line in lines) == len(OBSERVABLES)
    assert lines[-1].startswith("nearest training snapshot") == (tiles == 1)
    assert any(line.startswith("radial power spectrum") for line in lines) == (tiles == 1)


def test_at_most_so_many_are_looked_for(monkeypatch):
    made, train, held = (patterns(n, 16, 16, seed) for seed, n in enumerate((6, 9, 6)))
    monkeypatch.setattr(quality, "COMPARED", 3)
    few = measure_nearest(made, train, held)
    monkeypatch.setattr(quality, "COMPARED", 64)
    assert few == measure_nearest(made[:3], train, held[:3])


# Grids of any kind


DISC = Mask.of(np.hypot(*(np.mgrid[:24, :24] - 11.5)) < 11)
OTHER_GRIDS = {
    "mirror": Grid((24, 20), edges=("mirror", "mirror")),
    "half": Grid((20, 24), edges=("periodic", "open")),
    "dish": Grid((24, 24), edges=("open", "open"), mask=DISC),
    "one dimension": Grid((1, 48)),
}


def mixtures(count: int, grid: Grid, seed: int = 0) -> np.ndarray:
    """Patterns of three species on a grid, windows of larger ones; what is outside a mask means nothing."""
    rows, columns = grid.shape
    larger = (1 if rows == 1 else 2 * rows, 2 * columns)
    fields = patterns(count, *larger, seed)[..., :rows, :columns]
    states = np.concatenate([fields, 40 * fields[:, :1] * fields[:, 1:]], axis=1)
    return np.where(grid.inside(0), states, 1e3 * (seed + 1)).astype(np.float32)


@pytest.mark.parametrize(
    "kind", ["half", *(pytest.param(k, marks=pytest.mark.slow) for k in OTHER_GRIDS if k != "half")]
)
def test_any_field_is_held_against_its_own_kind(kind):
    grid, species = OTHER_GRIDS[kind], ("a", "b", "c")
    made, train, held = (mixtures(n, grid, seed) for seed, n in enumerate((80, 300, 80)))
    found = quality.measure_quality(made, train, held, species=species, grid=grid)
    assert tuple(found.moments) == names(species)
    # as for further samples of periodic patterns
    assert 0.3 < found.energy_distance.ratio < 3 and 0.3 < found.spectrum.ratio < 3
    assert found.nearest.memorised == 0
    fainter = np.where(grid.inside(0), made * 0.7, made)
    assert quality.measure_quality(fainter, train, held, species=species, grid=grid).energy_distance.ratio > 10


@pytest.mark.parametrize("kind", OTHER_GRIDS)
def test_a_copy_is_known_in_every_image_of_its_grid_and_shifted_along_periodic_axes_alone(kind):
    grid = OTHER_GRIDS[kind]
    train, held = mixtures(6, grid), mixtures(5, grid, seed=1)
    copies = [imaged(torch.from_numpy(train[n % 6]), image).numpy() for n, image in enumerate(images(grid))]
    found = measure_nearest(np.stack(copies), train, held, grid)
    # float32 transforms: squares of rounding
    assert found.generated_median < 2e-3 and found.memorised == 1
    for axis, edge in zip((-2, -1), grid.edges, strict=True):
        if grid.shape[axis] > 1:
            moved = measure_nearest(np.roll(train[:1], 5, axis), train, held, grid).generated_median
            assert (moved < 2e-3) == (edge == "periodic" and grid.mask is None)


def test_the_spectrum_with_mirror_edges_is_that_of_the_even_continuation():
    states = patterns(3, 12, 12)
    whole = np.concatenate([states, states[..., ::-1]], axis=-1)
    whole = np.concatenate([whole, whole[..., ::-1, :]], axis=-2)
    found = spectra(states, Grid((12, 12), edges=("mirror", "mirror")))
    # all power is at the cosines' wave vectors, with four times the cells
    expected = spectra(whole)
    rings = np.round(np.hypot(np.fft.fftfreq(24)[:, None], np.fft.fftfreq(24)) * 100).astype(int)
    own = np.round(np.hypot(*np.meshgrid(np.arange(12) / 24, np.arange(12) / 24)) * 100).astype(int)
    many, few = (np.bincount(r.ravel(), minlength=found.shape[-1])[: found.shape[-1]] for r in (rings, own))
    assert_allclose(found * few, (expected[..., : found.shape[-1]] * many) / 4, rtol=1e-6, atol=1e-12)


def test_a_species_that_is_the_same_everywhere_is_no_distance():
    states = [np.concatenate([patterns(n, 16, 16, n), np.full((n, 1, 16, 16), 2.0, np.float32)], 1) for n in (5, 20, 7)]
    found = quality.measure_quality(*states, species=("u", "v", "w"))
    assert np.isfinite(list(found.metrics().values())).all()
    assert found.moments["w"].distance == 0
