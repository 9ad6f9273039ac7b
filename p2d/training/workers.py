"""This process among those that train together: its share of a batch, and sums over all. The one place for ranks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, distributed


@dataclass(frozen=True)
class Workers:
    """Rank of this process, and how many there are."""

    rank: int = 0
    size: int = 1

    def share(self, items: Tensor) -> Tensor:
        """This worker's part of a global batch: every size-th item."""
        return items[self.rank :: self.size]

    def total(self, sums: Tensor) -> Tensor:
        """Sums over all workers, detached."""
        sums = sums.detach().clone()
        if self.size > 1:
            distributed.all_reduce(sums)
        return sums
