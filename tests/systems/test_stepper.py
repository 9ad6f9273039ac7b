"""The kernels against the plain rate, closed forms and symmetries; what the stepper refuses."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.systems import stepper
from p2d.systems.gray_scott import PRESETS, GrayScott
from p2d.systems.initial import initial_states
from p2d.systems.stepper_cpu import TINY

GRIDS = [(16, 16), (12, 20), (33, 35)]
DEVICES = ["cpu", "cuda"] if stepper.gpu_is_there() else ["cpu"]
WAVES = PRESETS["waves"]


def random_states(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((batch, 2, height, width), dtype=np.float32)


def plain_euler(state: np.ndarray, params: GrayScott, steps: int) -> np.ndarray:
    """The definition: float64 steps of the plain rate, clamped to [0, 1]."""
    state = state.astype(np.float64)
    for _ in range(steps):
        state = np.clip(state + params.dt * params.rate(state), 0, 1)
    return state.astype(np.float32)


def smooth_state(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = np.cos(2 * np.pi * rows / height) * np.cos(2 * np.pi * columns / width + 1)
    return np.stack([0.5 + 0.2 * waves, 0.3 - 0.1 * waves]).astype(np.float32)[None]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["waves", "spirals", "life"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (65, 51)])
def test_200_steps_agree_with_the_plain_rate(device, name, height, width):
    state = initial_states(0, np.arange(3), height, width)
    after = stepper.run(state, PRESETS[name], 200, device)
    assert after[:, 1].std() > 0.03  # a pattern is there: agreement is not that of two empty grids
    # float32 rounds by 6e-8 a step; these presets let that grow to 7e-7, the unstable ones (solitons) to 1e-5
    assert_close(after, plain_euler(state, PRESETS[name], 200), rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", PRESETS)
def test_full_u_without_v_stays_as_it_is(device, name):
    state = np.zeros((2, 2, 6, 9), np.float32)
    state[:, 0] = 1
    assert_array_equal(stepper.run(state, PRESETS[name], 50, device), state)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_shifts_commute_with_the_step(device, height, width):
    state = random_states(2, height, width)
    shifted = np.roll(state, (3, -5), axis=(-2, -1))
    after = np.roll(stepper.run(state, WAVES, 20, device), (3, -5), axis=(-2, -1))
    # the same sums; a compiler may fuse them otherwise at the end of a row than inside it
    assert_close(stepper.run(shifted, WAVES, 20, device), after, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_commute_with_the_step(device, height, width, turns):
    state = random_states(2, height, width)
    turned = np.rot90(state, turns, axes=(-2, -1))
    after = np.rot90(stepper.run(state, WAVES, 20, device), turns, axes=(-2, -1)).copy()
    # the four neighbours are added in another order: 6e-8 a step
    assert_close(stepper.run(turned, WAVES, 20, device), after, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_halving_dt_halves_the_error(device, height, width):
    state = smooth_state(height, width)
    coarse, middle, fine = (
        stepper.run(state, replace(WAVES, dt=dt), round(16 / dt), device) for dt in (0.5, 0.25, 0.125)
    )
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    # Richardson: 1 + O(dt); float32 rounding is 1e-4 of these differences
    assert_close(order, 1.0, rtol=0, atol=0.05)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("height", "width", "ky", "kx"), [(16, 16, 1, 0), (12, 20, 2, 3), (33, 35, 0, 17)])
def test_a_mode_of_v_alone_decays_by_its_known_factor(device, height, width, ky, kx):
    params = GrayScott(D_u=0.2, D_v=0.1, F=0.0, k=0.01, dt=0.5)
    rows, columns = np.mgrid[:height, :width]
    mode = np.cos(2 * np.pi * (ky * rows / height + kx * columns / width))
    state = np.zeros((1, 2, height, width), np.float32)
    state[0, 1] = 0.2 + 0.1 * mode
    diffusion = 4 * params.D_v * (np.sin(np.pi * kx / width) ** 2 + np.sin(np.pi * ky / height) ** 2)
    uniform, factor = 1 - params.dt * params.k, 1 - params.dt * (params.k + diffusion)
    after = stepper.run(state, params, 60, device)
    expected = np.zeros_like(state)
    expected[0, 1] = 0.2 * uniform**60 + 0.1 * factor**60 * mode
    # without u and F the step is linear; 60 float32 roundings of numbers below 0.3, each at most 1.5e-8
    assert_close(after, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_concentrations_are_clamped_to_one_and_zero(device):
    state = np.full((1, 2, 4, 6), 0.95, np.float32)
    state[:, 0, 0, 0] = 0
    # reaction alone, dt = 2: v gains 2 u v^2 = 1.7 and u loses as much; where u is 0, v stays
    expected = np.stack([np.zeros((1, 4, 6)), np.ones((1, 4, 6))], axis=1).astype(np.float32)
    expected[:, 1, 0, 0] = 0.95
    assert_array_equal(stepper.run(state, GrayScott(0.0, 0.0, 0.0, 0.0, dt=2.0), 1, device), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_values_below_tiny_become_zero(device):
    state = np.zeros((1, 2, 3, 5), np.float32)
    state[:, 1, 0] = 1.5 * TINY
    state[:, 1, 1] = 4 * TINY
    after = stepper.run(state, GrayScott(0.0, 0.0, 0.0, 0.5), 1, device)
    expected = np.zeros_like(state)
    expected[:, 1, 1] = 2 * TINY
    assert_array_equal(after, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("steps", [0, 1, 99, 100, 101, 250])
def test_steps_add_up(device, steps):
    # around 100 and beyond: the GPU replays graphs of 100 steps and launches the rest one by one
    state = initial_states(4, np.arange(2), 12, 20)
    halfway = stepper.run(state, WAVES, steps // 2, device)
    assert_array_equal(
        stepper.run(halfway, WAVES, steps - steps // 2, device), stepper.run(state, WAVES, steps, device)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("steps", [0, 3, 100])
def test_the_input_is_left_unchanged(device, steps):
    state = random_states(2, 8, 6)
    state.flags.writeable = False  # as an array from a shared store is
    before = state.copy()
    stepper.run(state, WAVES, steps, device)
    assert_array_equal(state, before)


@pytest.mark.parametrize("device", DEVICES)
def test_a_sample_has_the_same_bytes_alone_and_in_a_batch(device):
    state = random_states(5, 12, 20)
    together = stepper.run(state, WAVES, 30, device)
    alone = [stepper.run(state[i : i + 1], WAVES, 30, device)[0] for i in range(5)]
    assert_array_equal(np.stack(alone), together)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_number_of_threads_does_not_change_bytes(threads, height, width):
    state = random_states(5, height, width)
    one = stepper.run(state, WAVES, 30, "cpu", threads=1)
    assert_array_equal(stepper.run(state, WAVES, 30, "cpu", threads=threads), one)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(0, 2, 4, 6), (1, 2, 1, 1), (2, 2, 1, 5), (2, 2, 5, 1)])
def test_empty_batches_and_thin_grids_are_advanced(device, shape):
    state = random_states(shape[0], *shape[2:])
    # three float32 steps of numbers up to 1
    assert_close(stepper.run(state, WAVES, 3, device), plain_euler(state, WAVES, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 3, 8, 8), (1, 2, 0, 8), (8, 8), (1, 1, 2, 8, 8)])
def test_a_shape_that_is_not_a_batch_of_states_is_refused(shape):
    with pytest.raises(UserError, match=str(list(shape)).replace("[", r"\[").replace("]", r"\]")):
        stepper.run(np.zeros(shape, np.float32), WAVES, 1)


def test_a_negative_number_of_steps_is_refused():
    with pytest.raises(UserError, match="steps = -3"):
        stepper.run(np.zeros((1, 2, 8, 8), np.float32), WAVES, -3)


def test_cuda_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(stepper, "gpu_is_there", lambda: False)
    with pytest.raises(UserError, match=r"'cuda'.*--device cpu"):
        stepper.run(np.zeros((1, 2, 8, 8), np.float32), WAVES, 1, "cuda")


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match=r"'tpu'.*auto, cpu, cuda"):
        stepper.run(np.zeros((1, 2, 8, 8), np.float32), WAVES, 1, "tpu")


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_when_it_is_there(monkeypatch, there, device):
    monkeypatch.setattr(stepper, "gpu_is_there", lambda: there)
    assert stepper.pick_device("auto") == device
