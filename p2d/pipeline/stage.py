"""What all stages share: what a stage did, and how one that has work to do is announced and tracked."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2d import log, signals
from p2d.events import note
from p2d.lock import sole_writer
from p2d.places import as_remote
from p2d.progress import say
from p2d.runs import output_folder, remove_unfinished
from p2d.systems.kernels import cache_folder
from p2d.tracking.store import Run

PACKAGES = ("p2d", "ray", "torch", "pyarrow")  # whose versions are noted with a result
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
        following: the command to run next, where it is not the stage's own.
    """

    stage: str
    made: bool
    where: Path
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    result: Any = None
    following: str = ""


@contextmanager
def stage(track: Tracker, name: str, where: Path, parameters: dict[str, Any]) -> Iterator[Run]:
    """A stage that has work to do: its one writer, announced, noted, and tracked as a run of its own.

    Raises:
        UserError: another process is at this very result.
    """
    with sole_writer(where, beside=True):
        if where.is_dir():
            remove_unfinished(where)
        log.open_log(_logs_of(where))
        say(f"{name} -> {where}")
        log.write("\n".join(f"  {key}: {value}" for key, value in parameters.items()))
        note(where, "started", stage=name, command=_command(), settings={k: str(v) for k, v in parameters.items()})
        start = time.monotonic()
        try:
            with track().child(name, parameters) as child:
                child.tags({"mlflow.source.name": _command()})
                yield child
        except BaseException as error:
            stopped = signals.stopping() or isinstance(error, KeyboardInterrupt)
            with contextlib.suppress(OSError):  # it may be why the stage has failed
                told = str(error).partition("\n")[0] or type(error).__name__
                _note_end(where, name, start, state="stopped" if stopped else "failed", error=told)
            raise
        _note_end(where, name, start, state="finished")


def _logs_of(where: Path) -> Path:
    """Where the log of a command goes that makes this result; an object store cannot append."""
    out = output_folder(where)
    return (out if as_remote(out) is None else cache_folder()) / "logs"


def _note_end(where: Path, name: str, start: float, **values: str) -> None:
    seconds = round(time.monotonic() - start, 1)
    runtime = sys.modules.get("p2d.cluster.runtime")  # only where the stage has had to do with Ray
    resources = runtime.resources if runtime else {}
    note(where, "ended", stage=name, seconds=seconds, **values, resources=resources, versions=log.versions(PACKAGES))


def _command() -> str:
    """What was typed, to be typed again."""
    program, *words = sys.argv
    script = [] if Path(program).name in ("p2d", "cli.py") else ["python", program]
    return shlex.join([*(script or ["p2d"]), *words])
