"""Divergence of a velocity field: exactly, or by Hutchinson's random probes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

from p2d.flow.velocity import LocalField, lattice, own_shares
from p2d.training.workers import Workers

CELLS = 2048  # taken together on a CPU, so that hidden layers stay in its cache: ten times as fast as all at once


def exact(field: LocalField, x: Tensor) -> tuple[Tensor, Tensor]:
    """div v [B] and v itself [B, C, H, W] at x.

    Beyond its stencil the field acts on each cell alone, and a cell's features depend on the cell's own value through
    constants. So the trace is C directional derivatives of the pointwise part, one a species, on any grid.
    """
    grid = field.grid.sized(x.shape)
    cells = field.standardised(x).transpose(0, 1).flatten(1)
    size = cells.shape[1] if x.is_cuda else CELLS
    shares = own_shares(field.radius, grid).to(x.device)
    each = shares.repeat(1, len(x)).split(size, dim=1) if shares.shape[1] > 1 else itertools.repeat(shares)
    parts = [field.with_divergence(some, own) for some, own in zip(cells.split(size, dim=1), each, strict=False)]
    v, trace = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    trace = grid.masked(trace.view(len(x), *grid.shape))
    return trace.sum(dim=(1, 2)), grid.masked(v.view(field.species, len(x), *grid.shape).transpose(0, 1))


def hutchinson(field: Callable[[Tensor], Tensor], x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased estimate of div v [B], mean over probes of e' (dv/dx) e (Hutchinson 1990), and v itself.

    Args:
        field: any map from [B, C, H, W] to the same shape.
        probes: random signs, [n, B, C, H, W].
    """
    estimate = x.new_zeros(len(x))
    v = x
    for probe in probes:
        v, slope = jvp(field, (x,), (probe,))  # type: ignore[misc]
        estimate = estimate + (probe * slope).flatten(1).sum(dim=1) / len(probes)
    return estimate, v


@torch.no_grad()
def of_basis(field: LocalField, x: Tensor) -> Tensor:
    """What each weight of the last layer adds to the divergence an entry of x [B, C, H, W], summed over B: [C, K]."""
    grid = field.grid.sized(x.shape)
    z, shares = field.standardised(x), own_shares(field.radius, grid).to(x.device)
    cells = lattice(grid).to(x.device)
    answers = [
        jvp(field.basis, (z,), (field.centre_response(s, shares).expand_as(z),))[1] for s in range(field.species)
    ]
    return torch.stack([answer[..., cells].sum(dim=(0, 2)) for answer in answers]) / (len(cells) * field.species)


@torch.no_grad()
def choose_direction(
    field: LocalField, x: Tensor, workers: Workers, spread: Tensor | None = None
) -> tuple[float, float]:
    """Of v and -v, which keep a density alike, make the field the one under which diffusion damps.

    Args:
        x: this worker's share of some states, [B, C, H, W].
        spread: standard deviations of the last layer's weights, see `solve.Solution`, [C K, D].

    Returns:
        The mean of its divergence over states and entries, which is negative, and by how many of its standard errors
        (0 where these are not known): few where the field has no diffusion to speak of, and its direction is arbitrary.
    """
    shares = torch.zeros_like(field.last, dtype=torch.float64)
    count = shares.new_tensor(float(len(x)))
    for state in x.split(1) if len(x) else ():
        shares += of_basis(field, state.to(field.mean)).double()
    shares = workers.total(shares) / workers.total(count)
    mean = float((shares * field.last).sum())
    if mean > 0:
        field.last.neg_()
    error = 0.0 if spread is None else float((shares.flatten() @ spread.to(shares)).norm())
    return -abs(mean), abs(mean) / error if error else 0.0
