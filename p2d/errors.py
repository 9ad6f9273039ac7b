"""The one exception for mistakes that a user can mend."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Collection, Iterable

# A disk that is full, broken or may not be written; an object store that does not answer, or fails.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS)
UNREACHABLE = (errno.EHOSTUNREACH, errno.EREMOTEIO)


class UserError(Exception):
    """Bad input, told in one line: what is wrong, the value, what would be right.

    The command line prints the line and exits with code 2, without a traceback.
    """


def is_unwritable(error: BaseException) -> bool:
    """Whether an error says that a disk is full or may not be written: then the same command goes on once it may."""
    return isinstance(error, OSError) and error.errno in UNWRITABLE


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that an object store cannot be reached now."""
    return isinstance(error, OSError) and error.errno in UNREACHABLE


def refuse_unknown(what: str, name: str | int, known: Collection[str | int]) -> None:
    """Refuse a name, or a number that stands for one, that is not known, with the nearest one."""
    if name not in known:
        words = [str(word) for word in known]
        raise UserError(f"unknown {what} {str(name)!r}{nearest(str(name), words)}; known: {', '.join(words)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' for the known name closest to `name`, or '' when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
