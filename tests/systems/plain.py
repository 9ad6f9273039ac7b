"""What the kernels are held against: Euler steps of the plain rate, and systems that use all of the language."""

from types import SimpleNamespace

import numpy as np

from p2d.systems import kernels
from p2d.systems.reading import load_system
from p2d.systems.steppers import cpu
from p2d.systems.system import System

GRAY_SCOTT = load_system("gray_scott")
WAVES = GRAY_SCOTT.at("waves")
PRESETS = tuple(GRAY_SCOTT.presets)

# Each decays to a rest state near which it stays finite, so that states in [0.5, 1.5] may be stepped by 0.01.
SYSTEMS = {
    "fourth order": System("a", {"u": "-lap(lap(u)) - c*lap(u) + (r - 1)*u - u**3"}, {"c": 0.3, "r": 0.2}),
    "nested": System("b", {"u": "D*lap(u**3 - u) - lap(v*lap(u))/8", "v": "lap(u*v) - v"}, {"D": 0.4}),
    "first derivatives": System(
        "c", {"u": "lap(u) - a*u*d(u, x) + 2*grad(u, v)", "v": "d(v, y) - d(u*v, x)/2 - grad(u, u)*v"}, {"a": 0.7}
    ),
    "powers": System(
        "d",
        {
            "u": "-u**p + v**n/(k**n + v**n) - u**-2",
            "v": "u**0.5*v**q - 3*v**0 + a**0.5/(1 + u/v) + u/(v*w)",
            "w": "0.5",
        },
        {"p": 1.3, "n": 4, "k": 0.8, "a": 2, "q": 0},
    ),
    "smooth": System(
        "e",
        {
            "u": "exp(-u) - tanh(u - v)*sin(2*u)",
            "v": "sqrt(u) - log(1 + v) + cos(v)/3",
            "w": "-w + exp(a)*lap(tanh(u))",
            "z": "lap(z) + (+u - v)*(w - z)",
        },
        {"a": -0.5},
    ),
}


def euler(states, system, scheme, steps):
    """The definition, in float64: steps of the plain rate, clamped to the limits."""
    x = np.array(states, np.float64)
    ends = np.array([system.limits.get(s, (-np.inf, np.inf)) for s in system.species])[:, :, None, None]
    for _ in range(steps):
        x = np.clip(x + scheme.dt * system.rate(x, scheme.grid, scheme.operator), ends[:, 0], ends[:, 1])
    return x


def random_states(batch, species, shape, low=0.0, high=1.0):
    return np.random.default_rng(0).uniform(low, high, (batch, species, *shape)).astype(np.float32)


def written(system, scheme):
    """The CPU kernel as its text says, by Python: the same float32 roundings, and nothing to compile."""
    rows = cpu.TOGETHER if len(system.species) <= cpu.TOGETHER and scheme.grid.shape[0] > 1 else 1
    source = kernels.cpu_source(cpu.program(system, scheme), cpu.shape(system, scheme, rows))
    names = {"numba": SimpleNamespace(njit=lambda **_: lambda function: function)}
    exec(source.replace("import numba\n", ""), names)
    return names["run"]


def interpreted(states, system, scheme, steps):
    """States after so many steps of the kernel as it is written."""
    out, kernel = np.array(states, np.float32), written(system, scheme)
    constants = cpu.program(system, scheme).values(system.parameters, scheme.grid.spacing, scheme.operator, scheme.dt)
    for state in out:
        kernel(state, constants, *cpu.limits(system), steps)
    return out
