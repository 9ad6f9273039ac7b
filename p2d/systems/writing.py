"""An equation as people and other programs write it: text with error bars, SymPy, LaTeX, py-pde."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2d.systems import expressions
from p2d.systems.expressions import SPECIES
from p2d.systems.library import Equation


def text(equation: Equation, error: Equation) -> str:
    """The two equations in one line each, coefficients with the error of their last digits in brackets."""
    lines = []
    for species, terms in equation.items():
        parts = []
        for term, value, deviation in _merged(terms, error[species]):
            name = "" if term == "1" else " " + expressions.factor(term).replace("**", "^").replace("*", " ")
            parts.append(f"{'-' if value < 0 else '+'} {with_error(abs(value), deviation)}{name}")
        lines.append(f"d{species}/dt = {' '.join(parts).removeprefix('+ ') or '0'}")
    return "\n".join(lines)


def _merged(terms: dict[str, float], error: dict[str, float]) -> list[tuple[str, float, float]]:
    """Terms, coefficients and errors, with F - F u written as F (1 - u)."""
    tied = terms.get("1", 0.0) == -terms.get("u", 0.0) != 0
    found = []
    for term, value in terms.items():
        if not (tied and term == "u"):
            found.append(("1 - u" if tied and term == "1" else term, value, error.get(term, 0.0)))
    return found


def with_error(value: float, error: float) -> str:
    """0.16012 +- 0.0013 as '0.160(1)'; a value that is fixed, without brackets."""
    if error <= 1e-12 * abs(value) or not np.isfinite(error):
        return f"{value:g}"
    digits = max(0, -int(np.floor(np.log10(error))))
    return f"{value:.{digits}f}({max(1, round(error * 10**digits))})"


def written(equation: Equation) -> dict[str, Any]:
    """The right-hand sides for each species as SymPy strings, LaTeX, and expressions for py-pde's `PDE`."""
    import sympy

    names = {s: sympy.Symbol(s) for s in SPECIES}
    smooth = {name: getattr(sympy, name) for name in expressions.SMOOTH}
    forms = {
        "sympy": {"lap": sympy.Function("lap"), "grad": sympy.Function("grad")},
        "py_pde": {"lap": sympy.Function("laplace"), "grad": _pde_gradients},
    }
    found: dict[str, Any] = {form: {} for form in ("sympy", "latex", "py_pde")}
    for form, functions in forms.items():
        for species, terms in equation.items():
            parts = [c * expressions.value(t, names, smooth | functions) for t, c in terms.items()]
            found[form][species] = str(sum(parts, start=sympy.Integer(0)))
    for species, terms in equation.items():
        latex = {"lap": lambda f: _latex_symbol(r"\nabla^2", f), "grad": _latex_gradients}
        parts = [sympy.Float(f"{c:.5g}") * expressions.value(t, names, smooth | latex) for t, c in terms.items()]
        right = sympy.latex(sympy.Add(*parts, evaluate=False) if parts else sympy.Integer(0))
        found["latex"][species] = rf"\partial_t {species} = {right}"
    return found


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
