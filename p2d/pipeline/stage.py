"""What all stages share: what a stage did, and how one that has work to do is announced and tracked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2d.progress import say
from p2d.tracking.store import Run

Tracker = Callable[[], Run]  # opened when there is work to track, as MLflow takes seconds to start


@dataclass(frozen=True)
class Outcome:
    """What a stage did.

    Attributes:
        made: False when its result was there already.
        where: the result's folder or file.
        facts: the keys of the stage in the result of --json.
        result: what it made, whose text is for the screen; None of a stage that says nothing.
        seconds: wall time, 0 when nothing was made.
    """

    stage: str
    made: bool
    where: Path
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    result: Any = None


@contextmanager
def stage(track: Tracker, name: str, where: Path, parameters: dict[str, Any]) -> Iterator[Run]:
    """A stage that has work to do: announced, and tracked as a run of its own."""
    say(f"{name} -> {where}")
    with track().child(name, parameters) as child:
        yield child
