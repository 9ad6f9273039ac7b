"""Progress of long work on standard error: share done, rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]
LINE_EVERY = 10.0  # seconds between lines where standard error is no terminal


def say(text: str) -> None:
    """A line for the person at the screen."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


@contextmanager
def progress(stage: str, total: int, unit: str) -> Iterator[Advance]:
    """Show the progress of a stage while the block runs.

    Yields:
        advance(done, note): `done` more units are finished; `note` is shown beside the bar.
    """
    if sys.stderr.isatty():
        yield from _bar(stage, total, unit)
    else:
        yield from _lines(stage, total, unit)


def _bar(stage: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(stage, total=total, note="")
        yield lambda done, note="": bar.update(task, advance=done, note=note)


def _lines(stage: str, total: int, unit: str) -> Iterator[Advance]:
    start = told = time.monotonic()
    finished = 0

    def advance(done: int, note: str = "") -> None:
        nonlocal told, finished
        finished += done
        now = time.monotonic()
        if now - told < LINE_EVERY and finished < total:
            return
        told = now
        left = (now - start) * max(total - finished, 0) / max(finished, 1)
        say(f"{stage}: {finished}/{total} {unit}, {now - start:.0f} s, {left:.0f} s left  {note}".rstrip())

    yield advance
