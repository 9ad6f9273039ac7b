"""Stationarity of observables: d/dt E[g(x)] = E[v . grad g] = 0 for every g when v keeps the ensemble stationary.

No score, no divergence, no probes, and linear in v. The hidden layers of the field are trained by gradient steps on
observables drawn anew at each step; its last layer is solved for exactly (`solve`), at the start and after each epoch.
All in float64: the solve stretches small directions, and with them whatever rounding has left there.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from p2d.fields import Grid
from p2d.flow import divergence
from p2d.flow.solve import solve, whitened_basis
from p2d.flow.velocity import PERIODIC, LocalField, at_cells, lattice, rings, stencil
from p2d.snapshots.static import Balance
from p2d.training.randomness import sample_generator, stream_seed
from p2d.training.task import Data, Task, spread
from p2d.training.workers import Workers

STEP_OBSERVABLES = 64  # drawn at each gradient step
HELD_OUT_OBSERVABLES = 40  # for validation alone
SPREAD = 0.7  # of the directions of the observables, in standardised features
# Rates are means over one cell in STRIDE^2, where there are more than SOLVE_CELLS: on smooth patterns neighbours say
# nearly the same. On sharp ones they do not: of 112 snapshots of 64 x 64 all cells make the cosine 0.987 on a turbulent
# Brusselator, and every fourth 0.958.
STRIDE, STEP_STRIDE, SOLVE_CELLS = 2, 4, 2**21
# See `solve`: smooth random units are nearly dependent, and what matters lies in their small directions. Of nulls from
# 1e-8 to 1e-14 and ridges from 1e-6 to 1e-1 these gave the best cosines on waves, life and spirals. Without the prior
# few snapshots fit noise along these directions: of 112 the cosine on Barkley's waves is 0.48 without, 0.999 with it.
# Ten times as much costs nearly static patterns, whose velocity is a small difference of large terms: 0.992 for 0.9985
# on solitons.
NULL, RIDGE, PRIOR = 1e-12, 1e-4, 1e-6
DIRECTION_STATES = 32  # snapshots that the direction of time and the balance are taken from
# More snapshots add little to the solve; of fewer cells than this, as of one dimension, several are taken as one.
SOLVE_SNAPSHOTS, GROUP_CELLS = 512, 4096
# Rows of the solve, of numbers that take half a GiB: mean rates over tiles of the snapshots, or of groups of them, as
# the covariance of 512 observables cannot be told from fewer rows. Of 171 snapshots of spirals tiles make the cosine
# 0.905, and without any it is 0.824.
SOLVE_ROWS, GROUP_ROWS, ROW_NUMBERS = 1024, 4, 75_000_000
TILES, LEAST_TILE = (4, 3, 2, 1), 16  # tiles a side, and cells a side of one


class Observables:
    """Spatial means of random smooth functions: g_j(x) = mean over cells of cos(w_j . z + b_j).

    z: the standardised features of a cell, see velocity.stencil: of radius 1 the species and their Laplacians. What a
    field depends on its observables must see: what they do not, they would leave to chance.

    Stationarity holds at every cell, so that any cells may be taken: those where the stencil of v is known.

    Args:
        count: J, how many.
        seed: of their directions and phases.
        mean, std: of z over the data, [S].
        grid: whose edges the states have, of any size.
        radius: of the stencil, in cells.
    """

    def __init__(
        self, count: int, seed: int, mean: Tensor, std: Tensor, grid: Grid = PERIODIC, radius: float = 1.0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.mean = mean
        self.std = std
        self.grid = grid
        self.radius = radius
        self.directions = SPREAD * torch.randn(count, len(mean), generator=generator).to(mean)
        self.phases = 2 * math.pi * torch.rand(count, 1, generator=generator).to(mean)

    def features(self, fields: Tensor) -> Tensor:
        """The stencil's features of fields [B, C, H, W], or what a velocity changes them by: [B, S, H, W]."""
        return stencil(fields, self.radius, self.grid.sized(fields.shape))

    def slopes(self, x: Tensor, cells: Tensor | None = None) -> Tensor:
        """-sin(w_j . z + b_j) at some cells (see `at_cells`) of x [B, C, H, W]: [B, J, P]."""
        z = (at_cells(self.features(x), cells) - self.mean[:, None]) / self.std[:, None]
        return -torch.sin(self.directions @ z + self.phases)

    def rows(self, x: Tensor, basis: Tensor, cells: Tensor | None = None) -> Tensor:
        """Rates of the observables for each term phi_k of a basis, in each species: [B, J, C K].

        The generator v . grad g is the mean over cells of -sin(.) w_j . (change of z), and the change of z is the
        stencil of the velocity over `std`.

        Args:
            basis: phi [B, K, H, W].
        """
        slopes = self.slopes(x, cells)
        change = at_cells(self.features(basis), cells)
        return self._joined(slopes @ change.mT / slopes.shape[-1], x.shape[1])

    def tile_rows(self, x: Tensor, basis: Tensor, tiles: list[Tensor]) -> Tensor:
        """Rows [T, J, C K] of a state x [1, C, H, W] for each of T sets of cells, whose mean is that of all cells."""
        cells, sizes = torch.cat(tiles), [len(tile) for tile in tiles]
        slopes, change = self.slopes(x, cells), at_cells(self.features(basis), cells)
        parts = zip(slopes.split(sizes, -1), change.split(sizes, -1), strict=True)
        rows = [self._joined(a @ b.mT * (len(sizes) / len(cells)), x.shape[1])[0] for a, b in parts]
        return torch.stack(rows)

    def _joined(self, products: Tensor, species: int) -> Tensor:
        """Rows [B, J, C K] of the mean products of slopes with the features of a basis, [B, J, (1 + R) K]."""
        weight = (self.directions / self.std).unflatten(1, (-1, species, 1))
        parts = products.unflatten(-1, (weight.shape[1], -1)).unbind(-2)
        rows = [torch.stack([weight[:, n, s] * p for n, p in enumerate(parts)]).sum(dim=0) for s in range(species)]
        return torch.cat(rows, dim=-1)

    def rates(self, x: Tensor, v: Tensor, cells: Tensor | None = None) -> Tensor:
        """Rate v . grad g_j of each observable, [B, J], for a velocity v [B, C, H, W] at x. Linear in v."""
        return self.rates_of_change(x, at_cells(self.features(v), cells), cells)

    def rates_of_change(self, x: Tensor, change: Tensor, cells: Tensor | None = None) -> Tensor:
        """The same of what the velocity changes the features by, [B, S, P], at these cells."""
        slopes = self.slopes(x, cells)
        return ((slopes @ (change / self.std[:, None]).mT) * self.directions).sum(dim=-1) / slopes.shape[-1]


def z_scores(rates: Tensor) -> Tensor:
    """Mean rates over their standard errors, [J], of rates [N, J] of N snapshots."""
    error = rates.std(dim=0) / math.sqrt(len(rates))
    return rates.mean(dim=0) / error.clamp(min=torch.finfo(rates.dtype).tiny)


def nonlinear_share(last: Tensor, gram: Tensor, linear: int) -> float:
    """Share of the mean square of v = last phi that is no linear function of the first terms phi.

    Args:
        last: [C, K].
        gram: mean of phi phi', [K, K].
        linear: how many terms these are.
    """
    power, cross = torch.einsum("ci,ij,cj->", last, gram, last), last @ gram[:, :linear]
    explained = (torch.linalg.lstsq(gram[:linear, :linear], cross.mT, driver="gelsd").solution * cross.mT).sum()
    return max(0.0, float(1 - explained / power))


class Stationarity(Task):
    """The stationarity objective as a training task; states x [B, C, H, W] in training coordinates.

    Args:
        field: turned into float64.
        observables: number of those that the last layer is solved with.
        seed: of all observables.
    """

    def __init__(self, field: LocalField, observables: int, seed: int) -> None:
        super().__init__()
        self.model: LocalField = field.double()
        self.seed = seed
        self.observables = observables
        self.direction_metrics: dict[str, float] = {}

    def draw(self, count: int, *name: int | str) -> Observables:
        """Observables of the stream with this name."""
        model = self.model
        return Observables(count, stream_seed(self.seed, *name), model.mean, model.std, model.grid, model.radius)

    def cells(self, shape: torch.Size, stride: int) -> Tensor:
        """Numbers of the cells in every `stride`-th row and column where the stencil of the velocity is known."""
        return lattice(self.model.grid.sized(shape), stride, 2 * self.model.reach)

    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a local batch: rates in each of two random halves, squared rates, halves' sizes, |v|^2, cells."""
        draws = [sample_generator(self.seed, step, i) for i in ids]
        half = torch.tensor([float(torch.rand((), generator=g) < 0.5) for g in draws], dtype=torch.float64).to(x.device)
        shifts = torch.stack([torch.randint(STEP_STRIDE, (2,), generator=g) for g in draws])
        height, width = x.shape[-2:]
        rows = (torch.arange(0, height, STEP_STRIDE) - shifts[:, :1]) % height
        columns = (torch.arange(0, width, STEP_STRIDE) - shifts[:, 1:]) % width
        cells = (width * rows[:, :, None] + columns[:, None]).flatten(1).to(x.device)
        known = torch.zeros(height * width, dtype=torch.float64).index_fill(0, self.cells(x.shape, 1), 1.0)
        weight = known.to(x.device)[cells][:, None]
        x = x.double()
        change = self._change(x, cells) * weight
        share = weight.mean(dim=-1, keepdim=True).clamp(min=1 / cells.shape[1])
        rates = self.draw(STEP_OBSERVABLES, "step", step).rates_of_change(x, change / share, cells)
        v = change[:, : self.model.species]
        sizes = torch.stack([half.sum(), (1 - half).sum(), v.square().sum(), weight.sum() * self.model.species])
        return torch.cat([half @ rates, (1 - half) @ rates, rates.detach().square().sum(dim=0), sizes])

    def _change(self, x: Tensor, cells: Tensor) -> Tensor:
        """What the velocity changes the features by, [B, S, P], at the cells of a step, [B, P]: there alone."""
        grid, around = self.model.grid.sized(x.shape), rings(self.model.radius)
        z = self.model.standardised(x).unflatten(-1, x.shape[-2:])
        offsets = [(0, 0), *(offset for ring in around for offset in ring)]
        near = [at_cells(grid.shifted(z, -down, -right), cells) for down, right in offsets]
        v = self.model.pointwise(torch.stack(near, dim=2).flatten(2)).unflatten(-1, (len(near), -1))
        own, *others = v.split([1, *(len(ring) for ring in around)], dim=2)
        changes = [ring.sum(dim=2) - ring.shape[2] * own[:, :, 0] for ring in others]
        return torch.cat([own[:, :, 0], *changes], dim=1)

    def loss(self, sums: Tensor) -> Tensor:
        """Mean over observables of (mean rate)^2 / variance, without bias, and (E|v|^2 - 1)^2.

        The square of a mean is had as the product of two halves' means: with one mean alone its sampling variance
        would be added, and minimised instead.
        """
        first, second, square = sums[:-4].view(3, -1)
        n_first, n_second, power, entries = sums[-4:]
        product = (first / n_first.clamp(min=1)) * (second / n_second.clamp(min=1))
        variance = (square / (n_first + n_second)).detach()
        return (product / variance).mean() + (power / entries - 1) ** 2

    @torch.no_grad()
    def after_epoch(self, data: Data, workers: Workers) -> None:
        """Solve for the last layer over (evenly spread) training snapshots of all workers, and choose its sign."""
        species, device, shape = self.model.species, self.model.mean.device, data.states(torch.arange(1)).shape
        rows_most = min(SOLVE_ROWS, max(1, ROW_NUMBERS // (self.observables * self.model.last.numel())))
        positions = spread(data.count, SOLVE_SNAPSHOTS * max(1, GROUP_CELLS // shape[-2:].numel()))
        groups = positions.split(-(-len(positions) // max(1, rows_most // GROUP_ROWS)))
        tiles = self.tiles(shape, len(positions), rows_most // len(groups))
        mine = [groups[n] for n in workers.share(torch.arange(len(groups)))]
        rows, gram = self._moments(data, mine, tiles)
        gram = workers.total(gram.to(device)).cpu() / len(groups)

        def total(sums: np.ndarray) -> np.ndarray:
            return workers.total(torch.from_numpy(sums).to(device)).cpu().numpy()

        basis = whitened_basis(np.kron(np.eye(species), gram.numpy()), NULL)
        solution = solve(rows.numpy(), basis, RIDGE, total, prior=PRIOR)
        # c' B c = E|v|^2 over all species, so this sets the mean square of an entry to 1.
        last = torch.from_numpy(solution.coefficients).view(species, -1) * math.sqrt(species)
        self.model.last.copy_(last.to(self.model.last))
        left = torch.from_numpy(solution.spread) * math.sqrt(species)
        x = data.states(workers.share(positions[spread(len(positions), DIRECTION_STATES)]))
        self.direction_metrics = {
            **self._choose_direction(x, workers, left),
            "nonlinear": nonlinear_share(last, gram, 1 + species),
        }

    def tiles(self, shape: torch.Size, snapshots: int, most: int) -> list[Tensor]:
        """The cells of the solve, in as many tiles of the grid as there may be at most.

        Args:
            snapshots: how many there are, of this shape.
        """
        height, width = shape[-2:]
        cells = self.cells(shape, 1)
        if snapshots * len(cells) > SOLVE_CELLS:
            cells = self.cells(shape, STRIDE)
        side = next((n for n in TILES if n * n <= most and n * LEAST_TILE <= max(height, width)), 1)
        numbers = cells // width * side // height * side + cells % width * side // width
        return [cells[numbers == n] for n in numbers.unique()]

    def _choose_direction(self, x: Tensor, workers: Workers, left: Tensor) -> dict[str, float]:
        """Of the two directions of time take that of negative mean divergence; how sure it is, and how static the data.

        Args:
            x: this worker's share of some training states.
            left: what the data leave open of the last layer, see `solve.Solution.spread`.
        """
        species, device = self.model.species, self.model.mean.device
        balance = Balance(self.model.grid.sized(x.shape), species)
        shift, scale = (each[:species, None, None].cpu() for each in (self.model.mean, self.model.std))
        sums = torch.from_numpy(balance.sums(((state - shift) / scale).double().numpy() for state in x.cpu()))
        imbalance = balance.imbalance(workers.total(sums.to(device)).cpu().numpy())
        mean, z = divergence.choose_direction(self.model, x, workers, left)
        return {"mean_divergence": mean, "direction_z": z, "imbalance": imbalance}

    def _moments(self, data: Data, groups: list[Tensor], tiles: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Rows [N T, J, C K] of the observables for the last layer's basis, and the sum of its products [K, K].

        Args:
            groups: positions of N groups of training states, whose means are taken.
            tiles: numbers of the cells of T tiles.
        """
        observables = self.draw(self.observables, "solve")
        terms, cells = self.model.last.shape[1], torch.cat(tiles)
        # In one piece: small results between large temporaries would leave holes as large as these in the heap.
        shape = (len(groups), len(tiles), self.observables, self.model.species * terms)
        rows = torch.zeros(shape, dtype=torch.float64)
        gram = torch.zeros(terms, terms, dtype=torch.float64)
        for row, positions in zip(rows, groups, strict=True):
            for state in data.states(positions).split(1):
                state = state.to(self.model.mean.device).double()
                basis = self.model.basis(self.model.standardised(state)).unflatten(-1, state.shape[-2:])
                row += observables.tile_rows(state, basis, tiles).cpu() / len(positions)
                flat = at_cells(basis, cells)[0]
                gram += (flat @ flat.mT).cpu() / flat.shape[-1] / len(positions)
        return rows.flatten(0, 1), gram

    @torch.no_grad()
    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """Sums over held-out states of the rates of held-out observables, of their squares, and of ones, [3, J]."""
        held_out = self.draw(HELD_OUT_OBSERVABLES, "held out")
        sums = torch.zeros(3, HELD_OUT_OBSERVABLES, dtype=torch.float64)
        for state in x.double().split(1) if len(x) else ():
            rates = held_out.rates(state, self.model(state), self.cells(state.shape, 1))[0].cpu()
            sums += torch.stack([rates, rates**2, torch.ones_like(rates)])
        return {"held_out": sums}

    def metrics(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Root mean square and largest of the held-out z-scores; the first, near 1 at best, is the validation loss.

        With them what was measured on training snapshots: see `_choose_direction`.
        """
        first, second, count = totals["held_out"]
        mean = first / count
        variance = (second / count - mean**2) * count / (count - 1).clamp(min=1)
        z = mean / (variance / count).sqrt()
        return {
            "z_rms": z.square().mean().sqrt().item(),
            "z_max": z.abs().max().item(),
            "validation_loss": z.square().mean().sqrt().item(),
            **self.direction_metrics,
        }
