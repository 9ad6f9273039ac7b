"""From the text of a system's rates to the arithmetic of one Euler step at a cell, which kernels.py writes as source.

An operator needs the neighbours of its argument. Those of a species are there; of anything else, such as lap(u) in
lap(lap(u)), a pass over all cells makes a field first. Equal expressions are worked out once. What is made of
parameters and numbers alone is folded in float64 and rounded once. Products associate from the left.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import numpy as np

from p2d.fields import Operator
from p2d.systems import expressions

# Names of what the spacing h makes, beside those of parameters: a user's names begin with a letter.
LAP_SCALE, GRAD_SCALE, SLOPE_SCALE, STEP = "_lap", "_grad", "_slope", "_dt"
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

    def uses(self) -> list[int]:
        """How often each operation's value is used."""
        count = [0] * len(self.ops)
        for op in self.ops:
            for argument in op.arguments if op.kind in ARITHMETIC else ():
                if isinstance(argument, int):
                    count[argument] += 1
        for place in self.results.values():
            count[place] += 1
        return count


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
    return _Lowering(rates, parameters, operator, flat).program()


class _Lowering:
    def __init__(self, rates: dict[str, str], parameters: dict[str, float], operator: Operator, flat: bool) -> None:
        self.species, self.parameters = tuple(rates), parameters
        self.operator, self.flat = operator, flat
        self.trees = [expressions.parse(text, rates, parameters) for text in rates.values()]
        self.constants: list[ast.expr] = []
        self.made: dict[str, int] = {}  # numbers of fields that passes make, by their expression
        self.levels: list[list[tuple[int, ast.expr]]] = []

    def program(self) -> Program:
        for tree in self.trees:
            self._level(tree)
        passes = [self._pass(dict(level)) for level in self.levels if level]
        passes.append(self._pass(dict(enumerate(self.trees))))
        return Program(len(self.species), passes, self.constants)

    def _level(self, node: ast.expr) -> int:
        """In which pass an expression can be worked out, from 0; fields that it needs are numbered on the way."""
        parts = expressions.parts(node)
        if expressions.function(node) not in expressions.OPERATORS:
            return max(map(self._level, parts), default=0)
        level = 0
        for argument in parts:
            if isinstance(argument, ast.Name):
                continue
            inner = self._level(argument)
            level = max(level, inner + 1)
            key = ast.dump(argument)
            if key not in self.made:
                self.made[key] = len(self.species) + len(self.made)
                self.levels += [[] for _ in range(inner + 1 - len(self.levels))]
                self.levels[inner].append((self.made[key], argument))
        return level

    def _pass(self, results: dict[int, ast.expr]) -> Pass:
        into = Pass()
        for number, tree in results.items():
            into.results[number] = self._emit(tree, into)
        return into

    def _field(self, node: ast.expr) -> int:
        return self.species.index(node.id) if isinstance(node, ast.Name) else self.made[ast.dump(node)]

    def _is_constant(self, node: ast.expr) -> bool:
        return not expressions.fields_in(node, self.species)

    def _constant(self, node: ast.expr, into: Pass) -> int:
        keys = [ast.dump(known) for known in self.constants]
        if ast.dump(node) not in keys:
            self.constants.append(node)
            keys.append(ast.dump(node))
        return into.place("constant", keys.index(ast.dump(node)))

    def _emit(self, node: ast.expr, into: Pass) -> int:
        """The place of an expression's value."""
        if self._is_constant(node):
            return self._constant(node, into)
        if isinstance(node, ast.Name):
            return into.place("load", self._field(node), 0, 0)
        if isinstance(node, ast.UnaryOp):
            inner = self._emit(node.operand, into)
            return inner if isinstance(node.op, ast.UAdd) else into.place("neg", inner)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            kind = "add" if isinstance(node.op, ast.Add) else "sub"
            return into.place(kind, self._emit(node.left, into), self._emit(node.right, into))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            power = self._whole_exponent(node.right)
            if power is None:
                return into.place("power", self._emit(node.left, into), self._constant(node.right, into))
        if isinstance(node, ast.Call) and expressions.function(node) in expressions.SMOOTH:
            return into.place("call", expressions.function(node), self._emit(node.args[0], into))
        return self._product(node, into)

    def _product(self, node: ast.expr, into: Pass) -> int:
        """A product or quotient: what is constant in front, folded, then the factors from the left, then divisors."""
        constants: list[ast.expr] = []
        above: list[int] = []
        below: list[int] = []
        self._factors(node, into, constants, above, below, False)
        if constants:
            folded = constants[0]
            for constant in constants[1:]:
                folded = ast.BinOp(folded, ast.Mult(), constant)
            above.insert(0, self._constant(folded, into))
        elif not above:
            above.append(self._constant(ast.Constant(1), into))
        value = above[0]
        for factor in above[1:]:
            value = into.place("mul", value, factor)
        if below:
            divisor = below[0]
            for factor in below[1:]:
                divisor = into.place("mul", divisor, factor)
            value = into.place("div", value, divisor)
        return value

    def _factors(
        self, node: ast.expr, into: Pass, constants: list[ast.expr], above: list[int], below: list[int], inverse: bool
    ) -> None:
        """Add what a product is made of to these lists; of the inverse, the other way round."""
        place = below if inverse else above
        if self._is_constant(node):
            constants.append(ast.BinOp(ast.Constant(1), ast.Div(), node) if inverse else node)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
            self._factors(node.left, into, constants, above, below, inverse)
            self._factors(node.right, into, constants, above, below, inverse ^ isinstance(node.op, ast.Div))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            power = self._whole_exponent(node.right)
            if power is None:
                place.append(self._emit(node, into))
            else:
                for _ in range(abs(power)):
                    self._factors(node.left, into, constants, above, below, inverse ^ (power < 0))
        elif isinstance(node, ast.Call) and expressions.function(node) in expressions.OPERATORS:
            scale, value = self._operator(node, into)
            scaled: ast.expr = ast.Name(scale)
            constants.append(ast.BinOp(ast.Constant(1), ast.Div(), scaled) if inverse else scaled)
            place.append(value)
        else:
            place.append(self._emit(node, into))

    def _whole_exponent(self, node: ast.expr) -> int | None:
        """An exponent that is a whole number, with the parameters' values; those are part of the kernel."""
        power = expressions.number(node, self.parameters)
        return int(power) if power.is_integer() and abs(power) <= expressions.HIGHEST else None

    def _operator(self, node: ast.Call, into: Pass) -> tuple[str, int]:
        """The scale and the value, before it is scaled, of an operator."""
        first = self._field(node.args[0])
        if expressions.function(node) == "lap":
            return LAP_SCALE, self._laplacian(first, into)
        if expressions.function(node) == "grad":
            return GRAD_SCALE, self._gradients(first, self._field(node.args[1]), into)
        along = node.args[1]
        assert isinstance(along, ast.Name)
        if along.id == "y" and self.flat:
            return SLOPE_SCALE, self._constant(ast.Constant(0), into)
        step = (0, 1) if along.id == "x" else (1, 0)
        ahead, behind = (into.place("load", first, sign * step[0], sign * step[1]) for sign in (1, -1))
        return SLOPE_SCALE, into.place("sub", ahead, behind)

    def _laplacian(self, number: int, into: Pass) -> int:
        def summed(offsets: tuple[tuple[int, int], ...]) -> int:
            return _sum([into.place("load", number, *by) for by in offsets], into)

        centre = into.place("load", number, 0, 0)
        total, weight = summed(EDGES[2:] if self.flat else EDGES), 2 if self.flat else 4
        if self.operator == "9-point" and not self.flat:
            weight = 20
            total = into.place("add", into.place("mul", self._number(4, into), total), summed(CORNERS))
        elif self.operator == "9-point":
            total, weight = into.place("mul", self._number(6, into), total), 12
        return into.place("sub", total, into.place("mul", self._number(weight, into), centre))

    def _gradients(self, first: int, second: int, into: Pass) -> int:
        """Sum over the stencil of w (f' - f)(g' - g), which is lap(f g) - f lap g - g lap f."""

        def products(offsets: tuple[tuple[int, int], ...]) -> int:
            parts = []
            for by in offsets:
                f, g = (
                    into.place("sub", into.place("load", n, *by), into.place("load", n, 0, 0)) for n in (first, second)
                )
                parts.append(into.place("mul", f, g))
            return _sum(parts, into)

        edges = products(EDGES[2:] if self.flat else EDGES)
        if self.operator == "5-point":
            return edges
        edges = into.place("mul", self._number(6 if self.flat else 4, into), edges)
        return edges if self.flat else into.place("add", edges, products(CORNERS))

    def _number(self, value: int, into: Pass) -> int:
        return self._constant(ast.Constant(value), into)


def _sum(places: list[int], into: Pass) -> int:
    total = places[0]
    for place in places[1:]:
        total = into.place("add", total, place)
    return total
