"""A flow carried on in time, from snapshots, beside the true system and baselines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from p2d.config import RolloutConfig, RolloutSource, settings_hash
from p2d.config.stored import Json
from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.evaluate.course import Clock, Rollout
from p2d.evaluate.metrics import known_system, operator_of
from p2d.evaluate.rollout import roll_out
from p2d.evaluate.ways import KINDS, Subject, score_beside, time_scale
from p2d.fields import Scaling
from p2d.flow.model import Flow
from p2d.flow.system_field import SystemField
from p2d.pipeline.refuse import refuse_other_levels, refuse_other_systems, refuse_systems
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import EQUATION, FLOW, REPORT, SCORE, read_json, short_name
from p2d.show.view import View
from p2d.snapshots.conditions import nearest_label
from p2d.snapshots.store import Dataset, evenly, find_dataset
from p2d.systems.system import System
from p2d.tracking.datasets import EVALUATION
from p2d.training.checkpoint import read_config

REFERENCE = 512  # snapshots, at most, that make the ensemble


def rollout(source: RolloutSource, config: RolloutConfig, out: Path, track: Tracker) -> Outcome:
    """Roll a flow or an equation out into OUT/report/NAME/rollout: frames, animation, panels, measurements over time.

    Raises:
        UserError: no such flow, equation, dataset, sample or score model; a corrector without a score model, or at a
            level that it was not trained for; too few snapshots to measure by.
    """
    carrier = _equation(source, out) if source.equation else _flow(source, out)
    dataset = find_dataset(source.start or carrier.learnt_from.get("dataset", ""), out)
    view = View(dataset.card.species, dataset.card.grid, config.show)
    if source.equation and not carrier.conditions:
        refuse_systems(f"{carrier.where} is of", carrier.learnt_from, dataset, "an equation")
    elif not source.equation:
        refuse_other_systems("flow", carrier.where, dataset)
    score = _choose_score(source, config, carrier, dataset, out)
    starts, others = _split(dataset, config, carrier.conditions)
    place = REPORT.place(out, source.name or carrier.name) / "rollout"
    inputs = {
        **config.identity(),
        carrier.kind: carrier.identity,
        "score": settings_hash(read_config(score, "score")) if score else None,
        "dataset_hash": dataset.card.dataset_hash,
    }
    file = place / "rollout.json"
    if file.is_file() and (before := Rollout.load(file)).inputs == inputs:
        return Outcome("rollout", False, place, before.to_dict(), result=before)
    from p2d.cluster.mapping import choose_mapper
    from p2d.show import figures

    if not figures.can_animate(config.animation):
        raise UserError("animation = mp4 needs ffmpeg, which is not here; take gif")
    start = time.monotonic()
    grid, states = dataset.card.grid, dataset.states(starts)
    flow = carrier.load(dataset, states).on(grid)
    subject = Subject(
        flow=flow,
        system=_true_system(dataset, carrier.conditions),
        score=score_beside(flow, score),
        starts=states,
        ensemble=dataset.states(others),
        grid=grid,
        operator=operator_of(dataset),
        integrator=dataset.card.settings.get("integrator", "euler"),
        **{key: getattr(config, key) for key in ("times", "eta", "alpha", "noise", "step", "seed")},
    )
    subject, clock = _timed(subject, config.time, carrier.time_unit)
    with stage(track, "rollout", place, {**config.to_dict(), **source.to_dict()}) as child:
        child.dataset(dataset, EVALUATION)
        each = choose_mapper(source.workers)
        with progress("rollout", len(KINDS) * len(subject.times) * len(starts), "frames") as advance:
            rolled = roll_out(subject, KINDS, advance, each)
        rolled = replace(rolled, inputs=inputs, starts=tuple(starts.tolist()), clock=clock)
        _draw(place, rolled, config, f"{carrier.name}, sample {config.sample}", view)
        for n, at in enumerate(config.times):
            child.metrics(rolled.metrics(n), step=at)
        rolled.save(file)
        for path in sorted(place.iterdir()):
            child.artifact(path)
    for line in carrier.remarks:
        say(f"  {line}")
    if subject.system is None and not clock.step:
        say("  the true system is not known: a step is the time in which the fastest change of the flow falls to 1/e")
    if not grid.is_closed:
        say("  nothing is known beyond open edges and masks: the states are carried on as if there were walls, no flux")
    return Outcome("rollout", True, place, rolled.to_dict(), time.monotonic() - start, rolled)


def _timed(subject: Subject, wished: float, unit: str) -> tuple[Subject, Clock]:
    """What is rolled out with its pace, and how times are shown: those of an equation in its own unit.

    Args:
        wished: how long it is to be in that unit; 0: as many steps as are asked for.
        unit: of the equation's times.

    Raises:
        UserError: a time where the unit is not the equation's.
    """
    field = subject.flow.field
    if subject.system is None and isinstance(field, SystemField) and field.speed:
        x = subject.flow.scaling.to_training(torch.from_numpy(subject.starts))
        pace = wished / subject.times[-1] * field.speed or time_scale(subject, x)
        return replace(subject, pace=pace), Clock(pace / field.speed, unit)
    if wished:
        raise UserError(
            f"time = {wished:g} is not possible: it is for an equation (--equation) of a system that is not known; "
            "give --steps"
        )
    return subject, Clock() if subject.system else Clock(steps="steps (of the fastest change to 1/e)")


def _draw(place: Path, rolled: Rollout, config: RolloutConfig, title: str, view: View) -> None:
    """Frames, panels, curves and animation; those of other settings before are removed."""
    from p2d.show import curves, figures
    from p2d.snapshots.frames import write_frames

    drawn = ("true", "recovered", "score only", "reversed")
    shown = {k: c.frames for k, c in rolled.courses.items() if k in drawn and c.frames is not None}
    for stale in place.glob("rollout.*"):
        stale.unlink()
    write_frames(place / "frames.parquet", config.times, shown)
    film = figures.Film(config.times, shown, view, title, rolled.clock)
    figures.draw_rollout(place / "panels.png", film)
    curves.draw_preservation(place / "preservation.png", rolled, title)
    if config.animation != "none":
        figures.draw_animation(place / f"rollout.{config.animation}", film)


@dataclass(frozen=True)
class _Carrier:
    """What carries snapshots on: a flow or an equation.

    Attributes:
        kind: 'flow' or 'equation'.
        where: its folder or file.
        learnt_from: its dataset, and the systems of that.
        scaling: its training coordinates; None: those of any dataset.
        settings: of a flow.
        identity: to know it again.
        time_unit: of an equation's times, where they have a name.
        load: makes it, in the unit of time of flows over some states of a dataset.
        conditions: that an equation is shown at, of those that it holds across.
        remarks: what has to be said of these.
    """

    kind: str
    where: Path
    name: str
    learnt_from: Json
    scaling: Scaling | None
    settings: Json
    identity: str
    load: Callable[[Dataset, np.ndarray], Flow]
    time_unit: str = ""
    conditions: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def _flow(source: RolloutSource, out: Path) -> _Carrier:
    folder = FLOW.find(out, source.flow)
    made = read_config(folder, "flow")

    return _Carrier(
        kind="flow",
        where=folder,
        name=folder.name,
        learnt_from=made.get("learnt_from", {}),
        scaling=Scaling.from_dict(made["data"]["scaling"]),
        settings=made["settings"],
        identity=settings_hash({**made["settings"], **made["data"]}),
        load=lambda *_: Flow.load(folder),
    )


def _equation(source: RolloutSource, out: Path) -> _Carrier:
    file = EQUATION.find(out, source.equation)
    discovery = Discovery.load(file)
    conditions = {**discovery.middle, **source.conditions}
    system = discovery.at(**conditions)
    shown = ", ".join(f"{name} = {value:g}" for name, value in conditions.items())

    def load(dataset: Dataset, states: np.ndarray) -> Flow:
        x, grid = torch.from_numpy(states), dataset.card.grid
        return Flow.of_system(system, x, dataset.scaling, grid, discovery.operator)

    return _Carrier(
        kind="equation",
        where=file,
        name="_".join([f"{file.parent.name}_equation", *(f"{k}{v:g}" for k, v in source.conditions.items())]),
        learnt_from=read_json(file, "learnt_from")["learnt_from"],
        scaling=None,
        settings={"objective": "stationarity"},
        identity=settings_hash({**discovery.terms, **conditions} if conditions else discovery.terms),
        load=load,
        time_unit=discovery.time_unit,
        conditions=conditions,
        remarks=tuple(filter(None, [shown and f"the equation at {shown}", discovery.beyond(conditions)])),
    )


def _true_system(dataset: Dataset, conditions: dict[str, float]) -> System | None:
    """The system of a dataset, where that is known; under these conditions, where they are parameters of it."""
    if not conditions:
        return known_system(dataset)
    like = dataset.card.systems.get(nearest_label(dataset.card.conditions, conditions))
    return like.at("", **conditions) if like and conditions.keys() <= like.parameters.keys() else None


def _choose_score(
    source: RolloutSource, config: RolloutConfig, carrier: _Carrier, dataset: Dataset, out: Path
) -> Path | None:
    """The score model beside a flow or an equation, if there is one.

    Raises:
        UserError: none where one is needed, or one of another system, scaling or signal level.
    """
    score = SCORE.find_or_own(out, source.score, short_name(carrier.learnt_from.get("dataset", "")))
    if score is not None:
        refuse_other_systems("score", score, dataset)
        own = Scaling.from_dict(read_config(score, "score")["data"]["scaling"])
        if own != (carrier.scaling or dataset.scaling):
            raise UserError(
                f"{score} was trained with another normalisation than {carrier.where}; name another score model"
            )
    # A corrector and the states of a noised flow need one; a training-free flow has its own.
    objective = carrier.settings["objective"]
    if objective != "training-free" and (config.eta or objective == "continuity"):
        if score is None:
            raise UserError(
                f"rolling out {carrier.where} this way needs a score model: name one with --score, or train-score "
                "makes one"
            )
        refuse_other_levels(score, config.alpha if objective == "stationarity" else carrier.settings["alpha"])
    return score


def _split(dataset: Dataset, config: RolloutConfig, conditions: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Sample ids of the starts, the shown one first, and of the ensemble that they are held against.

    Under conditions, all are of the nearest ones, and the first one of these is shown where none is asked for.
    """
    living = dataset.living
    if conditions:
        living = living[_is_nearest(dataset, conditions, living)]
        if config.sample == RolloutConfig.sample and len(living):
            config = replace(config, sample=int(living[0]))
    if config.sample not in living:
        dead = 0 <= config.sample < dataset.card.samples
        why = "has died out (uniform)" if dead else "is not there"
        raise UserError(f"sample {config.sample} of {dataset.folder} {why}; such as {living[0]} is")
    if len(living) < 2:
        raise UserError(
            f"{dataset.folder} has one living snapshot, and a rollout is measured against others; p2d simulate "
            "--equation carries an equation on from other starts, and --from names other snapshots"
        )
    runs = dataset.runs(living)
    is_film = (runs == runs[0]).all()
    # Of each run one, as its frames are alike; of a single film some of its frames.
    first = living if is_film else living[np.unique(runs, return_index=True)[1]]
    same = first == config.sample if is_film else dataset.runs(first) == runs[living == config.sample]
    others = first[~same]
    count = min(config.ensemble, (len(others) + 1) // 2) - 1
    starts = np.concatenate([[config.sample], others[len(others) - count :]]).astype(np.int64)
    rest = living[~np.isin(living if is_film else runs, starts if is_film else dataset.runs(starts))]
    return starts, evenly(rest, REFERENCE)


def _is_nearest(dataset: Dataset, conditions: dict[str, float], sample_ids: np.ndarray) -> np.ndarray:
    """Which of these samples are of the conditions that are nearest to some."""
    label = nearest_label(dataset.card.conditions, conditions)
    labels = np.array([kind.system for kind in dataset.shards.kinds])
    return labels[dataset.shards.kinds_of(sample_ids)] == label
