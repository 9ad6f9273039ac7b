"""Are generated patterns like held-out ones? Every distance beside its floor, that of training snapshots to them.

The floor takes as many training snapshots as there are generated ones, so it is what a perfect generator would get.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from p2d.config.stored import Json
from p2d.evaluate.tables import table_text
from p2d.fields import Grid
from p2d.observables import averages, names
from p2d.places import place
from p2d.runs import read_json, write_json
from p2d.score.spectrum import counts, radius, to_modes
from p2d.training.randomness import Image, imaged, images, shifting

DRAWS = 32  # of training snapshots, whose mean distance is the floor
COMPARED = 64  # snapshots whose nearest neighbours are looked for
TINY = 1e-30  # in the place of no spread at all, of species that are the same everywhere
MODES = 32  # of each direction that neighbours are compared in; patterns have next to nothing above


@dataclass(frozen=True)
class BesideFloor:
    """A distance to held-out snapshots, and that of as many training snapshots.

    Attributes:
        ratio: of the distance to the floor.
    """

    distance: float
    floor: float
    ratio: float

    @classmethod
    def of(cls, distance: float, floors: list[float]) -> BesideFloor:
        """Beside the mean of draws of the floor."""
        floor = float(np.mean(floors))
        return cls(float(distance), floor, float(distance / max(floor, TINY)))

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        return f"{self.distance:.4f}", f"{self.floor:.4f}", f"{self.ratio:.2f}"


@dataclass(frozen=True)
class Moment(BesideFloor):
    """The mean of an observable, whose distance is in standard deviations of a snapshot's average.

    Attributes:
        generated, held_out: the means.
    """

    generated: float
    held_out: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        return (*super().cells, f"{self.generated:.4g}", f"{self.held_out:.4g}")


@dataclass(frozen=True)
class Nearest:
    """Distances to the nearest training snapshot: 0 for a copy, about 1 for a stranger.

    Attributes:
        memorised: share of generated patterns that are closer than half of the held-out snapshots' median.
    """

    generated_median: float
    generated_smallest: float
    held_out_median: float
    held_out_smallest: float
    memorised: float

    def __str__(self) -> str:
        return (
            f"nearest training snapshot (0: a copy, 1: unrelated): generated {self.generated_median:.2f} at the "
            f"median, {self.generated_smallest:.2f} at the closest; held-out {self.held_out_median:.2f}, "
            f"{self.held_out_smallest:.2f}; memorised: {100 * self.memorised:.0f} %"
        )


@dataclass(frozen=True)
class Quality:
    """Distances of generated patterns to held-out snapshots.

    Attributes:
        moments: by observable.
        spectrum, nearest: None where the sizes of the grids differ.
    """

    energy_distance: BesideFloor
    moments: dict[str, Moment]
    spectrum: BesideFloor | None = None
    nearest: Nearest | None = None

    def __str__(self) -> str:
        rows = [("radial power spectrum", *self.spectrum.cells)] if self.spectrum else []
        rows += [("energy distance", *self.energy_distance.cells)]
        rows += [(f"mean of {name}", *moment.cells) for name, moment in self.moments.items()]
        lines = [
            table_text(("distance to held-out", "generated", "floor", "ratio", "mean", "held-out"), rows),
            "floor: as many training snapshots; means differ in standard deviations of a snapshot's average",
        ]
        return "\n".join([*lines, *([str(self.nearest)] if self.nearest else [])])

    def metrics(self) -> dict[str, float]:
        """The numbers by name, for tracking."""
        numbers: dict[str, float] = {}
        for key, value in self.to_dict().items():
            for name, number in value.items():
                nested = number if isinstance(number, dict) else {"": number}
                label = "_".join(name.replace("|", "").replace("^", "").split())
                numbers |= {f"{key}_{label}{'_' * bool(part)}{part}": float(n) for part, n in nested.items()}
        return numbers

    def to_dict(self) -> Json:
        """As JSON types, without what there is not."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Json) -> Quality:
        """The quality of these JSON types."""
        return cls(
            energy_distance=BesideFloor(**values["energy_distance"]),
            moments={name: Moment(**moment) for name, moment in values["moments"].items()},
            spectrum=BesideFloor(**values["spectrum"]) if "spectrum" in values else None,
            nearest=Nearest(**values["nearest"]) if "nearest" in values else None,
        )

    def save(self, file: str | Path, **beside: Any) -> None:
        """Write it as JSON, with other entries beside it."""
        write_json(place(file), {**beside, "quality": self.to_dict()})

    @classmethod
    def load(cls, file: str | Path) -> Quality:
        """The quality of a quality.json."""
        return cls.from_dict(read_json(place(file), "quality")["quality"])


def spectra(states: np.ndarray, grid: Grid | None = None) -> np.ndarray:
    """Power of each species over wavenumbers, rings of one cycle a hundred cells, without the mean: [N, C, K].

    The modes are those of score/spectrum.py. Outside a mask states count as at their means.

    Args:
        grid: of the states; periodic when None.
    """
    grid = grid or Grid((states.shape[-2], states.shape[-1]))
    rings = np.round(radius(*grid.shape, grid.edges).numpy() * 100).astype(int).ravel()
    weight = counts(*grid.shape, grid.edges).numpy().ravel()
    count = np.bincount(rings, weight)
    inside = grid.inside(0)
    powers = []
    for state in states:
        means = state.mean(axis=(1, 2), keepdims=True, where=inside)
        field = np.where(inside, state - means, 0).astype(np.float64)
        power = to_modes(torch.from_numpy(field), grid.edges).abs().square().flatten(1).numpy()
        powers.append([np.bincount(rings, weight * p) / np.maximum(count, 1) for p in power])
    return np.array(powers)


def spectral_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the power that lies elsewhere: sum |S_a - S_b| / sum S_b over wavenumbers, mean of the species.

    Args:
        a, b: spectra [N, C, K] and [M, C, K] of states on grids of one size; only their means count.
    """
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    return float((np.abs(mean_a - mean_b).sum(axis=1) / np.maximum(mean_b.sum(axis=1), TINY)).mean())


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| of two samples [N, K] and [M, K] (Szekely & Rizzo 2013)."""
    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """E|a - b| of two samples [N, K] and [M, K]."""
    return float(cdist(a, b).mean())


def measure_quality(
    generated: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    seed: int = 0,
    *,
    species: tuple[str, ...],
    grid: Grid | None = None,
) -> Quality:
    """Distances of generated patterns to held-out snapshots beside those of as many training snapshots.

    Args:
        generated, train, held: values [N, C, H, W]; generated ones may be larger, by whole multiples.
        seed: of the draws of training snapshots.
        species: their C names.
        grid: of the training snapshots; periodic of spacing 1 when None.

    Raises:
        ValueError: generated grids that are not multiples of the others.
    """
    tile = train.shape[-2:]
    if any(large % small for large, small in zip(generated.shape[-2:], tile, strict=True)):
        raise ValueError(f"grids of {generated.shape[-2:]} cannot be cut into tiles of {tile}")
    grid = grid or Grid(tile)
    features = [averages(s, grid.sized(s.shape), tile) for s in (generated, train, held)]
    spread = features[1].std(axis=0) + 1e-12
    made, known, unseen = (f / spread for f in features)
    random = np.random.default_rng(seed)
    draws = [random.permutation(len(known))[: min(len(made), len(known))] for _ in range(DRAWS)]

    def moment(n: int) -> Moment:
        floors = [abs(known[draw, n].mean() - unseen[:, n].mean()) for draw in draws]
        distance = BesideFloor.of(abs(made[:, n].mean() - unseen[:, n].mean()), floors)
        return Moment(
            **asdict(distance), generated=float(features[0][:, n].mean()), held_out=float(features[2][:, n].mean())
        )

    spectrum = neighbours = None
    if generated.shape[-2:] == tile:
        own, learnt, apart = (spectra(states, grid) for states in (generated, train, held))
        floors = [spectral_distance(learnt[draw], apart) for draw in draws]
        spectrum = BesideFloor.of(spectral_distance(own, apart), floors)
        neighbours = measure_nearest(generated, train, held, grid)
    floors = [energy_distance(known[draw], unseen) for draw in draws]
    return Quality(
        energy_distance=BesideFloor.of(energy_distance(made, unseen), floors),
        moments={name: moment(n) for n, name in enumerate(names(species))},
        spectrum=spectrum,
        nearest=neighbours,
    )


def measure_nearest(generated: np.ndarray, train: np.ndarray, held: np.ndarray, grid: Grid | None = None) -> Nearest:
    """How close patterns come to a training snapshot, over the shifts, turns and mirror images that the grid has.

    Distances are root mean squares of standardised species over those of two unrelated patterns: 0 for a copy, about 1
    for a stranger. Shifts are tried in steps of a cell, or of a 64th of the side of a larger grid, which leaves a copy
    at 0.1 or less. A pattern counts as memorised if it is closer than half of the held-out snapshots' median.

    Args:
        generated, train, held: states [N, C, H, W].
        grid: of the states; periodic when None.
    """
    grid = grid or Grid((train.shape[-2], train.shape[-1]))
    inside = grid.inside(0)
    mean, std = (f(axis=(0, 2, 3), keepdims=True, where=inside) for f in (train.mean, train.std))
    axes = [axis for axis, is_free in zip((-2, -1), shifting(grid), strict=True) if is_free]
    learnt, made, unseen = (
        _low_modes(torch.from_numpy(np.where(inside, (s - mean) / np.maximum(std, TINY), 0)).double(), axes)
        for s in (train, generated[:COMPARED], held[:COMPARED])
    )
    own, floor = (_distances(fields, learnt, images(grid), axes) for fields in (made, unseen))
    return Nearest(
        generated_median=float(own.median()),
        generated_smallest=float(own.min()),
        held_out_median=float(floor.median()),
        held_out_smallest=float(floor.min()),
        memorised=float((own < floor.median() / 2).double().mean()),
    )


def _low_modes(fields: Tensor, axes: list[int]) -> Tensor:
    """Fields [N, C, H, W] on the coarser grid that holds their lowest modes along these axes, [N, C, h, w]."""
    for axis in axes:
        size = fields.shape[axis]
        kept = min(size, 2 * MODES)
        modes = torch.fft.fftshift(torch.fft.fft(fields, dim=axis, norm="forward"), dim=axis)
        modes = modes.narrow(axis, (size - kept) // 2, kept)
        fields = torch.fft.ifft(torch.fft.ifftshift(modes, dim=axis), dim=axis, norm="forward")
    return fields.real


def _distances(fields: Tensor, others: Tensor, symmetries: tuple[Image, ...], axes: list[int]) -> Tensor:
    """Distance of each field to the nearest of the others, over shifts along these axes and symmetries, [N]."""

    def transformed(states: Tensor) -> Tensor:
        return torch.fft.rfftn(states.float(), dim=axes) if axes else states.float()

    sizes, still = [fields.shape[axis] for axis in axes], [axis for axis in (-2, -1) if axis not in axes]
    transforms = transformed(others).conj()
    power = others.square().mean(dim=(1, 2, 3))
    nearest = []
    for field in fields:
        best = torch.full((len(others),), -torch.inf)
        for image in transformed(torch.stack([imaged(field, symmetry) for symmetry in symmetries])):
            overlap = (image * transforms).sum(dim=1)
            if axes:
                overlap = torch.fft.irfftn(overlap, s=sizes, dim=axes)
            overlap = overlap.sum(dim=still, keepdim=True) if still else overlap
            best = torch.maximum(best, overlap.flatten(1).amax(dim=1))
        squares = field.square().mean() + power - 2 * best.double() / field.numel()
        strangers = field.square().mean() + power
        nearest.append((squares.clamp(min=0) / strangers).min().sqrt())
    return torch.stack(nearest)
