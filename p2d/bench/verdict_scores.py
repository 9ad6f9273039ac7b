"""What claims are worth beside the right answers: outcomes of cases, scores and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2d.bench.answering import Answer
from p2d.bench.answers import Case

RIGHT = 0.99  # cosine of a right velocity
WRONG_COSTS = 10  # right answers


@dataclass(frozen=True)
class Outcome:
    """What a method said of a case, and whether that was right: a line of the results' file.

    Attributes:
        method: p2d, pysindy or one static snapshot.
        seed, number, fault, size, system: of the case.
        snapshots, length: of the case.
        cosine: of the equation's velocity with the true one; None where nothing moves, or it gave no equation.
        velocity_right, velocity_claimed, terms_right, terms_claimed: of the two claims.
        knowable, terms_knowable: whether a perfect method could have known them.
        bound: of 1 - cosine, where one is given.
        held, intervals: how many 90 % intervals of true terms hold the true coefficient, of how many.
        doubts: kinds of what is doubted.
        verdict: in words.
        seconds: of CPU time that the answer took.
        made_in: those that the snapshots took.
    """

    method: str
    seed: int
    number: int
    fault: str
    size: str
    system: str
    snapshots: int
    length: int
    cosine: float | None
    velocity_right: bool
    velocity_claimed: bool
    terms_right: bool
    terms_claimed: bool
    knowable: bool
    terms_knowable: bool
    bound: float | None
    held: int
    intervals: int
    doubts: tuple[str, ...]
    verdict: str
    seconds: float
    made_in: float

    @property
    def bound_holds(self) -> bool | None:
        """Whether 1 - cosine is below the bound of a velocity that is claimed; None where there is none."""
        if not self.velocity_claimed or self.bound is None or self.cosine is None:
            return None
        return 1 - self.cosine <= self.bound


def judged(case: Case, answer: Answer, method: str, seconds: float, made_in: float) -> Outcome:
    """The outcome of a case.

    The velocity is right where its cosine with the true one, on clean snapshots that were held out, is at least RIGHT.
    The terms are right where they are the true ones of every species, see `Truth`. Of what has no right answer,
    every claim is wrong.
    """
    cosine = None
    if answer.terms is not None and case.truth.judged:
        cosine = case.truth.cosine(answer.system, answer.operator, directed=answer.directed)
    held, intervals = _covered(case, answer)
    return Outcome(
        method=method,
        seed=case.seed,
        number=case.number,
        fault=case.fault,
        size=case.size,
        system=case.system,
        snapshots=len(case.states),
        length=case.states.shape[-1],
        cosine=cosine,
        velocity_right=cosine is not None and cosine >= RIGHT,
        velocity_claimed=answer.velocity_known,
        terms_right=answer.terms is not None and case.truth.has_terms(answer.terms),
        terms_claimed=answer.terms_known,
        knowable=case.truth.knowable,
        terms_knowable=case.truth.terms_knowable,
        bound=answer.bound,
        held=held,
        intervals=intervals,
        doubts=answer.doubts,
        verdict=answer.verdict.split(":")[0].split(" (")[0],
        seconds=round(seconds, 2),
        made_in=round(made_in, 2),
    )


def _covered(case: Case, answer: Answer) -> tuple[int, int]:
    """How many intervals of true terms hold the true coefficient, of how many.

    Of a unit of time that is not the true system's, after the factor that makes the velocity as large as the true one.
    """
    truth = case.truth
    if truth.terms is None or answer.terms is None or not truth.judged:
        return 0, 0
    factor = 1.0 if answer.named else _speed(case, answer)
    inside = [
        min(factor * low, factor * high) <= truth.terms[s][term] <= max(factor * low, factor * high)
        for s, own in answer.intervals.items()
        for term, (low, high) in own.items()
        if np.isfinite(truth.terms[s].get(term, np.nan)) and low < high
    ]
    return sum(inside), len(inside)


def _speed(case: Case, answer: Answer) -> float:
    """How much faster the true velocity is than an answer's."""
    one = case.truth.judged[0]
    own = answer.system.rate(one.states, one.grid, answer.operator)[..., one.cells]
    true = one.rates[..., one.cells]
    sign = np.sign((own * true).sum()) if not answer.directed else 1.0
    return float(sign * np.sqrt((true**2).sum() / (own**2).sum())) if own.any() else 0.0


@dataclass(frozen=True)
class Confusion:
    """Right or wrong, claimed or not: how many cases of each."""

    right_claimed: int
    right_unclaimed: int
    wrong_claimed: int
    wrong_unclaimed: int
    knowable: int  # cases in which a right claim was possible, or was made

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], claim: str) -> Confusion:
        """Of a claim, 'velocity' or 'terms'."""
        pairs = [(getattr(o, f"{claim}_right"), getattr(o, f"{claim}_claimed")) for o in outcomes]
        could = [o.knowable if claim == "velocity" else o.terms_knowable for o in outcomes]
        counts = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
        able = sum(one or pair == (True, True) for one, pair in zip(could, pairs, strict=True))
        return cls(counts[0], counts[1], counts[2], counts[3], able)

    @property
    def score(self) -> float:
        """The score for knowing.

        A right claim is worth 1, "not known" 0, and a wrong claim -10: one confident wrong answer costs as much as ten
        times "not known" where a right answer was possible. Over the cases where one was: 1 is all that can be known
        and nothing else, 0 is silence.
        """
        return (self.right_claimed - WRONG_COSTS * self.wrong_claimed) / max(self.knowable, 1)

    @property
    def honest(self) -> float:
        """Share of the cases that were answered rightly or refused."""
        count = self.right_claimed + self.right_unclaimed + self.wrong_claimed + self.wrong_unclaimed
        return 1 - self.wrong_claimed / max(count, 1)

    @property
    def missed(self) -> float:
        """Share of the right answers that were called unknown."""
        return self.right_unclaimed / max(self.right_claimed + self.right_unclaimed, 1)


def tables(outcomes: Sequence[Outcome]) -> str:
    """All tables as Markdown: of each method confusion, scores and coverage, then p2d's by fault and size."""
    methods = list(dict.fromkeys(o.method for o in outcomes))
    own = [o for o in outcomes if o.method == "p2d"]
    parts = [_methods(outcomes, methods)]
    if own:
        parts += [_by_fault(own), _by(own, "snapshots", _snapshot_class), _wrong(own)]
    return "\n\n".join(part for part in parts if part)


def _methods(outcomes: Sequence[Outcome], methods: list[str]) -> str:
    head = [
        "method",
        "claim",
        "cases",
        "right, claimed",
        "right, not",
        "wrong, claimed",
        "wrong, not",
        "right not claimed",
    ]
    head += ["score for knowing", "90 % intervals hold", "of claimed terms", "bound holds", "CPU s a case"]
    rows = []
    for method in methods:
        own = [o for o in outcomes if o.method == method]
        sure = [o for o in own if o.terms_claimed and o.terms_right]
        held = [_share(sum(o.held for o in some), sum(o.intervals for o in some)) for some in (own, sure)]
        bounds = [o.bound_holds for o in own if o.bound_holds is not None]
        for claim in ("velocity", "terms"):
            c = Confusion.of(own, claim)
            first = claim == "velocity"
            rows.append(
                [method, claim, len(own), c.right_claimed, c.right_unclaimed, c.wrong_claimed, c.wrong_unclaimed]
                + [_percent(c.missed), f"{c.score:+.2f}"]
                + ([*held, _share(sum(bounds), len(bounds))] if first else ["", "", ""])
                + [f"{np.mean([o.seconds for o in own]):.1f}" if first else ""]
            )
    return _markdown(head, rows)


def _by_fault(outcomes: Sequence[Outcome]) -> str:
    """Of each fault and size: the confusion of both claims, and the share that was answered rightly or refused."""
    return _by(outcomes, "fault", lambda o: f"{o.fault} {o.size}".strip())


def _by(outcomes: Sequence[Outcome], name: str, key: Callable[[Outcome], str]) -> str:
    columns = ("right claimed", "right not", "wrong claimed", "wrong not")
    head = [name, "cases", *(f"velocity {c}" for c in columns), *(f"terms {c}" for c in columns)]
    head += ["right or refused", "90 % intervals hold", "doubts"]
    rows = []
    for label in sorted({key(o) for o in outcomes}, key=_order(outcomes, key)):
        own = [o for o in outcomes if key(o) == label]
        both = [Confusion.of(own, claim) for claim in ("velocity", "terms")]
        counts = [(c.right_claimed, c.right_unclaimed, c.wrong_claimed, c.wrong_unclaimed) for c in both]
        refused = " / ".join(_percent(c.honest) for c in both)
        kinds = [kind for o in own for kind in o.doubts]
        doubts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
        intervals = _share(sum(o.held for o in own), sum(o.intervals for o in own))
        rows.append([label, len(own), *counts[0], *counts[1], refused, intervals, doubts])
    return _markdown(head, rows)


def _order(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> Callable[[str], Any]:
    """Faults in the order of the alphabet, none first; sizes by their numbers."""
    first = {key(o): (o.fault != "none", o.fault, _number(o.size), o.size) for o in outcomes}
    return lambda label: (int(label.split(" ")[0]),) if label[0].isdigit() else first[label]


def _number(size: str) -> float:
    try:
        return float(size)
    except ValueError:
        return 0.0


def _snapshot_class(outcome: Outcome) -> str:
    low = max(n for n in (0, 32, 64, 128) if outcome.snapshots >= n)
    return {0: "16 to 31", 32: "32 to 63", 64: "64 to 127", 128: "128 to 256"}[low]


def _wrong(outcomes: Sequence[Outcome]) -> str:
    """The claims that are wrong, one by one, so that each can be made again by its number."""
    rows: list[list[Any]] = []
    for o in outcomes:
        miss = "" if o.cosine is None else f"{1 - o.cosine:.1e}"
        bound = "" if o.bound is None else f"{o.bound:.1e}"
        for claim in ("velocity", "terms"):
            if getattr(o, f"{claim}_claimed") and not getattr(o, f"{claim}_right"):
                fault = f"{o.fault} {o.size}".strip()
                rows.append([o.number, fault, o.system, o.snapshots, o.length, claim, miss, bound])
    head = ["wrong: case", "fault", "system", "snapshots", "size", "claim", "1 - cosine", "bound"]
    return _markdown(head, rows) if rows else "no claim is wrong"


def _markdown(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _share(part: int, whole: int) -> str:
    return f"{_percent(part / whole)} of {whole}" if whole else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
