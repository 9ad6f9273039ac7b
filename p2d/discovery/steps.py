"""Explicit steps of an unknown length, which made the snapshots: what they add to mean rates, and how long they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from p2d.discovery import fit

EULER = 2.0  # an explicit step is stable up to 2 over the fastest decay


@dataclass(frozen=True, eq=False)
class Steps:
    """What steps add to mean rates at second order, see moments.SecondOrder.

    Attributes:
        along: what times free numbers [P] says how many times the velocity is that of the equation which the second
            order was measured at.
        rows, held_out: its means, for the observables of the fit and for those held out.
        fastest: the fastest decay of short waves under free numbers; 0 where there is no bound.
    """

    along: np.ndarray
    rows: np.ndarray
    held_out: np.ndarray
    fastest: Callable[[np.ndarray], float]

    def longest(self, c: np.ndarray) -> float:
        """The longest stable step in the unit of time of free numbers c; 0 where nothing diffuses, as of no bound."""
        fastest = self.fastest(c)
        return EULER / fastest if fastest else 0.0

    def added(self, c: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """What steps of unit length add to the measured rates when the free numbers are c."""
        return (self.along @ c) ** 2 * measured

    def error(self, c: np.ndarray) -> np.ndarray:
        """Standard error [J] of mean rates from not knowing the step."""
        return self.longest(c) * self.added(c, self.rows)

    def length(
        self, solution: fit.Solution, mean: np.ndarray, c: np.ndarray, free: np.ndarray, kept: np.ndarray
    ) -> float:
        """Length of the steps that mean rates [J, P'] of the kept numbers c [P'] show, in the time of all, free [P]."""
        whole = np.zeros_like(self.along)
        whole[kept] = c
        forward = np.sign(free[kept] @ c)
        share = fit.amplitude(solution, mean @ c * forward, self.error(whole))
        return share * self.longest(free)
