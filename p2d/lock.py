"""One writer a result: a lock that the operating system gives back when its holder dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar

from p2d import leases
from p2d.errors import UserError
from p2d.places import Remote, as_remote

# Some network file systems have no locks. Results are renamed into place whole, so work is then done twice, not spoilt.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
PlaceT = TypeVar("PlaceT", Path, Remote)


@contextmanager
def sole_writer(target: Path, beside: bool = False) -> Iterator[None]:
    """Hold the lock of a result while the block runs.

    Args:
        target: a folder; with `beside`, a file or folder that is put in its place as a whole. On an object store, which
            knows no locks, a lease is held.
        beside: the lock lies beside the target, and not in it, and is there only while it is held.

    Raises:
        UserError: another process holds it (says which).
    """
    if (store := as_remote(target)) is not None:
        with leases.held(store, lock_of(store) if beside else store / ".lock"):
            yield
        return
    with _locked(lock_of(target) if beside else target / ".lock", target) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        file.flush()
        try:
            yield
        finally:
            if beside:
                lock_of(target).unlink(missing_ok=True)


def lock_of(target: PlaceT) -> PlaceT:
    """The lock beside a result."""
    return target.with_name(f".{target.name}.lock")


def holder(file: Path) -> tuple[str, str]:
    """Who holds a lock, and since when; twice '' if nobody does."""
    if (store := as_remote(file)) is not None:
        return leases.holder(store), ""
    try:
        with file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                who, _, since = lock.read().partition("\n")
                return who or "another process", since
    except OSError:  # there is none, or no lock is possible here
        pass
    return "", ""


@contextmanager
def _locked(path: Path, target: Path) -> Iterator[IO[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                who = file.read().partition("\n")[0] or "another process"
                raise UserError(
                    f"{target} is being written by {who}; wait until it has finished, or take another --name or --out"
                ) from error
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if _is(file, path):
                yield file
                return


def _is(file: IO[str], path: Path) -> bool:
    """Whether a file is still the one at a path: the holder before may have removed it since it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
