"""The smallest generalised eigenvector of stationarity: the coefficients whose velocity changes no observable.

With v = sum_k c_k phi_k, the mean rates of J observables are M c, M = E[rows]. Minimise (M c)' C^-1 (M c) over fields
of E|v|^2 = c' B c = 1, where C is the sampling covariance of the mean rates at the current c, iterated: generalised
least squares. The minimum is then a chi-squared number of J - K + 1 degrees of freedom when the ensemble is stationary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

Total = Callable[[np.ndarray], np.ndarray]
Systematic = Callable[[np.ndarray], np.ndarray]
ITERATIONS = 4


@dataclass(frozen=True)
class Solution:
    """Coefficients c [K] with c' B c = 1, and the weights that gave them.

    Attributes:
        statistics: the smallest values of (M c)' C^-1 (M c) over orthogonal directions, ascending.
        deviation: standard deviation of each mean rate [J] at c.
        factor: lower Cholesky factor of the mean rates' correlation at c, [J, J].
        spread: what the data leave open, one standard deviation of c along each of q - 1 independent directions,
            [K, q - 1].
    """

    coefficients: np.ndarray
    statistics: np.ndarray
    deviation: np.ndarray
    factor: np.ndarray
    spread: np.ndarray

    def whiten(self, mean_rows: np.ndarray) -> np.ndarray:
        """C^-1/2 M for M [J, K]: rows of unit sampling covariance."""
        return scipy.linalg.solve_triangular(self.factor, mean_rows / self.deviation[:, None], lower=True)


def _identity(sums: np.ndarray) -> np.ndarray:
    return sums


def whitened_basis(gram: np.ndarray, null: float) -> np.ndarray:
    """Q [K, q] with Q' B Q = 1, over the directions that carry at least `null` of the largest eigenvalue of B."""
    scale = np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = values > null * values[-1]
    return vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]


def solve(
    rows: np.ndarray,
    basis: np.ndarray,
    ridge: float,
    total: Total = _identity,
    systematic: Systematic | None = None,
    prior: float = 0.0,
) -> Solution:
    """Coefficients of the stationary field.

    Args:
        rows: [N, J, K], rates of J observables for each of K terms, a snapshot; this worker's snapshots.
        basis: Q [K, q] with Q' B Q = 1, for B the mean of phi phi' over all snapshots of all workers.
        ridge: on the correlation matrix of the rates, whose smallest eigenvalues sampling cannot tell from 0.
        total: sums an array over workers.
        systematic: of coefficients [K], a standard error [J] that all mean rates share, added to their covariance.
        prior: weight of |c|^2 beside the misfit, as of coefficients of standard deviation prior^-1/2.
    """
    count = float(total(np.array([len(rows)], np.float64))[0])
    mean = total(rows.sum(axis=0, dtype=np.float64) @ basis) / count
    # float64, as the basis stretches small directions up to 1e6 times; one at a time, as a copy of all takes memory
    own = [((row.astype(np.float64) @ basis) ** 2).sum(axis=1) for row in rows]
    power = total(np.sum(own, axis=0) if own else np.zeros(len(mean))) / count
    deviation = np.sqrt(power / count) + np.finfo(float).tiny
    factor: np.ndarray = np.eye(len(deviation))
    direction = np.linalg.svd(mean / deviation[:, None])[2][-1]
    values, others = np.zeros(1), np.zeros((0, len(direction)))
    for _ in range(ITERATIONS):
        along = basis @ direction
        rates = np.array([row.astype(np.float64) @ along for row in rows]).reshape(-1, len(mean))
        centred = rates - mean @ direction
        covariance = total(centred.T @ centred) / max(count - 1, 1) / count
        if systematic:
            shared = systematic(along)
            covariance = covariance + np.outer(shared, shared)
        deviation = np.sqrt(np.diag(covariance)) + np.finfo(float).tiny
        correlation = covariance / np.outer(deviation, deviation)
        factor = np.linalg.cholesky(correlation + ridge * np.eye(len(deviation)))
        weighted = scipy.linalg.solve_triangular(factor, mean / deviation[:, None], lower=True)
        if prior:
            weighted = np.concatenate([weighted, math.sqrt(prior) * basis])
        _, values, vectors = np.linalg.svd(weighted, full_matrices=False)
        others, direction = vectors[:-1], vectors[-1]
    spread = basis @ (others.T / np.maximum(values[:-1], np.finfo(float).tiny))
    return Solution(basis @ direction, values[::-1] ** 2, deviation, factor, spread)
