"""Second moments: the linear estimate is the posterior mean of a Gaussian random field, and spectra are found again."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.fields import Grid, Mask
from p2d.score.spectrum import Spectrum, counts, from_modes, interpolate, measure, pairs, radius, to_modes

GRIDS = [(8, 8), (6, 10), (5, 7), (4, 9)]  # even and odd: with and without modes at half a cycle a cell
KNOTS = [0.0, 0.1, 0.2, 0.5, 0.8]
POWER = [[0.5, 6.0, 1.0, 0.05, 0.01], [-0.1, -3.0, -0.4, -0.01, 0.0], [0.2, 3.0, 0.5, 0.02, 0.01]]
MEAN = [0.3, -0.7]


def float64(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pattern() -> Spectrum:
    """A spectrum in float64 that peaks as patterns do, of two species that go against each other."""
    return Spectrum(float64(KNOTS), float64(POWER), float64(MEAN))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def full_power(height: int, width: int) -> list[np.ndarray]:
    """S_uu, S_uv and S_vv at all modes of the full transform, [H, W] each."""
    wavenumber = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    return [np.interp(wavenumber, KNOTS, power) for power in POWER]


def covariance(height: int, width: int) -> np.ndarray:
    """Of all entries of a state of the pattern, [2HW, 2HW]: the transform of the power (Wiener-Khinchin)."""
    rows, columns = np.divmod(np.arange(height * width), width)
    apart = (rows[:, None] - rows) % height, (columns[:, None] - columns) % width
    uu, uv, vv = (np.fft.ifft2(power).real[apart] for power in full_power(height, width))
    return np.block([[uu, uv], [uv, vv]])


def each_species(diagonal: np.ndarray) -> torch.Tensor:
    """Means over the cells of each species, [2] of [2HW]."""
    return torch.from_numpy(diagonal.reshape(2, -1).mean(axis=1))


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_the_estimate_is_the_posterior_mean_of_a_gaussian_random_field(height, width, sigma):
    prior = covariance(height, width)
    noised = prior + sigma**2 * np.eye(len(prior))
    y = normal(3, 2, height, width)
    apart = (y - float64(MEAN).view(1, 2, 1, 1)).flatten(1).numpy()
    expected = (prior @ np.linalg.solve(noised, apart.T)).T.reshape(y.shape)
    left = np.diag(prior - prior @ np.linalg.solve(noised, prior))
    estimate, spread = pattern().estimate(y, torch.full((3,), sigma, dtype=torch.float64))
    # float64 rounding of numbers up to 10, solved for at a condition number up to 600
    assert_close(estimate, torch.from_numpy(expected), rtol=0, atol=1e-12)
    assert_close(spread, each_species(left).sqrt().view(1, 2, 1, 1).expand(3, 2, 1, 1), rtol=1e-11, atol=0)


@torch.no_grad()
def test_each_state_has_its_own_noise_level():
    y, sigma = normal(3, 2, 8, 12), float64([0.1, 1.0, 10.0])
    estimate, spread = pattern().estimate(y, sigma)
    for n in range(3):
        alone = pattern().estimate(y[n : n + 1], sigma[n : n + 1])
        # the same numbers, whatever is beside them: float64 rounding
        assert_close(estimate[n : n + 1], alone[0], rtol=0, atol=1e-14)
        assert_close(spread[n : n + 1], alone[1], rtol=1e-14, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_drawn_fields_have_the_covariance_of_the_spectrum(height, width):
    prior = covariance(height, width)
    every_entry = torch.eye(len(prior), dtype=torch.float64).view(-1, 2, height, width)
    root = pattern().draw(every_entry).flatten(1)
    # the covariance of a linear map of white noise; float64 rounding of numbers up to 6
    assert_close(root.T @ root, torch.from_numpy(prior), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), [*GRIDS, (16, 40)])
def test_the_variance_is_the_mean_power(height, width):
    uu, _, vv = full_power(height, width)
    # Parseval; a float64 sum of positive numbers
    assert_close(pattern().variance((height, width)), float64([uu.mean(), vv.mean()]), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_white_cells_are_estimated_one_by_one(height, width, sigma):
    mean, std = float64([0.3, -0.7]), float64([0.5, 0.2])
    white = Spectrum.white(mean, std)
    y = normal(2, 2, height, width)
    variance = std.view(1, 2, 1, 1) ** 2
    estimate, spread = white.estimate(y, torch.full((2,), sigma, dtype=torch.float64))
    # there and back by a transform: float64 rounding of numbers up to 4
    gain = variance / (variance + sigma**2)
    assert_close(estimate, gain * (y - mean.view(1, 2, 1, 1)), rtol=0, atol=1e-14)
    assert_close(spread, (sigma * gain.sqrt()).expand(2, 2, 1, 1), rtol=1e-13, atol=0)
    assert_close(white.variance((height, width)), std**2, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 10), (5, 7)])
def test_the_estimate_has_no_seam_and_no_direction(height, width):
    y, sigma = normal(2, 2, height, width), float64([0.3, 2.0])
    estimate = pattern().estimate(y, sigma)[0]
    moves = [lambda x, s=s: x.roll(s, (-2, -1)) for s in ((1, 0), (0, 3), (-2, 5))]
    moves += [lambda x: x.flip(-1), lambda x: torch.rot90(x, 2, (-2, -1))]
    if height == width:
        moves.append(lambda x: torch.rot90(x, 1, (-2, -1)))
    for move in moves:
        # the same modes, transformed in another order: float64 rounding of numbers up to 4
        assert_close(pattern().estimate(move(y), sigma)[0], move(estimate), rtol=0, atol=1e-14)


def test_in_float32_the_estimate_is_the_same_to_its_rounding():
    y, sigma = normal(2, 2, 16, 24), float64([0.1, 10.0])
    exact = pattern().estimate(y, sigma)
    single = pattern().float().estimate(y.float(), sigma.float())
    for found, expected in zip(single, exact, strict=True):
        assert found.dtype == torch.float32
        # rounding 6e-8 of numbers up to 5, through two transforms
        assert_close(found.double(), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_radius_and_multiplicity_stand_for_the_full_transform(height, width):
    half, count = radius(height, width), counts(height, width)
    full = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    assert half.shape == (height, width // 2 + 1)
    assert (count.sum(dim=1) == width).all()
    assert_close(half, torch.from_numpy(full[:, : width // 2 + 1].copy()), rtol=1e-15, atol=0)
    for power in (1, 2, 3):
        # a mode and its mirror image are as far out: float64 sums of a hundred numbers
        assert_close((half**power * count).sum().item(), (full**power).sum(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(11,), (4, 3), (2, 2, 5)])
def test_interpolation_is_linear_between_knots_and_constant_beyond(shape):
    at = torch.linspace(-0.3, 1.2, int(np.prod(shape)), dtype=torch.float64).view(shape)
    found = interpolate(at, float64(KNOTS), float64(POWER))
    expected = np.stack([np.interp(at.numpy(), KNOTS, power) for power in POWER])
    assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-14)
    # the knots themselves: 1 - share and share are 0 and 1
    assert_close(interpolate(float64(KNOTS), float64(KNOTS), float64(POWER)), float64(POWER), rtol=0, atol=0)


def states_of_exact_power(height: int, width: int) -> torch.Tensor:
    """Four states of the pattern whose mean is MEAN and whose mean power is S at every mode, without error.

    A single cell has all modes with the same power; noise in one species, then in the other, has S = I on average.
    """
    noise = torch.zeros(4, 2, height, width, dtype=torch.float64)
    for n, (species, sign) in enumerate(((0, 1), (0, -1), (1, 1), (1, -1))):
        noise[n, species, 1, 2] = sign * (2 * height * width) ** 0.5
    return float64(MEAN).view(1, 2, 1, 1) + pattern().draw(noise)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (6, 10), (5, 7), (8, 24)])
def test_a_known_spectrum_is_measured(height, width):
    found = measure([states_of_exact_power(height, width)])
    wavenumber = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    ring = np.round(wavenumber * max(height, width)).astype(int)
    there = np.unique(ring)
    assert found.wavenumber[0] == 0
    assert (found.wavenumber.diff() > 0).all()
    for at, values in ((found.wavenumber, wavenumber), *zip(found.power, full_power(height, width), strict=True)):
        expected = float64([values[ring == n].mean() for n in there])
        # kept in float32; the power of the mean, up to 50 for 100 cells, is taken off in float64
        assert_close(at.double(), expected, rtol=1e-6, atol=1e-8)
    assert_close(found.mean, torch.tensor(MEAN), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (2, 0), (-1, 2)])
def test_the_power_of_a_wave_is_found_at_its_wavenumber(rows, columns):
    height, width, mean = 8, 12, 0.4
    i, j = torch.arange(height).double()[:, None], torch.arange(width).double()
    wave = torch.cos(2 * torch.pi * (rows * i / height + columns * j / width))
    found = measure([torch.stack([mean + 0.5 * wave, 1 - 0.2 * wave])[None]])
    distance = np.hypot(rows / height, columns / width)
    knot = (found.wavenumber - distance).abs().argmin()
    ring = np.round(np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * width) == round(distance * width)
    # a cosine of amplitude a is two modes of power a^2 HW / 4, shared by all of the ring; float32
    expected = torch.tensor([0.25, -0.1, 0.04]) * height * width / 2 / ring.sum()
    assert_close(found.power[:, knot], expected, rtol=1e-6, atol=0)
    others = torch.arange(len(found.wavenumber)) != knot
    assert_close(found.power[:, others], torch.zeros(3, int(others.sum())), rtol=0, atol=1e-12)


def test_the_variance_between_states_is_the_power_of_the_spatial_mean():
    levels = float64([[0.1, 0.9], [0.3, 0.6], [0.8, 0.7]])
    found = measure([levels.view(3, 2, 1, 1).expand(3, 2, 8, 6)])
    (uu, uv), (_, vv) = torch.cov(levels.T, correction=0)
    # 48 cells; the sums lose two of float64's sixteen digits to the mean, and are kept in float32
    assert_close(found.power[:, 0], (48 * torch.stack([uu, uv, vv])).float(), rtol=1e-6, atol=0)
    assert_close(found.power[:, 1:], torch.zeros_like(found.power[:, 1:]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(1,) * 10, (3, 7), (9, 1)])
def test_a_spectrum_is_the_same_in_chunks(sizes):
    states = torch.from_numpy(np.random.default_rng(0).random((10, 2, 8, 12), dtype=np.float32))
    whole, parts = measure([states]), measure(iter(states.split(sizes)))
    # each state is transformed as it is in float32, then summed in float64
    assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48)])
def test_a_measured_spectrum_has_the_variance_of_the_states(height, width):
    states = pattern().draw(normal(20, 2, height, width))
    # rings are averaged and interpolated between, which moves power a little: a percent or two at this peak's width
    variance = states.var(dim=(0, 2, 3), correction=0)
    assert_close(measure([states]).variance((height, width)), variance.float(), rtol=0.03, atol=0)


def test_states_all_alike_have_a_spectrum_that_can_be_drawn_from():
    state = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    spectrum = measure([state.expand(3, 2, 16, 16)]).without_noise(torch.zeros(2))
    assert (spectrum.power[[0, 2]] >= 0).all()
    assert spectrum.draw(normal(1, 2, 16, 16).float()).isfinite().all()


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="no states"):
        measure([])


def test_without_noise_takes_its_variance_off():
    for sigma in (0.0, 0.05, 0.099):  # the least power is 0.01
        clean = pattern().without_noise(torch.full((2,), sigma, dtype=torch.float64))
        white = float64([1.0, 0.0, 1.0])[:, None]
        assert_close(clean.power, pattern().power - sigma**2 * white, rtol=1e-15, atol=0)
        assert_close(clean.mean, pattern().mean, rtol=0, atol=0)
        assert_close(clean.wavenumber, pattern().wavenumber, rtol=0, atol=0)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 5.0])
def test_without_noise_stays_a_spectrum(sigma):
    clean = pattern().without_noise(torch.full((2,), sigma, dtype=torch.float64))
    uu, uv, vv = clean.power
    assert (clean.power[[0, 2]] >= 0).all()
    # |uv| is bounded by sqrt(uu vv): its square by rounding more
    assert (uv**2 <= uu * vv * (1 + 1e-14)).all()
    uu_noisy, _, vv_noisy = pattern().power
    for power, noisy in ((uu, uu_noisy), (vv, vv_noisy)):
        assert_close(power, (noisy - sigma**2).clamp(min=0), rtol=1e-14, atol=0)
    values = clean.modes((16, 24))[0]
    assert (values >= 0).all()
    assert clean.draw(normal(1, 2, 16, 24)).isfinite().all()


def test_other_weights_are_other_modes():
    spectrum, other = pattern(), Spectrum(float64(KNOTS), 4 * float64(POWER), float64(MEAN))
    before = spectrum.variance((8, 8))
    spectrum.load_state_dict(other.state_dict())
    assert_close(spectrum.variance((8, 8)), 4 * before, rtol=1e-14, atol=0)


KINDS = [("mirror", "mirror"), ("open", "periodic"), ("periodic", "mirror")]
SHAPES = [(8, 8), (5, 6), (1, 12)]


def of_species(count: int, edges: tuple = ("periodic", "periodic")) -> Spectrum:
    """A spectrum of one or three species, in float64: three are a mixture of three that do not know each other."""
    own = float64([[0.5, 6.0, 1.0, 0.05, 0.01], [0.2, 1.0, 3.0, 0.2, 0.05], [2.0, 0.5, 0.3, 0.1, 0.02]])[:count]
    mixed = float64([[1.0, 0.4, -0.3], [-0.5, 0.8, 0.2], [0.1, -0.6, 0.9]])[:count, :count]
    blocks = torch.einsum("ia,ak,ja->ijk", mixed, own, mixed)
    return Spectrum(float64(KNOTS), blocks[pairs(count)], float64([0.3, -0.7, 2.0])[:count], edges)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("edges", [*KINDS, ("periodic", "periodic")])
@pytest.mark.parametrize("species", [1, 3])
def test_any_species_and_edges_have_the_posterior_mean_of_their_gaussian_field(species, edges, height, width):
    spectrum, sigma = of_species(species, edges), 0.4
    entries = species * height * width
    root = spectrum.draw(torch.eye(entries, dtype=torch.float64).view(-1, species, height, width)).flatten(1)
    prior = root.T @ root
    y, mean = normal(2, species, height, width), spectrum.mean.view(1, -1, 1, 1)
    solved = torch.linalg.solve(prior + sigma**2 * torch.eye(entries, dtype=torch.float64), prior)
    estimate, spread = spectrum.estimate(y, torch.full((2,), sigma, dtype=torch.float64))
    # float64 rounding, solved for at a condition number of a hundred
    assert_close(estimate, ((y - mean).flatten(1) @ solved).view_as(y), rtol=0, atol=1e-12)
    left = (prior - prior @ solved).diagonal().view(species, -1).mean(dim=1)
    assert_close(spread[0, :, 0, 0], left.sqrt(), rtol=1e-10, atol=0)
    assert_close(spectrum.variance((height, width)), prior.diagonal().view(species, -1).mean(dim=1), rtol=1e-11, atol=0)


@pytest.mark.parametrize("edges", [*KINDS, ("periodic", "periodic")])
@pytest.mark.parametrize(("height", "width"), [*SHAPES, (7, 1)])
def test_modes_are_orthonormal_and_turned_back(edges, height, width):
    x = normal(3, height, width)
    modes = to_modes(x, edges)
    assert modes.shape[1:] == radius(height, width, edges).shape == counts(height, width, edges).shape
    # float64 rounding of numbers up to 4, and of sums of 64 squares
    assert_close(from_modes(modes, (height, width), edges), x, rtol=0, atol=1e-13)
    power = (modes.abs().square() * counts(height, width, edges)).sum(dim=(1, 2))
    assert_close(power, x.square().sum(dim=(1, 2)), rtol=1e-13, atol=0)


@pytest.mark.parametrize("edges", [("mirror", "mirror"), ("periodic", "mirror"), ("mirror", "periodic")])
def test_fields_with_mirror_edges_are_a_part_of_their_even_continuation(edges):
    y, sigma, shape = normal(2, 3, 6, 8), float64([0.3, 2.0]), [6, 8]
    continued = y
    for axis in (0, 1):
        if edges[axis] == "mirror":
            continued = torch.cat([continued, continued.flip(axis - 2)], dim=axis - 2)
    estimate, spread = of_species(3, edges).estimate(y, sigma)
    whole, _ = of_species(3).estimate(continued, sigma)
    # each cosine is a pair of waves of the same length: float64 rounding of numbers up to 4
    assert_close(estimate, whole[..., : shape[0], : shape[1]], rtol=0, atol=1e-13)
    assert (spread > 0).all()


@pytest.mark.parametrize("edges", KINDS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (1, 24)])
def test_a_known_spectrum_is_measured_at_any_edges(edges, height, width):
    spectrum = of_species(3, edges)
    # noise in one cell of one species at a time: on average S = I
    entries = 3 * height * width
    noise = entries**0.5 * torch.eye(entries, dtype=torch.float64).view(-1, 3, height, width)
    states = spectrum.mean.view(1, -1, 1, 1) + spectrum.draw(torch.cat([noise, -noise]))
    found = measure(states.split(200), Grid((height, width), edges=edges))
    at = radius(height, width, edges)
    expected = interpolate(at, float64(KNOTS), spectrum.power)
    finest = max(n if e == "periodic" else 2 * n for n, e in zip((height, width), edges, strict=True))
    ring = (at * finest).round().long()
    weight = counts(height, width, edges)
    for n, knot in enumerate(ring.unique()):
        here = (ring == knot) * weight
        # kept in float32
        assert_close(found.power[:, n].double(), (expected * here).sum((1, 2)) / here.sum(), rtol=1e-5, atol=1e-6)
    assert found.edges == edges


def test_outside_a_mask_nothing_counts():
    cells = np.hypot(*(np.mgrid[:16, :16] - 7.5)) < 6
    grid = Grid((16, 16), edges=("open", "open"), mask=Mask.of(cells))
    inside = torch.from_numpy(cells)
    states = float64([0.3, -0.7, 2.0]).view(1, 3, 1, 1) + float64([0.5, 1.0, 2.0]).view(1, 3, 1, 1) * normal(
        400, 3, 16, 16
    )
    found = measure(states.split(64), grid)
    mean, variance = (
        f(states[..., inside].movedim(1, 0).flatten(1)) for f in (lambda x: x.mean(1), lambda x: x.var(1))
    )
    assert_close(found.mean.double(), mean, rtol=1e-6, atol=0)
    # the mean over all modes, of rings that are interpolated between; of independent cells all have the same power
    assert_close(found.variance((16, 16)).double(), variance, rtol=0.02, atol=0)
    other = measure(torch.where(inside, states, 7.0).split(100), grid)
    assert_close(other.state_dict(), found.state_dict(), rtol=1e-5, atol=1e-6)


def test_the_noise_of_each_species_is_taken_off():
    spectrum, sigma = of_species(3), float64([0.05, 0.0, 0.1])
    clean = spectrum.without_noise(sigma)
    rows, columns = pairs(3)
    expected = spectrum.power - torch.where(rows == columns, sigma[rows] ** 2, 0.0)[:, None]
    assert_close(clean.power, expected, rtol=0, atol=1e-15)
    everything = spectrum.without_noise(float64([9.0, 0.0, 0.0])).power
    # what one species has none of, no other has in common with it
    assert_close(everything[rows == 0], torch.zeros(3, len(KNOTS)).double(), rtol=0, atol=0)
    assert_close(everything[rows > 0], spectrum.power[rows > 0], rtol=0, atol=0)
