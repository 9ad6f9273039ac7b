"""How fast the steppers are, beside a plain PyTorch stepper that takes the Laplacian by convolution.

Notes of what it measured (G: 10^9 cell updates a second):

- 2026-11-23, two cores of an AMD EPYC (Zen 4, 3.6 GHz), torch 2.13, waves, 8 x 128 x 128, three runs: the kernel 5.7 to
  5.9 G on two threads, the convolution 0.099 to 0.114 G: 52 to 59 times. Largest difference after 200 steps 6.6e-7.
  Slowest to fastest preset 1.02 times. Two actors of one thread beside one: 1.80 and 1.81 times, 1.44 in the run that
  other work disturbed.
- The kernel takes 20 processor cycles for 16 cells, of which its 23 floating-point vector operations need 12.
  Aligned rows gave 5 % at most, cheaper clamps 3 %; columns interleaved so that neighbours are a vector apart ran
  slower (2.2 G a core; its halo was not yet right). Three rows at a time, or buffers allocated elsewhere, keep the
  compiler from vectorising at all.
- The GPU kernels have not been timed yet; where there is a GPU the same command does it.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from p2d.cluster import runtime
from p2d.cluster.simulation import Simulator, run_actors
from p2d.config import SimulateConfig
from p2d.config.bench import BenchSimulateConfig
from p2d.snapshots.simulated import ShardPlan, plan
from p2d.systems import initial, stepper
from p2d.systems.gray_scott import PRESETS, GrayScott

CHECKED_STEPS = 200  # fields of different steppers are compared here; chaos parts them later
CONV_SHARE = 100  # the convolution takes this many times fewer steps
SCALING_SAMPLES = 256
KERNEL = [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]


def conv2d_stepper(state: torch.Tensor, params: GrayScott, steps: int) -> torch.Tensor:
    """Forward Euler with one periodic 3 x 3 convolution a species and step: [B, 2, H, W] float32 in and out."""
    kernel = torch.tensor(KERNEL, device=state.device)[None, None]

    def laplacian(field: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.pad(field, (1, 1, 1, 1), mode="circular"), kernel)

    u, v = state[:, :1].clone(), state[:, 1:].clone()
    with torch.no_grad():
        for _ in range(steps):
            reaction = u * v * v
            du = params.D_u * laplacian(u) - reaction + params.F * (1 - u)
            dv = params.D_v * laplacian(v) + reaction - (params.F + params.k) * v
            u = (u + params.dt * du).clamp(0, 1)
            v = (v + params.dt * dv).clamp(0, 1)
    return torch.cat([u, v], dim=1)


@dataclass(frozen=True)
class Stepper:
    """A stepper to time.

    Attributes:
        advance: takes a number of steps, gives the fields after them and returns when they are there.
        steps: of one timing.
        samples: advanced together.
    """

    advance: Callable[[int], np.ndarray]
    steps: int
    samples: int


def measure(config: BenchSimulateConfig) -> dict[str, Any]:
    """Cell updates a second of every stepper there is, taken in turn in one run, with ratios and differences.

    Returns:
        threads; steppers: by name the samples and the median, lowest and highest rate [cell updates / s]; ratios of
        medians; difference: largest between each stepper's fields and the convolution's after 200 steps; presets: rate
        of the CPU kernel for each; scaling, where asked for.
    """
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    state = initial.initial_states(0, np.arange(config.samples), config.height, config.width)
    steppers = _on_cpu(config, state, threads)
    if stepper.gpu_is_there():
        steppers |= _on_gpu(config)
    fields = {name: each.advance(CHECKED_STEPS)[: config.samples] for name, each in steppers.items()}  # also compiles
    cells = config.height * config.width
    rates = _rates(steppers, cells, config.repeats)
    presets = {name: Stepper(_kernel(state, name, threads), config.steps, config.samples) for name in PRESETS}
    found = {
        "threads": threads,
        "steppers": rates,
        "ratios": _ratios(rates),
        "difference": {
            n: float(np.abs(f - fields["conv2d cpu"]).max()) for n, f in fields.items() if n != "conv2d cpu"
        },
        "presets": {name: rate["median"] for name, rate in _rates(presets, cells, config.repeats).items()},
    }
    return {**found, "scaling": scaling(config)} if config.scaling else found


def _kernel(state: np.ndarray, preset: str, threads: int) -> Callable[[int], np.ndarray]:
    return lambda steps: stepper.run(state, PRESETS[preset], steps, "cpu", threads)


def _on_cpu(config: BenchSimulateConfig, state: np.ndarray, threads: int) -> dict[str, Stepper]:
    params, tensor = PRESETS[config.preset], torch.from_numpy(state)
    few = max(1, config.steps // CONV_SHARE)
    return {
        "cpu": Stepper(_kernel(state, config.preset, threads), config.steps, len(state)),
        "conv2d cpu": Stepper(lambda steps: conv2d_stepper(tensor, params, steps).numpy(), few, len(state)),
    }


def _on_gpu(config: BenchSimulateConfig) -> dict[str, Stepper]:
    from p2d.systems import stepper_gpu

    params, samples = PRESETS[config.preset], config.gpu_samples
    state = initial.initial_states(0, np.arange(samples), config.height, config.width)
    tensor = torch.from_numpy(state).cuda()

    def last_of(after: torch.Tensor) -> np.ndarray:
        torch.cuda.synchronize()
        return after[: config.samples].cpu().numpy()

    return {
        "cuda": Stepper(lambda steps: last_of(stepper_gpu.advance(tensor, params, steps)), config.steps, samples),
        "conv2d cuda": Stepper(
            lambda steps: last_of(conv2d_stepper(tensor, params, steps)), max(1, config.steps // 10), samples
        ),
    }


def _rates(steppers: dict[str, Stepper], cells: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median, lowest and highest rate of each, timed in turn so that a noisy moment hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(repeats):
        for name, each in steppers.items():
            start = time.perf_counter()
            each.advance(each.steps)
            found[name].append(each.samples * cells * each.steps / (time.perf_counter() - start))
    return {
        name: {
            "samples": steppers[name].samples,
            "median": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
        }
        for name, rates in found.items()
    }


def _ratios(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    pairs = (("cpu", "conv2d cpu"), ("cuda", "conv2d cuda"), ("cuda", "cpu"))
    return {f"{a} / {b}": rates[a]["median"] / rates[b]["median"] for a, b in pairs if a in rates and b in rates}


class TimedSimulator(Simulator):
    """A simulating actor that notes when it began and ended each shard."""

    def _entry(self, shard: ShardPlan) -> str:
        begin = time.time()
        return json.dumps({**json.loads(super()._entry(shard)), "begin": begin, "end": time.time()})


def scaling(config: BenchSimulateConfig) -> dict[str, float]:
    """Cell updates a second of one simulating actor of one thread and of two, from the first shard to the last.

    Starting Ray and the actors is left out: it takes the same seconds whatever the size of the work.
    """
    runtime.start()
    rates: dict[str, float] = {}
    for actors in (1, 2):
        work = SimulateConfig(
            preset=(config.preset,),
            num_samples=SCALING_SAMPLES,
            height=config.height,
            width=config.width,
            steps=config.steps,
            chunk=SCALING_SAMPLES // 16,
            actors=actors,
            threads=1,
            device="cpu",
        )
        with tempfile.TemporaryDirectory() as folder:
            entries = list(run_actors(work, Path(folder), plan(work), "cpu", TimedSimulator))
        seconds = max(e["end"] for e in entries) - min(e["begin"] for e in entries)
        rates[f"{actors} actors"] = SCALING_SAMPLES * config.height * config.width * config.steps / seconds
    return {**rates, "ratio": rates["2 actors"] / rates["1 actors"]}


def print_table(found: dict[str, Any], config: BenchSimulateConfig) -> None:
    """The measurements as tables on standard output."""
    table = Table("stepper", "samples", "G cell updates/s", "lowest to highest", "difference after 200 steps")
    for name, rate in found["steppers"].items():
        span = f"{rate['lowest'] / 1e9:.4g} to {rate['highest'] / 1e9:.4g}"
        difference = f"{found['difference'][name]:.1e}" if name in found["difference"] else "(compared with)"
        table.add_row(name, f"{rate['samples']}", f"{rate['median'] / 1e9:.4g}", span, difference)
    console = Console(highlight=False)
    console.print(f"{config.preset}, {config.height} x {config.width}, {found['threads']} threads", table)
    for pair, ratio in found["ratios"].items():
        console.print(f"{pair}: {ratio:.3g} times")
    presets = sorted(found["presets"].items(), key=lambda item: item[1])
    (slow, low), (fast, high) = presets[0], presets[-1]
    console.print(
        f"presets on the CPU: slowest {slow} {low / 1e9:.3g} G/s, fastest {fast} {high / 1e9:.3g} G/s: "
        f"{high / low:.2f} times"
    )
    if "scaling" in found:
        one, two, ratio = found["scaling"].values()
        console.print(f"actors of one thread: one {one / 1e9:.3g} G/s, two {two / 1e9:.3g} G/s: {ratio:.2f} times")
