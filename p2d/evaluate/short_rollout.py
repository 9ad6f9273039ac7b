"""One snapshot carried on by what was found, beside the true system or the data's own frames: seconds, for a report.

How long it goes on is the pattern's own: some times the time in which it changes by as much as it varies.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch

from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.evaluate.course import Clock
from p2d.evaluate.metrics import known_system, operator_of
from p2d.evaluate.rollout import roll_out
from p2d.evaluate.ways import RECOVERED, TRUE, Subject, choose_way, time_scale
from p2d.fields import Grid
from p2d.flow.model import Flow
from p2d.flow.system_field import SystemField
from p2d.snapshots.store import Dataset, evenly
from p2d.systems.stepping import Scheme
from p2d.systems.stepping import run as advance

FRAMES = 40  # beside the start
LONG = 8.0  # times the pattern's own
MOST_STEPS = 2000  # of Heun's method
TICKS = 16  # of a time between frames that is the unit of whole times
LEAST_FRAMES = 3  # of a film
OTHERS = 32  # snapshots that make the ensemble it is held against
DATA = "data"
Frames = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ShortRollout:
    """How a snapshot goes on.

    Attributes:
        sample: its id.
        times: of the frames, as the clock has them.
        frames: values [T, C, H, W] by kind of dynamics, nan from where one has blown up; what is true comes first.
        cosine: of the displacement with the true one, at each time but the first; empty where that is not known.
        clock: how times are shown.
    """

    sample: int
    times: tuple[int, ...]
    frames: Frames
    cosine: tuple[float, ...]
    clock: Clock


@torch.no_grad()
def roll_out_shortly(
    dataset: Dataset, held_ids: np.ndarray, discovery: Discovery | None, flow: Flow | None
) -> ShortRollout | None:
    """The first held-out snapshot carried on by an equation or, without one, a flow; None without either.

    A flow of noised states, which needs a score model, is none.
    """
    grid, states = dataset.card.grid, dataset.states(held_ids[:1])
    speed, unit = 0.0, ""
    if discovery is not None:
        x = torch.from_numpy(states)
        flow = Flow.of_system(discovery.system, x, dataset.scaling, grid, discovery.operator)
        speed, unit = float(flow.field.speed), discovery.time_unit  # type: ignore[arg-type]
        if not speed:  # nothing moves
            return None
    if flow is None or flow.alpha is not None or not len(dataset.living):
        return None
    subject = Subject(
        flow=flow.on(grid) if discovery is None else flow,
        system=known_system(dataset),
        grid=grid,
        operator=operator_of(dataset),
        integrator=dataset.card.settings.get("integrator", "euler"),
        score=None,
        starts=states,
        ensemble=dataset.states(evenly(dataset.living, OTHERS)),
        times=[0, 1],
    )
    film = _film(dataset, held_ids, discovery) if subject.system is None else None
    if film is not None:
        ids, times, tick = film
        if discovery is not None and _is_exact(discovery, grid, tick):
            return _beside_film(discovery, dataset, ids, times, Clock(tick, unit))
        filmed = replace(subject, pace=tick * speed)
        count = sum(time <= _longest(filmed) for time in times)
        if count > LEAST_FRAMES:
            states = dataset.states(ids[:count])
            return _rolled(replace(filmed, times=times[:count]), int(ids[0]), Clock(tick, unit), {DATA: states})
    times = _times(subject)
    step = subject.system.run.dt if subject.system else time_scale(subject, _scaled(subject)) / (speed or 1.0)
    named = discovery is not None or subject.system is not None
    return _rolled(replace(subject, times=times), int(held_ids[0]), Clock(step if named else 0.0, unit), {})


def _is_exact(discovery: Discovery, grid: Grid, dt: float) -> bool:
    """Whether an equation can be integrated exactly in its stiff parts."""
    try:
        Scheme(grid, dt, discovery.operator, "etdrk4").refuse(discovery.system)
    except UserError:
        return False
    return True


def _beside_film(
    discovery: Discovery, dataset: Dataset, ids: np.ndarray, times: list[int], clock: Clock
) -> ShortRollout:
    """Frames of a run beside those of an equation from the first one on, whose stiff parts are integrated exactly."""
    grid, film = dataset.card.grid, dataset.states(ids)
    frames = np.full_like(film, np.nan)
    frames[0] = film[0]
    for n, ticks in enumerate(np.diff(times).tolist()):
        if not np.isfinite(frames[n]).all():
            break
        scheme = Scheme(grid, clock.step, discovery.operator, "etdrk4")
        frames[n + 1] = advance(frames[n : n + 1], discovery.system, scheme, ticks, "cpu", 1)[0]
    moved = [(frames[n] - film[0]).ravel().astype(np.float64) for n in range(1, len(ids))]
    true = [(state - film[0]).ravel().astype(np.float64) for state in film[1:]]
    cosines = (float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-30)) for a, b in zip(moved, true, strict=True))
    known = tuple(itertools.takewhile(np.isfinite, cosines))
    return ShortRollout(int(ids[0]), tuple(times), {DATA: film, "equation": frames}, known, clock)


def _rolled(subject: Subject, sample: int, clock: Clock, beside: Frames) -> ShortRollout:
    courses = roll_out(subject, (TRUE, RECOVERED), lambda *_: None).courses
    frames = {kind: course.frames for kind, course in courses.items() if course.frames is not None}
    name = "equation" if isinstance(subject.flow.field, SystemField) else "flow"
    named = {("true system" if kind == TRUE else name): own for kind, own in frames.items()}
    return ShortRollout(sample, tuple(subject.times), {**beside, **named}, courses[RECOVERED].cosine, clock)


def _scaled(subject: Subject) -> torch.Tensor:
    return subject.flow.scaling.to_training(torch.from_numpy(subject.starts.astype(np.float32)))


def _times(subject: Subject) -> list[int]:
    """Times of the frames in steps, such that the pattern changes a good deal, and the integration is short."""
    x, inside = _scaled(subject), torch.from_numpy(subject.starts_grid.inside(0).copy())
    spread = float((x - x[..., inside].mean(dim=-1)[..., None, None])[..., inside].square().mean().sqrt())
    speed = time_scale(subject, x) * float(subject.flow.field(x)[..., inside].square().mean().sqrt())
    length = min(LONG * spread / max(speed, 1e-30), _longest(subject))
    return sorted({round(time) for time in np.linspace(0, max(length, 1.0), FRAMES + 1)})


def _longest(subject: Subject) -> float:
    """What can be integrated in seconds, in steps."""
    way = choose_way(RECOVERED, subject)
    assert way is not None
    return MOST_STEPS * way.step


def _film(
    dataset: Dataset, held_ids: np.ndarray, discovery: Discovery | None
) -> tuple[np.ndarray, list[int], float] | None:
    """Frames of a held-out run with times in the equation's unit: their ids, whole times, and what is their unit."""
    if discovery is None or not discovery.timed:
        return None
    runs = dataset.runs(held_ids)
    ids = held_ids[runs == runs[0]]
    times = dataset.times(ids)
    order = np.argsort(times, kind="stable")[: FRAMES + 1]
    ids, times = ids[order], times[order]
    between = np.diff(times)
    if len(ids) < LEAST_FRAMES or not np.isfinite(times).all() or not (between > 0).all():
        return None
    tick = float(np.median(between)) / TICKS
    return ids, np.round((times - times[0]) / tick).astype(int).tolist(), tick
