"""Fused GPU kernel: reaction, diffusion, Euler step and clamp in one Triton launch a step, float32 throughout.

A step is bound by memory traffic, so each one reads every concentration once (neighbours come from cache) and writes
it once. TRITON_INTERPRET=1, set before this file is imported, runs the same kernel on CPU tensors, slowly.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from p2d.dynamics.gray_scott import GrayScott
from p2d.dynamics.stepper_cpu import TINY

BLOCK = 1024  # cells a program: 8 rows of a 128 x 128 grid, so that most neighbours are the block's own
STEPS_PER_GRAPH = 100  # even, so that a replay ends in the buffer it began in


@triton.jit
def _laplacian(field, here, up, down, left, right, centre, mask):
    neighbours = tl.load(field + up, mask=mask, other=0.0) + tl.load(field + down, mask=mask, other=0.0)
    neighbours += tl.load(field + left, mask=mask, other=0.0)
    neighbours += tl.load(field + right, mask=mask, other=0.0)
    return neighbours - 4.0 * centre


@triton.jit
def _clamp(concentration, TINY: tl.constexpr):
    return tl.minimum(tl.where(concentration > TINY, concentration, 0.0), 1.0)


@triton.jit
def _step_kernel(
    state, after, D_u, D_v, F, k, dt, H: tl.constexpr, W: tl.constexpr, TINY: tl.constexpr, BLOCK: tl.constexpr
):
    """One Euler step of BLOCK cells of one sample; `state` and `after` are contiguous float32 [B, 2, H, W]."""
    CELLS: tl.constexpr = H * W
    BLOCKS: tl.constexpr = (CELLS + BLOCK - 1) // BLOCK
    sample = tl.program_id(0) // BLOCKS
    here = (tl.program_id(0) % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    mask = here < CELLS
    row = here // W
    column = here % W
    up = tl.where(row == 0, here + (CELLS - W), here - W)
    down = tl.where(row == H - 1, here - (CELLS - W), here + W)
    left = tl.where(column == 0, here + (W - 1), here - 1)
    right = tl.where(column == W - 1, here - (W - 1), here + 1)

    # 64 bits: a batch of more than 2^31 numbers (65,536 samples of 128 x 128) overflows an int32 offset.
    offset = sample.to(tl.int64) * (2 * CELLS)
    u_field = state + offset
    v_field = u_field + CELLS
    u = tl.load(u_field + here, mask=mask, other=0.0)
    v = tl.load(v_field + here, mask=mask, other=0.0)
    lap_u = _laplacian(u_field, here, up, down, left, right, u, mask)
    lap_v = _laplacian(v_field, here, up, down, left, right, v, mask)
    reaction = u * v * v
    new_u = u + dt * (D_u * lap_u - reaction + F * (1.0 - u))
    new_v = v + dt * (D_v * lap_v + reaction - (F + k) * v)
    tl.store(after + offset + here, _clamp(new_u, TINY), mask=mask)
    tl.store(after + offset + CELLS + here, _clamp(new_v, TINY), mask=mask)


def _launch(state: torch.Tensor, after: torch.Tensor, params: GrayScott) -> None:
    """Write the state one step after `state` into `after`."""
    batch, _, height, width = state.shape
    programs = batch * triton.cdiv(height * width, BLOCK)
    constants = (float(x) for x in (params.D_u, params.D_v, params.F, params.k, params.dt))
    sizes = {"H": height, "W": width, "TINY": float(TINY), "BLOCK": BLOCK}
    # Fused multiply-add is named because its default differs between Triton's versions, and with it the last bit.
    _step_kernel[(programs,)](state, after, *constants, **sizes, enable_fp_fusion=True)


def _replay(state: torch.Tensor, spare: torch.Tensor, params: GrayScott, times: int) -> None:
    """Advance `state` in place by `times` replays of STEPS_PER_GRAPH steps.

    On small batches a launch from Python takes longer than the step itself; a replayed graph needs no Python.
    """
    _launch(state, spare, params)  # compiles, which cannot be done during capture; only `spare` is written
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(STEPS_PER_GRAPH // 2):
            _launch(state, spare, params)
            _launch(spare, state, params)
    for _ in range(times):
        graph.replay()


def advance(state: torch.Tensor, params: GrayScott, steps: int) -> torch.Tensor:
    """Advance a batch by `steps` Euler steps on the device it is on.

    Args:
        state: float32 [B, 2, H, W], concentrations; left unchanged. On the CPU only with TRITON_INTERPRET=1.
        params: the system; its dt is the step.

    Returns:
        float32 [B, 2, H, W] on the same device.
    """
    state = state.clone(memory_format=torch.contiguous_format)
    if state.numel() == 0:
        return state
    spare = torch.empty_like(state)
    graphs, singles = divmod(steps, STEPS_PER_GRAPH) if state.is_cuda else (0, steps)
    with torch.cuda.device_of(state):  # Triton launches on the current device, whichever the tensors are on
        if graphs:
            _replay(state, spare, params, graphs)
        for _ in range(singles):
            _launch(state, spare, params)
            state, spare = spare, state
    return state


def run(state: np.ndarray, params: GrayScott, steps: int) -> np.ndarray:
    """Advance a batch of numpy states on the GPU: float32 [B, 2, H, W] in and out, `state` left unchanged."""
    on_gpu = torch.tensor(np.ascontiguousarray(state), dtype=torch.float32, device="cuda")
    return advance(on_gpu, params, steps).cpu().numpy()
