"""What second moments say: the power spectrum of the species, and the best linear denoiser that follows from it.

A stationary random field with cross-spectrum S(k) of its species, seen as y = x + sigma n, has the linear estimate with
the least mean square error (Wiener 1949; exact posterior mean when x is Gaussian), mode by mode,

    E_lin[x(k) | y(k)] = S(k) (S(k) + sigma^2 I)^-1 y(k),   of error covariance sigma^2 S(k) (S(k) + sigma^2 I)^-1.

Modes are those of the Fourier transform along periodic axes, and along others the cosines of the even continuation: of
fields with mirror edges these are the very modes, and open edges come out without a jump. S is taken to depend on the
length of the wave vector alone, so it serves grids of any size. Outside a mask the field counts as at its mean, and the
power is that of the cells inside.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from p2d.fields import Edge, Grid, multiplicity

Edges = tuple[Edge, Edge]
Shape = torch.Size | tuple[int, int]
Modes = tuple[Tensor, Tensor, Tensor]  # eigenvalues and eigenvectors of S at every mode, and how often each mode counts
PERIODIC: Edges = ("periodic", "periodic")


class Spectrum(nn.Module):
    """Isotropic cross-spectrum of C species, with their means.

    Args:
        wavenumber: knots, in cycles a cell, rising from 0, [K].
        power: upper triangle of S at the knots, row by row, [C (C + 1) / 2, K]; the power of a mode of the orthonormal
            transform, so that white noise of unit variance has S = I.
        mean: of each species, [C].
        edges: of the grids.
    """

    def __init__(self, wavenumber: Tensor, power: Tensor, mean: Tensor, edges: Edges = PERIODIC) -> None:
        super().__init__()
        self.wavenumber: Tensor
        self.power: Tensor
        self.mean: Tensor
        self.register_buffer("wavenumber", wavenumber)
        self.register_buffer("power", power)
        self.register_buffer("mean", mean)
        self.edges = edges
        self._grids: dict[tuple[int, int, torch.device, torch.dtype], Modes] = {}
        self.register_load_state_dict_post_hook(lambda module, _keys: module._grids.clear())

    def __getstate__(self) -> dict[str, Any]:
        """Without the modes that were kept: they may be of a derivative that was being taken."""
        return {**self.__dict__, "_grids": {}}

    @classmethod
    def white(cls, mean: Tensor, std: Tensor, edges: Edges = PERIODIC) -> Spectrum:
        """Of independent cells of these means and standard deviations, [C] each."""
        rows, columns = pairs(len(std))
        power = std[rows] * std[columns] * (rows == columns)
        return cls(torch.tensor([0.0, 1.0]).to(std), power[:, None].repeat(1, 2), mean, edges)

    def modes(self, grid: Shape) -> Modes:
        """S at the modes of such a grid.

        Returns:
            Falling eigenvalues [C, *modes]; eigenvectors [C, C, *modes], component by eigenvalue, whose signs make the
            diagonal positive; and how many modes of the full transform each stands for.
        """
        height, width = grid
        key = (height, width, self.power.device, self.power.dtype)
        if key not in self._grids:
            at = radius(height, width, self.edges)
            power = interpolate(at, self.wavenumber.double().cpu(), self.power.double().cpu())
            values, vectors = (made.flip(-1) for made in torch.linalg.eigh(_blocks(power).movedim((0, 1), (-2, -1))))
            vectors = torch.where(vectors.diagonal(dim1=-2, dim2=-1)[..., None, :] < 0, -vectors, vectors)
            self._grids[key] = (
                values.clamp(min=0).movedim(-1, 0).contiguous().to(self.power),
                vectors.movedim((-2, -1), (0, 1)).contiguous().to(self.power),
                counts(height, width, self.edges).to(self.power),
            )
        return self._grids[key]

    def variance(self, grid: Shape) -> Tensor:
        """Variance of each species over the cells of such a grid, [C]."""
        values, vectors, count = self.modes(grid)
        return _of_species(values, vectors, count, grid)

    def estimate(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The best linear estimate of x - mean from y = x + sigma n, and the error it leaves.

        Args:
            y: [B, C, H, W].
            sigma: [B].

        Returns:
            The estimate [B, C, H, W], and the standard deviation of each species' error over cells, [B, C, 1, 1].
        """
        grid = y.shape[-2:]
        values, vectors, count = self.modes(grid)
        noise = sigma.square().view(-1, 1, 1, 1)
        gain = values / (values + noise)
        modes = to_modes(y - self.mean.view(1, -1, 1, 1), self.edges)
        along = gain * (vectors * modes[:, :, None]).sum(dim=1)
        estimate = from_modes((vectors * along[:, None]).sum(dim=2), grid, self.edges)
        return estimate, _of_species(noise * gain, vectors, count, grid).sqrt()[:, :, None, None]

    def draw(self, noise: Tensor) -> Tensor:
        """A Gaussian random field of this spectrum, less its mean, from white noise [B, C, H, W] of unit variance."""
        grid = noise.shape[-2:]
        values, vectors, _ = self.modes(grid)
        along = values.sqrt() * to_modes(noise, self.edges)
        return from_modes((vectors * along[:, None]).sum(dim=2), grid, self.edges)

    def without_noise(self, sigma: Tensor) -> Spectrum:
        """The spectrum of x where this one is of y = x + n, n white of standard deviations sigma [C].

        S - sigma^2, as far as it is positive.
        """
        rows, columns = pairs(len(self.mean))
        own = rows == columns
        left = (self.power[own] - sigma.double().square().to(self.power)[:, None]).clamp(min=0.0)
        bound = (left[rows] * left[columns]).sqrt()
        power = torch.where(own[:, None], left[rows], self.power.clamp(-bound, bound))
        return Spectrum(self.wavenumber, power, self.mean, self.edges)


def pairs(species: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the upper triangle of a matrix [C, C], row by row."""
    rows, columns = torch.triu_indices(species, species)
    return rows, columns


def _blocks(power: Tensor) -> Tensor:
    """Symmetric matrices [C, C, ...] of their upper triangles [C (C + 1) / 2, ...]."""
    species = math.isqrt(2 * len(power))
    place = torch.empty(species, species, dtype=torch.long)
    rows, columns = pairs(species)
    place[rows, columns] = place[columns, rows] = torch.arange(len(power))
    return power[place]


def _of_species(values: Tensor, vectors: Tensor, count: Tensor, grid: Shape) -> Tensor:
    """Mean over all modes of the diagonal of a covariance with these eigenvalues [..., C, *modes]: [..., C]."""
    diagonal = (vectors.square() * values.unsqueeze(-4)).sum(dim=-3)
    return (diagonal * count).sum(dim=(-2, -1)) / (grid[0] * grid[1])


def to_modes(fields: Tensor, edges: Edges) -> Tensor:
    """Orthonormal transform of fields [..., H, W]: Fourier's along periodic axes, the last halved, else cosines."""
    for axis in (-2, -1):
        if edges[axis] != "periodic":
            fields = (fields.movedim(axis, -1) @ cosines(fields.shape[axis]).to(fields).T).movedim(-1, axis)
    axes = periodic_axes(edges)
    return torch.fft.rfftn(fields, dim=axes, norm="ortho") if axes else fields


def from_modes(modes: Tensor, grid: Shape, edges: Edges) -> Tensor:
    """The fields [..., H, W] of their modes."""
    axes = periodic_axes(edges)
    fields = torch.fft.irfftn(modes, s=[grid[a] for a in axes], dim=axes, norm="ortho") if axes else modes
    for axis in (-2, -1):
        if edges[axis] != "periodic":
            fields = (fields.movedim(axis, -1) @ cosines(grid[axis]).to(fields)).movedim(-1, axis)
    return fields


def periodic_axes(edges: Edges) -> list[int]:
    """The axes of fields [..., H, W] that are periodic."""
    return [axis for axis in (-2, -1) if edges[axis] == "periodic"]


@functools.lru_cache(maxsize=8)
def cosines(size: int) -> Tensor:
    """Orthonormal cosines of the even continuation about the outer faces of a row of cells (DCT-II), [modes, cells]."""
    k, i = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    made = (2 / size) ** 0.5 * torch.cos(torch.pi * k * (i + 0.5) / size)
    made[0] = size**-0.5
    return made


def radius(height: int, width: int, edges: Edges = PERIODIC) -> Tensor:
    """Length of the wave vector of each mode, in cycles a cell, float64, shaped as `to_modes` gives them."""
    axes, along = periodic_axes(edges), []
    for axis, size in ((-2, height), (-1, width)):
        if axis in axes:
            along.append((torch.fft.rfftfreq if axis == axes[-1] else torch.fft.fftfreq)(size, dtype=torch.float64))
        else:
            along.append(torch.arange(size, dtype=torch.float64) / (2 * size))
    return torch.hypot(along[0][:, None], along[1][None])


def counts(height: int, width: int, edges: Edges = PERIODIC) -> Tensor:
    """How many modes of the full transform each mode stands for, float64, shaped as `to_modes` gives them."""
    ones = torch.ones_like(radius(height, width, edges))
    if edges[1] == "periodic":
        return ones * torch.from_numpy(multiplicity(width))
    return ones * torch.from_numpy(multiplicity(height))[:, None] if edges[0] == "periodic" else ones


def interpolate(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Values [C, K] at rising knots [K], linear between them and constant beyond, at points of any shape."""
    right = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((at - low) / (high - low)).clamp(0, 1)
    return values[:, right - 1] * (1 - share) + values[:, right] * share


def measure(chunks: Iterable[Tensor], grid: Grid | None = None) -> Spectrum:
    """The spectrum and the means of states [N, C, H, W] that come in chunks, averaged over rings of wave vectors.

    Args:
        grid: of the states; periodic when None.

    Raises:
        ValueError: no states.
    """
    total = None
    for x in chunks:
        if total is None or grid is None:
            grid = grid or Grid((x.shape[-2], x.shape[-1]))
            inside = torch.from_numpy(grid.inside(0))
            rows, columns = pairs(x.shape[1])
            total = summed = sums = torch.zeros((), dtype=torch.float64)
            states = 0
        x = torch.where(inside, x, 0.0)
        modes = to_modes(x, grid.edges).to(torch.complex128)
        total = total + (modes[:, rows] * modes[:, columns].conj()).real.sum(dim=0)
        summed = summed + modes.sum(dim=0)
        sums = sums + x.double().sum(dim=(0, 2, 3))
        states += len(x)
    if total is None or grid is None:
        raise ValueError("there are no states to measure")
    mean = sums / (states * inside.sum())
    # Of x - mean inside: on all of a grid the mean is a mode of its own, whose sum is `sums`, to more digits.
    level = mean[:, None, None] * to_modes(inside.double(), grid.edges).to(torch.complex128)
    average = summed / states if grid.mask else level
    less = level[rows] * average[columns].conj() + (average - level)[rows] * level[columns].conj()
    power = total / states - less.real
    power = torch.where((rows == columns)[:, None, None], power.clamp(min=0), power)  # rounding, where all are alike
    wavenumber, power = _rings(power / inside.double().mean(), grid)
    return Spectrum(wavenumber.float(), power.float(), mean.float(), grid.edges)


def _rings(power: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Mean wavenumber [K] and power [P, K] over rings as wide as the closest two modes; k = 0 is a ring of its own."""
    distance, weight = radius(*grid.shape, grid.edges), counts(*grid.shape, grid.edges)
    finest = max(size if edge == "periodic" else 2 * size for size, edge in zip(grid.shape, grid.edges, strict=True))
    ring = (distance * finest).round().long().flatten()
    rings = int(ring.max()) + 1

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(rings, dtype=torch.float64).index_add_(0, ring, (values * weight).flatten())

    count = summed(torch.ones_like(distance))
    filled = count > 0
    wavenumber = (summed(distance) / count)[filled]
    return wavenumber, torch.stack([(summed(part) / count)[filled] for part in power])
