"""The model around the network: exact for Gaussian random fields, of unit variance throughout, and without a seam."""

import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid, Mask
from p2d.score.model import ScoreModel, model_options
from p2d.score.noise import add_noise, sigma_of
from p2d.score.spectrum import Spectrum
from p2d.training.checkpoint import write_checkpoint
from p2d.training.randomness import imaged, images

GRIDS = [(16, 16), (8, 24)]
SMALL_GRIDS = [(8, 8), (4, 12)]  # whose covariances are small enough to be written down
ALPHAS = [0.002, 0.2, 0.8, 0.999]
MEAN, STD = [0.3, -0.7], [0.5, 0.2]
DATA = {"grid": [16, 16]}  # as checkpoints said it before they told edges and spacing


def float64(values: list | float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def white() -> Spectrum:
    return Spectrum.white(float64(MEAN), float64(STD))


def pattern() -> Spectrum:
    """A spectrum that peaks as patterns do, of two species that go against each other."""
    power = [[0.5, 6.0, 1.0, 0.05, 0.01], [-0.1, -3.0, -0.4, -0.01, 0.0], [0.2, 3.0, 0.5, 0.02, 0.01]]
    return Spectrum(float64([0.0, 0.1, 0.2, 0.5, 0.8]), float64(power), float64(MEAN))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def per_species(values: list) -> torch.Tensor:
    return float64(values).view(1, 2, 1, 1)


@torch.no_grad()
def randomised(channels: tuple[int, ...] = (6, 8), alpha: tuple[float, ...] = (0.5, 0.999)) -> ScoreModel:
    """A model in float64 of every weight drawn anew: fresh blocks are the identity, and would hide their insides."""
    model = ScoreModel(channels, alpha, pattern()).double()
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        fan_in = max(1, weight[0].numel())
        weight.copy_(torch.randn(weight.shape, dtype=torch.float64, generator=generator) / fan_in**0.5)
    return model


def silent(spectrum: Spectrum) -> ScoreModel:
    """A model in float64 whose network says nothing: its denoiser is that of Gaussian fields of the spectrum."""
    model = ScoreModel((4,), (0.5, 0.999), spectrum).double()
    torch.nn.init.zeros_(model.net.head.weight)
    torch.nn.init.zeros_(model.net.head.bias)
    return model


def covariance(spectrum: Spectrum, height: int, width: int) -> torch.Tensor:
    """Of all entries of a state, [2HW, 2HW]."""
    root = spectrum.draw(torch.eye(2 * height * width, dtype=torch.float64).view(-1, 2, height, width)).flatten(1)
    return root.T @ root


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.8, 0.999])
@torch.no_grad()
def test_without_the_network_denoising_is_the_posterior_mean_of_independent_cells(height, width, alpha):
    x_a = normal(3, 2, height, width)
    mean, variance = per_species(MEAN), per_species(STD) ** 2
    gain = alpha**0.5 * variance / (alpha * variance + 1 - alpha)
    posterior_mean = mean + gain * (x_a - alpha**0.5 * mean)
    # the same number by way of y = x_a / sqrt(alpha) and its transform: float64 rounding of numbers up to 50
    assert_close(silent(white()).denoise(x_a, alpha), posterior_mean, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), SMALL_GRIDS)
@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.8, 0.999])
def test_without_the_network_the_score_is_that_of_a_noised_gaussian_field(height, width, alpha):
    x_a = normal(3, 2, height, width).requires_grad_()
    prior = covariance(pattern(), height, width)
    noised = alpha * prior + (1 - alpha) * torch.eye(len(prior), dtype=torch.float64)
    apart = (x_a - alpha**0.5 * per_species(MEAN)).flatten(1)
    log_p = -(apart * torch.linalg.solve(noised, apart.T).T).sum() / 2
    (score,) = torch.autograd.grad(log_p, x_a)
    # scores up to 300; (y - denoised) / sigma loses the digits that both share: sigma is 0.03 at alpha = 0.999
    assert_close(silent(pattern()).score(x_a.detach(), alpha).detach(), score, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), SMALL_GRIDS)
@pytest.mark.parametrize("alpha", ALPHAS)
@torch.no_grad()
def test_inputs_and_target_of_a_gaussian_field_have_unit_variance(height, width, alpha):
    model = silent(pattern())
    told = []
    model.net.register_forward_hook(lambda _module, inputs, _output: told.append(inputs[0]))
    prior = covariance(pattern(), height, width)
    every_entry = torch.eye(len(prior), dtype=torch.float64)
    sigma = sigma_of(float64(alpha))
    y = per_species(MEAN) + every_entry.view(-1, 2, height, width)
    _, linear, spread = model.raw(y, sigma.expand(len(y)))
    noised = prior + sigma**2 * every_entry
    # What the model does to y is linear: the rows are its matrix, and matrix^T covariance matrix its output's.
    for fields in told[0].view(len(y), 2, -1).unbind(1):
        variance = (fields.T @ noised @ fields).diagonal().view(2, -1)
        # of each species, over cells that are all alike; 1e-16 divided by known / variance = 0.002 at least
        assert_close(variance, torch.ones_like(variance), rtol=0, atol=1e-12)
    # target (x - linear) / spread: x has the covariance `prior` with y
    estimate = (linear - per_species(MEAN)).flatten(1)
    left = prior - prior @ estimate - estimate.T @ prior + estimate.T @ noised @ estimate
    variance = left.diagonal().view(1, 2, height, width) / spread[:1] ** 2
    assert_close(variance, torch.ones_like(variance), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("height", "width"), SMALL_GRIDS)
@torch.no_grad()
def test_what_the_network_is_shown_and_what_it_adds(height, width):
    model = randomised()
    y, sigma = normal(2, 2, height, width), float64([0.1, 3.0])
    s, mean = sigma.view(-1, 1, 1, 1), per_species(MEAN)
    estimate, spread = pattern().estimate(y, sigma)
    variance = pattern().variance((height, width)).view(1, 2, 1, 1)
    # Karras et al. 2022, Eq. 7, with the linear estimate for c_skip y; c_noise = ln(sigma) / 4
    shown = torch.cat([(y - mean) / (s**2 + variance).sqrt(), estimate / (variance - spread**2).sqrt()], dim=1)
    expected = model.net(shown, sigma.log() / 4)
    output, linear, c_out = model.raw(y, sigma)
    assert expected.std() > 0.1
    assert_close(output, expected, rtol=0, atol=1e-12)
    assert_close(linear, mean + estimate, rtol=0, atol=1e-14)
    assert_close(c_out, spread, rtol=1e-14, atol=0)
    assert_close(model.posterior_mean(y, sigma), mean + estimate + spread * expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 0.999])
@torch.no_grad()
def test_on_independent_cells_the_network_is_weighed_as_in_edm(alpha):
    model = silent(white())
    y, sigma = normal(2, 2, 8, 12), sigma_of(float64([alpha, alpha]))
    s, std, mean = sigma.view(-1, 1, 1, 1), per_species(STD), per_species(MEAN)
    _, linear, spread = model.raw(y, sigma)
    # Karras et al. 2022, Table 1: c_skip and c_out, with the mean taken off; there and back by a transform
    assert_close(linear, mean + std**2 / (s**2 + std**2) * (y - mean), rtol=0, atol=1e-14)
    assert_close(spread, s * std / (s**2 + std**2).sqrt(), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("channels", [(6,), (6, 8), (4, 6, 8)])
@torch.no_grad()
def test_shifts_by_the_downsampling_commute_with_the_score(channels, height, width):
    model = randomised(channels)
    x_a, alpha = normal(2, 2, height, width), float64([0.6, 0.99])
    score, d = model.score(x_a, alpha), model.downsampling
    assert d == 2 ** len(channels)
    for shift in ((d, 0), (0, d), (-d, 2 * d), (height - d, width - d)):
        # the same sums in other places, and across the seam: rounding of numbers up to 20, divided by sigma = 0.1
        assert_close(model.score(x_a.roll(shift, (-2, -1)), alpha), score.roll(shift, (-2, -1)), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@torch.no_grad()
def test_any_network_keeps_tweedies_formula_and_the_noise_equation(height, width):
    model = randomised()
    x_a, alpha = normal(4, 2, height, width), float64([0.05, 0.5, 0.8, 0.99])
    a = alpha.view(-1, 1, 1, 1)
    denoised, eps, score = model.denoise(x_a, alpha), model.eps(x_a, alpha), model.score(x_a, alpha)
    # identities between outputs of one network; rounding of numbers up to 20, divided by sigma = 0.1 at least
    assert_close((x_a + (1 - a) * score) / a.sqrt(), denoised, rtol=0, atol=1e-12)
    assert_close(add_noise(denoised, eps, alpha), x_a, rtol=0, atol=1e-12)
    y = x_a / a.sqrt()
    assert_close(model.posterior_mean(y, sigma_of(alpha)), denoised, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_level_may_be_one_for_all_or_one_each():
    model = randomised()
    x_a = normal(3, 2, 8, 8)
    one = model.score(x_a, 0.8)
    assert_close(model.score(x_a, torch.full((3,), 0.8, dtype=torch.float64)), one, rtol=0, atol=0)
    each = model.score(x_a, float64([0.8, 0.5, 0.9]))
    # other values beside it in the batch: convolutions may add in another order
    assert_close(each[0], one[0], rtol=0, atol=1e-12)
    assert (each[1:] - one[1:]).abs().mean() > 0.1


def test_the_noise_of_a_level_is_what_the_network_is_told():
    model = silent(pattern())
    told = []
    model.net.register_forward_hook(lambda _module, inputs, _output: told.append(inputs[1]))
    model.denoise(normal(2, 2, 8, 8), 0.8)
    assert_close(told[0], sigma_of(float64([0.8, 0.8])).log() / 4, rtol=0, atol=1e-15)


@torch.no_grad()
def test_a_fresh_models_uncertainty_is_that_of_a_target_of_unit_variance():
    model = ScoreModel((4,), (0.5, 0.999), pattern()).double()
    sigma = float64([0.05, 1.0, 20.0])
    assert_close(model.uncertainty(sigma), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0)
    features = model.net.features(sigma.log() / 4)
    model.doubt.weight.copy_(normal(*model.doubt.weight.shape))
    model.doubt.bias.fill_(0.3)
    assert_close(model.uncertainty(sigma), features @ model.doubt.weight[0] + 0.3, rtol=0, atol=1e-13)


@torch.no_grad()
def test_lower_precision_is_of_the_network_alone():
    model, exact = (randomised().float() for _ in range(2))
    y, sigma = normal(2, 2, 16, 16).float(), torch.tensor([0.1, 3.0])
    output, linear, spread = model.raw(y, sigma, torch.bfloat16)
    expected, *rest = exact.raw(y, sigma)
    assert output.dtype == torch.float32
    # bfloat16 keeps 8 bits: a rounding of 0.4 % in each of ten layers, of which the errors are independent
    error = (output - expected).std() / expected.std()
    assert 1e-4 < error < 0.03
    assert_close([linear, spread], rest, rtol=0, atol=0)


@torch.no_grad()
def test_another_network_may_stand_in_for_its_own():
    model = randomised()
    y, sigma = normal(2, 2, 8, 12), float64([0.1, 3.0])
    own = model.raw(y, sigma)
    twice = model.raw(y, sigma, network=lambda fields, level: 2 * model.net(fields, level))
    assert_close(twice[0], 2 * own[0], rtol=0, atol=0)
    assert_close(twice[1:], own[1:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 16, 16), (1, 3, 16, 16), (1, 1, 2, 16, 16), (16, 16)])
def test_a_shape_that_is_not_a_batch_of_states_is_refused(shape):
    with pytest.raises(UserError, match=re.escape(f"shape {list(shape)}; they must be [B, 2, H, W]")):
        silent(white()).score(torch.zeros(shape), 0.8)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_an_alpha_outside_0_and_1_is_refused(alpha):
    for level in (alpha, torch.tensor([0.5, alpha])):
        with pytest.raises(UserError, match=r"alpha = .*between 0 and 1"):
            silent(white()).score(torch.zeros(2, 2, 8, 8), level)


@pytest.mark.parametrize(
    ("alpha", "sampling", "sampled"),
    [([0.5, 0.999], 0.15, True), ([0.5, 0.999], 0.0, False), ([0.8], 0.15, False)],
)
def test_settings_say_whether_a_model_can_be_sampled_from(alpha, sampling, sampled):
    options = model_options({"channels": [6, 8], "alpha": alpha, "sampling": sampling, "seed": 3})
    assert options == {"channels": (6, 8), "alpha": tuple(alpha), "sampled": sampled}


def settings_of(channels: tuple[int, ...], alpha: tuple[float, ...]) -> dict:
    return {"channels": list(channels), "alpha": list(alpha), "sampling": 0.15}


@pytest.mark.parametrize(("channels", "alpha"), [((8, 8), (0.5, 0.999)), ((6,), (0.8,))])
@torch.no_grad()
def test_a_saved_model_gives_the_same_score(tmp_path, channels, alpha):
    model = randomised(channels, alpha).float()
    config = {"kind": "score", "settings": settings_of(channels, alpha), "data": DATA}
    write_checkpoint(tmp_path / "model", config, model.state_dict())
    loaded = ScoreModel.load(tmp_path / "model")
    assert (loaded.alpha, loaded.sampled) == (alpha, len(alpha) == 2)
    assert not loaded.training
    for height, width in ((8, 12), (16, 16)):
        x_a = normal(2, 2, height, width).float()
        assert_close(loaded.score(x_a, 0.8), model.score(x_a, 0.8), rtol=0, atol=0)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path):
    weights = ScoreModel((6, 8), (0.8,)).state_dict()
    without_spectrum = {k: v for k, v in weights.items() if not k.startswith("spectrum.")}
    without_head = {k: v for k, v in weights.items() if k != "net.head.bias"}
    config = {"kind": "score", "settings": settings_of((6, 8), (0.8,)), "data": DATA}
    others = {"kind": "score", "settings": settings_of((6, 10), (0.8,)), "data": DATA}
    for told, held in ((others, weights), (config, without_spectrum), (config, without_head)):
        write_checkpoint(tmp_path / "model", told, held)
        channels = re.escape(str(told["settings"]["channels"]))
        with pytest.raises(UserError, match=rf"model.safetensors does not hold .*channels {channels}.*train the score"):
            ScoreModel.load(tmp_path / "model")


def test_a_model_says_in_one_line_what_it_is(tmp_path):
    model = ScoreModel((4,), (0.5, 0.999))
    weights = f"{sum(weight.numel() for weight in model.parameters()):,} weights"
    assert str(model) == f"ScoreModel: not loaded from a checkpoint, alpha 0.5 to 0.999, {weights}"
    settings = {"channels": [4], "alpha": [0.5, 0.999], "sampling": 0.0}
    config = {"kind": "score", "settings": settings, "data": DATA, "learnt_from": {"dataset": "waves_128x128"}}
    write_checkpoint(tmp_path / "score", config, model.state_dict())
    loaded = ScoreModel.load(tmp_path / "score")
    assert repr(loaded) == f"ScoreModel: trained on waves_128x128, alpha 0.5 to 0.999, {weights}"


DISC = np.hypot(*(np.mgrid[:12, :12] - 5.5)) < 5
GRIDS_OF_ANY_KIND = {
    "periodic": Grid((8, 12)),
    "one dimension": Grid((1, 16)),
    "mirror": Grid((9, 10), edges=("mirror", "mirror")),
    "window": Grid((7, 8), edges=("open", "periodic")),
    "dish": Grid((12, 12), edges=("open", "open"), mask=Mask.of(DISC)),
}


@torch.no_grad()
def model_of(species: int, grid: Grid) -> ScoreModel:
    """A model in float64 of every weight drawn anew, for species and grids of any kind."""
    mean, std = float64([0.3, -0.7, 1.5, 0.0])[:species], float64([0.5, 0.2, 1.0, 2.0])[:species]
    model = ScoreModel((4, 6), (0.5, 0.999), Spectrum.white(mean, std, grid.edges), grid=grid).double()
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        fan_in = max(1, weight[0].numel())
        weight.copy_(torch.randn(weight.shape, dtype=torch.float64, generator=generator) / fan_in**0.5)
    return model


@pytest.mark.parametrize("kind", GRIDS_OF_ANY_KIND)
@pytest.mark.parametrize("species", [1, 3])
@torch.no_grad()
def test_a_model_of_any_field_is_saved_with_its_grid(tmp_path, species, kind):
    grid = GRIDS_OF_ANY_KIND[kind]
    model = model_of(species, grid).float()
    config = {"kind": "score", "settings": settings_of((4, 6), (0.5, 0.999)), "data": {"grid": grid.to_dict()}}
    write_checkpoint(tmp_path / "model", config, model.state_dict())
    loaded, x_a = ScoreModel.load(tmp_path / "model"), normal(2, species, *grid.shape).float()
    assert loaded.grid == grid and loaded.spectrum.edges == grid.edges
    assert loaded.score(x_a, 0.8).shape == x_a.shape
    assert_close(loaded.score(x_a, 0.8), model.score(x_a, 0.8), rtol=0, atol=0)
    with pytest.raises(UserError, match=rf"must be \[B, {species}, H, W\]"):
        loaded.score(normal(2, species + 1, *grid.shape).float(), 0.8)


@pytest.mark.parametrize("kind", GRIDS_OF_ANY_KIND)
@torch.no_grad()
def test_images_of_the_grid_that_keep_to_blocks_commute_with_the_linear_estimate(kind):
    grid = GRIDS_OF_ANY_KIND[kind]
    spectrum, y = model_of(3, grid).spectrum, normal(2, 3, *grid.shape)
    estimate = spectrum.estimate(y, float64([0.3, 2.0]))[0]
    for image in images(grid):
        # the same modes, transformed in another order: float64 rounding of numbers up to 8
        found = spectrum.estimate(imaged(y, image), float64([0.3, 2.0]))[0]
        assert_close(found, imaged(estimate, image), rtol=0, atol=1e-13)


@torch.no_grad()
def test_outside_a_mask_states_are_not_seen_and_come_out_at_their_means():
    model, inside = model_of(3, GRIDS_OF_ANY_KIND["dish"]), torch.from_numpy(DISC)
    y, sigma = normal(2, 3, 12, 12), float64([0.3, 2.0])
    clean = model.posterior_mean(y, sigma)
    assert_close(model.posterior_mean(torch.where(inside, y, 99.0), sigma), clean, rtol=0, atol=0)
    outside = model.spectrum.mean.view(1, 3, 1).expand(2, 3, int((~inside).sum()))
    assert_close(clean[..., ~inside], outside, rtol=0, atol=0)
    assert (clean - y)[..., inside].abs().min() > 0
    assert model.inside(y).shape == (2, 3, int(inside.sum()))


@pytest.mark.parametrize(
    ("kind", "shape", "told"),
    [
        (
            "periodic",
            (1, 8),
            "height = 1 does not fit the score model, .* of two dimensions: it must be above 1$",
        ),
        ("one dimension", (8, 16), "height = 8 does not fit the score model, .* of one dimension: it must be 1$"),
        ("dish", (16, 12), "height = 16, width = 12 does not fit .*, whose grid has a mask: it is for 12 x 12 alone$"),
    ],
)
def test_a_shape_that_the_model_is_not_for_is_refused(kind, shape, told):
    model = model_of(1, GRIDS_OF_ANY_KIND[kind])
    with pytest.raises(UserError, match=told):
        model.score(normal(1, 1, *shape), 0.8)
    model.score(normal(1, 1, *model.grid.shape), 0.8)
