"""Fused GPU kernels: reaction, diffusion, Euler step and clamp in one pass over the cells, float32 throughout.

Two kernels share that pass. `_steps_kernel` gives a sample to one program for many steps in one launch: its two buffers
stay in cache, and between steps there is a barrier instead of a launch. A batch that has too few samples to fill the
GPU that way goes through `_step_kernel`, whose programs share a sample and so need a launch a step. Both give the same
bytes. TRITON_INTERPRET=1, set before this file is imported, runs the same kernels on CPU tensors, slowly.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from p2d.systems import stepper_cpu
from p2d.systems.gray_scott import GrayScott

TINY = tl.constexpr(float(stepper_cpu.TINY))

# Many steps a launch. At 128 x 128 1,024 threads of 52 registers fill a multiprocessor: no second sample competes for
# its L1, and the samples under way (132 of 256 KiB on an H200) stay in L2. Four cells a thread are one 16-byte load,
# which brings most of their left and right neighbours too; eight would not fit into the registers.
STEPS_BLOCK = 4096
STEPS_OPTIONS = {"num_warps": 32, "num_stages": 1, "enable_fp_fusion": False}  # one stage: no load before its turn
UPDATES_PER_LAUNCH = 10**10  # cells times steps, a fraction of a second: no watchdog of a display stops it

# One step a launch.
STEP_BLOCK = 1024  # 8 rows of a 128 x 128 grid, so that most neighbours are the block's own
STEP_OPTIONS = {"enable_fp_fusion": False}
STEPS_PER_GRAPH = 100  # even, so that a replay ends in the buffer it began in


@triton.jit
def _laplacian(field, up, down, left, right, centre, mask):
    neighbours = tl.load(field + up, mask=mask, other=0.0) + tl.load(field + down, mask=mask, other=0.0)
    neighbours += tl.load(field + left, mask=mask, other=0.0)
    neighbours += tl.load(field + right, mask=mask, other=0.0)
    return tl.fma(-4.0, centre, neighbours)


@triton.jit
def _clamp(concentration):
    """To [0, 1]. Compared, as minimum and maximum drop a NaN, which must stay to be reported."""
    concentration = tl.where(concentration < TINY, 0.0, concentration)
    return tl.where(concentration > 1.0, 1.0, concentration)


@triton.jit
def _step_block(state, after, first, D_u, D_v, F, removal, dt, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """One Euler step of BLOCK cells of one sample, from cell `first` on; `state` and `after` are float32 [2, H, W].

    Fused multiply-adds are written out and the compiler is told to make none: which it makes differs between kernels,
    grids and versions of Triton, and with it the last bit.
    """
    CELLS: tl.constexpr = H * W
    here = first + tl.arange(0, BLOCK)
    mask = here < CELLS
    row = here // W
    column = here % W
    up = tl.where(row == 0, here + (CELLS - W), here - W)
    down = tl.where(row == H - 1, here - (CELLS - W), here + W)
    left = tl.where(column == 0, here + (W - 1), here - 1)
    right = tl.where(column == W - 1, here - (W - 1), here + 1)

    u = tl.load(state + here, mask=mask, other=0.0)
    v = tl.load(state + CELLS + here, mask=mask, other=0.0)
    lap_u = _laplacian(state, up, down, left, right, u, mask)
    lap_v = _laplacian(state + CELLS, up, down, left, right, v, mask)
    reaction = u * v * v
    rate_u = tl.fma(F, 1.0 - u, tl.fma(D_u, lap_u, -reaction))
    rate_v = tl.fma(-removal, v, tl.fma(D_v, lap_v, reaction))
    tl.store(after + here, _clamp(tl.fma(dt, rate_u, u)), mask=mask)
    tl.store(after + CELLS + here, _clamp(tl.fma(dt, rate_v, v)), mask=mask)


@triton.jit(do_not_specialize=["pairs"])  # else 1 and multiples of 16 would be compiled anew
def _steps_kernel(state, spare, pairs, D_u, D_v, F, removal, dt, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """2 * pairs Euler steps of one sample, from `state` to `spare` and back; both are float32 [B, 2, H, W]."""
    # 64 bits: a batch of more than 2^31 numbers (65,536 samples of 128 x 128) overflows an int32 offset.
    offset = tl.program_id(0).to(tl.int64) * (2 * H * W)
    state += offset
    spare += offset
    while pairs > 0:  # no range: the interpreter of Triton 3.6 and NumPy 2.4 do not agree on one
        for first in range(0, H * W, BLOCK):
            _step_block(state, spare, first, D_u, D_v, F, removal, dt, H, W, BLOCK)
        tl.debug_barrier()  # all threads of the program have written, and see what the others wrote
        for first in range(0, H * W, BLOCK):
            _step_block(spare, state, first, D_u, D_v, F, removal, dt, H, W, BLOCK)
        tl.debug_barrier()
        pairs -= 1


@triton.jit
def _step_kernel(state, after, D_u, D_v, F, removal, dt, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """One Euler step of BLOCK cells of one sample, from `state` to `after`; both are float32 [B, 2, H, W]."""
    BLOCKS: tl.constexpr = (H * W + BLOCK - 1) // BLOCK
    offset = (tl.program_id(0) // BLOCKS).to(tl.int64) * (2 * H * W)  # 64 bits, as above
    first = (tl.program_id(0) % BLOCKS) * BLOCK
    _step_block(state + offset, after + offset, first, D_u, D_v, F, removal, dt, H, W, BLOCK)


def _constants(params: GrayScott) -> list[float]:
    return [float(x) for x in stepper_cpu.constants(params)]


def _launch_step(state: torch.Tensor, after: torch.Tensor, params: GrayScott) -> None:
    """Write the state one step after `state` into `after`."""
    batch, _, height, width = state.shape
    programs = batch * triton.cdiv(height * width, STEP_BLOCK)
    _step_kernel[(programs,)](state, after, *_constants(params), height, width, STEP_BLOCK, **STEP_OPTIONS)


def _launch_pairs(state: torch.Tensor, spare: torch.Tensor, params: GrayScott, pairs: int) -> None:
    """Advance `state` in place by two steps a pair, one program a sample."""
    batch, _, height, width = state.shape
    sizes = height, width, STEPS_BLOCK
    at_a_time = max(1, UPDATES_PER_LAUNCH // (2 * batch * height * width))
    for done in range(0, pairs, at_a_time):
        few = min(at_a_time, pairs - done)
        _steps_kernel[(batch,)](state, spare, few, *_constants(params), *sizes, **STEPS_OPTIONS)


def _replay(state: torch.Tensor, spare: torch.Tensor, params: GrayScott, times: int) -> None:
    """Advance `state` in place by `times` replays of STEPS_PER_GRAPH steps of one launch each.

    On small batches a launch from Python takes longer than the step itself; a replayed graph needs no Python.
    """
    _launch_step(state, spare, params)  # compiles, which cannot be done during capture; only `spare` is written
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(STEPS_PER_GRAPH // 2):
            _launch_step(state, spare, params)
            _launch_step(spare, state, params)
    for _ in range(times):
        graph.replay()


def _one_program_a_sample(batch: int, multiprocessors: int) -> bool:
    """Whether a program for each sample keeps at least half of the GPU's multiprocessors at work."""
    return 2 * batch >= multiprocessors


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def advance(
    state: torch.Tensor, params: GrayScott, steps: int, *, one_program_a_sample: bool | None = None
) -> torch.Tensor:
    """Advance a batch by `steps` Euler steps on the device it is on.

    Args:
        state: float32 [B, 2, H, W], concentrations; left unchanged. On the CPU only with TRITON_INTERPRET=1.
        params: the system; its dt is the step.
        one_program_a_sample: which kernel takes the steps, with the same bytes; None for the faster one.

    Returns:
        float32 [B, 2, H, W] on the same device.
    """
    state = state.clone(memory_format=torch.contiguous_format)
    if state.numel() == 0:
        return state
    if one_program_a_sample is None:
        one_program_a_sample = _one_program_a_sample(len(state), _multiprocessors(state.device))
    spare = torch.empty_like(state)
    with torch.cuda.device_of(state):  # Triton launches on the current device, whichever the tensors are on
        if one_program_a_sample:
            pairs, singles = divmod(steps, 2)
            _launch_pairs(state, spare, params, pairs)
        else:
            graphs, singles = divmod(steps, STEPS_PER_GRAPH) if state.is_cuda else (0, steps)
            if graphs:
                _replay(state, spare, params, graphs)
        for _ in range(singles):
            _launch_step(state, spare, params)
            state, spare = spare, state
    return state


def run(state: np.ndarray, params: GrayScott, steps: int) -> np.ndarray:
    """Advance a batch of numpy states on the GPU: float32 [B, 2, H, W] in and out, `state` left unchanged."""
    on_gpu = torch.tensor(np.ascontiguousarray(state), dtype=torch.float32, device="cuda")
    return advance(on_gpu, params, steps).cpu().numpy()
