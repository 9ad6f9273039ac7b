"""Runs and times from the names of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from p2d.errors import UserError, one_line

# What tells a time in a name, with the number behind it: run3_t010.png, plate_a_frame_0012.tif, spiral-time=2.5.png
TIME = re.compile(r"(?<![a-z])(?:time|frame|step|t)[ _=-]?(\d+(?:\.\d+)?)(?![a-z0-9])", re.IGNORECASE)


def runs_of(files: Sequence[str], regex: str = "") -> tuple[np.ndarray | None, np.ndarray | None]:
    """The run and the time of each file, from its name.

    Args:
        files: their paths.
        regex: a regular expression, found in the path: its group `run`, or its first one, is the run, its group `time`
            the time. '': told where it is plain, which is where `t`, `time`, `frame` or `step` stands before a number
            and several files share the rest of their names.

    Returns:
        Runs int64 [N], from 0 on in the order in which they first appear, and times float64 [N]; None where there are
        none, which means that each file is of a run of its own.

    Raises:
        UserError: no regular expression, one without a group, a file that it does not fit, or a time that is no number.
    """
    if regex:
        return _by_regex(files, regex)
    names = [(str(PurePath(file).parent), PurePath(file).name.removesuffix(PurePath(file).suffix)) for file in files]
    times = [_last_time(name) for _, name in names]
    if len(files) < 2 or not all(times):
        return None, None
    rest = [(folder, _without(name, time)) for (folder, name), time in zip(names, times, strict=True) if time]
    values = np.array([float(time[1]) for time in times if time])
    runs = _numbered(rest)
    same_time = len(set(zip(runs.tolist(), values.tolist(), strict=True))) < len(files)
    if len(set(rest)) == len(files) or same_time:
        return None, None
    return runs, values


def naming_note(
    files: Sequence[str], runs: np.ndarray | None, times: np.ndarray | None, regex: str = ""
) -> tuple[str, ...]:
    """What `runs_of` tells, in a sentence for the user; nothing where it tells nothing."""
    if runs is None:
        return ()
    count, name = len(np.unique(runs)), PurePath(files[0]).name
    how = f"by {regex}" if regex else "as their names tell"
    first = f"{name} is of run {runs[0]}" + (f" at time {times[0]:g}" if times is not None else "")
    return (f"{len(files)} files are of {count} run{'s' * (count != 1)}, {how}: {first}; --runs-from tells otherwise",)


def _last_time(name: str) -> re.Match[str] | None:
    """The last time in a name; what comes before may be of how it was made."""
    return next(iter([*TIME.finditer(name)][::-1]), None)


def _without(name: str, time: re.Match[str]) -> str:
    return name[: time.start()] + name[time.end() :]


def _by_regex(files: Sequence[str], regex: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"--runs-from {regex!r} is no regular expression ({one_line(error)})") from error
    groups = pattern.groupindex
    unnamed = [n for n in range(1, pattern.groups + 1) if n != groups.get("time")]
    run_group = groups.get("run", unnamed[0] if unnamed else None)
    if not pattern.groups:
        raise UserError(f"--runs-from {regex!r} has no group: put what names the run in brackets, such as run(\\d+)")
    runs, times = [], []
    for file in files:
        match = pattern.search(file)
        if not match:
            raise UserError(f"{file} does not fit --runs-from {regex!r}: give one that fits the names of all files")
        runs.append(match[run_group] if run_group else "")
        times.append(_number(file, match["time"], regex) if "time" in groups else np.nan)
    return _numbered(runs), np.array(times) if "time" in groups else None


def _number(file: str, text: str | None, regex: str) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise UserError(f"{file}: the time by --runs-from {regex!r} is {text!r}, which is no number") from error


def _numbered(keys: Sequence[object]) -> np.ndarray:
    """A number for each key, from 0 on in the order in which they first appear."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
