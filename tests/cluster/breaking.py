"""What can go wrong under a running command: the n-th thing it does to its files fails, or is the last thing it does.

Python's own calls (open, write, fsync, replace) are caught in this process alone, and the readers that go past Python
(torch, safetensors, parquet) where they are called. Errors are real where they can be: a full disk is /dev/full in the
place of a file, a disk that fills up half-way is RLIMIT_FSIZE.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

FULL = "/dev/full"
UNDONE = 3  # renames, at most, that a power cut undoes
MOVES, READS = ("replace", "rename"), ("read", "native read")
# The things that each kind of fault may happen to; `step` is a gradient step or a simulation, between files.
KINDS: dict[str, tuple[str, ...]] = {
    "kill": (),
    "SIGTERM": (),
    "SIGINT": (),
    "power cut": (),
    "full disk": ("open", "fsync", "mkdir"),
    "disk fills up": ("open",),
    "torn write": ("write",),
    "lost rename": MOVES,
    "read error": READS,
}
SIGNALS = {"kill": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when: at the n-th (from 0) of the things that this kind may happen to."""

    kind: str
    at: int
    seed: int

    def concerns(self, event: str) -> bool:
        """Whether an event counts towards `at`."""
        return not KINDS[self.kind] or event in KINDS[self.kind]


class Watched:
    """Counts what this process does to the files below a folder, and lets a fault happen.

    Args:
        folder: whose files are watched.
        fault: to happen; None for none.
        log: a descriptor, which gets a line an event.
    """

    def __init__(self, folder: Path, fault: Fault | None, log: int) -> None:
        self.folder, self.fault, self.log = f"{folder}/", fault, log
        self.count = 0
        self.full = False
        self.unsynced: set[str] = set()
        self.moved: dict[str, bytes | None] = {}  # what was in a file's place before it was renamed into it

    def holds(self, path: Any) -> bool:
        """Whether this is the path of a watched file."""
        return isinstance(path, str | os.PathLike) and os.path.abspath(os.fspath(path)).startswith(self.folder)

    def event(self, name: str, path: Any = "") -> bool:
        """Note an event; whether the fault is to happen now, where it is not simply a signal."""
        os.write(self.log, f"{name}\t{os.path.basename(path)}\n".encode())
        fault = self.fault
        if fault is None or not fault.concerns(name):
            return False
        self.count += 1
        if self.count - 1 != fault.at:
            return False
        if fault.kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[fault.kind])
            return False
        if fault.kind == "power cut":
            self.cut_power()
        return True

    def cut_power(self) -> NoReturn:
        """Die with what was not flushed to the disk lost: contents cut short, and some of the last renames undone."""
        source = random.Random(self.fault.seed if self.fault else 0)
        for path in sorted(self.unsynced):
            if os.path.isfile(path):
                os.truncate(path, source.randrange(os.path.getsize(path) + 1) if source.random() < 0.5 else 0)
        for path, before in [(path, before) for path, before in self.moved.items() if not path.endswith(".png")][
            -UNDONE:
        ]:
            if source.random() < 0.5 and os.path.isfile(path):
                if before is None:
                    os.unlink(path)
                else:
                    Path(path).write_bytes(before)
        die()

    def begin_write(self, path: str, links: bool) -> None:
        """A file is to be opened for writing.

        Args:
            links: a link to FULL will do in its place; otherwise it cannot even be opened on a full disk.
        """
        happens = self.event("open", path)
        kind = self.fault.kind if self.fault else ""
        self.full |= happens and kind == "full disk"
        if self.full:
            fill(path, links)
        elif happens and kind == "disk fills up":
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        self.unsynced.add(os.path.abspath(path))

    def tears(self, path: str) -> bool:
        """Whether what is written now is to be torn."""
        return self.event("write", path) and self.fault is not None and self.fault.kind == "torn write"


def die() -> NoReturn:
    """End as by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fill(path: str, links: bool) -> None:
    """Let whoever writes to this path find the disk full."""
    if os.path.lexists(path) or not links:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    os.symlink(FULL, path)


class File:
    """A file that is written through Python, each write watched."""

    def __init__(self, file: Any, path: str, watched: Watched) -> None:
        self._file, self._path, self._watched = file, path, watched

    def write(self, data: Any) -> int:
        if self._watched.tears(self._path):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            die()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)


def install(watched: Watched) -> None:
    """Put the watch before every way in which p2d writes and reads files."""
    _watch_open(watched)
    _watch_moves(watched)
    _watch_readers(watched)


def _watch_open(watched: Watched) -> None:
    really = io.open

    def watched_open(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if not watched.holds(file):
            return really(file, mode, *rest, **options)
        path = os.fspath(file)
        if not set(mode) & set("wxa"):
            if watched.event("read", path):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            return really(file, mode, *rest, **options)
        watched.begin_write(path, links=not set(mode) & set("a+"))
        return File(really(file, mode, *rest, **options), path, watched)

    io.open = builtins.open = watched_open  # type: ignore[assignment]


def _watch_moves(watched: Watched) -> None:
    fsync, mkdir, unlink = os.fsync, os.mkdir, os.unlink

    def watched_fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            watched.moved = {moved: old for moved, old in watched.moved.items() if os.path.dirname(moved) != path}
        elif watched.holds(path):
            if watched.event("fsync", path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            watched.unsynced.discard(path)
        fsync(descriptor)

    def watched_mkdir(path: Any, *rest: Any, **options: Any) -> None:
        if watched.holds(path) and not os.path.isdir(path) and watched.event("mkdir", path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        mkdir(path, *rest, **options)

    def watched_unlink(path: Any, *rest: Any, **options: Any) -> None:
        if watched.holds(path):
            watched.event("unlink", path)
        unlink(path, *rest, **options)

    os.fsync, os.mkdir, os.unlink = watched_fsync, watched_mkdir, watched_unlink  # type: ignore[assignment]
    for name in MOVES:
        setattr(os, name, _watched_move(watched, name, getattr(os, name)))


def _watched_move(watched: Watched, name: str, really: Callable[..., None]) -> Callable[..., None]:
    def move(source: Any, target: Any, **options: Any) -> None:
        if not watched.holds(target):
            return really(source, target, **options)
        if watched.event(name, target):
            die()  # before it is done, or before it has reached the disk: the same to whoever comes next
        ends = [os.path.abspath(os.fspath(end)) for end in (source, target)]
        before = Path(ends[1]).read_bytes() if os.path.isfile(ends[1]) else None
        really(source, target, **options)
        if os.path.isfile(target):
            watched.moved.pop(ends[1], None)
            watched.moved[ends[1]] = before
        watched.unsynced = {path.replace(*ends, 1) for path in watched.unsynced}
        return None

    return move


def _watch_readers(watched: Watched) -> None:
    import pyarrow.parquet as pq
    import torch

    from p2d.training import checkpoint

    def reader(really: Callable[..., Any]) -> Callable[..., Any]:
        def read(path: Any, *rest: Any, **options: Any) -> Any:
            if watched.holds(path) and watched.event("native read", os.fspath(path)):
                raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
            return really(path, *rest, **options)

        return read

    torch.load, checkpoint.load_file = reader(torch.load), reader(checkpoint.load_file)
    pq.read_table = reader(pq.read_table)

    class ParquetFile(pq.ParquetFile):
        def __init__(self, source: Any, *rest: Any, **options: Any) -> None:
            if watched.holds(source) and watched.event("native read", os.fspath(source)):
                raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(source))
            super().__init__(source, *rest, **options)

    pq.ParquetFile = ParquetFile
