"""The known system that snapshots are held against: its reaction is the unit of time, and its steady states are known.

Where nothing moves, reaction and diffusion balance in every cell, which is the reference's balance: no velocity can be
read off such data, but the parameters of the steady state can.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from p2d.discovery import fit
from p2d.discovery.library import Library, fit_parameters, tied_library
from p2d.systems.reading import load_system
from p2d.systems.system import System
from p2d.systems.terms import Terms

SYSTEM = "gray_scott"
REACTION = "reaction rate 1"  # the unit of time of its reaction
BALANCE_DRAWS = 20


@dataclass(frozen=True)
class Reference:
    """A system and its tied library, whose last free number is the rate of what no parameter multiplies."""

    system: System
    library: Library

    @property
    def name(self) -> str:
        """As people write it: 'Gray-Scott'."""
        return self.system.name.replace("_", " ").title().replace(" ", "-")

    @property
    def reaction(self) -> tuple[str, str]:
        """The species that gains by the reaction, and the term."""
        species, term = divmod(int(np.argmax(self.library.ties[:, -1])), len(self.library.terms))
        return self.library.species[species], self.library.terms[term]

    def rate(self, coefficients: np.ndarray, library: Library) -> float:
        """The reaction's rate in an equation over a library, by its coefficients [C K]; 0 without such a term."""
        place = library.place(*self.reaction)
        return float(coefficients[place]) if place >= 0 else 0.0

    def parameters(self, terms: Terms) -> dict[str, float]:
        """The parameters with which the reference has just these terms; {} where it has others."""
        if not {t for of_species in terms.values() for t in of_species} <= set(self.library.terms):
            return {}
        parameters = fit_parameters(self.system, terms)
        free = self.library.coefficients(self.system.at("", **parameters).terms)
        return parameters if np.allclose(free, self.library.coefficients(terms), rtol=1e-12, atol=1e-15) else {}

    def imbalance(self, gram: np.ndarray, terms: tuple[str, ...], noisy: bool, seed: int) -> tuple[float, float]:
        """Share of the reaction's power left by its best fit with the other terms, cell by cell; and its error.

        Args:
            gram: mean products of these terms in each run, [N, K, K].
        """
        reaction = terms.index(self.reaction[1])
        others = [terms.index(term) for term in self.library.terms if term != self.reaction[1]]

        def left(mean: np.ndarray) -> float:
            balance = np.linalg.lstsq(mean[np.ix_(others, others)], mean[others, reaction], rcond=1e-9)[0]
            return float(1 - balance @ mean[others, reaction] / mean[reaction, reaction])

        share = left(gram.mean(axis=0))
        if not noisy:
            return share, 0.0  # clean snapshots tell it exactly
        draws = [left(gram[again].mean(axis=0)) for again in fit.resamples(len(gram), BALANCE_DRAWS, seed)]
        return share, 2 * float(np.std(draws))  # what noise leaves varies, and about zero

    def steady_state(self, gram: np.ndarray, terms: tuple[str, ...], bootstrap: int, seed: int) -> list[np.ndarray]:
        """Free numbers [P] under which the reference's terms add up to zero in every cell, at reaction rate 1.

        Returns:
            Those of all runs, and then of so many bootstrap resamples.
        """
        library = self.library
        places = [terms.index(term) for term in library.terms]
        gram = gram[:, places][:, :, places]

        def balance(mean: np.ndarray) -> np.ndarray:
            energy = library.ties.T @ np.kron(np.eye(len(library.species)), mean) @ library.ties
            return fit.least_squares(energy, fixed=library.ties.shape[1] - 1)

        resampled = fit.resamples(len(gram), bootstrap, seed)
        return [balance(gram.mean(axis=0)), *(balance(gram[again].mean(axis=0)) for again in resampled)]


@functools.cache
def reference_of(species: tuple[str, ...]) -> Reference | None:
    """The reference of an ensemble of these species; None where it has others."""
    system = load_system(SYSTEM)
    return Reference(system, tied_library(system)) if system.species == species else None
