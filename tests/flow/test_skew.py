"""The training-free flow: nothing along the score and no divergence, on Gaussian data, whose score is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid, Mask, laplacian
from p2d.flow import divergence
from p2d.flow.skew import SkewField, TrainingFree
from p2d.score.model import ScoreModel
from p2d.score.spectrum import Spectrum
from p2d.training.randomness import normal_like

GRIDS = [(4, 5), (3, 3), (6, 8)]
RADII = [0.0, 1.0, 1.5, 2.0, 3.0]
ALPHA = 0.8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_states(batch: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=seeded(3), dtype=dtype)


def gaussian(x: Tensor) -> Tensor:
    """-P x with a symmetric P that couples cells and species."""
    u, v = x[:, 0], x[:, 1]
    return -torch.stack([u - 0.4 * laplacian(u) + 0.3 * v, 0.5 * v - 0.2 * laplacian(v) + 0.3 * u], dim=1)


def lopsided(x: Tensor) -> Tensor:
    """-A x with an A that is not symmetric: u acts on v, and v on u the other way. No density has this score."""
    u, v = x[:, 0], x[:, 1]
    return -torch.stack([u + 0.7 * v, 0.5 * v - 0.7 * u], dim=1)


class KnownScore(nn.Module):
    """What SkewField asks of a score model, around a function of x, and alpha in its size."""

    def __init__(self, function=gaussian) -> None:
        super().__init__()
        self.function = function

    def score(self, x_a: Tensor, alpha: float) -> Tensor:
        return self.function(x_a) * alpha


def known_field(radius: float, sign: int = 1, function=gaussian) -> SkewField:
    return SkewField(KnownScore(function), ALPHA, radius, sign).double()


def modelled_field(radius: float) -> SkewField:
    """Around a score model whose network says nothing: its score is that of Gaussian fields of a spectrum."""
    power = torch.tensor([[0.5, 6.0, 1.0, 0.05], [-0.1, -3.0, -0.4, -0.01], [0.2, 3.0, 0.5, 0.02]])
    spectrum = Spectrum(torch.tensor([0.0, 0.1, 0.3, 0.8]), power, torch.tensor([0.3, -0.7]))
    return SkewField(ScoreModel((4,), (0.5, 0.99), spectrum), ALPHA, radius, 1).double()


def dense_jacobian(field, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(field, x[None]).reshape(x.numel(), x.numel())


WALLS = [
    Grid((4, 5), edges=("mirror", "open")),
    Grid((4, 4), mask=Mask.of(np.arange(16).reshape(4, 4) % 5 != 2)),
    Grid((1, 7), edges=("periodic", "mirror")),
]


@pytest.mark.parametrize("grid", [*WALLS, Grid((4, 5))])
@pytest.mark.parametrize("radius", [0.0, 1.5])
@pytest.mark.parametrize("species", [2, 3, 4])
def test_the_kernel_is_skew_at_walls_and_of_any_number_of_species(grid, radius, species):
    field = SkewField(KnownScore(lambda x: x / ALPHA), ALPHA, radius, 1, species, grid).double()
    matrix = dense_jacobian(field.at_noised, torch.zeros(species, *grid.shape, dtype=torch.float64))
    inside = torch.from_numpy(grid.inside(0)).expand(species, -1, -1).flatten()
    matrix = matrix[inside][:, inside]
    assert matrix.norm() > 0.1
    assert_close(matrix, -matrix.T, rtol=0, atol=1e-14)  # float64 sums of up to 9 weights
    blocks = matrix.view(species, len(matrix) // species, species, -1).abs().amax(dim=(1, 3)) > 0
    apart = (torch.arange(species)[:, None] - torch.arange(species)) % species
    assert torch.equal(blocks, (apart == 1) | (apart == species - 1))  # each with the next, and the one before


def test_one_species_has_nothing_to_be_turned_into():
    with pytest.raises(UserError, match="there is one species"):
        SkewField(KnownScore(), ALPHA, 0.0, 1, species=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_without_a_radius_the_kernel_turns_the_score_of_a_cell(sign):
    x = random_states(3, 4, 5)
    s = gaussian(math.sqrt(ALPHA) * x) * ALPHA
    expected = sign * torch.stack([s[:, 1], -s[:, 0]], dim=1) / math.sqrt(2)
    assert_close(known_field(0.0, sign)(x), expected, rtol=1e-7, atol=1e-7)  # the kernel is drawn up in float32


@pytest.mark.parametrize(("height", "width"), [(7, 9), (8, 8)])
@pytest.mark.parametrize("radius", RADII)
def test_the_kernel_is_a_gaussian_of_the_distance_with_the_norm_1(radius, height, width):
    field = known_field(radius, function=lambda x: x / ALPHA)
    impulse = torch.zeros(1, 2, height, width, dtype=torch.float64)
    impulse[0, 0, 3, 4] = 1.0
    u, v = field.at_noised(impulse)[0]
    assert_close(u, torch.zeros_like(u), rtol=0, atol=0)  # u does not act on u
    kernel = -v.roll((-3, -4), (0, 1))
    for row, column in itertools.product(range(-3, 4), repeat=2):
        distance = math.hypot(row, column)
        share = math.exp(-2 * (distance / radius) ** 2) if 0 < distance <= radius else float(distance == 0)
        assert_close(kernel[row, column], share * kernel[0, 0], rtol=1e-6, atol=0)  # float32 weights
    # K_uv and K_vu together
    assert_close(2 * kernel.square().sum().item(), 1.0, rtol=1e-6, atol=0)
    # and u is moved by v as v is by u, the other way
    assert_close(field.at_noised(impulse.flip(1))[0, 0], -v, rtol=0, atol=0)


@pytest.mark.parametrize("field", [known_field, modelled_field])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 8)])
@pytest.mark.parametrize("radius", RADII)
def test_nothing_moves_along_the_score(radius, height, width, field):
    subject, x = field(radius), random_states(5, height, width)
    v, s = subject.at_noised(x), subject.score.score(x, ALPHA)
    along, sizes = (v * s).sum(dim=(1, 2, 3)), (v.square().sum() * s.square().sum()).sqrt()
    assert along.abs().max() < 1e-14 * sizes  # float64 sums of up to 100 products


def test_nothing_moves_along_any_score():
    field, x = known_field(1.5, function=lopsided), random_states(5, 6, 8)
    v, s = field.at_noised(x), field.score.score(x, ALPHA)
    assert (v * s).sum(dim=(1, 2, 3)).abs().max() < 1e-14 * v.norm() * s.norm()  # float64, as above


@pytest.mark.parametrize("field", [known_field, modelled_field])
@pytest.mark.parametrize("radius", RADII)
def test_a_gaussian_has_no_divergence(radius, field):
    subject, x = field(radius), random_states(2, 4, 6)
    for state in x:
        jacobian = dense_jacobian(subject.at_noised, state)
        assert jacobian.norm() > 0.1
        assert jacobian.trace().abs() < 1e-14 * jacobian.norm() * len(jacobian) ** 0.5  # float64 sum of 48 entries


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_score_that_is_no_gradient_has_the_divergence_of_its_asymmetry(height, width):
    x = random_states(1, height, width)
    trace = dense_jacobian(known_field(0.0, function=lopsided).at_noised, x[0]).trace().item()
    # (K s)_u = s_v / 2^(1/2) changes with u by 0.7, (K s)_v = -s_u / 2^(1/2) with v by 0.7 too
    assert_close(trace, 2 * 0.7 * ALPHA / math.sqrt(2) * height * width, rtol=1e-6, atol=0)  # float32 kernel


@pytest.mark.parametrize("radius", RADII)
def test_the_sign_turns_the_flow_round(radius):
    x = random_states(3, 4, 5)
    assert_close(known_field(radius, -1)(x), -known_field(radius, 1)(x), rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_the_score_is_asked_where_noised_states_are_centred(alpha):
    x = random_states(3, 4, 5)
    field = SkewField(KnownScore(), alpha, 1.0, 1).double()
    assert_close(field(x), field.at_noised(math.sqrt(alpha) * x), rtol=0, atol=0)
    # a linear score: that of the clean state, smaller by sqrt(alpha), and alpha of the stand-in
    unit = SkewField(KnownScore(lambda x_a: gaussian(x_a) / alpha), alpha, 1.0, 1).double()
    assert_close(field(x), alpha**1.5 * unit.at_noised(x), rtol=1e-14, atol=1e-14)  # float64


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_speed_makes_the_mean_square_one(dtype, sign):
    field, x = known_field(1.5, sign).to(dtype), 3 * random_states(7, 4, 5, dtype)
    before = field(x)
    for _ in range(2):  # again changes nothing
        field.set_speed(x)
        assert_close(field(x).square().mean().item(), 1.0, rtol=1e-6, atol=0)  # float32
    assert_close(field(x), before / before.square().mean().sqrt(), rtol=1e-6, atol=1e-6)  # the same direction


def test_the_weights_of_the_score_are_kept_and_not_trained():
    field = modelled_field(1.5)
    assert {name for name, weight in field.named_parameters() if weight.requires_grad} == {"kernel"}
    assert {"kernel", "speed", "score.spectrum.power", "score.net.head.weight"} <= set(field.state_dict())


def known_task(radius: float = 1.5, probes: int = 1, function=gaussian) -> TrainingFree:
    return TrainingFree(known_field(radius, function=function), probes, seed=0)


@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_sums_of_two_halves_add_up_to_those_of_the_batch(height, width, probes):
    x, ids, task = random_states(6, height, width), [4, 9, 2, 7, 30, 1], known_task(probes=probes)
    parts = task(x[::2], ids[::2], 11) + task(x[1::2], ids[1::2], 11)
    # float64 sums of 6 samples: noise and probes belong to the ids
    assert_close(parts, task(x, ids, 11), rtol=1e-12, atol=1e-12)


def test_another_step_draws_other_noise_and_probes():
    x, task = random_states(4, 4, 5), known_task()
    first, again, later = (task(x, [0, 1, 2, 3], step) for step in (5, 5, 6))
    assert_close(first, again, rtol=0, atol=0)
    assert (first - later).abs().min() > 1e-4


def means_of_batches(task: TrainingFree, count: int = 16, size: int = 50) -> tuple[Tensor, Tensor]:
    """r1 r2 and |v|^2 of a state under many draws of noise and probes: their means over batches, [count] each."""
    x = random_states(1, 3, 4).repeat(size, 1, 1, 1)
    sums = [task(x, list(range(batch * size, (batch + 1) * size)), 0) for batch in range(count)]
    return (torch.stack(sums) / size).T


@pytest.mark.parametrize("probes", [1, 2])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_the_residual_of_a_density_is_zero_on_average(radius, probes):
    product, power = means_of_batches(known_task(radius, probes))
    assert product.mean().abs() < 4 * product.std() / len(product) ** 0.5
    assert product.std() > 0.01 * power.mean()  # the error is that of real probes


@pytest.mark.parametrize("probes", [1, 2])
def test_the_residual_of_a_score_that_is_no_gradient_is_its_squared_divergence(probes):
    task = known_task(0.0, probes, lopsided)
    product, power = means_of_batches(task)
    trace = dense_jacobian(task.model.at_noised, random_states(1, 3, 4)[0]).trace()  # linear: the same at all states
    assert (product.mean() - trace**2).abs() < 4 * product.std() / len(product) ** 0.5
    assert task.loss(torch.stack([product.sum(), power.sum()])) > 1


@pytest.mark.parametrize("probes", [1, 2])
def test_a_forward_pass_takes_divergence_and_velocity_at_the_noised_state(probes):
    # v = (sin u, -cos v) / 2^(1/2): cells do not see each other, and every probe has the divergence exactly
    task = known_task(0.0, probes, lambda x_a: torch.stack([torch.cos(x_a[:, 1]), torch.sin(x_a[:, 0])], 1) / ALPHA)
    x, ids = random_states(3, 4, 5), [4, 9, 2]
    u, v = (math.sqrt(ALPHA) * x + math.sqrt(1 - ALPHA) * normal_like(x, 0, 7, ids)).unbind(1)
    divergences = (torch.cos(u) + torch.sin(v)).sum(dim=(1, 2)) / math.sqrt(2)
    power = (torch.sin(u).square() + torch.cos(v).square()).sum() / 2
    assert_close(task(x, ids, 7), torch.stack([divergences.square().sum(), power]), rtol=1e-6, atol=0)  # float32 kernel


@pytest.mark.parametrize("split", [0, 1, 4])
@pytest.mark.parametrize("probes", [1, 2])
def test_the_held_out_residual_is_that_of_all_states_however_they_are_shared(split, probes):
    x, ids, task = random_states(6, 4, 5, torch.float32), [4, 9, 2, 7, 30, 1], known_task(probes=probes).float()
    whole = task.validate(x, ids, last=True)["continuity"]
    parts = [task.validate(x[p], ids[p], last=False)["continuity"] for p in (slice(split), slice(split, None))]
    # each state is taken alone, and added in float64
    assert_close(parts[0] + parts[1], whole, rtol=1e-12, atol=0)
    metrics = task.metrics({"continuity": whole})
    assert metrics["continuity_residual"] == metrics["validation_loss"] == (whole[0] / whole[1]).item()
    assert whole.dtype == torch.float64


def test_the_direct_divergence_of_a_model_is_what_its_probes_estimate():
    field, x = modelled_field(1.0), random_states(1, 4, 6)
    draws = 2000
    signs = torch.randint(2, (1, draws, *x.shape[1:]), generator=seeded(4)).double() * 2 - 1
    with torch.no_grad():
        estimates, _ = divergence.hutchinson(field.at_noised, x.repeat(draws, 1, 1, 1), signs)
    assert estimates.mean().abs() < 4 * estimates.std() / draws**0.5
    assert estimates.std() > 0.1
