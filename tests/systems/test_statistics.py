"""The study presets after 10,000 steps: the statistics of their patterns are those of float64 without the kernels.

Fields of two computations part long before, as these systems are chaotic; what they look like on average must not.
Maze tells an error of 1 % in D_u, D_v, F or k by more than 12 standard errors, and spirals die when k is 1 % too large;
waves and life, which vary more from sample to sample, tell 3 % of k and states kept in bfloat16.
"""

import json
from math import hypot, sqrt

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import fisher_exact

from p2d.fields import Grid
from p2d.systems.initial import initial_states
from p2d.systems.stepping import Scheme, run

from .plain import GRAY_SCOTT
from .reference import BANDS, FILE, STEPS, SYSTEMS, euler, statistics

REFERENCE = json.loads(FILE.read_text())
SEED = 7
SAMPLES = 40
# 14 statistics of 4 systems are compared. At 4 standard errors a right simulator fails one of these 56 comparisons in
# fewer than 1 of 100 seeds (Student's t with about 80 degrees of freedom: 1.4e-4 each).
STANDARD_ERRORS = 4
# Four comparisons, one a system: a right simulator fails in fewer than 1 of 250 seeds.
LEAST_PROBABILITY = 1e-3


@pytest.fixture(scope="module", params=SYSTEMS)
def compared(request):
    """What the reference says of a system, and the statistics of samples of another seed."""
    system, shape = GRAY_SCOTT.at(request.param), tuple(REFERENCE["grid"])
    states = initial_states(system, SEED, np.arange(SAMPLES), shape)
    states = run(states, system, Scheme(Grid(shape)), REFERENCE["steps"], "cpu")
    return REFERENCE["systems"][request.param], statistics(states)


@pytest.mark.slow
def test_patterns_look_like_those_of_the_reference(compared):
    reference, made = compared
    off = {}
    for name, (mean, deviation) in reference["mean and standard deviation"].items():
        error = hypot(deviation / sqrt(reference["living"]), made[name].std(ddof=1) / sqrt(len(made[name])))
        off[name] = (made[name].mean() - mean) / error  # in standard errors
    assert len(off) == 4 + len(BANDS)
    assert {name: z for name, z in off.items() if not abs(z) <= STANDARD_ERRORS} == {}


@pytest.mark.slow
def test_as_many_samples_die_as_in_the_reference(compared):
    reference, made = compared
    dead = int(made["dead"].sum())
    # Fisher's exact test: two binomial samples of one unknown probability
    table = [[dead, SAMPLES - dead], [reference["dead"], reference["living"]]]
    assert fisher_exact(table).pvalue >= LEAST_PROBABILITY, f"{dead} of {SAMPLES} are dead"


def test_the_reference_is_of_the_study_presets_at_the_default_number_of_steps():
    assert tuple(REFERENCE["systems"]) == SYSTEMS
    assert REFERENCE["steps"] == STEPS == 10_000
    assert SEED not in REFERENCE["seeds"]
    for system in REFERENCE["systems"].values():
        assert system["living"] + system["dead"] == REFERENCE["samples a seed"] * len(REFERENCE["seeds"])


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(("height", "width"), [(24, 24), (20, 33)])
def test_the_reference_takes_steps_of_the_plain_rate(name, height, width):
    state = np.random.default_rng(0).random((9, 2, height, width))  # 9: two chunks
    system, expected = GRAY_SCOTT.at(name), state
    for _ in range(30):
        expected = np.clip(expected + system.rate(expected), 0, 1)
    # the same sums in the same order; torch may fuse a multiplication with an addition: float64 rounding of 30 steps
    assert_allclose(euler(state, system, 30), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("ky", "kx", "band"), [(1, 0, "1-2"), (3, 4, "4-6"), (0, 9, "8-12"), (20, 15, "24-32")])
def test_a_wave_has_its_variance_as_power_in_its_band(ky, kx, band):
    rows, columns = np.mgrid[:64, :64]
    wave = np.cos(2 * np.pi * (ky * rows + kx * columns) / 64 + 0.3)
    with np.errstate(divide="ignore"):  # bands without power
        made = statistics(np.stack([0.5 - 0.2 * wave, 0.3 + 0.1 * wave])[None])
    powers = [name for name in made if name.startswith("log10 power") and made[name] > -20]
    assert powers == [f"log10 power {band}"]
    # cos^2 is 1/2 on average; float64 sums of 64^2 numbers
    values = [made[name][0] for name in (powers[0], "mean u", "mean v", "variance u", "variance v")]
    assert_allclose(values, [np.log10(0.005), 0.5, 0.3, 0.02, 0.005], rtol=1e-12)


def test_a_sample_is_dead_when_v_is_uniform():
    states = np.full((3, 2, 16, 16), 0.3)
    states[1, 1, ::2] += 0.0021  # a standard deviation of 1.05e-3
    states[2, 1, ::2] += 0.0019
    with np.errstate(divide="ignore"):  # bands without power
        made = statistics(states)
    assert made["dead"].tolist() == [True, False, True]
    assert made["mean v"].shape == (1,)
