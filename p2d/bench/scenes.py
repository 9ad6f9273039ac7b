"""Ensembles of patterns that live, move and have settled, with systems and parameters drawn over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from p2d.bench import foreign
from p2d.errors import UserError
from p2d.fields import Grid, Operator
from p2d.snapshots.simulated import alive
from p2d.systems import initial, stepping
from p2d.systems.reading import catalogue
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

HELD_OUT = 8  # snapshots beside those of a case, on which its velocity is judged
PERTURBED = 0.1  # parameters are off those of a preset by up to this share
EXPONENTS = ("n",)
PILOT = (6, 48)  # runs and their size, on which parameters are tried before more is spent on them
SPARE = 0.15  # more runs than asked for, as some die
GRAY_SCOTT = 0.5  # share of the draws
CELL_STEPS = 8e9  # of the simulation of a case: 4 s of one core; smaller or fewer snapshots of slow systems
LEAST = 16  # snapshots
SMALLEST = 48  # rows and columns
# Mean square rate beside that of the terms of diffusion, of the species that moves most.
MOVES, STILL = 5e-3, 2e-4
CHANGED, SURE = 0.03, 3.5  # relative change of a mean over the second half of the burn-in, in standard errors too
# Systems that a foreign solver carries on: those of few steps.
FOREIGN = ("gray_scott", "barkley", "cyclic_competition", "lambda_omega")
TRIES = 12  # of parameters around one preset
ENOUGH_TRIES = 200  # of all
FINE = 8  # Euler steps in a step, whose ensembles those of no step size go on from
LAST_STEPS = {"rk4": 600, "spectral": 400}  # steps of time that another solver goes on for
FOURIER_STEP = 2  # of its steps: in Fourier modes they may be longer


@dataclass(frozen=True)
class Scene:
    """Snapshots of one system.

    Attributes:
        system: with its parameters.
        grid: of the simulation.
        operator: of its Laplacian.
        states: float32 [N + HELD_OUT, C, H, W], each of a run of its own.
    """

    system: System
    grid: Grid
    operator: Operator
    states: np.ndarray

    def later(self, steps: int, count: int) -> np.ndarray:
        """Frames [count, R, C, H, W] of all R runs, so many Euler steps apart."""
        frames = [self.states]
        for _ in range(count - 1):
            frames.append(_euler(frames[-1], self.system, self.grid, self.system.run.dt, steps, self.operator))
        return np.stack(frames)


@dataclass(frozen=True)
class Wish:
    """What is asked of a scene.

    Attributes:
        count: snapshots, beside the held-out ones.
        size: rows and columns.
        fixed: whether that many, of whatever system.
        scheme: euler, rk4 or noise.
        operator: of the Laplacian; spectral implies a Runge-Kutta scheme.
        static: patterns that stand still in place of those that move.
        share: of the burn-in that is simulated.
        kick: standard deviation of a step's noise, as a share of a species' range.
        systems: names to draw from; all when empty.
        preset: the one to draw around, of the one system.
        system: this one, with no draw.
    """

    count: int
    size: int
    fixed: bool = False
    scheme: str = "euler"
    operator: Operator = "5-point"
    static: bool = False
    share: float = 1.0
    kick: float = 0.0
    systems: tuple[str, ...] = ()
    preset: str = ""
    system: System | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether a foreign solver carries the patterns on."""
        return self.scheme != "euler" or self.operator == "spectral"

    def affordable(self, steps: int) -> Wish:
        """The wish with a smaller grid, and then with fewer runs, where so many steps are too much for it."""

        def runs(size: int) -> int:
            return int(CELL_STEPS / (size**2 * steps * self._cost(steps)) / (1 + SPARE)) - HELD_OUT

        size = self.size
        while not self.fixed and size > SMALLEST and runs(size) < self.count:
            size -= 2
        return replace(self, size=size, count=max(min(self.count, runs(size)), min(self.count, LEAST)))

    def _cost(self, steps: int) -> float:
        """Of a burn-in, beside that of Euler steps alone."""
        if self.operator == "spectral":
            return 1.5 + 57_000 / steps
        return {"euler": 1.0, "rk4": 2 + 20_000 / steps, "noise": 5.0}[self.scheme]


def draw_scene(rng: np.random.Generator, wish: Wish) -> Scene:
    """A scene as wished, of the first drawn parameters with which patterns live, move (or do not) and settle.

    Raises:
        UserError: none of many draws do.
    """
    if wish.system:
        scene = _simulated(rng, wish, wish.system)
        if scene is None:
            raise UserError(f"{wish.system.label} does not live with this scheme")
        return scene
    for _ in range(ENOUGH_TRIES // TRIES):
        name, preset = _draw_preset(rng, wish)
        for attempt in range(TRIES):
            reach = PERTURBED * (1 - attempt / TRIES)
            system = _perturbed(rng, catalogue()[name].at(preset), reach)
            scene = _simulated(rng, wish, system)
            if scene is not None:
                return scene
    raise UserError(f"no parameters were found for {wish}")


def _draw_preset(rng: np.random.Generator, wish: Wish) -> tuple[str, str]:
    if wish.preset:
        return wish.systems[0], wish.preset
    names = wish.systems or (FOREIGN if wish.is_foreign else tuple(catalogue()))
    presets = [p for p in presets_that(wish.static) if p[0] in names]
    if wish.is_foreign:
        presets = [(name, preset) for name, preset in presets if foreign.is_plain(catalogue()[name].at(preset))]
    systems = sorted({name for name, _ in presets})
    others = [name for name in systems if name != "gray_scott"]
    # Half of the draws are Gray-Scott's, which has as many presets as all others.
    of_gray_scott = "gray_scott" in systems and (not others or rng.random() < GRAY_SCOTT)
    chosen = "gray_scott" if of_gray_scott else others[int(rng.integers(len(others)))]
    own = [preset for name, preset in presets if name == chosen]
    return chosen, own[int(rng.integers(len(own)))]


@cache
def presets_that(stand_still: bool) -> tuple[tuple[str, str], ...]:
    """Systems and presets of the catalogue that stand still, or that move."""
    return tuple(
        (name, preset)
        for name, system in catalogue().items()
        for preset in system.presets
        if system.at(preset).moves is not stand_still
    )


def _perturbed(rng: np.random.Generator, system: System, reach: float) -> System:
    """A system with each parameter off by up to a share of itself, but for exponents; the run of its preset is kept."""
    off = rng.uniform(-reach, reach, len(system.parameters))
    values = {
        name: value if name in EXPONENTS else float(np.float32(value * (1 + part)))
        for (name, value), part in zip(system.parameters.items(), off, strict=True)
    }
    return replace(system, parameters=values, preset="", moves=None)


def _simulated(rng: np.random.Generator, wish: Wish, system: System) -> Scene | None:
    """The scene of a system, or None where its patterns die, stand still or move when they should not, or change."""
    seed, wish = int(rng.integers(2**31)), wish.affordable(system.run.steps)
    grid = Grid((wish.size, wish.size), system.run.spacing)
    pilot_grid = Grid((PILOT[1], PILOT[1]), system.run.spacing)
    wanted = wish.count + HELD_OUT
    try:
        for shape in (grid, pilot_grid):
            Scheme(shape, system.run.dt, "9-point" if wish.operator == "spectral" else wish.operator).refuse(system)
        pilot = _euler_burnt_in(system, pilot_grid, seed + 1, PILOT[0], wish.operator, 1.0)[1]
        if not _lives(pilot, system).all() or not _moves_as_wished(pilot, system, pilot_grid, wish.static):
            return None
        half, states = _euler_burnt_in(
            system, grid, seed, int(np.ceil(wanted * (1 + SPARE))), wish.operator, wish.share
        )
        living = _lives(states, system)
        if living.sum() < wanted:
            return None
        half, states = half[living][:wanted], states[living][:wanted]
        if wish.share == 1 and not wish.static and _still_changes(half, states, grid):
            return None
        states = _gone_on(seed, wish, system, grid, states)
    except UserError:
        return None
    good = _lives(states, system).all() and _moves_as_wished(states, system, grid, wish.static)
    return Scene(system, grid, wish.operator, states) if good else None


def _euler_burnt_in(
    system: System, grid: Grid, seed: int, runs: int, operator: Operator, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """States [runs, C, H, W] half way, and after this share of the burn-in."""
    begin = initial.initial_states(system, seed, np.arange(runs), grid.shape)
    steps, dt = int(system.run.steps * share), system.run.dt
    near: Operator = "9-point" if operator == "spectral" else operator
    half = _euler(begin, system, grid, dt, steps // 2, near)
    return half, _euler(half, system, grid, dt, steps - steps // 2, near)


def _euler(
    states: np.ndarray, system: System, grid: Grid, dt: float, steps: int, operator: Operator = "5-point"
) -> np.ndarray:
    with np.errstate(all="ignore"):
        made = stepping.run(states, system, Scheme(grid, dt, operator), steps, "cpu", threads=1)
    if not np.isfinite(made).all():
        raise UserError(f"{system.label} blows up")
    return made


def _gone_on(seed: int, wish: Wish, system: System, grid: Grid, states: np.ndarray) -> np.ndarray:
    """States of Euler's steps carried on with another scheme, until they are of that one.

    What Euler's steps, or a stencil, leave in the ensemble is a few percent at most. Fine steps, or a stencil of
    fourth order, take away nearly all of it at little cost, and the other solver the rest.
    """
    dt, steps = system.run.dt, system.run.steps // 8
    if wish.scheme == "noise":
        kicks = wish.kick * states.max(axis=(0, 2, 3)) - wish.kick * states.min(axis=(0, 2, 3))
        made = foreign.euler_maruyama(states, system, grid, dt, min(2 * steps, 2000), kicks, seed)
    elif wish.operator == "spectral":
        fine = _euler(states, _fourth_order(system, grid), grid, dt / 4, 4 * steps, "9-point")
        made = foreign.fourier_modes(fine, system, grid, FOURIER_STEP * dt, LAST_STEPS["spectral"] // FOURIER_STEP)
    elif wish.scheme == "rk4":
        fine = _euler(states, system, grid, dt / FINE, FINE * steps, wish.operator)
        made = foreign.runge_kutta(fine, system, grid, dt, LAST_STEPS["rk4"], wish.operator)
    else:
        return states
    if not np.isfinite(made).all():
        raise UserError(f"{system.label} blows up with {wish.scheme}")
    return made


def _fourth_order(system: System, grid: Grid) -> System:
    """A system whose 9-point Laplacians are those of fourth order: lap - h^2 / 12 lap^2."""
    terms = {
        s: own | {f"lap(lap({s}))": -own[f"lap({s})"] * grid.spacing**2 / 12} if own.get(f"lap({s})") else own
        for s, own in system.terms.items()
    }
    return System.of_terms(system.name, terms, limits=system.limits)


def _lives(states: np.ndarray, system: System) -> np.ndarray:
    return np.asarray(np.isfinite(states).all(axis=(1, 2, 3)) & alive(states, system.described()))


def _moves_as_wished(states: np.ndarray, system: System, grid: Grid, static: bool) -> bool:
    """Whether a pattern moves, or does not: by its rates beside its terms of diffusion."""
    own = {s: {t: c for t, c in of.items() if t.startswith("lap(")} for s, of in system.terms.items()}
    x = states.astype(np.float64)
    spread = System.of_terms("spread", own).rate(x, grid)
    rate = system.rate(x, grid)
    power, beside = ((v**2).mean(axis=(0, 2, 3)) for v in (rate, spread))
    motion = float(max(p / b for p, b in zip(power, beside, strict=True) if b > 0))
    return motion < STILL if static else motion > MOVES


def _still_changes(before: np.ndarray, after: np.ndarray, grid: Grid) -> bool:
    """Whether a mean, variance or mean square gradient of the ensemble is another than it was, beyond chance."""

    def features(x: np.ndarray) -> np.ndarray:
        slope = -(x * grid.laplacian(x)).mean(axis=(2, 3))
        return np.concatenate([x.mean(axis=(2, 3)), x.var(axis=(2, 3)), slope], axis=1)

    old, new = (features(x.astype(np.float64)) for x in (before, after))
    change, error = (new - old).mean(axis=0), (new - old).std(axis=0) / np.sqrt(len(old))
    size = np.abs(new).mean(axis=0)
    return bool(((np.abs(change) > CHANGED * size) & (np.abs(change) > SURE * error)).any())
