"""How long a step may be: Jacobians by hand, and steps just below and above the bound, simulated."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import stability
from p2d.systems.stepping import Scheme
from p2d.systems.system import Start, System

from .plain import GRAY_SCOTT, WAVES, euler

SQUARE = Grid((8, 8))
# Linear systems around 0, and the grids that hold their fastest wave.
LINEAR = {
    "diffusion": (System("a", {"u": "D*lap(u)"}, {"D": 0.4}), SQUARE, "5-point"),
    "diffusion and decay": (System("a", {"u": "D*lap(u) - k*u"}, {"D": 0.1, "k": 0.7}), Grid((8, 6), 0.5), "9-point"),
    "one row": (System("a", {"u": "D*lap(u)"}, {"D": 0.4}), Grid((1, 8), 2.0), "9-point"),
    "fourth order": (System("a", {"u": "-lap(lap(u)) - lap(u) - u/2"}), SQUARE, "5-point"),
    "turning": (System("a", {"u": "lap(u)/9 - u - 5*v", "v": "lap(v)/9 - v + 5*u"}), SQUARE, "5-point"),
    "coupled": (System("a", {"u": "lap(u) + lap(v)/2 - u", "v": "lap(v)/4 - v + u/3"}), SQUARE, "5-point"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_steps_below_the_bound_decay_and_steps_above_it_blow_up(name):
    system, grid, operator = LINEAR[name]
    system = System("a", system.rates, system.parameters, start=Start(dict.fromkeys(system.species, 0)))
    bound, steps = stability.longest_step(system, grid, operator), 3000 if name == "turning" else 300
    state = np.random.default_rng(0).uniform(-1, 1, (1, len(system.species), *grid.shape)).astype(np.float32)
    state += -state.mean((-2, -1), keepdims=True) if name in ("diffusion", "one row") else 0.5  # they keep the mean
    below, above = (
        np.abs(euler(state, system, Scheme(grid, share * bound.dt, operator), steps)).max() for share in (0.99, 1.01)
    )
    # the fastest wave is multiplied by 0.98 or less a step, or by 1.02: for the turning one by 1 -+ 0.0004 at least
    assert below < 0.6
    assert above > 2


def test_the_jacobian_of_gray_scott_is_that_by_hand():
    F, k, u, v, q = 0.018, 0.049, 0.4, 0.3, 1.7
    expected = [[-(v**2) - F - 0.16 * q, -2 * u * v], [v**2, 2 * u * v - F - k - 0.08 * q]]
    # a central difference of a cubic: exact but for 1e-16 / 1e-6
    assert_allclose(stability.jacobian(WAVES, q, np.array([u, v])), expected, rtol=0, atol=1e-9)
    assert_allclose(stability.jacobian(WAVES, q), [[-F - 0.16 * q, 0], [0, -F - k - 0.08 * q]], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("rate", "value"),
    [
        ("lap(u**3 - u)", -2.0 * (3 * 4 - 1)),
        ("-lap(lap(u))", -4.0),
        ("u*lap(u) + grad(u, u)", -4.0),
        ("exp(u) - 7 + d(u, x)", np.exp(2)),
        ("2 - 8/u**2", 2.0),
    ],
)
def test_the_jacobian_of_other_rates(rate, value):
    system = System("a", {"u": rate}, start=Start({"u": 2}))
    assert_allclose(stability.jacobian(system, 2.0), [[value]], rtol=1e-8)


@pytest.mark.parametrize(("D_u", "D_v"), [(0.16, 0.08), (0.1, 0.2), (0.25, 0.25)])
def test_the_bound_of_gray_scott_is_that_of_von_neumann(D_u, D_v):
    system = GRAY_SCOTT.at(D_u=D_u, D_v=D_v, F=0.0, k=0.0)
    longest = 1 / (4 * max(D_u, D_v))
    assert_allclose(stability.longest_step(system, SQUARE, "5-point").dt, longest, rtol=1e-7)
    Scheme(SQUARE, longest).refuse(system)  # the step at the limit is taken
    with pytest.raises(UserError, match=rf"dt = \S+ is unstable for .*needs dt <= {longest:.3g}"):
        Scheme(SQUARE, longest * 1.001).refuse(system)
    Scheme(Grid((8, 8), 2.0), 4 * longest).refuse(system)
    with pytest.raises(UserError, match="is unstable"):
        Scheme(Grid((8, 8), 0.5), longest / 3.9).refuse(system)


def test_a_step_that_would_remove_more_than_there_is_is_refused():
    system = GRAY_SCOTT.at(D_u=0.0, D_v=0.0, F=0.3, k=0.5)
    Scheme(SQUARE, 1.25).refuse(system)
    with pytest.raises(
        UserError, match=r"dt = 1.26 is too long for F0.3_k0.5_Du0_Dv0: a step would take v past .* 1.25$"
    ):
        Scheme(SQUARE, 1.26).refuse(system)
    # without limits nothing is said of overshooting, only of blowing up
    free = System("a", system.rates, system.parameters, start=system.start)
    Scheme(SQUARE, 2.4).refuse(free)


@pytest.mark.parametrize("name", GRAY_SCOTT.presets)
def test_the_usual_steps_of_the_presets_are_taken(name):
    Scheme(SQUARE, 1.0).refuse(GRAY_SCOTT.at(name))


@pytest.mark.parametrize("name", ["D_u", "D_v"])
@pytest.mark.parametrize("integrator", ["euler", "etdrk4"])
def test_a_negative_diffusion_is_refused(name, integrator):
    with pytest.raises(
        UserError, match=r"cannot be simulated: its waves grow the faster the shorter.*diffusion negative"
    ):
        Scheme(SQUARE, 0.01, integrator=integrator).refuse(GRAY_SCOTT.at(**{name: -0.125}))


@pytest.mark.parametrize(
    "rate", ["u - u**3", "0.5*u + lap(u)", "-lap(lap(u)) - lap(u) - grad(u, u)/2", "-5*lap(u) - lap(lap(u))", "0", "3"]
)
def test_waves_that_grow_within_bounds_are_not_refused(rate):
    system = System("a", {"u": rate}, start=Start({"u": 0}))
    Scheme(SQUARE, 1e-3).refuse(system)


def test_a_wave_that_turns_and_hardly_decays_sets_no_step():
    # at a Hopf bifurcation the eigenvalues are imaginary but for rounding, and any step makes them grow
    turning = {"u": "lap(u) - e*u - 3*v", "v": "lap(v) - e*v + 3*u"}
    for e in (0.0, 1e-9):
        longest = stability.longest_step(System("a", turning, {"e": e}), SQUARE, "5-point").dt
        assert longest > 2 * stability.WEAK / 3.1  # of the weakest decay that counts, at a frequency of 3


def test_the_usual_step_is_half_of_the_longest():
    assert stability.usual_step(GRAY_SCOTT.at(D_u=0.25, F=0.0, k=0.0), SQUARE, "5-point") == 0.5
    assert stability.usual_step(System("a", {"u": "-3*u"}, limits={"u": (0.0, 1.0)}), SQUARE, "5-point") == 0.17
    with pytest.raises(UserError, match="a says no step and its rest state sets none; give --dt"):
        stability.usual_step(System("a", {"u": "u"}), SQUARE, "5-point")


@pytest.mark.parametrize("value", [1.0, 1.5625, 0.33333, 1234.5678, 9.99999e-5, 2 / 3])
def test_a_bound_is_told_rounded_down(value):
    system = System("a", {"u": "-k*u"}, {"k": 2 / value})
    with pytest.raises(UserError) as refused:
        Scheme(SQUARE, 1.01 * value).refuse(system)
    told = float(re.search(r"<= (\S+)$", str(refused.value))[1])
    assert value * 0.999 <= told <= value * (1 + 1e-6)
    Scheme(SQUARE, told).refuse(system)
