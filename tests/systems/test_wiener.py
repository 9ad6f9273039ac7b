"""Noise in the dynamics: the generator and its normals, that nothing but seed, run, step and cell matters, and what it
does to linear systems, which is known."""

import hashlib
import math
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import fft

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import kernels, kernels_gpu, stepping, wiener
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener

from .plain import SYSTEMS, WAVES, euler, random_states

LARGEST = 2**63 - 1
MIRROR = ("mirror", "mirror")


def philox(counter, key):
    """Philox 4x32-10 as it was published, on arrays of uint64 that hold 32 bits."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for number in range(10):
        left, right = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        keys = [np.uint64((k + number * w) % 2**32) for k, w in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True)]
        a, b, c, d = (right >> half) ^ b ^ keys[0], right & low, (left >> half) ^ d ^ keys[1], left & low
    return a, b, c, d


def definition(noise, run, shape):
    """The normals of a run in float64, as the module says."""
    count = math.prod(shape)
    calls = -(-count // 8)
    words = philox((np.arange(calls), noise.step, run % 2**32, run >> 32), (noise.seed % 2**32, noise.seed >> 32))
    made = []
    for word, other in zip(words, (*words[1:], words[0]), strict=True):
        radius = np.sqrt(-2 * np.log((word + 0.5) / 2**32))
        angle = other % np.uint64(4096)  # bit 11: the sign; bits 0 to 10: a half turn around 0, two's complement
        half = (angle % 2048 + 1024) % 2048 - 1024.0
        sign = np.where(angle >= 2048, -1, 1)
        made += [sign * radius * np.cos(np.pi * half / 2048), sign * radius * np.sin(np.pi * half / 2048)]
    return np.concatenate(made)[:count].reshape(shape)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_reference_has_the_published_answers_of_philox(counter, key, words):
    # kat_vectors of Random123
    assert " ".join(f"{int(word):08x}" for word in philox(counter, key)) == words


@pytest.mark.parametrize(
    ("seed", "runs", "step", "shape"),
    [
        (0, [0], 0, (2, 64, 64)),
        (1, [5, 2**40 + 3], 77, (3, 33, 35)),
        (LARGEST, [LARGEST], 2**32 - 1, (1, 1, 7)),
        (2**40 + 9, [2**32 - 1, 2**32], 1, (8, 5, 9)),
    ],
)
def test_the_normals_are_those_of_the_definition(seed, runs, step, shape):
    noise = Wiener((1.0,) * shape[0], seed, np.array(runs), step)
    made = cpu.normals(noise, shape)
    assert made.dtype == np.float32
    expected = np.stack([definition(noise, run, shape) for run in runs])
    # 2e-7 of the value, and what rounding u by 3e-8 near 1 does to the shortest radii
    assert_allclose(made, expected, rtol=4e-7, atol=1e-5)


def test_moments_and_tails_are_those_of_a_normal_number():
    drawn = cpu.normals(Wiener((1.0, 1.0), 3, np.arange(512)), (2, 64, 64)).astype(float).ravel()
    assert len(drawn) == 2**22
    variances = {1: 1, 2: 2, 3: 15, 4: 96, 6: 10395 - 15**2}  # of x^p: E x^2p - (E x^p)^2
    expected = {1: 0, 2: 1, 3: 0, 4: 3, 6: 15}
    for power, variance in variances.items():
        error = math.sqrt(variance / len(drawn))
        assert abs((drawn**power).mean() - expected[power]) < 4 * error, power
    for sigmas in (0.1, 1, 2, 3, 4, 4.5):
        share = math.erfc(sigmas / math.sqrt(2))
        for side in (drawn > sigmas, drawn < -sigmas):
            assert abs(side.mean() - share / 2) < 4 * math.sqrt(share / 2 / len(drawn)) + 1 / len(drawn), sigmas
    assert 4.8 < np.abs(drawn).max() < 6.8  # 4e6 numbers reach 5.1 in the median


def test_nothing_is_correlated_with_anything_else():
    shape = (2, 32, 32)
    sigma = (1.0, 1.0)
    here = Wiener(sigma, 8, np.arange(300), 40)
    drawn = cpu.normals(here, shape).astype(float)
    flat = drawn.reshape(len(drawn), -1)
    calls = wiener.calls(flat.shape[1])
    others = {
        "species": (drawn[:, 0], drawn[:, 1]),
        "rows": (drawn, np.roll(drawn, 1, 2)),
        "columns": (drawn, np.roll(drawn, 1, 3)),
        "diagonals": (drawn, np.roll(drawn, (1, 1), (2, 3))),
        "next step": (drawn, cpu.normals(here.at(41), shape)),
        "step with another bit": (drawn, cpu.normals(here.at(40 + 2**31), shape)),
        "next run": (drawn, np.roll(drawn, 1, 0)),
        "runs 2^32 apart": (drawn, cpu.normals(Wiener(sigma, 8, here.runs + 2**32, 40), shape)),
        "next seed": (drawn, cpu.normals(Wiener(sigma, 9, here.runs, 40), shape)),
        "seeds 2^32 apart": (drawn, cpu.normals(Wiener(sigma, 8 + 2**32, here.runs, 40), shape)),
        "step and run in turn": (drawn[1:40], cpu.normals(Wiener(sigma, 8, np.full(1, 40), 0), shape)),
        **{f"of a call, {k} on": (flat[:, k * calls :], flat[:, : (8 - k) * calls]) for k in range(1, 8)},
    }
    for name, (one, other) in others.items():
        for power in (1, 2):
            product = (one**power - (power == 2)) * (other.astype(float) ** power - (power == 2))
            assert abs(product.mean()) < 4 * power / math.sqrt(product.size), (name, power)
    cells = np.corrcoef(flat.T)  # of all pairs of cells over the runs: the largest of 2e6 normal numbers
    assert np.abs(cells - np.eye(len(cells))).max() < 6 / math.sqrt(len(flat))


# What the bytes depend on


def sigmas(system):
    return tuple(np.linspace(0.02, 0.05, len(system.species)))


CASES = {
    "waves": (WAVES, Scheme(Grid((12, 20)))),
    "odd": (WAVES, Scheme(Grid((33, 35)))),
    "one row": (WAVES, Scheme(Grid((1, 17)))),
    "mirror": (WAVES, Scheme(Grid((9, 14), 1.2, MIRROR), 0.7, "9-point")),
    "four species": (SYSTEMS["smooth"], Scheme(Grid((6, 7)), 0.002)),
    "two passes": (SYSTEMS["nested"], Scheme(Grid((8, 8)), 0.002)),
    "spectral": (WAVES, Scheme(Grid((8, 6), 1.0, MIRROR), 1.0, "spectral")),
}


# Each kernel with noise takes 3 s to be compiled: one, a flat one and one of two passes are enough for every day.
SLOW = ("mirror", "four species")
compiled_cases = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]


def states_of(name, batch=5):
    system, scheme = CASES[name]
    return random_states(batch, len(system.species), scheme.grid.shape, 0.3, 0.7)


@pytest.mark.parametrize("name", compiled_cases)
def test_a_step_adds_sigma_root_dt_times_the_normals_and_then_clamps(name):
    system, scheme = CASES[name]
    states = states_of(name)
    noise = Wiener(sigmas(system), 7, np.arange(5) + 3, 11)
    drawn = np.stack([definition(noise, run, states.shape[1:]) for run in noise.runs])
    ends = np.array([system.limits.get(s, (-np.inf, np.inf)) for s in system.species])[:, :, None, None]
    free = System(system.name, system.rates, system.parameters)  # without limits
    added = np.sqrt(scheme.dt) * np.array(noise.sigma)[:, None, None] * drawn
    expected = np.clip(euler(states, free, scheme, 1) + added, ends[:, 0], ends[:, 1])
    # float32 of numbers up to 1, and normals right to 1e-5
    assert_allclose(stepping.run(states, system, scheme, 1, "cpu", noise=noise), expected, rtol=0, atol=1e-6)


def test_noise_that_leaves_the_limits_is_clamped_to_them():
    states = np.full((1, 2, 16, 16), 0.5, np.float32)
    after = stepping.run(states, WAVES, Scheme(Grid((16, 16))), 1, "cpu", noise=Wiener((3.0, 3.0), 0, np.arange(1)))
    assert set(np.unique(after)[[0, -1]]) == {0.0, 1.0}
    assert 0.6 < np.isin(after, [0, 1]).mean() < 0.95


@pytest.mark.parametrize("name", [case for case in compiled_cases if case != "spectral"])
@pytest.mark.parametrize("threads", [1, 2])
def test_alone_or_together_at_once_or_in_parts_the_bytes_are_the_same(name, threads):
    system, scheme = CASES[name]
    states, noise = states_of(name), Wiener(sigmas(system), 7, np.array([3, 4, 9, 2**40, 0]), 2**31)
    together = stepping.run(states, system, scheme, 30, "cpu", threads, noise)
    parts = states
    for step, steps in ((0, 1), (1, 12), (13, 17)):
        parts = stepping.run(parts, system, scheme, steps, "cpu", threads, noise.at(2**31 + step))
    assert_array_equal(parts, together)
    for row in (0, 3):
        rows = slice(row, row + 1)
        assert_array_equal(stepping.run(states[rows], system, scheme, 30, "cpu", 1, noise.of(rows)), together[rows])
    order = np.array([4, 1, 0])
    assert_array_equal(stepping.run(states[order], system, scheme, 30, "cpu", 1, noise.of(order)), together[order])


@pytest.mark.parametrize("other", [{"seed": 8}, {"runs": np.array([5])}, {"step": 1}, {"sigma": (0.02, 0.021)}])
def test_another_seed_run_step_or_size_is_other_noise(other):
    states = states_of("waves", 1)
    given = {"sigma": (0.02, 0.02), "seed": 7, "runs": np.array([4])}
    one, another = (
        stepping.run(states, *CASES["waves"], 3, "cpu", noise=Wiener(**{**given, **more})) for more in ({}, other)
    )
    assert (one != another).mean() > 0.4


def test_a_species_without_noise_is_driven_by_the_others_alone():
    states, runs = states_of("waves"), np.arange(5)
    none, one, both = (
        stepping.run(states, *CASES["waves"], 1, "cpu", noise=Wiener(sigma, 1, runs))
        for sigma in ((0.0, 0.0), (0.02, 0.0), (0.02, 0.02))
    )
    assert_array_equal(one[:, 1], none[:, 1])
    assert_array_equal(one[:, 0], both[:, 0])  # its numbers do not depend on which others have noise


@pytest.mark.parametrize("name", compiled_cases)
def test_noise_of_size_0_keeps_the_bytes_of_none(name):
    system, scheme = CASES[name]
    none = stepping.run(states_of(name), system, scheme, 20, "cpu")
    zero = Wiener((0.0,) * len(system.species), 7, np.arange(5))
    assert_array_equal(stepping.run(states_of(name), system, scheme, 20, "cpu", noise=zero), none)


def test_kernels_without_noise_are_the_text_they_were():
    # A change of this text makes every cached kernel anew and has to be timed; of what is meant, note the new hash.
    scheme = Scheme(Grid((16, 16)))
    program = cpu.program(WAVES, scheme)
    sources = [
        *(kernels.cpu_source(program, cpu.shape(WAVES, scheme, rows)) for rows in (1, 2)),
        kernels_gpu.gpu_source(program, cpu.shape(WAVES, scheme)),
    ]
    assert [hashlib.sha256(s.encode()).hexdigest()[:12] for s in sources] == HASHES


HASHES = ["7b089a39c1a1", "ad6ce9c3b6f7", "47b7a43b563a"]


# Linear systems, of which all is known

RUNS, SIZE, RELAXING = 96, 24, 0.5


def real_modes(fields, edges):
    """Orthonormal real modes of fields [N, H, W]: those of the cosine transform, or of Hartley."""
    if edges == "mirror":
        return fft.dctn(fields, axes=(1, 2), norm="ortho")
    complex_modes = np.fft.fft2(fields) / SIZE
    return complex_modes.real - complex_modes.imag


def symbol_of(grid, operator):
    """Of the Laplacian, for each of these modes."""
    if "mirror" in grid.edges:
        wave = 2 * np.sin(np.pi * np.arange(SIZE) / (2 * SIZE))
        return -(wave[:, None] ** 2 + wave**2)
    column = np.arange(SIZE)
    return grid.symbol(operator)[:, np.minimum(column, SIZE - column)]


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize(
    ("operator", "dt", "edges"),
    [
        ("5-point", 0.2, "periodic"),
        pytest.param("5-point", 0.2, "mirror", marks=pytest.mark.slow),
        ("spectral", 0.1, "periodic"),
    ],
)
def test_a_linear_field_has_the_spectrum_of_ornstein_and_uhlenbeck(spread, operator, dt, edges):
    # A step of a mode of rate L = a + D k^2 is x' = (1 - L dt) x + sigma sqrt(dt) n, whose stationary variance is
    # sigma^2 dt / (1 - (1 - L dt)^2) = sigma^2 / (2 L) / (1 - L dt / 2).
    system, sigma = System("spreading", {"u": "D*lap(u) - a*u"}, {"D": spread, "a": RELAXING}), 0.3
    grid = Grid((SIZE, SIZE), 1.0, (edges, edges))
    noise = Wiener((sigma,), 1, np.arange(RUNS))
    steps = round(8 / (RELAXING * dt))  # of the start exp(-16) is left
    start = np.zeros((RUNS, 1, SIZE, SIZE), np.float32)
    after = stepping.run(start, system, Scheme(grid, dt, operator), steps, "cpu", noise=noise)
    rate = RELAXING - spread * symbol_of(grid, operator)
    expected = sigma**2 / (2 * rate) / (1 - rate * dt / 2)
    ratio = (real_modes(after[:, 0].astype(float), edges) ** 2).mean(axis=0) / expected
    error = math.sqrt(2 / RUNS)  # of each mode, a normal number in each run
    assert abs(ratio.mean() - 1) < 4 * error / SIZE
    assert abs((ratio - 1).std() / error - 1) < 0.15
    assert np.abs(ratio - 1).max() < 6 * error  # of chi-squared of 96 degrees, the largest of 576
    if spread:  # neither long nor short waves are off
        assert abs(np.polyfit(rate.ravel(), ratio.ravel(), 1)[0]) < 4 * error / SIZE / rate.std()


# What is refused


@pytest.mark.parametrize(
    ("noise", "told"),
    [
        (((0.1,), 0, np.arange(2)), "dynamics noise of 1 species and 2 runs cannot drive 2 states of 2 species"),
        (((0.1, 0.1), 0, np.arange(3)), "dynamics noise of 2 species and 3 runs cannot drive 2 states of 2 species"),
        (((0.1, 0.1), 0, np.arange(2), 2**32 - 4), f"steps {2**32 - 4} to {2**32 + 1} cannot have noise: at most"),
    ],
)
def test_noise_of_other_states_is_refused(noise, told):
    with pytest.raises(UserError, match=re.escape(told)):
        stepping.run(states_of("waves", 2), *CASES["waves"], 5, "cpu", noise=Wiener(*noise))


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_a_size_that_is_none_is_refused(sigma):
    with pytest.raises(UserError, match=f"dynamics noise = {sigma} is not possible"):
        Wiener((0.1, sigma), 0, np.arange(1))


def test_steps_that_are_not_explicit_take_no_noise():
    scheme = Scheme(Grid((12, 20)), integrator="etdrk4")
    with pytest.raises(UserError, match="etdrk4 takes no noise in the dynamics; take --integrator euler"):
        stepping.run(states_of("waves"), WAVES, scheme, 1, "cpu", noise=Wiener((0.1, 0.1), 0, np.arange(5)))
