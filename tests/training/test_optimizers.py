"""The optimizers: each weight in one, and Muon's steps of a known size along an orthogonal matrix."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from p2d.training.optimizers import MUON_RATE, Muon, optimizers, orthogonal, set_rate

SHAPES = [(6, 20), (20, 6), (8, 8)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_orthogonal_keeps_the_singular_vectors_and_makes_their_values_alike(rows, columns):
    x = normal(3, rows, columns, seed=1)
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    turned = left.mT @ orthogonal(x) @ right.mT
    values = turned.diagonal(dim1=-2, dim2=-1)
    # an odd polynomial of the matrix: float32 rounding of numbers near 1
    assert_close(turned, torch.diag_embed(values), rtol=0, atol=1e-4)
    # Jordan et al. 2024: the quintic leaves values of 0.7 to 1.2, of those not much below 1 % of the largest
    assert values.min() > 0.6 and values.max() < 1.25


def test_orthogonal_does_not_depend_on_the_size_of_a_matrix_nor_on_the_others():
    x = normal(2, 6, 20)
    # float32 rounding of numbers below 1, through five products
    assert_close(orthogonal(1000 * x), orthogonal(x), rtol=0, atol=1e-5)
    assert_close(orthogonal(x)[1], orthogonal(x[1:])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (40, 2, 3, 3)])
def test_a_step_of_muon_has_the_size_of_its_rate_whatever_the_gradient(shape, scale):
    weight = nn.Parameter(normal(*shape))
    before, gradient = weight.detach().clone(), normal(*shape, seed=1)
    weight.grad = scale * gradient
    Muon([weight], lr=0.02, weight_decay=0.1).step()
    outputs, inputs = shape[0], weight[0].numel()
    move = orthogonal(gradient.flatten(1)[None])[0].view(shape) * 0.02 * max(1, outputs / inputs) ** 0.5
    assert_close(weight.detach(), before * (1 - 0.02 * 0.1) - move, rtol=0, atol=1e-6)


def test_weights_of_one_shape_are_stepped_as_if_alone():
    together = [nn.Parameter(normal(4, 3, 3, 3, seed=n)) for n in range(3)]
    alone = [nn.Parameter(w.detach().clone()) for w in together]
    first, others = Muon(together, 0.02, 0.0), [Muon([w], 0.02, 0.0) for w in alone]
    for step in range(3):
        for n, (a, b) in enumerate(zip(together, alone, strict=True)):
            a.grad, b.grad = (normal(4, 3, 3, 3, seed=10 * step + n) for _ in range(2))
        first.step()
        for other in others:
            other.step()
    for a, b in zip(together, alone, strict=True):
        # batched products may add in another order
        assert_close(a, b, rtol=0, atol=1e-6)


def model() -> nn.Module:
    frozen = nn.Linear(3, 3)
    frozen.requires_grad_(False)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 1), nn.Linear(5, 5), frozen)


@pytest.mark.parametrize(("kind", "shares"), [("muon", [2, 4]), ("adamw", [6])])
def test_every_trained_weight_has_one_optimizer(kind, shares):
    network = model()
    found = [[p for group in o.param_groups for p in group["params"]] for o in optimizers(network, kind, 1e-3, 0.0)]
    assert [len(part) for part in found] == shares
    trained = {id(p) for p in network.parameters() if p.requires_grad}
    assert sorted(id(p) for part in found for p in part) == sorted(trained)


def test_rates_are_shares_of_the_peaks_also_after_a_state_is_loaded():
    steppers = optimizers(model(), "muon", 1e-3, 0.0)
    set_rate(steppers, 0.25)
    for stepper in steppers:
        stepper.load_state_dict(stepper.state_dict())
    set_rate(steppers, 0.5)
    assert [stepper.param_groups[0]["lr"] for stepper in steppers] == [0.5 * MUON_RATE * 1e-3, 0.5 * 1e-3]
