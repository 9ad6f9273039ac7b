"""Are generated patterns like held-out ones? Every distance beside its floor, that of training snapshots to them.

The floor takes as many training snapshots as there are generated ones, so it is what a perfect generator would get.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from p2d.evaluate.likeness import BesideFloor, Moment, Nearest, Quality

OBSERVABLES = ("u", "v", "u v^2", "|grad u|^2", "|grad v|^2", "u^2", "v^2")
DRAWS = 32  # of training snapshots, whose mean distance is the floor
COMPARED = 64  # snapshots whose nearest neighbours are looked for
MODES = 32  # of each direction that neighbours are compared in; patterns have next to nothing above


def observables(states: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Averages over tiles of the grid of each state, [N, 2, H, W] concentrations to float64 [N T, K], see OBSERVABLES.

    Gradients are taken on the whole periodic grid, so that a tile is like a part of a larger pattern.
    """
    found = []
    for state in states:
        u, v = state.astype(np.float64)
        gradients = [(np.roll(f, -1, 0) - f) ** 2 + (np.roll(f, -1, 1) - f) ** 2 for f in (u, v)]
        fields = np.stack([u, v, u * v * v, *gradients, u * u, v * v])
        rows, columns = fields.shape[1] // tile[0], fields.shape[2] // tile[1]
        tiles = fields.reshape(len(fields), rows, tile[0], columns, tile[1]).mean(axis=(2, 4))
        found.append(tiles.reshape(len(fields), -1).T)
    return np.concatenate(found)


def spectra(states: np.ndarray) -> np.ndarray:
    """Power of u and v over wavenumbers, rings of one cycle a hundred cells, without the mean: [N, 2, K]."""
    rings = np.round(np.hypot(*_wavenumbers(states.shape[-2:])) * 100).astype(int)
    count = np.bincount(rings.ravel())
    powers = []
    for state in states:
        field = state - state.mean(axis=(1, 2), keepdims=True)
        power = np.abs(np.fft.fft2(field.astype(np.float64), norm="ortho")) ** 2
        powers.append([np.bincount(rings.ravel(), p.ravel()) / np.maximum(count, 1) for p in power])
    return np.array(powers)


def _wavenumbers(grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(grid[0])[:, None], np.fft.fftfreq(grid[1])[None, :]


def spectral_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the power that lies elsewhere: sum |S_a - S_b| / sum S_b over wavenumbers, mean of the two species.

    Args:
        a, b: spectra [N, 2, K] and [M, 2, K] of states on grids of one size; only their means count.
    """
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    return float((np.abs(mean_a - mean_b).sum(axis=1) / mean_b.sum(axis=1)).mean())


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| of two samples [N, K] and [M, K] (Szekely & Rizzo 2013)."""
    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """E|a - b| of two samples [N, K] and [M, K]."""
    return float(cdist(a, b).mean())


def measure_quality(generated: np.ndarray, train: np.ndarray, held: np.ndarray, seed: int = 0) -> Quality:
    """Distances of generated patterns to held-out snapshots beside those of as many training snapshots.

    Args:
        generated, train, held: concentrations [N, 2, H, W]; generated ones may be larger, by whole multiples.
        seed: of the draws of training snapshots.

    Raises:
        ValueError: generated grids that are not multiples of the others.
    """
    tile = train.shape[-2:]
    if any(large % small for large, small in zip(generated.shape[-2:], tile, strict=True)):
        raise ValueError(f"grids of {generated.shape[-2:]} cannot be cut into tiles of {tile}")
    features = [observables(states, tile) for states in (generated, train, held)]
    spread = features[1].std(axis=0) + 1e-12
    made, known, unseen = (f / spread for f in features)
    draws = _draws(len(known), len(made), seed)

    def moment(n: int) -> Moment:
        floors = [abs(known[draw, n].mean() - unseen[:, n].mean()) for draw in draws]
        distance = _beside_floor(abs(made[:, n].mean() - unseen[:, n].mean()), floors)
        return Moment(**distance, generated=float(features[0][:, n].mean()), held_out=float(features[2][:, n].mean()))

    spectrum = neighbours = None
    if generated.shape[-2:] == tile:
        own, learnt, apart = (spectra(states) for states in (generated, train, held))
        floors = [spectral_distance(learnt[draw], apart) for draw in draws]
        spectrum = BesideFloor(**_beside_floor(spectral_distance(own, apart), floors))
        neighbours = measure_nearest(generated, train, held)
    floors = [energy_distance(known[draw], unseen) for draw in draws]
    return Quality(
        energy_distance=BesideFloor(**_beside_floor(energy_distance(made, unseen), floors)),
        moments={name: moment(n) for n, name in enumerate(OBSERVABLES)},
        spectrum=spectrum,
        nearest=neighbours,
    )


def _beside_floor(distance: float, floors: list[float]) -> dict[str, float]:
    floor = float(np.mean(floors))
    return {"distance": float(distance), "floor": floor, "ratio": float(distance / max(floor, 1e-30))}


def _draws(count: int, size: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.permutation(count)[: min(size, count)] for _ in range(DRAWS)]


def measure_nearest(generated: np.ndarray, train: np.ndarray, held: np.ndarray) -> Nearest:
    """How close patterns come to a training snapshot, over all shifts, quarter turns and mirror images.

    Distances are root mean squares of standardised species over those of two unrelated patterns: 0 for a copy, about 1
    for a stranger. Shifts are tried in steps of a cell, or of a 64th of the side of a larger grid, which leaves a copy
    at 0.1 or less. A pattern counts as memorised if it is closer than half of the held-out snapshots' median.
    """
    mean, std = (f(axis=(0, 2, 3), keepdims=True) for f in (train.mean, train.std))
    learnt, made, unseen = (
        _low_modes(torch.from_numpy((s - mean) / std).double()) for s in (train, generated[:COMPARED], held[:COMPARED])
    )
    own, floor = _distances(made, learnt), _distances(unseen, learnt)
    return Nearest(
        generated_median=float(own.median()),
        generated_smallest=float(own.min()),
        held_out_median=float(floor.median()),
        held_out_smallest=float(floor.min()),
        memorised=float((own < floor.median() / 2).double().mean()),
    )


def _low_modes(fields: Tensor) -> Tensor:
    """Fields [N, 2, H, W] on the coarser grid that holds their lowest modes, [N, 2, h, w]."""
    height, width = fields.shape[-2:]
    rows, columns = min(height, 2 * MODES), min(width, 2 * MODES)
    modes = torch.fft.fftshift(torch.fft.fft2(fields, norm="forward"), dim=(-2, -1))
    top, left = (height - rows) // 2, (width - columns) // 2
    kept = torch.fft.ifftshift(modes[..., top : top + rows, left : left + columns], dim=(-2, -1))
    return torch.fft.ifft2(kept, norm="forward").real


def _distances(fields: Tensor, others: Tensor) -> Tensor:
    """Distance of each field to the nearest of the others, over shifts and symmetries, [N] of [N, 2, H, W]."""
    grid = fields.shape[-2:]
    transforms = torch.fft.rfft2(others.float()).conj()
    power = others.square().mean(dim=(1, 2, 3))
    nearest = []
    for field in fields:
        turned = [torch.rot90(field, n, (-2, -1)) for n in (range(4) if grid[0] == grid[1] else (0, 2))]
        images = torch.stack([image for t in turned for image in (t, t.flip(-1))])
        best = torch.full((len(others),), -torch.inf)
        for image in torch.fft.rfft2(images.float()):
            overlap = torch.fft.irfft2((image * transforms).sum(dim=1), s=grid).flatten(1).amax(dim=1)
            best = torch.maximum(best, overlap)
        squares = field.square().mean() + power - 2 * best.double() / field.numel()
        strangers = field.square().mean() + power
        nearest.append((squares.clamp(min=0) / strangers).min().sqrt())
    return torch.stack(nearest)
