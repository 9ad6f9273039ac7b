"""A flow carried on in time, from snapshots, beside the true system and baselines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.config import RolloutConfig, RolloutSource, settings_hash
from p2d.errors import UserError
from p2d.pipeline.refuse import refuse_other_levels, refuse_other_systems, refuse_systems
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import EQUATION, FLOW, REPORT, SCORE, short_name, write_json
from p2d.snapshots.store import Dataset, evenly, find_dataset
from p2d.training.checkpoint import read_config

if TYPE_CHECKING:
    from p2d.evaluate.rollout import Subject
    from p2d.flow.model import Flow

REFERENCE = 512  # snapshots, at most, that make the ensemble


def rollout(source: RolloutSource, config: RolloutConfig, out: Path, track: Tracker) -> Outcome:
    """Roll a flow or an equation out into OUT/report/NAME/rollout: frames, animation, panels, measurements over time.

    Raises:
        UserError: no such flow, equation, dataset, sample or score model; a corrector without a score model, or at a
            level that it was not trained for; too few snapshots to measure by.
    """
    what = _equation(source, out) if source.equation else _flow(source, out)
    learnt_from = what.learnt_from.get("dataset", "")
    dataset = find_dataset(source.start or learnt_from, out)
    if source.equation:
        refuse_systems(f"{what.where} is of", what.learnt_from, dataset, "an equation")
    else:
        refuse_other_systems("flow", what.where, dataset)
    score = SCORE.find_or_own(out, source.score, short_name(learnt_from))
    if score is not None:
        refuse_other_systems("score", score, dataset)
        if read_config(score, "score")["data"]["affine"] != what.affine:
            raise UserError(
                f"{score} was trained with another normalisation than {what.where}; name another score model"
            )
    _check_score(config, what.settings, score, what.where)
    starts, others = _split(dataset, config)
    place = REPORT.place(out, source.name or what.name) / "rollout"
    inputs = {
        **config.identity(),
        what.kind: what.identity,
        "score": settings_hash(read_config(score, "score")) if score else None,
        "dataset_hash": dataset.card.dataset_hash,
    }
    file = place / "rollout.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    if before.get("inputs") == inputs:
        return Outcome("rollout", False, place, before)
    from p2d.evaluate import rollout as rolling
    from p2d.show import figures
    from p2d.snapshots.frames import write_frames

    if not figures.can_animate(config.animation):
        raise UserError("animation = mp4 needs ffmpeg, which is not here; take gif")
    start = time.monotonic()
    subject = _subject(config, dataset, what.load(dataset.states(np.sort(starts))), score, starts, others)
    kinds = (rolling.TRUE, rolling.RECOVERED, rolling.SCORE, rolling.REVERSED, rolling.RANDOM, rolling.STILL)
    with stage(track, "rollout", place, {**config.to_dict(), **source.to_dict()}) as child:
        with progress("rollout", len(kinds) * len(config.times), "frames") as advance:
            courses = rolling.roll_out(subject, kinds, advance)
        found = {**rolling.summary(courses, config.times), "inputs": inputs, "starts": starts.tolist()}
        shown = {k: np.stack(courses[k].frames) for k in kinds[:4] if k in courses}
        for stale in place.glob("rollout.*"):
            stale.unlink()
        write_frames(place / "frames.parquet", config.times, shown)
        title = f"{what.name}, sample {config.sample}"
        figures.strip(place / "panels.png", config.times, shown, config.plot_channel, title)
        ratios, correlations = ({k: getattr(c, key) for k, c in courses.items()} for key in ("ratio", "correlation"))
        figures.preservation(place / "preservation.png", config.times, ratios, correlations, title)
        if config.animation != "none":
            clip = place / f"rollout.{config.animation}"
            figures.animation(clip, config.times, shown, config.plot_channel, title)
        for n, at in enumerate(config.times):
            child.metrics({f"ratio_{_key(k)}": c.ratio[n] for k, c in courses.items() if n < len(c.ratio)}, step=at)
        write_json(file, found)
        for path in sorted(place.iterdir()):
            child.artifact(path)
    if subject.system is None:
        say("  the true system is not known: time is counted so that diffusion is as fast as in the waves preset")
    return Outcome("rollout", True, place, found, time.monotonic() - start)


@dataclass(frozen=True)
class _Carrier:
    """What carries snapshots on: a flow or an equation.

    Attributes:
        kind: 'flow' or 'equation'.
        where: its folder or file.
        learnt_from: its dataset, and the systems of that.
        affine: its training coordinates.
        settings: of a flow.
        identity: to know it again.
        load: makes it, in the unit of time of flows over some states.
    """

    kind: str
    where: Path
    name: str
    learnt_from: dict[str, Any]
    affine: dict[str, float]
    settings: dict[str, Any]
    identity: str
    load: Callable[[np.ndarray], Flow]


def _flow(source: RolloutSource, out: Path) -> _Carrier:
    folder = FLOW.find(out, source.flow)
    made = read_config(folder, "flow")

    def load(_: np.ndarray) -> Flow:
        from p2d.flow.model import Flow

        return Flow.load(folder)

    return _Carrier(
        kind="flow",
        where=folder,
        name=folder.name,
        learnt_from=made.get("learnt_from", {}),
        affine=made["data"]["affine"],
        settings=made["settings"],
        identity=settings_hash({**made["settings"], **made["data"]}),
        load=load,
    )


def _equation(source: RolloutSource, out: Path) -> _Carrier:
    from p2d.flow.equation_field import AFFINE

    file = EQUATION.find(out, source.equation)
    made = json.loads(file.read_text())
    equation = made["found"]["equation"]

    def load(states: np.ndarray) -> Flow:
        import torch

        from p2d.flow.model import Flow

        return Flow.of_equation(equation, torch.from_numpy(states))

    return _Carrier(
        kind="equation",
        where=file,
        name=f"{file.parent.name}_equation",
        learnt_from=made["learnt_from"],
        affine=AFFINE,
        settings={"objective": "stationarity"},
        identity=settings_hash(equation),
        load=load,
    )


def _key(kind: str) -> str:
    return "still" if kind == "v = 0" else kind.replace(" ", "_")


def _check_score(config: RolloutConfig, settings: dict[str, Any], score: Path | None, flow: Path) -> None:
    """Refuse a corrector, or states of a noised flow, without the score model that they need."""
    own = settings["objective"] == "training-free"
    if score is None and not own and (config.eta or settings["objective"] == "continuity"):
        raise UserError(
            f"rolling out {flow} this way needs a score model: name one with --score, or train-score makes one"
        )
    if score is None or own or not (config.eta or settings["objective"] == "continuity"):
        return
    refuse_other_levels(score, config.alpha if settings["objective"] == "stationarity" else settings["alpha"])


def _split(dataset: Dataset, config: RolloutConfig) -> tuple[np.ndarray, np.ndarray]:
    """Sample ids of the starts, the shown one first, and of the ensemble that they are held against."""
    living = dataset.living
    if config.sample not in living:
        dead = config.sample in dataset.index.column("sample_id").to_numpy()
        why = "has died out (uniform)" if dead else "is not there"
        raise UserError(f"sample {config.sample} of {dataset.folder} {why}; such as {living[0]} is")
    if len(living) < 2:
        raise UserError(f"{dataset.folder} has {len(living)} living snapshots: a rollout is measured against others")
    count = min(config.ensemble, len(living) // 2)
    others = living[living != config.sample]
    starts = (
        np.concatenate([[config.sample], others[len(others) - (count - 1) :]])
        if count > 1
        else np.array([config.sample])
    )
    rest = living[~np.isin(dataset.runs(living), dataset.runs(starts))]
    if not len(rest):
        raise UserError(f"{dataset.folder} has no living snapshots of other runs than the starts', to measure by")
    return starts, evenly(rest, REFERENCE)


def _subject(
    config: RolloutConfig, dataset: Dataset, flow: Flow, score: Path | None, starts: np.ndarray, others: np.ndarray
) -> Subject:
    from p2d.evaluate import rollout as rolling

    return rolling.Subject(
        flow=flow,
        system=rolling.known_system(dataset),
        score=rolling.score_beside(flow, score),
        starts=np.concatenate([dataset.states(np.array([i])) for i in starts]),
        ensemble=dataset.states(others),
        times=config.times,
        eta=config.eta,
        alpha=config.alpha,
        noise=config.noise,
        step=config.step,
        seed=config.seed,
    )
