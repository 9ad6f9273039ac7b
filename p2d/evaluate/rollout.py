"""A recovered field carried on in time, beside the true system and what does not know the dynamics; see ways.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from p2d.evaluate import preservation
from p2d.evaluate.course import Course, Rollout
from p2d.evaluate.ways import STILL, TRUE, Subject, Way, choose_way, integrated, true_states, true_step
from p2d.progress import Advance
from p2d.threads import Mapper

GONE = 1e3  # floors; an ensemble that far away is as good as blown up


def roll_out(subject: Subject, kinds: tuple[str, ...], advance: Advance, each: Mapper = map) -> Rollout:
    """The courses of these kinds of dynamics from the same starts; those that need what is not there are left out.

    Args:
        advance: told the frames of each start and kind that is done, and those of kinds that are left out.
        each: a map over kinds and starts, whose function is pickled where it is over processes; it changes nothing.

    Raises:
        UserError: see the models.
    """
    ensemble = preservation.Ensemble(subject.ensemble, subject.seed, subject.grid)
    floor = ensemble.floor(math.prod(preservation.observed(subject.starts, subject.grid).shape[:2]))
    ways = {kind: way for kind in kinds if (way := choose_way(kind, subject)) is not None}
    starts, times = range(len(subject.starts)), subject.times
    advance(len(times) * len(starts) * (len(kinds) - len(ways)))
    every = [(kind, start) for kind in ways for start in starts]
    legs = each(_Carry(replace(subject, ensemble=subject.ensemble[:0]), ways, true_step(subject)), every)
    courses: dict[str, Course] = {}
    for kind, way in ways.items():
        own = []
        for leg in itertools.islice(legs, len(starts)):
            own.append(leg)
            advance(len(times), kind)
        courses[kind] = _judged(own, times, way.step, lambda tiles: ensemble.distance(tiles) / floor)
    return Rollout(tuple(times), courses)


@dataclass(frozen=True)
class _Leg:
    """How one start was carried on: what is measured of each of its frames, until one is not finite.

    Attributes:
        tiles: averages of each frame, [1, T, K], see preservation.observed.
        memory: with the start, [C, 6], see preservation.memory.
        displacements: beside the true ones, [3], where these are known.
        frames: of the first start, [T, C, H, W], nan from the first that is not finite.
    """

    tiles: list[np.ndarray]
    memory: list[np.ndarray]
    displacements: list[np.ndarray]
    frames: np.ndarray | None


def _judged(legs: list[_Leg], times: list[int], step: float, ratio_of: Callable[[np.ndarray], float]) -> Course:
    """How the starts went together, until they blow up."""
    ratios, correlations, cosines = [], [], []
    blown_up = None
    for n, time in enumerate(times):
        is_finite = all(n < len(leg.tiles) for leg in legs)
        ratio = ratio_of(np.concatenate([leg.tiles[n] for leg in legs])) if is_finite else math.inf
        if ratio > GONE:
            blown_up = float(time)
            break
        ratios.append(ratio)
        correlations.append(preservation.correlation_of(sum(leg.memory[n] for leg in legs)))  # type: ignore[arg-type]
        if n and legs[0].displacements:
            cosines.append(preservation.cosine_of(sum(leg.displacements[n] for leg in legs)))  # type: ignore[arg-type]
    assert legs[0].frames is not None
    frames = legs[0].frames.copy()  # what comes from another process may not be written
    frames[len(ratios) :] = np.nan
    curves = tuple(ratios), tuple(correlations), tuple(cosines)
    return Course(tuple(times), *curves, step=step, blown_up=blown_up, frames=frames)


@dataclass(frozen=True)
class _Carry:
    """Carries the start of a number on by a kind of dynamics, beside the true one where it is known."""

    subject: Subject
    ways: dict[str, Way]
    true_step: float

    @torch.no_grad()
    def __call__(self, of: tuple[str, int]) -> _Leg:
        kind, number = of
        subject, times = self.subject, self.subject.times
        start = subject.starts[number : number + 1].astype(np.float32)
        known = subject.starts_grid.inside(0)
        middle = subject.starts[..., known].mean(axis=(0, 2))
        truth = true_states(subject, start, self.true_step) if subject.system else None
        if truth and kind == STILL:
            truth = itertools.repeat(start)  # what does not move goes along with nothing
        states = itertools.repeat(start) if kind == STILL else self._states(kind, start, number)
        leg = _Leg([], [], [], None if number else np.full((len(times), *start.shape[1:]), np.nan, np.float32))
        for n in range(len(times)):
            true = None if truth is None else next(truth)
            c = true if kind == TRUE and true is not None else next(states)
            if not np.isfinite(c).all():
                break
            if leg.frames is not None:
                leg.frames[n] = c[0]
            leg.tiles.append(preservation.observed(c, subject.grid))
            leg.memory.append(preservation.memory(c[..., known], start[..., known], middle))
            if true is not None:
                leg.displacements.append(preservation.displacements(c[..., known], true[..., known], start[..., known]))
        return leg

    def _states(self, kind: str, start: np.ndarray, number: int) -> Iterator[np.ndarray]:
        way = self.ways[kind]
        return integrated(way, self.subject, way.begun(self.subject, torch.from_numpy(start), [number]), number)
