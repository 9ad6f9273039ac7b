"""Results as JSON files: what they all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from p2d.errors import UNREADABLE, UserError, one_line
from p2d.places import place
from p2d.runs import read_json, write_json

Json = dict[str, Any]  # of JSON types alone


class Stored:
    """A result that is kept as a JSON file."""

    def to_dict(self) -> Json:
        """As JSON types."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """The result of these JSON types."""
        raise NotImplementedError

    def save(self, file: str | Path) -> None:
        """Write it as JSON."""
        write_json(place(file), self.to_dict())

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read it from its JSON.

        Raises:
            UserError: a file that is damaged.
        """
        try:
            return cls.from_dict(read_json(place(file)))
        except UNREADABLE as error:
            raise UserError(f"{file} is damaged ({one_line(error)}); remove it, and run what made it again") from error
