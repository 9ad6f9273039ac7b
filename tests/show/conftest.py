"""Figures are looked at as matplotlib holds them: to turn one into pixels takes a second, and is done once a kind."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that are saved from here on; their files are empty."""
    made: list[Figure] = []

    def save(figure: Figure, path: Path, **_) -> None:
        Path(path).touch()
        made.append(figure)

    monkeypatch.setattr(Figure, "savefig", save)
    return made
