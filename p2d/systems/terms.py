"""A rate as a sum of terms: 'F*(1 - u)' is F times the term '1' and -F times the term 'u'.

Sums of products are multiplied out; lap, grad and d are linear and are taken term by term; what is neither, such as
1/(1 + u**2) or exp(u), stays as it is, as a factor.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping

from p2d.errors import UserError
from p2d.systems import expressions

Terms = dict[str, dict[str, float]]  # coefficients of terms, by species
Product = tuple[tuple[str, float], ...]  # factors and their powers
Sum = dict[Product, float]
ONE: Product = ()
MOST = 500  # products of one rate


def terms(text: str, species: tuple[str, ...], parameters: Mapping[str, float]) -> dict[str, float]:
    """Terms and coefficients of a rate with these parameters; those that vanish are left out.

    Raises:
        UserError: a rate that cannot be read, or that has more than 500 terms.
    """
    expansion = Expansion(species, parameters)
    made = expansion.of(expressions.parse(text, species, parameters))
    return {expansion.name(product): value for product, value in made.items()}


class Expansion:
    """Multiplies out expressions of these species; parameters count as their values."""

    def __init__(self, species: tuple[str, ...], parameters: Mapping[str, float]) -> None:
        self.species, self.parameters = species, parameters

    def of(self, node: ast.expr) -> Sum:
        """An expression as a sum."""
        if not expressions.fields_in(node, self.species):
            value = expressions.number(node, self.parameters)
            return {ONE: value} if value else {}
        match node:
            case ast.Name(id=name):
                return {((name, 1.0),): 1.0}
            case ast.UnaryOp(op=op):
                return _scaled(self.of(node.operand), -1.0 if isinstance(op, ast.USub) else 1.0)
            case ast.BinOp(op=ast.Pow()):
                return self._power(self.of(node.left), expressions.number(node.right, self.parameters))
            case ast.BinOp(op=ast.Div(), right=ast.BinOp(op=ast.Pow()) as below):  # 1/(1 + u)**2 is not multiplied out
                power = expressions.number(below.right, self.parameters)
                return self._times(self.of(node.left), self._power(self.of(below.left), -power))
            case ast.BinOp(op=ast.Div()):
                return self._times(self.of(node.left), self._power(self.of(node.right), -1.0))
            case ast.BinOp(op=ast.Mult()):
                return self._times(self.of(node.left), self.of(node.right))
            case ast.BinOp(op=op):
                right = self.of(node.right)
                return _added(self.of(node.left), _scaled(right, -1.0 if isinstance(op, ast.Sub) else 1.0))
        return self._call(node)

    def name(self, product: Product) -> str:
        """A product as text, such as 'u*v**2' or 'u/(1.0+u**2)'."""
        above = [_powered(f, p) for f, p in product if p > 0]
        below = [_powered(f, -p) for f, p in product if p < 0]
        return "/".join(["*".join(above) or "1", *below])

    def _place(self, name: str) -> tuple[int, str]:
        return (self.species.index(name), "") if name in self.species else (len(self.species), name)

    def _times(self, left: Sum, right: Sum) -> Sum:
        if len(left) * len(right) > MOST:
            raise UserError(f"a rate has more than {MOST} terms when multiplied out; write it with fewer")
        made: Sum = {}
        for (a, x), (b, y) in itertools.product(left.items(), right.items()):
            powers = dict(a)
            for factor, power in b:
                powers[factor] = powers.get(factor, 0.0) + power
            product = tuple((f, powers[f]) for f in sorted(powers, key=self._place) if powers[f])
            made = _added(made, {product: x * y})
        return made

    def _power(self, base: Sum, power: float) -> Sum:
        whole = float(power).is_integer()
        if len(base) == 1 and power:
            ((product, value),) = base.items()
            # (u**2)**0.5 is |u|, and (u*v)**0.5 of two negative ones is a number: neither is a product of powers.
            if whole or (value > 0 and [p for _, p in product] == [1.0]):
                return {tuple((f, p * power) for f, p in product): value**power}
        if whole and power >= 0:
            made: Sum = {ONE: 1.0}
            for _ in range(int(power)):
                made = self._times(made, base)
            return made
        return {((f"({self._text(base)})", power),): 1.0}

    def _call(self, node: ast.expr) -> Sum:
        assert isinstance(node, ast.Call)
        name, first = expressions.function(node), self.of(node.args[0])
        if name in expressions.SMOOTH:
            return {((f"{name}({self._text(first)})", 1.0),): 1.0}
        made: Sum = {}
        if name == "grad":
            for (a, x), (b, y) in itertools.product(first.items(), self.of(node.args[1]).items()):
                if a and b:
                    pair = sorted((self.name(a), self.name(b)), key=self._place)
                    made = _added(made, {((f"grad({pair[0]},{pair[1]})", 1.0),): x * y})
            return made
        along = f",{ast.unparse(node.args[1])}" if name == "d" else ""
        for product, value in first.items():
            if product:
                made = _added(made, {((f"{name}({self.name(product)}{along})", 1.0),): value})
        return made

    def _text(self, parts: Sum) -> str:
        """A sum as text that can be read again."""
        told = ""
        for product, value in parts.items():
            size = "" if abs(value) == 1 and product else f"{abs(value)!r}" + ("*" if product else "")
            told += ("-" if value < 0 else "+" if told else "") + size + (self.name(product) if product else "")
        return told or "0"


def _powered(factor: str, power: float) -> str:
    if power == 1:
        return factor
    return f"{factor}**{int(power) if power == int(power) else power!r}"


def _scaled(parts: Sum, by: float) -> Sum:
    return {product: by * value for product, value in parts.items()}


def _added(left: Sum, right: Sum) -> Sum:
    made = dict(left)
    for product, value in right.items():
        made[product] = made.get(product, 0.0) + value
        if made[product] == 0:
            del made[product]
    return made
