"""Patterns, fields that are a known system's rate, and datasets and checkpoints made of them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from p2d.config import FlowConfig, FlowSource, ScoreConfig, TrainSource
from p2d.fields import Grid, Scaling, Species
from p2d.flow.velocity import LocalField, feature_statistics
from p2d.score.model import ScoreModel
from p2d.score.spectrum import Spectrum
from p2d.snapshots import made as derived
from p2d.snapshots.card import Card
from p2d.snapshots.schema import Labels
from p2d.snapshots.store import Dataset
from p2d.systems.system import System
from p2d.training.checkpoint import write_checkpoint
from p2d.training.job import TrainJob

AFFINE = {"scale": 2.0, "shift": -1.0}
SCALING = Scaling.from_dict(AFFINE)
CONCENTRATIONS = (Species("u"), Species("v"))
HIDDEN = (48,)


def patterns(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random fields, float32 [N, 2, H, W] in [0, 1], whose species go together as those of patterns do."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    smoothing = np.exp(-2 * (3 * np.pi) ** 2 * (rows**2 + columns**2))
    noise = rng.standard_normal((count, 2, height, width))
    noise[:, 1] -= noise[:, 0]
    fields = np.fft.ifft2(np.fft.fft2(noise) * smoothing).real
    fields /= 2 * fields.std(axis=(0, 2, 3), keepdims=True)
    return (0.5 + 0.3 * np.tanh(fields)).astype(np.float32)


def waves_at_rest(count: int, height: int, width: int) -> np.ndarray:
    """Plane waves of one wavelength, float32 [N, 2, H, W]: their Laplacian is a function of u and v."""
    phases = np.random.default_rng(0).random((count, 2, 1, 1)) * 2 * np.pi
    columns = np.arange(width) / width * np.ones((height, 1))
    return (0.5 + 0.3 * np.cos(2 * np.pi * 3 * columns + phases)).astype(np.float32)


@torch.no_grad()
def linear_field(constant: list[float], weights: list[list[float]]) -> LocalField:
    """v(x) = constant + weights @ (u, v, lap u, lap v) of x."""
    field = LocalField(HIDDEN, generator=torch.Generator().manual_seed(0))
    field.last.zero_()
    field.last[:, 0] = torch.tensor(constant)
    field.last[:, 1:5] = torch.tensor(weights)
    return field


@torch.no_grad()
def field_of(system: System, states: np.ndarray) -> LocalField:
    """The field of random hidden units that is nearest to a system's rate at these states, in unit mean square."""
    x, truth = as_seen(states), torch.from_numpy(system.rate(states.astype(np.float64)))
    mean, std = feature_statistics(x)
    field = LocalField(HIDDEN, mean=mean, std=std, generator=torch.Generator().manual_seed(0)).double()
    columns, rates = (f.transpose(0, 1).flatten(1) for f in (field.basis(field.standardised(x.double())), truth))
    some = slice(None, None, 5)  # of the cells: neighbours say nearly the same
    wished = rates[:, some].mT / rates.square().mean().sqrt()
    last = torch.linalg.lstsq(columns[:, some].mT, wished, driver="gelsd").solution
    field.last.copy_(last.mT)
    return field.float()


def as_seen(states: np.ndarray) -> Tensor:
    """Concentrations in training coordinates."""
    return torch.from_numpy(AFFINE["scale"] * states + np.float32(AFFINE["shift"]))


def quiet_score(states: np.ndarray, alpha: tuple[float, ...] = (0.5, 0.999)) -> ScoreModel:
    """A score model whose network says nothing: it takes the states for cells that do not know each other."""
    std, mean = torch.std_mean(as_seen(states), dim=(0, 2, 3))
    model = ScoreModel((4,), alpha, Spectrum.white(mean, std))
    torch.nn.init.zeros_(model.net.head.weight)
    torch.nn.init.zeros_(model.net.head.bias)
    return model.eval()


def dataset_of(states: np.ndarray, folder: Path, system: System | None = None, grid: Grid | None = None) -> Dataset:
    """A dataset of these states, of a system that is known or not; on a periodic grid when no other is told."""
    count = states.shape[1]
    name = system.label if system else derived.GENERATED
    settings = {"operator": "5-point", "integrator": "euler", "initial": "discs"} if system else {}
    card = Card(
        settings=settings,
        species=CONCENTRATIONS if count == 2 else tuple(Species(name) for name in "abcefghi"[:count]),
        grid=grid or Grid(states.shape[-2:]),
        systems={name: system} if system else {},
        conditions={name: dict(system.parameters)} if system else {},
        scaling=Scaling((0.5,) * count, (0.5,) * count),
        chunk=len(states),
        origin={} if system else {"kind": "generated"},
    )
    ids = np.arange(len(states))
    labels = {0: Labels(ids, ids, np.zeros_like(ids), np.full(len(ids), np.nan), 0, name)}
    return derived.make(
        folder, card, labels, lambda n: derived.samples_of(states, labels[n], card), "cpu", lambda *_: None
    )


def write_flow(folder: Path, dataset: Dataset, field: LocalField, z_rms: float = 1.0, **settings) -> None:
    """A checkpoint of this field, as if it had been trained on the dataset."""
    config = FlowConfig(hidden=HIDDEN, **settings)
    history = [{"epoch": 0, "validation_loss": z_rms, "z_rms": z_rms, "z_max": 2 * z_rms}]
    described = TrainJob(config, FlowSource(), dataset, folder).description
    write_checkpoint(folder, described, field.state_dict(), {"history": history})


def write_score(folder: Path, dataset: Dataset, model: ScoreModel) -> None:
    """A checkpoint of this score model, as if it had been trained on the dataset."""
    config = ScoreConfig(channels=(4,), alpha=model.alpha)
    history = [{"epoch": 1, "validation_loss": 0.5, "training_loss": 0.6, "validation_loss_alpha_0.8": 0.4}]
    described = TrainJob(config, TrainSource(), dataset, folder).description
    write_checkpoint(folder, described, model.state_dict(), {"history": history})
