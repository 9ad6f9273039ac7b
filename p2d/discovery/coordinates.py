"""Terms in the user's units as sums of functions of z = (c - shift) / scale, scaled to each species' spread or range.

Where values are far from 0 beside their spread, powers of them are nearly the same function, and only those of z can be
told apart in 64 bits. An affine map takes a library of monomials onto itself, so nothing is lost: what is measured are
functions of z, and the equation is asked for, term by term, in the user's units.
"""

from __future__ import annotations

import ast
import copy

import numpy as np

from p2d.fields import Scaling
from p2d.systems import expressions
from p2d.systems.terms import Expansion


def ranged(states: np.ndarray, inside: np.ndarray) -> Scaling:
    """The scaling of each species to 0 to 1 over the cells `inside` [H, W] of states [N, C, H, W].

    For noisy snapshots: of chaos with noise 0.01, 1 - cosine was 8e-4 so and 0.02 with mean 0 and spread 1, where high
    powers of the far ends of the range weigh more, and noise with them. Clean ones are better the other way: Barkley's
    spirals 3e-5 and 7e-7, turbulence of lambda-omega systems 0.8 and 3e-3.
    """
    known = states[..., inside].astype(np.float64)
    low = known.min(axis=(0, 2))
    return Scaling(tuple(low.tolist()), tuple((known.max(axis=(0, 2)) - low).tolist()))


def standardised(states: np.ndarray, inside: np.ndarray) -> Scaling:
    """The scaling of each species to mean 0 and spread 1 over the cells `inside` [H, W] of states [N, C, H, W]."""
    known = states[..., inside].astype(np.float64)
    mean, std = known.mean(axis=(0, 2)), known.std(axis=(0, 2))
    return Scaling(tuple(mean.tolist()), tuple(std.tolist()))


def expanded(terms: tuple[str, ...], species: tuple[str, ...], scaling: Scaling) -> tuple[tuple[str, ...], np.ndarray]:
    """Functions of z whose sums the terms are.

    Returns:
        The names of M functions in standardised species, and what of each is in each term, [M, K], not to be changed.
    """
    inserted = _Inserted(species, scaling)
    sums = []
    for term in terms:
        expansion = Expansion(species, {})
        made = expansion.of(inserted.visit(copy.deepcopy(expressions.parse(term, species))))
        sums.append({expansion.name(product): value for product, value in made.items()})
    names = tuple(dict.fromkeys(name for one in sums for name in one))
    return names, np.array([[one.get(name, 0.0) for one in sums] for name in names])


class _Inserted(ast.NodeTransformer):
    """Puts shift + scale z in the place of each species."""

    def __init__(self, species: tuple[str, ...], scaling: Scaling) -> None:
        self.known = dict(zip(species, zip(scaling.shift, scaling.scale, strict=True), strict=True))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.known:
            return node
        shift, scale = self.known[node.id]
        return ast.BinOp(ast.Constant(shift), ast.Add(), ast.BinOp(ast.Constant(scale), ast.Mult(), node))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        fields = expressions.operands(node)
        return ast.Call(node.func, [*(self.visit(f) for f in fields), *node.args[len(fields) :]], [])
