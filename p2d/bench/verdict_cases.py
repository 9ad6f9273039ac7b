"""A seeded deal of cases over the catalogue: systems, parameters, sizes, numbers of snapshots, and faults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2d.bench.answers import Case
from p2d.bench.faults import DECK, FAULTS, make_case
from p2d.errors import refuse_unknown


def dealt(seed: int, number: int) -> tuple[str, str]:
    """Fault and size of a case: decks that hold each are shuffled and dealt one after the other."""
    deck, place = divmod(number, len(DECK))
    shuffled = np.random.Generator(np.random.Philox(key=np.array([seed, deck], np.uint64), counter=1))
    return DECK[int(shuffled.permutation(len(DECK))[place])]


def numbers(seed: int, count: int, fault: str = "") -> list[int]:
    """Numbers of the first `count` cases, of one fault when it is named.

    Raises:
        UserError: no such fault.
    """
    if fault:
        refuse_unknown("fault", fault, tuple(FAULTS))
    chosen: list[int] = []
    number = 0
    while len(chosen) < count:
        if not fault or dealt(seed, number)[0] == fault:
            chosen.append(number)
        number += 1
    return chosen


def case_of(seed: int, number: int) -> Case:
    """One case, the same whichever others are made.

    Raises:
        UserError: no parameters were found for it.
    """
    return make_case(seed, number, *dealt(seed, number))


def cases(seed: int, count: int, fault: str = "") -> Iterator[Case]:
    """The first cases of a seed, made one after the other; those of one fault when it is named."""
    for number in numbers(seed, count, fault):
        yield case_of(seed, number)
