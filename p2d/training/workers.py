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

    def first_message(self, message: str | None) -> str | None:
        """The message of the first of the workers that has one, on all of them; None when none has."""
        if self.size == 1:
            return message
        messages: list[str | None] = [None] * self.size
        distributed.all_gather_object(messages, message)
        return next((text for text in messages if text is not None), None)
