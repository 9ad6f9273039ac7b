"""From settings and data to what is trained: the task and schedule of a score model and of a flow."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from p2d.config import FlowConfig, ScoreConfig
from p2d.errors import UserError
from p2d.flow.continuity import Continuity
from p2d.flow.model import field_options, skew_field
from p2d.flow.skew import TrainingFree
from p2d.flow.stationarity import Stationarity
from p2d.flow.velocity import LocalField, bound_features, feature_statistics
from p2d.score import noise, spectrum
from p2d.score.loss import DenoisingScoreMatching
from p2d.score.model import ScoreModel, model_options
from p2d.training.loop import Schedule
from p2d.training.randomness import stream_seed
from p2d.training.task import Data, Task

FLOW_WARMUP = 10  # steps
SPECTRUM_STATES, FEATURE_STATES, SPEED_STATES = 4096, 4096, 32  # that statistics are taken of; more add nothing
CHUNK = 64
# To be trained on. On two cores compiling takes 48 s and makes steps 1.26 times faster (1 to 1.3 M cells/s), so that a
# quarter of an hour gains two minutes; on a GPU, where it has not been timed, the same length is assumed.
CELLS_WORTH_COMPILING = {"cpu": 1e9, "cuda": 4e10}


def build(
    config: ScoreConfig | FlowConfig, data: Data, scale: float, device: torch.device, score: Path | None
) -> tuple[Task, Schedule]:
    """The task, on its device, and the schedule of these settings.

    Args:
        scale: of the training coordinates, x = scale c + shift.
        score: the score model's folder, for the continuity objective.
    """
    task, schedule = (
        _score(config, data, scale, device) if isinstance(config, ScoreConfig) else _flow(config, data, score)
    )
    return task.to(device), schedule


def _score(config: ScoreConfig, data: Data, scale: float, device: torch.device) -> tuple[Task, Schedule]:
    torch.manual_seed(stream_seed("weights", config.seed) % 2**31)  # torch's layers draw from the global stream
    data_noise = config.data_noise * scale
    _refuse_clear_levels(config, data_noise)
    measured = spectrum.measure(data.states(part) for part in _spread(data.count, SPECTRUM_STATES).split(CHUNK))
    model = ScoreModel(**model_options(config.to_dict()), spectrum=measured.without_noise(data_noise))
    schedule = Schedule(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        ema=config.ema,
        decay="cosine",
        seed=config.seed,
        optimizer=config.optimizer,
        target_loss=config.target_loss or -math.inf,
    )
    if device.type == "cuda":
        model.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on CPUs convolutions are no faster for it, or slower
    precision = precision_of(config.precision, device)
    compiled = _pays_to_compile(config, data, device)
    task = DenoisingScoreMatching(model, config.seed, config.augment, config.sampling, data_noise, precision, compiled)
    return task, schedule


def _pays_to_compile(config: ScoreConfig, data: Data, device: torch.device) -> bool:
    """Whether the network is compiled: as told, or in trainings long enough where there is a compiler to do it with."""
    if config.compile != "auto":
        return config.compile == "on"
    cells = config.epochs * data.count * data.states(torch.tensor([0]))[0, 0].numel()
    found = device.type == "cuda" or any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return found and cells >= CELLS_WORTH_COMPILING[device.type]


def precision_of(wish: str, device: torch.device) -> torch.dtype:
    """Of the network's convolutions in training; 'auto': bfloat16 where the hardware multiplies in it."""
    if wish != "auto":
        return torch.bfloat16 if wish == "bfloat16" else torch.float32
    on_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    has = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else on_cpu()
    return torch.bfloat16 if has else torch.float32


def _refuse_clear_levels(config: ScoreConfig, data_noise: float) -> None:
    """Refuse levels clearer than the snapshots themselves: what they hold cannot be learnt."""
    clearest = noise.alpha_of(torch.tensor(data_noise)).item()
    if max(config.alpha) >= clearest:
        raise UserError(
            f"alpha = {max(config.alpha):g} is clearer than snapshots of noise {config.data_noise:g} are; "
            f"give levels below {math.floor(clearest * 1e4) / 1e4:g}"
        )


def _spread(count: int, most: int) -> torch.Tensor:
    """Positions of at most so many states, evenly spread."""
    return torch.arange(count)[:: -(-count // most)]


def _flow(config: FlowConfig, data: Data, score: Path | None) -> tuple[Task, Schedule]:
    schedule = Schedule(
        epochs=config.passes,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=FLOW_WARMUP,
        weight_decay=0.0,
        ema=0.0,
        decay=config.schedule,
        seed=config.seed,
    )
    if config.objective == "training-free":
        assert score is not None
        skew = skew_field(config, ScoreModel.load(score))
        skew.set_speed(data.states(_spread(data.count, SPEED_STATES)))
        return TrainingFree(skew, config.probes, config.seed), schedule
    generator = torch.Generator().manual_seed(stream_seed("weights", config.seed))
    states = data.states(_spread(data.count, FEATURE_STATES))
    if config.objective == "continuity":
        eps = torch.randn(states.shape, generator=generator)
        states = noise.add_noise(states, eps, torch.full((len(states),), config.alpha))
    mean, std = feature_statistics(states, config.radius)
    field = LocalField(**field_options(config), mean=mean, std=std, generator=generator)
    if config.objective == "stationarity":
        bound_features(field, states)
        return Stationarity(field, config.observables, config.seed), schedule
    assert score is not None
    probes = config.probes if config.divergence == "hutchinson" else 0
    task = Continuity(
        field, ScoreModel.load(score), config.alpha, config.gaussian_weight, config.sym, probes, config.seed
    )
    return task, schedule
