"""The one exception for mistakes that a user can mend, and checks of what is read from files."""

from __future__ import annotations

import difflib
import errno
import os
import re
import types
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

# What building a value from JSON that is not what it should be may raise.
UNREADABLE = (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, RecursionError, zlib.error)
# A disk that is full or broken, a place that may not be written, an object store that does not answer or fails.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS)
UNREACHABLE = (errno.EHOSTUNREACH, errno.EREMOTEIO)
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


class DataError(UserError):
    """Data of a user's that cannot be used as they are, which shows when they are read."""


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
        if isinstance(one, OSError) and one.errno in (*UNWRITABLE, *UNREACHABLE):
            # Behind a number in brackets, pyarrow has the system's own words.
            reason = str(one.strerror or os.strerror(one.errno)).rpartition("] ")[2]
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


def one_line(error: Exception) -> str:
    """What an error says, on one line of at most 200 characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def refuse_other_types(value: Any, kind: Any, where: str) -> None:
    """Refuse a value that is not of its declared type, or that holds one that is not.

    Args:
        kind: the type: plain, of tuples, lists and tables of others, one of several, or a dataclass.
        where: it stands, such as 'grid.shape'.

    Raises:
        UserError: names the place and the value.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if is_dataclass(kind) and isinstance(value, kind):  # type: ignore[arg-type]
        for name, own in get_type_hints(kind).items():
            if name in kind.__dataclass_fields__:
                refuse_other_types(getattr(value, name), own, f"{where}.{name}")
        return
    if origin in (Union, types.UnionType):
        fits = any(_is_of(value, part) for part in parts)
    elif origin is Literal:
        fits = value in parts
    elif origin is dict and isinstance(value, dict):
        fits = all(isinstance(key, parts[0]) for key in value)
        for key, item in value.items() if parts[1] is not Any else ():
            refuse_other_types(item, parts[1], f"{where}.{key}")
    elif origin in (tuple, list) and isinstance(value, origin):
        repeated = origin is list or parts[-1] is Ellipsis
        fits = repeated or len(value) == len(parts)
        for n, item in enumerate(value if fits else ()):
            refuse_other_types(item, parts[0] if repeated else parts[n], f"{where}.{n}")
    elif kind in (int, float):
        fits = isinstance(value, int | kind) and not isinstance(value, bool)
    else:
        fits = isinstance(value, type(None) if kind is None else origin or kind)
    if not fits:
        shown = repr(value)
        told = str(getattr(kind, "__name__", kind)).replace("typing.", "")
        raise UserError(
            f"{where} = {shown if len(shown) <= 80 else shown[:77] + '...'} is not possible: it must be {told}"
        )


def _is_of(value: Any, kind: Any) -> bool:
    try:
        refuse_other_types(value, kind, "")
    except UserError:
        return False
    return True
