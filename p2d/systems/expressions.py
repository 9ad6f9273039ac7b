"""Expressions of fields as text, such as 'D_u*lap(u) - u*v**2 + F*(1 - u)': parsed, never executed, then evaluated.

sums, products, quotients and powers of species, parameters and numbers
exp, log, sqrt, sin, cos, tanh    of these
lap(f)       Laplacian            lap(lap(f)), too
grad(f, g)   grad f . grad g
d(f, x)      derivative along a row; d(f, y) from row to row
"""

from __future__ import annotations

import ast
import functools
import keyword
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from p2d.errors import UserError, nearest

SMOOTH = ("exp", "log", "sqrt", "sin", "cos", "tanh")
OPERATORS = {"lap": 1, "grad": 2, "d": 2}  # and how many arguments they take
ARGUMENTS = {**OPERATORS, **dict.fromkeys(SMOOTH, 1)}
DIRECTIONS = ("x", "y")
LONGEST, DEEPEST, LARGEST, HIGHEST = 2000, 200, 1e9, 9  # characters, nested parts, number in a text, exponent


def _power(base: Any, exponent: Any) -> Any:
    """A power; whole ones as products from the left."""
    base = float(base) if isinstance(base, int) else base  # else 9**9**9... would grow without end
    if isinstance(exponent, int | float) and float(exponent).is_integer() and 1 <= exponent <= HIGHEST:
        return functools.reduce(operator.mul, [base] * int(exponent))
    return base**exponent


ARITHMETIC: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def parse(text: str, species: Iterable[str], parameters: Iterable[str] = ()) -> ast.expr:
    """The tree of an expression in these names.

    Raises:
        UserError: text that cannot be read (says where), or a name that is not known (says the nearest).
    """
    return _parse(text, tuple(species), tuple(parameters))


@functools.cache
def _parse(text: str, species: tuple[str, ...], parameters: tuple[str, ...]) -> ast.expr:
    node = _syntax(text)
    _Reader(text, species, parameters).check(node)
    return node


def split(text: str, species: Iterable[str]) -> tuple[str, ...]:
    """The terms of a list such as '1, u, u*v**2, lap(u)', each in one form: 'v*u*v' is 'u*v**2'.

    Raises:
        UserError: a term that cannot be read (says where), or one that stands there twice.
    """
    names, parsed = tuple(species), _syntax(text)
    nodes = parsed.elts if isinstance(parsed, ast.Tuple) else [parsed]
    for node in nodes:
        _Reader(text, names, ()).check(node)
    powers = [(node, _powers(node, names)) for node in nodes]
    terms = tuple(ast.unparse(node).replace(" ", "") if p is None else monomial_name(p) for node, p in powers)
    for term in terms:
        if terms.count(term) > 1:
            raise UserError(f"the term {term!r} stands twice in {text!r}; once would do")
    return terms


def refuse_unreadable(text: str) -> None:
    """Refuse a list of terms that cannot be read, whatever its species may be called.

    Raises:
        UserError: says where.
    """
    names = {part.id for part in ast.walk(_syntax(text)) if isinstance(part, ast.Name)}
    split(text, sorted(names - ARGUMENTS.keys()))


def refuse_name(name: str, what: str) -> None:
    """Refuse a name that cannot stand in an expression.

    Args:
        what: is named, such as 'species'.
    """
    if name in ARGUMENTS:
        raise UserError(f"{what} {name!r} has the name of a function; call it otherwise")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"{what} {name!r} cannot stand in an equation: letters, digits and _, a letter first")


def _syntax(text: str) -> ast.expr:
    source = text.lstrip()
    try:
        if len(text) > LONGEST:
            raise SyntaxError
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = getattr(error, "offset", None) or len(source) + 1  # 0 or None: it ended too early
        at = min(offset + len(text) - len(source), len(text) + 1)
        near = f"before {text[at - 1 : at + 7]!r}" if at <= len(text) else "at its end"
        raise UserError(f"{_short(text)} cannot be read at character {at}, {near}; {_known(())}") from None
    try:
        deep = _depth(node) > DEEPEST
    except RecursionError:
        deep = True
    if deep:
        raise UserError(f"{_short(text)} is nested more than {DEEPEST} deep; write it with fewer brackets and terms")
    return node


def _depth(node: ast.AST) -> int:
    return 1 + max(map(_depth, ast.iter_child_nodes(node)), default=0)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _known(species: tuple[str, ...]) -> str:
    names = ", ".join(species) or "species"
    calls = ", ".join(f"{name}()" for name in ARGUMENTS)
    return f"known are {names}, numbers, + - * /, powers such as **2, and {calls} of these"


class _Reader:
    """Refuses what is no expression of these names, and says where it stands."""

    def __init__(self, text: str, species: tuple[str, ...], parameters: tuple[str, ...]) -> None:
        self.text, self.species, self.parameters = text, species, parameters

    def check(self, node: ast.expr) -> None:
        match node:
            case ast.Name(id=name) if name in (*self.species, *self.parameters):
                pass
            case ast.Constant(value=int() | float() as value) if type(value) is not bool and abs(value) <= LARGEST:
                pass
            case ast.BinOp(op=ast.Pow()) if not self._is_exponent(node.right):
                raise self._refused(node.right)
            case ast.UnaryOp(op=op) | ast.BinOp(op=op) if type(op) in ARITHMETIC:
                pass
            case ast.Call(func=ast.Name(), keywords=[]):
                self._check_call(node)
            case _:
                raise self._refused(node)
        for part in parts(node):
            self.check(part)

    def _check_call(self, node: ast.Call) -> None:
        name = function(node)
        if ARGUMENTS.get(name) != len(node.args):
            raise self._refused(node if name in ARGUMENTS else node.func)
        if name == "d" and ast.unparse(node.args[1]) not in DIRECTIONS:
            raise self._refused(node.args[1], "a derivative is along x or y, as in d(u, x)")
        constant_allowed = self.parameters and name in SMOOTH  # of numbers alone a term is none, and has no slope
        if not constant_allowed and not all(fields_in(argument, self.species) for argument in operands(node)):
            raise self._refused(node)

    def _is_exponent(self, node: ast.expr) -> bool:
        """A number of at most 9, with or without a sign, or made of parameters."""
        value = constant(node)
        if value is not None:
            return abs(value) <= HIGHEST
        if fields_in(node, self.species) or functions_in(node):
            return False
        self.check(node)
        return bool(self.parameters)

    def _refused(self, node: ast.expr, right: str = "") -> UserError:
        at = node.col_offset + 1 + len(self.text) - len(self.text.lstrip())
        names = (*self.species, *self.parameters)
        where = f"at character {at} of {_short(self.text)}"
        right = right or _known(names)
        if isinstance(node, ast.Name) and node.id not in (*names, *ARGUMENTS):
            return UserError(f"unknown name {node.id!r}{nearest(node.id, (*names, *ARGUMENTS))} {where}; {right}")
        return UserError(f"{ast.unparse(node)!r} {where} is not understood; {right}")


def constant(node: ast.expr) -> float | None:
    """The number that an expression is, with or without a sign; None of anything else."""
    match node:
        case ast.UnaryOp(op=op, operand=ast.Constant() as bare):
            value = constant(bare)
            return -value if value is not None and isinstance(op, ast.USub) else value
        case ast.Constant(value=int() | float() as value) if type(value) is not bool:
            return float(min(value, LARGEST))
    return None


def operands(node: ast.Call) -> list[ast.expr]:
    """The arguments of a function that are fields: the first of d(f, x), all of others."""
    return node.args[:1] if function(node) == "d" else node.args


def function(node: ast.expr) -> str:
    """The name of the function that an expression is a call of; '' of anything else."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def functions_in(node: ast.expr) -> set[str]:
    """The names of all functions that an expression calls."""
    return {function(part) for part in ast.walk(node) if isinstance(part, ast.Call)}


def fields_in(node: ast.expr, species: Iterable[str]) -> set[str]:
    """The species that an expression is made of."""
    if isinstance(node, ast.Name):
        return {node.id} & set(species)
    return set().union(*(fields_in(part, species) for part in parts(node)))


def reach(node: ast.expr) -> int:
    """How many cells an expression's nested stencils reach."""
    return max(map(reach, parts(node)), default=0) + (function(node) in OPERATORS)


def parts(node: ast.expr) -> list[ast.expr]:
    """What an expression is directly made of, but for directions."""
    if isinstance(node, ast.Call):
        return operands(node)
    return [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]


def folded(node: ast.expr, species: Iterable[str], parameters: Mapping[str, float]) -> ast.expr:
    """An expression with numbers in the place of what is made of parameters and numbers alone.

    Raises:
        UserError: such a part has no finite value, divides and is 0, or is an exponent above 9.
    """
    if not fields_in(node, species):
        value = number(node, parameters)
        if not math.isfinite(value):
            raise UserError(f"{ast.unparse(node)!r} is no finite number with these parameters")
        return ast.Constant(value)
    made = [folded(part, species, parameters) for part in parts(node)]
    match node:
        case ast.Call(func=func, args=args):
            return ast.Call(func, [*made, *args[len(made) :]], [])
        case ast.UnaryOp(op=op):
            return ast.UnaryOp(op, *made)
        case ast.BinOp(op=op, right=right):
            by = constant(made[1])
            if isinstance(op, ast.Pow) and abs(by or 0.0) > HIGHEST:
                raise UserError(f"the exponent {ast.unparse(right)!r} is {by:g}; {HIGHEST} is the highest")
            if isinstance(op, ast.Div) and by == 0:
                raise UserError(f"{ast.unparse(right)!r}, which divides, is 0 with these parameters")
            return ast.BinOp(made[0], op, made[1])
    return node


def evaluate(node: ast.expr, names: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Any:
    """An expression with these in the place of its names and functions; whole powers as products from the left."""

    def of(node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return names[name]
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=op) | ast.BinOp(op=op):
                return ARITHMETIC[type(op)](*map(of, parts(node)))
            case ast.Call(args=args):
                direction = [ast.unparse(part) for part in args[1:]] if function(node) == "d" else []
                return functions[function(node)](*map(of, operands(node)), *direction)

    return of(node)


def smooth_functions(like: Any) -> dict[str, Callable[..., Any]]:
    """exp and its like for numbers, numpy arrays or torch tensors."""
    module: Any = np
    if not isinstance(like, np.ndarray | float | int | np.generic):
        import torch  # on use: the command line reads expressions and must start without torch

        module = torch
    return {name: getattr(module, name) for name in SMOOTH}


def number(node: ast.expr, parameters: Mapping[str, float]) -> float:
    """The value of an expression of parameters and numbers, in float64; nan where it has none."""
    try:
        with np.errstate(all="ignore"):
            return float(evaluate(node, {k: np.float64(v) for k, v in parameters.items()}, smooth_functions(0.0)))
    except (ZeroDivisionError, OverflowError, TypeError):
        return math.nan


def factor(term: str, species: Iterable[str]) -> str:
    """A term as it stands behind a coefficient: sums, numbers and what begins with a sign in brackets."""
    node = parse(term, species)
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
    return term if not is_sum and (term[0].isalpha() or term[0] == "(") else f"({term})"


def degree(term: str, species: Iterable[str]) -> int:
    """How involved a term is: its degree in the species, 3 of u*v**2, 1 of lap(u), 2 of grad(u, v) and u/v.

    One more for exp and such; fractions count up.
    """

    def of(node: ast.expr) -> int:
        match node:
            case ast.Name():
                return 1
            case ast.BinOp(op=ast.Pow()):
                return math.ceil(abs(of(node.left) * (constant(node.right) or 0.0)))
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return max(of(node.left), of(node.right))
        return sum(map(of, parts(node))) + (function(node) in SMOOTH)

    return of(parse(term, species))


def monomial_name(powers: Mapping[str, int]) -> str:
    """Name of a product of powers, in Python's notation: '1', 'u', 'u*v**2'."""
    return "*".join(name if p == 1 else f"{name}**{p}" for name, p in powers.items() if p) or "1"


def _powers(node: ast.expr, species: tuple[str, ...]) -> dict[str, int] | None:
    """Exponents of a monomial in the species; None of anything else."""
    match node:
        case ast.Name(id=name):
            return dict.fromkeys(species, 0) | {name: 1}
        case ast.Constant(value=1):
            return dict.fromkeys(species, 0)
        case ast.UnaryOp(op=ast.UAdd()):
            return _powers(node.operand, species)
        case ast.BinOp(op=ast.Mult()):
            left, right = _powers(node.left, species), _powers(node.right, species)
            return {s: left[s] + right[s] for s in species} if left and right else None
        case ast.BinOp(op=ast.Pow()):
            base, power = _powers(node.left, species), constant(node.right)
            if base and power is not None and power >= 0 and power == int(power):
                return {s: p * int(power) for s, p in base.items()}
    return None
