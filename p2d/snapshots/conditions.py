"""Known conditions that snapshots were made under, such as a feed rate: by sample, as long as there are stretches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.errors import UserError, nearest
from p2d.systems import expressions

if TYPE_CHECKING:
    from p2d.snapshots.store import Dataset
    from p2d.systems.system import System

MOST = 256  # different conditions; of more, combine those that are alike
PARTS = (3, 2, 1)  # that the values of one condition, two, and more are parted in, at most, to look at rates in each


@dataclass(frozen=True, eq=False)
class Conditions:
    """Q known conditions of an ensemble's samples, which go on for stretches of successive ids.

    Attributes:
        names: of the conditions.
        starts: the first sample id of each of S stretches, rising, [S].
        values: of each stretch, [S, Q].
    """

    names: tuple[str, ...]
    starts: np.ndarray
    values: np.ndarray

    @classmethod
    def of_samples(cls, names: Sequence[str], sample_ids: np.ndarray, values: np.ndarray) -> Conditions:
        """Those of samples of rising ids [N], values [N, Q].

        Raises:
            UserError: one of them has a single value, or there are too many.
        """
        first = np.flatnonzero(np.r_[True, (values[1:] != values[:-1]).any(axis=1)])
        made = cls(tuple(names), sample_ids[first], values[first])
        made._refuse()
        return made

    @classmethod
    def of_arrays(
        cls, given: Mapping[str, Any], sample_ids: np.ndarray, count: int, taken: Sequence[str]
    ) -> Conditions:
        """Those of an array of so many snapshots, by name, each [count]; of the samples at these places.

        Args:
            taken: names of species.

        Raises:
            UserError: another length, a value that is not finite, or a name that cannot stand in an equation.
        """
        columns = []
        for name, values in given.items():
            refuse_condition_name(name, taken)
            column = np.asarray(values)
            if column.shape != (count,) or column.dtype.kind not in "fiu":
                raise UserError(
                    f"condition {name!r} is {column.dtype} {list(column.shape)}; it must be {count} numbers, one for "
                    "each snapshot"
                )
            if not np.isfinite(column[sample_ids]).all():
                place = sample_ids[~np.isfinite(column[sample_ids])][0]
                raise UserError(f"condition {name!r} of snapshot {place} is {column[place]}; leave it out, or say it")
            columns.append(column[sample_ids].astype(np.float64))
        return cls.of_samples(tuple(given), sample_ids, np.stack(columns, axis=1))

    @classmethod
    def of_dataset(cls, dataset: Dataset, names: Sequence[str], sample_ids: np.ndarray) -> Conditions:
        """Those that a dataset's card says of these samples.

        Raises:
            UserError: a name that no sample has a value of (says the nearest), or samples without one.
        """
        known, where = dataset.card.conditions, dataset.folder
        every = sorted({name for own in known.values() for name in own})
        for name in names:
            refuse_condition_name(name, dataset.card.names)
            if name not in every:
                told = f"known: {', '.join(every)}" if every else "none is known; p2d import --condition says them"
                raise UserError(f"{where} has no condition {name!r}{nearest(name, every)}; {told}")
        kinds = dataset.shards.kinds_of(sample_ids)
        labels = [kind.system for kind in dataset.shards.kinds]
        for kind in np.unique(kinds):
            lacking = [name for name in names if name not in known.get(labels[kind], {})]
            if lacking:
                raise UserError(
                    f"{where}: the {int((kinds == kind).sum())} samples labelled {labels[kind]!r} have no "
                    f"{' and no '.join(lacking)}; say it, or leave them out"
                )
        table = np.array([[known.get(label, {}).get(name, np.nan) for name in names] for label in labels])
        return cls.of_samples(names, sample_ids, table.reshape(len(labels), -1)[kinds])

    def _refuse(self) -> None:
        for name, column in zip(self.names, self.values.T, strict=True):
            if np.ptp(column) == 0:
                raise UserError(
                    f"{name} = {column[0]:g} in all snapshots: what it turns shows at several values; take two or more"
                )
        if len(self.distinct) > MOST:
            raise UserError(
                f"{len(self.distinct)} different values of {' and '.join(self.names)} are too many, at most {MOST}; "
                "give those that are nearly alike one value"
            )
        centred = self.distinct - self.distinct.mean(axis=0)
        if np.linalg.matrix_rank(centred / np.ptp(self.distinct, axis=0)) < len(self.names):
            raise UserError(
                f"{' and '.join(self.names)} change together in all snapshots: which of them turns a term cannot be "
                "told; name one, or add snapshots in which they differ"
            )

    @cached_property
    def distinct(self) -> np.ndarray:
        """The different ones, [K, Q], in rising order."""
        return np.unique(self.values, axis=0)

    @cached_property
    def centre(self) -> np.ndarray:
        """In the middle of their ranges, [Q]."""
        return (self.distinct.min(axis=0) + self.distinct.max(axis=0)) / 2

    @property
    def known(self) -> dict[str, tuple[float, ...]]:
        """The different values of each, by name."""
        return {name: tuple(np.unique(own).tolist()) for name, own in zip(self.names, self.distinct.T, strict=True)}

    def where(self, sample_ids: np.ndarray) -> str:
        """The conditions of these samples in words: 'F = 0.014, k = 0.05', 'F = 0.014 to 0.016'."""
        ends = zip(self.names, self.of(sample_ids).min(axis=0), self.of(sample_ids).max(axis=0), strict=True)
        return ", ".join(f"{name} = {low:g}" + (f" to {high:g}" if high > low else "") for name, low, high in ends)

    def of(self, sample_ids: np.ndarray) -> np.ndarray:
        """Of these samples, [N, Q]."""
        return self.values[np.searchsorted(self.starts, sample_ids, side="right") - 1]

    def strata(self, sample_ids: np.ndarray) -> np.ndarray:
        """Which of the different ones each of these samples is made under, [N]."""
        return self._place[np.searchsorted(self.starts, sample_ids, side="right") - 1]

    def parts(self, sample_ids: np.ndarray) -> np.ndarray:
        """Which part of the conditions each of these samples is in, [N]: each different one, or neighbouring ones.

        The values of each condition are parted in stretches, where it has more.
        """
        most = PARTS[min(len(self.names), len(PARTS)) - 1]
        code = np.zeros(len(self.distinct), np.int64)
        for own in self.distinct.T:
            values, place = np.unique(own, return_inverse=True)
            count = min(len(values), most)
            code = code * most + (np.arange(len(values)) * count // len(values))[place]
        return np.unique(code, return_inverse=True)[1][self.strata(sample_ids)]

    def at(self, system: System, sample_id: int) -> System:
        """A system that has the conditions among its parameters, with those of a sample."""
        values = tuple(self.of(np.array([sample_id]))[0].tolist())
        return _at(_Same(system), self.names, values)

    @cached_property
    def _place(self) -> np.ndarray:
        return np.unique(self.values, axis=0, return_inverse=True)[1].reshape(-1)


class _Same:
    """A system that is the same as another where it is the same object: to be remembered by."""

    def __init__(self, system: System) -> None:
        self.system = system

    def __hash__(self) -> int:
        return id(self.system)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.system is other.system


@lru_cache(maxsize=MOST)
def _at(same: _Same, names: tuple[str, ...], values: tuple[float, ...]) -> System:
    return same.system.at("", **dict(zip(names, values, strict=True)))


def nearest_label(known: Mapping[str, Mapping[str, float]], wanted: Mapping[str, float]) -> str:
    """The label whose conditions are nearest to these, each over the range of all labels.

    Raises:
        UserError: no label has all of these.
    """
    having = {label: own for label, own in known.items() if wanted.keys() <= own.keys()}
    if not having:
        raise UserError(f"no snapshots of a known {' and '.join(wanted)} are there; name a dataset that has some")
    table = np.array([[own[name] for name in wanted] for own in having.values()])
    ranges = np.ptp(table, axis=0)
    off = (table - np.array(list(wanted.values()))) / np.where(ranges > 0, ranges, 1.0)
    return list(having)[int((off**2).sum(axis=1).argmin())]


def refuse_condition_name(name: str, taken: Sequence[str]) -> None:
    """Refuse the name of a condition that cannot stand in an equation, or is that of a species."""
    expressions.refuse_name(name, "condition")
    if name in taken:
        raise UserError(f"condition {name!r} has the name of a species; call it otherwise")
