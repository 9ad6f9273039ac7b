"""What may be wrong with snapshots, or only seem so: each fault makes a case of scenes, with the right answer."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from p2d.bench.answers import Case, Judged, Truth, library_of, renamed, true_terms
from p2d.bench.beginnings import MARGIN, SIZES, SYMMETRIC, Draw, Made, camera, plain, ranges, scaled
from p2d.bench.scenes import HELD_OUT, LEAST, Scene, presets_that
from p2d.errors import UserError
from p2d.fields import Edge, Grid
from p2d.systems.system import System
from p2d.systems.terms import Terms

CUBIC = ("gray_scott", "barkley", "schnakenberg", "brusselator", "fitzhugh_nagumo")
TWO_SPECIES = ("gray_scott", "barkley", "fitzhugh_nagumo", "schnakenberg")  # of the same names, u and v
EDGE = 8  # cells of a window's edge whose velocity is not judged
TRIES = 6


def none(draw: Draw) -> Made:
    """Clean snapshots."""
    return plain(draw.scene())


def operator(draw: Draw) -> Made:
    """Another Laplacian than that of five points."""
    return plain(draw.scene(operator=draw.size))


def scheme(draw: Draw) -> Made:
    """Runge-Kutta steps, which leave no trace."""
    return plain(draw.scene(scheme=draw.size))


def rounded(draw: Draw) -> Made:
    """Grey levels of so many bits."""
    scene = draw.scene()
    if draw.size == "autocontrast":
        made = scaled(scene, *ranges(scene.states[:-HELD_OUT]))
    elif draw.size == "8 bits, min-max":
        levels = _levels(scene, 255)
        return scaled(replace(scene, states=levels), *ranges(levels[:-HELD_OUT])) | _clean_truth(scene, levels)
    else:
        made = camera(scene)
    steps = {"8 bits of 256": 256, "10 bits": 1023}.get(draw.size, 255)
    return made | {"states": _rounded(made["states"], steps)}


def _levels(scene: Scene, levels: int) -> np.ndarray:
    """The scene's states rounded to so many levels of the range that a camera has."""
    scale, shift = ranges(scene.states, MARGIN)
    if scene.states.min() >= 0 and scene.states.max() <= 1:
        scale, shift = np.ones_like(scale), np.zeros_like(shift)
    scale, shift = scale[:, None, None], shift[:, None, None]
    return (_rounded((scene.states - shift) / scale, levels) * scale + shift).astype(np.float32)


def _clean_truth(scene: Scene, seen: np.ndarray) -> Made:
    """The right answer of clean snapshots under the scaling of the seen ones."""
    return {"truth": scaled(scene, *ranges(seen[:-HELD_OUT]))["truth"]}


def _rounded(states: np.ndarray, levels: int) -> np.ndarray:
    return (np.round(states.clip(0, 1) * levels) / levels).astype(np.float32)


def jpeg(draw: Draw) -> Made:
    """Each species a grey JPEG image of this quality."""
    from PIL import Image

    made = camera(draw.scene())

    def seen(field: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(np.round(field.clip(0, 1) * 255).astype(np.uint8)).save(file, "JPEG", quality=int(draw.size))
        return np.asarray(Image.open(file), np.float32) / 255

    states = np.array([[seen(field) for field in state] for state in made["states"]], np.float32)
    return made | {"states": states}


def noise(draw: Draw) -> Made:
    """White noise of a camera, a share of each species' range."""
    made = plain(draw.scene())
    states = made["states"]
    sigma = float(draw.size) * np.ptp(states, axis=(0, 2, 3))[:, None, None]
    noisy = states + sigma * draw.rng.standard_normal(states.shape)
    return made | {"states": noisy.astype(np.float32)}


def binned(draw: Draw) -> Made:
    """Means over 2 x 2 cells, on a grid of twice the spacing."""
    draw = replace(draw, length=2 * SIZES[0])
    scene = draw.scene(fixed=True)
    made = plain(scene)
    grid = Grid((draw.length // 2,) * 2, 2 * scene.grid.spacing)

    def seen(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], grid.shape[0], 2, grid.shape[1], 2).mean(axis=(3, 5))

    return made | {"states": seen(made["states"]), "grid": grid, "truth": _seen_truth(made["truth"], seen, grid)}


def blurred(draw: Draw) -> Made:
    """Seen through a Gaussian of so many cells."""
    scene = draw.scene()
    made = plain(scene)
    unit = Grid(scene.grid.shape)
    kernel = np.exp(float(draw.size) ** 2 / 2 * unit.symbol("spectral"))

    def seen(x: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(np.fft.rfft2(x) * kernel, s=unit.shape)

    truth = _seen_truth(made["truth"], seen, scene.grid)
    return made | {"states": seen(made["states"]).astype(np.float32), "truth": truth}


def _seen_truth(truth: Truth, seen: Callable[[np.ndarray], np.ndarray], grid: Grid) -> Truth:
    """The velocity may be that of what is seen, or of what was there."""
    (before,) = truth.judged
    return replace(truth, judged=(Judged.of(seen(before.states), seen(before.rates), grid), before))


def window(draw: Draw) -> Made:
    """A part of a larger field, said to be that or to be periodic."""
    draw = replace(draw, length=SIZES[1])
    scene, side = draw.scene(fixed=True), 2 * int(draw.rng.integers(SIZES[0] // 2, 33))
    made = plain(scene)
    top, left = draw.rng.integers(0, SIZES[1] - side, 2)
    cells = (..., slice(top, top + side), slice(left, left + side))
    edge: Edge = "open" if draw.size == "as open" else "periodic"
    grid = Grid((side, side), scene.grid.spacing, (edge, edge))
    truth = made["truth"]
    (before,) = truth.judged
    judged = Judged.of(before.states[cells], before.rates[cells], grid, EDGE)
    known = truth.knowable and edge == "open"
    truth = replace(truth, judged=(judged,), knowable=known, terms_knowable=known)
    return made | {"states": made["states"][cells].copy(), "grid": grid, "truth": truth}


def dependent(draw: Draw) -> Made:
    """Frames of few runs, a few steps apart, said to be runs of their own."""
    runs = int(draw.rng.choice([4, 8, 16]))
    frames = max(4, draw.count // runs)
    scene = draw.scene(count=runs)
    runs = len(scene.states) - HELD_OUT
    later = scene.later(int(draw.rng.integers(5, 21)), frames)[:, :runs]
    states = np.swapaxes(later, 0, 1).reshape(-1, *later.shape[2:])
    made = plain(scene, knowable=False, terms_knowable=False)
    return made | {"states": states if draw.size == "in order" else draw.rng.permutation(states)}


def duplicates(draw: Draw) -> Made:
    """A share of the snapshots are copies of others."""
    made = plain(draw.scene(count=max(draw.count, 2 * LEAST)))
    states = made["states"]
    copies = round(float(draw.size) * len(states))
    again = states[: len(states) - copies][draw.rng.integers(0, len(states) - copies, copies)]
    return made | {"states": draw.rng.permutation(np.concatenate([states[: len(states) - copies], again]))}


def two_parameters(draw: Draw) -> Made:
    """Half of the snapshots at another value of one parameter, by this share."""
    half = max(draw.count // 2, LEAST // 2)
    for _ in range(TRIES):
        first = draw.scene(count=half, size=min(draw.length, 64))
        name = "F" if "F" in first.system.parameters else str(draw.rng.choice([*first.system.parameters]))
        for sign in draw.rng.permutation([-1, 1]):
            value = first.system.parameters[name] * (1 + sign * float(draw.size))
            other = replace(first.system, parameters={**first.system.parameters, name: float(value)})
            if not value:
                continue
            try:
                return _mixed(draw, first, draw.scene(count=half, size=first.grid.shape[0], system=other))
            except UserError:
                continue
    raise UserError("no two values of a parameter were found at which patterns live")


def two_systems(draw: Draw) -> Made:
    """Half of the snapshots of another preset, or of another system."""
    half = max(draw.count // 2, LEAST // 2)
    if draw.size == "systems":
        names = [str(name) for name in draw.rng.permutation(TWO_SPECIES)]
        first, second = (draw.scene(count=half, size=SIZES[0], systems=(name,)) for name in names[:2])
        return _mixed(draw, first, second)
    presets = [preset for name, preset in presets_that(stand_still=False) if name == "gray_scott"]
    pair = draw.rng.permutation(presets)[:2]
    return _mixed(
        draw, *(draw.scene(count=half, size=SIZES[0], systems=("gray_scott",), preset=str(preset)) for preset in pair)
    )


def _mixed(draw: Draw, first: Scene, second: Scene) -> Made:
    """Snapshots of two scenes; no one equation is right, a velocity may be, and the terms are that both have."""
    one, other = plain(first), plain(second)
    states = draw.rng.permutation(np.concatenate([one["states"], other["states"]]))
    (a,), (b,) = one["truth"].judged, other["truth"].judged
    both = (
        np.concatenate([x[: HELD_OUT // 2], y[: HELD_OUT // 2]]) for x, y in ((a.states, b.states), (a.rates, b.rates))
    )
    judged = replace(a, **dict(zip(("states", "rates"), both, strict=True)))
    terms = _shared(one["truth"].terms, other["truth"].terms)
    truth = Truth(terms, one["truth"].small, (judged,), knowable=False, terms_knowable=False)
    return one | {"system": f"{one['system']} + {other['system']}", "states": states, "truth": truth}


def _shared(terms: Terms | None, others: Terms | None) -> Terms | None:
    """Terms that two systems have, nan where no one coefficient is right; None where they have not the same."""
    if terms is None or others is None or any(terms[s].keys() != others[s].keys() for s in terms):
        return None
    return {s: {t: c if c == others[s][t] else math.nan for t, c in own.items()} for s, own in terms.items()}


def transient(draw: Draw) -> Made:
    """Snapshots taken after this share of the burn-in: of Gray-Scott, 2,000 to 6,000 steps."""
    return plain(draw.scene(share=float(draw.size)), knowable=False, terms_knowable=False)


def dynamics_noise(draw: Draw) -> Made:
    """Noise in the dynamics: a step's kick is this share of a species' range."""
    return plain(draw.scene(scheme="noise", kick=float(draw.size)))


def missing_term(draw: Draw) -> Made:
    """A library of degree 2 for a system with products of three."""
    return plain(draw.scene(systems=CUBIC), {"degree": 2}, knowable=False)


def affine(draw: Draw) -> Made:
    """Values scaled and shifted."""
    scene = draw.scene()
    states = scene.states[:-HELD_OUT].astype(np.float64)
    if draw.size == "min-max":
        return scaled(scene, *ranges(states))
    return scaled(scene, states.std(axis=(0, 2, 3)), states.mean(axis=(0, 2, 3)))


def static(draw: Draw) -> Made:
    """A pattern that stands still: no velocity may be claimed, and no terms but those of its steady state."""
    made = plain(draw.scene(static=True))
    truth = replace(made["truth"], judged=(), knowable=False, terms_knowable=False)
    return made | {"truth": truth}


def swapped(draw: Draw) -> Made:
    """Two species, each called by the other's name."""
    scene = draw.scene(systems=(*CUBIC, *SYMMETRIC))
    made = plain(scene)
    system: System = renamed(scene.system, scene.system.species[::-1])
    truth: Truth = made["truth"]
    (before,) = truth.judged
    judged = replace(before, states=before.states[:, ::-1], rates=before.rates[:, ::-1])
    library = library_of(made["settings"], system.species, scene.grid)
    terms, small = true_terms(system, library, judged.states, scene.grid)
    truth = replace(truth, terms=terms, small=small, judged=(judged,))
    return made | {"states": np.ascontiguousarray(made["states"][:, ::-1]), "truth": truth}


@dataclass(frozen=True)
class Fault:
    """A kind of case: what makes it, its sizes, and how often each is in the deck that cases are dealt from."""

    make: Callable[[Draw], Made]
    sizes: tuple[str, ...] = ("",)
    times: int = 1


FAULTS = {
    "none": Fault(none, times=12),
    "operator": Fault(operator, ("9-point", "spectral")),
    "scheme": Fault(scheme, ("rk4",)),
    "rounded": Fault(rounded, ("8 bits", "8 bits of 256", "10 bits", "autocontrast", "8 bits, min-max")),
    "jpeg": Fault(jpeg, ("95", "90", "75")),
    "noise": Fault(noise, ("0.005", "0.01", "0.02")),
    "binned": Fault(binned, ("2",)),
    "blurred": Fault(blurred, ("0.5", "1", "1.5")),
    "window": Fault(window, ("as periodic", "as open")),
    "dependent": Fault(dependent, ("in order", "shuffled")),
    "duplicates": Fault(duplicates, ("0.25", "0.5")),
    "two parameters": Fault(two_parameters, ("0.03", "0.05", "0.1", "0.2")),
    "two systems": Fault(two_systems, ("presets", "systems")),
    "transient": Fault(transient, ("0.2", "0.4", "0.6")),
    "dynamics noise": Fault(dynamics_noise, ("0.0003", "0.001", "0.003")),
    "missing term": Fault(missing_term),
    "affine": Fault(affine, ("min-max", "standardised")),
    "static": Fault(static, times=2),
    "swapped": Fault(swapped),
}
DECK = [(kind, size) for kind, fault in FAULTS.items() for size in fault.sizes for _ in range(fault.times)]


def make_case(seed: int, number: int, kind: str, size: str) -> Case:
    """The case of this number, a function of its arguments alone.

    Raises:
        UserError: no parameters were found for it.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
    made = FAULTS[kind].make(Draw.of(rng, size))
    return Case(seed=seed, number=number, fault=kind, size=size, **made)
