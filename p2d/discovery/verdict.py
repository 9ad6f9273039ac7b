"""What is known of a discovered equation, in two claims and in words; all thresholds of the verdict are here.

The velocity, what the equation says that changes where, and its terms are two things: on data near a curve of the
species several sets of terms have nearly the same velocity. Each is claimed on its own, and only where nothing that the
snapshots show speaks against it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from p2d.snapshots.doubts import Doubt

LEAST_RUNS = 8  # fewer independent snapshots have no covariance to speak of
FEWEST = 12  # runs that a claim may rest on, whatever their tiles seem to tell
RUNS_PER_WEIGHT = 1.25  # runs over observables that they give weights, below which chi-squared of the fit tells nothing
SIGNIFICANT = 3.0  # standard errors, of the step and of the variance of a pattern
KNOWN = 0.01  # 1 - cosine with the true velocity, below which it is known
LEAST_P = 1e-3  # probability under chance, below which held-out observables speak against the equation
# Bound below which what judges see may stand beside a known velocity: of wrong equations that they saw, 1 - cosine was
# up to some 200 times the bound.
SLIGHT = 3e-5
STABLE = 0.9  # share of the resampled ensembles that have to keep each of the terms
# Kinds of doubt that speak against the terms alone, and against nothing.
OF_TERMS = ("rounded", "symmetric", "slight")
OF_NONE = ("joined", "dynamics noise")


@dataclass(frozen=True)
class Alternative:
    """Another set of terms that fits as well.

    Attributes:
        without: terms of the equation that it has not, as 'du/dt: u v^2'.
        instead: those that it has in their place.
    """

    without: tuple[str, ...]
    instead: tuple[str, ...]

    def __str__(self) -> str:
        if not self.without:
            return f"{', '.join(self.instead)} as well"
        return f"{', '.join(self.instead) or 'nothing'} instead of {', '.join(self.without)}"


@dataclass(frozen=True)
class Claims:
    """What is known of an equation.

    Attributes:
        velocity: 1 - cosine of its velocity with the true one is at most this, with 95 % confidence; None where that
            cannot be told.
        stable: share of the resampled ensembles in which the same terms are chosen; 1 where they are given.
        fewest: the least share that keeps one of the terms.
        p_value: of the rates of the observables that judge, jointly; None where none do.
        alternatives: other sets of terms that fit as well.
        doubts: what speaks against the claims.
    """

    velocity: float | None = None
    stable: float = 0.0
    fewest: float = 0.0
    p_value: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def velocity_known(self) -> bool:
        """Whether the velocity is known to a cosine of 0.99, and nothing speaks against it."""
        return self._bounded and not self.doubted

    @property
    def doubted(self) -> bool:
        """Whether doubts alone keep the velocity from being known."""
        return self._bounded and any(doubt.kind not in OF_TERMS + OF_NONE for doubt in self.doubts)

    @property
    def _bounded(self) -> bool:
        return self.velocity is not None and self.velocity <= KNOWN

    @property
    def terms_known(self) -> bool:
        """Whether one set of terms alone fits, in nearly all resampled ensembles, and nothing speaks against it."""
        against = [doubt for doubt in self.doubts if doubt.kind not in OF_NONE]
        return self.velocity_known and not against and not self.alternatives and self.fewest >= STABLE

    def __str__(self) -> str:
        """In words: 'velocity known (...), terms known, held-out observables agree (p = 0.4)'."""
        but = ", were it not for the doubts below" if self.doubted else ""
        to = "" if self.velocity is None else f" (1 - cosine at most {self.velocity:.0e} with 95 % confidence{but})"
        words = [f"velocity {'known' if self.velocity_known else 'not known'}{to}"]
        words.append(f"terms {'known' if self.terms_known else 'not known'}{self._of_terms}")
        if self.p_value is not None:
            agree = "agree" if self.p_value >= LEAST_P else "disagree"
            words.append(f"held-out observables {agree} (p = {self.p_value:.2g})")
        return ", ".join(words)

    @property
    def _of_terms(self) -> str:
        if self.alternatives:
            first, count = self.alternatives[0], len(self.alternatives)
            others = f"{count} other sets fit as well, such as with" if count > 1 else "another set fits as well, with"
            return f" ({others} {first}; another condition or more snapshots decide)"
        if self.velocity is not None and self.fewest < STABLE:
            return f" (of resampled ensembles {100 * self.stable:.0f} % have just these; more snapshots decide)"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self) | {"velocity_known": self.velocity_known, "terms_known": self.terms_known}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Claims:
        """The claims of these JSON types."""
        own = {key: value for key, value in values.items() if key not in ("velocity_known", "terms_known")}
        others = tuple(Alternative(tuple(a["without"]), tuple(a["instead"])) for a in own["alternatives"])
        return cls(**own | {"alternatives": others, "doubts": tuple(Doubt(**doubt) for doubt in own["doubts"])})


def judged_doubt(p_value: float, bound: float | None) -> Doubt:
    """That an equation does not keep what it should, by much or by little."""
    if bound is not None and bound <= SLIGHT:
        return Doubt(
            "slight",
            f"the equation does not quite keep the averages that it should (p = {p_value:.1g}), by so little that its "
            "velocity is known all the same; small terms may be missing",
        )
    return Doubt(
        "judges",
        f"the equation does not keep the averages that it should (p = {p_value:.1g}): the library lacks terms, "
        "pictures are blurred, binned or compressed, the system still changes, or there are several of them",
    )


def symmetry_doubt() -> Doubt:
    """That a velocity without neighbours keeps the ensemble, besides the equation or as the equation."""
    return Doubt(
        "symmetry",
        "a velocity without Laplacians, such as that of a turning phase, keeps the ensemble by itself: any share of it "
        "may be in the dynamics, and no snapshot tells; two frames at a known distance in time do",
    )


def camera_doubt() -> Doubt:
    """That noise in the dynamics was taken rather than a camera's."""
    return Doubt(
        "dynamics noise",
        "noise in the dynamics explains the short waves better than white noise of a camera does; where a camera adds "
        "noise too, sigma holds some of it: give --noise",
    )


def untied_doubt() -> Doubt:
    """That every term turns with a known condition."""
    return Doubt(
        "untied",
        "every term turns with the conditions: how fast time runs at each is not told then, so that another speed at "
        "each, or a condition that terms do not follow along a straight line, may be what is seen; frames at known "
        "times at each condition tell",
    )


def few_doubt(runs: int, observables: int) -> Doubt:
    """Of runs that are no more than the observables they give weights."""
    return Doubt(
        "few",
        f"too few snapshots: {runs} independent runs cannot give weights to {observables} observables, nor tell "
        f"whether the ensemble is stationary; about {observables} are needed",
    )


def film_doubt(runs: int, frames: int) -> Doubt:
    """Of few films, whose frames were taken for an ensemble."""
    return Doubt(
        "film",
        f"{frames} frames of {runs} run{'s' * (runs != 1)} stand for an ensemble, as is right of a long film of what "
        f"goes on for ever: errors are too small and nothing is claimed; {LEAST_RUNS} runs or more would do, {FEWEST} "
        "for a claim",
    )


def own_parameters_doubt(settled: int, count: int) -> Doubt:
    """Of snapshots of a named system that stand still each by itself, and together are no ensemble of it."""
    return Doubt(
        "own parameters",
        f"{settled} of {count} snapshots that were looked at stand still, each by itself, at parameters of its own: no "
        "one equation has them all; --each tells the parameters of each",
        {"settled": float(settled), "looked_at": float(count)},
    )


def unsettled_text(system: str, left: float, runs: int) -> str:
    """Of few snapshots of a named system that do not stand still."""
    return (
        f"not settled: the terms of {system} leave {left:.2g} of the Laplacians' power, so that something moves, or "
        f"these are not its terms; at least {LEAST_RUNS} independent snapshots are needed for an equation of what "
        f"moves, and these are of {runs} run{'s' * (runs != 1)}"
    )


def static_text(imbalance: float, system: str, *, named: bool) -> str:
    """Of an ensemble that does not move: a steady state of this system, or of none that is known."""
    seen = f"static: Laplacians are functions of the values in every cell to {imbalance:.0e} of their power, so that "
    if not system:
        return (
            seen
            + "nothing moves, and no velocity can be told; --library SYSTEM gives the parameters of its steady state"
        )
    whose = "these are the parameters of that" if named else "these are the parameters of a"
    return (
        f"{seen}nothing moves; {whose} steady state, if its terms are {system}'s; whether and how fast it moves "
        "otherwise, and the direction of time, cannot be known from it"
    )
