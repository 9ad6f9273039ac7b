"""Runs of any system: Euler against the plain rate, closed forms, symmetries; what a run and a scheme refuse."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import stepping
from p2d.systems.initial import initial_states
from p2d.systems.stepping import Scheme, run
from p2d.systems.system import System

from .plain import GRAY_SCOTT, SYSTEMS, WAVES, euler, random_states
from .test_system import WITH_A_PATTERNLESS_STATE, fixed_point

SHAPES = [(16, 16), (12, 20), (33, 35)]
DEVICES = ["cpu", "cuda"] if stepping.has_gpu() else ["cpu"]
on_devices = pytest.mark.parametrize("device", DEVICES)


def mode(shape, ky, kx):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.cos(2 * np.pi * (ky * rows / shape[0] + kx * columns / shape[1]))


@on_devices
@pytest.mark.parametrize("name", ["waves", "spirals", "life"])
@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (65, 51)])
def test_200_steps_agree_with_the_plain_rate(device, name, shape):
    system, scheme = GRAY_SCOTT.at(name), Scheme(Grid(shape))
    states = initial_states(system, 0, np.arange(3), shape)
    after = run(states, system, scheme, 200, device)
    assert after[:, 1].std() > 0.03  # a pattern is there: agreement is not that of two empty grids
    # float32 rounds by 6e-8 a step; these presets let that grow to 7e-7, the unstable ones (solitons) to 1e-5
    assert_allclose(after, euler(states, system, scheme, 200), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["spots", "solitons"])
@pytest.mark.parametrize("shape", [(48, 80), (65, 51)])
def test_where_rounding_grows_fast_the_kernel_is_as_near_to_float64_as_plain_float32(name, shape):
    # One system for all three: its parameters are numbers of float32.
    system = GRAY_SCOTT.at(**{k: float(np.float32(v)) for k, v in GRAY_SCOTT.at(name).parameters.items()})
    scheme = Scheme(Grid(shape))
    states = initial_states(system, 0, np.arange(6), shape)
    truth, plain = euler(states, system, scheme, 200), states
    for _ in range(200):
        plain = np.clip(plain + system.rate(plain), 0, 1)
    assert plain.dtype == np.float32
    rounding = np.abs(plain - truth).max()
    assert 1e-6 < rounding < 3e-5  # patterns that part from float64, but have not yet
    # both are the same sums but for fused multiply-adds: their roundings differ, and 3 allows for the luck of either
    assert np.abs(run(states, system, scheme, 200, "cpu") - truth).max() <= 3 * rounding


@on_devices
@pytest.mark.parametrize("shape", SHAPES)
def test_shifts_and_quarter_turns_commute_with_the_step(device, shape):
    states = random_states(2, 2, shape)
    after = run(states, WAVES, Scheme(Grid(shape)), 20, device)
    shifted = run(np.roll(states, (3, -5), axis=(-2, -1)), WAVES, Scheme(Grid(shape)), 20, device)
    # the same sums; a compiler may fuse them otherwise at the end of a row than inside it
    assert_allclose(shifted, np.roll(after, (3, -5), axis=(-2, -1)), rtol=0, atol=1e-6)
    for turns in (1, 2, 3):
        turned = np.rot90(states, turns, axes=(-2, -1))
        made = run(turned, WAVES, Scheme(Grid(turned.shape[-2:])), 20, device)
        # the four neighbours are added in another order: 6e-8 a step
        assert_allclose(made, np.rot90(after, turns, axes=(-2, -1)), rtol=0, atol=1e-6)


@on_devices
@pytest.mark.parametrize("shape", SHAPES)
def test_halving_dt_halves_the_error(device, shape):
    waves = mode(shape, 1, 0) * mode(shape, 0, 1)
    states = np.stack([0.5 + 0.2 * waves, 0.3 - 0.1 * waves]).astype(np.float32)[None]
    coarse, middle, fine = (
        run(states, WAVES, Scheme(Grid(shape), dt), round(16 / dt), device) for dt in (0.5, 0.25, 0.125)
    )
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    # Richardson: 1 + O(dt); float32 rounding is 1e-4 of these differences
    assert_allclose(order, 1.0, rtol=0, atol=0.05)


@on_devices
@pytest.mark.parametrize("operator", ["5-point", "9-point", "spectral"])
@pytest.mark.parametrize(
    ("shape", "ky", "kx"), [((16, 16), 1, 0), ((12, 20), 2, 3), ((33, 35), 0, 17), ((1, 20), 0, 3)]
)
def test_a_mode_of_v_alone_decays_by_its_known_factor(device, operator, shape, ky, kx):
    system = GRAY_SCOTT.at(D_u=0.2, D_v=0.1, F=0.0, k=0.01)
    grid = Grid(shape, 1.1)
    states = np.zeros((1, 2, *shape), np.float32)
    states[0, 1] = 0.2 + 0.1 * mode(shape, ky, kx)
    uniform, factor = 1 - 0.5 * 0.01, 1 + 0.5 * (0.1 * grid.symbol(operator)[ky, kx] - 0.01)
    expected = np.zeros_like(states)
    expected[0, 1] = 0.2 * uniform**60 + 0.1 * factor**60 * mode(shape, ky, kx)
    # without u and F the step is linear; 60 float32 roundings of numbers below 0.3, each at most 1.5e-8
    assert_allclose(run(states, system, Scheme(grid, 0.5, operator), 60, device), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", WITH_A_PATTERNLESS_STATE)
@pytest.mark.parametrize("branch", [1, -1])
def test_a_step_stays_at_the_uniform_fixed_points(name, branch):
    system = GRAY_SCOTT.at(name)
    states = np.broadcast_to(fixed_point(system, branch)[:, None, None], (1, 2, 6, 9)).astype(np.float32)
    # float32: the rate, a sum of terms below 0.1, is off by some 1e-8, less than the spacing of the concentrations
    np.testing.assert_array_max_ulp(run(states, system, Scheme(Grid((6, 9))), 1, "cpu"), states, maxulp=1)


@pytest.mark.parametrize(
    ("name", "branch", "shape", "ky", "kx", "steps"),
    [
        ("waves", 1, (20, 36), 2, 1, 200),  # grows 10 times
        ("waves", -1, (20, 36), 2, 1, 200),  # grows 4 times
        ("waves", -1, (33, 35), 0, 3, 200),  # grows 19 times
        ("spirals", -1, (24, 24), 1, 0, 300),  # decays and turns: the eigenvalues are complex
        ("spirals", -1, (33, 35), 0, 3, 100),  # decays
        ("holes", -1, (20, 36), 2, 1, 100),  # decays
        ("holes", 1, (20, 36), 3, 1, 100),  # one eigenvalue is 1.004, the other 0.85
        ("chaos", -1, (24, 24), 1, 1, 200),  # decays and turns
        ("bubbles", 1, (20, 36), 3, 2, 100),  # grows, slowly
        ("u_skate", -1, (12, 48), 0, 1, 100),  # decays and turns
    ],
)
def test_a_small_wave_around_a_fixed_point_follows_the_jacobian(name, branch, shape, ky, kx, steps):
    system = GRAY_SCOTT.at(name)
    F, k, D_u, D_v = (system.parameters[key] for key in ("F", "k", "D_u", "D_v"))
    u, v = fixed_point(system, branch)
    laplace = -4 * (np.sin(np.pi * kx / shape[1]) ** 2 + np.sin(np.pi * ky / shape[0]) ** 2)
    jacobian = np.array([[-(v**2) - F + D_u * laplace, -2 * u * v], [v**2, 2 * u * v - (F + k) + D_v * laplace]])
    start = np.array([1, -0.5])
    expected = np.linalg.matrix_power(np.eye(2) + jacobian, steps) @ start
    growth = max(1, np.abs(expected).max())
    size = 1e-3 / growth  # so that the wave ends at 1e-3 at most
    wave = mode(shape, ky, kx)
    states = np.array([u, v])[:, None, None] + size * start[:, None, None] * wave
    after = run(states[None].astype(np.float32), system, Scheme(Grid(shape)), steps, "cpu")[0].astype(float)
    amplitude = (after * wave).sum(axis=(1, 2)) / (wave**2).sum() / size
    # The square of a cosine has no part of its own wave number, so the first error is of the third order: 1e-3 squared,
    # times some 300 where the uniform part and the overtone, which the square does have, grow too. float32 rounds by
    # 3e-8 a cell and step, which the projection averages over the cells: up to 4e-4 of the smallest size, 5e-5.
    assert_allclose(amplitude, expected, rtol=0, atol=1e-3 * growth)


@pytest.mark.parametrize("shape", [(16, 16), (20, 36), (33, 35)])
def test_without_feed_and_kill_u_plus_v_only_diffuses(shape):
    D = 0.1
    system = GRAY_SCOTT.at(D_u=D, D_v=D, F=0.0, k=0.0)
    states = random_states(3, 2, shape, 0.1, 0.35)
    after = run(states, system, Scheme(Grid(shape)), 60, "cpu")
    total, total_after = states.sum(axis=1, dtype=np.float64), after.sum(axis=1, dtype=np.float64)
    # What the reaction takes from u it gives to v: the sum follows the heat equation, here exactly mode by mode.
    factor = (1 + D * Grid(shape).symbol("5-point")) ** 60
    expected = np.fft.irfft2(factor * np.fft.rfft2(total), s=shape)
    # float32: u and v are rounded 60 times by at most 1.5e-8 each, so by 2e-6 if all went one way; they go both ways
    assert_allclose(total_after, expected, rtol=0, atol=5e-7)
    # ... and in the mean over hundreds of cells they cancel
    assert_allclose(total_after.mean(axis=(1, 2)), total.mean(axis=(1, 2)), rtol=0, atol=5e-8)
    # all of this took place between the clamps, and with a reaction that made half of v
    assert after.min() > 0
    assert after.max() < 1
    assert after[:, 1].mean() > 1.9 * states[:, 1].mean()


@on_devices
def test_concentrations_are_clamped_to_one_and_zero(device):
    states = np.full((1, 2, 4, 6), 0.95, np.float32)
    states[:, 0, 0, 0] = 0
    # reaction alone, dt = 2: v gains 2 u v^2 = 1.7 and u loses as much; where u is 0, v stays
    expected = np.stack([np.zeros((1, 4, 6)), np.ones((1, 4, 6))], axis=1).astype(np.float32)
    expected[:, 1, 0, 0] = 0.95
    nothing = dict.fromkeys(GRAY_SCOTT.parameters, 0.0)
    assert_array_equal(run(states, GRAY_SCOTT.at(**nothing), Scheme(Grid((4, 6)), 2.0), 1, device), expected)


@on_devices
@pytest.mark.parametrize("steps", [0, 1, 99, 100, 101, 250])
def test_steps_add_up(device, steps):
    # around 100 and beyond: the GPU replays graphs of 100 steps and launches the rest one by one
    states, scheme = initial_states(WAVES, 4, np.arange(2), (12, 20)), Scheme(Grid((12, 20)))
    halfway = run(states, WAVES, scheme, steps // 2, device)
    assert_array_equal(
        run(halfway, WAVES, scheme, steps - steps // 2, device), run(states, WAVES, scheme, steps, device)
    )


SCHEMES = {
    "stencil": Scheme(Grid((8, 6))),
    "spectral": Scheme(Grid((8, 6)), operator="spectral"),
    "modes": Scheme(Grid((8, 6), edges=("mirror", "periodic")), integrator="etdrk4"),
}


@on_devices
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("steps", [0, 3, 100])
def test_the_input_is_left_unchanged(device, scheme, steps):
    states = random_states(2, 2, (8, 6))
    states.flags.writeable = False  # as an array from a shared store is
    before = states.copy()
    after = run(states, WAVES, SCHEMES[scheme], steps, device)
    assert_array_equal(states, before)
    assert after.dtype == np.float32 and after.flags.writeable
    if steps == 0 and scheme == "stencil":
        assert_array_equal(after, before)


@on_devices
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_turned_array_is_advanced_as_its_copy(device, scheme):
    states = random_states(2, 2, (8, 6))[..., ::-1, ::-1]
    made, copied = (run(x, WAVES, SCHEMES[scheme], 3, device) for x in (states, states.copy()))
    assert_array_equal(made, copied)


@on_devices
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sample_has_the_same_bytes_alone_and_in_a_batch(device, scheme):
    states = random_states(18, 2, (8, 6))
    together = run(states, WAVES, SCHEMES[scheme], 10, device)
    alone = [run(states[i : i + 1], WAVES, SCHEMES[scheme], 10, device)[0] for i in (0, 7, 15, 16, 17)]
    assert_array_equal(np.stack(alone), together[[0, 7, 15, 16, 17]])


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_of_threads_does_not_change_bytes(threads, shape):
    states, scheme = random_states(5, 2, shape), Scheme(Grid(shape))
    assert_array_equal(run(states, WAVES, scheme, 30, "cpu", threads), run(states, WAVES, scheme, 30, "cpu", 1))


@on_devices
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("batch", "shape"), [(0, (4, 6)), (1, (1, 1)), (2, (1, 5)), (2, (5, 1))])
def test_empty_batches_and_thin_grids_are_advanced(device, scheme, batch, shape):
    scheme = replace(SCHEMES[scheme], grid=replace(SCHEMES[scheme].grid, shape=shape), dt=0.01)
    states = random_states(batch, 2, shape)
    after, expected = run(states, WAVES, scheme, 3, device), euler(states, WAVES, scheme, 3)
    assert after.shape == states.shape
    # three float32 steps of numbers up to 1; Euler's own error is dt^2 / 2 times second derivatives below 0.6 a step
    assert_allclose(after, expected, rtol=0, atol=1e-4 if scheme.integrator == "etdrk4" else 1e-6)


# What is refused


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 3, 8, 8), (1, 2, 0, 8), (8, 8), (1, 1, 2, 8, 8), (1, 2, 8, 9)])
def test_a_shape_that_is_not_a_batch_of_states_is_refused(shape):
    with pytest.raises(UserError, match=re.escape(f"shape {list(shape)}; it must be [B, 2, 8, 8]")):
        run(np.zeros(shape, np.float32), WAVES, Scheme(Grid((8, 8))), 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": -3}, "steps = -3 is not possible"),
        ({"device": "tpu"}, "'tpu'.*auto, cpu, cuda"),
        ({"threads": 0}, "threads = 0 is not possible"),
        ({"states": np.full((1, 2, 8, 8), np.nan, np.float32)}, "a value that is not finite"),
        ({"states": np.full((1, 2, 8, 8), -np.inf, np.float32)}, "a value that is not finite"),
    ],
)
def test_what_cannot_be_run_is_refused(given, message):
    settings = {"states": np.zeros((1, 2, 8, 8), np.float32), "steps": 1, "device": "cpu"} | given
    with pytest.raises(UserError, match=message):
        run(system=WAVES, scheme=Scheme(Grid((8, 8))), **settings)


def test_cuda_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(stepping, "has_gpu", lambda: False)
    with pytest.raises(UserError, match=r"'cuda'.*--device cpu"):
        run(np.zeros((1, 2, 8, 8), np.float32), WAVES, Scheme(Grid((8, 8))), 1, "cuda")


@pytest.mark.parametrize(("usable", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_when_there_is_one(monkeypatch, usable, device):
    monkeypatch.setattr(stepping, "has_gpu", lambda: usable)
    assert stepping.choose_device("auto") == device
    assert stepping.choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 0.0}, "dt = 0.0 is not possible"),
        ({"dt": -0.5}, "dt = -0.5 is not possible"),
        ({"dt": float("nan")}, "dt = nan is not possible"),
        ({"integrator": "eulers"}, "unknown integrator 'eulers' .did you mean 'euler'.*known: euler, etdrk4"),
        ({"operator": "7-point"}, "unknown operator '7-point'"),
        (
            {"grid": Grid((8, 8), edges=("open", "mirror"))},
            "open edges and masks cannot be simulated",
        ),
        ({"grid": Grid((2, 8))}, "height = 2 is too small"),
    ],
)
def test_a_scheme_that_is_none_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Scheme(**{"grid": Grid((8, 8)), **settings})


def test_nested_stencils_need_room():
    with pytest.raises(UserError, match="height = 4 is too small for a stencil that reaches 2 cells"):
        Scheme(Grid((4, 8)), 1e-3).refuse(SYSTEMS["fourth order"])
    Scheme(Grid((5, 8)), 1e-3).refuse(SYSTEMS["fourth order"])


def test_first_derivatives_at_mirror_edges_are_refused_in_modes_alone():
    grid = Grid((8, 8), edges=("mirror", "periodic"))
    advected, gradient = System("a", {"u": "lap(u) + d(u, x)"}), System("a", {"u": "lap(u) + grad(u, u)"})
    Scheme(grid, 0.01).refuse(advected)
    Scheme(grid, 0.01, integrator="etdrk4").refuse(gradient)
    Scheme(Grid((8, 8)), 0.01, integrator="etdrk4").refuse(advected)
    with pytest.raises(UserError, match="etdrk4 cannot take the first derivatives of a at mirror edges"):
        Scheme(grid, 0.01, integrator="etdrk4").refuse(advected)
