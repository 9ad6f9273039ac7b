"""What foreign readers raise, as one line that names the file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2d.errors import UserError, one_line, unwritable


@contextmanager
def reading(file: Path | str) -> Iterator[None]:
    """While the block reads a file, whatever its reader raises is a UserError that names it.

    Foreign readers raise anything on damaged files: of struct, zlib, XML and indices as of their own.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}") from error
    except Exception as error:
        if unwritable(error):  # the disk or the store fails: nothing says that the file is damaged
            raise UserError(f"{file} cannot be read: {unwritable(error)}") from error
        raise UserError(f"{file} cannot be read, it is damaged, cut, or of another kind ({one_line(error)})") from error


def optional(package: str, what: str) -> Any:
    """An optional package.

    Args:
        what: it is needed for, such as 'films'.

    Raises:
        UserError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f'{what} need the package {package}: pip install "p2d[data]"') from error
