"""Libraries of terms: what an equation may consist of, free or tied as in a known system."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement as pairs
from pathlib import Path

import numpy as np

from p2d.config import DiscoverConfig
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import expressions
from p2d.systems.reading import load_system
from p2d.systems.system import System
from p2d.systems.terms import Terms
from p2d.systems.terms import terms as expand

DEGREE, OF_MANY = 3, 2  # of the monomials of up to three species, and of more
FREE = "free"


@dataclass(frozen=True, eq=False)
class Library:
    """What an equation may consist of.

    Attributes:
        species: C of them.
        terms: K of them.
        ties: [C K, P], the coefficients, of the first species' terms and then of the next, that each of P free numbers
            stands for.
        sparse: whether terms are to be left out where the data can do without.
        names: of the free numbers of a tied library, such as 'F' and 'F + k'; the last is '' where it stands for what
            no parameter multiplies.
        conditions: names of known conditions that its terms may be multiplied by.
    """

    species: tuple[str, ...]
    terms: tuple[str, ...]
    ties: np.ndarray
    sparse: bool
    names: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def degrees(self) -> list[int]:
        """Of what each free number stands for, the highest degree."""
        names = (*self.species, *self.conditions)
        of_terms = np.array([expressions.degree(term, names) for term in self.terms] * len(self.species))
        return [int(of_terms[column != 0].max()) for column in self.ties.T]

    @property
    def differential(self) -> list[bool]:
        """Which of the terms have a Laplacian or a slope."""
        trees = (expressions.parse(term, self.species) for term in self.terms)
        return [bool(expressions.functions_in(tree) & expressions.OPERATORS.keys()) for tree in trees]

    def place(self, species: str, term: str) -> int:
        """Index of a coefficient among the C K; -1 where the term is not in the library."""
        if term not in self.terms:
            return -1
        return self.species.index(species) * len(self.terms) + self.terms.index(term)

    def name_terms(self, coefficients: np.ndarray) -> Terms:
        """The terms of coefficients [C K] that are not zero; Laplacians first, as equations are read."""
        order = sorted(range(len(self.terms)), key=lambda i: (not self.terms[i].startswith("lap"), i))
        return {
            s: {self.terms[i]: float(row[i]) for i in order if row[i] != 0}
            for s, row in zip(self.species, coefficients.reshape(len(self.species), -1), strict=True)
        }

    def coefficients(self, terms: Terms) -> np.ndarray:
        """Coefficients [C K] of these terms; those that are not in the library are left out."""
        return np.array([terms[s].get(term, 0.0) for s in self.species for term in self.terms])


def choose_library(config: DiscoverConfig, species: tuple[str, ...], grid: Grid) -> Library:
    """The library that settings ask for: one's own terms, those of a system, or all to some degree.

    Raises:
        UserError: no such system, one of other species, terms that cannot be read, or a known number of none of them.
    """
    library = _chosen(config, species, grid)
    if config.known:
        known_place(config.known, library)  # refused before anything is measured
    return library


def _chosen(config: DiscoverConfig, species: tuple[str, ...], grid: Grid) -> Library:
    if config.terms:
        return free_library(expressions.split(config.terms, species), species)
    if config.library != FREE:
        tied = tied_library(load_system(config.library))
        if tied.species != species:
            raise UserError(
                f"library {Path(config.library).stem} is of {', '.join(tied.species)}, and the snapshots are of "
                f"{', '.join(species)}; take {FREE}, or terms of your own"
            )
        return tied
    return free_library(free_terms(config, species, grid), species)


def known_place(text: str, library: Library) -> tuple[np.ndarray, float, str]:
    """What is known of an equation: weights [C K] of the coefficient that it is, its value, and words.

    Args:
        text: 'lap(u) = 0.16', 'v: u*v**2 = 1', or of a tied library 'D_u = 0.16'.

    Raises:
        UserError: no such parameter or coefficient, or no number other than 0.
    """
    left, _, right = text.rpartition("=")
    try:
        value = float(right)
    except ValueError:
        value = 0.0
    if not left or not value or not np.isfinite(value):
        raise UserError(f"known = {text!r} is not understood; such as D_u=0.16, lap(u)=0.16 or 'v: u*v**2=1'")
    name = left.strip()
    if name in library.names:
        column = library.ties[:, library.names.index(name)]
        return column / (column @ column), value, f"{name} = {value:g}"
    species, _, term = name.rpartition(":")
    try:
        term = expressions.split(term, library.species)[0]
        own = expressions.fields_in(expressions.parse(term, library.species), library.species)
    except UserError:
        if not library.names:
            raise
        term, own = "", set()  # such as k, where only F + k is free
    species = species.strip() or (own.pop() if len(own) == 1 else "")
    place = library.place(species, term) if species in library.species else -1
    if place < 0:
        have = ", ".join(filter(None, library.names)) or ", ".join(library.terms)
        raise UserError(
            f"known = {text!r} names no parameter or term of one equation; there are {have}, as in 'u: u**2=1'"
        )
    weights = np.zeros(library.ties.shape[0])
    weights[place] = 1.0
    return weights, value, f"{term} in d{species}/dt = {value:g}"


def free_terms(config: DiscoverConfig, species: tuple[str, ...], grid: Grid) -> tuple[str, ...]:
    """Monomials and Laplacians of all species, and what else settings ask for."""
    highest = config.degree or (DEGREE if len(species) <= DEGREE else OF_MANY)
    monomials = (factors for degree in range(highest + 1) for factors in pairs(species, degree))
    made = [expressions.monomial_name(Counter(factors)) for factors in monomials]
    made += [f"lap({s})" for s in species]
    if config.order == 4:
        made += [f"lap(lap({s}))" for s in species]
    if "gradients" in config.also:
        made += [f"grad({a},{b})" for a, b in pairs(species, 2)]
    if "derivatives" in config.also:
        axes = [axis for axis, length in zip("yx", grid.shape, strict=True) if length > 1]
        slopes = [f"d({s},{axis})" for axis in reversed(axes) for s in species]
        made += [*slopes, *(f"{s}*{slope}" for slope in slopes for s in species)]
    return tuple(made)


def free_library(terms: tuple[str, ...], species: tuple[str, ...]) -> Library:
    """Every term in every species' equation, each with a coefficient of its own."""
    return Library(species, terms, np.eye(len(species) * len(terms)), sparse=True)


def tied_library(system: System) -> Library:
    """A system's terms, with a free number for what multiplies each parameter, and one for the rest.

    What multiplies one parameter is taken off what multiplies another where it is a part of that: of F (1 - u) and
    -(F + k) v the free numbers are F and F + k. The rest, the terms whose coefficients are numbers, is the last.

    Raises:
        UserError: a parameter that the rates are not linear in.
    """
    parts = _parts(system)
    names = sorted({term for part in parts for terms in part.values() for term in terms})
    in_order = dict.fromkeys((*(term for terms in system.terms.values() for term in terms), *names))
    terms = sorted(in_order, key=lambda t: (not t.startswith("lap"), expressions.degree(t, system.species)))
    untied = free_library(tuple(terms), system.species)
    columns = [untied.coefficients(part) for part in parts]
    numbers = [*system.parameters, ""]
    for i, column in enumerate(columns):
        for j, other in enumerate(columns):
            if i != j and other.any() and np.all(column[other != 0] == other[other != 0]):
                column -= other
                numbers[j] = f"{numbers[i] or 1} + {numbers[j] or 1}"
    kept = [(name, column) for name, column in zip(numbers, columns, strict=True) if column.any()]
    ties = np.stack([column for _, column in kept], axis=1)
    return Library(system.species, untied.terms, ties, sparse=False, names=tuple(name for name, _ in kept))


def fit_parameters(system: System, terms: Terms) -> dict[str, float]:
    """The parameters of a system whose terms are nearest to these, in least squares."""
    *parts, rest = _parts(system)
    names = {term for part in (*parts, rest, terms) for of_species in part.values() for term in of_species}
    library = free_library(tuple(sorted(names)), system.species)
    columns = np.stack([library.coefficients(part) for part in parts], axis=1)
    values = np.linalg.lstsq(columns, library.coefficients(terms) - library.coefficients(rest))[0]
    return dict(zip(system.parameters, map(float, values), strict=True))


def _parts(system: System) -> list[Terms]:
    """The terms that each parameter multiplies, and those that none does."""

    def at(parameters: dict[str, float]) -> Terms:
        return {s: expand(rate, system.species, parameters) for s, rate in system.rates.items()}

    none = dict.fromkeys(system.parameters, 0.0)
    rest = at(none)
    parts = [_difference(at(none | {name: 1.0}), rest) for name in system.parameters]
    for s, coefficients in _difference(system.terms, rest).items():
        for term in {*coefficients, *(term for part in parts for term in part[s])}:
            sizes = [part[s].get(term, 0.0) * system.parameters[n] for n, part in zip(none, parts, strict=True)]
            if not np.isclose(sum(sizes), coefficients.get(term, 0.0), rtol=1e-9, atol=1e-12):
                raise UserError(
                    f"the rates of {system.name} are not linear in its parameters (the coefficient of {term} in "
                    f"d{s}/dt is not): no tied library can be made of it; take free, or terms of your own"
                )
    return [*parts, rest]


def _difference(terms: Terms, others: Terms) -> Terms:
    names = {s: dict.fromkeys((*terms[s], *others[s])) for s in terms}
    differences = {s: {n: terms[s].get(n, 0.0) - others[s].get(n, 0.0) for n in names[s]} for s in terms}
    return {s: {n: value for n, value in values.items() if value} for s, values in differences.items()}
