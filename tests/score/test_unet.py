"""The U-Net has no seam, and sees what it is shown."""

import pytest
import torch
from torch.testing import assert_close

from p2d.fields import Grid
from p2d.score.unet import EMBEDDING, ResidualBlock, UNet

GRIDS = [(16, 16), (8, 24)]
GRID = Grid((8, 8))


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


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("channels", [(6,), (6, 8), (4, 6, 8)])
@pytest.mark.parametrize("inputs", [2, 4])
@torch.no_grad()
def test_shifts_by_the_downsampling_commute_with_the_unet(channels, inputs, height, width):
    net = randomised(UNet(channels, inputs, 2, GRID))
    x, level = normal(2, inputs, height, width), torch.tensor([-0.4, 0.3], dtype=torch.float64)
    out, d = net(x, level), 2 ** len(channels)
    for shift in ((d, 0), (0, d), (-d, 2 * d), (height - d, width - d)):
        # the same sums in other places, and across the seam; convolutions may add them in another order
        assert_close(net(x.roll(shift, (-2, -1)), level), out.roll(shift, (-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@torch.no_grad()
def test_the_randomised_unet_sees_all_fields_and_the_noise_level(height, width):
    net = randomised(UNet((6, 8), 4, 2, GRID))
    x, level = normal(2, 4, height, width), torch.tensor([-0.4, 0.3], dtype=torch.float64)
    out = net(x, level)
    assert out.shape == (2, 2, height, width)
    assert out.std() > 0.1  # so that what commutes with it is not a constant
    assert (net(x, level.flip(0)) - out).std() > 0.01
    for field in range(4):
        other = x.clone()
        other[:, field] = x[:, field].flip(0)
        assert (net(other, level) - out).std() > 0.1


def test_a_fresh_block_is_the_identity():
    block = ResidualBlock(6, GRID)
    x, level = normal(2, 6, 8, 4).float(), normal(2, EMBEDDING).float()
    assert_close(block(x, level), x, rtol=0, atol=0)


def test_the_features_of_two_noise_levels_are_as_far_apart_as_the_levels_alone():
    net = UNet((4,), 2, 2, GRID).double()
    levels = torch.linspace(-1, 1, 21, dtype=torch.float64)
    features = net.features(levels)
    assert features.shape == (21, EMBEDDING)
    # |e^(i f a) - e^(i f b)|^2 = 2 - 2 cos(f (a - b)), of frequencies from 1 to 32
    frequencies = 32 ** (torch.arange(EMBEDDING // 2).double() / (EMBEDDING // 2 - 1))
    apart = levels[:, None] - levels
    expected = (2 - 2 * (apart[..., None] * frequencies).cos()).sum(dim=-1)
    found = (features[:, None] - features).square().sum(dim=-1)
    # the net keeps its frequencies in float32: 1e-7 of angles up to 64, in a sum of 64 sines
    assert_close(found, expected, rtol=0, atol=3e-4)
