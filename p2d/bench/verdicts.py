"""What p2d claims of hundreds of seeded cases, beside their right answers, and beside what others say of the same.

Each case is a function of (seed, number), so that any of them can be made again:

    from p2d.bench.verdicts import cases
    for case in cases(seed=0, count=4):
        print(case.fault, p2d.discover(case.states, **case.arguments).claims, case.truth.terms)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import p2d
from p2d.bench import answering
from p2d.bench.answering import Answer
from p2d.bench.answers import Case
from p2d.bench.verdict_cases import case_of, cases, dealt, numbers
from p2d.bench.verdict_scores import Outcome, judged, tables
from p2d.config.bench import BenchVerdictsConfig
from p2d.errors import UserError
from p2d.places import Remote
from p2d.progress import say
from p2d.runs import make_output_folder
from p2d.threads import single_threaded

__all__ = ["case_of", "cases", "dealt", "measure", "numbers"]

P2D, SINDY, STATIC = "p2d", "pysindy with the order of time", "least squares, one snapshot"
# Parts of p2d that answers come from: results are gone on with only where all of it is the same.
CODE = ("discovery", "snapshots", "systems", "bench", "fields.py", "api.py")


@dataclass(frozen=True)
class Verdicts:
    """Outcomes of all cases, in their order."""

    outcomes: list[Outcome]

    def __str__(self) -> str:
        return tables(self.outcomes)


def measure(config: BenchVerdictsConfig, out: Path) -> Verdicts:
    """Answer the cases that are not answered yet, and write outcomes and tables to OUT/verdicts.

    Raises:
        UserError: no pysindy where it is asked for, or a folder of an object store.
    """
    if isinstance(out, Remote):
        raise UserError(f"out = {out} is not possible: outcomes are added to a file as they come; give a local folder")
    if config.beside:
        answering.refuse_no_sindy()
    folder = make_output_folder(out / "verdicts")
    file = folder / f"seed_{config.seed}_{_digest()}.jsonl"
    chosen = numbers(config.seed, config.cases)
    methods = [P2D, *[SINDY, STATIC] * config.beside]
    known = {(o.method, o.number): o for o in _read(file)}
    done = {(method, number) for method, number in _tried(file)}
    missing = [(n, [m for m in methods if (m, n) not in done]) for n in chosen]
    for outcomes in _answered(config, [job for job in missing if job[1]], file):
        known |= {(o.method, o.number): o for o in outcomes}
    made = Verdicts([known[m, n] for n in chosen for m in methods if (m, n) in known])
    (folder / f"{file.stem}.md").write_text(f"{made}\n", encoding="utf-8")
    return made


def _answered(config: BenchVerdictsConfig, jobs: list[tuple[int, list[str]]], file: Path) -> Iterator[list[Outcome]]:
    """Outcomes of each job, a case and the methods that are to answer it; each is written down as soon as it is there.

    They are the same for any number of processes, and written in the order of the cases.
    """
    if not jobs:
        return
    with single_threaded(config.workers or os.cpu_count() or 1) as pool, file.open("a", encoding="utf-8") as lines:
        made = pool.map(_outcomes, *zip(*((config.seed, n, m) for n, m in jobs), strict=True))
        for (number, methods), outcomes in zip(jobs, made, strict=True):
            lines.writelines(json.dumps(asdict(o)) + "\n" for o in outcomes)
            lines.write(json.dumps({"number": number, "tried": methods}) + "\n")
            lines.flush()
            for o in outcomes[:1]:
                marks = ", ".join(
                    f"{claim} {'right' if getattr(o, f'{claim}_right') else 'wrong'}"
                    f"{', claimed' if getattr(o, f'{claim}_claimed') else ''}"
                    for claim in ("velocity", "terms")
                )
                say(f"case {number}, {o.fault} {o.size}, {o.system}: {marks} ({o.made_in:.0f} + {o.seconds:.0f} s)")
            yield outcomes


def _outcomes(seed: int, number: int, methods: list[str]) -> list[Outcome]:
    """Outcomes of the methods that apply to a case."""
    begin = _cpu_seconds()
    case = case_of(seed, number)
    made_in = _cpu_seconds() - begin
    answers: dict[str, Callable[[Case], Answer | None]] = {
        P2D: answering.now,
        SINDY: answering.sindy,
        STATIC: answering.one_static,
    }
    outcomes = []
    for method in methods:
        begin = _cpu_seconds()
        answer = answers[method](case)
        if answer is not None:
            outcomes.append(judged(case, answer, method, _cpu_seconds() - begin, made_in))
    return outcomes


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for, which do not depend on what else the machine does."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; the last may have been cut short."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def _read(file: Path) -> list[Outcome]:
    """Outcomes that are written down."""
    return [Outcome(**line | {"doubts": tuple(line["doubts"])}) for line in _lines(file) if "tried" not in line]


def _tried(file: Path) -> Iterator[tuple[str, int]]:
    """Methods and numbers of the cases that are done, those included that a method does not apply to."""
    for line in _lines(file):
        for method in line.get("tried", ()):
            yield method, line["number"]


def _digest() -> str:
    """Of all code that answers come from."""
    hashed = hashlib.sha256()
    root = Path(p2d.__file__).parent
    for part in CODE:
        place = root / part
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            hashed.update(file.read_bytes())
    return hashed.hexdigest()[:8]
