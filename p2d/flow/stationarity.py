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

from p2d.flow import divergence
from p2d.flow.solve import solve, whitened_basis
from p2d.flow.velocity import EDGES, LocalField, at_cells, edges
from p2d.flow.verdict import Balance
from p2d.training.randomness import sample_generator, stream_seed
from p2d.training.task import Data, Task, spread
from p2d.training.workers import Workers

STEP_OBSERVABLES = 64  # drawn at each gradient step
HELD_OUT_OBSERVABLES = 40  # for validation alone
SPREAD = 0.7  # of the directions of the observables, in standardised features
# Rates are means over one cell in STRIDE^2. Neighbours say nearly the same, so that this costs nothing: with every
# second row and column the cosine on waves is 0.9996, as with all of them, in a third of the time. A crop of as many
# cells would see a quarter of the pattern.
STRIDE, STEP_STRIDE = 2, 4  # of the solve, and of a gradient step
# See `solve`: smooth random units are nearly dependent, and what matters lies in their small directions. Of nulls from
# 1e-8 to 1e-14 and ridges from 1e-6 to 1e-1 these gave the best cosines on waves, life and spirals.
NULL, RIDGE = 1e-12, 1e-4
DIRECTION_STATES = 32  # snapshots that the direction of time and the balance are taken from
SOLVE_SNAPSHOTS = 512  # more add little: 128 give cosines of 0.995 and better, and rows take memory


class Observables:
    """Spatial means of random smooth functions: g_j(x) = mean over cells of cos(w_j . z + b_j).

    z: the standardised u, v, lap u, lap v of a cell.

    Args:
        count: J, how many.
        seed: of their directions and phases.
        mean, std: of (u, v, lap u, lap v) over the data, [4].
    """

    def __init__(self, count: int, seed: int, mean: Tensor, std: Tensor) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.mean = mean
        self.std = std
        self.directions = SPREAD * torch.randn(count, 4, generator=generator).to(mean)
        self.phases = 2 * math.pi * torch.rand(count, 1, generator=generator).to(mean)

    def slopes(self, x: Tensor, stride: int = 1) -> Tensor:
        """-sin(w_j . z + b_j) at the P cells of x [B, 2, H, W] in every `stride`-th row and column: [B, J, P]."""
        z = (at_cells(torch.cat([x, edges(x)], dim=1), stride) - self.mean[:, None]) / self.std[:, None]
        return -torch.sin(self.directions @ z + self.phases)

    def rows(self, x: Tensor, basis: Tensor, stride: int = 1) -> Tensor:
        """Rates of the observables for each term phi_k of a basis, in each species: [B, J, 2 K].

        The generator v . grad g is the mean over cells of -sin(.) w_j . (change of z), and the change of z is the
        velocity and its Laplacian over `std`.

        Args:
            basis: phi [B, K, H, W].
        """
        slopes = self.slopes(x, stride)
        plain = slopes @ at_cells(basis, stride).mT / slopes.shape[-1]
        curved = slopes @ at_cells(edges(basis), stride).mT / slopes.shape[-1]
        weight = self.directions / self.std
        species = [weight[:, s, None] * plain + weight[:, 2 + s, None] * curved for s in range(2)]
        return torch.cat(species, dim=-1)

    def rates(self, x: Tensor, v: Tensor) -> Tensor:
        """Rate v . grad g_j of each observable, [B, J], for a velocity v [B, 2, H, W] at x. Linear in v."""
        return self.rates_of_change(x, torch.cat([v, edges(v)], dim=1).flatten(2))

    def rates_of_change(self, x: Tensor, change: Tensor, stride: int = 1) -> Tensor:
        """The same of the velocity and its Laplacian [B, 4, P] at the cells of `stride`."""
        slopes = self.slopes(x, stride)
        return ((slopes @ (change / self.std[:, None]).mT) * self.directions).sum(dim=-1) / slopes.shape[-1]


def z_scores(rates: Tensor) -> Tensor:
    """Mean rates over their standard errors, [J], of rates [N, J] of N snapshots."""
    error = rates.std(dim=0) / math.sqrt(len(rates))
    return rates.mean(dim=0) / error.clamp(min=torch.finfo(rates.dtype).tiny)


class Stationarity(Task):
    """The stationarity objective as a training task; states x [B, 2, H, W] in training coordinates.

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
        return Observables(count, stream_seed(self.seed, *name), self.model.mean[:4], self.model.std[:4])

    def forward(self, x: Tensor, ids: list[int], step: int) -> Tensor:
        """Sums over a local batch: rates in each of two random halves, squared rates, halves' sizes, |v|^2, cells."""
        draws = [sample_generator(self.seed, step, i) for i in ids]
        half = torch.tensor([float(torch.rand((), generator=g) < 0.5) for g in draws], dtype=torch.float64).to(x.device)
        shifts = [torch.randint(STEP_STRIDE, (2,), generator=g).tolist() for g in draws]
        x = torch.stack([state.roll(shift, (-2, -1)) for state, shift in zip(x, shifts, strict=True)]).double()
        change = self._change(x)
        rates = self.draw(STEP_OBSERVABLES, "step", step).rates_of_change(x, change, STEP_STRIDE)
        v = change[:, :2]
        sizes = torch.stack([half.sum(), (1 - half).sum(), v.square().sum(), v.new_tensor(float(v.numel()))])
        return torch.cat([half @ rates, (1 - half) @ rates, rates.detach().square().sum(dim=0), sizes])

    def _change(self, x: Tensor) -> Tensor:
        """Velocity and its Laplacian, [B, 4, P], at the cells of a step: a local field is needed there alone."""
        z = self.model.standardised(x).unflatten(-1, x.shape[-2:])
        near = torch.stack([at_cells(z.roll(offset, (-2, -1)), STEP_STRIDE) for offset in ((0, 0), *EDGES)], dim=2)
        v = self.model.pointwise(near.flatten(2)).unflatten(-1, near.shape[2:])
        return torch.cat([v[:, :, 0], v[:, :, 1:].sum(dim=2) - len(EDGES) * v[:, :, 0]], dim=1)

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
        positions = spread(data.count, SOLVE_SNAPSHOTS)
        device = self.model.mean.device
        rows, gram = self._moments(data.states(workers.share(positions)))
        gram = workers.total(gram.to(device)).cpu() / len(positions)

        def total(sums: np.ndarray) -> np.ndarray:
            return workers.total(torch.from_numpy(sums).to(device)).cpu().numpy()

        solution = solve(rows.numpy(), whitened_basis(np.kron(np.eye(2), gram.numpy()), NULL), RIDGE, total)
        # c' B c = E|v|^2 over both species, so this sets the mean square of an entry to 1.
        last = torch.from_numpy(solution.coefficients).view(2, -1) * math.sqrt(2)
        self.model.last.copy_(last.to(self.model.last))
        self._choose_direction(data.states(workers.share(positions[spread(len(positions), DIRECTION_STATES)])), workers)

    def _choose_direction(self, x: Tensor, workers: Workers) -> None:
        """Of the two directions of time take that of negative mean divergence; note it, and how far the data is static.

        Args:
            x: this worker's share of some training states.
        """
        balance = Balance(self.model.mean[:2], self.model.std[:2])
        sums = balance.sums(x[:0].to(self.model.mean.device))
        for state in x.split(1) if len(x) else ():
            sums += balance.sums(state.to(self.model.mean.device))
        self.direction_metrics = {
            "mean_divergence": divergence.choose_direction(self.model, x, workers),
            "imbalance": balance.imbalance(workers.total(sums)),
        }

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [N, J, 2 K] of the observables for the last layer's basis, and the sum of its products [K, K]."""
        observables = self.draw(self.observables, "solve")
        terms = self.model.last.shape[1]
        # In one piece: small results between large temporaries would leave holes as large as these in the heap.
        rows = torch.zeros(len(x), self.observables, 2 * terms, dtype=torch.float64)
        gram = torch.zeros(terms, terms, dtype=torch.float64)
        for i, state in enumerate(x):
            state = state[None].to(self.model.mean.device).double()
            basis = self.model.basis(self.model.standardised(state)).unflatten(-1, state.shape[-2:])
            rows[i] = observables.rows(state, basis, STRIDE)[0].cpu()
            flat = at_cells(basis, STRIDE)[0]
            gram += (flat @ flat.mT).cpu() / flat.shape[-1]
        return rows, gram

    @torch.no_grad()
    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """Sums over held-out states of the rates of held-out observables, of their squares, and of ones, [3, J]."""
        held_out = self.draw(HELD_OUT_OBSERVABLES, "held out")
        sums = torch.zeros(3, HELD_OUT_OBSERVABLES, dtype=torch.float64)
        for state in x.double().split(1) if len(x) else ():
            rates = held_out.rates(state, self.model(state))[0].cpu()
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
