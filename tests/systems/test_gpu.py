"""The GPU kernels: interpreted without a GPU, compiled without one, and run where there is one."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from p2d.fields import Grid
from p2d.systems import kernels, kernels_gpu, stepping
from p2d.systems.initial import initial_states
from p2d.systems.steppers import cpu, gpu
from p2d.systems.stepping import Scheme
from p2d.systems.wiener import Wiener

from .plain import SYSTEMS, WAVES, euler, random_states

triton = pytest.importorskip("triton")

KERNELS = {"many steps a launch": True, "one step a launch": False}  # whether a sample has one program
MIRROR = ("mirror", "mirror")


def with_a_nan(field):
    state = np.full((2, 2, 6, 9), 0.5, np.float32)
    state[1, field, 0, 4] = np.nan
    return state


def some(name, batch, shape):
    return random_states(batch, len(SYSTEMS[name].species), shape, 0.5, 1.5)


# System, scheme, states and steps. 65 x 70 takes two blocks of either kernel's size, the last one masked. Few steps:
# the interpreter takes 10 ms a block.
GRAY_SCOTT = [(2, 33, 35, 7), (1, 65, 70, 6), (1, 48, 80, 5), (3, 5, 8, 11), (2, 1, 7, 6), (2, 7, 1, 5), (1, 1, 1, 3)]
BY_HAND = {
    **{
        f"random {c}": (WAVES, Scheme(Grid(c[1:3])), random_states(c[0], 2, c[1:3]), c[3])
        for c in GRAY_SCOTT
        if c[1] > 1
    },
    **{f"no steps {steps}": (WAVES, Scheme(Grid((4, 6))), random_states(1, 2, (4, 6)), steps) for steps in (0, 1)},
    "waves": (WAVES, Scheme(Grid((40, 36))), initial_states(WAVES, 0, np.arange(1), (40, 36)), 60),
    "several launches": (WAVES, Scheme(Grid((6, 5)), 0.7), random_states(2, 2, (6, 5)), 21),
}
OTHERS = {
    **{
        f"random {c}": (WAVES, Scheme(Grid(c[1:3])), random_states(c[0], 2, c[1:3]), c[3])
        for c in GRAY_SCOTT
        if c[1] == 1
    },
    "mirror edges": (WAVES, Scheme(Grid((9, 14), 1.2, MIRROR), 1.0, "9-point"), random_states(2, 2, (9, 14)), 9),
    **{n: (SYSTEMS[n], Scheme(Grid((6, 7), 0.9), 0.002), some(n, 2, (6, 7)), 5) for n in SYSTEMS},
    "nested, mirror": (
        SYSTEMS["nested"],
        Scheme(Grid((5, 6), 1.0, MIRROR), 0.002, "9-point"),
        some("nested", 1, (5, 6)),
        5,
    ),
    "slopes, mirror": (
        SYSTEMS["first derivatives"],
        Scheme(Grid((1, 9), 1.0, MIRROR), 0.002, "9-point"),
        some("first derivatives", 1, (1, 9)),
        4,
    ),
}
NANS = {f"NaN in {n}": (WAVES, Scheme(Grid((6, 9))), with_a_nan(n), 1) for n in (0, 1)}
CASES = BY_HAND | OTHERS | NANS
# Large numbers of seeds, runs and steps: words of 32 bits must not be cut or carried over.
NOISY = {
    "random (2, 33, 35, 7)": Wiener((0.01, 0.02), 5 * 2**40 + 3, np.array([7, 2**40 + 1]), 2**31 - 2),
    "random (2, 1, 7, 6)": Wiener((0.0, 0.02), 3, np.array([2**32 - 1, 2**32]), 2**32 - 6),
    "nested": Wiener((0.1, 0.2), 0, np.array([2, 3])),
}

# A process of its own, and one for all cases as it takes seconds to start: Triton reads TRITON_INTERPRET when it is
# imported. Each case is run by both kernels, and by the one by hand where that can.
ADVANCE_IN_THE_INTERPRETER = """
import sys
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
from tests.systems import by_hand_gpu
from tests.systems.test_gpu import BY_HAND, CASES, NOISY
from p2d.systems.steppers import gpu
from p2d.systems.wiener import Wiener

made = {}
for name, (system, scheme, states, steps) in CASES.items():
    state = torch.from_numpy(states)
    for one_program in (True, False):
        after = gpu.advance(state, system, scheme, steps, one_program_a_sample=one_program)
        made[f"{name} {one_program}"] = after.numpy()
    made[f"{name} input"] = state.numpy()
    if name in BY_HAND:
        p = system.parameters
        numbers = [float(np.float32(x)) for x in (p["D_u"], p["D_v"], p["F"], p["F"] + p["k"], scheme.dt)]
        made[f"{name} by hand"] = by_hand_gpu.run(state, numbers, steps).numpy()
for name, noise in NOISY.items():
    system, scheme, states, steps = CASES[name]
    for one_program in (True, False):
        after = gpu.advance(torch.from_numpy(states), system, scheme, steps, noise, one_program_a_sample=one_program)
        made[f"noisy {name} {one_program}"] = after.numpy()
system, scheme, states, steps = CASES["several launches"]
gpu.UPDATES_PER_LAUNCH = 3 * 2 * states[:, 0].size
made["three pairs a launch"] = gpu.advance(torch.from_numpy(states), system, scheme, steps).numpy()
noise = Wiener((0.01, 0.01), 1, np.arange(2))
noisy = gpu.advance(torch.from_numpy(states), system, scheme, steps, noise).numpy()
made["noisy, three pairs a launch"] = noisy
np.savez("made.npz", **made)
"""


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What both kernels make of each case, by '<case> True' and '<case> False', and '<case> input' afterwards."""
    path, root = tmp_path_factory.mktemp("interpreted"), str(Path(__file__).parents[2])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": root}
    command = [sys.executable, "-W", "ignore", "-c", ADVANCE_IN_THE_INTERPRETER, root]
    subprocess.run(command, cwd=path, env=environment, check=True)
    with np.load(path / "made.npz") as made:
        return dict(made)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "case"), product(KERNELS, BY_HAND))
def test_the_interpreted_kernels_of_gray_scott_keep_the_bytes_of_the_one_by_hand(interpreted, kernel, case):
    assert_array_equal(interpreted[f"{case} {KERNELS[kernel]}"], interpreted[f"{case} by hand"])


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "case"), product(KERNELS, BY_HAND | OTHERS))
def test_the_interpreted_kernels_agree_with_the_cpu_kernel_and_the_plain_rate(interpreted, kernel, case):
    system, scheme, states, steps = CASES[case]
    after = interpreted[f"{case} {KERNELS[kernel]}"]
    if case in BY_HAND:  # the same float32 formula, where a multiply-add is fused is up to the CPU's compiler
        assert_allclose(after, cpu.run(states, system, scheme, steps), rtol=0, atol=1e-6)
    # a few roundings a step
    assert_allclose(after, euler(states, system, scheme, steps), rtol=0, atol=1.5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_60_interpreted_steps_have_made_a_pattern(interpreted, kernel):
    u = interpreted[f"waves {KERNELS[kernel]}"][:, 0]
    assert u.std() > 0.03 and len(np.unique(u)) > 1000  # neither an empty grid nor the discs of the start


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_both_interpreted_kernels_give_the_same_bytes_and_leave_the_input(interpreted, case):
    assert_array_equal(interpreted[f"{case} True"], interpreted[f"{case} False"])
    assert_array_equal(interpreted[f"{case} input"], CASES[case][2])


@pytest.mark.slow
def test_a_run_of_several_launches_gives_the_same_bytes(interpreted):
    # 21 steps: three launches of three pairs, one of one, and an odd step
    assert_array_equal(interpreted["three pairs a launch"], interpreted["several launches True"])


@pytest.mark.slow
@pytest.mark.parametrize("case", NOISY)
def test_the_interpreted_kernels_add_the_noise_of_the_cpu_kernel(interpreted, case):
    system, scheme, states, steps = CASES[case]
    one, other = (interpreted[f"noisy {case} {many}"] for many in (True, False))
    assert_array_equal(one, other)
    # the same bits; polynomials of normal numbers below 5, of at most 0.2 a step, round otherwise
    assert_allclose(one, cpu.run(states, system, scheme, steps, noise=NOISY[case]), rtol=0, atol=1e-6)
    assert np.abs(one - interpreted[f"{case} True"]).std() > 0.001


@pytest.mark.slow
def test_a_noisy_run_of_several_launches_is_that_of_the_cpu(interpreted):
    system, scheme, states, steps = CASES["several launches"]
    expected = cpu.run(states, system, scheme, steps, noise=Wiener((0.01, 0.01), 1, np.arange(2)))
    assert_allclose(interpreted["noisy, three pairs a launch"], expected, rtol=0, atol=1e-6)


def reach_of_a_nan(field):
    """Where `with_a_nan(field)` is NaN one step later: that field at five cells, around the edge; the other at one."""
    expected = np.zeros((2, 2, 6, 9), bool)
    expected[1, :, 0, 4] = True
    expected[1, field, [1, 5, 0, 0], [4, 4, 3, 5]] = True
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", [0, 1])
def test_a_nan_stays_and_spreads_to_its_neighbours(interpreted, kernel, field):
    after = interpreted[f"NaN in {field} {KERNELS[kernel]}"]
    assert_array_equal(np.isnan(after), reach_of_a_nan(field))


# As they were measured on an H100, of 132 multiprocessors (a program's rate does not depend on the others').
FASTER = {(8, 128): False, (64, 128): True, (132, 128): True, (64, 64): True, (64, 256): False}
FASTER |= {(132, 256): True, (16, 512): False, (64, 512): False, (132, 512): True}


@pytest.mark.parametrize(("batch", "side"), FASTER)
def test_the_faster_kernel_takes_the_steps(batch, side):
    assert gpu._one_program_a_sample(batch, side**2, 132) is FASTER[batch, side]


@pytest.mark.parametrize(
    ("shape", "block"),
    [((128, 128), 8192), ((512, 512), 8192), ((64, 64), 1024), ((96, 96), 1024), ((130, 130), 1024), ((1, 7), 1024)],
)
def test_a_program_takes_many_cells_at_a_time_where_few_threads_are_left_without(shape, block):
    assert gpu._steps_block(shape[0] * shape[1]) == block


POINTERS = {"state": "*fp32", "made": "*fp32", "spare": "*fp32", "after": "*fp32", "noise": "*fp32"}
TYPES = POINTERS | {"runs": "*i64", "clock": "*i64", "pairs": "i32"}


def compiled(monkeypatch, tmp_path, kernel, height, width, noise=False):
    """Gray-Scott's kernel as a Hopper GPU would be given it; buffers are aligned to 16 bytes, as those of torch are."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    scheme = Scheme(Grid((height, width)))
    source = kernels_gpu.gpu_source(cpu.program(WAVES, scheme), cpu.shape(WAVES, scheme, noise=noise))
    module = kernels.load(source, "gpu")
    function, block, options = {
        "many steps a launch": (module.steps_kernel, gpu._steps_block(height * width), gpu.STEPS_OPTIONS),
        "one step a launch": (module.pass_kernels[0], gpu.PASS_BLOCK, gpu.PASS_OPTIONS),
        "noise": (getattr(module, "noise_kernel", None), gpu.NOISE_BLOCK, gpu.PASS_OPTIONS),
    }[kernel]
    types = {name: TYPES.get(name, "fp32") for name in function.arg_names}
    sizes = {"H": height, "W": width, "BLOCK": block}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind.startswith("*")}
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


def usage_of(tmp_path, binary):
    """Registers and bytes of memory that a thread of a compiled kernel takes."""
    (tmp_path / "kernel.cubin").write_bytes(binary.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(tmp_path / "kernel.cubin")]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 64), (48, 80)])
def test_nothing_is_spilled_to_local_memory(monkeypatch, tmp_path, kernel, height, width):
    binary = compiled(monkeypatch, tmp_path, kernel, height, width)
    usage = usage_of(tmp_path, binary)
    assert usage["STACK"] == usage["LOCAL"] == 0
    assert usage["REG"] <= 64  # what each of 1,024 threads can have


@pytest.mark.parametrize("kernel", [*KERNELS, "noise"])
def test_noisy_kernels_compile_without_a_gpu_and_spill_nothing(monkeypatch, tmp_path, kernel):
    binary = compiled(monkeypatch, tmp_path, kernel, 64, 64, noise=True)
    assert ".f64" not in binary.asm["ptx"]
    usage = usage_of(tmp_path, binary)
    assert usage["STACK"] == usage["LOCAL"] == 0
    assert usage["REG"] <= 64
    if kernel == "many steps a launch":  # numbers of all cells are written before any is read, and read before anew
        order = re.findall(r"ld\.global|st\.global|bar\.sync", binary.asm["ptx"])
        told = "".join(f"{name[:3].rstrip('.')} " for name in order)
        assert re.fullmatch("(ld )+(st )+bar ((ld )+(st )+)+bar (st )+bar ((ld )+(st )+)+bar ", told), told


def on_a_gpu(test):
    usable = stepping.has_gpu()
    return pytest.mark.gpu(pytest.mark.skipif(not usable, reason="needs a CUDA GPU")(test))


def advance_on_the_gpu(state, steps, kernel=None, system=WAVES):
    one_program = None if kernel is None else KERNELS[kernel]
    scheme = Scheme(Grid(state.shape[2:]))
    return (
        gpu.advance(torch.from_numpy(state).cuda(), system, scheme, steps, one_program_a_sample=one_program)
        .cpu()
        .numpy()
    )


@on_a_gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (65, 51)])
def test_200_steps_on_a_gpu_agree_with_the_plain_rate(kernel, height, width):
    state = initial_states(WAVES, 0, np.arange(3), (height, width))
    after = advance_on_the_gpu(state, 200, kernel)
    assert after[:, 1].std() > 0.03
    # as in the interpreter
    assert_allclose(after, euler(state, WAVES, Scheme(Grid((height, width))), 200), rtol=0, atol=1.5e-6)


@on_a_gpu
@pytest.mark.parametrize("steps", [1, 2, 101, 3000])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (65, 51), (1, 7), (130, 200)])
def test_both_kernels_give_the_same_bytes_on_a_gpu(height, width, steps):
    # 3,000 steps: a barrier that does not part the steps would show
    state = initial_states(WAVES, 1, np.arange(150), (height, width))
    many, one = (advance_on_the_gpu(state, steps, kernel) for kernel in KERNELS)
    assert_array_equal(many, one)


@on_a_gpu
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (65, 51)])
def test_a_sample_has_the_same_bytes_alone_and_in_a_batch_of_300_on_a_gpu(height, width):
    state = initial_states(WAVES, 2, np.arange(300), (height, width))
    together = advance_on_the_gpu(state, 501)
    for i in (0, 1, 150, 299):
        assert_array_equal(advance_on_the_gpu(state[i : i + 1], 501)[0], together[i])


@on_a_gpu
def test_several_launches_give_the_same_bytes_on_a_gpu(monkeypatch):
    state = initial_states(WAVES, 3, np.arange(4), (48, 80))
    once = advance_on_the_gpu(state, 205, "many steps a launch")
    monkeypatch.setattr(gpu, "UPDATES_PER_LAUNCH", 17 * 2 * state[:, 0].size)
    assert_array_equal(advance_on_the_gpu(state, 205, "many steps a launch"), once)


@on_a_gpu
@pytest.mark.parametrize("steps", [1, 2, 205])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 51)])
def test_both_kernels_add_the_noise_of_the_cpu_on_a_gpu(height, width, steps):
    state = initial_states(WAVES, 1, np.arange(3), (height, width))
    scheme, noise = Scheme(Grid((height, width))), Wiener((0.003, 0.003), 5, np.arange(3), 17)
    on_gpu = torch.from_numpy(state).cuda()
    many, one = (
        gpu.advance(on_gpu, WAVES, scheme, steps, noise, one_program_a_sample=many).cpu().numpy()
        for many in KERNELS.values()
    )
    assert_array_equal(many, one)
    assert_allclose(many, cpu.run(state, WAVES, scheme, steps, noise=noise), rtol=0, atol=2e-6)


@on_a_gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", [0, 1])
def test_a_nan_stays_on_a_gpu(kernel, field):
    after = advance_on_the_gpu(with_a_nan(field), 1, kernel)
    assert_array_equal(np.isnan(after), reach_of_a_nan(field))
