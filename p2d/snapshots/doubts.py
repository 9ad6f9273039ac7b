"""What speaks against what snapshots seem to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Doubt:
    """What is seen, what it does to the answer, and what would decide.

    Attributes:
        kind: such as "rounded".
        text: one sentence.
    """

    kind: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"kind": self.kind, "text": self.text}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Doubt:
        """The doubt of these JSON types."""
        return cls(**values)
