"""Explicit steps of an unknown length, which made the snapshots: what they add to mean rates, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from p2d.discovery.fit import Rates
from p2d.discovery.moments import ORDERS
from p2d.discovery.verdict import SIGNIFICANT
from p2d.flow.solve import weighted_mean

EULER = 2.0  # an explicit step is stable up to 2 over the fastest decay
LADDER = (0.0, *(2.0**-n for n in range(6, -1, -1)))  # shares of the longest step, between which the best is looked for
FINE, ASIDE = 1e-3, 0.1  # relative, of the search, and of what its curvature is taken over
UNSURE = 5.0  # errors of a step that is seen, by which all rates may share what it adds


@dataclass(frozen=True, eq=False)
class Steps:
    """What steps add to the rates of a velocity, see moments.Stepped.

    Attributes:
        along: what times free numbers [P] says how many times the velocity is the one that was stepped along.
        rows, held_out: coefficients over powers of the step, [N, ORDERS, J] and [N, ORDERS, L], of N groups of runs;
            the latter None where nobody has asked.
        longest: step, in the velocity's unit of time.
        exact: whether rates are corrected for the step's length; else for not knowing it, as where noise leaves of the
            rows no more than their first order.
        length, error: of the step, as far as known.
        runs: how many each group holds, [N]; one when None.
    """

    along: np.ndarray
    rows: np.ndarray
    held_out: np.ndarray | None
    longest: float
    exact: bool
    length: float = 0.0
    error: float = 0.0
    runs: np.ndarray | None = None

    @property
    def seen(self) -> bool:
        """Whether the snapshots show steps."""
        return self.length > SIGNIFICANT * self.error

    def corrected(self, rates: Rates) -> Rates:
        """Rates with what steps of this length add to them; not knowing it better is a shared error."""
        share = self.length / self.longest if self.exact and self.seen else 0.0
        slope = self._slope(self.rows) if share else weighted_mean(self.rows[:, 0], self.runs)
        rows = rates.rows
        if share:
            rows = rows + self._added(self.rows)[:, :, None] * self.along
        # Of the longest step: more than is known would drown what the rates tell.
        unsure = min(1.0, UNSURE * self.error / self.longest) if share else 1.0
        return replace(rates, rows=rows, systematic=lambda c: unsure * (self.along @ c) * slope)

    def added(self, held_out: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rates [N, L] of held-out observables under free numbers, of rows [N, L, P], with what steps add.

        And by how much that may be wrong, [L], as the length is not known better.
        """
        assert self.held_out is not None
        rates = held_out @ free + self._added(self.held_out) * (self.along @ free)
        doubt = min(self.error, self.longest) / self.longest
        return rates, doubt * np.abs((self.along @ free) * self._slope(self.held_out))

    def completed(self, held_out: np.ndarray) -> np.ndarray:
        """Rates [N, L, P] of observables that judge, with what steps add."""
        assert self.held_out is not None
        return held_out + self._added(self.held_out)[:, :, None] * self.along

    def _added(self, coefficients: np.ndarray) -> np.ndarray:
        powers = (self.length / self.longest) ** np.arange(1, ORDERS + 1)
        return np.tensordot(coefficients, powers, (1, 0))

    def _slope(self, coefficients: np.ndarray) -> np.ndarray:
        share = self.length / self.longest
        slopes = np.arange(1, ORDERS + 1) * share ** np.arange(ORDERS)
        return np.tensordot(slopes, weighted_mean(coefficients, self.runs), 1)

    def measured(self, rates: Rates, kept: np.ndarray) -> Steps:
        """The length that the rates of the kept free numbers show: that of the least misfit.

        Its error is where the misfit is 1 more.
        """

        own, among = rates.over(kept), replace(self, along=self.along[kept], error=0.0, exact=True)

        def misfit(share: float) -> float:
            stepped = replace(among, length=share * self.longest).corrected(own)
            return float(replace(stepped, systematic=None).solution().statistics[0])

        tried = [misfit(share) for share in LADDER]
        best = int(np.argmin(tried))
        ends = LADDER[max(best - 1, 0)], LADDER[min(best + 1, len(LADDER) - 1)]
        share = float(minimize_scalar(misfit, bounds=ends, method="bounded", options={"xatol": FINE * ends[1]}).x)
        aside = max(ASIDE * share, ASIDE * LADDER[1])
        bend = (misfit(share + aside) + misfit(share - aside) - 2 * misfit(share)) / aside**2
        error = np.sqrt(2 / bend) if bend > 0 else np.inf
        return replace(self, length=share * self.longest, error=float(error) * self.longest)
