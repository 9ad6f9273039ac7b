"""A recovered field carried on in time, beside the true system and what does not know the dynamics.

Time is counted in steps of the simulator. The flow's unit of time, which snapshots cannot tell, is such that it is as
fast at the starts as the true system or, where that is not known, such that its fastest change falls to 1/e in a step.

Beyond open edges and outside masks nothing is known: there all fields, the true one too, have a wall without flux.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from p2d.evaluate import preservation
from p2d.evaluate.course import Course, Rollout
from p2d.fields import Grid, Operator
from p2d.flow.integrate import DECAYING, NOISY, TURNING, Drift, heun, stable_step, stiffest_rate
from p2d.flow.model import Flow
from p2d.flow.skew import SkewField
from p2d.flow.system_field import SystemField
from p2d.flow.velocity import PERIODIC, LocalField, at_cells, feature_statistics, lattice
from p2d.progress import Advance
from p2d.score.model import ScoreModel
from p2d.systems.stepping import Integrator, Scheme
from p2d.systems.stepping import run as simulate
from p2d.systems.system import System
from p2d.training.randomness import normal_like

UNKNOWN_RATE = 1.0  # per step, of the stiffest rate of a flow whose true system is not known
RATE_STATES = 2  # that the stiffest rate is taken over
GONE = 1e3  # floors; an ensemble that far away is as good as blown up
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
class _Langevin:
    """Carried states: clean ones, or noised ones at `alpha` that a corrector keeps among their like.

    dy = (speed v + eta s(y)) dt + (2 eta dt)^(1/2) n
    """

    drift: Drift
    score: ScoreModel | None  # of noised states, to show the denoised ones
    alpha: float
    diffusion: float  # eta in units of the simulator's time, 0 without noise

    @property
    def share(self) -> float:
        """Of the stiffest rate that a step may be: a noised flow turns, a clean one damps by diffusion."""
        if self.diffusion:
            return NOISY
        return DECAYING if self.score is None else TURNING


def roll_out(subject: Subject, kinds: tuple[str, ...], advance: Advance) -> Rollout:
    """The courses of these kinds of dynamics from the same starts; those that need what is not there are left out.

    Args:
        advance: told each frame of each kind that is done, and those of kinds that are left out.

    Raises:
        UserError: see the models.
    """
    ensemble = preservation.Ensemble(subject.ensemble, subject.seed, subject.grid)
    floor = ensemble.floor(math.prod(preservation.observed(subject.starts, subject.grid).shape[:2]))
    truth = _true_states(subject) if subject.system else None
    courses: dict[str, Course] = {}
    for kind in kinds:
        carried = _carried(kind, subject, truth)
        if carried is None:
            advance(len(subject.times))
        else:
            step, states = carried
            judge = _Judge(subject, ensemble, floor, truth, lambda done, kind=kind: advance(done, kind))
            courses[kind] = judge.course(states, step)
    return Rollout(tuple(subject.times), courses)


@dataclass(frozen=True)
class _Judge:
    """What the states of a rollout are held against."""

    subject: Subject
    ensemble: preservation.Ensemble
    floor: float
    truth: list[np.ndarray] | None
    advance: Advance

    def course(self, states: Iterator[np.ndarray], step: float) -> Course:
        """How states [N, C, H, W] at each of the times go, until they blow up."""
        starts, times = self.subject.starts.astype(np.float32), self.subject.times
        known = self.subject.starts_grid.inside(0)
        begun = starts[..., known]
        frames, ratios, correlations, cosines = [], [], [], []
        blown_up = None
        for n, (time, c) in enumerate(zip(times, states, strict=False)):
            ratio = self.ensemble.distance(preservation.observed(c, self.subject.grid)) / self.floor
            if not np.isfinite(c).all() or ratio > GONE:
                blown_up = float(time)
                break
            frames.append(c[0])
            ratios.append(ratio)
            correlations.append(preservation.correlation(c[..., known], begun))
            if self.truth is not None and n:
                cosines.append(preservation.displacement_cosine(c[..., known], self.truth[n][..., known], begun))
            self.advance(1)
        lost = len(times) - len(frames)
        if lost:
            self.advance(lost)
            frames += [np.full_like(starts[0], np.nan)] * lost
        curves = tuple(ratios), tuple(correlations), tuple(cosines)
        return Course(tuple(times), *curves, step=step, blown_up=blown_up, frames=np.stack(frames))


@torch.no_grad()
def _true_states(subject: Subject) -> list[np.ndarray]:
    system, grid = subject.system, subject.starts_grid
    assert system is not None
    states = [subject.starts.astype(np.float32)]
    if grid.is_closed:
        scheme = Scheme(grid, system.run.dt, subject.operator, subject.integrator)
        for before, after in itertools.pairwise(subject.times):
            states.append(simulate(states[-1], system, scheme, after - before))
        return states
    field = SystemField(system, subject.flow.scaling, 1 / system.run.dt, grid, subject.operator)
    x = subject.flow.scaling.to_training(torch.from_numpy(states[0]))
    step = min(1.0, stable_step(stiffest_rate(field, x[:RATE_STATES])))
    return list(_integrated(_Langevin(field, None, 1.0, 0.0), subject, x, step))


@torch.no_grad()
def _carried(kind: str, subject: Subject, truth: list[np.ndarray] | None) -> tuple[float, Iterator[np.ndarray]] | None:
    """The step, and values [N, C, H, W] at each of the times; None where this kind cannot be had."""
    if kind == TRUE:
        return None if truth is None else (1.0, iter(truth))
    if kind == STILL:
        return 0.0, iter([subject.starts.astype(np.float32)] * len(subject.times))
    if kind == SCORE and subject.score is None:
        return None
    x = subject.flow.scaling.to_training(torch.from_numpy(subject.starts.astype(np.float32)))
    way = _way(kind, subject, x)
    y = x
    if way.score is not None:
        y = math.sqrt(way.alpha) * x + math.sqrt(1 - way.alpha) * normal_like(x, subject.seed, -1, list(range(len(x))))
    step = subject.step or stable_step(stiffest_rate(way.drift, y[:RATE_STATES]), way.share)
    if kind == RANDOM:
        step = max(step, LEAST_RANDOM_STEP)
    return step, _integrated(way, subject, y, step)


@torch.no_grad()
def _integrated(way: _Langevin, subject: Subject, y: Tensor, step: float) -> Iterator[np.ndarray]:
    """Values at each of the times, of states y in training coordinates that are carried on in place."""
    number = 0
    for n, time in enumerate(subject.times):
        if n:
            between = time - subject.times[n - 1]
            steps = max(1, math.ceil(between / step))
            dt = between / steps
            # One state after the other: its layers stay in the processor's cache.
            for i in range(len(y)):
                for k in range(steps):
                    kick: Tensor | float = 0.0
                    if way.diffusion:
                        kick = math.sqrt(2 * way.diffusion * dt) * normal_like(y[:1], subject.seed, number + k, [i])
                    y[i : i + 1] = heun(way.drift, y[i : i + 1], dt, kick)
            number += steps
        clean = y if way.score is None else torch.cat([way.score.denoise(part, way.alpha) for part in y.split(1)])
        yield subject.flow.scaling.to_values(clean).numpy().copy()


def _way(kind: str, subject: Subject, x: Tensor) -> _Langevin:
    """The drift of a kind of dynamics, in training coordinates, per step of the simulator."""
    flow, alpha = subject.flow, subject.flow.alpha or subject.alpha
    speed = time_scale(subject, x)
    eta = subject.eta * speed
    if kind == SCORE:
        assert subject.score is not None
        eta = eta or LANGEVIN_ETA * speed
        alpha = min(max(alpha, min(subject.score.alpha)), max(subject.score.alpha))
        return _Langevin(_corrected(None, subject.score, alpha, 0.0, eta), subject.score, alpha, eta)
    velocity = _random_field(flow, x, subject.seed) if kind == RANDOM else flow.field
    speed = -speed if kind == REVERSED else speed
    if flow.alpha is None and not eta:
        return _Langevin(lambda y: speed * velocity(y), None, 1.0, 0.0)
    score = subject.score
    assert score is not None
    if flow.alpha is not None and kind != RANDOM:
        at_noised = velocity.at_noised if isinstance(velocity, SkewField) else velocity
        drift = _corrected(at_noised, score, alpha, speed, eta)
    else:

        def of_clean(y: Tensor) -> Tensor:
            return math.sqrt(alpha) * velocity(score.denoise(y, alpha))

        drift = _corrected(of_clean, score, alpha, speed, eta)
    return _Langevin(drift, score, alpha, eta if subject.noise else 0.0)


def _corrected(velocity: Drift | None, score: ScoreModel, alpha: float, speed: float, eta: float) -> Drift:
    def drift(y: Tensor) -> Tensor:
        along = speed * velocity(y) if velocity else torch.zeros_like(y)
        return along + eta * score.score(y, alpha) if eta else along

    return drift


@torch.no_grad()
def time_scale(subject: Subject, x: Tensor) -> float:
    """The flow's units of time in a step of the simulator; its direction of time is left as it is."""
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
