"""What second moments say: the power spectrum of the species, and the best linear denoiser that follows from it.

A stationary random field with cross-spectrum S(k) of its species, seen as y = x + sigma n, has the linear estimate with
the least mean square error (Wiener 1949; exact posterior mean when x is Gaussian), mode by mode,

    E_lin[x(k) | y(k)] = S(k) (S(k) + sigma^2 I)^-1 y(k),   of error covariance sigma^2 S(k) (S(k) + sigma^2 I)^-1.

S is taken to depend on the length of the wave vector alone, so it serves grids of any size.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from p2d.fields import multiplicity

Modes = tuple[Tensor, Tensor, Tensor]  # eigenvalues and rotation of S at every mode, and how often each mode counts


class Spectrum(nn.Module):
    """Isotropic cross-spectrum of two species on periodic grids of spacing 1, with their means.

    Args:
        wavenumber: knots, in cycles a cell, rising from 0, [K].
        power: S_uu, S_uv, S_vv at the knots, [3, K]; the power of a mode of the orthonormal transform, so that white
            noise of unit variance has S = I.
        mean: of each species, [2].
    """

    def __init__(self, wavenumber: Tensor, power: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.wavenumber: Tensor
        self.power: Tensor
        self.mean: Tensor
        self.register_buffer("wavenumber", wavenumber)
        self.register_buffer("power", power)
        self.register_buffer("mean", mean)
        self._grids: dict[tuple[int, int, torch.device, torch.dtype], Modes] = {}
        self.register_load_state_dict_post_hook(lambda module, _keys: module._grids.clear())

    @classmethod
    def white(cls, mean: Tensor, std: Tensor) -> Spectrum:
        """Of independent cells of these means and standard deviations, [2] each."""
        power = torch.stack([std[0] ** 2, torch.zeros_like(std[0]), std[1] ** 2])
        return cls(torch.tensor([0.0, 1.0]).to(std), power[:, None].repeat(1, 2), mean)

    def modes(self, grid: torch.Size | tuple[int, int]) -> Modes:
        """S at the modes of rfft2: eigenvalues [2, H, W/2+1], rotation (cos, sin) of the same shape, multiplicity."""
        height, width = grid
        key = (height, width, self.power.device, self.power.dtype)
        if key not in self._grids:
            power = interpolate(radius(height, width), self.wavenumber.double().cpu(), self.power.double().cpu())
            half_difference, half_sum = (power[0] - power[2]) / 2, (power[0] + power[2]) / 2
            angle = 0.5 * torch.atan2(power[1], half_difference)
            gap = torch.hypot(power[1], half_difference)
            values = torch.stack([half_sum + gap, (half_sum - gap).clamp(min=0)])
            rotation = torch.stack([angle.cos(), angle.sin()])
            self._grids[key] = (
                values.to(self.power),
                rotation.to(self.power),
                torch.from_numpy(multiplicity(width)).to(self.power),
            )
        return self._grids[key]

    def variance(self, grid: torch.Size | tuple[int, int]) -> Tensor:
        """Variance of each species over the cells of such a grid, [2]."""
        values, rotation, count = self.modes(grid)
        return _of_species(values, rotation, count, grid)

    def estimate(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The best linear estimate of x - mean from y = x + sigma n, and the error it leaves.

        Args:
            y: [B, 2, H, W].
            sigma: [B].

        Returns:
            The estimate [B, 2, H, W], and the standard deviation of each species' error over cells, [B, 2, 1, 1].
        """
        grid = y.shape[-2:]
        values, rotation, count = self.modes(grid)
        noise = sigma.square().view(-1, 1, 1, 1)
        gain = values / (values + noise)
        u, v = torch.fft.rfft2(y - self.mean.view(1, 2, 1, 1), norm="ortho").unbind(1)
        cos, sin = rotation
        first, second = gain[:, 0] * (cos * u + sin * v), gain[:, 1] * (cos * v - sin * u)
        turned_back = torch.stack([cos * first - sin * second, sin * first + cos * second], dim=1)
        estimate = torch.fft.irfft2(turned_back, s=grid, norm="ortho")
        return estimate, _of_species(noise * gain, rotation, count, grid).sqrt()[:, :, None, None]

    def draw(self, noise: Tensor) -> Tensor:
        """A Gaussian random field of this spectrum, less its mean, from white noise [B, 2, H, W] of unit variance."""
        values, rotation, _ = self.modes(noise.shape[-2:])
        cos, sin = rotation
        u, v = torch.fft.rfft2(noise, norm="ortho").unbind(1)
        first, second = values[0].sqrt() * u, values[1].sqrt() * v
        field = torch.stack([cos * first - sin * second, sin * first + cos * second], dim=1)
        return torch.fft.irfft2(field, s=noise.shape[-2:], norm="ortho")

    def without_noise(self, sigma: float) -> Spectrum:
        """The spectrum of x where this one is of y = x + sigma n: S - sigma^2 I, as far as it is positive."""
        uu, uv, vv = self.power
        uu, vv = ((s - sigma**2).clamp(min=0.0) for s in (uu, vv))
        bound = (uu * vv).sqrt()
        return Spectrum(self.wavenumber, torch.stack([uu, uv.clamp(-bound, bound), vv]), self.mean)


def _of_species(values: Tensor, rotation: Tensor, count: Tensor, grid: torch.Size | tuple[int, int]) -> Tensor:
    """Mean over all modes of the diagonal of a covariance with these eigenvalues [..., 2, H, W/2+1]: [..., 2]."""
    share = rotation.square()
    first, second = values.unbind(-3)
    diagonal = torch.stack([share[0] * first + share[1] * second, share[1] * first + share[0] * second], dim=-3)
    return (diagonal * count).sum(dim=(-2, -1)) / (grid[0] * grid[1])


def radius(height: int, width: int) -> Tensor:
    """Length of the wave vector of each mode of rfft2, in cycles a cell, float64 [H, W/2+1]."""
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    return torch.hypot(rows[:, None], columns[None])


def interpolate(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Values [C, K] at rising knots [K], linear between them and constant beyond, at points of any shape."""
    right = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((at - low) / (high - low)).clamp(0, 1)
    return values[:, right - 1] * (1 - share) + values[:, right] * share


def measure(chunks: Iterable[Tensor]) -> Spectrum:
    """The spectrum and the means of states [N, 2, H, W] that come in chunks, averaged over rings of wave vectors.

    Raises:
        ValueError: no states.
    """
    total, sums, states = None, torch.zeros(2, dtype=torch.float64), 0
    for x in chunks:
        modes = torch.fft.rfft2(x, norm="ortho").to(torch.complex128)
        power = torch.stack([(modes[:, i] * modes[:, j].conj()).real.sum(0) for i, j in ((0, 0), (0, 1), (1, 1))])
        total = power if total is None else total + power
        sums += x.double().sum(dim=(0, 2, 3))
        states += len(x)
        grid = x.shape[-2:]
    if total is None:
        raise ValueError("there are no states to measure")
    mean = sums / (states * grid[0] * grid[1])
    total = total / states
    # The mode of the spatial mean: its power less that of the mean over all states.
    pairs = torch.stack([mean[0] ** 2, mean[0] * mean[1], mean[1] ** 2])
    total[:, 0, 0] -= grid[0] * grid[1] * pairs
    total[::2, 0, 0].clamp_(min=0)  # rounding, where all states have the same mean
    wavenumber, power = _rings(total, grid)
    return Spectrum(wavenumber.float(), power.float(), mean.float())


def _rings(power: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor]:
    """Mean wavenumber and mean power [3, K] over rings as wide as the closest two modes; k = 0 is a ring of its own."""
    distance, weight = radius(*grid), torch.from_numpy(multiplicity(grid[1])).expand(power.shape[-2:])
    ring = (distance * max(grid)).round().long().flatten()
    rings = int(ring.max()) + 1

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(rings, dtype=torch.float64).index_add_(0, ring, (values * weight).flatten())

    count = summed(torch.ones_like(distance))
    filled = count > 0
    wavenumber = (summed(distance) / count)[filled]
    return wavenumber, torch.stack([(summed(part) / count)[filled] for part in power])
