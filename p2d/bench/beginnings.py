"""Cases of a scene as it is, or with other values: what each fault begins from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from p2d.bench.answers import LIBRARIES, Judged, Truth, library_of, rescaled, true_terms
from p2d.bench.scenes import HELD_OUT, LEAST, Scene, Wish, draw_scene

MOST = 256  # snapshots
SIZES = (48, 96)  # rows and columns, both ends included
SYMMETRIC = ("lambda_omega",)  # a turn of its phase keeps all of its ensembles: no one velocity can be told
MARGIN = 0.05  # of a camera's range beyond what it sees


@dataclass
class Draw:
    """What a case is made of.

    Attributes:
        rng: the case's own.
        count: snapshots wished for.
        length: rows and columns.
        size: of the fault.
    """

    rng: np.random.Generator
    count: int
    length: int
    size: str

    @classmethod
    def of(cls, rng: np.random.Generator, size: str) -> Draw:
        """With a number of snapshots and a length drawn."""
        count = round(float(np.exp(rng.uniform(np.log(LEAST), np.log(MOST)))))
        return cls(rng, count, 2 * int(rng.integers(SIZES[0] // 2, SIZES[1] // 2 + 1)), size)

    def scene(self, **wishes: Any) -> Scene:
        """A scene of so many snapshots, as wished."""
        return draw_scene(self.rng, Wish(**{"count": self.count, "size": self.length, **wishes}))


Made = dict[str, Any]  # the fields of a Case that a fault decides


def plain(scene: Scene, settings: dict[str, Any] | None = None, **truth: Any) -> Made:
    """The case of a scene as it is."""
    settings = {**LIBRARIES.get(scene.system.name, {}), **(settings or {})}
    states, held_out = scene.states[:-HELD_OUT], scene.states[-HELD_OUT:].astype(np.float64)
    library = library_of(settings, scene.system.species, scene.grid)
    terms, small = true_terms(scene.system, library, held_out, scene.grid)
    judged = Judged.of(held_out, scene.system.rate(held_out, scene.grid, scene.operator), scene.grid)
    known = scene.system.name not in SYMMETRIC
    answer: dict[str, Any] = {
        "judged": (judged,),
        "knowable": known and terms is not None,
        "terms_knowable": known,
    } | truth
    answer["terms_knowable"] = answer["terms_knowable"] and terms is not None
    return {
        "system": scene.system.label,
        "states": states,
        "species": scene.system.species,
        "grid": scene.grid,
        "settings": settings,
        "truth": Truth(terms, small, **answer),
        "scene": scene,
    }


def scaled(scene: Scene, scale: np.ndarray, shift: np.ndarray) -> Made:
    """The case of values x = (c - shift) / scale, with the equation of these."""
    made = plain(scene)
    if not (np.any(scale != 1) or np.any(shift != 0)):
        return made

    def seen(c: np.ndarray) -> np.ndarray:
        return (c - shift[:, None, None]) / scale[:, None, None]

    truth, system = made["truth"], rescaled(scene.system, scale, shift)
    (before,) = truth.judged
    judged = replace(before, states=seen(before.states), rates=before.rates / scale[:, None, None])
    library = library_of(made["settings"], system.species, scene.grid)
    terms, small = true_terms(system, library, judged.states, scene.grid, changed=True)
    known = truth.knowable and terms is not None
    answer = replace(truth, terms=terms, small=small, judged=(judged,), knowable=known, terms_knowable=known)
    return made | {"states": seen(made["states"]).astype(np.float32), "truth": answer}


def ranges(states: np.ndarray, margin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift that take each species to 0 to 1, with a margin."""
    low, high = states.min(axis=(0, 2, 3)).astype(np.float64), states.max(axis=(0, 2, 3)).astype(np.float64)
    span = high - low
    return span * (1 + 2 * margin), low - margin * span


def camera(scene: Scene) -> Made:
    """Values as a camera's grey levels, 0 to 1: as they are where they are concentrations."""
    system, count = scene.system, len(scene.system.species)
    if all(system.limits.get(s) == (0.0, 1.0) for s in system.species) and scene.states.max() <= 1:
        return scaled(scene, np.ones(count), np.zeros(count))
    return scaled(scene, *ranges(scene.states, MARGIN))
