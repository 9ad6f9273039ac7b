"""p2d, Pattern to Dynamics: from snapshots of a pattern, without time order, to the dynamics that keep it going.

    dataset = p2d.simulate("waves", num_samples=128)         # or p2d.open_dataset(path)
    dataset = p2d.import_files("plates", spacing="0.65um")   # of your own files
    discovery = p2d.discover(dataset)
    print(discovery)                                         # the equation with error bars, and what it is worth
    velocity = p2d.Flow.load("runs/flow/waves")(states)
    score = p2d.ScoreModel.load("runs/score/waves").score(x, alpha=0.8)

Names are imported on first use, so that `import p2d` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
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
