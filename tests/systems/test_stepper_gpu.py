"""The GPU kernels: interpreted without a GPU, compiled without one, and run where there is one."""

import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.systems import stepper
from p2d.systems.gray_scott import PRESETS, GrayScott
from p2d.systems.initial import initial_states

triton = pytest.importorskip("triton")

WAVES = PRESETS["waves"]
KERNELS = {"many steps a launch": True, "one step a launch": False}  # whether a sample has one program

# A process of its own, and one for all cases as it takes seconds to start: Triton reads TRITON_INTERPRET when it is
# imported. Each case is run by both kernels; the last one several times, as the limit of a launch makes of one run.
ADVANCE_IN_THE_INTERPRETER = """
import json
import numpy as np
import torch
from p2d.systems import stepper_gpu
from p2d.systems.gray_scott import PRESETS

found = {}
with open("steps.json") as file:
    all_steps = json.load(file)
with np.load("states.npz") as states:
    for name, steps in all_steps.items():
        state = torch.from_numpy(states[name])
        for one_program in (True, False):
            after = stepper_gpu.advance(state, PRESETS["waves"], steps, one_program_a_sample=one_program)
            found[f"{name} {one_program}"] = after.numpy()
        found[f"{name} input"] = state.numpy()
stepper_gpu.UPDATES_PER_LAUNCH = 3 * 2 * state[:, 0].numel()
found["three pairs a launch"] = stepper_gpu.advance(state, PRESETS["waves"], steps).numpy()
np.savez("found.npz", **found)
"""


def random_states(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((batch, 2, height, width), dtype=np.float32)


def with_a_nan(field: int) -> np.ndarray:
    state = np.full((2, 2, 6, 9), 0.5, np.float32)
    state[1, field, 0, 4] = np.nan
    return state


def plain_euler(state: np.ndarray, params: GrayScott, steps: int) -> np.ndarray:
    """The definition: float64 steps of the plain rate, clamped to [0, 1]."""
    state = state.astype(np.float64)
    for _ in range(steps):
        state = np.clip(state + params.dt * params.rate(state), 0, 1)
    return state.astype(np.float32)


# Batch, height, width, steps. 65 x 70 takes two blocks of either kernel's size, the last one masked. Few steps: the
# interpreter takes 10 ms a block.
RANDOM = [(2, 33, 35, 7), (1, 65, 70, 6), (1, 48, 80, 5), (3, 5, 8, 31), (2, 1, 7, 12), (2, 7, 1, 11), (1, 1, 1, 3)]
CASES = {
    **{f"random {case}": (random_states(*case[:3]), case[3]) for case in RANDOM},
    **{f"no steps {steps}": (random_states(1, 4, 6), steps) for steps in (0, 1)},
    "NaN in u": (with_a_nan(0), 1),
    "NaN in v": (with_a_nan(1), 1),
    "waves": (initial_states(0, np.arange(1), 40, 36), 200),
    "several launches": (random_states(2, 6, 5), 21),
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What both kernels make of each case, by '<case> True' and '<case> False', and '<case> input' afterwards."""
    path = tmp_path_factory.mktemp("interpreted")
    np.savez(path / "states.npz", **{name: state for name, (state, _) in CASES.items()})
    (path / "steps.json").write_text(json.dumps({name: steps for name, (_, steps) in CASES.items()}))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(stepper.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", ADVANCE_IN_THE_INTERPRETER], cwd=path, env=environment, check=True)
    with np.load(path / "found.npz") as found:
        return dict(found)


@pytest.mark.parametrize(("kernel", "case"), product(KERNELS, [c for c in CASES if "NaN" not in c]))
def test_the_interpreted_kernels_agree_with_the_cpu_kernel(interpreted, kernel, case):
    state, steps = CASES[case]
    # the same float32 formula; where a multiply-add is fused is up to the CPU's compiler
    expected = stepper.run(state, WAVES, steps, "cpu")
    assert_close(interpreted[f"{case} {KERNELS[kernel]}"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_200_interpreted_steps_agree_with_the_plain_rate(interpreted, kernel):
    state, steps = CASES["waves"]
    after = interpreted[f"waves {KERNELS[kernel]}"]
    assert after[:, 1].std() > 0.03  # a pattern is there: agreement is not that of two empty grids
    # float32 rounds by 6e-8 a step; this preset lets that grow to 7e-7
    assert_close(after, plain_euler(state, WAVES, steps), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_both_interpreted_kernels_give_the_same_bytes(interpreted, case):
    assert_array_equal(interpreted[f"{case} True"], interpreted[f"{case} False"])


def test_a_run_of_several_launches_gives_the_same_bytes(interpreted):
    # 21 steps: three launches of three pairs, one of one, and an odd step
    assert_array_equal(interpreted["three pairs a launch"], interpreted["several launches True"])


@pytest.mark.parametrize("case", CASES)
def test_the_input_of_the_interpreted_kernels_is_left_unchanged(interpreted, case):
    assert_array_equal(interpreted[f"{case} input"], CASES[case][0])


def reach_of_a_nan(field: int) -> np.ndarray:
    """Where `with_a_nan(field)` is NaN one step later: that field at five cells, around the edge; the other at one."""
    expected = np.zeros((2, 2, 6, 9), bool)
    expected[1, :, 0, 4] = True
    expected[1, field, [1, 5, 0, 0], [4, 4, 3, 5]] = True
    return expected


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("field", "name"), enumerate("uv"))
def test_a_nan_stays_and_spreads_to_its_neighbours(interpreted, kernel, field, name):
    after = interpreted[f"NaN in {name} {KERNELS[kernel]}"]
    assert_array_equal(np.isnan(after), reach_of_a_nan(field))


@pytest.mark.parametrize(("batch", "multiprocessors", "expected"), [(65, 132, False), (66, 132, True), (1, 1, True)])
def test_a_sample_has_one_program_where_that_keeps_half_of_the_gpu_at_work(batch, multiprocessors, expected):
    from p2d.systems.stepper_gpu import _one_program_a_sample

    assert _one_program_a_sample(batch, multiprocessors) is expected


def compiled(monkeypatch, tmp_path, kernel: str, height: int, width: int):
    """A kernel as a Hopper GPU would be given it; buffers are aligned to 16 bytes, as those of torch are."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from p2d.systems import stepper_gpu

    many = KERNELS[kernel]
    function = stepper_gpu._steps_kernel if many else stepper_gpu._step_kernel
    block = stepper_gpu.STEPS_BLOCK if many else stepper_gpu.STEP_BLOCK
    options = stepper_gpu.STEPS_OPTIONS if many else stepper_gpu.STEP_OPTIONS
    types = dict.fromkeys(function.arg_names, "fp32")
    types |= dict.fromkeys(function.arg_names[:2], "*fp32") | ({"pairs": "i32"} if many else {})
    sizes = {"H": height, "W": width, "BLOCK": block}
    aligned = {(i,): [["tt.divisibility", 16]] for i in (0, 1)}
    source = ASTSource(function, types | dict.fromkeys(sizes, "constexpr"), sizes, aligned)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(128, 128), (33, 35), (1, 7)])
def test_the_kernels_compile_without_a_gpu(monkeypatch, tmp_path, kernel, height, width):
    ptx = compiled(monkeypatch, tmp_path, kernel, height, width).asm["ptx"]
    assert ".f64" not in ptx  # float32 throughout: no constant has been promoted
    assert "fma.rn.f32" in ptx
    # the only fused multiply-adds are those of the source: eight for each cell and its two stored numbers
    floats = {".v4": 4, ".v2": 2, "": 1}
    stored = sum(floats[vector or ""] for vector in re.findall(r"st\.global(\.v\d)?\.b32", ptx))
    assert len(re.findall(r"fma\.rn\.f32", ptx)) == 4 * stored
    # a load through the read-only cache, or one ahead of its turn, would miss what other threads have written
    assert not re.search(r"\.nc\.|cp\.async", ptx)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 64), (48, 80)])
def test_a_barrier_parts_the_steps_of_a_launch(monkeypatch, tmp_path, height, width):
    binary = compiled(monkeypatch, tmp_path, "many steps a launch", height, width)
    order = re.findall(r"ld\.global|st\.global|bar\.sync", binary.asm["ptx"])
    assert re.fullmatch("((ld )+(st )+)+bar ((ld )+(st )+)+bar ", "".join(f"{name[:3].rstrip('.')} " for name in order))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 64), (48, 80)])
def test_nothing_is_spilled_to_local_memory(monkeypatch, tmp_path, kernel, height, width):
    binary = compiled(monkeypatch, tmp_path, kernel, height, width)
    (tmp_path / "kernel.cubin").write_bytes(binary.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(tmp_path / "kernel.cubin")]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    assert found["STACK"] == found["LOCAL"] == 0
    assert found["REG"] <= 64  # what each of 1,024 threads can have


def on_a_gpu(test):
    there = stepper.gpu_is_there()
    return pytest.mark.gpu(pytest.mark.skipif(not there, reason="needs a CUDA GPU")(test))


def advance_on_the_gpu(state: np.ndarray, steps: int, kernel: str | None = None) -> np.ndarray:
    from p2d.systems.stepper_gpu import advance

    one_program = None if kernel is None else KERNELS[kernel]
    return advance(torch.from_numpy(state).cuda(), WAVES, steps, one_program_a_sample=one_program).cpu().numpy()


@on_a_gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (65, 51)])
def test_200_steps_on_a_gpu_agree_with_the_plain_rate(kernel, height, width):
    state = initial_states(0, np.arange(3), height, width)
    after = advance_on_the_gpu(state, 200, kernel)
    assert after[:, 1].std() > 0.03
    # as in the interpreter
    assert_close(after, plain_euler(state, WAVES, 200), rtol=0, atol=1e-6)


@on_a_gpu
@pytest.mark.parametrize("steps", [1, 2, 101, 3000])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (65, 51), (1, 7), (130, 200)])
def test_both_kernels_give_the_same_bytes_on_a_gpu(height, width, steps):
    # 3,000 steps: a barrier that does not part the steps would show
    state = initial_states(1, np.arange(150), height, width)
    many, one = (advance_on_the_gpu(state, steps, kernel) for kernel in KERNELS)
    assert_array_equal(many, one)


@on_a_gpu
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (65, 51)])
def test_a_sample_has_the_same_bytes_alone_and_in_a_batch_of_300_on_a_gpu(height, width):
    state = initial_states(2, np.arange(300), height, width)
    together = advance_on_the_gpu(state, 501)
    for i in (0, 1, 150, 299):
        assert_array_equal(advance_on_the_gpu(state[i : i + 1], 501)[0], together[i])


@on_a_gpu
def test_several_launches_give_the_same_bytes_on_a_gpu(monkeypatch):
    from p2d.systems import stepper_gpu

    state = initial_states(3, np.arange(4), 48, 80)
    once = advance_on_the_gpu(state, 205, "many steps a launch")
    monkeypatch.setattr(stepper_gpu, "UPDATES_PER_LAUNCH", 17 * 2 * state[:, 0].size)
    assert_array_equal(advance_on_the_gpu(state, 205, "many steps a launch"), once)


@on_a_gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", [0, 1])
def test_a_nan_stays_on_a_gpu(kernel, field):
    after = advance_on_the_gpu(with_a_nan(field), 1, kernel)
    assert_array_equal(np.isnan(after), reach_of_a_nan(field))
