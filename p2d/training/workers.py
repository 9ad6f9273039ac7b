"""This process among those that train together: its share of a batch, and sums over all. The one place for ranks."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, distributed


@dataclass(frozen=True)
class Workers:
    """Rank of this process, and how many there are.

    Attributes:
        node: the number of this machine among theirs.
        local_rank, local_size: rank and number of those on this machine.
    """

    rank: int = 0
    size: int = 1
    node: int = 0
    local_rank: int = 0
    local_size: int = 1

    def share(self, items: Tensor) -> Tensor:
        """This worker's part of a global batch: every size-th item."""
        return items[self.rank :: self.size]

    def total(self, sums: Tensor) -> Tensor:
        """Sums over all workers, detached."""
        sums = sums.detach().clone()
        if self.size > 1:
            distributed.all_reduce(sums)
        return sums

    def gathered(self, value: Any) -> list[Any]:
        """What each worker gives, in the order of ranks; all wait for each other."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def file_of_node(self, size: int) -> Path:
        """A new file of so many bytes that the workers of this machine share; each machine has its own."""
        file = None
        if self.local_rank == 0:
            number, file = tempfile.mkstemp(prefix="p2d-")
            os.posix_fallocate(number, 0, size)  # a full disk is told of here, and not as memory that is missing
            os.close(number)
        return next(Path(path) for node, path in self.gathered((self.node, file)) if node == self.node and path)
