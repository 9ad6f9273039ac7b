"""What every reader makes of files: a stack of snapshots that can be read a stretch at a time, anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from p2d.fields import Edge


@dataclass(frozen=True)
class Asked:
    """What a user says of files, where they do not say it themselves.

    Attributes:
        axes: a letter for each axis of an array: N snapshots, R runs, T frames of a run, C species, H (or Y) rows, W
            (or X) columns; such as 'NCHW'. '': told from the shape.
        arrays: names of the arrays in a file that holds several, one for all species or one for each.
        species: their names; empty: told by the file, or u and v.
        channels: of pictures with colours, which are species: 'r', 'g', 'b', 'a', 'gray', or numbers from 0 on.
        trajectories, times: which runs, and which frames of each, as 'start:stop:step' from 0 on; '': all.
    """

    axes: str = ""
    arrays: tuple[str, ...] = ()
    species: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    trajectories: str = ""
    times: str = ""


@dataclass(frozen=True)
class About:
    """What files say of their snapshots; what they do not say is empty.

    Attributes:
        species: names, C of them.
        spacing: from cell to cell, in `unit`; 0 where it is not known.
        unit: of length.
        edges: of the rows' axis (y) and of the columns' (x).
        time_unit: of the times.
        conditions: what is known of how the snapshots were made, by name.
        bits: of each value as stored, where they are whole numbers; 0 of others.
        lossy: whether the format keeps values approximately, as JPEG and most films do.
        notes: sentences for the user: what was assumed, skipped or could not be read from metadata.
    """

    species: tuple[str, ...] = ()
    spacing: float = 0.0
    unit: str = ""
    edges: tuple[Edge, Edge] | None = None
    time_unit: str = ""
    conditions: dict[str, float] = field(default_factory=dict)
    bits: int = 0
    lossy: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Stack(ABC):
    """N snapshots of C species, all of one size, in one file or several. Pickled, it holds places and no values.

    Attributes:
        count: N.
        shape: of a snapshot, [C, H, W]; H is 1 in one dimension.
        dtype: of the values as stored.
        about: what the files say.
        runs: which snapshots are of one run, int [N], from 0 on in this stack; None: each is of its own.
        times: when each was taken, float [N], nan where it is not known; None: not known.
    """

    count: int
    shape: tuple[int, int, int]
    dtype: str
    about: About = field(default_factory=About)
    runs: np.ndarray | None = None
    times: np.ndarray | None = None

    @abstractmethod
    def read(self, first: int, last: int) -> np.ndarray:
        """Snapshots [last - first, C, H, W] as they are stored, native byte order; memory as much as they take.

        Raises:
            UserError: a file that cannot be read, is cut, or is no longer what it was (names it).
        """

    @abstractmethod
    def name_of(self, row: int) -> str:
        """Where a snapshot is, for the user: 'plates/a3.tif, page 7', 'run.h5: t0_fields/A[3, 12]'."""

    @property
    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """Paths of all files that it reads, in order."""
