"""The U-Net has no seam, and sees what it is shown."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.fields import Grid, Mask
from p2d.score.unet import EMBEDDING, Conv3, ResidualBlock, UNet, is_marked, shuffled, unshuffled

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


@pytest.mark.parametrize("edges", [("mirror", "mirror"), ("open", "periodic"), ("periodic", "mirror")])
@torch.no_grad()
def test_ghost_pixels_follow_or_repeat_the_edge(edges):
    grid = Grid((6, 5), edges=edges)
    conv, x = randomised(Conv3(2, 3, grid)), normal(2, 2, 6, 5)
    modes = ["wrap" if edge == "periodic" else "edge" for edge in edges]
    whole = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)), mode=modes[0])
    whole = np.pad(whole, ((0, 0), (0, 0), (0, 0), (1, 1)), mode=modes[1])
    expected = torch.nn.functional.conv2d(torch.from_numpy(whole), conv.weight, conv.bias)
    assert_close(conv(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("by", [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_shuffling_is_the_inverse_of_unshuffling(by):
    x = normal(2, 3, 4, 6)
    blocks = unshuffled(x, by)
    assert blocks.shape == (2, 3 * by[0] * by[1], 4 // by[0], 6 // by[1])
    assert_close(shuffled(blocks, by), x, rtol=0, atol=0)
    if by == (2, 2):
        assert_close(blocks, torch.nn.functional.pixel_unshuffle(x, 2), rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 24), (8, 1)])
@torch.no_grad()
def test_one_dimension_is_not_convolved_across(height, width):
    net = randomised(UNet((4, 6), 3, 1, Grid((height, width))))
    assert all(1 in c.weight.shape[2:] for c in net.modules() if isinstance(c, Conv3))
    x, level = normal(2, 3, height, width), torch.tensor([-0.4, 0.3], dtype=torch.float64)
    out = net(x, level)
    assert out.shape == (2, 1, height, width)
    for shift in (4, -4):
        moved = net(x.roll((shift, shift), (-2, -1)), level)
        assert_close(moved, out.roll((shift, shift), (-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(9, 16), (5, 8), (30, 24)])
@torch.no_grad()
def test_fields_with_edges_may_have_any_size_and_the_network_is_told_where_they_end(height, width):
    net = randomised(UNet((4, 6), 3, 2, Grid((height, width), edges=("open", "periodic"))))
    marks = torch.ones(2, 1, height, width, dtype=torch.float64)
    x, level = torch.cat([normal(2, 2, height, width), marks], 1), torch.tensor([-0.4, 0.3], dtype=torch.float64)
    out = net(x, level)
    assert out.shape == (2, 2, height, width)
    assert_close(net(x.roll(4, -1), level), out.roll(4, -1), rtol=0, atol=1e-12)
    # the same weights, and the same ghost pixels of all else: beyond an open edge alone nothing is known
    walled = UNet((4, 6), 3, 2, Grid((height, width), edges=("mirror", "periodic"))).double()
    walled.load_state_dict(net.state_dict())
    assert (walled(x, level) - out)[..., 0, :].abs().mean() > 0.01
    assert is_marked(net.grid) and not is_marked(GRID) and is_marked(Grid((2, 2), mask=Mask.of(np.eye(2))))


def test_a_fresh_network_says_nothing():
    for grid in (GRID, Grid((1, 16)), Grid((9, 8), edges=("open", "mirror"))):
        net = UNet((4, 6), 3, 2, grid)
        assert (net(normal(1, 3, *grid.shape).float(), torch.zeros(1)) == 0).all()


@pytest.mark.parametrize("shape", [(12, 20), (28, 36), (1, 20)])
def test_a_periodic_field_of_any_size_has_no_seam(shape):
    net = UNet((8, 8, 8), 3, 1, Grid(shape)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    x, level = torch.randn(1, 3, *shape), torch.zeros(1)
    with torch.no_grad():
        alone = net(x, level)
        assert alone.shape == (1, 1, *shape)
        tiled = net(x.repeat(1, 1, 2 if shape[0] > 1 else 1, 2), level)[..., : shape[0], : shape[1]]
    off = (alone - tiled).square()
    assert off.mean() < 0.03 * tiled.var()  # what the ends of the field that it is carried on to still do
    ends, middle = off[..., [0, -1]].mean(), off[..., shape[1] // 2 - 1 : shape[1] // 2 + 1].mean()
    assert ends < 10 * middle + 0.01 * tiled.var()
