"""Libraries of PDE terms: names, fields, and equations written in them.

A term is a local field made of u and v: a monomial u^a v^b or a Laplacian. An equation gives each species a coefficient
for each term of the library, coefficients c [2, K].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2d.dynamics.gray_scott import GrayScott, laplacian

MONOMIALS = tuple((degree - b, b) for degree in range(4) for b in range(degree + 1))
DEGREE = 3
LAPLACIANS = ("lap(u)", "lap(v)")


def monomial_name(a: int, b: int) -> str:
    """Name of u^a v^b, in Python's notation: '1', 'u', 'u*v**2'."""
    powers = [name if p == 1 else f"{name}**{p}" for name, p in (("u", a), ("v", b)) if p]
    return "*".join(powers) or "1"


TERMS = (*(monomial_name(a, b) for a, b in MONOMIALS), *LAPLACIANS)
DEGREES = (*(a + b for a, b in MONOMIALS), 1, 1)
GRAY_SCOTT_TERMS = {"u": ("lap(u)", "u*v**2", "1", "u"), "v": ("lap(v)", "u*v**2", "v")}


def allowed(library: str) -> np.ndarray:
    """Which of the 2 K coefficients a library leaves free, bool [2, K]: 'cubic' all, 'gray-scott' its own terms."""
    if library == "cubic":
        return np.ones((2, len(TERMS)), bool)
    return np.array([[term in GRAY_SCOTT_TERMS[s] for term in TERMS] for s in ("u", "v")])


def terms(u: Any, v: Any) -> list[Any]:
    """The K term fields of concentrations u and v, arrays or tensors [..., H, W], in the order of TERMS."""
    powers_u, powers_v = powers(u, DEGREE), powers(v, DEGREE)
    return [*(powers_u[a] * powers_v[b] for a, b in MONOMIALS), laplacian(u), laplacian(v)]


def powers(x: Any, degree: int) -> list[Any]:
    """1, x, x^2, ..., x^degree."""
    found = [x * 0 + 1]
    for _ in range(degree):
        found.append(found[-1] * x)
    return found


def rate(coefficients: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Velocity [..., 2, H, W] that an equation c [2, K] gives at concentrations [..., 2, H, W]."""
    fields = np.stack(terms(state[..., 0, :, :], state[..., 1, :, :]), axis=-3)
    return np.einsum("sk,...khw->...shw", coefficients, fields)


def gray_scott_coefficients(params: GrayScott) -> np.ndarray:
    """The coefficients [2, K] of the Gray-Scott system."""
    return from_equation(
        {
            "u": {"lap(u)": params.D_u, "u*v**2": -1.0, "1": params.F, "u": -params.F},
            "v": {"lap(v)": params.D_v, "u*v**2": 1.0, "v": -(params.F + params.k)},
        }
    )


def from_equation(equation: dict[str, dict[str, float]]) -> np.ndarray:
    """Coefficients [2, K] of an equation given as term: coefficient for each species."""
    return np.array([[equation[s].get(term, 0.0) for term in TERMS] for s in ("u", "v")])


def to_equation(coefficients: np.ndarray) -> dict[str, dict[str, float]]:
    """The terms of coefficients [2, K] that are not zero, for each species; Laplacians first, as equations are read."""
    order = sorted(range(len(TERMS)), key=lambda i: (not TERMS[i].startswith("lap"), i))
    return {
        s: {TERMS[i]: float(row[i]) for i in order if row[i] != 0}
        for s, row in zip(("u", "v"), coefficients, strict=True)
    }
