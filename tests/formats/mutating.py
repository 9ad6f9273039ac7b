"""Files cut and altered: a reader gives what is in them, or a UserError of one line; never anything else."""

import random

from p2d.errors import UserError
from p2d.formats.stack import Asked


def read_all(file, opened, asked=Asked()):  # noqa: B008
    """The values of the one stack of a file; None of one that is refused."""
    try:
        (stack,) = opened([file], asked)
        return stack.read(0, stack.count)
    except UserError as error:
        assert "\n" not in str(error) and str(file.name) in str(error)
        return None


def cuts(file, opened, at=40, asked=Asked()):  # noqa: B008
    """What is read of a file cut at so many places, in a copy beside it."""
    data, copy = file.read_bytes(), file.with_name(f"cut{file.suffix}")
    for end in range(0, len(data) - 1, max(1, len(data) // at)):
        copy.write_bytes(data[:end])
        yield read_all(copy, opened, asked)


def altered(file, opened, times=60, asked=Asked()):  # noqa: B008
    """What is read of a file with one byte changed, half of them in its first 200 bytes."""
    data, copy, drawn = file.read_bytes(), file.with_name(f"altered{file.suffix}"), random.Random(0)
    for n in range(times):
        changed = bytearray(data)
        changed[drawn.randrange(min(len(data), 200) if n % 2 else len(data))] ^= 1 << drawn.randrange(8)
        copy.write_bytes(changed)
        yield read_all(copy, opened, asked)
