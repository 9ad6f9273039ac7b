"""Explicit steps of an unknown length, which made the snapshots: what they add to mean rates, and how long they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from p2d.discovery import fit
from p2d.discovery.library import Library

EULER = 4.0  # an explicit step is stable up to 1 / (4 max D)
Units = Callable[[np.ndarray], np.ndarray]  # free numbers in the unit and direction of time


@dataclass(frozen=True, eq=False)
class Steps:
    """What steps add to mean rates at second order, see moments.SecondOrder.

    Attributes:
        library: of terms.
        start: free numbers [P] of the equation that the second order was measured at.
        rows, held_out: its means, for the observables of the fit and for those held out.
    """

    library: Library
    start: np.ndarray
    rows: np.ndarray
    held_out: np.ndarray

    def longest(self, c: np.ndarray) -> float:
        """The longest stable step in the unit of time of free numbers c; 0 where nothing diffuses, as of no bound."""
        diffusion = self.library.diffuses(c)
        return 1 / (EULER * diffusion) if diffusion else 0.0

    def added(self, c: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """What steps of unit length add to the measured rates when the free numbers are c."""
        return ((c @ self.start) / (self.start @ self.start)) ** 2 * measured

    def error(self, c: np.ndarray) -> np.ndarray:
        """Standard error [J] of mean rates from not knowing the step."""
        return self.longest(c) * self.added(c, self.rows)

    def length(self, solution: fit.Solution, mean: np.ndarray, c: np.ndarray, kept: np.ndarray, units: Units) -> float:
        """Length of the steps that mean rates [J, P'] of the kept free numbers c [P'] show, in the unit of time."""
        whole = np.zeros(self.library.ties.shape[1])
        whole[kept] = c
        free = units(whole)
        forward = np.sign(free[kept] @ c)
        share = fit.amplitude(solution, mean @ c * forward, self.error(whole))
        return share * self.longest(free)
