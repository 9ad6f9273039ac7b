"""Progress of long work on standard error: share done, rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from p2d import log

Advance = Callable[..., None]
LINE_EVERY = 10.0  # seconds between lines where standard error is no terminal


def say(text: str) -> None:
    """A line for the person at the screen, and for the log."""
    log.write(text)
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


@dataclass
class _Counted:
    """What is done, of one pass or of several over the same; rate and time left are of the pass that is under way."""

    total: int
    passes: bool
    done: int = 0  # in this pass
    number: int = 1  # of this pass
    first: tuple[float, int] = (0.0, 0)  # when something of it was first done, and how much

    def add(self, more: int) -> None:
        if self.passes and self.done >= self.total and more:
            self.number, self.done, self.first = self.number + 1, 0, (0.0, 0)
        self.done += more
        if not self.first[0]:
            self.first = (time.monotonic(), self.done)

    @property
    def left(self) -> float | None:
        """Seconds; None before there is a rate: what comes before the first is no part of it."""
        since, before = self.first
        if self.done == before:
            return None
        return (time.monotonic() - since) * max(self.total - self.done, 0) / (self.done - before)


@contextmanager
def progress(stage: str, total: int, unit: str, passes: bool = False) -> Iterator[Advance]:
    """Show the progress of a stage while the block runs.

    Args:
        passes: `total` is of one pass, and nobody knows how many there will be.

    Yields:
        advance(done, note): `done` more units are finished; `note` is shown beside the bar.
    """
    counted = _Counted(total, passes)
    if sys.stderr.isatty():
        yield from _bar(stage, counted, unit)
    else:
        yield from _lines(stage, counted, unit)


def _bar(stage: str, counted: _Counted, unit: str) -> Iterator[Advance]:
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
        task = bar.add_task(stage, total=counted.total, note="")

        def advance(done: int, note: str = "") -> None:
            counted.add(done)
            note = f"pass {counted.number}  {note}" if counted.passes else note
            bar.update(task, completed=counted.done, note=note)

        yield advance


def _lines(stage: str, counted: _Counted, unit: str) -> Iterator[Advance]:
    start = told = time.monotonic()

    def advance(done: int, note: str = "") -> None:
        nonlocal told
        counted.add(done)
        now, is_last = time.monotonic(), counted.done >= counted.total and not counted.passes
        if now - told < LINE_EVERY and not is_last:
            return
        told = now
        which = f"pass {counted.number}, " if counted.passes else ""
        left = f", {counted.left:.0f} s left" if counted.left is not None and counted.done < counted.total else ""
        say(f"{stage}: {which}{counted.done}/{counted.total} {unit}, {now - start:.0f} s{left}  {note}".rstrip())

    yield advance
