"""Terms and their coefficients as people and other programs write them: text with error bars, SymPy, LaTeX, py-pde."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from p2d.systems import expressions
from p2d.systems.terms import Terms

LEAST_PLAIN, LARGEST_PLAIN, LARGEST_ERROR = 1e-3, 1e5, 100.0  # of numbers and errors written without an exponent


def text(terms: Terms, errors: Terms | None = None, conditions: Iterable[str] = ()) -> str:
    """One line a species: 'du/dt = 0.160(1) lap(u) - 1 u v^2', the error of a number's last digits in brackets.

    Args:
        conditions: names that terms may be multiplied by, beside the species.
    """
    lines, names = [], (*terms, *conditions)
    for species, coefficients in terms.items():
        parts = []
        for term, value, error in _merged(coefficients, (errors or {}).get(species, {}), tuple(terms)):
            name = "" if term == "1" else f" {term_text(expressions.factor(term, names))}"
            parts.append(f"{'-' if value < 0 else '+'} {number_text(abs(value), error)}{name}")
        lines.append(f"d{species}/dt = {' '.join(parts).removeprefix('+ ') or '0'}")
    return "\n".join(lines)


def term_text(term: str) -> str:
    """A term as people read it: 'u v^2' of 'u*v**2'."""
    return term.replace("**", "^").replace("*", " ")


def _merged(
    coefficients: Mapping[str, float], errors: Mapping[str, float], species: tuple[str, ...]
) -> list[tuple[str, float, float]]:
    """Terms, coefficients and errors, with F - F u written as F (1 - u)."""
    constant = coefficients.get("1", 0.0)
    tied = next((s for s in species if constant == -coefficients.get(s, 0.0) != 0), None)
    names = {"1": f"1 - {tied}", tied: None} if tied else {}
    return [
        (name, value, errors.get(term, 0.0))
        for term, value in coefficients.items()
        if (name := names.get(term, term)) is not None
    ]


def number_text(value: float, error: float) -> str:
    """0.16012 +- 0.0013 as '0.160(1)', 2.031e-5 +- 4e-7 as '2.03(4)e-05'; a value that is fixed, without brackets."""
    if error <= 1e-12 * abs(value) or not np.isfinite(error):
        return f"{value:g}"
    size = max(abs(value), error)
    if LEAST_PLAIN <= size < LARGEST_PLAIN and error < LARGEST_ERROR:
        return _bracketed(value, error)
    exponent = int(np.floor(np.log10(size)))
    return f"{_bracketed(value / 10.0**exponent, error / 10.0**exponent)}e{exponent:+03d}"


def _bracketed(value: float, error: float) -> str:
    digits = max(0, -int(np.floor(np.log10(error))))
    return f"{value:.{digits}f}({max(1, round(error * 10**digits))})"


def sympy_text(terms: Terms, conditions: Iterable[str] = ()) -> dict[str, str]:
    """The right-hand side of each species, for `sympy.sympify`."""
    import sympy

    functions = {f: sympy.Function(f) for f in ("lap", "grad", "d")}
    return {s: str(sum(parts)) for s, parts in _products(terms, functions, conditions).items()}


def py_pde_text(terms: Terms, conditions: Iterable[str] = ()) -> dict[str, str]:
    """The right-hand side of each species, for py-pde's `PDE`."""
    import sympy

    functions: dict[str, Callable[..., Any]] = {
        "lap": sympy.Function("laplace"),
        "grad": _pde_gradients,
        "d": lambda f, axis: sympy.Function(f"d_d{axis}")(f),
    }
    return {s: str(sum(parts)) for s, parts in _products(terms, functions, conditions).items()}


def latex(terms: Terms, conditions: Iterable[str] = ()) -> dict[str, str]:
    """The equation of each species."""
    import sympy

    functions: dict[str, Callable[..., Any]] = {
        "lap": lambda f: _latex_symbol(r"\nabla^2", f),
        "grad": _latex_gradients,
        "d": lambda f, axis: _latex_symbol(rf"\partial_{axis}", f),
    }
    rounded = {s: {term: float(f"{c:.5g}") for term, c in coefficients.items()} for s, coefficients in terms.items()}
    right = {
        s: sympy.latex(sympy.Add(*parts, evaluate=False) if parts else sympy.Integer(0))
        for s, parts in _products(rounded, functions, conditions).items()
    }
    return {s: rf"\partial_t {s} = {side}" for s, side in right.items()}


def latex_lines(terms: Terms, conditions: Iterable[str] = ()) -> str:
    """The equations below each other, as notebooks show them."""
    lines = r"\\".join(latex(terms, conditions).values()).replace("=", "&=")
    return rf"$$\begin{{aligned}}{lines}\end{{aligned}}$$"


def _products(
    terms: Terms, functions: Mapping[str, Callable[..., Any]], conditions: Iterable[str]
) -> dict[str, list[Any]]:
    """Coefficients times terms as SymPy's expressions, with these functions in the place of the operators."""
    import sympy

    names = {s: sympy.Symbol(s) for s in (*terms, *conditions)}
    known = {**{name: getattr(sympy, name) for name in expressions.SMOOTH}, **functions}

    def product(term: str, coefficient: float) -> Any:
        field = expressions.evaluate(expressions.parse(term, names), names, known)
        return sympy.Float(coefficient) * field

    return {s: [product(*pair) for pair in coefficients.items()] for s, coefficients in terms.items()}


def _pde_gradients(f: Any, g: Any) -> Any:
    import sympy

    if f == g:
        return sympy.Function("gradient_squared")(f)
    gradient = sympy.Function("gradient")
    return sympy.Function("dot")(gradient(f), gradient(g))


def _latex_symbol(operator: str, f: Any) -> Any:
    import sympy

    inner = sympy.latex(f)
    # In braces, which SymPy's printer leaves alone.
    return sympy.Symbol("{" + (f"{operator} {inner}" if f.is_Symbol else rf"{operator} \left({inner}\right)") + "}")


def _latex_gradients(f: Any, g: Any) -> Any:
    import sympy

    first, second = (str(_latex_symbol(r"\nabla", x)) for x in (f, g))
    return sympy.Symbol("{" + rf"({first} \cdot {second})" + "}")
