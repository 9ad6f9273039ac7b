"""What speaks against an ensemble before it is fitted, and the runs that it shows to be of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from p2d.discovery.measuring import imbalance_of
from p2d.discovery.moments import Measure
from p2d.discovery.verdict import LEAST_RUNS
from p2d.errors import UserError
from p2d.snapshots import static
from p2d.snapshots.doubts import Doubt, examine
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.passes import Snapshots
from p2d.snapshots.store import evenly

EXAMINED = 256  # snapshots, at most, that are looked at for what speaks against them


def examined(snapshots: Snapshots, *, is_film: bool) -> tuple[Snapshots, tuple[Doubt, ...]]:
    """What speaks against the snapshots; and these in runs as they show them, where all of them could be looked at.

    Args:
        is_film: frames of few runs, of which each stays its own: joined to stretches they are too few to choose terms.
    """
    doubts, runs = _examined_part(snapshots, snapshots.sample_ids, may_join=not is_film)
    joined = len(np.unique(runs)) < len(np.unique(snapshots.runs_of(snapshots.sample_ids)))
    return (snapshots.in_runs(runs) if joined else snapshots), doubts


def examined_parts(snapshots: Snapshots, measure: Measure) -> tuple[Snapshots, int, float, tuple[Doubt, ...]]:
    """Snapshots of several conditions, looked at condition by condition, or part by part of them where they are many.

    Returns:
        The same in runs as they show them, the fewest runs of a part, the least that its Laplacians are unbalanced by,
        and what speaks against them.
    """
    conditions, ids = snapshots.conditions, snapshots.sample_ids
    assert conditions is not None
    strata, parts = conditions.strata(ids), conditions.parts(ids)
    alone = _runs_in(snapshots.runs_of(ids), strata).min() >= LEAST_RUNS
    runs, doubts, imbalances = np.zeros_like(ids), [], []
    for part in range((strata if alone else parts).max() + 1):
        own = ids[(strata if alone else parts) == part]
        where = conditions.where(own)
        against, joined = _examined_part(snapshots, own)
        imbalance, error = imbalance_of(snapshots.states_of(evenly(own, LOOKED_AT)), measure)
        if imbalance < static.STATIC + error:
            raise UserError(f"nothing moves at {where}, so that no velocity can be told there; leave it out")
        # Several conditions are a mixture, as is known, and what is alike under different ones is no run.
        against = tuple(d for d in against if alone or d.kind not in ("mixture", "joined"))
        doubts += [replace(doubt, text=f"of {where}: {doubt.text}") for doubt in against]
        runs[np.isin(ids, own)] = joined + runs.max() + 1
        imbalances.append(imbalance)
    runs = np.unique(np.stack([runs, strata]), axis=1, return_inverse=True)[1].reshape(-1)
    return snapshots.in_runs(runs), int(_runs_in(runs, parts).min()), min(imbalances), tuple(doubts)


def _examined_part(
    snapshots: Snapshots, own: np.ndarray, *, may_join: bool = True
) -> tuple[tuple[Doubt, ...], np.ndarray]:
    """What speaks against some of the snapshots, and the runs that they are of, [N]."""
    ids = evenly(own, EXAMINED)
    runs = snapshots.runs_of(ids)
    given = len(np.unique(runs)) < len(ids)
    examination = examine(snapshots.states_of(ids), snapshots.species, snapshots.grid, runs if given else None)
    joined = may_join and len(np.unique(examination.runs)) < len(np.unique(runs))
    if not joined or len(ids) < len(own):
        return examination.doubts, np.unique(snapshots.runs_of(own), return_inverse=True)[1]
    return examination.joined, examination.runs


def refuse_few_of_each(snapshots: Snapshots) -> None:
    """Refuse conditions of few runs, and runs of several conditions."""
    conditions, ids = snapshots.conditions, snapshots.sample_ids
    assert conditions is not None
    snapshots.groups  # noqa: B018 - refuses the latter
    parts = conditions.parts(ids)
    counts = _runs_in(snapshots.runs_of(ids), parts)
    if counts.min() < LEAST_RUNS:
        few, where = counts.min(), conditions.where(ids[parts == counts.argmin()])
        raise UserError(f"{few} living runs of {where} are too few: at least {LEAST_RUNS} are needed of each")


def _runs_in(runs: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """How many runs each part of the snapshots holds."""
    return np.bincount(np.unique(np.stack([runs, parts]), axis=1)[1])
