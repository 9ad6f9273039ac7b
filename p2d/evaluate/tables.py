"""Tables as text: columns two spaces apart, under a head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_text(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The head and the rows, a line each; short rows end early."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines if n < len(line)) for n in range(len(head))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)).rstrip() for line in lines
    )
