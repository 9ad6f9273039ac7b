"""Explicit steps of an unknown length, which made the snapshots: what they add to mean rates, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from p2d.discovery import fit
from p2d.discovery.fit import Rates
from p2d.discovery.moments import ORDERS
from p2d.discovery.verdict import SIGNIFICANT

EULER = 2.0  # an explicit step is stable up to 2 over the fastest decay
ROUNDS = 4  # of Newton's method for the length


@dataclass(frozen=True, eq=False)
class Steps:
    """What steps add to the rates of a velocity, see moments.Stepped.

    Attributes:
        along: what times free numbers [P] says how many times the velocity is the one that was stepped along.
        rows, held_out: coefficients over powers of the step, [N, ORDERS, J] and [N, ORDERS, 40].
        longest: step, in the velocity's unit of time.
        exact: whether rates are corrected for the step's length; else for not knowing it, as where noise leaves of the
            rows no more than their first order.
        length, error: of the step, as far as known.
    """

    along: np.ndarray
    rows: np.ndarray
    held_out: np.ndarray
    longest: float
    exact: bool
    length: float = 0.0
    error: float = 0.0

    @property
    def seen(self) -> bool:
        """Whether the snapshots show steps."""
        return self.length > SIGNIFICANT * self.error

    def corrected(self, rates: Rates) -> Rates:
        """Rates with what steps of this length add to them; not knowing it better is a shared error."""
        share = self.length / self.longest if self.exact else 0.0
        slopes = np.arange(1, ORDERS + 1) * share ** np.arange(ORDERS)
        slope = np.tensordot(slopes, self.rows.mean(axis=0), 1)
        rows = rates.rows
        if share:
            rows = rows + self._added(self.rows)[:, :, None] * self.along
        return replace(rates, rows=rows, systematic=lambda c: (self.along @ c) * slope)

    def added(self, held_out: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Rates [N, 40] of held-out observables under free numbers, of rows [N, 40, P], with what steps add."""
        return held_out @ free + self._added(self.held_out) * (self.along @ free)

    def _added(self, coefficients: np.ndarray) -> np.ndarray:
        powers = (self.length / self.longest) ** np.arange(1, ORDERS + 1)
        return np.tensordot(coefficients, powers, (1, 0))

    def measured(self, rates: Rates, kept: np.ndarray) -> Steps:
        """The length that the rates of the kept free numbers show; 0 where they show none."""
        made = self
        for _ in range(ROUNDS):
            subset = made.corrected(rates).over(kept)
            solution = subset.solution()
            c = solution.coefficients
            shared = subset.systematic(c)  # type: ignore[misc]  # it was just put there
            share = fit.amplitude(solution, subset.rows.mean(axis=0) @ c, shared)
            left = 1 - float(np.sum(solution.whiten(shared[:, None]) ** 2))
            before = made.length if self.exact else 0.0
            length = float(np.clip(before + share * self.longest, 0.0, self.longest))
            made = replace(made, length=length, error=self.longest * float(np.sqrt(max(left, 0.0))))
        return made if made.seen else replace(made, length=0.0)
