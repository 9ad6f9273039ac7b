"""Denoising score matching: its closed form on Gaussian data, and that sharing a batch changes nothing."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.config import ScoreConfig
from p2d.fields import Grid, Mask, Scaling
from p2d.recipes import build
from p2d.score import noise
from p2d.score.loss import BINS, DenoisingScoreMatching, draw, squared_error
from p2d.score.model import ScoreModel
from p2d.score.spectrum import Spectrum
from p2d.training.randomness import augmentation, augmented, normal_like, sample_generator
from p2d.training.states import MemoryData
from p2d.training.workers import Workers

MEAN, STD = torch.tensor([0.3, -0.7]), torch.tensor([0.5, 0.2])
RANGE = (0.5, 0.999)
KNOTS = [0.0, 0.8]
POWER = [[0.6, 0.05], [-0.2, -0.01], [0.2, 0.02]]


def white(factor: float = 1.0) -> Spectrum:
    return Spectrum.white(MEAN, factor * STD)


def sloping() -> Spectrum:
    """More power in long waves than in short ones, and species that go against each other."""
    return Spectrum(torch.tensor(KNOTS), torch.tensor(POWER), MEAN)


SPECTRA = {"white": white, "sloping": sloping}


def posterior_variance(height: int, width: int, sigma: float) -> torch.Tensor:
    """Of Gaussian fields of the sloping spectrum: half the trace of sigma^2 S (S + sigma^2)^-1, mean over modes."""
    wavenumber = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    uu, uv, vv = (np.interp(wavenumber, KNOTS, power) for power in POWER)
    prior = np.stack([np.stack([uu, uv], -1), np.stack([uv, vv], -1)], -2)
    left = sigma**2 * np.linalg.solve(prior + sigma**2 * np.eye(2), prior)
    return torch.tensor(np.trace(left.mean(axis=(0, 1))) / 2)


def gaussian_states(count: int, height: int, width: int, spectrum: Spectrum | None = None) -> torch.Tensor:
    cells = torch.randn(count, 2, height, width, generator=torch.Generator().manual_seed(0))
    return MEAN.view(1, 2, 1, 1) + (spectrum or white()).draw(cells)


def silent_task(
    alpha: tuple[float, ...], spectrum: Spectrum | None = None, sampling: float = 0.0, data_noise: float = 0.0
) -> DenoisingScoreMatching:
    """The task of a model whose network says nothing: exact for Gaussian fields of the spectrum."""
    model = ScoreModel((4,), alpha, spectrum or white())
    torch.nn.init.zeros_(model.net.head.weight)
    torch.nn.init.zeros_(model.net.head.bias)
    return DenoisingScoreMatching(model, seed=3, augment=False, sampling=sampling, data_noise=(data_noise,))


@torch.no_grad()
def random_task(
    alpha: tuple[float, ...] = RANGE, augment: bool = True, data_noise: float = 0.0
) -> DenoisingScoreMatching:
    """The task of a model with every weight drawn at random."""
    model = ScoreModel((6, 8), alpha, sloping())
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) / max(1, weight[0].numel()) ** 0.5)
    return DenoisingScoreMatching(model, seed=3, augment=augment, sampling=0.2, data_noise=(data_noise,))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 40)])
@pytest.mark.parametrize("alpha", [(0.2,), (0.8,), (0.99,), RANGE])
@pytest.mark.parametrize("spectrum", SPECTRA)
@torch.no_grad()
def test_the_exact_network_has_loss_one_at_every_level(spectrum, alpha, height, width):
    count = 32768 // (height * width)
    task = silent_task(alpha, SPECTRA[spectrum](), sampling=0.3)
    states = gaussian_states(count, height, width, SPECTRA[spectrum]())
    loss = task.loss(task(states, list(range(count)), 0))
    # E target^2 = posterior variance / spread^2 = 1; the mean of 65,536 squared normals is within 0.0055 (1 sd) of it,
    # and half as many count where long waves have more of the power, 0.008
    assert_close(loss, torch.tensor(1.0), rtol=0, atol=0.022 if spectrum == "white" else 0.032)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.5, 0.8])
@torch.no_grad()
def test_a_network_exact_for_another_spread_has_the_loss_of_its_closed_form(alpha, factor):
    task = silent_task((alpha,), white(factor))
    loss = task.loss(task(gaussian_states(128, 16, 16), list(range(128)), 0))
    variance, assumed = (1 - alpha) / alpha, (factor * STD) ** 2
    skip, out = assumed / (assumed + variance), variance * assumed / (assumed + variance)
    expected = (((1 - skip) ** 2 * STD**2 + skip**2 * variance) / out).mean()
    # squared normals: a relative sd of sqrt(2 / 32,768) = 0.008 for each species
    assert_close(loss, expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 0.8, 0.99])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 32)])
def test_the_validation_loss_of_the_exact_network_is_the_posterior_variance_of_the_noise(alpha, height, width):
    task = silent_task((alpha,), sloping())
    totals = task.validate(gaussian_states(64, height, width, sloping()), list(range(64)), last=True)
    sigma = ((1 - alpha) / alpha) ** 0.5
    expected = (posterior_variance(height, width, sigma) / sigma**2).item()
    metrics = task.metrics(totals)
    # squared normals, of which half count: a relative sd of sqrt(2 / 16,384) = 0.011
    assert_close(metrics["validation_loss"], expected, rtol=0.044, atol=0)
    assert metrics[f"validation_loss_alpha_{alpha:g}"] == metrics["validation_loss"]


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("parts", [([0, 1, 2], [3, 4, 5]), ([0, 2, 4], [1, 3, 5]), ([5], [4, 3, 1, 0, 2])])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12)])
@torch.no_grad()
def test_the_sums_over_parts_of_a_batch_add_up_to_its_sums(height, width, parts, augment):
    task, x = random_task(augment=augment), gaussian_states(6, height, width)
    ids = [11, 7, 0, 100, 3, 5]
    whole = task(x, ids, 4)
    shared = sum(task(x[part], [ids[i] for i in part], 4) for part in parts)
    # float32 sums of a thousand squares, added in another order; the weighed error takes uncertainties off
    assert_close(shared, whole, rtol=1e-5, atol=1e-5 * whole[2 : 2 + BINS].sum().item())
    assert whole[1] == x.numel()


@torch.no_grad()
def test_each_step_and_each_sample_has_its_own_noise():
    task, x = random_task(augment=False), gaussian_states(1, 8, 8)
    errors = [task(x, [sample], step)[0].item() for sample in (0, 1, 2) for step in (0, 1, 2)]
    assert len(set(errors)) == 9
    assert [task(x, [sample], step)[0].item() for sample in (0, 1, 2) for step in (0, 1, 2)] == errors


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12)])
def test_what_a_step_shows_follows_from_seed_step_and_ids(height, width):
    x = gaussian_states(3, height, width)
    shown, uniform, eps = draw(x, [5, 9, 2], seed=3, step=7, augment=True)
    for n, i in enumerate((5, 9, 2)):
        g = sample_generator(3, 7, i)
        assert uniform[n] == torch.rand((), generator=g)
        assert_close(shown[n], augmented(x[n], augmentation(g, x[n])), rtol=0, atol=0)
    assert_close(eps, normal_like(x, 3, 7, [5, 9, 2]), rtol=0, atol=0)
    plain, *rest = draw(x, [5, 9, 2], seed=3, step=7, augment=False)
    assert_close(plain, x, rtol=0, atol=0)
    assert_close(rest, [uniform, eps], rtol=0, atol=0)


def test_the_noise_does_not_depend_on_its_level():
    _, uniform, eps = draw(torch.zeros(4000, 1, 4, 8), list(range(4000)), seed=0, step=0, augment=False)
    size = eps.flatten(1).square()
    correlation = torch.corrcoef(torch.cat([uniform[None], size.T]))[0, 1:]
    # of 4,000 independent pairs each: an sd of 0.016, and the largest of 32 within 5 of them
    assert correlation.abs().max() < 0.08


@torch.no_grad()
def test_levels_are_weighed_by_their_learnt_uncertainty():
    task, x = random_task(), gaussian_states(6, 8, 12)
    ids = list(range(6))
    model = task.model
    torch.nn.init.zeros_(model.doubt.weight)
    torch.nn.init.zeros_(model.doubt.bias)
    error = task.loss(task(x, ids, 0))
    for uncertainty in (-1.0, 0.7):
        model.doubt.bias.fill_(uncertainty)
        # Karras et al. 2024, Eq. 21, the same at all levels here; float32
        expected = error * float(np.exp(-uncertainty)) + uncertainty
        assert_close(task.loss(task(x, ids, 0)), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_best_uncertainty_is_the_logarithm_of_the_error(factor):
    task, x = silent_task((0.8,), white(factor)), gaussian_states(16, 8, 8)
    ids = list(range(16))
    error = task.loss(task(x, ids, 0)).item()
    torch.nn.init.constant_(task.model.doubt.bias, float(np.log(error)))
    task.loss(task(x, ids, 0)).backward()
    # d / du of exp(-u) error + u vanishes; float32
    assert_close(task.model.doubt.bias.grad, torch.zeros(1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_errors_are_told_by_signal_level():
    task, count = silent_task(RANGE, sloping(), sampling=0.25), 1200
    ids = list(range(count))
    sums = task(gaussian_states(count, 8, 8, sloping()), ids, 0)
    errors, entries = sums[2:].view(2, BINS)
    assert_close([errors.sum(), entries.sum()], [sums[0], sums[1]], rtol=1e-5, atol=0)
    uniform = torch.stack([torch.rand((), generator=sample_generator(3, 0, i)) for i in ids])
    assert_close(entries, 128 * torch.histc(uniform, BINS, 0, 1), rtol=0, atol=0)
    metrics = task.training_metrics(sums)
    levels = {key.removeprefix("training_loss_alpha_"): value for key, value in metrics.items() if "alpha" in key}
    middles = noise.draw_sigma(RANGE, (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS, 0.25)
    # the labels have three digits
    assert_close([float(k) for k in levels], noise.alpha_of(middles).tolist(), rtol=6e-3, atol=0)
    # exact at every level: about 100 states each, 12,800 squared normals of which a third count, an sd of 0.022
    assert_close(list(levels.values()), [1.0] * BINS, rtol=0, atol=0.09)
    assert_close(metrics["training_loss"], (sums[2 : 2 + BINS].sum() / sums[1]).item(), rtol=1e-5, atol=0)


@torch.no_grad()
def test_levels_that_were_not_drawn_are_not_told():
    task = silent_task(RANGE)
    sums = task(gaussian_states(1, 8, 8), [4], 0)
    assert len(task.training_metrics(sums)) == 2
    one = silent_task((0.8,))
    assert list(one.training_metrics(one(gaussian_states(2, 8, 8), [4, 5], 0))) == ["training_loss"]


@pytest.mark.parametrize("levels", [(0.5, 0.999), (0.99, 0.998), (0.9985, 0.9995)])
def test_every_level_of_a_narrow_range_is_told(levels):
    task = silent_task(levels)
    sums = torch.cat([torch.tensor([78.0, 12.0]), torch.arange(1.0, BINS + 1), torch.ones(BINS)])
    metrics = task.training_metrics(sums)
    assert sorted(v for k, v in metrics.items() if "alpha" in k) == list(range(1, BINS + 1))


@pytest.mark.parametrize("sigma", [0.31, 0.5, 2.0])
def test_the_noise_of_a_noisy_snapshots_target_is_uncorrelated_with_its_input(sigma):
    data_noise = 0.3
    task = silent_task((0.5, 0.9), data_noise=data_noise)
    level = torch.tensor(sigma, dtype=torch.float64).view(1, 1, 1, 1)
    zero, one = (torch.full((1, 2, 4, 4), value, dtype=torch.float64) for value in (0.0, 1.0))
    # Both are linear in the snapshot, whose own noise has variance data_noise^2, and in eps, of variance 1.
    (y_x, target_x, doubt), (y_eps, target_eps, _) = task._pair(one, zero, level), task._pair(zero, one, level)
    assert_close(y_x, one, rtol=0, atol=0)
    assert_close(target_x, one, rtol=0, atol=0)
    # float64 rounding of numbers up to 4
    assert_close(data_noise**2 * y_x * target_x + y_eps * target_eps, zero, rtol=0, atol=1e-15)
    assert_close(data_noise**2 * y_x**2 + y_eps**2, level.square().expand_as(one), rtol=1e-14, atol=0)
    assert_close(data_noise**2 * target_x**2 + target_eps**2, doubt.expand_as(one), rtol=1e-14, atol=0)


@pytest.mark.parametrize("alpha", [0.8, 0.9])
@torch.no_grad()
def test_the_target_of_noisy_snapshots_has_the_clean_states_conditional_mean(alpha):
    data_noise, variance = 0.25, 0.5**2
    sigma = ((1 - alpha) / alpha) ** 0.5
    task = silent_task((alpha,), data_noise=data_noise)
    cells = torch.randn(3, 1, 2, 256, 256, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    snapshot = variance**0.5 * cells[0] + data_noise * cells[1]
    y, target, doubt = task._pair(snapshot, cells[2], torch.tensor(sigma, dtype=torch.float64).view(1, 1, 1, 1))
    gain = variance / (variance + sigma**2)
    # regression on 131,072 cells: its sd is that of what is left over that of y
    left = variance * (1 - gain) + doubt.item()
    sd = (left / (variance + sigma**2) / y.numel()) ** 0.5
    assert_close(((y * target).sum() / y.square().sum()).item(), gain, rtol=0, atol=4 * sd)
    # a relative sd of sqrt(2 / 131,072) = 0.004
    assert_close((target - gain * y).square().mean().item(), left, rtol=0.016, atol=0)


@pytest.mark.parametrize("alpha", [(0.8,), (0.8, 0.92)])
@pytest.mark.parametrize("spectrum", SPECTRA)
@torch.no_grad()
def test_the_exact_network_has_loss_one_on_noisy_snapshots(spectrum, alpha):
    clean = SPECTRA[spectrum]()
    noise_of_data = 0.25 * torch.randn(128, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    x = gaussian_states(128, 16, 16, clean) + noise_of_data
    task = silent_task(alpha, clean, data_noise=0.25)
    # 65,536 squared normals, of which a half count: an sd of 0.008
    assert_close(task.loss(task(x, list(range(128)), 0)), torch.tensor(1.0), rtol=0, atol=0.032)


@pytest.mark.parametrize("alpha", [0.8, 0.92])
def test_the_validation_loss_of_noisy_snapshots_is_that_of_clean_ones(alpha):
    noise_of_data = 0.25 * torch.randn(256, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    x = gaussian_states(256, 16, 16, sloping()) + noise_of_data
    sigma = ((1 - alpha) / alpha) ** 0.5
    task = silent_task((alpha,), sloping(), data_noise=0.25)
    loss = task.metrics(task.validate(x, list(range(256)), last=True))["validation_loss"]
    expected = posterior_variance(16, 16, sigma) / sigma**2
    # squared normals of variance left + doubt, of which the doubt is taken off: 131,072 of them, 4 sd
    doubt = 0.25**2 + 0.25**4 / (sigma**2 - 0.25**2)
    assert_close(loss, expected.item(), rtol=0, atol=4 * 0.004 * (expected.item() + doubt / sigma**2))


@pytest.mark.parametrize("parts", [([0, 1], [2, 3, 4]), ([0, 2, 4], [1, 3]), ([4, 3, 2, 1, 0], [])])
@pytest.mark.parametrize("data_noise", [0.0, 0.02])
def test_validation_does_not_depend_on_how_samples_are_shared(parts, data_noise):
    task, x = random_task(data_noise=data_noise), gaussian_states(5, 8, 12)
    ids = [11, 7, 0, 100, 3]
    whole = task.validate(x, ids, last=True)
    shared = [task.validate(x[part], [ids[i] for i in part], last=True) for part in parts]
    assert len(whole) == 4
    for level, sums in whole.items():
        # samples are taken one by one, so that only the float64 sum of five numbers differs
        assert_close(shared[0][level] + shared[1][level], sums, rtol=1e-14, atol=0)


def test_validation_is_the_same_after_other_work():
    task, x = random_task(), gaussian_states(3, 8, 8)
    first = task.validate(x, [0, 1, 2], last=False)
    torch.rand(7)
    task(x, [0, 1, 2], 0)
    assert_close(task.validate(x, [0, 1, 2], last=False), first, rtol=0, atol=0)


@pytest.mark.parametrize("sigma", [0.1, 1.5])
def test_the_squared_error_is_that_of_the_expected_noise(sigma):
    x, ids = gaussian_states(3, 4, 6), [4, 0, 9]
    eps = normal_like(x, 7, -1, ids)
    # E[x | y] = y says that there is no noise, and E[x | y] = 0 that all of y is
    nothing = squared_error(lambda y, s: y, x, ids, sigma, seed=7)
    assert_close(nothing, torch.tensor([eps.square().sum(), x.numel()]).double(), rtol=1e-5, atol=0)
    everything = squared_error(lambda y, s: torch.zeros_like(y), x, ids, sigma, seed=7)
    assert_close(everything[0], (x / sigma).square().sum().double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("alpha", "during", "after"),
    [
        ((0.7,), (0.7,), (0.7,)),
        ((0.5, 0.999), (0.8,), (0.5, 0.8, 0.95, 0.99)),
        ((0.9, 0.97), (0.9,), (0.9, 0.95)),
        ((0.1, 0.4), (0.4,), (0.4,)),
    ],
)
def test_validation_is_at_levels_within_the_trained_range(alpha, during, after):
    task = silent_task(alpha)
    assert task.validation_levels(last=False) == during
    assert task.validation_levels(last=True) == after


def test_the_validation_loss_is_that_of_the_reference_level():
    totals = {"0.5": torch.tensor([3.0, 4.0]), "0.8": torch.tensor([1.0, 4.0])}
    assert silent_task(RANGE).metrics(totals) == {
        "validation_loss_alpha_0.5": 0.75,
        "validation_loss_alpha_0.8": 0.25,
        "validation_loss": 0.25,
    }


DISC = np.hypot(*(np.mgrid[:8, :8] - 3.5)) < 3.6


@torch.no_grad()
def test_cells_outside_a_mask_do_not_count():
    grid, inside = Grid((8, 8), edges=("open", "open"), mask=Mask.of(DISC)), torch.from_numpy(DISC)
    model = ScoreModel((4,), RANGE, Spectrum.white(MEAN, STD, grid.edges), grid=grid)
    torch.nn.init.normal_(model.net.head.weight, generator=torch.Generator().manual_seed(1))
    task, x, ids = DenoisingScoreMatching(model, seed=3, augment=True), gaussian_states(4, 8, 8), [0, 1, 2, 3]
    sums, validated = task(x, ids, 0), task.validate(x, ids, last=False)["0.8"]
    assert sums[1] == validated[1] == 4 * 2 * inside.sum()
    other = torch.where(inside, x, 99.0)
    assert_close(task(other, ids, 0), sums, rtol=0, atol=0)
    assert_close(task.validate(other, ids, last=False)["0.8"], validated, rtol=0, atol=0)


def test_each_species_has_noise_of_its_own():
    own = (0.3, 0.0, 0.1)
    model = ScoreModel((4,), (0.5, 0.9), Spectrum.white(torch.zeros(3), torch.ones(3)))
    task = DenoisingScoreMatching(model, seed=3, augment=False, data_noise=own)
    level = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    zero, one = (torch.full((1, 3, 2, 2), value, dtype=torch.float64) for value in (0.0, 1.0))
    (y_x, target_x, doubt), (y_eps, target_eps, _) = task._pair(one, zero, level), task._pair(zero, one, level)
    data = torch.tensor(own, dtype=torch.float64).view(1, 3, 1, 1) ** 2
    # as for one species, float64 rounding: uncorrelated, of the level's variance, and of the doubt
    assert_close(data * y_x * target_x + y_eps * target_eps, zero, rtol=0, atol=1e-15)
    assert_close(data * y_x**2 + y_eps**2, level.square().expand_as(one), rtol=1e-14, atol=0)
    assert_close(data * target_x**2 + target_eps**2, doubt.expand_as(one), rtol=1e-14, atol=0)


# Of five passes of two steps, of the program that knew two species on periodic grids alone.
LOSSES = {
    (16, 16, 0.0): (1.018907, 0.975683, 1.049169, 1.033520, 0.943102, 0.993288, 0.992501, 1.023694, 0.978430, 0.958752),
    (8, 16, 0.05): (1.018921, 0.981594, 1.114000, 0.883333, 0.925821, 0.943058, 0.979487, 0.984359, 0.921972, 0.905052),
}


@pytest.mark.parametrize(("height", "width", "noise"), LOSSES)
def test_two_species_on_a_periodic_grid_are_learnt_as_they_always_were(height, width, noise):
    generator = torch.Generator().manual_seed(0)
    i, j = torch.arange(height).view(1, 1, height, 1) / height, torch.arange(width).view(1, 1, 1, width) / width
    phase = torch.rand(10, 2, 1, 1, generator=generator)
    wave = torch.cos(2 * torch.pi * (2 * i + phase[:, :1])) * torch.sin(2 * torch.pi * (j + phase[:, 1:]))
    states = torch.cat([wave, -0.5 * wave**2], 1) + 0.1 * torch.randn(10, 2, height, width, generator=generator)
    ids = torch.arange(10)
    data = MemoryData(states[:-2], ids[:-2], states[-2:], ids[-2:])
    alpha = (0.5, 0.95) if noise else RANGE
    settings = {"alpha": alpha, "channels": (4, 6), "data_noise": (noise,), "precision": "float32", "compile": "off"}
    scaling, cpu = Scaling((0.5, 0.5), (0.5, 0.5)), torch.device("cpu")
    task = build(ScoreConfig(**settings), data, Grid((height, width)), scaling, cpu, None)
    adam, losses = torch.optim.Adam(task.parameters(), 1e-3), []
    for step in range(5):
        for x, batch in data.batches(0, step, 4, Workers()):
            loss = task.loss(task(x, batch, step))
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
    # the same numbers as they are written, but for the rounding of other processors' convolutions
    assert_close(losses, list(LOSSES[height, width, noise]), rtol=1e-5, atol=0)
