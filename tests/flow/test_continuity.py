"""The continuity objective on Gaussian data, whose score, residuals and skew flows are known in closed form."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.fields import laplacian
from p2d.flow import divergence
from p2d.flow.continuity import DIRECTION_STATES, Continuity
from p2d.flow.velocity import LocalField
from p2d.training.randomness import sample_generator
from p2d.training.states import MemoryData
from p2d.training.workers import Workers

GRIDS = [(4, 5), (3, 3), (6, 8)]
# Precision of the Gaussian: P x = (u - 0.4 lap u, 0.5 v - 0.2 lap v), and s = -P x.
OF_U, OF_V = (1.0, -0.4), (0.5, -0.2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_score(x: Tensor, alpha: float) -> Tensor:
    u, v = x[:, 0], x[:, 1]
    return -torch.stack([OF_U[0] * u + OF_U[1] * laplacian(u), OF_V[0] * v + OF_V[1] * laplacian(v)], dim=1)


def known_score(function=gaussian_score) -> SimpleNamespace:
    """What Continuity asks of a score model, around a function of x and alpha."""
    stand_in = SimpleNamespace(score=function, augment=True)
    stand_in.requires_grad_ = lambda on: stand_in
    stand_in.to = lambda device: stand_in
    return stand_in


def linear_field(weights: list[list[float]]) -> LocalField:
    """v = weights @ (u, v, lap u, lap v), in float64."""
    field = LocalField((3,), generator=seeded()).double()
    with torch.no_grad():
        field.last.zero_()
        field.last[:, 1:5] = torch.tensor(weights, dtype=torch.float64)
    return field


def skew_field() -> LocalField:
    """v = (s_v, -s_u): preserves the Gaussian exactly."""
    return linear_field([[0, -OF_V[0], 0, -OF_V[1]], [OF_U[0], 0, OF_U[1], 0]])


def gradient_field() -> LocalField:
    """v = s = grad log p: moves all mass to the top."""
    return linear_field([[-OF_U[0], 0, -OF_U[1], 0], [0, -OF_V[0], 0, -OF_V[1]]])


def task(field: LocalField, probes: int = 0, sym: float = 0.0, weight: float = 0.0, score=gaussian_score) -> Continuity:
    return Continuity(field, known_score(score), alpha=0.8, gaussian_weight=weight, sym=sym, probes=probes, seed=0)


def random_states(batch: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=seeded(3), dtype=dtype)


def generators(count: int) -> list[torch.Generator]:
    return [seeded(100 + i) for i in range(count)]


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_skew_flow_of_a_gaussian_has_no_residual(height, width):
    x = random_states(5, height, width)
    r1, r2, _, _ = task(skew_field()).residuals(x, generators(5))
    # weights pass through float32 (6e-8), and v . s is a difference of sums of up to 100 products of order 10
    assert_close(r1, torch.zeros_like(r1), rtol=0, atol=1e-4)
    assert_close(r2, r1, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_gradient_flow_of_a_gaussian_has_the_residual_of_its_closed_form(height, width):
    x = random_states(5, height, width)
    r1, r2, _, _ = task(gradient_field()).residuals(x, generators(5))
    # div s = -trace P, with 1 and -4 on the diagonals of identity and Laplacian; v . s = |s|^2
    trace = height * width * (OF_U[0] - 4 * OF_U[1] + OF_V[0] - 4 * OF_V[1])
    expected = gaussian_score(x, 0.8).square().sum(dim=(1, 2, 3)) - trace
    assert_close(r1, expected, rtol=1e-6, atol=1e-4)  # weights pass through float32
    assert_close(r2, expected, rtol=1e-6, atol=1e-4)
    assert r1.abs().min() > 1


@pytest.mark.parametrize("probes", [0, 2])
def test_the_probes_of_a_skew_flow_leave_no_residual_on_average(probes):
    draws = 4000
    x = random_states(1, 3, 4).repeat(draws, 1, 1, 1)
    r1, r2, _, _ = task(skew_field(), probes).residuals(x, generators(draws))
    for r in (r1, r2):
        assert r.mean().abs() <= 4 * r.std() / draws**0.5 + 1e-4  # rounding where there are no probes


@pytest.mark.parametrize("probes", [1, 2])
@pytest.mark.parametrize("field", [gradient_field, skew_field])
def test_the_product_of_two_residuals_is_unbiased_and_a_square_is_not(probes, field):
    draws = 6000
    x = random_states(1, 3, 4).repeat(draws, 1, 1, 1)
    r_squared = task(field()).residuals(x[:1], [])[0].square().item()
    r1, r2, _, _ = task(field(), probes).residuals(x, generators(draws))
    product, square = r1 * r2, r1 * r1
    assert abs(product.mean() - r_squared) < 4 * product.std() / draws**0.5
    error = square.std() / draws**0.5
    assert square.mean() - r_squared > 4 * error
    # what is too much is the variance of one estimate, half of that of the difference of two
    assert abs(square.mean() - r_squared - (r1 - r2).var() / 2) < 4 * error


@pytest.mark.parametrize("probes", [1, 3])
def test_the_two_probe_sets_are_independent(probes):
    draws = 6000
    x = random_states(1, 3, 4).repeat(draws, 1, 1, 1)
    r1, r2, _, _ = task(gradient_field(), probes).residuals(x, generators(draws))
    assert torch.corrcoef(torch.stack([r1, r2]))[0, 1].abs() < 4 / draws**0.5


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_gaussian_weight_pulls_the_score_to_the_origin(weight):
    x = random_states(2, 4, 5)
    _, _, _, s = task(skew_field(), weight=weight).residuals(x, generators(2))
    assert_close(s, gaussian_score(x, 0.8) - weight * x, rtol=0, atol=0)


def test_the_score_is_asked_at_the_signal_level_of_the_task():
    x = random_states(2, 4, 5)
    _, _, _, s = task(skew_field(), score=lambda x, alpha: x * alpha).residuals(x, generators(2))
    assert_close(s, 0.8 * x, rtol=0, atol=0)


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("activation", ["silu", "tanh", "softplus"])
def test_probes_estimate_the_residual_of_any_field(radius, activation):
    field = LocalField((6,), radius, activation, generator=seeded(7)).double()
    draws, x = 2000, random_states(1, 3, 4)
    truth = task(field).residuals(x, [])[0].item()
    estimates = torch.cat(task(field, probes=1).residuals(x.repeat(draws, 1, 1, 1), generators(draws))[:2])
    # two independent sets of probes
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / (2 * draws) ** 0.5
    assert estimates.std() > 0.1


def data_of(x: Tensor) -> MemoryData:
    return MemoryData(x, torch.arange(len(x)), x[:0], torch.arange(0))


@pytest.mark.parametrize("sign", [1, -1])
def test_after_an_epoch_the_field_is_the_one_under_which_diffusion_damps(sign):
    field, damping = gradient_field(), gradient_field()
    with torch.no_grad():
        field.last.mul_(sign)
    subject, data = task(field), data_of(random_states(5, 4, 5, torch.float32))
    for _ in range(2):
        subject.after_epoch(data, Workers())
        assert_close(field.last, damping.last, rtol=0, atol=0)


@pytest.mark.parametrize(("count", "spread"), [(20, 1), (DIRECTION_STATES, 1), (DIRECTION_STATES + 1, 2), (100, 4)])
def test_the_direction_is_taken_from_states_that_are_evenly_spread_and_shared(monkeypatch, count, spread):
    seen = []
    monkeypatch.setattr(divergence, "choose_direction", lambda field, x, workers: seen.append(x))
    x = random_states(count, 3, 4, torch.float32)
    subject = task(gradient_field())
    for rank in range(2):
        subject.after_epoch(data_of(x), Workers(rank, 2))
        places = range(count)[::spread][rank::2]
        noised = subject._noised(x[::spread][rank::2], [sample_generator(0, -1, i) for i in places])
        assert_close(seen[rank], noised, rtol=0, atol=0)


def sums_of(probes: int, sym: float, x: Tensor, ids: list[int]) -> Tensor:
    """Sums over a batch with a field of random weights."""
    return task(LocalField((6,), generator=seeded(7)), probes, sym)(x, ids, step=11)


@pytest.mark.parametrize("probes", [0, 1, 3])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_sums_of_two_halves_add_up_to_those_of_the_batch(probes, height, width):
    x, ids = random_states(6, height, width, torch.float32), [4, 9, 2, 7, 30, 1]
    parts = sums_of(probes, 0.5, x[::2], ids[::2]) + sums_of(probes, 0.5, x[1::2], ids[1::2])
    # float32 sums of 6 samples whose entries have been summed alike: noise and probes belong to the ids
    assert_close(parts, sums_of(probes, 0.5, x, ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("probes", [0, 1])
def test_another_step_draws_other_noise(probes):
    x = random_states(4, 4, 5, torch.float32)
    subject = task(LocalField((6,), generator=seeded(7)), probes)
    first, again, later = (subject(x, [0, 1, 2, 3], step) for step in (5, 5, 6))
    assert_close(first, again, rtol=0, atol=0)
    assert (first[:4] - later[:4]).abs().min() > 1e-4


@pytest.mark.parametrize("sym", [0.0, 0.7])
def test_the_loss_is_its_formula(sym):
    rng = seeded(8)
    r1, r2 = torch.randn(2, 5, generator=rng, dtype=torch.float64)
    v, s = torch.randn(2, 5, 2, 4, 6, generator=rng, dtype=torch.float64)
    n = 2 * 4 * 6
    power = v.square().sum(dim=(1, 2, 3))
    along = (v * s).sum(dim=(1, 2, 3))
    cosine = along / (v.flatten(1).norm(dim=1) * s.flatten(1).norm(dim=1))
    expected = (
        (r1 * r2).mean() / power.mean()
        + (power.mean() / n - 1) ** 2
        + 1e-3 * along.mean() ** 2 / power.mean()
        + sym * cosine.square().mean()
    )
    sums = [(r1 * r2).sum(), power.sum(), along.sum(), cosine.square().sum(), torch.tensor(5.0), torch.tensor(5.0 * n)]
    # float64 sums of 48 numbers of order 1
    assert_close(
        task(skew_field(), sym=sym).loss(torch.stack([x.double() for x in sums])), expected, rtol=1e-13, atol=0
    )


@pytest.mark.parametrize("sym", [0.0, 0.7])
def test_a_forward_pass_sums_what_the_loss_is_made_of(sym):
    # A field and a score that do not depend on the state: noise and augmentation change nothing.
    field = linear_field([[0.0] * 4] * 2).float()
    with torch.no_grad():
        field.last[:, 0] = torch.tensor([3.0, -1.0])
    score = torch.tensor([0.5, 2.0]).view(1, 2, 1, 1)
    subject = task(field, sym=sym, score=lambda x, alpha: score.expand_as(x))
    sums = subject(random_states(3, 4, 5, torch.float32), [0, 1, 2], step=0)
    cells, along = 20, 3 * 0.5 - 1 * 2
    power = 3**2 + 1**2
    squared_cosine = along**2 / (power * (0.5**2 + 2**2))
    # divergence 0, so that r = v . s
    expected = [3 * (along * cells) ** 2, 3 * power * cells, 3 * along * cells, 3 * squared_cosine, 3, 3 * 2 * cells]
    assert_close(sums, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=0)  # float32


def test_the_score_model_is_neither_trained_nor_saved_with_the_flow():
    score = torch.nn.Linear(2, 2)
    subject = Continuity(skew_field(), score, alpha=0.8, gaussian_weight=0, sym=0, probes=0, seed=0)
    assert {name.split(".")[0] for name in subject.state_dict()} == {"model"}
    assert not any(weight.requires_grad for weight in score.parameters())


@pytest.mark.parametrize("probes", [0, 2])
def test_the_held_out_residual_is_that_of_all_states_however_they_are_shared(probes):
    x, ids = random_states(6, 4, 5, torch.float32), [4, 9, 2, 7, 30, 1]
    subject = task(LocalField((6,), generator=seeded(7)), probes)
    whole = subject.validate(x, ids, last=True)["continuity"]
    parts = [subject.validate(x[i::2], ids[i::2], last=True)["continuity"] for i in range(2)]
    # each state is taken alone, and added in float64
    assert_close(parts[0] + parts[1], whole, rtol=1e-12, atol=0)
    metrics = subject.metrics({"continuity": whole})
    assert metrics["continuity_residual"] == metrics["validation_loss"] == (whole[0] / whole[1]).item()


def test_the_held_out_residual_tells_a_skew_flow_from_a_gradient_flow():
    x = random_states(6, 4, 5, torch.float32)
    residuals = [
        subject.metrics(subject.validate(x, list(range(6)), last=True))["continuity_residual"]
        for subject in (task(skew_field().float()), task(gradient_field().float()))
    ]
    assert residuals[0] < 1e-9 < 1e-1 < residuals[1]  # float32 rounding of v . s, squared
