"""From the text of a system's rates to the arithmetic of one Euler step at a cell, which kernels.py writes as source.

An operator needs the neighbours of its argument. Those of a species are there; of anything else, such as lap(u) in
lap(lap(u)), a pass over all cells makes a field first. Equal expressions are worked out once. What is made of
parameters and numbers alone is folded in float64 and rounded once. Products associate from the left.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from p2d.fields import Operator
from p2d.systems import expressions

# Names of what the spacing h makes, beside those of parameters: a user's names begin with a letter.
LAP_SCALE, GRAD_SCALE, SLOPE_SCALE, STEP = "_lap", "_grad", "_slope", "_dt"
Offset = tuple[int, int]
EDGES = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
ARITHMETIC = ("add", "sub", "mul", "div", "neg", "call", "power")


@dataclass(frozen=True)
class Op:
    """One step of arithmetic: its kind, and the places of what it is made of or what it reads."""

    kind: str  # load (field, row, column), constant (number), or one of ARITHMETIC
    arguments: tuple[int | str, ...]


@dataclass
class Pass:
    """What is worked out at each cell before the next pass may begin: fields, and where they go.

    Attributes:
        ops: in order; arguments are places in this list.
        results: the place of each field that is made, by its number.
    """

    ops: list[Op] = field(default_factory=list)
    results: dict[int, int] = field(default_factory=dict)

    def place(self, kind: str, *arguments: int | str) -> int:
        """The place of an operation, a new one if there is none alike."""
        op = Op(kind, arguments)
        if op in self.ops:
            return self.ops.index(op)
        self.ops.append(op)
        return len(self.ops) - 1

    def chain(self, kind: str, places: Sequence[int]) -> int:
        """The place of a sum or a product of these, from the left."""
        return functools.reduce(lambda left, right: self.place(kind, left, right), places)

    def uses(self) -> Counter[int | str]:
        """How often each operation's value is used."""
        arguments = (op.arguments for op in self.ops if op.kind in ARITHMETIC)
        return Counter(itertools.chain(*arguments, self.results.values()))


@dataclass
class Program:
    """One step of a system: passes, the last of which makes the rates; and the constants that they need.

    Attributes:
        species: how many; fields 0 to species - 1 are theirs, the others are made by passes.
        passes: in order; the last one's results are the rates, by the number of the species.
        constants: expressions of parameters, and of LAP_SCALE and its like.
    """

    species: int
    passes: list[Pass]
    constants: list[ast.expr]

    @property
    def fields(self) -> int:
        """How many fields have neighbours: species, and what passes make for others."""
        return self.species + sum(len(each.results) for each in self.passes[:-1])

    @property
    def operations(self) -> int:
        """Additions, multiplications and so on of a rate and of the Euler step, a cell."""
        return sum(op.kind in ARITHMETIC for each in self.passes for op in each.ops) + 2 * self.species

    def values(self, parameters: dict[str, float], spacing: float, operator: Operator, dt: float) -> np.ndarray:
        """The constants, float32 [K + 1]; the last is the step."""
        nine = 6 if operator == "9-point" else 1
        known = {
            **parameters,
            LAP_SCALE: 1 / (nine * spacing**2),
            GRAD_SCALE: 1 / (2 * nine * spacing**2),
            SLOPE_SCALE: 1 / (2 * spacing),
        }
        return np.array([expressions.number(node, known) for node in self.constants] + [dt], np.float32)


def lower(
    rates: dict[str, str], parameters: dict[str, float], operator: Operator = "5-point", flat: bool = False
) -> Program:
    """The program of a system.

    Args:
        rates: text by species.
        parameters: their names, and the values of those that are exponents.
        operator: 5-point or 9-point.
        flat: one dimension, of a single row.
    """
    trees = [expressions.parse(text, rates, parameters) for text in rates.values()]
    lowering = _Lowering(tuple(rates), parameters, operator, flat)
    for tree in trees:
        lowering.level(tree)
    passes = [lowering.sweep(level) for level in [*filter(None, lowering.levels), dict(enumerate(trees))]]
    return Program(len(trees), passes, lowering.constants)


@dataclass
class _Lowering:
    species: tuple[str, ...]
    parameters: dict[str, float]
    operator: Operator
    flat: bool
    constants: list[ast.expr] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)  # numbers of fields that passes make, by their expression
    levels: list[dict[int, ast.expr]] = field(default_factory=list)  # what each pass but the last makes

    def level(self, node: ast.expr) -> int:
        """In which pass an expression can be worked out, from 0; fields that it needs are numbered on the way."""
        parts = expressions.parts(node)
        if expressions.function(node) not in expressions.OPERATORS:
            return max(map(self.level, parts), default=0)
        level = 0
        for argument in parts:
            if isinstance(argument, ast.Name):
                continue
            inner = self.level(argument)
            level = max(level, inner + 1)
            key = ast.dump(argument)
            if key not in self.made:
                self.made[key] = len(self.species) + len(self.made)
                self.levels += [{} for _ in range(inner + 1 - len(self.levels))]
                self.levels[inner][self.made[key]] = argument
        return level

    def sweep(self, results: dict[int, ast.expr]) -> Pass:
        """The pass that makes these fields, by number."""
        into = Pass()
        into.results |= {number: self._emit(tree, into) for number, tree in results.items()}
        return into

    def _field(self, node: ast.expr) -> int:
        return self.species.index(node.id) if isinstance(node, ast.Name) else self.made[ast.dump(node)]

    def _is_constant(self, node: ast.expr) -> bool:
        return not expressions.fields_in(node, self.species)

    def _constant(self, node: ast.expr | int, into: Pass) -> int:
        node = ast.Constant(node) if isinstance(node, int) else node
        keys = [ast.dump(known) for known in self.constants]
        if ast.dump(node) not in keys:
            self.constants.append(node)
            keys.append(ast.dump(node))
        return into.place("constant", keys.index(ast.dump(node)))

    def _emit(self, node: ast.expr, into: Pass) -> int:
        """The place of an expression's value."""
        if self._is_constant(node):
            return self._constant(node, into)
        match node:
            case ast.Name():
                return into.place("load", self._field(node), 0, 0)
            case ast.UnaryOp(op=op):
                inner = self._emit(node.operand, into)
                return inner if isinstance(op, ast.UAdd) else into.place("neg", inner)
            case ast.BinOp(op=ast.Add() | ast.Sub() as op):
                kind = "add" if isinstance(op, ast.Add) else "sub"
                return into.place(kind, self._emit(node.left, into), self._emit(node.right, into))
            case ast.BinOp(op=ast.Pow()) if self._whole_exponent(node.right) is None:
                return into.place("power", self._emit(node.left, into), self._constant(node.right, into))
            case ast.Call() if (name := expressions.function(node)) in expressions.SMOOTH:
                return into.place("call", name, self._emit(node.args[0], into))
        return self._product(node, into)

    def _product(self, node: ast.expr, into: Pass) -> int:
        """A product or quotient: what is constant in front, folded, then the factors from the left, then divisors."""
        factors = list(self._factors(node, into))
        constants = [
            ast.BinOp(ast.Constant(1), ast.Div(), part) if inverse else part
            for part, inverse in factors
            if isinstance(part, ast.expr)
        ]
        above, below = (
            [part for part, inverse in factors if isinstance(part, int) and inverse == divides]
            for divides in (False, True)
        )
        if constants:
            folded = functools.reduce(lambda left, right: ast.BinOp(left, ast.Mult(), right), constants)
            above.insert(0, self._constant(folded, into))
        value = into.chain("mul", above or [self._constant(1, into)])
        return into.place("div", value, into.chain("mul", below)) if below else value

    def _factors(self, node: ast.expr, into: Pass, inverse: bool = False) -> Iterator[tuple[ast.expr | int, bool]]:
        """What a product is made of, constants as expressions and the rest as places; and whether each divides."""
        match node:
            case _ if self._is_constant(node):
                yield node, inverse
            case ast.BinOp(op=ast.Mult() | ast.Div() as op):
                yield from self._factors(node.left, into, inverse)
                yield from self._factors(node.right, into, inverse ^ isinstance(op, ast.Div))
            case ast.BinOp(op=ast.Pow()) if (power := self._whole_exponent(node.right)) is not None:
                for _ in range(abs(power)):
                    yield from self._factors(node.left, into, inverse ^ (power < 0))
            case ast.Call() if expressions.function(node) in expressions.OPERATORS:
                scale, value = self._operator(node, into)
                yield from ((ast.Name(scale), inverse), (value, inverse))
            case _:
                yield self._emit(node, into), inverse

    def _whole_exponent(self, node: ast.expr) -> int | None:
        """An exponent that is a whole number, with the parameters' values; those are part of the kernel."""
        power = expressions.number(node, self.parameters)
        return int(power) if power.is_integer() and abs(power) <= expressions.HIGHEST else None

    def _operator(self, node: ast.Call, into: Pass) -> tuple[str, int]:
        """The scale and the value, before it is scaled, of an operator."""
        first = self._field(node.args[0])
        name, along = expressions.function(node), ast.unparse(node.args[-1])
        if name == "lap":
            return LAP_SCALE, self._laplacian(first, into)
        if name == "grad":
            return GRAD_SCALE, self._gradients(first, self._field(node.args[1]), into)
        if along == "y" and self.flat:
            return SLOPE_SCALE, self._constant(0, into)
        ahead, behind = ((0, 1), (0, -1)) if along == "x" else ((1, 0), (-1, 0))
        return SLOPE_SCALE, into.place("sub", into.place("load", first, *ahead), into.place("load", first, *behind))

    def _laplacian(self, number: int, into: Pass) -> int:
        centre = into.place("load", number, 0, 0)
        total = self._stencil(lambda by: into.place("load", number, *by), into)
        weight = {"5-point": 2 if self.flat else 4, "9-point": 12 if self.flat else 20}[self.operator]
        return into.place("sub", total, into.place("mul", self._constant(weight, into), centre))

    def _gradients(self, first: int, second: int, into: Pass) -> int:
        """Sum over the stencil of w (f' - f)(g' - g), which is lap(f g) - f lap g - g lap f."""

        def product(by: Offset) -> int:
            f, g = (into.place("sub", into.place("load", n, *by), into.place("load", n, 0, 0)) for n in (first, second))
            return into.place("mul", f, g)

        return self._stencil(product, into)

    def _stencil(self, of: Callable[[Offset], int], into: Pass) -> int:
        """The sum of something of each neighbour, with the stencil's whole weights."""
        edges = into.chain("add", [of(by) for by in (EDGES[2:] if self.flat else EDGES)])
        if self.operator == "5-point":
            return edges
        edges = into.place("mul", self._constant(6 if self.flat else 4, into), edges)
        return edges if self.flat else into.place("add", edges, into.chain("add", [of(by) for by in CORNERS]))
