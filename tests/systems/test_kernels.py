"""The generated CPU kernels: Gray-Scott's bytes and speed, the plain rate of other systems, the cache of files."""

import time
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.fields import Grid
from p2d.systems import kernels
from p2d.systems.initial import initial_states
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

from . import by_hand
from .plain import GRAY_SCOTT, PRESETS, SYSTEMS, WAVES, euler, interpreted, random_states

FREE = {"D_u": 0.19, "D_v": 0.043, "F": 0.0237, "k": 0.0571}
EDGES = [("periodic", "periodic"), ("mirror", "mirror"), ("periodic", "mirror")]


@pytest.mark.parametrize(
    ("preset", "parameters", "dt"),
    [*((name, {}, 1.0) for name in ("waves", "spirals", "solitons", "chaos")), ("", FREE, 1.0), ("", FREE, 0.37)],
)
@pytest.mark.parametrize("shape", [(24, 24), (17, 30), (33, 35)])
def test_gray_scott_keeps_the_bytes_of_the_kernel_by_hand(preset, parameters, dt, shape):
    system, scheme = GRAY_SCOTT.at(preset, **parameters), Scheme(Grid(shape), dt)
    states = initial_states(system, 3, np.arange(2), shape)
    early, late = (cpu.run(states, system, scheme, steps, threads=1) for steps in (200, 2000))
    assert early[:, 1].std() > 0.005  # a pattern, not the uniform state that any kernel keeps
    assert_array_equal(early, by_hand.run(states, system.parameters, dt, 200))
    assert_array_equal(late, by_hand.run(states, system.parameters, dt, 2000))


@pytest.mark.slow
def test_gray_scott_is_as_fast_as_by_hand():
    state = initial_states(WAVES, 0, np.arange(1), (128, 128))[0]
    numbers = by_hand.constants(**WAVES.parameters, dt=1.0)
    scheme = Scheme(Grid((128, 128)))
    constants = cpu.program(WAVES, scheme).values(WAVES.parameters, 1.0, "5-point", 1.0)
    generated, ends = cpu.compiled(WAVES, scheme), cpu.limits(WAVES)

    def seconds(kernel, *arguments):
        copy, begin = state.copy(), time.perf_counter()
        kernel(copy, *arguments)
        return time.perf_counter() - begin

    runs = [(by_hand._run_sample, *numbers), (generated, constants, *ends)]
    times = np.array([[seconds(*run, 2000) for run in runs] for _ in range(11)])[1:]  # the first compiles
    hand, made = np.min(times, axis=0)  # whatever runs beside them only adds
    print(f"by hand {hand * 1e3:.1f} ms, generated {made * 1e3:.1f} ms: {hand / made:.3f} times as fast")
    assert made <= hand / 0.95


CASES = [
    *((name, (8, 8), EDGES[0], "5-point", 1.0) for name in SYSTEMS),
    *((name, (9, 14), EDGES[1], "9-point", 0.7) for name in ("nested", "first derivatives", "powers")),
    *((name, (1, 16), EDGES[2], "9-point", 1.5) for name in ("fourth order", "first derivatives")),
    ("nested", (7, 1), EDGES[1], "5-point", 1.5),
]
FEW = CASES[4:6]  # smooth functions, and two passes at walls: 2 s of compiling each


def assert_steps_of_the_plain_rate(run, name, shape, edges, operator, spacing):
    system, scheme = SYSTEMS[name], Scheme(Grid(shape, spacing, edges), 0.002, operator)
    states = random_states(2, len(system.species), shape, 0.5, 1.5)
    after, expected = run(states, system, scheme, 20), euler(states, system, scheme, 20)
    assert np.abs(expected - states).max() > 0.01
    # float32 rounds the state by 6e-8 a step, and rates up to 100 by some 1e-5, of which dt takes 2e-8
    assert_allclose(after, expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize(("name", "shape", "edges", "operator", "spacing"), CASES)
def test_the_text_of_a_kernel_takes_the_steps_of_the_plain_rate(name, shape, edges, operator, spacing):
    assert_steps_of_the_plain_rate(interpreted, name, shape, edges, operator, spacing)


@pytest.mark.parametrize(
    ("name", "shape", "edges", "operator", "spacing"),
    [case if case in FEW else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
)
def test_a_kernel_takes_the_steps_of_the_plain_rate(name, shape, edges, operator, spacing):
    assert_steps_of_the_plain_rate(cpu.run, name, shape, edges, operator, spacing)


@pytest.mark.parametrize(("edges", "operator"), product(EDGES, ["5-point", "9-point"]))
@pytest.mark.parametrize("shape", [(6, 6), (5, 8), (1, 9)])
def test_gray_scott_on_other_grids_takes_the_steps_of_the_plain_rate(edges, operator, shape):
    scheme = Scheme(Grid(shape, 1.2, edges), 1.0, operator)
    states = random_states(2, 2, shape, 0.2, 0.5)
    # float32 rounds by 6e-8 a step
    assert_allclose(interpreted(states, WAVES, scheme, 40), euler(states, WAVES, scheme, 40), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["nested", "first derivatives", "fourth order"])
def test_mirror_edges_are_the_even_continuation(name):
    system = SYSTEMS[name]
    if name == "first derivatives":  # of the even continuation they are odd
        system = System("c", {"u": "lap(u) + 2*grad(u, v)", "v": "-grad(u, u)*v"})
    states = random_states(1, len(system.species), (6, 7), 0.5, 1.5)
    twice = np.concatenate([states, states[..., ::-1, :]], axis=-2)
    twice = np.concatenate([twice, twice[..., ::-1]], axis=-1)
    mirrored = interpreted(states, system, Scheme(Grid((6, 7), 1.0, EDGES[1]), 0.002), 20)
    whole = interpreted(twice, system, Scheme(Grid((12, 14)), 0.002), 20)
    assert_array_equal(mirrored, whole[..., :6, :7])  # the same sums


@pytest.mark.parametrize("name", PRESETS)
def test_full_u_without_v_stays_as_it_is(name):
    state = np.zeros((2, 2, 6, 9), np.float32)
    state[:, 0] = 1
    assert_array_equal(cpu.run(state, GRAY_SCOTT.at(name), Scheme(Grid((6, 9))), 50), state)


@pytest.mark.parametrize(("low", "high"), [(-0.25, 0.5), (0.25, float("inf")), (-float("inf"), -0.125)])
def test_species_are_clamped_to_their_limits_only(low, high):
    system = System("a", {"u": "k*u", "v": "k*v"}, {"k": 3.0}, limits={"v": (low, high)})
    states = random_states(1, 2, (4, 5), -1, 1)
    after = interpreted(states, system, Scheme(Grid((4, 5)), 1.0), 1)
    # u + 1 * 3 u, which float32 rounds twice
    assert_allclose(after[:, 0], 4 * states[:, 0], rtol=1.2e-7)
    assert_allclose(after[:, 1], np.clip(4 * states[:, 1], low, high), rtol=1.2e-7)


@pytest.mark.parametrize("limits", [{}, {"u": (0.0, 1.0)}])
def test_values_below_tiny_become_zero(limits):
    system = System("a", {"u": "-k*u"}, {"k": 0.5}, limits=limits)
    state = np.zeros((1, 1, 3, 5), np.float32)
    state[0, 0, 0], state[0, 0, 1] = 1.5 * kernels.TINY, 4 * kernels.TINY
    state[0, 0, 2] = 0 if limits else -1.5 * kernels.TINY
    expected = np.zeros_like(state)
    expected[0, 0, 1] = 2 * np.float32(kernels.TINY)
    assert_allclose(interpreted(state, system, Scheme(Grid((3, 5))), 1), expected, rtol=1e-6, atol=0)


def test_a_division_by_zero_is_infinite_and_stays_so():
    system = System("a", {"u": "1/u", "v": "log(v)"})
    state = np.ones((1, 2, 3, 3), np.float32)
    state[0, :, 1, 1] = 0
    after = cpu.run(state, system, Scheme(Grid((3, 3)), 0.5), 1)
    assert after[0, 0, 1, 1] == np.inf and after[0, 1, 1, 1] == -np.inf
    others = np.ones((3, 3), bool)
    others[1, 1] = False
    assert_array_equal(after[0, :, others], np.tile(np.float32([1.5, 1.0]), (8, 1)))


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("species", [0, 1])
@pytest.mark.parametrize(("shape", "row", "column"), [((16, 20), 0, 19), ((15, 17), 14, 8), ((12, 40), 5, 3)])
def test_nan_in_one_cell_reaches_just_the_cells_it_should(steps, species, shape, row, column):
    state = random_states(2, 2, shape, 0.2, 0.5)
    state[1, species, row, column] = np.nan
    after = cpu.run(state, WAVES, Scheme(Grid(shape)), steps)
    # A step carries it one cell on, within its species by diffusion and in the same cell to the other by reaction.
    rows, columns = np.arange(shape[0]) - row, np.arange(shape[1]) - column
    rows, columns = (np.minimum(d % n, -d % n) for d, n in ((rows, shape[0]), (columns, shape[1])))
    distance = rows[:, None] + columns
    expected = np.zeros(state.shape, bool)
    expected[1, species] = distance <= steps
    expected[1, 1 - species] = distance <= steps - 1
    assert_array_equal(np.isnan(after), expected)


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("species", [0, 1])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize(("shape", "row", "column"), [((16, 20), 0, 19), ((15, 17), 14, 8)])
def test_an_infinite_cell_is_not_clamped_to_a_value(steps, species, value, shape, row, column):
    state = random_states(2, 2, shape, 0.2, 0.5)
    state[1, species, row, column] = value
    after = cpu.run(state, WAVES, Scheme(Grid(shape)), steps)
    assert not np.isfinite(after[1, species, row, column])
    assert np.isfinite(after[0]).all()  # the sample beside it has no part in it


def test_a_source_is_written_once_and_loaded_once(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "cache_folder", lambda: tmp_path)
    module = kernels.load("answer = 42\n", "test")
    assert module.answer == 42
    assert kernels.load("answer = 42\n", "test") is module
    other = kernels.load("answer = 43\n", "test")
    assert other.answer == 43
    assert sorted(f.read_text() for f in tmp_path.glob("*.py")) == ["answer = 42\n", "answer = 43\n"]


def test_a_cut_file_in_the_cache_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "cache_folder", lambda: tmp_path)
    source = "answer = 'a source that nobody else has'\n"
    kernels.load(source, "cut")
    (file,) = tmp_path.glob("*.py")
    file.write_text(source[:12])
    monkeypatch.delitem(kernels.sys.modules, file.stem)
    assert kernels.load(source, "cut").answer == "a source that nobody else has"
    assert file.read_text() == source


@pytest.mark.parametrize("broken", ["raise ValueError", "answer ="])
def test_a_source_that_fails_leaves_no_module(tmp_path, monkeypatch, broken):
    monkeypatch.setattr(kernels, "cache_folder", lambda: tmp_path)
    for _ in range(2):
        with pytest.raises((ValueError, SyntaxError)):
            kernels.load(broken, "broken")


def test_the_cache_is_where_the_environment_says_or_else_somewhere_writable(tmp_path, monkeypatch):
    folder = kernels.cache_folder.__wrapped__
    monkeypatch.setenv("P2D_CACHE", str(tmp_path / "own"))
    assert folder() == tmp_path / "own" and folder().is_dir()
    monkeypatch.delenv("P2D_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "all"))
    assert folder() == tmp_path / "all" / "p2d"
    (tmp_path / "file").touch()
    monkeypatch.setenv("P2D_CACHE", str(tmp_path / "file" / "below"))
    made = folder()
    assert made.is_dir() and tmp_path not in made.parents
    made.rmdir()
