"""One writer a result on an object store, which has no locks: a lease, renewed while its holder lives.

Who wants to write puts a file of its own, and then looks for those of others: of two at a time, at least the later sees
the other, and steps back. A lease that has not been renewed for a while is that of a process that was killed. Should
two hold one all the same, as when a network was gone for minutes, work is done twice, and not spoilt: shards come out
the same in both, and files and folders are put whole.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from p2d.errors import UserError
from p2d.places import Remote
from p2d.runs import whole

RENEW_S, STALE_S = 15.0, 60.0
ATTEMPTS, STEP_BACK_S = 3, 0.5


@contextmanager
def held(target: Remote, lock: Remote) -> Iterator[None]:
    """Hold a lease while the block runs.

    Args:
        target: what is written.
        lock: the place of its leases; the name of each ends with an id of its own.

    Raises:
        UserError: another process holds one (says which).
    """
    lease = _taken(target, lock)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(lease, ended), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        with suppress(OSError):  # it becomes stale by itself
            lease.unlink()


def _taken(target: Remote, lock: Remote) -> Remote:
    """A new lease, beside which there is no other."""
    lease = lock.with_name(f"{lock.name}.{uuid.uuid4().hex}")
    for attempt in range(ATTEMPTS):
        _put(lease)
        others = [other for other in lock.parent.glob(f"{lock.name}.*") if other != lease]
        other = next(filter(None, (_holder(other, lease.stat().st_mtime) for other in others)), None)
        if other is None:
            return lease
        lease.unlink(missing_ok=True)
        if attempt < ATTEMPTS - 1:  # both may have come at a time, and stepped back
            time.sleep(STEP_BACK_S * (1 + attempt) * random.random())
    raise UserError(
        f"{target} is being written by {other}; wait until it has finished, or take another --name or --out"
    )


def holder(lock: Remote) -> str:
    """Who holds a lease of this place; '' if nobody does."""
    leases = lock.parent.glob(f"{lock.name}.*")
    return next(filter(None, (_holder(lease, time.time()) for lease in leases)), None) or ""


def _put(lease: Remote) -> None:
    with whole(cast(Path, lease)) as file:
        file.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))


def _holder(lease: Remote, now: float) -> str | None:
    """Who holds a lease; None if nobody does any more. One that is stale is removed.

    Args:
        now: by the store's clock.
    """
    with suppress(FileNotFoundError, ValueError, KeyError):
        age, who = now - lease.stat().st_mtime, json.loads(lease.read_text())
        is_dead = who["host"] == socket.gethostname() and not _lives(who["process"])
        if age < STALE_S and not is_dead:
            return f"process {who['process']} on {who['host']}"
        lease.unlink(missing_ok=True)
    return None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _keep(lease: Remote, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        with suppress(OSError):  # the next one may come through
            _put(lease)
