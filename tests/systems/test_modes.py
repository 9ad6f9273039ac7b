"""Steps in Fourier modes: exact where the system is linear, fourth order where not, mirror edges, spectral operator."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.fields import Grid
from p2d.systems.steppers import modes
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

from .plain import SYSTEMS, WAVES, euler, random_states

OPERATORS = ["5-point", "9-point", "spectral"]
# c lap(lap(u)), c lap(u) and c u, each with the power of the Laplacian's symbol that it is
LINEAR = System("a", {"u": "-a*lap(lap(u)) - 2*a*lap(u) - u/4", "v": "lap(v)/2 + a*v"}, {"a": 0.1})


def growth(lap):
    return np.stack([-0.1 * lap**2 - 0.2 * lap - 0.25, lap / 2 + 0.1])


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(8, 8), (9, 6), (1, 8)])
@pytest.mark.parametrize("dt", [0.01, 3.0])
def test_etdrk4_is_exact_for_linear_systems(operator, shape, dt):
    grid = Grid(shape, 0.8)
    states = random_states(2, 2, shape, -1, 1)
    after = modes.run(states, LINEAR, Scheme(grid, dt, operator, "etdrk4"), 4)
    expected = np.fft.irfft2(np.exp(4 * dt * growth(grid.symbol(operator))) * np.fft.rfft2(states), s=shape)
    # float64, rounded to float32 at the end: numbers up to 4
    assert_allclose(after, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_linear_part_is_that_by_hand(operator):
    scheme = Scheme(Grid((6, 8), 0.8), operator=operator)
    lap = scheme.grid.symbol(operator)
    assert_allclose(modes.linear_part(LINEAR, scheme), growth(lap), rtol=1e-14, atol=1e-13)
    gray_scott = modes.linear_part(WAVES, scheme)  # u v^2 and F are left to N
    assert_allclose(gray_scott, np.stack([0.16 * lap - 0.018, 0.08 * lap - 0.067]), rtol=1e-14)


def test_the_weights_are_those_of_cox_and_matthews():
    # where e^z is far from 1 the formulas themselves are accurate; at z = 0 they are those of Runge and Kutta
    z = np.array([-30.0, -8.0, -2.0, 1.5])
    e = np.exp(z)
    expected = [
        e,
        np.exp(z / 2),
        (np.exp(z / 2) - 1) / z,
        (-4 - z + e * (4 - 3 * z + z**2)) / z**3,
        2 * (2 + z + e * (z - 2)) / z**3,
        (-4 - 3 * z - z**2 + e * (4 - z)) / z**3,
    ]
    for n, (weight, exact) in enumerate(zip(modes.etd_weights(z / 0.5, 0.5), expected, strict=True)):
        assert_allclose(weight, exact if n < 2 else 0.5 * exact, rtol=1e-12)
    for weight, exact in zip(modes.etd_weights(np.zeros(1), 0.5), [1, 1, 1 / 4, 1 / 12, 1 / 6, 1 / 12], strict=True):
        assert_allclose(weight, [exact], rtol=1e-13)


@pytest.mark.parametrize(
    ("operator", "edges"), [("spectral", "periodic"), ("5-point", "mirror"), ("9-point", "periodic")]
)
def test_etdrk4_is_of_fourth_order(operator, edges):
    system = System("a", {"u": "lap(u) + u - u**3 - v", "v": "2*lap(v) + 3*u*v + grad(u, v)/4 - v"})
    grid = Grid((6, 8), 1.0, (edges, "periodic"))
    rows, columns = np.mgrid[:6, :8]
    smooth = np.cos(np.pi * (rows + 0.5) / 6) if edges == "mirror" else np.cos(np.pi * rows / 3)
    states = (0.4 + 0.3 * np.stack([smooth, np.sin(np.pi * columns / 4)]))[None]

    def after(steps):
        step = modes._Step(system, Scheme(double(grid), 1 / steps, operator, "etdrk4"), "cpu")
        return modes._advanced(modes.torch.from_numpy(states), step, steps, grid, "cpu").numpy()

    coarse, middle, fine = (after(steps) for steps in (8, 16, 32))
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    # Richardson in float64: 4 + O(dt)
    assert_allclose(order, 4.0, rtol=0, atol=0.25)


def double(grid):
    return Grid((grid.shape[0] << (grid.edges[0] == "mirror"), grid.shape[1]), grid.spacing)


@pytest.mark.parametrize("operator", ["5-point", "9-point"])
@pytest.mark.parametrize("edges", [("periodic", "periodic"), ("mirror", "mirror"), ("periodic", "mirror")])
def test_short_steps_agree_with_euler(operator, edges):
    grid = Grid((7, 10), 0.9, edges)
    system, steps = SYSTEMS["nested"], 50
    states = random_states(2, 2, (7, 10), 0.8, 1.2)
    by_modes = modes.run(states, system, Scheme(grid, 0.01, operator, "etdrk4"), 1)
    fine = euler(states, system, Scheme(grid, 0.01 / steps, operator), steps)
    finer = euler(states, system, Scheme(grid, 0.005 / steps, operator), 2 * steps)
    # Euler's error is of the first order: what halving the step changes is what is left
    assert_allclose(by_modes, finer, rtol=0, atol=1.5 * np.abs(finer - fine).max())


def test_a_mirrored_wave_decays_as_between_walls():
    # no flux at the walls, half a cell beyond the first and last: cos(pi k (j + 1/2) / W)
    grid = Grid((1, 12), 0.5, ("mirror", "mirror"))
    wave = np.cos(np.pi * 3 * (np.arange(12) + 0.5) / 12)
    states = wave.astype(np.float32)[None, None, None]
    after = modes.run(states, System("a", {"u": "D*lap(u)"}, {"D": 0.3}), Scheme(grid, 0.4, integrator="etdrk4"), 5)
    eigenvalue = -4 * np.sin(np.pi * 3 / 24) ** 2 / 0.25
    assert_allclose(after[0, 0, 0], np.exp(0.3 * eigenvalue * 2.0) * states[0, 0, 0], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("ky", "kx"), [(1, 0), (2, 3)])
def test_the_spectral_operator_lets_a_wave_decay_and_travel_exactly(ky, kx):
    grid = Grid((12, 16), 0.5)
    rows, columns = np.mgrid[:12, :16]
    waves = 2 * np.pi * np.array([ky / 12, kx / 16]) / 0.5
    phase = 2 * np.pi * (ky * rows / 12 + kx * columns / 16)
    system = System("a", {"u": "D*lap(u) - c*d(u, x)"}, {"D": 0.1, "c": 0.7})
    states = np.cos(phase)[None, None].astype(np.float32)
    after = modes.run(states, system, Scheme(grid, 0.01, "spectral", "etdrk4"), 50)
    expected = np.exp(-0.1 * (waves @ waves) * 0.5) * np.cos(phase - 0.7 * waves[1] * 0.5)
    # the advection is not part of what is exact: fourth order, 50 (0.7 k dt)^5 / 120 < 1e-9; float32 at both ends
    assert_allclose(after[0, 0], expected, rtol=0, atol=2e-7)


def test_limits_are_kept_and_what_is_not_finite_stays():
    system = System("a", {"u": "k*u"}, {"k": 1.0}, limits={"u": (-1.0, 1.5)})
    states = np.linspace(-2, 2, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    for integrator in ("etdrk4", "euler"):
        scheme = Scheme(Grid((4, 4)), 0.1, "spectral", integrator)
        factor = np.exp(0.1) if integrator == "etdrk4" else 1.1
        assert_allclose(modes.run(states, system, scheme, 1), (factor * states).clip(-1, 1.5), rtol=1e-6, atol=1e-7)
    states[0, 0, 1, 1] = np.nan
    assert np.isnan(modes.run(states, system, Scheme(Grid((4, 4)), 0.1, "spectral"), 1)[0, 0, 1, 1])


def test_the_number_of_threads_is_as_before_afterwards():
    before = modes.torch.get_num_threads()
    one, two = (
        modes.run(random_states(1, 2, (8, 8)), WAVES, Scheme(Grid((8, 8)), operator="spectral"), 3, threads=n)
        for n in (1, 2)
    )
    assert modes.torch.get_num_threads() == before
    assert_array_equal(one, two)
