"""One writer a dataset: a lock that the operating system gives back when its holder dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2d import leases
from p2d.errors import UserError
from p2d.places import as_remote

# Some network file systems have no locks. Shards are renamed into place whole, so work is then done twice, not spoilt.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a dataset's folder while the block runs.

    Raises:
        UserError: another process holds it (says which).
    """
    if (store := as_remote(folder)) is not None:
        with leases.held(store, store / ".lock"):
            yield
        return
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"{folder} is being written by {holder}; wait until it has finished, or take another --name or --out"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
