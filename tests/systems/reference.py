"""What the four study presets look like after 10,000 steps, computed without the fast kernels.

    python tests/systems/reference.py

writes reference.json beside this file: about five minutes on one core. Forward Euler in float64 with plain torch
operations, so that neither a fused kernel nor float32 has a part in it.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2d.systems.initial import initial_states
from p2d.systems.reading import load_system
from p2d.systems.system import System

FILE = Path(__file__).with_suffix(".json")
SYSTEMS = ("waves", "spirals", "maze", "life")
STEPS = 10_000
SIZE = 128
SEEDS = (101, 102)
SAMPLES_A_SEED = 32
ALIVE_SPREAD = 1e-3  # standard deviation of v over the grid up to which a sample is dead, as in p2d.snapshots.simulated
# Of the wave number, in waves across the grid; the last ends at the shortest wave along an axis.
BANDS = ((1, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (12, 16), (16, 24), (24, 32), (32, 64))
AT_A_TIME = 8  # samples: small enough for the cache


def euler(states: np.ndarray, system: System, steps: int) -> np.ndarray:
    """Forward Euler of Gray-Scott's `System.rate`, clamped to [0, 1]: [N, 2, H, W] to float64 of that shape."""
    chunks = torch.tensor(states, dtype=torch.float64).split(AT_A_TIME)
    for chunk in chunks:
        _advance(chunk, system, steps)
    return torch.cat(chunks).numpy()


def _advance(state: torch.Tensor, system: System, steps: int) -> None:
    """Advance float64 [N, 2, H, W] in place, the sums in the order of `System.rate`."""
    change, reaction, feed = torch.empty_like(state), torch.empty_like(state[:, 0]), torch.empty_like(state[:, 0])
    p = system.parameters
    diffusion = torch.tensor([p["D_u"], p["D_v"]], dtype=torch.float64)[:, None, None]
    (u, v), (du, dv) = state.unbind(1), change.unbind(1)
    for _ in range(steps):
        _laplacian(state, change)
        change *= diffusion
        torch.mul(u, v, out=reaction).mul_(v)
        du.sub_(reaction).add_(torch.sub(1, u, out=feed).mul_(p["F"]))
        dv.add_(reaction).sub_(torch.mul(v, p["F"] + p["k"], out=feed))
        state.add_(change, alpha=system.run.dt).clamp_(0, 1)


def _laplacian(field: torch.Tensor, out: torch.Tensor) -> None:
    out[..., 1:] = field[..., :-1]
    out[..., 0] = field[..., -1]
    out[..., :-1] += field[..., 1:]
    out[..., -1] += field[..., 0]
    out[..., 1:, :] += field[..., :-1, :]
    out[..., 0, :] += field[..., -1, :]
    out[..., :-1, :] += field[..., 1:, :]
    out[..., -1, :] += field[..., 0, :]
    out.sub_(field, alpha=4)


def statistics(states: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers that describe each state: [N, 2, H, W] concentrations, H = W.

    Returns:
        'dead': whether each sample is, bool [N]. All others float64 [living samples]: means and variances over the
        grid, and log10 of the power of v in BANDS (a wave of amplitude a has the power a^2 / 2, its variance).
    """
    states = states.astype(np.float64)
    dead = states[:, 1].std(axis=(1, 2)) <= ALIVE_SPREAD
    u, v = states[~dead].swapaxes(0, 1)
    found = {"dead": dead}
    for name, field in (("u", u), ("v", v)):
        found[f"mean {name}"] = field.mean(axis=(1, 2))
        found[f"variance {name}"] = field.var(axis=(1, 2))
    size = states.shape[-1]
    power = np.abs(np.fft.fft2(v) / size**2) ** 2
    waves = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(waves[:, None], waves)
    for low, high in BANDS:
        found[f"log10 power {low}-{high}"] = np.log10(power[:, (low <= radius) & (radius < high)].sum(axis=1))
    return found


def summary(states: np.ndarray) -> dict[str, Any]:
    """Number of living and of dead samples; mean and standard deviation of each statistic over the living."""
    found = statistics(states)
    dead = found.pop("dead")
    spread = {name: [significant(x.mean()), significant(x.std(ddof=1))] for name, x in found.items()}
    return {"living": int((~dead).sum()), "dead": int(dead.sum()), "mean and standard deviation": spread}


def significant(number: float) -> float:
    return float(f"{number:.6g}")


def simulate(name: str) -> np.ndarray:
    """The samples of a preset at the last step: float64 [N, 2, SIZE, SIZE]."""
    system = load_system("gray_scott").at(name)
    starts = [initial_states(system, seed, np.arange(SAMPLES_A_SEED), (SIZE, SIZE)) for seed in SEEDS]
    return euler(np.concatenate(starts), system, STEPS)


def write(systems: dict[str, Any]) -> None:
    scheme = "forward Euler in float64, dt = 1, clamped to [0, 1], plain operations of torch on one thread"
    reference = {
        "made": f"tests/systems/reference.py: {scheme} (torch {torch.__version__}, numpy {np.__version__})",
        "steps": STEPS,
        "grid": [SIZE, SIZE],
        "initial": "discs",
        "seeds": list(SEEDS),
        "samples a seed": SAMPLES_A_SEED,
        "systems": systems,
    }
    pairs_on_a_line = re.sub(r"\[\s+(\S+)\s+(\S+)\s+\]", r"[\1 \2]", json.dumps(reference, indent=1))
    FILE.write_text(pairs_on_a_line + "\n")


def main() -> None:
    torch.set_num_threads(1)
    systems = {}
    for name in SYSTEMS:
        start = time.monotonic()
        systems[name] = summary(simulate(name))
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    write(systems)


if __name__ == "__main__":
    main()
