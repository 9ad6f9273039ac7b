"""Libraries of PDE terms, and equations written in them.

A term is a local field made of u and v (see expressions.py). An equation is a dictionary of terms and coefficients for
each species: {"u": {"lap(u)": 0.16, "u*v**2": -1.0}, "v": {...}}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.systems import expressions
from p2d.systems.expressions import SPECIES, monomial_name
from p2d.systems.gray_scott import GrayScott

Equation = dict[str, dict[str, float]]
MONOMIALS = tuple((degree - b, b) for degree in range(4) for b in range(degree + 1))
LAPLACIANS = ("lap(u)", "lap(v)")
GRADIENTS = ("grad(u,u)", "grad(u,v)", "grad(v,v)")
REACTION = "u*v**2"
GRAY_SCOTT_TERMS = (*LAPLACIANS, "1", "u", "v", REACTION)


CUBIC_TERMS = (*(monomial_name(a, b) for a, b in MONOMIALS), *LAPLACIANS)


@dataclass(frozen=True, eq=False)
class Library:
    """What an equation may consist of.

    Attributes:
        terms: K of them.
        ties: [2 K, P], the coefficients, of u's terms and then of v's, that each of P free numbers stands for.
        sparse: whether terms are to be left out where the data can do without.
    """

    terms: tuple[str, ...]
    ties: np.ndarray
    sparse: bool

    @property
    def degrees(self) -> list[int]:
        """Of what each free number stands for, the highest degree."""
        of_terms = np.array([expressions.degree(term) for term in self.terms] * 2)
        return [int(of_terms[column != 0].max()) for column in self.ties.T]

    @property
    def diffusions(self) -> list[int]:
        """Places among the 2 K coefficients of each species' own Laplacian, of those that are in the library."""
        return [i for i in map(self.place, SPECIES, LAPLACIANS) if i >= 0]

    def diffuses(self, free: np.ndarray) -> float:
        """The largest coefficient of a species' own Laplacian that these free numbers [P] make, in size."""
        return max((abs(float((self.ties @ free)[i])) for i in self.diffusions), default=0.0)

    def place(self, species: str, term: str) -> int:
        """Index of a coefficient among the 2 K; -1 where the term is not in the library."""
        return SPECIES.index(species) * len(self.terms) + self.terms.index(term) if term in self.terms else -1

    def equation(self, coefficients: np.ndarray) -> Equation:
        """The terms of coefficients [2 K] that are not zero; Laplacians first, as equations are read."""
        order = sorted(range(len(self.terms)), key=lambda i: (not self.terms[i].startswith("lap"), i))
        halves = coefficients.reshape(2, -1)
        return {
            s: {self.terms[i]: float(row[i]) for i in order if row[i] != 0}
            for s, row in zip(SPECIES, halves, strict=True)
        }

    def coefficients(self, equation: Equation) -> np.ndarray:
        """Coefficients [2 K] of an equation; terms that are not in the library are left out."""
        return np.array([equation[s].get(term, 0.0) for s in SPECIES for term in self.terms])


def library(name: str, terms: str = "") -> Library:
    """The library of this name, or of one's own terms for each species.

    Args:
        name: 'cubic' (monomials to degree 3 and both Laplacians), 'cubic+grad' (products of gradients too), or
            'gray-scott' (its terms; what u loses by reaction v gains, and the feed is F (1 - u)).
        terms: such as '1, u, v, u*v**2, lap(u), lap(v)'; instead of a name.

    Raises:
        UserError: another name, or terms that cannot be read.
    """
    if terms:
        return _free(expressions.split(terms))
    if name == "gray-scott":
        return _gray_scott()
    if name not in ("cubic", "cubic+grad"):
        raise UserError(f"unknown library {name!r}; known: cubic, cubic+grad, gray-scott")
    return _free((*CUBIC_TERMS, *(GRADIENTS if name == "cubic+grad" else ())))


def _free(terms: tuple[str, ...]) -> Library:
    return Library(terms, np.eye(2 * len(terms)), sparse=True)


def _gray_scott() -> Library:
    """Five free numbers: D_u, D_v, F, F + k and the rate of the reaction."""
    untied = _free(GRAY_SCOTT_TERMS)
    meanings: tuple[Equation, ...] = (
        {"u": {"lap(u)": 1.0}, "v": {}},
        {"u": {}, "v": {"lap(v)": 1.0}},
        {"u": {"1": 1.0, "u": -1.0}, "v": {}},
        {"u": {}, "v": {"v": -1.0}},
        {"u": {REACTION: -1.0}, "v": {REACTION: 1.0}},
    )
    return Library(GRAY_SCOTT_TERMS, np.stack([untied.coefficients(e) for e in meanings], axis=1), sparse=False)


def rate(equation: Equation, state: Any) -> Any:
    """Velocity [..., 2, H, W] of an equation at concentrations [..., 2, H, W], numpy array or torch tensor."""
    u, v = state[..., 0, :, :], state[..., 1, :, :]
    terms = {term for species in equation.values() for term in species}
    fields = {term: expressions.evaluate(term, u, v) for term in terms}
    sums = [sum((c * fields[term] for term, c in equation[s].items()), start=0 * u) for s in SPECIES]
    if isinstance(u, np.ndarray):
        return np.stack(sums, axis=-3)
    import torch

    return torch.stack(sums, dim=-3)


def powers(x: Any, degree: int) -> list[Any]:
    """1, x, x^2, ..., x^degree."""
    found = [x * 0 + 1]
    for _ in range(degree):
        found.append(found[-1] * x)
    return found


def gray_scott_equation(params: GrayScott) -> Equation:
    """The Gray-Scott system as an equation."""
    return {
        "u": {"lap(u)": params.D_u, REACTION: -1.0, "1": params.F, "u": -params.F},
        "v": {"lap(v)": params.D_v, REACTION: 1.0, "v": -(params.F + params.k)},
    }


def gray_scott_parameters(equation: Equation) -> dict[str, float]:
    """D_u, D_v, F and k of an equation with Gray-Scott's terms and a reaction of rate 1."""
    F = equation["u"].get("1", 0.0)
    return {
        "D_u": equation["u"].get("lap(u)", 0.0),
        "D_v": equation["v"].get("lap(v)", 0.0),
        "F": F,
        "k": -equation["v"].get("v", 0.0) - F,
    }
