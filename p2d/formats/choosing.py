"""Some runs of a stack, and some frames of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2d.errors import UserError
from p2d.formats.array_stack import chosen
from p2d.formats.stack import Asked, Stack


@dataclass(frozen=True, eq=False)
class Chosen(Stack):
    """Some snapshots of another stack.

    Attributes:
        stack: the other.
        rows: which of its snapshots, int [N].
    """

    stack: Stack | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def _all(self) -> Stack:
        assert self.stack is not None
        return self.stack

    def read(self, first: int, last: int) -> np.ndarray:
        """See Stack."""
        rows = self.rows[first:last]
        stretches = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        parts = [self._all.read(int(some[0]), int(some[-1]) + 1) for some in stretches if len(some)]
        return np.concatenate(parts) if parts else np.empty((0, *self.shape), self.dtype)

    def name_of(self, row: int) -> str:
        """See Stack."""
        return self._all.name_of(int(self.rows[row]))

    @property
    def files(self) -> tuple[str, ...]:
        """See Stack."""
        files = self._all.files
        return tuple(files[row] for row in self.rows) if len(files) == self._all.count else files


def choose_rows(stack: Stack, asked: Asked) -> Stack:
    """The runs and the frames that are asked for; where a stack has no runs, each snapshot is one.

    Raises:
        UserError: none of them, or frames of snapshots that are of no run.
    """
    if not (asked.trajectories or asked.times):
        return stack
    if asked.times and stack.runs is None:
        raise UserError(
            f"--times {asked.times}: {stack.files[0]} holds single snapshots, and no runs of several frames"
        )
    runs = np.arange(stack.count) if stack.runs is None else stack.runs
    _, first, run, lengths = np.unique(runs, return_index=True, return_inverse=True, return_counts=True)
    number = np.argsort(np.argsort(first))[run]  # in the order in which runs begin
    order = np.argsort(run, kind="stable")
    frame = np.empty(stack.count, np.int64)
    frame[order] = np.arange(stack.count) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    taken = np.isin(number, list(chosen(asked.trajectories, len(first), "--trajectories")))
    taken &= np.isin(frame, list(chosen(asked.times, int(lengths.max()), "--times")))
    rows = np.flatnonzero(taken)
    if not len(rows):
        raise UserError(f"--trajectories {asked.trajectories} --times {asked.times} take nothing of {stack.files[0]}")
    return Chosen(
        count=len(rows),
        shape=stack.shape,
        dtype=stack.dtype,
        about=stack.about,
        runs=None if stack.runs is None else stack.runs[rows],
        times=None if stack.times is None else stack.times[rows],
        stack=stack,
        rows=rows,
    )
