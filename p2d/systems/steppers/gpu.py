"""Euler steps on a GPU: reaction, diffusion, step and clamp in one pass over the cells, float32 throughout.

Two kernels share a pass. `steps_kernel` gives a sample to one program for many steps in one launch: its two buffers
stay in cache, and between steps there is a barrier instead of a launch. Large grids of too few samples to fill the GPU
that way go through `pass_kernels`, whose programs share a sample and so need a launch a pass. Both give the same bytes.
Noise in the dynamics is written for a whole step before the step reads it: eight normals come at once, of cells far
apart. TRITON_INTERPRET=1, set before a kernel is loaded, runs them on CPU tensors, slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch

from p2d.systems import kernels, kernels_gpu, wiener
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener

# Many steps a launch: 1,024 threads of up to 64 registers, so that no second sample competes for a multiprocessor's L1.
# Eight cells a thread where few threads are left without cells, otherwise one: on an H100 439 and 366 G cell updates/s
# at 128 x 128, 312 and 442 at 64 x 64, 200 and 384 at 96 x 96.
STEPS_BLOCKS = (8192, 1024)
STEPS_OPTIONS = {"num_warps": 32, "num_stages": 1, "enable_fp_fusion": False}  # one stage: no load before its turn
UPDATES_PER_LAUNCH = 10**9  # of a multiprocessor, a fraction of a second: no watchdog of a display stops it
# The time of a step is that of a sample's cells with a program a sample, and with one pass a launch that of so many
# cells, for the launch, and of this share of a multiprocessor's part of the batch, or what memory takes (an H100).
LAUNCH_CELLS, PASS_SHARE = 6600, 0.65

# One pass a launch.
PASS_BLOCK = 1024  # 8 rows of a 128 x 128 grid, so that most neighbours are the block's own
PASS_OPTIONS = {"enable_fp_fusion": False}
NOISE_BLOCK = 256  # calls
STEPS_PER_GRAPH = 100  # even, so that a replay ends in the buffer it began in


@dataclass(frozen=True)
class _Launcher:
    """The kernels of a system, with their numbers.

    Attributes:
        made: fields that passes make for others, [B, M, H, W].
        noise: normals of a step, [B, 8 calls], the runs' numbers, [B], and the seed and the step, [2]: on the device,
            as a graph that is replayed must not hold a step; or nothing.
    """

    module: ModuleType
    numbers: list[float]
    made: torch.Tensor
    noise: tuple[torch.Tensor, ...]

    def step(self, state: torch.Tensor, after: torch.Tensor) -> None:
        """Write the state one step after `state` into `after`."""
        batch, _, height, width = state.shape
        if self.noise:
            normals, _, clock = self.noise
            programs = batch * -(-normals.shape[1] // (wiener.NORMALS * NOISE_BLOCK))
            self.module.noise_kernel[(programs,)](*self.noise, height, width, NOISE_BLOCK, **PASS_OPTIONS)
            clock[1] += 1
        programs = batch * -(-height * width // PASS_BLOCK)
        for kernel in self.module.pass_kernels:
            fields = (state, self.made, after, *self.noise[:1])
            kernel[(programs,)](*fields, *self.numbers, height, width, PASS_BLOCK, **PASS_OPTIONS)

    def pairs(self, state: torch.Tensor, spare: torch.Tensor, pairs: int) -> None:
        """Advance `state` in place by two steps a pair, one program a sample."""
        batch, _, height, width = state.shape
        turns = -(-batch // _multiprocessors(state.device))
        at_a_time = max(1, UPDATES_PER_LAUNCH // (2 * turns * height * width))
        block = _steps_block(height * width)
        for done in range(0, pairs, at_a_time):
            few = min(at_a_time, pairs - done)
            self.module.steps_kernel[(batch,)](
                state, self.made, spare, *self.noise, few, *self.numbers, height, width, block, **STEPS_OPTIONS
            )
            if self.noise:
                self.noise[-1][1] += 2 * few

    def replay(self, state: torch.Tensor, spare: torch.Tensor, times: int) -> None:
        """Advance `state` in place by `times` replays of STEPS_PER_GRAPH steps.

        On small batches a launch from Python takes longer than the step itself; a replayed graph needs no Python.
        """
        self.step(state, spare)  # compiles, which cannot be done during capture; only `spare` is written, and the clock
        if self.noise:
            self.noise[-1][1] -= 1
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(STEPS_PER_GRAPH // 2):
                self.step(state, spare)
                self.step(spare, state)
        for _ in range(times):
            graph.replay()


def advance(
    state: torch.Tensor,
    system: System,
    scheme: Scheme,
    steps: int,
    noise: Wiener | None = None,
    *,
    one_program_a_sample: bool | None = None,
) -> torch.Tensor:
    """Advance a batch by `steps` Euler steps on the device it is on.

    Args:
        state: float32 [B, C, H, W]; left unchanged. On the CPU only with TRITON_INTERPRET=1.
        one_program_a_sample: which kernel takes the steps, with the same bytes; None for the faster one.

    Returns:
        float32 [B, C, H, W] on the same device.
    """
    state = state.clone(memory_format=torch.contiguous_format)
    if state.numel() == 0:
        return state
    if one_program_a_sample is None:
        cells = state[0, 0].numel()
        one_program_a_sample = _one_program_a_sample(len(state), cells, _multiprocessors(state.device))
    spare = torch.empty_like(state)
    launcher = _launcher(state, system, scheme, noise)
    with torch.cuda.device_of(state):  # Triton launches on the current device, whichever the tensors are on
        if one_program_a_sample:
            pairs, singles = divmod(steps, 2)
            launcher.pairs(state, spare, pairs)
        else:
            graphs, singles = divmod(steps, STEPS_PER_GRAPH) if state.is_cuda else (0, steps)
            if graphs:
                launcher.replay(state, spare, graphs)
        for _ in range(singles):
            launcher.step(state, spare)
            state, spare = spare, state
    return state


def run(states: np.ndarray, system: System, scheme: Scheme, steps: int, noise: Wiener | None = None) -> np.ndarray:
    """Advance a batch of numpy states on the GPU: float32 [B, C, H, W] in and out, `states` left unchanged."""
    on_gpu = torch.tensor(np.ascontiguousarray(states), dtype=torch.float32, device="cuda")
    return advance(on_gpu, system, scheme, steps, noise).cpu().numpy()


def _launcher(state: torch.Tensor, system: System, scheme: Scheme, noise: Wiener | None) -> _Launcher:
    program = cpu.program(system, scheme)
    module = kernels.load(kernels_gpu.gpu_source(program, cpu.shape(system, scheme, noise=noise is not None)), "gpu")
    constants = program.values(system.parameters, scheme.grid.spacing, scheme.operator, scheme.dt)
    # Infinite ends are never compared with.
    ends = np.nan_to_num(np.stack(cpu.limits(system), axis=1), posinf=0.0, neginf=0.0)
    amplitudes = noise.amplitudes(scheme.dt) if noise else ()
    made = program.fields - program.species
    spare = torch.empty((len(state), max(made, 1), *state.shape[2:]), dtype=torch.float32, device=state.device)
    numbers = [float(x) for x in (*constants, *ends.ravel(), *amplitudes)]
    return _Launcher(module, numbers, spare, _noise(state, noise) if noise else ())


def _noise(state: torch.Tensor, noise: Wiener) -> tuple[torch.Tensor, ...]:
    """What the kernels take of the noise, see _Launcher."""
    normals = torch.empty((len(state), wiener.NORMALS * wiener.calls(state[0].numel())), device=state.device)
    numbers = (np.asarray(noise.runs, np.int64), np.array([noise.seed, noise.step], np.int64))
    return normals, *(torch.from_numpy(each).to(state.device) for each in numbers)


def _steps_block(cells: int) -> int:
    """Cells of a sample that its program takes at a time."""
    many, few = STEPS_BLOCKS
    return many if -cells % many <= cells / 8 else few


def _one_program_a_sample(batch: int, cells: int, multiprocessors: int) -> bool:
    """Whether a program for each sample of so many cells takes less time than passes that share the batch out."""
    return cells <= LAUNCH_CELLS + batch * cells / (PASS_SHARE * multiprocessors)


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
