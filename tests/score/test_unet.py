"""The U-Net has no seam, and the model around it is exact for Gaussian data before it has learnt anything."""

import re

import pytest
import torch
from torch.testing import assert_close

from p2d.checkpoint import write_checkpoint
from p2d.errors import UserError
from p2d.score.noise import add_noise, sigma_of
from p2d.score.unet import EMBEDDING, ResidualBlock, ScoreModel, UNet

GRIDS = [(16, 16), (8, 24)]
MEAN, STD = torch.tensor([0.3, -0.7]), torch.tensor([0.5, 0.2])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float64, every weight drawn anew: fresh blocks are the identity, and would hide their insides."""
    generator = torch.Generator().manual_seed(5)
    for weight in module.double().parameters():
        fan_in = max(1, weight[0].numel())
        weight.copy_(torch.randn(weight.shape, dtype=torch.float64, generator=generator) / fan_in**0.5)
    return module


def silent(alpha: tuple[float, ...] = (0.5, 0.999)) -> ScoreModel:
    """A model in float64 whose network says nothing: its denoiser is that of Gaussian data of MEAN and STD."""
    model = ScoreModel((8, 8), alpha, MEAN, STD).double()
    torch.nn.init.zeros_(model.net.head.weight)
    torch.nn.init.zeros_(model.net.head.bias)
    return model


def per_species(values: torch.Tensor) -> torch.Tensor:
    return values.double().view(1, 2, 1, 1)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("channels", [(6,), (6, 8), (4, 6, 8)])
@torch.no_grad()
def test_shifts_by_the_downsampling_commute_with_the_unet(channels, height, width):
    net = randomised(UNet(channels))
    x, level = normal(2, 2, height, width), torch.tensor([-0.4, 0.3], dtype=torch.float64)
    out, d = net(x, level), 2 ** len(channels)
    for shift in ((d, 0), (0, d), (-d, 2 * d), (height - d, width - d)):
        # the same sums in other places, and across the seam; convolutions may add them in another order
        assert_close(net(x.roll(shift, (-2, -1)), level), out.roll(shift, (-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@torch.no_grad()
def test_the_randomised_unet_sees_state_and_noise_level(height, width):
    net = randomised(UNet((6, 8)))
    x, level = normal(2, 2, height, width), torch.tensor([-0.4, 0.3], dtype=torch.float64)
    out = net(x, level)
    assert out.shape == x.shape
    assert out.std() > 0.1  # so that what commutes with it is not a constant
    assert (net(x, level.flip(0)) - out).std() > 0.01
    assert (net(x.flip(0), level) - out).std() > 0.1


def test_a_fresh_block_is_the_identity():
    block = ResidualBlock(6)
    x, level = normal(2, 6, 8, 4).float(), normal(2, EMBEDDING).float()
    assert_close(block(x, level), x, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.8, 0.999])
@torch.no_grad()
def test_without_the_network_denoising_is_the_posterior_mean_of_gaussian_data(height, width, alpha):
    x_a = normal(3, 2, height, width)
    mean, variance = per_species(MEAN), per_species(STD) ** 2
    gain = alpha**0.5 * variance / (alpha * variance + 1 - alpha)
    posterior_mean = mean + gain * (x_a - alpha**0.5 * mean)
    # the same number by way of y = x_a / sqrt(alpha): float64 rounding of numbers up to 5
    assert_close(silent().denoise(x_a, alpha), posterior_mean, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.8, 0.999])
def test_without_the_network_the_score_is_that_of_noised_gaussian_data(height, width, alpha):
    x_a = normal(3, 2, height, width).requires_grad_()
    variance = alpha * per_species(STD) ** 2 + 1 - alpha
    log_p = -((x_a - alpha**0.5 * per_species(MEAN)) ** 2 / (2 * variance)).sum()
    (score,) = torch.autograd.grad(log_p, x_a)
    # (y - denoised) / sigma loses the digits that y and denoised share: sigma is 0.03 at alpha = 0.999
    assert_close(silent().score(x_a.detach(), alpha).detach(), score, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@torch.no_grad()
def test_any_network_keeps_tweedies_formula_and_the_noise_equation(height, width):
    model = randomised(ScoreModel((6, 8), (0.5, 0.999), MEAN, STD))
    x_a, alpha = normal(4, 2, height, width), torch.tensor([0.05, 0.5, 0.8, 0.99], dtype=torch.float64)
    a = alpha.view(-1, 1, 1, 1)
    denoised, eps, score = model.denoise(x_a, alpha), model.eps(x_a, alpha), model.score(x_a, alpha)
    # identities between outputs of one network; rounding of numbers up to 20, divided by sigma = 0.1 at least
    assert_close((x_a + (1 - a) * score) / a.sqrt(), denoised, rtol=0, atol=1e-12)
    assert_close(add_noise(denoised, eps, alpha), x_a, rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_network_is_weighed_as_in_edm():
    model = randomised(ScoreModel((6,), (0.5,), MEAN, STD))
    y, sigma = normal(2, 2, 8, 12), torch.tensor([0.1, 3.0], dtype=torch.float64)
    s, std, mean = sigma.view(-1, 1, 1, 1), per_species(STD), per_species(MEAN)
    # Karras et al. 2022, Table 1, with the mean taken off; c_noise = ln(sigma) / 4
    expected = model.net((y - mean) / (s**2 + std**2).sqrt(), sigma.log() / 4)
    output, c_skip, c_out = model.raw(y, sigma)
    assert_close(output, expected, rtol=0, atol=1e-12)
    assert_close(c_skip, std**2 / (s**2 + std**2), rtol=1e-14, atol=0)
    assert_close(c_out, s * std / (s**2 + std**2).sqrt(), rtol=1e-14, atol=0)


@torch.no_grad()
def test_a_level_may_be_one_for_all_or_one_each():
    model = randomised(ScoreModel((6, 8), (0.5, 0.999), MEAN, STD))
    x_a = normal(3, 2, 8, 8)
    one = model.score(x_a, 0.8)
    assert_close(model.score(x_a, torch.full((3,), 0.8, dtype=torch.float64)), one, rtol=0, atol=0)
    each = model.score(x_a, torch.tensor([0.8, 0.5, 0.9], dtype=torch.float64))
    # other values beside it in the batch: convolutions may add in another order
    assert_close(each[0], one[0], rtol=0, atol=1e-12)
    assert (each[1:] - one[1:]).abs().mean() > 0.1


@pytest.mark.parametrize("shape", [(2, 16, 16), (1, 3, 16, 16), (1, 1, 2, 16, 16), (16, 16)])
def test_a_shape_that_is_not_a_batch_of_states_is_refused(shape):
    with pytest.raises(UserError, match=re.escape(str(list(shape)))):
        silent().score(torch.zeros(shape), 0.8)


@pytest.mark.parametrize(
    ("side", "shape", "told"),
    [
        ("height", (1, 2, 18, 16), "18 does not fit.*16 or 20"),
        ("width", (1, 2, 16, 22), "22 does not fit.*20 or 24"),
        ("width", (1, 2, 16, 2), "2 does not fit.*such as 4$"),
    ],
)
def test_a_size_that_cannot_be_halved_is_refused_with_the_nearest(side, shape, told):
    for call in (silent().score, silent().denoise, silent().eps):
        with pytest.raises(UserError, match=f"{side} = {told}"):
            call(torch.zeros(shape), 0.8)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_an_alpha_outside_0_and_1_is_refused(alpha):
    for level in (alpha, torch.tensor([0.5, alpha])):
        with pytest.raises(UserError, match=r"alpha = .*between 0 and 1"):
            silent().score(torch.zeros(2, 2, 8, 8), level)


@pytest.mark.parametrize(("channels", "alpha"), [((8, 8), (0.5, 0.999)), ((6,), (0.8,))])
@torch.no_grad()
def test_a_saved_model_gives_the_same_score(tmp_path, channels, alpha):
    model = randomised(ScoreModel(channels, alpha, MEAN, STD)).float()
    settings = {"channels": list(channels), "alpha": list(alpha)}
    write_checkpoint(tmp_path / "model", {"kind": "score", "settings": settings}, model.state_dict())
    loaded = ScoreModel.load(tmp_path / "model")
    x_a = normal(2, 2, 8, 12).float()
    assert loaded.alpha == alpha
    assert not loaded.training
    assert_close(loaded.score(x_a, 0.8), model.score(x_a, 0.8), rtol=0, atol=0)


def test_the_noise_of_a_level_is_what_the_network_is_told():
    model = silent()
    told = []
    model.net.register_forward_hook(lambda _module, inputs, _output: told.append(inputs[1]))
    model.denoise(torch.zeros(2, 2, 8, 8, dtype=torch.float64), 0.8)
    sigma = sigma_of(torch.tensor([0.8, 0.8], dtype=torch.float64))
    assert_close(told[0], sigma.log() / 4, rtol=0, atol=1e-15)
