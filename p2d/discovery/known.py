"""What is known beside the snapshots: systems of the catalogue that an equation, or a steady state, turns out to be.

Where nothing moves, what a system adds up to is zero in every cell: no velocity can be read off such data, but the
parameters of the steady state can, up to a factor that is the same for all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from p2d.discovery.library import Library, fit_parameters, tied_library
from p2d.errors import UserError
from p2d.systems.reading import catalogue, load_system
from p2d.systems.system import System
from p2d.systems.terms import Terms
from p2d.systems.writing import term_text

FIT = 1e-6  # relative, to which the coefficients of a tied library's equation are those of its parameters


@dataclass(frozen=True, eq=False)
class Known:
    """A system, and its tied library."""

    system: System
    library: Library

    @classmethod
    def of(cls, system: System) -> Known | None:
        """A system whose rates are linear in its parameters; None for others."""
        try:
            return cls(system, tied_library(system))
        except UserError:
            return None

    @property
    def title(self) -> str:
        """As people write it: 'Gray-Scott'."""
        return self.system.name.replace("_", " ").title().replace(" ", "-")

    @property
    def unit_of_time(self) -> str:
        """In words: 'u v^2 has rate 1, as in Gray-Scott'."""
        own = self.library.name_terms(self.library.ties[:, -1])
        rest = {(term, abs(value)) for terms in own.values() for term, value in terms.items()}
        if len(rest) > 1:
            return f"that of {self.title}"
        ((term, value),) = rest
        return f"{term_text(term)} has rate {value:g}, as in {self.title}"

    @property
    def unit_of_steady_time(self) -> str:
        """The same where nothing moves; of a system without a unit of its own, what is 1."""
        first, *_, last = self.library.names
        return f"{first} = 1, as steady states tell ratios" if last else self.unit_of_time

    def rest(self, terms: Terms) -> float:
        """How many times what no parameter of the system multiplies stands in these terms; 0 where all has one."""
        if self.library.names[-1]:
            return 0.0
        # Beside its parameters, which may stand with the same terms, as in -(b + 1) x.
        return float(np.linalg.lstsq(self.library.ties, self.library.coefficients(terms))[0][-1])

    def parameters(self, terms: Terms) -> dict[str, float]:
        """The parameters with which the system has just these terms; {} where it has others, or none fit."""
        names = {s: set(own) for s, own in terms.items()}
        if names != {s: set(own) for s, own in self.system.terms.items()}:
            return {}
        parameters = fit_parameters(self.system, terms)
        made = self.library.coefficients(self.system.at("", **parameters).terms)
        wished = self.library.coefficients(terms)
        return parameters if np.allclose(made, wished, rtol=FIT, atol=FIT * np.abs(wished).max()) else {}

    def parameters_of(self, free: np.ndarray) -> dict[str, np.ndarray]:
        """The system's parameters, of free numbers of its library [..., P]; of ratios where it has no unit of time."""
        library = self.library
        of = [fit_parameters(self.system, library.name_terms(library.ties @ one)) for one in np.eye(free.shape[-1])]
        none = fit_parameters(self.system, library.name_terms(np.zeros(len(library.ties))))
        return {name: none[name] + free @ np.array([own[name] - none[name] for own in of]) for name in none}


@functools.cache
def known_systems(species: tuple[str, ...]) -> tuple[Known, ...]:
    """The systems of the catalogue of these species whose rates are linear in their parameters."""
    made = []
    for name in catalogue():
        system = load_system(name)
        if system.species != species:
            continue
        known = Known.of(system)
        if known:
            made.append(known)
    return tuple(made)


def named(terms: Terms) -> Known | None:
    """The system of the catalogue that has the same terms as these, and in whose unit of time they can be told."""
    wanted = {s: set(own) for s, own in terms.items()}
    for known in known_systems(tuple(terms)):
        if {s: set(own) for s, own in known.system.terms.items()} == wanted and known.rest(terms):
            return known
    return None
