"""One suite over all systems of the catalogue: what must hold of any system, whatever its equations say."""

import functools
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import p2d
from p2d.fields import Grid
from p2d.systems import expressions, stability
from p2d.systems.initial import initial_states
from p2d.systems.reading import catalogue, load_system
from p2d.systems.steppers import cpu, modes
from p2d.systems.stepping import Scheme, run
from p2d.systems.system import Start, System

from .plain import interpreted as by_python

SYSTEMS = tuple(catalogue())
PRESETS = [(name, preset) for name, system in catalogue().items() for preset in system.presets]
SLOPING = [("klausmeier", "bands")]  # d(w, x): water runs one way
PERIODIC, MIRROR = ("periodic", "periodic"), ("mirror", "mirror")

every_system = pytest.mark.parametrize("name", SYSTEMS)
every_preset = pytest.mark.parametrize(("name", "preset"), PRESETS)


def usual(name: str, preset: str = "") -> System:
    """A system at a preset, or at its first one."""
    system = load_system(name)
    return system.at(preset or next(iter(system.presets)))


def scheme(system: System, shape=(24, 24), edges=PERIODIC, **settings) -> Scheme:
    """The system's own step and spacing, on a small grid."""
    return Scheme(Grid(shape, system.run.spacing, edges), **{"dt": system.run.dt, **settings})


def smooth_states(system: System, shape: tuple[int, int]) -> np.ndarray:
    """A few long waves around the rest state, or in the middle between limits: float32 [1, C, H, W]."""
    rng = np.random.default_rng(0)
    y, x = (2 * np.pi * np.arange(size) / size for size in shape)
    made = []
    for s, rest in zip(system.species, system.amounts("rest"), strict=True):
        low, high = system.limits.get(s, (-np.inf, np.inf))
        bounded = np.isfinite(low) and np.isfinite(high)
        middle, height = ((low + high) / 2, (high - low) / 8) if bounded else (rest, 0.2 * max(abs(rest), 1.0))
        a, b, c = rng.uniform(0, 2 * np.pi, 3)
        waves = np.sin(y[:, None] + a) * np.cos(x + b) + np.cos(2 * x + c + y[:, None])
        made.append(middle + height * waves / 2)
    return np.array(made, np.float32)[None]


def plain_euler(states: np.ndarray, system: System, scheme: Scheme, steps: int) -> np.ndarray:
    """The definition: float64 steps of the rate as text says it, clamped to the limits."""
    states, (low, high) = states.astype(np.float64), cpu.limits(system)
    for _ in range(steps):
        states = states + scheme.dt * system.rate(states, scheme.grid, scheme.operator)
        states = states.clip(low[:, None, None], high[:, None, None])
    return states


def assert_close_to_scale(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of each species' largest value."""
    scale = np.abs(expected).max((0, 2, 3), keepdims=True)
    assert_allclose(actual / scale, expected / scale, rtol=0, atol=tolerance)


@every_system
def test_a_file_says_where_the_system_is_from_and_what_moves(name):
    system = load_system(name)
    assert system.name == name
    assert re.search(r"\b(19|20)\d\d\b", system.source)
    assert system.presets
    assert all(isinstance(preset["moves"], bool) for preset in system.presets.values())


@every_preset
def test_the_rest_state_is_at_rest(name, preset):
    system = usual(name, preset)
    rest = system.amounts("rest")[:, None, None]
    size = stability.jacobian(system, 0.0) @ np.maximum(np.abs(rest[:, 0, 0]), 1.0)
    assert_allclose(system.rate(rest), 0, atol=1e-12 * max(1.0, np.abs(size).max()))


@every_preset
def test_the_step_is_one_that_is_stable(name, preset):
    system = usual(name, preset)
    for operator in ("5-point", "9-point"):
        scheme(system, operator=operator).refuse(system)


def test_an_oscillation_that_neither_grows_nor_decays_does_not_forbid_every_step():
    rates = {"u": "lap(u) + u - 2*v", "v": "lap(v) + v + 2*u"}
    system = System("hopf", rates, start=Start(rest={"u": 0, "v": 0}))
    bound = stability.longest_step(system, Grid((32, 32)), "5-point").dt
    assert bound > 0.2
    decaying = 1 - np.linspace(1, 8, 1000) + 2j  # what the uniform oscillation, at rate 1, has to outgrow
    assert np.abs(1 + bound * decaying).max() < 1 + bound


@every_system
def test_euler_is_of_first_order_and_etdrk4_solves_the_same_equation(name):
    system, steps, shape = usual(name), 64, (16, 16)
    states, own = smooth_states(system, shape), scheme(system, shape)
    exact = run(states, system, replace(own, integrator="etdrk4"), steps)
    errors = []
    for finer in (2, 4, 8):
        made = plain_euler(states, system, replace(own, dt=own.dt / finer), steps * finer)
        errors.append(np.abs(made - exact).max())
    # The next order, which is left, is 1.09 of cyclic competition.
    assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 1, atol=0.1)


@every_system
def test_etdrk4_is_of_fourth_order(name):
    system = usual(name)
    # Waves of many cells: of short ones the mixed part is stiff, and the fourth order begins at shorter steps.
    grid = Grid((16, 16), 4 * system.run.spacing)
    states = smooth_states(system, grid.shape).astype(np.float64)
    speed = np.sqrt((system.rate(states, grid) ** 2).mean((2, 3)))
    span = 0.4 * (states.std((2, 3)) / speed).min()
    made = {}
    for steps in (8, 16, 128):
        made[steps] = torch.from_numpy(states)
        step = modes._Step(system, Scheme(grid, span / steps, integrator="etdrk4"), "cpu")  # run() rounds to 32 bits
        for _ in range(steps):
            made[steps] = step(made[steps])
    errors = [(made[steps] - made[128]).abs().max().item() for steps in (8, 16)]
    assert_allclose(np.log2(errors[0] / errors[1]), 4, atol=0.15)


CASES = {
    "periodic, 5-point": (PERIODIC, "5-point", (8, 10)),
    "mirror, 9-point": (MIRROR, "9-point", (7, 6)),
    "mirror and periodic, 5-point": (("mirror", "periodic"), "5-point", (7, 10)),
    "one row, 9-point": (PERIODIC, "9-point", (1, 16)),
}


@every_system
@pytest.mark.parametrize("case", CASES)
def test_the_text_of_the_cpu_kernel_is_the_plain_rate(name, case):
    edges, operator, shape = CASES[case]
    system = usual(name)
    system = replace(system, run=replace(system.run, spacing=1.25 * system.run.spacing))
    states, own = smooth_states(system, shape), scheme(system, shape, edges, operator=operator)
    assert_close_to_scale(by_python(states, system, own, 30), plain_euler(states, system, own, 30), 1e-6)


# Each kernel takes 2 s to be compiled. These differ in what they are written from: one species, two in two rows at a
# time, three; slopes, and products of them; one row.
COMPILED = [
    ("gray_scott", PERIODIC, "5-point", (24, 40)),
    ("klausmeier", MIRROR, "9-point", (25, 22)),
    ("cyclic_competition", ("mirror", "periodic"), "9-point", (23, 32)),
    ("cahn_hilliard", PERIODIC, "5-point", (24, 40)),
    ("kuramoto_sivashinsky", PERIODIC, "9-point", (1, 48)),
]
OTHERS = [(name, PERIODIC, "5-point", (24, 40)) for name in SYSTEMS if name not in ("gray_scott", "cahn_hilliard")]
OTHERS += [(name, MIRROR, "9-point", (25, 22)) for name in SYSTEMS if name != "klausmeier"]


@pytest.mark.parametrize(
    ("name", "edges", "operator", "shape"),
    [*COMPILED, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
)
def test_the_cpu_kernel_agrees_with_the_plain_rate(name, edges, operator, shape):
    system = usual(name)
    system = replace(system, run=replace(system.run, spacing=1.25 * system.run.spacing))
    states, own = smooth_states(system, shape), scheme(system, shape, edges, operator=operator)
    made = run(states, system, own, 200, "cpu", 1)
    assert_close_to_scale(made, plain_euler(states, system, own, 200), 4e-6)


@every_preset
def test_shifts_turns_and_mirror_images_commute_with_the_step(name, preset):
    system = usual(name, preset)
    own, states = scheme(system, (9, 9)), smooth_states(system, (9, 9))

    def step(x):
        return by_python(x, system, own, 2)

    made = step(states)
    assert_array_equal(step(np.roll(states, (4, 7), (2, 3))), np.roll(made, (4, 7), (2, 3)))
    turns = [functools.partial(turned, quarter=quarter, mirrored=m) for quarter in range(4) for m in (False, True)]
    kept = [turn for turn in turns if not changes_direction(turn)] if (name, preset) in SLOPING else turns
    assert len(kept) == (2 if (name, preset) in SLOPING else 8)
    for turn in kept:
        # Neighbours are added up in another order.
        assert_close_to_scale(step(turn(states)), turn(made), 2e-6)


def turned(states, quarter, mirrored):
    turned = np.rot90(states, quarter, (-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)


def changes_direction(turn) -> bool:
    """Whether what grows along x does not after a turn."""
    along = np.broadcast_to(np.arange(4.0), (4, 4)).copy()
    return not np.array_equal(turn(along), along)


# What is a sum over cells: of these species, and the mean of its rate of change.
BALANCES = {
    "cahn_hilliard": ({"c": 1}, lambda p, c: 0),
    "schnakenberg": ({"u": 1, "v": 1}, lambda p, u, v: p["a"] + p["b"] - u),
    "brusselator": ({"x": 1, "y": 1}, lambda p, x, y: p["a"] - x),
    "gray_scott": ({"u": 1, "v": 1}, lambda p, u, v: p["F"] * (1 - u - v) - p["k"] * v),
    "klausmeier": ({"w": 1, "n": 1}, lambda p, w, n: p["a"] - w - p["m"] * n),
}


@pytest.mark.parametrize("edges", [PERIODIC, MIRROR])
@pytest.mark.parametrize("name", BALANCES)
def test_what_is_gained_and_lost_balances(name, edges):
    system, (weights, gain) = usual(name), BALANCES[name]
    states = smooth_states(system, (20, 24)).astype(np.float64)
    rate = system.rate(states, scheme(system, (20, 24), edges).grid)
    total = sum(weights[s] * rate[:, i].mean() for i, s in enumerate(system.species))
    means = states.mean((0, 2, 3))
    assert_allclose(total, gain(system.parameters, *means), atol=1e-12)


@pytest.mark.parametrize("preset", ["labyrinth", "drops"])
def test_cahn_hilliard_keeps_its_mean(preset):
    system = usual("cahn_hilliard", preset)
    states = initial_states(system, 0, np.arange(2), (32, 24))
    after = run(states, system, scheme(system, (32, 24)), 5000, "cpu", 1)
    assert after.std() > 0.3
    assert_allclose(after.mean((1, 2, 3)), states.mean((1, 2, 3)), atol=1e-5)


def test_slopes_alone_move_the_mean_of_kuramoto_sivashinsky():
    system = usual("kuramoto_sivashinsky")
    grid = scheme(system, (20, 24)).grid
    states = smooth_states(system, grid.shape).astype(np.float64)
    slopes = grid.gradients(states, states).mean()
    assert_allclose(system.rate(states, grid).mean(), -system.parameters["alpha"] * states.mean() - slopes / 2)


@pytest.mark.parametrize("operator", ["5-point", "9-point"])
@pytest.mark.parametrize("edges", [PERIODIC, MIRROR])
def test_diffusion_alone_keeps_the_mean_and_levels_the_rest(edges, operator):
    system = System("diffusion", {"c": "lap(c)"}, start=Start(rest={"c": 0}))
    states = np.random.default_rng(0).random((1, 1, 5, 7), np.float32)
    after = by_python(states, system, Scheme(Grid((5, 7), 1.3, edges), 0.4, operator), 250)
    assert_allclose(after, states.mean(), atol=2e-6)


ADVANCE_IN_THE_INTERPRETER = """
import numpy as np
import torch
from p2d.systems.steppers import gpu
from tests.systems import test_catalogue as suite

made = {}
for name in suite.SYSTEMS:
    for edges, operator in suite.INTERPRETED:
        system, own, states = suite.interpreted_case(name, edges, operator)
        for one_program in (True, False):
            after = gpu.advance(torch.from_numpy(states), system, own, 3, one_program_a_sample=one_program)
            made[f"{name} {operator} {one_program}"] = after.numpy()
np.savez("made.npz", **made)
"""
INTERPRETED = ((PERIODIC, "5-point"), (MIRROR, "9-point"))


def interpreted_case(name: str, edges, operator) -> tuple[System, Scheme, np.ndarray]:
    """A system's scheme and states on a grid that is a few cells each way: the interpreter takes 10 ms a block."""
    system = usual(name)
    return system, scheme(system, (5, 9), edges, operator=operator), smooth_states(system, (5, 9))


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What both GPU kernels make of three steps of each system, in a process of their own.

    Triton reads TRITON_INTERPRET when it is imported.
    """
    pytest.importorskip("triton")
    path, root = tmp_path_factory.mktemp("interpreted"), str(Path(p2d.__file__).parents[1])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", ADVANCE_IN_THE_INTERPRETER], cwd=path, env=environment, check=True)
    with np.load(path / "made.npz") as made:
        return dict(made)


@every_system
@pytest.mark.parametrize(("edges", "operator"), INTERPRETED)
def test_the_interpreted_gpu_kernels_agree_with_the_plain_rate(interpreted, name, edges, operator):
    system, own, states = interpreted_case(name, edges, operator)
    many, one = (interpreted[f"{name} {operator} {one_program}"] for one_program in (True, False))
    assert_array_equal(many, one)
    assert_close_to_scale(many, plain_euler(states, system, own, 3), 1e-6)


# Bubbles die from discs, and so do most dots.
FEW_LIVE = {("gray_scott", "bubbles"): 0.0, ("gray_scott", "dots"): 0.2}
# At half of their burn-in: spots have not filled the grid, and Cahn-Hilliard coarsens for ever.
GROWING = {
    ("gray_scott", "spots"),
    ("gray_scott", "pulsating_solitons"),
    ("cahn_hilliard", "labyrinth"),
    ("cahn_hilliard", "drops"),
}
STATIC, MOVING = 2e-4, 5e-4  # mean square velocity, as a share of that of the terms that make it up
RUNS, SIZES = 10, {"gray_scott": 96}  # five discs: in smaller grids than that many runs die


@pytest.mark.slow
@every_preset
def test_runs_live_are_stationary_and_move_as_the_file_says(name, preset):
    system = usual(name, preset)
    size = SIZES.get(name, 64)
    own, half = scheme(system, (size, size)), system.run.steps // 2
    middle = run(initial_states(system, 0, np.arange(RUNS), (size, size)), system, own, half, "cpu", 1)
    last = run(middle, system, own, half, "cpu", 1)

    living = is_alive(system, last)
    assert living.mean() >= FEW_LIVE.get((name, preset), 0.5)
    if not living.any():
        return
    share = motion(system, own.grid, last[living])
    assert share > MOVING if system.moves else share < STATIC

    before, after = (averages(own.grid, states[living]) for states in (middle, last))
    change, error = np.abs((after - before).mean(0)), np.sqrt((before.var(0) + after.var(0)) / living.sum())
    scale = np.maximum(np.abs(after.mean(0)), after.mean(0)[1])  # of a mean near 0: of the standard deviation
    if (name, preset) not in GROWING:
        assert ((change < 0.08 * scale) | (change < 4 * error)).all()


def is_alive(system: System, states: np.ndarray) -> np.ndarray:
    """Whether any species varies by a hundredth of its range, by sample."""
    spans = np.array([species.span for species in system.described()])
    return (states.std((2, 3)) > 0.01 * spans).any(1)


def motion(system: System, grid: Grid, states: np.ndarray) -> float:
    """Mean square velocity over the sum of its terms' mean squares, of the species that has most."""
    states = states.astype(np.float64)
    velocity = system.rate(states, grid)
    names = {s: states[:, i] for i, s in enumerate(system.species)}
    functions = expressions.smooth_functions(states) | grid.operators()
    shares = []
    for i, s in enumerate(system.species):
        parts = [
            value * expressions.evaluate(expressions.parse(term, system.species), names, functions)
            for term, value in system.terms[s].items()
            if term != "1"
        ]
        shares.append((velocity[:, i] ** 2).mean() / sum(part.var((1, 2)).mean() for part in parts))
    return max(shares)


def averages(grid: Grid, states: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and mean wavenumber of each species, by sample: [B, 3, C]."""
    rows, columns = grid.wavenumbers()
    power = np.abs(np.fft.rfft2(states.astype(np.float64))) ** 2
    power[..., 0, 0] = 0
    wavenumber = (power * np.hypot(rows, columns)).sum((2, 3)) / np.maximum(power.sum((2, 3)), 1e-300)
    return np.stack([states.mean((2, 3)), states.std((2, 3)), wavenumber], 1)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["labyrinth", "drops"])
def test_cahn_hilliard_coarsens(preset):
    system = usual("cahn_hilliard", preset)
    own, states = scheme(system, (96, 96)), initial_states(system, 0, np.arange(4), (96, 96))
    lengths = []
    for steps in (5_000, 5_000, 10_000):
        states = run(states, system, own, steps, "cpu", 1)
        lengths.append(1 / averages(own.grid, states)[:, 2].mean())
    # Lifshitz & Slyozov 1961: as the cube root of time, 1.26 a doubling, once drops are far larger than their edges.
    growth = np.divide(lengths[1:], lengths[:-1])
    assert (growth > 1.08).all()
    assert (growth < 1.3).all()
