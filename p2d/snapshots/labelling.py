"""Which snapshots an import takes, in which order, and what is known of each: run, time and conditions."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np

from p2d.config.importing import ImportConfig
from p2d.errors import UserError, nearest, one_line
from p2d.formats.naming import runs_of
from p2d.formats.stack import Stack
from p2d.systems import expressions

NOTHING_KNOWN = "imported"  # label of snapshots whose conditions are not known
FILE, RUN, TIME = "file", "run", "time"  # columns of a table; all others are conditions
MOST_TABLE_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Rows:
    """The N snapshots of an import, those of one condition one after the other.

    Attributes:
        stack, row: where each is: the number of its stack, and its own there, int64 [N].
        run: int64 [N], from 0 on in the order in which they first appear.
        time: float64 [N], nan where it is not known.
        label: the number of its label, [N], rising.
        conditions: what is known of the snapshots of each label, by name.
        time_unit: '' where it is not known.
    """

    stack: np.ndarray
    row: np.ndarray
    run: np.ndarray
    time: np.ndarray
    label: np.ndarray
    conditions: dict[str, dict[str, float]]
    time_unit: str

    @cached_property
    def has_runs(self) -> bool:
        """Whether some snapshots are of one run."""
        return len(self) > 0 and int(self.run.max()) + 1 < len(self)

    def __len__(self) -> int:
        return len(self.row)


def list_rows(stacks: Sequence[Stack], config: ImportConfig) -> Rows:
    """All snapshots that an import takes.

    Raises:
        UserError: a table that does not fit the files, an interval without runs, units of time that differ.
    """
    counts = [stack.count for stack in stacks]
    stack = np.repeat(np.arange(len(stacks)), counts)
    row = np.concatenate([np.arange(count) for count in counts])
    run, time = _runs(stacks), _times(stacks)
    known = [stacks[number].about.conditions | config.conditions() for number in range(len(stacks))]
    label, conditions = _labelled(known, stack)
    if config.runs_from or config.table:
        files, file = _files(stacks)
        if config.runs_from:
            of_file, when = runs_of(files, config.runs_from)
            assert of_file is not None  # of a regular expression
            run = of_file[file]
            time = time if when is None else _or(when[file], time)
        if config.table:
            table = _Table.read(config.table)
            line = table.lines_of(files, file)
            run = table.runs(line, run)
            time = _or(table.times()[line], time)
            each = [{**known[s], **told} for s, told in itertools.product(range(len(stacks)), table.conditions())]
            label, conditions = _labelled(each, stack * len(table.lines) + line)
    run = np.unique(np.stack([label, run]), axis=1, return_inverse=True)[1].reshape(-1)
    place = _place_in_run(run)
    interval, unit = config.frame_interval()
    if interval:
        if not place.any():
            raise UserError(
                f"interval = {config.interval} needs snapshots of one run: say which are, with --runs-from, a --table, "
                "or --axes with T for its frames"
            )
        time = place * interval
    kept = np.flatnonzero((place if place.any() else np.arange(len(run))) % config.every == 0)
    order = kept[np.argsort(label[kept], kind="stable")]
    return Rows(
        stack[order],
        row[order],
        _in_order(run[order]),
        time[order],
        label[order],
        conditions,
        unit or _time_unit(stacks, config),
    )


def _or(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Numbers, and where they are not known, others."""
    return np.where(np.isnan(values), others, values)


def _runs(stacks: Sequence[Stack]) -> np.ndarray:
    """The runs of all snapshots, as the files tell."""
    made, first = [], 0
    for stack in stacks:
        runs = np.arange(stack.count) if stack.runs is None else np.asarray(stack.runs, np.int64)
        made.append(first + runs)
        first += int(runs.max()) + 1
    return np.concatenate(made)


def _times(stacks: Sequence[Stack]) -> np.ndarray:
    """When all snapshots were taken, as the files tell; nan where they do not."""
    each = [np.full(s.count, np.nan) if s.times is None else np.asarray(s.times, np.float64) for s in stacks]
    return np.concatenate(each)


def _time_unit(stacks: Sequence[Stack], config: ImportConfig) -> str:
    units = sorted({stack.about.time_unit for stack in stacks if stack.times is not None})
    if len(units) > 1 and not config.interval:
        raise UserError(f"the files count time in {' and '.join(u or 'no unit' for u in units)}; import them apart")
    return units[0] if units else ""


def _place_in_run(run: np.ndarray) -> np.ndarray:
    """How many snapshots of its run come before each."""
    order = np.argsort(run, kind="stable")
    starts = np.flatnonzero(np.diff(run[order], prepend=-1))
    place = np.empty(len(run), np.int64)
    place[order] = np.arange(len(run)) - np.repeat(starts, np.diff(starts, append=len(run)))
    return place


def _in_order(numbers: np.ndarray) -> np.ndarray:
    """The same groups, numbered as they first appear."""
    _, first, group = np.unique(numbers, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def _labelled(
    conditions: Sequence[dict[str, float]], each: np.ndarray
) -> tuple[np.ndarray, dict[str, dict[str, float]]]:
    """The number of the label of each snapshot, and the conditions of each label.

    Args:
        conditions: what snapshots may have.
        each: which of them each has, [N].
    """
    own, first, place = np.unique(each, return_index=True, return_inverse=True)
    labels: dict[str, dict[str, float]] = {}
    number = np.empty(len(own), np.int64)
    for which in np.argsort(first).tolist():
        values = conditions[int(own[which])]
        label = ",".join(f"{name}={value:.12g}" for name, value in sorted(values.items())) or NOTHING_KNOWN
        labels.setdefault(label, dict(sorted(values.items())))
        number[which] = list(labels).index(label)
    return number[place.reshape(-1)], labels


def _files(stacks: Sequence[Stack]) -> tuple[list[str], np.ndarray]:
    """The files of all stacks, and the number of that of each snapshot."""
    files: list[str] = []
    each = []
    for stack in stacks:
        own = stack.files
        if len(own) in (1, stack.count):
            number = np.zeros(stack.count, np.int64) if len(own) == 1 else np.arange(stack.count)
        else:  # pages or frames of several files, whose names begin with their file's
            named = {name: number for number, name in enumerate(own)}
            number = np.array([_file_in(stack.name_of(row), named) for row in range(stack.count)], np.int64)
        each.append(len(files) + number)
        files += own
    return files, np.concatenate(each)


def _file_in(name: str, files: dict[str, int]) -> int:
    if name in files:
        return files[name]
    ends = [place for place, sign in enumerate(name) if sign in ",:["]
    return next(files[name[:end]] for end in reversed(ends) if name[:end] in files)


@dataclass(frozen=True)
class _Table:
    """A csv file that says what is known of files, or of snapshots in order.

    Attributes:
        path: of it.
        lines: values by column; the columns are the same in all.
    """

    path: str
    lines: list[dict[str, str]]

    @classmethod
    def read(cls, path: str) -> _Table:
        """The table of a file.

        Raises:
            UserError: it cannot be read, has no lines, or lines with more or fewer values than columns.
        """
        try:
            if Path(path).stat().st_size > MOST_TABLE_BYTES:
                raise UserError(f"the table {path} has more than {MOST_TABLE_BYTES >> 20} MiB; is it a csv file?")
            text = Path(path).read_text("utf-8-sig")
            head = text.partition("\n")[0]
            rows = [row for row in csv.reader(text.splitlines(), delimiter=";" if ";" in head else ",") if row]
        except (OSError, ValueError, csv.Error) as error:
            told = getattr(error, "strerror", None) or one_line(error)
            raise UserError(f"the table {path} cannot be read: {told}") from error
        columns = [name.strip() for name in rows[0]] if rows else []
        if len(rows) < 2 or len(set(columns)) < len(columns):
            raise UserError(f"the table {path} needs a line with the names of its columns, each once, and lines below")
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(columns):
                raise UserError(f"the table {path}, line {number}: {len(row)} values for {len(columns)} columns")
        for name in set(columns) - {FILE, RUN, TIME}:
            expressions.refuse_name(name, f"column of {path}")
        return cls(path, [dict(zip(columns, map(str.strip, row), strict=True)) for row in rows[1:]])

    def lines_of(self, files: list[str], file: np.ndarray) -> np.ndarray:
        """The number of the line of each snapshot, [N].

        Args:
            files: all of them.
            file: which of them each snapshot is in, [N].

        Raises:
            UserError: a line of a file that is not among them, a file with no line or several, or, without a column
                `file`, another number of lines than of snapshots.
        """
        if FILE not in self.lines[0]:
            if len(self.lines) != len(file):
                raise UserError(
                    f"the table {self.path} has {len(self.lines)} lines for {len(file)} snapshots; without a column "
                    f"{FILE} it needs one for each"
                )
            return np.arange(len(file))
        named: dict[str, list[int]] = {}
        for number, name in enumerate(files):
            named.setdefault(PurePath(name).name, []).append(number)
        of_file = np.full(len(files), -1)
        for line, values in enumerate(self.lines):
            parts = PurePath(values[FILE]).parts
            own = [
                n for n in named.get(parts[-1] if parts else "", ()) if PurePath(files[n]).parts[-len(parts) :] == parts
            ]
            if len(own) != 1 or of_file[own[0]] >= 0:
                many = "there are several of this name; give more of its path" if own else "no such file is imported"
                many = "it has a line already" if len(own) == 1 else many
                close = "" if own else nearest(values[FILE], named)
                raise UserError(f"the table {self.path}, line {line + 2}: file {values[FILE]}: {many}{close}")
            of_file[own[0]] = line
        without = np.flatnonzero(of_file[np.unique(file)] < 0)
        if len(without):
            name = files[int(np.unique(file)[without[0]])]
            raise UserError(f"the table {self.path} has no line for {name}; it needs one for each file")
        return of_file[file]

    def runs(self, line: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """The runs of snapshots on these lines, [N], which are of others where the table does not say."""
        names = [values.get(RUN, "") for values in self.lines]
        number = {name: n for n, name in enumerate(dict.fromkeys(filter(None, names)))}
        own = np.array([number.get(name, -1) for name in names])[line]
        return np.where(own >= 0, own, len(number) + runs)

    def times(self) -> np.ndarray:
        """The time on each line, nan where it is not given."""
        return np.array([self._number(n, TIME, math.nan) for n in range(len(self.lines))])

    def conditions(self) -> list[dict[str, float]]:
        """The conditions on each line, by name."""
        names = [name for name in self.lines[0] if name not in (FILE, RUN, TIME)]
        return [{name: self._number(n, name, None) for name in names} for n in range(len(self.lines))]

    def _number(self, line: int, column: str, otherwise: float | None) -> float:
        text = self.lines[line].get(column, "")
        if not text and otherwise is not None:
            return otherwise
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"the table {self.path}, line {line + 2}: {column} = {text!r} is no number")
        return number
