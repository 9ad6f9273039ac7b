"""The one exception for mistakes that a user can mend."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator

# A disk that is full, broken or may not be written, an object store that does not answer or fails.
UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EACCES,
    errno.EROFS,
    errno.EHOSTUNREACH,
    errno.EREMOTEIO,
)
# The same in the words of errors that hold it as text: of Rust, of workers on other machines, of torch and of sqlite.
WORDS = re.compile(
    rf"""errno\ (?P<number>{"|".join(map(str, UNWRITABLE))})\] [^\n]*? (?:'(?P<file>[^'\n]+)')? $
    | \(os\ error\ (?P<code>{"|".join(map(str, UNWRITABLE))})\)
    | PytorchStreamWriter\ failed\ writing | unexpected\ pos\ \d+\ vs | database\ or\ disk\ is\ full
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)


class UserError(Exception):
    """Bad input, told in one line: what is wrong, the value, what would be right.

    The command line prints the line and exits with code 2, without a traceback.
    """


def refuse_unknown(what: str, name: str | int, known: Collection[str | int]) -> None:
    """Refuse a name, or a number that stands for one, that is not known, with the nearest one."""
    if name not in known:
        words = [str(word) for word in known]
        raise UserError(f"unknown {what} {str(name)!r}{nearest(str(name), words)}; known: {', '.join(words)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' for the known name closest to `name`, or '' when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unwritable(error: BaseException) -> str:
    """What could not be written and why, in a line, where that is what an error comes from; '' of any other."""
    for one in _causes(error):
        if isinstance(one, OSError) and one.errno in UNWRITABLE:
            reason = str(one.strerror).rpartition("] ")[2]  # pyarrow has the system's own words behind a number
            return f"{one.filename}: {reason}" if one.filename else reason
        if not isinstance(one, UserError) and (words := WORDS.search(str(one))):
            number = int(words["number"] or words["code"] or errno.ENOSPC)
            return f"{words['file']}: {os.strerror(number)}" if words["file"] else os.strerror(number)
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from; Ray keeps the one of a worker as `cause`."""
    while error is not None:
        yield error
        own = getattr(error, "cause", None)
        error = own if isinstance(own, BaseException) else error.__cause__
