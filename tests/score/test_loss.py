"""Denoising score matching: its closed form on Gaussian data, and that sharing a batch changes nothing."""

import pytest
import torch
from torch.testing import assert_close

from p2d.score.loss import DenoisingScoreMatching
from p2d.score.unet import ScoreModel

MEAN, STD = torch.tensor([0.3, -0.7]), torch.tensor([0.5, 0.2])
RANGE = (0.5, 0.999)


def gaussian_states(count: int, height: int, width: int) -> torch.Tensor:
    noise = torch.randn(count, 2, height, width, generator=torch.Generator().manual_seed(0))
    return MEAN.view(1, 2, 1, 1) + STD.view(1, 2, 1, 1) * noise


def silent_task(alpha: tuple[float, ...], assumed_std: torch.Tensor = STD) -> DenoisingScoreMatching:
    """The task of a model whose network says nothing: exact for Gaussian data of MEAN and `assumed_std`."""
    model = ScoreModel((4,), alpha, MEAN, assumed_std)
    torch.nn.init.zeros_(model.net.head.weight)
    torch.nn.init.zeros_(model.net.head.bias)
    return DenoisingScoreMatching(model, seed=3, augment=False)


@torch.no_grad()
def random_task(alpha: tuple[float, ...] = RANGE, augment: bool = True) -> DenoisingScoreMatching:
    """The task of a model with every weight drawn at random."""
    model = ScoreModel((6, 8), alpha, MEAN, STD)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) / max(1, weight[0].numel()) ** 0.5)
    return DenoisingScoreMatching(model, seed=3, augment=augment)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 40)])
@pytest.mark.parametrize("alpha", [(0.2,), (0.8,), (0.99,), RANGE])
@torch.no_grad()
def test_the_exact_network_has_loss_one_at_every_level(alpha, height, width):
    count = 32768 // (height * width)
    task = silent_task(alpha)
    loss = task.loss(task(gaussian_states(count, height, width), list(range(count)), 0))
    # E target^2 = posterior variance / c_out^2 = 1; the mean of 65,536 squared normals is within 0.0055 (1 sd) of it
    assert_close(loss, torch.tensor(1.0), rtol=0, atol=0.022)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.5, 0.8])
@torch.no_grad()
def test_a_network_exact_for_another_spread_has_the_loss_of_its_closed_form(alpha, factor):
    task = silent_task((alpha,), factor * STD)
    loss = task.loss(task(gaussian_states(128, 16, 16), list(range(128)), 0))
    noise, assumed = (1 - alpha) / alpha, (factor * STD) ** 2
    skip, out = assumed / (assumed + noise), noise * assumed / (assumed + noise)
    expected = (((1 - skip) ** 2 * STD**2 + skip**2 * noise) / out).mean()
    # squared normals: a relative sd of sqrt(2 / 32,768) = 0.008 for each species
    assert_close(loss, expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 0.8, 0.99])
def test_the_validation_loss_of_the_exact_network_is_the_posterior_variance_of_the_noise(alpha):
    task = silent_task((alpha,))
    totals = task.validate(gaussian_states(64, 16, 16), list(range(64)), last=True)
    expected = (alpha * STD**2 / (alpha * STD**2 + 1 - alpha)).mean().item()
    metrics = task.metrics(totals)
    # squared normals: a relative sd of sqrt(2 / 16,384) = 0.011 for each species
    assert_close(metrics["validation_loss"], expected, rtol=0.04, atol=0)
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
    # float32 sums of a thousand squares, added in another order
    assert_close(shared, whole, rtol=1e-5, atol=0)
    assert whole[1] == x.numel()


@torch.no_grad()
def test_each_step_and_each_sample_has_its_own_noise():
    task, x = random_task(augment=False), gaussian_states(1, 8, 8)
    errors = [task(x, [sample], step)[0].item() for sample in (0, 1, 2) for step in (0, 1, 2)]
    assert len(set(errors)) == 9
    assert [task(x, [sample], step)[0].item() for sample in (0, 1, 2) for step in (0, 1, 2)] == errors


@pytest.mark.parametrize("parts", [([0, 1], [2, 3, 4]), ([0, 2, 4], [1, 3]), ([4, 3, 2, 1, 0], [])])
def test_validation_does_not_depend_on_how_samples_are_shared(parts):
    task, x = random_task(), gaussian_states(5, 8, 12)
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
