"""How fast a system's kernels are, beside the same text in PyTorch, compiled by torch.compile, and compiled by JAX.

Notes of what it measured (G: 10^9 cell updates a second):

- 2026-11-25, two cores of an Intel Xeon (Granite Rapids class, 48 KiB L1, 2 MiB L2),
  torch 2.13: 1.4 G (three species) to 3 G a core. The
  generated kernel of Gray-Scott has the bytes of the one that was written by hand. What bounds it are instructions, not
  memory: 32 x 128 cells, which fit L1, are as fast as 128 x 128. 512-bit vectors, which LLVM has to be asked for on
  Intel, gave 1.1 to 1.2 times the rate; forcing their width gave as much and a remark for each loop; interleaving by
  hand, three or four rows at a time and raising LLVM's limit of pointer checks gave nothing or lost vectorisation.
- 2026-11-23, two cores of an AMD EPYC (Zen 4, 3.6 GHz), the kernel written by hand, waves, 8 x 128 x 128: 5.7 to 5.9 G
  on two threads; a periodic convolution in PyTorch 0.099 to 0.114 G. Two actors of one thread beside one: 1.8 times.
- 2026-11-26, the same Intel Xeon, one thread, best of 150 turns while others used the cores, waves: 2.59 G (64 x 64)
  and 2.34 G (128 x 128), with noise in the dynamics 0.66 G and 0.65 G. Of 1.5 ns a cell its two normal numbers take
  1.1, half of that Philox. In one loop for bits and normals registers were spilled (1.2 times slower, of 7 rounds);
  four normals a call instead of eight took 0.2 to 0.3 ns more for each.
- 2026-11-26, one NVIDIA H100 80GB HBM3 (132 multiprocessors), torch 2.11, Triton 3.6; a copy moves 2,965 GB/s. Waves,
  G with a program a sample in blocks of 4,096 cells, and with one step a launch:

    64 x 64      64: 153,  89    264: 320, 208    1,024: 313, 178
    128 x 128    64: 162, 186    128: 325, 224    1,024: 324, 158; eight samples 21, 52
    256 x 256    64: 156, 165    132: 176, 160    1,024: 177, 176
    512 x 512    16:  59, 160     64: 155, 174      132: 175, 169

  From 256 x 256 on the samples under way do not fit L2, and 16 bytes a cell make 2.8 TB/s, 95 % of a copy. Below,
  where L1 and instructions bound, blocks of 8,192 cells gave 439 G at 128 x 128 (16,384: 312; 4,096 of half the
  threads: 302) and of 1,024 cells 446 G at 64 x 64, 384 G at 96 x 96 and 445 G at 32 x 32; hence STEPS_BLOCKS in
  systems/steppers/gpu.py. Blocks and warps of one step a launch change little.
  The same text by torch.compile, 1,024 x 128 x 128: 71 G (waves), 101 G (swift_hohenberg), 49 G (cyclic_competition);
  the kernel in blocks of 4,096: 324, 223 and 171 G, and 196 G of the last, of three species, in blocks of 8,192.
  schnakenberg and fitzhugh_nagumo make 327 and 325 G, kuramoto_sivashinsky 233 G; noise in the dynamics leaves 111 G.
  Of every system of the catalogue, 64 x 64 periodic and 65 x 50 mirror with 9 points, both kernels gave the same bytes
  in batches of 1, 2 and 150 over 1,501 steps, as close to float64 after 50 as the CPU's (at most 1e-6 of the largest
  value); this was held at blocks of 4,096, and awaits a GPU at those chosen since.
  A dataset of 1,024 samples of life took 4.8 s (3.5e10 updates/s), of which the kernel about 0.9: the rest is the
  host's, 4 ms a sample, a quarter of that to compress it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from p2d.config import SimulateConfig
from p2d.config.bench import BenchSimulateConfig
from p2d.config.simulate import Simulation
from p2d.systems import expressions, initial, stepping
from p2d.systems.steppers import cpu
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener

CHECKED_STEPS = 200  # fields of different steppers are compared here; chaos parts them later
SHARES = {
    "cpu": 1,
    "cuda": 1,
    "jax": 10,
    "torch.compile": 20,
    "torch": 100,
    "torch.compile, cuda": 10,
}  # how many times fewer steps are timed
GPU_SAMPLES = 1024  # advanced together there
AGAINST = "gray_scott"  # whose rate per operation others are held against
NOISY, NOISE = "noisy", 0.003  # of the CPU kernel with noise in the dynamics


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
        threads; operations a cell; steppers: by name the samples and the median, lowest and highest rate [cell updates
        / s]; ratios of medians; difference: largest between each stepper's fields and PyTorch's after 200 steps,
        relative to the largest value; noisy: the CPU kernel's rate with noise in the dynamics, and its ratio to that
        without; presets: rate of the CPU kernel for each; against: of Gray-Scott, in the same
        run, its rate and the ratio of rates per operation.
    """
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    simulation = _settings(config).simulation()
    steppers = _on_cpu(config, simulation, threads)
    if stepping.has_gpu():
        steppers |= _on_gpu(config, simulation)
    fields = {name: each.advance(CHECKED_STEPS)[: config.samples] for name, each in steppers.items()}  # also compiles
    cells = config.height * config.width
    others = {NOISY: _kernel(config, simulation, threads, NOISE)}
    others |= {AGAINST: _kernel(config, _usual(config), threads)} if config.system != AGAINST else {}
    rates = _rates({**steppers, **others}, cells, config.repeats)
    against, noisy = rates.pop(AGAINST, None), rates.pop(NOISY)["median"]
    operations = _operations(simulation)
    presets = {name: _kernel(config, each, threads) for name, each in _presets(config).items()}
    found = {
        "threads": threads,
        "operations": operations,
        "steppers": rates,
        "ratios": {
            f"cpu / {name}": rates["cpu"]["median"] / rate["median"] for name, rate in rates.items() if name != "cpu"
        },
        "difference": _differences(fields),
        "noisy": {"median": noisy, "ratio": noisy / rates["cpu"]["median"]},
        "presets": {name: rate["median"] for name, rate in _rates(presets, cells, config.repeats).items()},
    }
    if against:
        own, other = rates["cpu"]["median"] * operations, against["median"] * _operations(_usual(config))
        found["against"] = {"median": against["median"], "per_operation": own / other}
    return found


def _settings(config: BenchSimulateConfig, **others: Any) -> SimulateConfig:
    preset = (config.preset,) if config.preset else ()
    given = {"system": config.system, "preset": preset, "height": config.height, "width": config.width}
    return SimulateConfig(**{**given, **others})


def _usual(config: BenchSimulateConfig) -> Simulation:
    return _settings(config, system=AGAINST, preset=()).simulation()


def _presets(config: BenchSimulateConfig) -> dict[str, Simulation]:
    names = tuple(_one(_settings(config).simulation())[0].presets)
    return {name: _settings(config, preset=(name,)).simulation() for name in names}


def _one(simulation: Simulation) -> tuple[System, Scheme]:
    """The one system of a simulation, and how it is advanced."""
    ((label, system),) = simulation.systems.items()
    return system, simulation.scheme(label)


def _operations(simulation: Simulation) -> int:
    return cpu.program(*_one(simulation)).operations


def _initial(simulation: Simulation, samples: int) -> np.ndarray:
    system, scheme = _one(simulation)
    return initial.initial_states(system, 0, np.arange(samples), scheme.grid.shape, simulation.initial)


def _kernel(config: BenchSimulateConfig, simulation: Simulation, threads: int, sigma: float = 0.0) -> Stepper:
    states = _initial(simulation, config.samples)
    system, scheme = _one(simulation)
    noise = Wiener((sigma,) * len(system.species), 0, np.arange(len(states))) if sigma else None
    return Stepper(lambda steps: cpu.run(states, system, scheme, steps, threads, noise), config.steps, len(states))


def _on_cpu(config: BenchSimulateConfig, simulation: Simulation, threads: int) -> dict[str, Stepper]:
    states = _initial(simulation, config.samples)
    system, scheme = _one(simulation)
    texts = {"torch": torch_text(system, scheme, states)}
    if any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        texts["torch.compile"] = torch_text(system, scheme, states, torch.compile)
    if find_spec("jax"):
        texts["jax"] = jax_text(system, scheme, states)
    made = {
        name: Stepper(advance, max(10, config.steps // SHARES[name]), len(states)) for name, advance in texts.items()
    }
    return {"cpu": _kernel(config, simulation, threads), **made}


def _on_gpu(config: BenchSimulateConfig, simulation: Simulation) -> dict[str, Stepper]:
    from p2d.systems.steppers import gpu

    system, scheme = _one(simulation)
    states = _initial(simulation, GPU_SAMPLES)
    there = torch.from_numpy(states).cuda()

    def advance(steps: int) -> np.ndarray:
        return gpu.advance(there, system, scheme, steps)[: config.samples].cpu().numpy()

    compiled = torch_text(system, scheme, states, torch.compile, "cuda")
    steps = max(10, config.steps // SHARES["torch.compile, cuda"])
    return {
        "cuda": Stepper(advance, config.steps, GPU_SAMPLES),
        "torch.compile, cuda": Stepper(compiled, steps, GPU_SAMPLES),
    }


def torch_text(
    system: System,
    scheme: Scheme,
    states: np.ndarray,
    compiler: Callable[..., Any] = lambda step: step,
    device: str = "cpu",
) -> Callable[[int], np.ndarray]:
    """The system's text evaluated by PyTorch: forward Euler with limits, as one would write it."""
    low, high = (torch.from_numpy(ends)[:, None, None].to(device) for ends in cpu.limits(system))
    start = torch.from_numpy(states).to(device)

    @compiler
    def step(x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x + scheme.dt * system.rate(x, scheme.grid, scheme.operator), low, high)

    def advance(steps: int) -> np.ndarray:
        x = start
        with torch.no_grad():
            for _ in range(steps):
                x = step(x)
        return x.cpu().numpy()

    return advance


def jax_text(system: System, scheme: Scheme, states: np.ndarray) -> Callable[[int], np.ndarray]:
    """The same text compiled by JAX on the CPU, all steps in one call; 5-point and periodic."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")  # of a GPU it would take three quarters of the memory
    h = scheme.grid.spacing

    def shifted(f: Any, rows: int, columns: int) -> Any:
        return jnp.roll(f, (-rows, -columns), (-2, -1))

    def laplacian(f: Any) -> Any:
        return (shifted(f, 0, -1) + shifted(f, 0, 1) + shifted(f, -1, 0) + shifted(f, 1, 0) - 4 * f) / h**2

    functions = {name: getattr(jnp, name) for name in expressions.SMOOTH} | {
        "lap": laplacian,
        "grad": lambda f, g: (laplacian(f * g) - f * laplacian(g) - g * laplacian(f)) / 2,
        "d": lambda f, axis: (
            (shifted(f, axis == "y", axis == "x") - shifted(f, -(axis == "y"), -(axis == "x"))) / (2 * h)
        ),
    }
    low, high = (jnp.asarray(ends)[:, None, None] for ends in cpu.limits(system))

    def step(_: int, x: Any) -> Any:
        names = {**system.parameters, **{s: x[:, i] for i, s in enumerate(system.species)}}
        rates = [0 * x[:, 0] + expressions.evaluate(tree, names, functions) for tree in system.trees.values()]
        return jnp.clip(x + scheme.dt * jnp.stack(rates, axis=1), low, high)

    run = jax.jit(lambda x, steps: jax.lax.fori_loop(0, steps, step, x))
    return lambda steps: np.asarray(run(jnp.asarray(states), steps))


def _rates(steppers: dict[str, Stepper], cells: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median, lowest and highest rate of each, timed in turn so that a noisy moment hits all alike."""
    timed: dict[str, list[float]] = {name: [] for name in steppers}
    for each in steppers.values():
        each.advance(2)  # compiles
    for _ in range(repeats):
        for name, each in steppers.items():
            start = time.perf_counter()
            each.advance(each.steps)
            timed[name].append(each.samples * cells * each.steps / (time.perf_counter() - start))
    return {
        name: {
            "samples": steppers[name].samples,
            "median": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
        }
        for name, rates in timed.items()
    }


def _differences(fields: dict[str, np.ndarray]) -> dict[str, float]:
    size = np.abs(fields["torch"]).max()
    return {n: float(np.abs(f - fields["torch"]).max() / size) for n, f in fields.items() if n != "torch"}


def print_table(found: dict[str, Any], config: BenchSimulateConfig) -> None:
    """The measurements as tables on standard output."""
    table = Table("stepper", "samples", "G cell updates/s", "lowest to highest", "difference after 200 steps")
    for name, rate in found["steppers"].items():
        span = f"{rate['lowest'] / 1e9:.4g} to {rate['highest'] / 1e9:.4g}"
        difference = f"{found['difference'][name]:.1e}" if name in found["difference"] else "(compared with)"
        table.add_row(name, f"{rate['samples']}", f"{rate['median'] / 1e9:.4g}", span, difference)
    console = Console(highlight=False, soft_wrap=True)
    size = f"{config.height} x {config.width}, {found['threads']} threads"
    name = f"{config.system} {config.preset}".strip()
    console.print(f"{name}, {size}, {found['operations']} operations a cell", table)
    for pair, ratio in found["ratios"].items():
        console.print(f"{pair}: {ratio:.3g} times")
    noisy, ratio = found["noisy"].values()
    console.print(f"with noise in the dynamics on the CPU: {noisy / 1e9:.3g} G/s, {ratio:.2f} times the rate without")
    if "against" in found:
        rate, ratio = found["against"]["median"] / 1e9, found["against"]["per_operation"]
        console.print(f"{AGAINST}: {rate:.3g} G/s; per operation this is {ratio:.2f} times its rate")
    if found["presets"]:
        presets = sorted(found["presets"].items(), key=lambda item: item[1])
        (slow, low), (fast, high) = presets[0], presets[-1]
        console.print(
            f"presets on the CPU: slowest {slow} {low / 1e9:.3g} G/s, fastest {fast} {high / 1e9:.3g} G/s: "
            f"{high / low:.2f} times"
        )
