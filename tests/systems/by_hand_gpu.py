"""The Euler step of Gray-Scott written by hand for the GPU: the Triton kernel of version 1."""

import torch
import triton
import triton.language as tl

TINY = tl.constexpr(1e-18)
BLOCK, OPTIONS = 1024, {"enable_fp_fusion": False}


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


@triton.jit
def _step_kernel(state, after, D_u, D_v, F, removal, dt, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """One Euler step of BLOCK cells of one sample, from `state` to `after`; both are float32 [B, 2, H, W]."""
    BLOCKS: tl.constexpr = (H * W + BLOCK - 1) // BLOCK
    offset = (tl.program_id(0) // BLOCKS).to(tl.int64) * (2 * H * W)  # 64 bits, as above
    first = (tl.program_id(0) % BLOCKS) * BLOCK
    _step_block(state + offset, after + offset, first, D_u, D_v, F, removal, dt, H, W, BLOCK)


def run(state, numbers, steps):
    """Advance a float32 tensor [B, 2, H, W]; numbers are D_u, D_v, F, F + k and dt, of float32."""
    state, spare = state.clone(), torch.empty_like(state)
    batch, _, height, width = state.shape
    for _ in range(steps):
        programs = batch * triton.cdiv(height * width, BLOCK)
        _step_kernel[(programs,)](state, spare, *numbers, height, width, BLOCK, **OPTIONS)
        state, spare = spare, state
    return state
