"""The local field: symmetries, locality, exact linear fields, units, and what is kept on disk."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.checkpoint import write_checkpoint
from p2d.config import FlowConfig
from p2d.dynamics.gray_scott import laplacian
from p2d.errors import UserError
from p2d.flow.velocity import Flow, LocalField, corners, feature_statistics, stencil

GRIDS = [(8, 8), (6, 11), (9, 5)]
CORNERS = [False, True]
# Two layers in float64 of numbers up to about 100, summed in an order that may depend on a cell's place.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_field(with_corners: bool, hidden: tuple[int, ...] = (9, 5)) -> LocalField:
    """A field in float64 whose features are standardised by numbers far from 0 and 1."""
    features = 6 if with_corners else 4
    mean = torch.randn(features, generator=seeded(1))
    std = 0.3 + torch.rand(features, generator=seeded(2))
    return LocalField(hidden, with_corners, mean, std, seeded()).double()


def random_states(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=seeded(3), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (3, -5)])
def test_shifts_commute_with_the_field(height, width, with_corners, shift):
    field, x = random_field(with_corners), random_states(2, height, width)
    assert_close(field(x.roll(shift, (-2, -1))), field(x).roll(shift, (-2, -1)), **ROUNDING)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_commute_with_the_field(height, width, with_corners, turns):
    field, x = random_field(with_corners), random_states(2, height, width)
    assert_close(field(x.rot90(turns, (-2, -1))), field(x).rot90(turns, (-2, -1)), **ROUNDING)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize("axis", [-2, -1])
def test_mirror_images_commute_with_the_field(height, width, with_corners, axis):
    field, x = random_field(with_corners), random_states(2, height, width)
    assert_close(field(x.flip(axis)), field(x).flip(axis), **ROUNDING)


@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize(("row", "column"), [(3, 4), (0, 0), (5, 10)])
@pytest.mark.parametrize("species", [0, 1])
def test_a_cell_acts_on_its_own_neighbourhood_and_no_further(with_corners, row, column, species):
    field, x = random_field(with_corners), random_states(1, 6, 11)
    moved = x.clone()
    moved[0, species, row, column] += 0.5
    felt = torch.zeros(6, 11, dtype=torch.bool)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            felt[(row + down) % 6, (column + right) % 11] = with_corners or down * right == 0
    change = (field(moved) - field(x))[0].abs().amax(dim=0)
    assert change[felt].min() > 1e-4
    assert change[~felt].max() < 1e-12  # float64 rounding


@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 9), (10, 6)])
def test_inside_a_crop_the_field_is_that_of_the_whole(with_corners, height, width):
    field, x = random_field(with_corners), random_states(2, 12, 13)
    inside = field(x)[..., 2:height, 3 : 1 + width]
    assert_close(field(x[..., 1 : 1 + height, 2 : 2 + width])[..., 1:-1, 1:-1], inside, **ROUNDING)


@pytest.mark.parametrize("with_corners", CORNERS)
def test_a_state_has_the_same_velocity_alone_and_in_a_batch(with_corners):
    field, x = random_field(with_corners), random_states(3, 6, 11)
    assert_close(torch.cat([field(state) for state in x.split(1)]), field(x), **ROUNDING)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
def test_a_last_layer_set_by_hand_is_linear_reaction_and_diffusion(height, width, with_corners):
    field, x = random_field(with_corners), random_states(2, height, width)
    # du/dt = 0.02 - 0.3 u + 0.1 v + 0.16 lap u, dv/dt = -0.4 u + 0.05 v + 0.08 lap v
    constant = torch.tensor([0.02, 0.0], dtype=torch.float64)
    linear = torch.zeros(2, len(field.mean), dtype=torch.float64)
    linear[0, :4] = torch.tensor([-0.3, 0.1, 0.16, 0.0])
    linear[1, :4] = torch.tensor([-0.4, 0.05, 0.0, 0.08])
    with torch.no_grad():
        field.last.zero_()
        field.last[:, 0] = constant + linear @ field.mean
        field.last[:, 1 : 1 + len(field.mean)] = linear * field.std
    u, v = x[:, 0], x[:, 1]
    du = 0.02 - 0.3 * u + 0.1 * v + 0.16 * laplacian(u)
    dv = -0.4 * u + 0.05 * v + 0.08 * laplacian(v)
    # the numbers above pass through float32 once: 6e-8 of terms up to 2
    assert_close(field(x), torch.stack([du, dv], dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize(("ky", "kx"), [(0, 0), (1, 0), (2, 3)])
def test_a_fourier_mode_is_an_eigenvector_of_edges_and_corners(height, width, ky, kx):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    down, right = 2 * math.pi * ky / height, 2 * math.pi * kx / width
    mode = torch.cos(down * rows.double() + right * columns.double() + 0.3).expand(1, 2, height, width)
    edge_sum = 2 * math.cos(down) + 2 * math.cos(right) - 4
    corner_sum = 4 * math.cos(down) * math.cos(right) - 4
    expected = torch.cat([mode, edge_sum * mode, corner_sum * mode], dim=1)
    # float64: nine terms of order 1, the cosines within 1e-14 of their angles
    assert_close(stencil(mode, with_corners=True), expected, rtol=0, atol=1e-13)
    assert_close(corners(mode), corner_sum * mode, rtol=0, atol=1e-13)


@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize(("count", "height", "width"), [(37, 6, 11), (5, 8, 8)])
def test_features_are_standardised_by_the_statistics_of_their_data(with_corners, count, height, width):
    x = (0.4 + 0.1 * random_states(count, height, width)).float()
    mean, std = feature_statistics(x, with_corners)
    z = LocalField((3,), with_corners, mean, std, seeded()).standardised(x)
    # float32 features: 1e-7 of a mean of 4 spreads, and sums of 300 to 2,400 of them
    assert_close(z.mean(dim=(0, 2)), torch.zeros(len(mean)), rtol=0, atol=1e-5)
    assert_close(z.square().mean(dim=(0, 2)), torch.ones(len(mean)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, -1.0), (1.0, 0.0), (0.5, 3.0)])
@pytest.mark.parametrize("with_corners", CORNERS)
def test_a_flow_moves_concentrations_as_its_field_moves_training_coordinates(scale, shift, with_corners):
    field = random_field(with_corners)
    c = random_states(2, 6, 11)
    x = scale * c + shift
    moved = scale * (c + 0.1 * Flow(field, {"scale": scale, "shift": shift})(c)) + shift
    assert_close(moved, x + 0.1 * field(x), **ROUNDING)


@pytest.mark.parametrize(("hidden", "with_corners"), [((7,), False), ((5, 3), True)])
def test_a_flow_comes_back_from_its_checkpoint(tmp_path, hidden, with_corners):
    settings = FlowConfig(hidden=hidden, corners=with_corners).identity()
    affine = {"scale": 2.0, "shift": -1.0}
    field = random_field(with_corners, hidden).float()
    write_checkpoint(
        tmp_path / "flow", {"kind": "flow", "settings": settings, "data": {"affine": affine}}, field.state_dict()
    )
    c = random_states(2, 6, 11).float()
    assert_close(Flow.load(tmp_path / "flow")(c), Flow(field, affine)(c), rtol=0, atol=0)


def test_loading_a_flow_where_there_is_none_names_the_folder(tmp_path):
    with pytest.raises(UserError, match=r"no flow model in .*nowhere.*train-flow"):
        Flow.load(tmp_path / "nowhere")


def test_loading_a_score_model_as_a_flow_is_refused(tmp_path):
    write_checkpoint(tmp_path / "score", {"kind": "score", "settings": {}, "data": {}}, {"w": torch.zeros(1)})
    with pytest.raises(UserError, match="holds a score, not a flow model"):
        Flow.load(tmp_path / "score")


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 3, 8, 8), (1, 1, 2, 8, 8), (2, 8)])
def test_a_shape_that_is_not_a_batch_of_states_is_refused(shape):
    with pytest.raises(UserError, match=str(list(shape)).replace("[", r"\[").replace("]", r"\]")):
        random_field(False)(torch.zeros(shape, dtype=torch.float64))


def test_weights_depend_on_the_generator_alone():
    x = random_states(1, 6, 11).float()
    first, same, other = (LocalField((8,), generator=seeded(s))(x) for s in (4, 4, 5))
    assert_close(first, same, rtol=0, atol=0)
    assert (first - other).abs().mean() > 0.1
