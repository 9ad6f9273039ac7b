"""Terms of an equation as text, such as 'u*v**2' or 'lap(u)': parsed and never executed, evaluated on fields.

    sums, products, quotients and powers of u, v and numbers;   exp, log, sqrt, sin, cos, tanh of these;
    lap(f)       5-point Laplacian                              grad(f, g)   grad f . grad g

The inner product of two gradients is (lap(f g) - f lap(g) - g lap(f)) / 2, which on a grid is the mean of forward and
backward differences.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.systems.gray_scott import laplacian

SPECIES = ("u", "v")
SMOOTH = ("exp", "log", "sqrt", "sin", "cos", "tanh")
ARGUMENTS = {"lap": 1, "grad": 2, **dict.fromkeys(SMOOTH, 1)}
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
KNOWN = (
    f"known are u, v, numbers, + - * /, powers such as **2, and {', '.join(f'{name}()' for name in ARGUMENTS)} of these"
)
LONGEST, LARGEST, HIGHEST = 2000, 1e9, 9  # characters of a list, number in a term, exponent


def split(text: str) -> tuple[str, ...]:
    """The terms of a list such as '1, u, u*v**2, lap(u)', each in one form: 'v*u*v' is 'u*v**2'.

    Raises:
        UserError: a term that cannot be read (says where), or one that stands there twice.
    """
    parsed = _parsed(text)
    nodes = parsed.elts if isinstance(parsed, ast.Tuple) else [parsed]
    for node in nodes:
        _check(node, text)
    terms = tuple(_name(node) for node in nodes)
    for term in terms:
        if terms.count(term) > 1:
            raise UserError(f"the term {term!r} stands twice in {text!r}; once would do")
    return terms


def _parsed(text: str) -> ast.expr:
    source = text.lstrip()
    try:
        if len(text) > LONGEST:
            raise SyntaxError
        return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = getattr(error, "offset", None) or len(source) + 1  # 0 or None: it ended too early
        at = min(offset + len(text) - len(source), len(text) + 1)
        near = f"before {text[at - 1 : at + 7]!r}" if at <= len(text) else "at its end"
        raise UserError(f"{_short(text)} cannot be read at character {at}, {near}; {KNOWN}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _check(node: ast.expr, text: str) -> None:
    """Refuse what is no expression of fields, and say where it stands."""
    wrong = node.right if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) else node
    parts = _parts(node)
    if parts is None:
        at = wrong.col_offset + 1 + len(text) - len(text.lstrip())
        raise UserError(f"{ast.unparse(wrong)!r} at character {at} of {_short(text)} is not understood; {KNOWN}")
    for part in parts:
        _check(part, text)


def _parts(node: ast.expr) -> list[ast.expr] | None:
    """What an expression is made of; None where it is none, whatever it is made of."""
    known: list[ast.expr] | None = None
    if isinstance(node, ast.Name):
        known = [] if node.id in SPECIES else None
    elif isinstance(node, ast.Constant):
        known = [] if type(node.value) in (int, float) and abs(float(str(node.value))) <= LARGEST else None
    elif isinstance(node, ast.UnaryOp):
        known = [node.operand] if type(node.op) in OPERATORS else None
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        known = [node.left] if _exponent(node) is not None else None
    elif isinstance(node, ast.BinOp):
        known = [node.left, node.right] if type(node.op) in OPERATORS else None
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        wanted = ARGUMENTS.get(node.func.id) == len(node.args) and not node.keywords
        known = node.args if wanted and all(map(_is_field, node.args)) else None
    return known


def _exponent(power: ast.BinOp) -> float | None:
    """A power's exponent, if it is a number of at most 9, with or without a sign."""
    node = power.right
    sign = -1.0 if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else 1.0
    number = node.operand if isinstance(node, ast.UnaryOp) else node
    if isinstance(number, ast.Constant) and type(number.value) in (int, float):
        size = float(str(number.value))
        return sign * size if size <= HIGHEST else None
    return None


def _is_field(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Name) and part.id in SPECIES for part in ast.walk(node))


def _name(node: ast.expr) -> str:
    powers = _powers(node)
    return monomial_name(*powers) if powers else ast.unparse(node).replace(" ", "")


def monomial_name(a: int, b: int) -> str:
    """Name of u^a v^b, in Python's notation: '1', 'u', 'u*v**2'."""
    powers = [name if p == 1 else f"{name}**{p}" for name, p in (("u", a), ("v", b)) if p]
    return "*".join(powers) or "1"


def _powers(node: ast.expr) -> tuple[int, int] | None:
    """Exponents of a monomial in u and v; None of anything else."""
    if isinstance(node, ast.Name):
        return (1, 0) if node.id == "u" else (0, 1)
    if isinstance(node, ast.Constant):
        return (0, 0) if node.value == 1 else None
    if isinstance(node, ast.UnaryOp):
        return _powers(node.operand) if isinstance(node.op, ast.UAdd) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _powers(node.left), _powers(node.right)
        return (left[0] + right[0], left[1] + right[1]) if left and right else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = _powers(node.left), _exponent(node)
        if base and exponent is not None and exponent >= 0 and exponent == int(exponent):
            return base[0] * int(exponent), base[1] * int(exponent)
    return None


def evaluate(term: str, u: Any, v: Any) -> Any:
    """The field of a term at concentrations u and v, numpy arrays or torch tensors [..., H, W]; same kind back.

    Raises:
        UserError: a term that cannot be read.
    """
    module = np if isinstance(u, np.ndarray) else _torch()
    functions = {name: getattr(module, name) for name in SMOOTH} | {"lap": laplacian, "grad": _gradients}
    return 0 * u + value(term, {"u": u, "v": v}, functions)


def factor(term: str) -> str:
    """A term as it stands behind a coefficient: sums, numbers and what begins with a sign in brackets."""
    node = _tree(term)
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
    return term if not is_sum and (term[0].isalpha() or term[0] == "(") else f"({term})"


def value(term: str, names: dict[str, Any], functions: dict[str, Callable[..., Any]]) -> Any:
    """A term with these in the place of u and v, and of its functions."""

    def of(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp):
            return OPERATORS[type(node.op)](of(node.operand))
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](of(node.left), of(node.right))
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        return functions[node.func.id](*(of(argument) for argument in node.args))

    return of(_tree(term))


def degree(term: str) -> int:
    """How involved a term is: its degree in the concentrations, 3 of u*v**2, 1 of lap(u), 2 of grad(u, v) and u/v.

    One more for exp and such; fractions count up.
    """

    def of(node: ast.expr) -> int:
        if isinstance(node, ast.Constant):
            return 0
        if isinstance(node, ast.Name):
            return 1
        if isinstance(node, ast.UnaryOp):
            return of(node.operand)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return math.ceil(abs(of(node.left) * (_exponent(node) or 0.0)))
        if isinstance(node, ast.BinOp):
            both = of(node.left), of(node.right)
            return max(both) if isinstance(node.op, ast.Add | ast.Sub) else sum(both)
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        return sum(of(argument) for argument in node.args) + (node.func.id in SMOOTH)

    return of(_tree(term))


@functools.cache
def _tree(term: str) -> ast.expr:
    node = _parsed(term)
    _check(node, term)
    return node


def _gradients(f: Any, g: Any) -> Any:
    return (laplacian(f * g) - f * laplacian(g) - g * laplacian(f)) / 2


def _torch() -> Any:
    # Imported on use: the command line checks terms and must start without torch.
    import torch

    return torch
