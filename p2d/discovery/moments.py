"""What one pass over snapshots leaves for the closed form: rates of observables for every term, and products of terms.

Observables are spatial means of functions of concentrations that have been smoothed by a kernel K of width w. Theirs is
an exact generator too: d/dt g(K x) = grad g(K x) . K v. What smoothing buys is that noise enters through K alone, and
what is left of it is small enough to be extrapolated to none (Cook & Stefanski 1994, "Simulation-extrapolation"): rows
are polynomials in the variance of the noise, and adding once and twice as much of it tells them at none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from p2d.errors import UserError
from p2d.fields import Grid, laplacian
from p2d.flow.stationarity import Observables
from p2d.snapshots.noise import LEAST
from p2d.snapshots.passes import Findings
from p2d.systems import expressions
from p2d.systems.system import System
from p2d.training.randomness import sample_generator, stream_seed

OBSERVABLE_DEGREE = 5  # of the monomials; degree 4 alone is too few
WEIGHT_DEGREES = (2, 3)  # of w in w(u, v) lap u and w(u, v) lap v
HELD_OUT = 40  # random smooth observables, which only judge
# The kernel where there is noise, in cells. With noise 0.01 and 0.02 the cosine was best, or nearly so, at 1.5: of 1,
# 1.5, 2 and 2.5 on waves and life, of 1.5 and 2 on solitons, chaos and spirals. Clean ones are best left as they are.
SMOOTHING = 1.5
REACH = 5.0  # widths at which the kernel is cut off
# Weights of once, twice and three times the noise: a parabola's value at none.
EXTRAPOLATION = {0: 3.0, 1: -3.0, 2: 1.0}
OUTLIER = 6.0  # standard deviations of noise that no value lies outside [0, 1] by
MOVED = 1e-3  # of concentration, by which the central difference along the velocity moves the fastest cell


@dataclass(frozen=True)
class Measure:
    """How snapshots are measured.

    Attributes:
        terms: K of a library.
        species: C of them.
        smoothing: width of the kernel in cells, 0 for none.
        rounded: whether they are 8-bit images.
        noise: standard deviation of white noise to be corrected for, of each species.
        mean, std: of the species and then of their Laplacians, [2 C], for the held-out observables.
    """

    terms: tuple[str, ...]
    species: tuple[str, ...]
    smoothing: float = 0.0
    rounded: bool = False
    noise: tuple[float, ...] = (0.0, 0.0)
    mean: tuple[float, ...] = field(default=(0.0,) * 4)
    std: tuple[float, ...] = field(default=(1.0,) * 4)

    def concentrations(self, state: np.ndarray) -> np.ndarray:
        """A state [2, H, W] in float64, or nan all over where a value lies outside [0, 1] by more than noise does."""
        margin = OUTLIER * max(*self.noise, LEAST)
        if not ((state >= -margin) & (state <= 1 + margin)).all():
            return np.full(state.shape, np.nan)
        return state.astype(np.float64)

    def smooth(self, x: np.ndarray) -> np.ndarray:
        """Findings [..., H, W] under the kernel, on the periodic grid."""
        if not self.smoothing:
            return x
        return gaussian_filter(x, self.smoothing, axes=(-2, -1), mode="wrap", truncate=REACH)

    def held_out(self) -> Observables:
        """The random smooth observables that judge."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        return Observables(HELD_OUT, stream_seed("discover", "held out"), mean, std)


def extrapolate(measure: Measure, sample_id: int, state: np.ndarray, at: Callable[[np.ndarray], Findings]) -> Findings:
    """What is found at a state [2, H, W], extrapolated to no noise."""
    state = measure.concentrations(state)
    if not any(measure.noise):
        return at(state)
    noise = torch.randn(state.shape, generator=sample_generator(0, 0, sample_id, name="extrapolation")).numpy()
    noise = noise * np.array(measure.noise)[:, None, None]
    weighted: list[tuple[float, Findings]] = []
    for more, weight in EXTRAPOLATION.items():
        # Both signs of the same noise: what is odd in it cancels.
        states = [state + sign * np.sqrt(more) * noise for sign in (1, -1)] if more else [state]
        weighted += [(weight / len(states), at(x)) for x in states]
    return {key: np.sum([weight * each[key] for weight, each in weighted], axis=0) for key in weighted[0][1]}


@dataclass(frozen=True)
class Rows:
    """A task: what each snapshot tells of every equation over the terms."""

    measure: Measure

    def __call__(self, sample_id: int, state: np.ndarray) -> Findings:
        """Of one snapshot, concentrations [2, H, W]: rows [J, 2 K], held_out [40, 2 K], gram [K, K]."""
        return extrapolate(self.measure, sample_id, state, self._at)

    def _at(self, state: np.ndarray) -> Findings:
        measure = self.measure
        # The Laplacian commutes with the kernel, and is smoother taken after it.
        smoothed = measure.smooth(state)
        terms = np.stack(_smoothed_terms(measure, state, smoothed))
        phi = terms.reshape(len(terms), -1)
        gradients = observable_gradients(*smoothed)
        rows = [np.stack(species).reshape(len(species), -1) @ phi.T / phi.shape[1] for species in gradients]
        judged = measure.held_out().rows(torch.from_numpy(smoothed)[None], torch.from_numpy(terms)[None])[0]
        return {
            "rows": np.concatenate(rows, axis=1),
            "held_out": judged.numpy(),
            "gram": phi @ phi.T / phi.shape[1],
        }


def _smoothed_terms(measure: Measure, state: np.ndarray, smoothed: np.ndarray) -> list[np.ndarray]:
    names = dict(zip(measure.species, state, strict=True))
    known = dict(zip(measure.species, smoothed, strict=True))
    known |= {f"lap({s})": laplacian(known[s]) for s in measure.species}
    functions = expressions.smooth_functions(state) | Grid((state.shape[-2], state.shape[-1])).operators()

    def of(term: str) -> np.ndarray:
        if term in known:
            return known[term]
        field = expressions.evaluate(expressions.parse(term, measure.species), names, functions)
        return measure.smooth(field + 0 * state[0])  # the term '1' is a field, too, and nan where nothing is known

    return [of(term) for term in measure.terms]


@dataclass(frozen=True)
class SecondOrder:
    """A task: what explicit steps change observables by, beyond the first order in the step.

    A scheme x + dt v keeps E[g(x + dt v) - g(x)] = 0, that is E[v . grad g] = -dt E[v' (hess g) v] / 2 and not zero.

    Args:
        system: v, whose unit of time is that of the result.
    """

    measure: Measure
    system: System

    def __call__(self, sample_id: int, state: np.ndarray) -> Findings:
        """Of one snapshot, v' (hess g) v / 2 of the observables, rows [J], and of those held out, held_out [40]."""
        return extrapolate(self.measure, sample_id, state, self._at)

    def _at(self, state: np.ndarray) -> Findings:
        smoothed, v = self.measure.smooth(state), self.measure.smooth(self.system.rate(state))
        judges = self.measure.held_out()

        def rates(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            by_u, by_v = observable_gradients(*x)
            own = np.array([(a * v[0] + b * v[1]).mean() for a, b in zip(by_u, by_v, strict=True)])
            return own, judges.rates(torch.from_numpy(x)[None], torch.from_numpy(v)[None])[0].numpy()

        step = MOVED / max(np.abs(v).max(), np.finfo(float).tiny)  # whatever the unit of time
        ahead, behind = rates(smoothed + step * v), rates(smoothed - step * v)
        own, judged = ((a - b) / (4 * step) for a, b in zip(ahead, behind, strict=True))
        return {"rows": own, "held_out": judged}


def refuse_not_finite(findings: Findings, sample_ids: np.ndarray, terms: tuple[str, ...]) -> None:
    """Refuse snapshots [N] in which a task finds what is not finite.

    Raises:
        UserError: names the samples that are no concentrations, or the term that is not finite on some of them.
    """
    finite = np.all([np.isfinite(v).reshape(len(v), -1).all(axis=1) for v in findings.values()], axis=0)
    if finite.all():
        return
    of_all = f"of {len(sample_ids)} looked at"
    for k, term in enumerate(terms if "gram" in findings else ()):
        known = np.isfinite(findings["gram"])
        singular = ~known[:, k, k] & known.any(axis=(1, 2))  # of what are no concentrations, nothing is known
        if singular.any():
            raise UserError(
                f"the term {term!r} is not finite on {_samples_text(sample_ids[singular])} {of_all}; "
                "take one that is finite for all concentrations, and for what noise adds to them"
            )
    raise UserError(
        f"{_samples_text(sample_ids[~finite])} {of_all}: values that are not finite, or outside [0, 1] "
        "by more than the noise; concentrations lie in [0, 1]"
    )


def _samples_text(ids: np.ndarray) -> str:
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    return f"sample{'s' * (len(ids) > 1)} {', '.join(map(str, ids[:5]))}{more}"


def observable_gradients(u: np.ndarray, v: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Functional derivatives by u and by v of the observables, fields [H, W] each.

    Observables are spatial means of u^a v^b to degree 5, of the gradient energies |grad u|^2, grad u . grad v and
    |grad v|^2, and of w lap u and w lap v for monomials w of degree 2 and 3. The Laplacian is self-adjoint, so the
    derivative of w lap u by u is w_u lap u + lap w.
    """
    pu, pv = _powers(u, OBSERVABLE_DEGREE), _powers(v, OBSERVABLE_DEGREE)
    lap_u, lap_v = laplacian(u), laplacian(v)
    zero = np.zeros_like(u)
    by_u: list[np.ndarray] = []
    by_v: list[np.ndarray] = []

    def slope(a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        return (a * pu[a - 1] * pv[b] if a else zero), (b * pu[a] * pv[b - 1] if b else zero)

    for degree in range(1, OBSERVABLE_DEGREE + 1):
        for b in range(degree + 1):
            w_u, w_v = slope(degree - b, b)
            by_u.append(w_u)
            by_v.append(w_v)
    by_u += [-2 * lap_u, -lap_v, zero]
    by_v += [zero, -lap_u, -2 * lap_v]
    for degree in WEIGHT_DEGREES:
        for b in range(degree + 1):
            w_u, w_v = slope(degree - b, b)
            lap_w = laplacian(pu[degree - b] * pv[b])
            by_u += [w_u * lap_u + lap_w, w_u * lap_v]
            by_v += [w_v * lap_u, w_v * lap_v + lap_w]
    return by_u, by_v


def _powers(x: np.ndarray, degree: int) -> list[np.ndarray]:
    """1, x, x^2, ..., x^degree."""
    made = [x * 0 + 1]
    for _ in range(degree):
        made.append(made[-1] * x)
    return made
