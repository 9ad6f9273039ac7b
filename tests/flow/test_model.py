"""The flow on concentrations: its units, and what comes back from checkpoints of all objectives."""

import json
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.config import FlowConfig
from p2d.errors import UserError
from p2d.fields import Scaling
from p2d.flow.model import Flow, field_options, skew_field
from p2d.flow.skew import SkewField
from p2d.flow.velocity import PERIODIC, LocalField, rings
from p2d.score.model import ScoreModel
from p2d.score.spectrum import Spectrum
from p2d.systems.reading import load_system
from p2d.training.checkpoint import write_checkpoint

AFFINES = [
    {"scale": 2.0, "shift": -1.0},
    {"scale": 1.0, "shift": 0.0},
    {"scale": 0.5, "shift": 3.0},
]  # x = scale c + shift
SCORES = [
    {"channels": [4], "alpha": [0.5, 0.99], "sampling": 0.25},
    {"channels": [6, 4], "alpha": [0.7], "sampling": 0.0},
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_states(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 2, height, width, generator=seeded(3))


def random_field(settings: FlowConfig) -> LocalField:
    """A field whose features are standardised by numbers far from 0 and 1."""
    features = 2 + 2 * len(rings(settings.radius))
    mean = torch.randn(features, generator=seeded(1))
    std = 0.3 + torch.rand(features, generator=seeded(2))
    return LocalField(**field_options(settings), mean=mean, std=std, generator=seeded())


@torch.no_grad()
def random_score(settings: dict) -> ScoreModel:
    """A score model of every weight drawn anew, and of a spectrum of five knots."""
    power = torch.tensor([[0.5, 6.0, 1.0, 0.05, 0.01], [-0.1, -3.0, -0.4, -0.01, 0.0], [0.2, 3.0, 0.5, 0.02, 0.01]])
    spectrum = Spectrum(torch.tensor([0.0, 0.1, 0.2, 0.5, 0.8]), power, torch.tensor([0.3, -0.7]))
    model = ScoreModel(tuple(settings["channels"]), tuple(settings["alpha"]), spectrum)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=seeded(5)) / max(1, weight[0].numel()) ** 0.5)
    return model


def saved(folder, settings: FlowConfig, affine: dict, weights: dict[str, Tensor], **more):
    """The folder of a checkpoint as a training leaves it."""
    config = {"kind": "flow", "settings": settings.identity(), "data": {"affine": affine}, **more}
    write_checkpoint(folder / "flow", config, weights)
    return folder / "flow"


def moved(field, affine: dict, c: Tensor) -> Tensor:
    """The velocity of concentrations that a field of training coordinates gives."""
    scaling = Scaling.from_dict(affine)
    return scaling.velocity_to_values(field(scaling.to_training(c)))


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0])
def test_a_flow_moves_concentrations_as_its_field_moves_training_coordinates(affine, radius):
    field, c = random_field(FlowConfig(radius=radius)).double(), random_states(2, 6, 11).double()
    scale, shift = affine["scale"], affine["shift"]
    moved = scale * (c + 0.1 * Flow(field, Scaling.from_dict(affine))(c)) + shift
    # float64 sums of numbers of order 10
    assert_close(moved, scale * c + shift + 0.1 * field(scale * c + shift), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize(
    "settings",
    [
        FlowConfig(hidden=(7,)),
        FlowConfig(hidden=(5, 3), radius=1.5, activation="relu"),
        FlowConfig(hidden=(4,), radius=2.0, activation="softplus", epochs=0, observables=48),
    ],
)
def test_a_flow_of_stationarity_comes_back(tmp_path, settings, affine):
    field, c = random_field(settings), random_states(2, 6, 11)
    # it is trained, and saved, in float64
    found = Flow.load(saved(tmp_path, settings, affine, random_field(settings).double().state_dict()))
    assert_close(found(c), moved(field, affine, c), rtol=0, atol=0)
    assert found.alpha is None


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize(
    "settings",
    [
        FlowConfig(objective="continuity", hidden=(7,), alpha=0.9),
        FlowConfig(objective="continuity", hidden=(5, 3), radius=1.5, activation="tanh", divergence="hutchinson"),
    ],
)
def test_a_flow_of_continuity_comes_back(tmp_path, settings, affine):
    field, c = random_field(settings), random_states(2, 6, 11)
    found = Flow.load(saved(tmp_path, settings, affine, field.state_dict()))
    assert_close(found(c), moved(field, affine, c), rtol=0, atol=0)
    assert found.alpha == settings.alpha


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("score", SCORES, ids=["range", "one level"])
@pytest.mark.parametrize(("kernel_radius", "sign"), [(0.0, "+"), (1.5, "-"), (3.0, "+")])
def test_a_training_free_flow_comes_back_with_its_score_model(tmp_path, kernel_radius, sign, score, affine):
    settings = FlowConfig(objective="training-free", alpha=0.7, kernel_radius=kernel_radius, sign=sign)
    field, c = SkewField(random_score(score), 0.7, kernel_radius, 1 if sign == "+" else -1), random_states(2, 8, 12)
    field.set_speed(affine["scale"] * c + affine["shift"])
    found = Flow.load(saved(tmp_path, settings, affine, field.state_dict(), score=score))
    assert_close(found(c), moved(field, affine, c), rtol=0, atol=0)
    assert_close((affine["scale"] * found(c)).square().mean().item(), 1.0, rtol=1e-5, atol=0)  # float32 sums
    assert found.alpha == 0.7


@pytest.mark.parametrize(("sign", "turned"), [("+", 1), ("-", -1)])
def test_of_a_training_free_flow_the_sign_says_where_u_goes(sign, turned):
    settings = FlowConfig(objective="training-free", alpha=0.7, sign=sign)
    field, x = skew_field(settings, random_score(SCORES[0]), 2, PERIODIC), random_states(2, 8, 12)
    s = field.score.score(math.sqrt(0.7) * x, 0.7)
    assert_close(field(x)[:, 0], turned * s[:, 1] / math.sqrt(2), rtol=1e-6, atol=1e-6)  # float32


@pytest.mark.parametrize("objective", ["stationarity", "training-free"])
def test_a_loaded_flow_is_in_evaluation_mode_on_the_cpu(tmp_path, objective):
    settings = FlowConfig(objective=objective, hidden=(4,))
    if objective == "stationarity":
        field, more = random_field(settings), {}
    else:
        field, more = skew_field(settings, random_score(SCORES[0]), 2, PERIODIC), {"score": SCORES[0]}
    found = Flow.load(saved(tmp_path, settings, AFFINES[0], field.state_dict(), **more))
    assert not any(module.training for module in found.modules())
    assert {weight.device.type for weight in found.state_dict().values()} == {"cpu"}
    assert {weight.dtype for weight in found.state_dict().values()} == {torch.float32}


def test_a_flow_with_only_the_settings_that_differ_from_the_defaults_comes_back(tmp_path):
    field, c = random_field(FlowConfig(hidden=(7,))), random_states(2, 6, 11)
    config = {"kind": "flow", "settings": {"hidden": [7]}, "data": {"affine": AFFINES[1]}}
    write_checkpoint(tmp_path / "flow", config, field.state_dict())
    assert_close(Flow.load(tmp_path / "flow")(c), field(c), rtol=0, atol=0)


def test_loading_a_flow_where_there_is_none_names_the_folder(tmp_path):
    with pytest.raises(UserError, match=r"no flow model in .*nowhere.*train-flow"):
        Flow.load(tmp_path / "nowhere")


def test_loading_a_score_model_as_a_flow_is_refused(tmp_path):
    write_checkpoint(tmp_path / "score", {"kind": "score", "settings": {}, "data": {}}, {"w": torch.zeros(1)})
    with pytest.raises(UserError, match="holds a score, not a flow model"):
        Flow.load(tmp_path / "score")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("corners", True, "unknown setting 'corners'.*FlowConfig"),  # of flows before there was a radius
        ("objective", "stationary", "unknown objective 'stationary'.*did you mean 'stationarity'"),
        ("radius", 0.5, "radius = 0.5 is not possible"),
    ],
)
def test_settings_that_are_not_those_of_a_flow_are_refused(tmp_path, key, value, told):
    folder = saved(tmp_path, FlowConfig(hidden=(4,)), AFFINES[0], random_field(FlowConfig(hidden=(4,))).state_dict())
    config = json.loads((folder / "config.json").read_text())
    config["settings"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=told):
        Flow.load(folder)


def test_weights_that_are_cut_are_refused(tmp_path):
    folder = saved(tmp_path, FlowConfig(hidden=(4,)), AFFINES[0], random_field(FlowConfig(hidden=(4,))).state_dict())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read.*train the flow again"):
        Flow.load(folder)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 11)])
def test_an_equation_is_a_flow_in_the_unit_of_time_of_flows(height, width):
    c, waves = random_states(5, height, width).double(), load_system("gray_scott").at("waves")
    flow = Flow.of_system(waves, c, Scaling((0.5, 0.5), (0.5, 0.5)))
    velocity = flow.field(2 * c - 1)
    # float64 sums; the mean square in training coordinates is that of trained flows
    assert_close(velocity.square().mean(), torch.tensor(1.0, dtype=torch.float64), rtol=1e-12, atol=0)
    ratio = flow(c) / waves.rate(c)
    assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-9, atol=0)
    assert ratio.mean() > 0


@pytest.mark.parametrize(("objective", "level"), [("stationarity", ""), ("continuity", ", alpha 0.7")])
def test_a_flow_says_in_one_line_what_it_is(tmp_path, objective, level):
    settings = FlowConfig(objective=objective, hidden=(4,), alpha=0.7)
    field = random_field(settings)
    weights = 4 * 4 + 4 + 2 * (1 + 4 + 4)  # hidden layer, and the last over a constant, features and units
    assert str(Flow(field, AFFINES[0])) == f"Flow: not loaded from a checkpoint, {weights} weights"
    folder = saved(tmp_path, settings, AFFINES[0], field.state_dict(), learnt_from={"dataset": "waves_64x64"})
    assert repr(Flow.load(folder)) == f"Flow: {objective}, trained on waves_64x64{level}, {weights} weights"
