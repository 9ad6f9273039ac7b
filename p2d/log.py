"""A log file a run: what is said, library warnings, settings, versions, the traceback of a failure; none on the screen.

A command arms it, and the first stage that has work to do opens it, so that a mistake that is refused leaves no file.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TextIO

KEPT = 30  # logs of a folder; older ones go
PACKAGES = ("p2d", "ray", "torch", "numpy", "numba", "pyarrow", "mlflow")


class Log(logging.Handler):
    """The log of a command: it keeps what it is given until it has a file, and writes it there from then on."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        self.words = words
        self.path: Path | None = None
        self.file: TextIO | None = None
        self.screen: int | None = None  # the file descriptor of standard error, where libraries' was put aside
        self.before: TextIO = sys.stderr
        self.early: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a library says."""
        self.write(self.format(record))

    def write(self, text: str) -> None:
        """Add lines."""
        if self.file is None:
            self.early.append(text)
            return
        with suppress(OSError, ValueError):  # a full disk must not hide what went wrong
            self.file.write(text.rstrip() + "\n")
            self.file.flush()

    def open_in(self, folder: Path) -> None:
        """Begin a file in a folder, and send there what libraries write past Python."""
        name = re.sub(r"\W+", "-", next((word for word in self.words if not word.startswith("-")), "p2d"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{name}_{os.getpid()}.log"
            self.file = self.path.open("a", encoding="utf-8")
            for old in sorted(folder.glob("*.log"))[:-KEPT]:
                old.unlink(missing_ok=True)
        except OSError:  # no log is no reason to stop; what the folder lacks a result will lack too, and tell
            self.path = self.file = None
            return
        early, self.early = self.early, []
        self.write("\n".join([*_header(self.words), *early]))
        if _fileno(sys.stderr) == 2:
            self.screen, self.before = os.dup(2), sys.stderr
            os.dup2(self.file.fileno(), 2)
            sys.stderr = os.fdopen(os.dup(self.screen), "w", buffering=1, encoding=sys.stderr.encoding)

    def end(self) -> None:
        """Give standard error back, and close the file."""
        if self.screen is not None:
            sys.stderr.close()
            os.dup2(self.screen, 2)
            os.close(self.screen)
            sys.stderr, self.screen = self.before, None
        if self.file is not None:
            with suppress(OSError):  # what a full disk did not take is written once more here
                self.file.close()
            self.file = None


_logs: list[Log] = []  # that of the command that runs


@contextmanager
def of_command(words: list[str]) -> Iterator[Log]:
    """Keep what libraries say off the screen, and in the log of this command, while the block runs."""
    log, root, last = Log(words), logging.getLogger(), logging.lastResort
    _logs.append(log)
    root.addHandler(log)
    logging.captureWarnings(True)
    logging.lastResort = None
    try:
        yield log
    finally:
        _logs.remove(log)
        root.removeHandler(log)
        logging.captureWarnings(False)
        logging.lastResort = last
        log.end()


def open_log(folder: Path) -> None:
    """Open the log of the command that runs, in a folder, if it is not open; none of p2d in Python."""
    if _logs and _logs[-1].file is None:
        _logs[-1].open_in(folder)


def take_over(*names: str) -> None:
    """Let loggers of libraries that write to the screen by themselves write into the log of the command that runs."""
    for logger in map(logging.getLogger, names if _logs else ()):
        for handler in [one for one in logger.handlers if type(one) is logging.StreamHandler]:
            logger.removeHandler(handler)
        logger.propagate = True


def write(text: str) -> None:
    """Add lines to the log of the command that runs, if one does."""
    if _logs:
        _logs[-1].write(text)


def write_failure(error: BaseException) -> Path | None:
    """Add a traceback.

    Returns:
        The log, if there is one.
    """
    if not _logs or _logs[-1].file is None:
        return None
    _logs[-1].write("".join(traceback.format_exception(error)))
    return _logs[-1].path


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Of these packages, as far as they are installed; p2d is not in the working directory of a job."""
    known = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            known[package] = metadata.version(package)
    return known


def _header(words: list[str]) -> list[str]:
    known = ", ".join(f"{package} {version}" for package, version in versions().items())
    return [
        f"command: p2d {shlex.join(words)}",
        f"began: {time.strftime('%Y-%m-%d %H:%M:%S %z')} in {os.getcwd()}",
        f"on: {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs",
        f"with: {known}",
    ]


def _fileno(stream: TextIO) -> int | None:
    """The file descriptor of a stream, if it has one."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
