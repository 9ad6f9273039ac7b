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


def weighted_mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mean over the first axis, of N values of these weights [N]; all the same when None."""
    return values.mean(axis=0) if weights is None else np.tensordot(weights, values, 1) / weights.sum()


def standard_error(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Of the mean of N values, of which each is itself a mean over so many independent ones."""
    if weights is None:
        return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
    square = np.tensordot(weights, (values - weighted_mean(values, weights)) ** 2, 1)
    return np.sqrt(square / (len(values) - 1) / weights.sum())


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
    runs: np.ndarray | None = None,
) -> Solution:
    """Coefficients of the stationary field.

    Args:
        rows: [N, J, K], rates of J observables for each of K terms, a snapshot; this worker's snapshots.
        basis: Q [K, q] with Q' B Q = 1, for B the mean of phi phi' over all snapshots of all workers.
        ridge: on the correlation matrix of the rates, whose smallest eigenvalues sampling cannot tell from 0.
        total: sums an array over workers.
        systematic: of coefficients [K], a standard error [J] that all mean rates share, added to their covariance.
        prior: weight of |c|^2 beside the misfit, as of coefficients of standard deviation prior^-1/2.
        runs: how many independent snapshots each of the rows is the mean of, [N]; one when None.
    """
    weights = np.ones(len(rows)) if runs is None else runs.astype(np.float64)
    groups, count = total(np.array([len(rows), weights.sum()])).tolist()
    mean = total(np.tensordot(weights, rows, 1) @ basis) / count
    # float64, as the basis stretches small directions up to 1e6 times; one at a time, as a copy of all takes memory
    own = [w * ((row.astype(np.float64) @ basis) ** 2).sum(axis=1) for w, row in zip(weights, rows, strict=True)]
    power = total(np.sum(own, axis=0) if own else np.zeros(len(mean))) / count
    deviation = np.sqrt(power / count) + np.finfo(float).tiny
    factor: np.ndarray = np.eye(len(deviation))
    direction = np.linalg.svd(mean / deviation[:, None])[2][-1]
    values, others = np.zeros(1), np.zeros((0, len(direction)))
    for _ in range(ITERATIONS):
        along = basis @ direction
        rates = np.array([row.astype(np.float64) @ along for row in rows]).reshape(-1, len(mean))
        centred = rates - mean @ direction
        covariance = total(centred.T @ (weights[:, None] * centred)) / max(groups - 1, 1) / count
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
