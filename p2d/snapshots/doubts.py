"""What is wrong with an ensemble, told from its snapshots alone before any equation is fitted.

Each test of the modules beside this one raises a false alarm in fewer than 1 % of clean ensembles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from p2d.fields import Grid
from p2d.snapshots import homogeneity
from p2d.snapshots.dependence import Dependence, measure_dependence, unmasked
from p2d.snapshots.mirrors import find_mirrors
from p2d.snapshots.mixture import Mixture, measure_mixture
from p2d.snapshots.optics import measure_seams
from p2d.snapshots.rounding import Rounding, block_edges, measure_rounding

NAMED = 8  # snapshots or stretches of them, at most, that a sentence names


@dataclass(frozen=True)
class Doubt:
    """A reason not to take an answer at its word.

    Attributes:
        kind: such as 'rounded'; of `examine` 'edges', 'rounded', 'compressed', 'dependent', 'symmetric',
            'mixture' or 'changing'.
        text: what the snapshots show; with what it does to the answer where that is not said apart.
        numbers: how much, by name.
        meaning: what it does to the answer.
        advice: what to do.
    """

    kind: str
    text: str
    numbers: dict[str, float] = field(default_factory=dict)
    meaning: str = ""
    advice: str = ""

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.text, self.meaning, self.advice)))


@dataclass(frozen=True, eq=False)
class Examination:
    """What snapshots alone tell about themselves.

    Attributes:
        doubts: what is wrong with them.
        joined: the same once they count as these runs: what is dependent is 'joined' then.
        steps: between the levels of each species, in units of its values; 0: not rounded.
        runs: which snapshots belong together, [N]: as given, and further joined where the snapshots show it.
        effective: number of independent runs that they are worth.
    """

    doubts: tuple[Doubt, ...]
    joined: tuple[Doubt, ...]
    steps: tuple[float, ...]
    runs: np.ndarray
    effective: float


def examine(states: np.ndarray, species: Sequence[str], grid: Grid, runs: np.ndarray | None = None) -> Examination:
    """Look for rounding, dependence, mixtures and change in snapshots.

    Args:
        states: [N, C, H, W], in the order of files; some hundreds at most. Of what is not finite nothing is said.
        species: C names.
        runs: that they are of, [N], as far as it is known; frames of a run in the order of time.
    """
    said, given = grid, np.arange(len(states)) if runs is None else np.unique(runs, return_inverse=True)[1]
    states = grid.masked(states)
    if not np.isfinite(states).all():
        return Examination((), (), (0.0,) * len(species), given, float(len(np.unique(given))))
    seams = measure_seams(states, grid, given)
    grid = _opened(grid, seams)
    dependence = measure_dependence(states, grid, given)
    rounding = measure_rounding(states, grid)
    # Of far fewer snapshots than there are, what differs between places and snapshots is what these few are like.
    few = dependence.is_seen and 2 * dependence.effective < len(np.unique(dependence.runs))
    change = [] if few else list(_of_change(states, grid, dependence.runs, None if runs is None else given))
    before = [
        *(_of_seams(measure_seams(states, said, dependence.runs)) if max(seams) > 1 else ()),
        *_of_rounding(rounding, species),
        *(() if few or change else _of_blocks(states, grid, dependence.runs)),  # cells differ then, whatever the file
    ]
    after = [
        *_of_mirrors(states, grid),
        *(() if few else _of_mixture(measure_mixture(states, grid, dependence.runs))),
        *change,
    ]
    doubts, joined = ((*before, *_of_dependence(dependence, given, joined=joined), *after) for joined in (False, True))
    return Examination(doubts, joined, rounding.steps, dependence.runs, dependence.effective)


def _opened(grid: Grid, seams: tuple[float, float]) -> Grid:
    """The grid with open edges where periodic ones do not join."""
    rows, columns = ("open" if seam > 1 else edge for seam, edge in zip(seams, grid.edges, strict=True))
    return replace(grid, edges=(rows, columns))


def _of_seams(seams: tuple[float, float]) -> Iterator[Doubt]:
    if max(seams) > 1:
        yield Doubt(
            "edges",
            f"the edges are said to be periodic but do not join: values differ {max(seams):.1f} times as much across "
            "them as between neighbours",
            {"ratio": max(seams)},
            "Laplacians there are wrong",
            "say that they are open",
        )


def _of_rounding(rounding: Rounding, species: Sequence[str]) -> Iterator[Doubt]:
    if not rounding.matters:
        return
    coarse = [
        f"{name} has {levels} levels{' in each snapshot' * own} {step:.2g} apart ({share:.0%} of its Laplacian)"
        for name, step, levels, share, own in zip(
            species, rounding.steps, rounding.levels, rounding.shares, rounding.own, strict=True
        )
        if step
    ]
    numbers = {f"step of {name}": step for name, step in zip(species, rounding.steps, strict=True)}
    numbers["share"] = max(rounding.shares)
    yield Doubt(
        "rounded",
        f"the values are rounded: {', '.join(coarse)}",
        numbers,
        "parameters are off by more than their errors and small terms may be artefacts",
        "save 16 bits or floats, of the whole range",
    )


def _of_blocks(states: np.ndarray, grid: Grid, runs: np.ndarray) -> Iterator[Doubt]:
    excess, axis, _ = block_edges(*unmasked(states, grid), runs)
    if excess > 1:
        along = ("rows", "columns")[axis]
        yield Doubt(
            "compressed",
            f"neighbouring {along} jump every 8 cells, as JPEG and mosaics of a camera leave it",
            {"excess": excess},
            "Laplacians are those of the blocks",
            "save without loss (PNG, TIFF, .npy)",
        )


def _of_dependence(dependence: Dependence, given: np.ndarray, *, joined: bool) -> Iterator[Doubt]:
    """What belongs together: dependent, and what that does; or joined to runs, which makes errors right."""
    kind, together = "joined" if joined else "dependent", ("those that belong together count as one run here", "")
    if dependence.copies:
        first, second = dependence.copies[0]
        others = f" and {len(dependence.copies) - 1} more pairs" * (len(dependence.copies) > 1)
        effect = together if joined else ("they count twice", "leave one of each out")
        yield Doubt(
            kind,
            f"snapshots {first} and {second}{others} are the same but for shifts, turns or mirroring",
            {"copies": float(len(dependence.copies))},
            *effect,
        )
    if not dependence.is_seen:
        return
    count, told = len(np.unique(given)), len(np.unique(dependence.runs))
    worth = min(dependence.effective, told)
    what = "no ends of runs show"
    if dependence.are_told:
        what = f"they are like {told} runs ({_stretches(dependence.runs)})"
    times = f"error bars are {np.sqrt(count / worth):.1f} times too small"
    yield Doubt(
        kind,
        f"{count} snapshots or runs taken as independent are as alike as frames of a run, and worth about {worth:.0f}: "
        f"{what}",
        {"runs": float(told), "effective": float(worth), "z": float(max(dependence.z))},
        *(together if joined else (times, "give run ids, or frames further apart")),
    )


def _of_mirrors(states: np.ndarray, grid: Grid) -> Iterator[Doubt]:
    for axis, turned in find_mirrors(states, grid).items():
        signs, such = (" with its signs turned", "even powers") if turned else ("", f"first derivatives along {axis}")
        yield Doubt(
            "symmetric",
            f"every snapshot is its own mirror image along {axis}{signs}",
            meaning=f"that hides the terms that would break it, such as {such}: they may be there or not",
            advice="take snapshots from other starts",
        )


def _of_mixture(mixture: Mixture) -> Iterator[Doubt]:
    if not mixture.how:
        return
    second = int(mixture.second.sum())
    if mixture.how == "order":
        parts = f"from snapshot {int(np.argmax(mixture.second))} on the snapshots are of another kind than before"
    else:
        listed = np.flatnonzero(mixture.second)
        names = ", ".join(map(str, listed[:NAMED])) + ", ..." * (len(listed) > NAMED)
        parts = f"{second} of {len(mixture.second)} snapshots are of another kind than the others ({names})"
    yield Doubt(
        "mixture",
        parts,
        {"p": mixture.p, "second": float(second)},
        "they are of two systems, parameters or instruments, of which one equation is neither, or of a system with two "
        "kinds of states",
        "fit each part by itself, and believe what both give",
    )


def _of_change(states: np.ndarray, grid: Grid, runs: np.ndarray, given: np.ndarray | None) -> Iterator[Doubt]:
    z = homogeneity.measure_inhomogeneity(states, grid, runs)
    effect = ("it is not stationary, and diffusion and growth as fitted are in part change", "let it run longer")
    if z > homogeneity.SEEN:
        yield Doubt(
            "changing",
            "cells differ on average over all runs, as where the initial states are not forgotten",
            {"z": z},
            *effect,
        )
    p = 1.0 if given is None else homogeneity.measure_drift(states, grid, given)
    if p <= homogeneity.BY_CHANCE:
        yield Doubt("changing", "runs change from their first to their last snapshot", {"p": p}, *effect)


def _stretches(runs: np.ndarray) -> str:
    """Which snapshots each of the first runs holds, of those with several."""
    names, sizes = np.unique(runs, return_counts=True)
    texts = []
    for run in names[sizes > 1][: NAMED // 2]:
        held = np.flatnonzero(runs == run)
        whole = len(held) == held[-1] - held[0] + 1
        texts.append(f"{held[0]} to {held[-1]}" if whole else ", ".join(map(str, held[:4])) + ", ..." * (len(held) > 4))
    return "; ".join(texts) + "; ..." * (len(names) > len(texts))
