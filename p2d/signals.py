"""Ctrl-C and the request to end (SIGINT, SIGTERM): an exception that ends a command in good order, and in time.

A command line installs the handlers; in a notebook, in a Ray worker or beside the main thread there are none of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

STOPPED = "stopped; the same command goes on from here"
# Seconds that a command may take to end: a person waits after Ctrl-C, a scheduler gives time for a last checkpoint.
GRACE = {signal.SIGINT: 8.0, signal.SIGTERM: 25.0}


class Stopped(KeyboardInterrupt):
    """A signal asks to end.

    Attributes:
        number: of the signal; the exit code is 128 more.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class _State:
    handling = False
    received: int | None = None


def stopping() -> bool:
    """Whether a signal has asked this command to end: then what fails only fails for that."""
    return _State.received is not None


def exit_code() -> int:
    """Of a command that was asked to end: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_State.received or signal.SIGINT)


@contextlib.contextmanager
def handling() -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM raise Stopped in it; a second one ends the process at once.

    A signal that is ignored, as nohup has it, stays so. Beside the main thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or _State.handling:
        yield
        return
    before = {number: signal.getsignal(number) for number in GRACE}
    _State.handling, _State.received = True, None
    restore()
    try:
        yield
    finally:
        _State.handling = False
        if not stopping():  # else the process is on its way out, and a second signal must still end it
            for number, handler in before.items():
                signal.signal(number, handler)


def are_handled() -> bool:
    """Whether `handling` is at work, and this is the thread that signals come to."""
    return _State.handling and threading.current_thread() is threading.main_thread()


def restore() -> None:
    """Put the handlers in their place again, where `handling` had them: Ray installs its own when it starts."""
    if are_handled():
        for number in GRACE:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if stopping():
        _end()
    _State.received = number
    watch = threading.Timer(GRACE[signal.Signals(number)], _end)
    watch.daemon = True
    watch.start()
    raise Stopped(number)


def _end() -> None:
    """End now; Ray's processes and the guard of the tracked runs notice it and do their part."""
    with contextlib.suppress(OSError, ValueError):
        print(f"p2d: {STOPPED}", file=sys.stderr, flush=True)
    os._exit(exit_code())
