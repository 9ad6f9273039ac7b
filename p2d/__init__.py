"""p2d, Pattern to Dynamics: from snapshots of a pattern, in no order of time, to the dynamics that keep it going.

    import p2d
    dataset = p2d.simulate("waves", num_samples=48, height=64, width=64, steps=6000)
    equation = p2d.discover(dataset)       # or of an array [snapshots, species, rows, columns]
    print(equation)                        # with error bars, and what is known of it
    equation.plot()

What there is:

    simulate        patterns of a system, as a Dataset       Dataset      snapshots on disk
    import_files    your own files, as a Dataset             Discovery    a discovered equation
    open_dataset    a Dataset by its folder                  System       rates as text, simulated
    discover        the equation of a Dataset or an array    ScoreModel   a trained score model
    export          a Dataset for other programs             Flow         a trained velocity field
                                                             History      how a training went

Models are trained by the `p2d` command and loaded here: p2d.Flow.load("runs/flow/waves"). Mistakes raise UserError,
whose text says what would be right. Names are imported on first use, so that `import p2d` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Dataset": "p2d.snapshots.store",
    "Discovery": "p2d.discovery.result",
    "Flow": "p2d.flow.model",
    "History": "p2d.training.history",
    "ScoreModel": "p2d.score.model",
    "System": "p2d.systems.system",
    "UserError": "p2d.errors",
    "discover": "p2d.api",
    "export": "p2d.api",
    "import_files": "p2d.api",
    "open_dataset": "p2d.snapshots.store",
    "simulate": "p2d.api",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'p2d' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
