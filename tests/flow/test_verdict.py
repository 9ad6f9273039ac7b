"""What is said of a flow: how far data is static, on states made for it, and the words for every case."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.fields import Grid, Mask, laplacian
from p2d.flow import verdict
from p2d.flow.verdict import STATIC, STRIDE, Balance, imbalance, is_static, sufficient_snapshots

GRIDS = [(33, 48), (30, 60)]  # multiples of the stride


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def balanced_states(count: int, height: int, width: int, noise: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """States, float64, whose Laplacians are functions of u and v at every third cell but for noise of this power.

    The four neighbours of these cells are no two cells' neighbours, and are set to give the Laplacian wanted. The mean
    square of the functions is about 1.
    """
    x = torch.rand(count, 2, height, width, generator=seeded(3), dtype=torch.float64)
    cells = (..., slice(None, None, STRIDE), slice(None, None, STRIDE))
    species = x[cells].clone()
    u, v = species.unbind(1)
    wanted = torch.stack([math.sqrt(2) * torch.sin(5 * u + 2 * v), 2 * torch.exp(-u) * torch.cos(3 * v)], dim=1)
    drawn = torch.randn(wanted.shape, generator=seeded(4), dtype=torch.float64)
    wanted = wanted + torch.tensor(noise, dtype=torch.float64).sqrt().view(2, 1, 1) * drawn
    for i, j in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        neighbours = torch.zeros_like(x)
        neighbours[cells] = species + wanted / 4
        there = torch.zeros(height, width, dtype=torch.bool)
        there[cells] = True
        x = torch.where(there.roll((i, j), (0, 1)), neighbours.roll((i, j), (-2, -1)), x)
    assert_close(laplacian(x)[cells], wanted, rtol=0, atol=1e-13)  # float64 sums of numbers of order 1
    return x


def expected_imbalance(noise: float, species: int) -> float:
    """The noise's share of a Laplacian's mean square; the function's is taken on a fine grid of u and v."""
    u, v = torch.meshgrid(*[(torch.arange(400, dtype=torch.float64) + 0.5) / 400] * 2, indexing="ij")
    function = (math.sqrt(2) * torch.sin(5 * u + 2 * v), 2 * torch.exp(-u) * torch.cos(3 * v))[species]
    return noise / (noise + function.square().mean().item())


def patterned_states(count: int) -> Tensor:
    """Smooth u and v that tell p and q, cosines of the place down and right, of which the Laplacians are functions."""
    phases = 2 * math.pi * torch.rand(count, 2, generator=seeded(5), dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(36), torch.arange(48), indexing="ij")
    p = torch.cos(2 * math.pi * rows / 36 + phases[:, 0].view(-1, 1, 1))
    q = torch.cos(2 * math.pi * columns / 24 + phases[:, 1].view(-1, 1, 1))
    return torch.stack([p + 0.2 * p * q + 0.1 * q**2, q + 0.3 * p**2], dim=1)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_laplacian_that_is_a_function_of_u_and_v_is_balanced(height, width):
    # what 200 smooth functions leave of another one
    assert imbalance(balanced_states(8, height, width)) < 1e-5


def test_a_pattern_that_repeats_a_wave_is_balanced():
    # of p and q any polynomial has a Laplacian that is one too, and smooth functions of u and v tell p and q
    assert imbalance(patterned_states(8)) < 1e-5


@pytest.mark.parametrize("noise", [1e-2, 0.1, 1.0])
@pytest.mark.parametrize("species", [0, 1])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_noise_in_the_balance_is_told_by_its_power(height, width, species, noise):
    powers = (noise, 0.0) if species == 0 else (0.0, noise)
    found = imbalance(balanced_states(40, height, width, powers))
    # 7,040 cells and more: mean squares within 4 (2 / 7,040)^(1/2) = 7 %, and 100 functions tell 1.4 % of the noise
    assert_close(found, expected_imbalance(noise, species), rtol=0.08, atol=0)


def test_the_less_balanced_species_counts():
    ways = [(0.1, 0.5), (0.5, 0.1), (0.5, 0.5)]
    found = [imbalance(balanced_states(40, 30, 60, powers)) for powers in ways]
    expected = [expected_imbalance(0.5, 1), expected_imbalance(0.5, 0), None]
    for value, known in zip(found[:2], expected, strict=False):
        assert_close(value, known, rtol=0.08, atol=0)  # see above
    # the same noise: that of both is the larger of the two
    assert_close(found[2], max(found[:2]), rtol=1e-3, atol=0)


def test_of_white_noise_a_fifth_is_not_balanced():
    x = torch.randn(40, 2, 30, 60, generator=seeded(), dtype=torch.float64)
    # lap u is the sum of 4 neighbours, of variance 4, less 4 u, of variance 16; tolerance as above
    assert_close(imbalance(x), 0.2, rtol=0.08, atol=0)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, -1.0), (0.01, 5.0), (3.0, 0.2)])
def test_the_imbalance_is_that_of_any_affine_map_of_the_states(scale, shift):
    x = balanced_states(8, 30, 60, (0.3, 0.1))
    # float64: 1e-16 of a shift that is 500 times the scale, and functions left out of the fit below 1e-13
    assert_close(imbalance(scale * x + shift), imbalance(x), rtol=1e-4, atol=0)


@pytest.mark.parametrize("split", [1, 4, 7])
def test_sums_over_parts_of_the_states_add_up_to_those_of_all(split):
    x = balanced_states(8, 30, 60, (0.3, 0.1))
    std, mean = torch.std_mean(x, dim=(0, 2, 3))
    balance = Balance(mean, std)
    parts, whole = balance.sums(x[:split]) + balance.sums(x[split:]), balance.sums(x)
    # float64 sums of 1,600 products of numbers up to 10, some of which cancel
    assert_close(parts, whole, rtol=1e-12, atol=1e-9)
    # the fit leaves out functions below 1e-13, which rounding moves
    assert_close(balance.imbalance(parts), balance.imbalance(whole), rtol=1e-4, atol=0)
    assert_close(imbalance(x), balance.imbalance(whole), rtol=1e-4, atol=0)
    assert_close(balance.sums(x[:0]), torch.zeros_like(whole), rtol=0, atol=0)


def test_the_sums_are_of_every_third_cell_in_float64():
    x = torch.rand(2, 2, 7, 10, generator=seeded())
    std, mean = torch.std_mean(x.double(), dim=(0, 2, 3))
    sums = Balance(mean, std).sums(x)
    lap = laplacian(x)[..., ::3, ::3].double()
    assert sums.dtype == torch.float64
    assert sums[0, 0] == 2 * 3 * 4  # the first function is 1
    # float64 sums of 24 numbers, of float32 Laplacians that are summed alike
    assert_close(sums[0, -2:], lap.sum(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)
    assert_close(sums[-2:, -2:].diagonal(), lap.square().sum(dim=(0, 2, 3)), rtol=1e-5, atol=0)


def test_two_balances_are_the_same_functions():
    x = torch.rand(2, 2, 9, 9, generator=seeded())
    one, two = (Balance(torch.zeros(2), torch.ones(2)).sums(x) for _ in range(2))
    assert_close(one, two, rtol=0, atol=0)


def test_a_random_pattern_is_not_static_and_a_balanced_one_is():
    assert is_static(imbalance(patterned_states(8)))
    assert not is_static(imbalance(balanced_states(8, 30, 60, (0.01, 0.0))))
    assert is_static(STATIC * 0.99)
    assert not is_static(STATIC)


@pytest.mark.parametrize(
    ("grid", "enough"), [((128, 128), 64), ((64, 64), 256), ((256, 64), 64), ((100, 100), 105), ((2048, 2048), 1)]
)
def test_enough_snapshots_have_as_many_cells_as_64_of_128_x_128(grid, enough):
    assert sufficient_snapshots(grid) == enough


@pytest.mark.parametrize(("share", "said"), [(4e-4, "2 %"), (1e-6, "0.1 %"), (2.5e-5, "0.5 %"), (0.0, "0 %")])
def test_what_does_not_move_is_called_static_whatever_its_z_scores(share, said):
    for z_rms, snapshots in ((0.5, 1), (0.5, 1000), (50.0, 1), (50.0, 1000)):
        words = verdict.verdict({"imbalance": share, "z_rms": z_rms, "nonlinear": 0.0}, snapshots, (128, 128))
        assert words == verdict.static(share)
        assert words.startswith(f"static: the velocity on the data is zero to within {said} of the diffusion")
        assert "not identifiable" in words


@pytest.mark.parametrize(("snapshots", "few"), [(63, True), (64, False), (1000, False)])
def test_a_flow_that_observables_tell_against_is_doubtful(snapshots, few):
    words = verdict.verdict({"imbalance": 0.1, "z_rms": 4.26}, snapshots, (128, 128))
    assert words.startswith("doubtful: held-out observables are not stationary under it (z-scores of rms 4.3)")
    assert ("; 64 snapshots would do" in words) == few
    assert ("the ensemble may still be changing" in words) == (not few)
    assert "what its isotropic stencil does not see" in words


@pytest.mark.parametrize(("snapshots", "few"), [(255, True), (256, False)])
@pytest.mark.parametrize("z_rms", [0.3, 1.0, 3.0])
def test_a_flow_that_nothing_tells_against_is_stationary(z_rms, snapshots, few):
    measured = {"imbalance": STATIC, "z_rms": z_rms, "direction_z": 3.0, "nonlinear": 1e-3}
    words = verdict.verdict(measured, snapshots, (64, 64))
    assert words == verdict.verdict({"imbalance": STATIC, "z_rms": z_rms}, snapshots, (64, 64))  # of older flows
    assert words.startswith("stationary from few snapshots (256 would do): " if few else "stationary: ")
    assert "up to the unit of time" in words
    assert "the one under which diffusion damps" in words


def test_a_direction_that_is_not_beyond_its_error_is_called_arbitrary():
    words = verdict.verdict({"imbalance": 0.1, "z_rms": 1.0, "direction_z": 2.9, "nonlinear": 0.5}, 256, (64, 64))
    assert words.startswith("stationary: ") and "the direction of time, which is arbitrary" in words
    assert "diffusion damps" not in words


def test_a_flow_that_is_linear_in_the_species_of_a_cell_is_called_a_symmetry():
    words = verdict.verdict({"imbalance": 0.1, "z_rms": 1.0, "direction_z": 9.0, "nonlinear": 9e-4}, 100, (64, 64))
    assert words.startswith("a symmetry from few snapshots (256 would do): it turns the species into each other")


@pytest.mark.parametrize("species", [1, 3])
def test_the_imbalance_of_other_species_and_of_windows(species):
    x = torch.randn(60, species, 20, 24, generator=torch.Generator().manual_seed(0))
    # of lap u = (sum of 4 neighbours) - 4 u, of equal variances, u tells 16 parts of 20, see above
    assert_close(imbalance(x), 0.2, rtol=0.1, atol=0)
    mask = np.zeros((20, 24), bool)
    mask[3:17, 2:20] = True
    for grid in (Grid((20, 24), edges=("open", "mirror")), Grid((20, 24), mask=Mask.of(mask))):
        told = x.clone()
        told[..., ~torch.from_numpy(grid.inside(0))] = 1e6  # what nobody knows is not looked at
        assert_close(imbalance(told, grid), 0.2, rtol=0.2, atol=0)


def test_a_species_that_is_the_same_everywhere_is_balanced():
    x = patterned_states(8)
    still = torch.cat([x, torch.full_like(x[:, :1], 0.3)], dim=1)
    assert is_static(imbalance(still))
