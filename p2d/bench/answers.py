"""Cases with their right answers: what an equation of some snapshots ought to be, and how well one does."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2d.bench.scenes import Scene
from p2d.config import DiscoverConfig
from p2d.discovery.library import choose_library
from p2d.fields import Grid, Operator
from p2d.systems import expressions
from p2d.systems.system import System
from p2d.systems.terms import Terms

# Of a species' rate, by root mean square on the snapshots. Of values that are scaled and shifted, terms that are
# smaller than the second may be left out of an equation or be in it; those smaller than the first are rounding.
NOTHING, SMALL = 1e-6, 1e-2
Settings = dict[str, Any]  # of p2d.discover
# What a user who knows what a system may hold asks for, of those that the usual library is too small for.
LIBRARIES: dict[str, Settings] = {
    "kuramoto_sivashinsky": {"order": 4, "also": ("gradients",)},
    "swift_hohenberg": {"order": 4},
    "cahn_hilliard": {"terms": "1, c, c**2, c**3, lap(c), lap(c**2), lap(c**3), lap(lap(c))"},
    "klausmeier": {"also": ("derivatives",)},
    "gierer_meinhardt": {"terms": "1, a, h, a**2, a*h, h**2, a**2/h, lap(a), lap(h)"},
}


@dataclass(frozen=True, eq=False)
class Judged:
    """Clean snapshots that a velocity is judged on, and the true one at them.

    Attributes:
        states, rates: float64 [M, C, H, W].
        grid: of these.
        cells: where the rates are known, bool [H, W].
    """

    states: np.ndarray
    rates: np.ndarray
    grid: Grid
    cells: np.ndarray

    @classmethod
    def of(cls, states: np.ndarray, rates: np.ndarray, grid: Grid, margin: int = 0) -> Judged:
        """Of all cells but those within a margin of the edges."""
        cells = np.zeros(grid.shape, bool)
        inner = slice(margin, -margin or None)
        cells[inner, inner] = True
        return cls(states, rates, grid, cells)

    def cosine(self, system: System, operator: Operator) -> float:
        """Of the rates of a system with the true ones, all cells and species pooled; 0 where it has none."""
        own = system.rate(self.states, self.grid, operator)[..., self.cells]
        true = self.rates[..., self.cells]
        size = float(np.sqrt((own**2).sum() * (true**2).sum()))
        return float((own * true).sum()) / size if np.isfinite(size) and size else 0.0


@dataclass(frozen=True, eq=False)
class Truth:
    """The right answer to a case.

    Attributes:
        terms: of the true equation in the units of the snapshots, with coefficients of nan where two systems differ;
            None where no equation in the library is right.
        small: those of them that an equation may do without.
        judged: what the velocity may be judged on, as seen or as it was before optics; empty of what stands still.
        knowable: whether a perfect method could know the velocity from such snapshots, given as they are.
        terms_knowable: the same of the terms.
    """

    terms: Terms | None
    small: dict[str, set[str]]
    judged: tuple[Judged, ...]
    knowable: bool = True
    terms_knowable: bool = True

    def cosine(self, system: System, operator: Operator, *, directed: bool = True) -> float:
        """Of an equation with the true velocity; its size where the direction of time is said not to be known."""
        own = [one.cosine(system, operator) for one in self.judged]
        return max((own if directed else map(abs, own)), default=0.0)

    def has_terms(self, terms: Terms) -> bool:
        """Whether these are the true terms, and there are such."""
        return self.terms is not None and all(
            set(own) - self.small[s] == set(self.terms[s]) - self.small[s] and set(own) <= set(self.terms[s])
            for s, own in terms.items()
        )


@dataclass(frozen=True, eq=False)
class Case:
    """Snapshots as somebody might hand them in, and the right answer.

    Attributes:
        seed, number: which case this is.
        fault, size: what is wrong with the snapshots, and how much of it; 'none'.
        system: label of what made them.
        states: float32 [N, C, H, W].
        species: their names.
        grid: what is said of it.
        settings: of p2d.discover, beside.
        truth: the right answer.
        scene: what they were made of, the first where there are two.
    """

    seed: int
    number: int
    fault: str
    size: str
    system: str
    states: np.ndarray
    species: tuple[str, ...]
    grid: Grid
    settings: Settings
    truth: Truth
    scene: Scene

    @property
    def arguments(self) -> Settings:
        """All of p2d.discover beside the snapshots."""
        return {"species": self.species, "spacing": self.grid.spacing, "edges": self.grid.edges, **self.settings}

    @property
    def library(self) -> tuple[str, ...]:
        """Terms that an equation may consist of."""
        return library_of(self.settings, self.species, self.grid)


def library_of(settings: Settings, species: tuple[str, ...], grid: Grid) -> tuple[str, ...]:
    """Terms of the library that these settings ask for."""
    return choose_library(DiscoverConfig(**settings), species, grid).terms


def true_terms(
    system: System, library: tuple[str, ...], states: np.ndarray, grid: Grid, *, changed: bool = False
) -> tuple[Terms | None, dict[str, set[str]]]:
    """The terms of a system and those an equation may do without; None where the library does not hold the others.

    Args:
        states: some of the snapshots, float64 [M, C, H, W].
        changed: whether the values are scaled or shifted ones, of which terms may be small.
    """
    kept: Terms = {s: dict(own) for s, own in system.terms.items()}
    small: dict[str, set[str]] = {s: set() for s in kept}
    if changed:
        rates = system.rate(states, grid)
        for n, (s, own) in enumerate(system.terms.items()):
            whole = np.sqrt((rates[:, n] ** 2).mean())
            for term, coefficient in own.items():
                alone = System.of_terms("term", {key: {term: coefficient} if key == s else {} for key in kept})
                size = np.sqrt((alone.rate(states, grid)[:, n] ** 2).mean()) / whole
                if size < NOTHING:
                    del kept[s][term]
                elif size < SMALL:
                    small[s].add(term)
    needed = {term for s, own in kept.items() for term in own if term not in small[s]}
    return (kept if needed <= set(library) else None), small


def rescaled(system: System, scale: np.ndarray, shift: np.ndarray) -> System:
    """The system of values x = (c - shift) / scale of a system's values c."""
    by = {s: f"({float(a)!r}*{s} + ({float(b)!r}))" for s, a, b in zip(system.species, scale, shift, strict=True)}
    rates = {
        s: f"({_replaced(system.folded[s], by)})/({float(a)!r})" for s, a in zip(system.species, scale, strict=True)
    }
    return System(system.name, rates)


def renamed(system: System, names: tuple[str, ...]) -> System:
    """A system whose species are called these, each in the place of its own name in `system.species`."""
    by = dict(zip(system.species, names, strict=True))
    rates = {by[s]: _replaced(system.folded[s], by) for s in system.species}
    return System(system.name, {s: rates[s] for s in sorted(rates, key=system.species.index)})


def _replaced(tree: ast.expr, by: dict[str, str]) -> str:
    """An expression with texts in the place of species; directions of slopes stay."""

    def of(node: ast.expr) -> ast.expr:
        match node:
            case ast.Name(id=name) if name in by:
                return ast.parse(by[name], mode="eval").body
            case ast.UnaryOp(op=op):
                return ast.UnaryOp(op, of(node.operand))
            case ast.BinOp(op=op):
                return ast.BinOp(of(node.left), op, of(node.right))
            case ast.Call(func=func, args=args):
                count = len(expressions.operands(node))
                return ast.Call(func, [*map(of, args[:count]), *args[count:]], [])
        return node

    return ast.unparse(of(tree))


def in_double(rate: Callable[[np.ndarray], np.ndarray], states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States and their rates in float64."""
    states = states.astype(np.float64)
    return states, rate(states)
