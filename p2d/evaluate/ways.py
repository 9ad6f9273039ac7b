"""Kinds of dynamics that carry states on: a recovered field, the true system, and what does not know the dynamics.

Time is counted in steps of the simulator. The flow's unit of time, which snapshots cannot tell, is such that it is as
fast at the starts as the true system or, where that is not known, such that its fastest change falls to 1/e in a step.

Beyond open edges and outside masks nothing is known: there all fields, the true one too, have a wall without flux.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from p2d.fields import Grid, Operator
from p2d.flow.integrate import DECAYING, NOISY, TURNING, Drift, heun, stable_step, stiffest_rate
from p2d.flow.model import Flow
from p2d.flow.skew import SkewField
from p2d.flow.system_field import SystemField
from p2d.flow.velocity import PERIODIC, LocalField, at_cells, feature_statistics, lattice
from p2d.score.model import ScoreModel
from p2d.systems.stepping import Integrator, Scheme
from p2d.systems.stepping import run as simulate
from p2d.systems.system import System
from p2d.training.randomness import normal_like

UNKNOWN_RATE = 1.0  # per step, of the stiffest rate of a flow whose true system is not known
RATE_STATES = 2  # that the stiffest rate is taken over
LEAST_RANDOM_STEP = 0.5  # of the simulator's: a random flow that is stiffer may blow up
LANGEVIN_ETA = 0.1  # of the score alone, where no corrector was asked for (the original's)
KINDS = TRUE, RECOVERED, SCORE, REVERSED, RANDOM, STILL = (
    "true",
    "recovered",
    "score only",
    "reversed",
    "random flow",
    "v = 0",
)


@dataclass(frozen=True)
class Subject:
    """What is rolled out, and how.

    Attributes:
        flow: the recovered field.
        system: the true one, if it is known.
        grid: whose spacing and edges the starts have; a shape of its own only with a mask.
        operator, integrator: that the true system is simulated with.
        score: a score model, if there is one: for the corrector, and for the baseline of the score alone.
        starts: values [N, C, H, W]; the first one's frames are kept.
        ensemble: values [M, C, h, w] of other snapshots, of any size.
        times: of the frames, in steps of the simulator, from 0 on.
        eta: strength of the corrector; 0: none.
        alpha: signal level at which states are carried, where there is a corrector.
        noise: whether the corrector adds the noise of Langevin dynamics.
        step: of Heun's method, in steps of the simulator; 0: the largest that is stable.
        pace: the flow's units of time in a step, where they are known; 0: see the head of this file.
    """

    flow: Flow
    system: System | None
    score: ScoreModel | None
    starts: np.ndarray
    ensemble: np.ndarray
    times: list[int]
    eta: float = 0.0
    alpha: float = 0.99
    noise: bool = True
    step: float = 0.0
    pace: float = 0.0
    seed: int = 0
    grid: Grid = PERIODIC
    operator: Operator = "5-point"
    integrator: Integrator = "euler"

    @property
    def starts_grid(self) -> Grid:
        """Of the starts, with their shape."""
        return self.grid.sized(self.starts.shape)


def score_beside(flow: Flow, folder: Path | None) -> ScoreModel | None:
    """The score model that a flow is rolled out with: its own, or that of a checkpoint folder, if there is one."""
    if isinstance(flow.field, SkewField):
        return flow.field.score
    return ScoreModel.load(folder) if folder else None


@dataclass(frozen=True)
class Way:
    """How states are carried: clean ones, or noised ones at `alpha` that a corrector keeps among their like.

    dy = (speed v + eta s(y)) dt + (2 eta dt)^(1/2) n
    """

    drift: Drift
    score: ScoreModel | None = None  # of noised states, to show the denoised ones
    alpha: float = 1.0
    diffusion: float = 0.0  # eta in units of the simulator's time, 0 without noise
    step: float = math.inf  # of Heun's method

    @property
    def share(self) -> float:
        """Of the stiffest rate that a step may be: a noised flow turns, a clean one damps by diffusion."""
        if self.diffusion:
            return NOISY
        return DECAYING if self.score is None else TURNING

    def begun(self, subject: Subject, states: Tensor, numbers: list[int]) -> Tensor:
        """The starts of these numbers, values [B, C, H, W], in training coordinates, noised as they are carried."""
        x = subject.flow.scaling.to_training(states)
        if self.score is None:
            return x
        return math.sqrt(self.alpha) * x + math.sqrt(1 - self.alpha) * normal_like(x, subject.seed, -1, numbers)


def true_step(subject: Subject) -> float:
    """Step of the true system where it has to be integrated as flows are, beyond open edges."""
    if subject.system is None or subject.starts_grid.is_closed:
        return 1.0
    x = subject.flow.scaling.to_training(torch.from_numpy(subject.starts[:RATE_STATES].astype(np.float32)))
    return min(1.0, stable_step(stiffest_rate(_true_field(subject, subject.system), x)))


def _true_field(subject: Subject, system: System) -> SystemField:
    return SystemField(system, subject.flow.scaling, 1 / system.run.dt, subject.starts_grid, subject.operator)


def true_states(subject: Subject, start: np.ndarray, step: float) -> Iterator[np.ndarray]:
    """Values [1, C, H, W] of the true system at each of the times."""
    system, grid = subject.system, subject.starts_grid
    assert system is not None
    if not grid.is_closed:
        x = subject.flow.scaling.to_training(torch.from_numpy(start))
        yield from integrated(Way(_true_field(subject, system), step=step), subject, x, 0)
        return
    scheme = Scheme(grid, system.run.dt, subject.operator, subject.integrator)
    state = start
    yield state
    for before, after in itertools.pairwise(subject.times):
        state = simulate(state, system, scheme, after - before, "cpu", 1)
        yield state


@torch.no_grad()
def choose_way(kind: str, subject: Subject) -> Way | None:
    """How a kind of dynamics goes, with its step; None where it cannot be had."""
    if kind == TRUE:
        return None if subject.system is None else Way(torch.zeros_like, step=1.0)
    if kind == STILL:
        return Way(torch.zeros_like, step=0.0)
    if kind == SCORE and subject.score is None:
        return None
    x = subject.flow.scaling.to_training(torch.from_numpy(subject.starts.astype(np.float32)))
    way = _way(kind, subject, x)
    first = subject.starts[:RATE_STATES].astype(np.float32)
    y = way.begun(subject, torch.from_numpy(first), list(range(len(first))))
    step = subject.step or stable_step(stiffest_rate(way.drift, y), way.share)
    return replace(way, step=max(step, LEAST_RANDOM_STEP) if kind == RANDOM else step)


@torch.no_grad()
def integrated(way: Way, subject: Subject, y: Tensor, number: int) -> Iterator[np.ndarray]:
    """Values at each of the times, of the start of a number, y [1, C, H, W] in training coordinates."""
    done = 0
    for n, time in enumerate(subject.times):
        if n:
            between = time - subject.times[n - 1]
            steps = max(1, math.ceil(between / way.step))
            dt = between / steps
            for k in range(steps):
                kick: Tensor | float = 0.0
                if way.diffusion:
                    kick = math.sqrt(2 * way.diffusion * dt) * normal_like(y, subject.seed, done + k, [number])
                y = heun(way.drift, y, dt, kick)
            done += steps
        clean = y if way.score is None else way.score.denoise(y, way.alpha)
        yield subject.flow.scaling.to_values(clean).numpy().copy()


def _way(kind: str, subject: Subject, x: Tensor) -> Way:
    """The drift of a kind of dynamics, in training coordinates, per step of the simulator."""
    flow, alpha = subject.flow, subject.flow.alpha or subject.alpha
    speed = time_scale(subject, x)
    eta = subject.eta * speed
    if kind == SCORE:
        assert subject.score is not None
        eta = eta or LANGEVIN_ETA * speed
        alpha = min(max(alpha, min(subject.score.alpha)), max(subject.score.alpha))
        return Way(_corrected(None, subject.score, alpha, 0.0, eta), subject.score, alpha, eta)
    velocity = _random_field(flow, x, subject.seed) if kind == RANDOM else flow.field
    speed = -speed if kind == REVERSED else speed
    if flow.alpha is None and not eta:
        return Way(lambda y: speed * velocity(y))
    score = subject.score
    assert score is not None
    if flow.alpha is not None and kind != RANDOM:
        at_noised = velocity.at_noised if isinstance(velocity, SkewField) else velocity
        drift = _corrected(at_noised, score, alpha, speed, eta)
    else:

        def of_clean(y: Tensor) -> Tensor:
            return math.sqrt(alpha) * velocity(score.denoise(y, alpha))

        drift = _corrected(of_clean, score, alpha, speed, eta)
    return Way(drift, score, alpha, eta if subject.noise else 0.0)


def _corrected(velocity: Drift | None, score: ScoreModel, alpha: float, speed: float, eta: float) -> Drift:
    def drift(y: Tensor) -> Tensor:
        along = speed * velocity(y) if velocity else torch.zeros_like(y)
        return along + eta * score.score(y, alpha) if eta else along

    return drift


@torch.no_grad()
def time_scale(subject: Subject, x: Tensor) -> float:
    """The flow's units of time in a step of the simulator; its direction of time is left as it is."""
    if subject.pace:
        return subject.pace
    if subject.system is None:
        return UNKNOWN_RATE / stiffest_rate(subject.flow.field, x[:RATE_STATES])
    grid, flow = subject.starts_grid, subject.flow
    field = SystemField(subject.system, flow.scaling, 1.0, grid, subject.operator)
    cells = lattice(grid, 1, max(flow.reach, field.reach))
    v = at_cells(torch.cat([flow.field(part) for part in x.split(1)]), cells)
    rate = torch.from_numpy(subject.system.rate(subject.starts.astype(np.float64), grid, subject.operator))
    truth = at_cells(flow.scaling.velocity_to_training(rate), cells)
    return float((truth.square().mean() / v.square().mean()).sqrt()) * subject.system.run.dt


def _random_field(flow: Flow, x: Tensor, seed: int) -> LocalField:
    """A local isotropic field of random weights, as fast as the flow is at x."""
    generator = torch.Generator().manual_seed(seed)
    grid = flow.field.grid.sized(x.shape)
    mean, std = feature_statistics(x, 1.0, grid)
    drawn = LocalField((64,), mean=mean, std=std, generator=generator, species=x.shape[1], grid=grid)
    own, wished = (torch.cat([f(part) for part in x.split(1)]).square().mean().sqrt() for f in (drawn, flow.field))
    drawn.last.mul_(wished / own)
    return drawn
