"""What a score model is trained as: denoising score matching around the measured spectrum of the data."""

from __future__ import annotations

import math
import shutil

import torch

from p2d.config import ScoreConfig, of_each
from p2d.errors import UserError
from p2d.fields import Grid, Scaling
from p2d.score import noise, spectrum
from p2d.score.loss import DenoisingScoreMatching
from p2d.score.model import ScoreModel, model_options
from p2d.training.randomness import stream_seed
from p2d.training.task import Data, spread

SPECTRUM_STATES = 4096  # that the spectrum is measured on; more add nothing
CHUNK = 64
# To be trained on. On two cores compiling takes 48 s and makes steps 1.26 times faster (1 to 1.3 M cells/s), so that a
# quarter of an hour gains two minutes; on a GPU, where it has not been timed, the same length is assumed.
CELLS_WORTH_COMPILING = {"cpu": 1e9, "cuda": 4e10}


def score_task(
    config: ScoreConfig, data: Data, grid: Grid, scaling: Scaling, device: torch.device
) -> DenoisingScoreMatching:
    """The training of a score model on a grid; `scaling` is that of the training coordinates.

    Raises:
        UserError: levels clearer than the snapshots themselves, or noise of another number of species.
    """
    torch.manual_seed(stream_seed("weights", config.seed) % 2**31)  # torch's layers draw from the global stream
    own_noise = of_each("data_noise", config.data_noise, len(scaling.scale))
    data_noise = [sigma / scale for sigma, scale in zip(own_noise, scaling.scale, strict=True)]
    _refuse_clear_levels(config, *max(zip(data_noise, own_noise, strict=True)))
    parts = (data.states(part) for part in spread(data.count, SPECTRUM_STATES).split(CHUNK))
    measured = spectrum.measure(parts, grid).without_noise(torch.tensor(data_noise, dtype=torch.float64))
    model = ScoreModel(**model_options(config.to_dict()), spectrum=measured, grid=grid)
    if device.type == "cuda":
        model.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on CPUs convolutions are no faster for it, or slower
    return DenoisingScoreMatching(
        model,
        config.seed,
        config.augment,
        config.sampling,
        data_noise,
        choose_precision(config.precision, device),
        _choose_compiled(config, data, device),
    )


def _refuse_clear_levels(config: ScoreConfig, data_noise: float, own: float) -> None:
    """Refuse levels clearer than the snapshots, of this noise in training coordinates and `own` in the user's."""
    clearest = noise.alpha_of(torch.tensor(data_noise)).item()
    if max(config.alpha) >= clearest:
        raise UserError(
            f"alpha = {max(config.alpha):g} is clearer than snapshots of noise {own:g} are; "
            f"give levels below {math.floor(clearest * 1e4) / 1e4:g}"
        )


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """Of the network's convolutions in training; 'auto': bfloat16 where the hardware multiplies in it.

    float32 is TF32 in cuDNN: posterior means of a GPU and a CPU differ by 2e-5 of the largest value, by 2e-7 without.
    """
    if setting != "auto":
        return torch.bfloat16 if setting == "bfloat16" else torch.float32
    on_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    has = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else on_cpu()
    return torch.bfloat16 if has else torch.float32


def _choose_compiled(config: ScoreConfig, data: Data, device: torch.device) -> bool:
    """Whether the network is compiled: as set, or in trainings long enough where there is a compiler to do it with."""
    if config.compile != "auto":
        return config.compile == "on"
    cells = config.epochs * data.count * data.states(torch.tensor([0]))[0, 0].numel()
    has_compiler = device.type == "cuda" or any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return has_compiler and cells >= CELLS_WORTH_COMPILING[device.type]
