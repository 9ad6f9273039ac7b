"""What is finished, running, unfinished or broken under an output folder, and the command that goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from p2d.config import settings_hash
from p2d.errors import UserError
from p2d.evaluate.tables import table_text
from p2d.events import read_events
from p2d.lock import holder, lock_of
from p2d.runs import DATA, EQUATION, FLOW, KINDS, REPORT, SCORE, SWEEP, Kind, short_name
from p2d.snapshots.card import load_card
from p2d.training.history import History

FINISHED, RUNNING, UNFINISHED, BROKEN = "finished", "running", "unfinished", "broken"
REPORTS = {
    "training": "training",
    "summary.json": "evaluation",
    "quality.json": "samples",
    "rollout/rollout.json": "rollout",
    "index.html": "page",
    "contact.png": "contact sheet",
}
HASH = "?" * len(settings_hash({}))  # with which the folder of a model in training ends
SAID = ("seconds", "workers", "threads", "error", "resources", "versions")  # of an event, beside when, what and who


@dataclass(frozen=True)
class Result:
    """A result and its state.

    Attributes:
        kind: 'dataset', 'score model', ...
        state: finished, running, unfinished (its command goes on) or broken (says why).
        detail: how far it is.
        by: the process that is at it, if one is.
        since: when that began.
        command: that goes on, where one is known.
    """

    kind: str
    name: str
    where: str
    state: str
    detail: str = ""
    by: str = ""
    since: str = ""
    command: str = ""


@dataclass(frozen=True)
class Status:
    """All results under an output folder, or those of a name with what happened to them."""

    out: Path
    results: list[Result]
    events: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As --json prints it."""
        return {"out": str(self.out), "results": list(map(asdict, self.results)), "events": self.events}

    def __str__(self) -> str:
        if not self.results:
            return f"there is nothing under {self.out}; p2d run makes everything"
        rows = [(r.kind, r.name, r.state, r.detail, f"{r.by}, since {r.since}" if r.by else "") for r in self.results]
        text = table_text(("", "name", "state", "", "by"), rows)
        going_on = dict.fromkeys(r.command for r in self.results if r.state == UNFINISHED and r.command)
        text += "".join(f"\ngo on: {command}" for command in going_on)
        return "\n".join([text, *([""] if self.events else []), *map(_event_text, self.events)])


def _event_text(event: dict[str, Any]) -> str:
    said = [f"{key} {_value_text(event[key])}" for key in SAID if event.get(key)]
    said = [event["command"]] if event["event"] == "started" else said
    what = f"{event.get('stage', '')} {event.get('state') or event['event']}".strip()
    return f"{event['at']}  {event['result']}: {what} ({event['process']})  {'; '.join(said)}".rstrip()


def _value_text(value: Any) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)


def status(out: Path, name: str = "") -> Status:
    """What is under an output folder.

    Args:
        name: of the results that are asked for, with their events; all, without events, when empty.

    Raises:
        UserError: there is none of this name.
    """
    events = read_events(out)
    begun = {event["result"]: event for event in events if event["event"] == "started"}
    ended = {event["result"]: event for event in events if event["event"] in ("started", "ended")}
    results = []
    for kind in KINDS:
        for known in _names(out, kind):
            result = _result(kind, known, out)
            of_result = [key for key in ended if f"{key}/".startswith(f"{kind.folder}/{known}/")]
            if result.state == UNFINISHED and of_result:
                last = ended[of_result[-1]]
                why = {"failed": f"failed: {last.get('error')}", "stopped": "stopped", FINISHED: ""}
                parts = filter(None, (result.detail, why.get(last.get("state", ""), "was killed")))
                command = begun.get(of_result[-1], {}).get("command", "")
                result = replace(result, detail=", ".join(parts), command=command)
            results.append(result)
    if name:
        results = [r for r in results if name in (r.name, short_name(r.name))]
        if not results:
            raise UserError(f"there is nothing called {name!r} under {out}; p2d status lists what there is")
        own = [f"{r.where.removeprefix(f'{out}/')}/" for r in results]
        events = [e for e in events if any(f"{e['result']}/".startswith(where) for where in own)]
    return Status(out, results, events if name else [])


def _names(out: Path, kind: Kind) -> list[str]:
    """Of results that are there, and of those that are only being made."""
    folder, names = out / kind.folder, set()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith(".lock"):
            names.add(path.name[1 : -len(".lock")])
        elif kind in (SCORE, FLOW) and fnmatch(path.name, f".*-{HASH}"):
            names.add(path.name[1 : -len(HASH) - 1])
        elif path.is_dir() and not path.name.startswith("."):
            names.add(path.name)
    return sorted(names)


def _result(kind: Kind, name: str, out: Path) -> Result:
    folder = out / kind.folder / name
    try:
        state, detail = STATES[kind.what](folder)
    except (UserError, ValueError, KeyError) as error:
        state, detail = BROKEN, str(error)
    for target in (folder, kind.place(out, name), folder / "rollout"):
        by, since = holder(lock_of(target))
        if by:
            return Result(kind.what, name, str(folder), RUNNING, detail, by, since)
    return Result(kind.what, name, str(folder), state, detail)


def _dataset(folder: Path) -> tuple[str, str]:
    if not folder.is_dir():
        return UNFINISHED, ""
    card = load_card(folder)
    if card.complete:
        return FINISHED, f"{card.samples} samples"
    return UNFINISHED, f"{sum(1 for _ in folder.glob('shard-*.parquet'))} shards"


def _model(folder: Path) -> tuple[str, str]:
    finished = (folder / "config.json").is_file()
    if folder.is_dir() and not finished:
        return BROKEN, "no config.json"
    epochs = max(_epochs(folder) if finished else _epochs_in_training(folder), default=0)
    return (FINISHED if finished else UNFINISHED), f"epoch {epochs}"


def _epochs(folder: Path) -> Iterator[int]:
    if (folder / "history.json").is_file():
        yield History.load(folder).last.number


def _epochs_in_training(folder: Path) -> Iterator[int]:
    for storage in folder.parent.glob(f".{folder.name}-{HASH}"):
        for file in storage.rglob("history.json"):
            yield from _epochs(file.parent)


def _equation(folder: Path) -> tuple[str, str]:
    file = folder / EQUATION.mark
    if not file.is_file():
        return UNFINISHED, ""
    json.loads(file.read_text())
    return FINISHED, ""


def _report(folder: Path) -> tuple[str, str]:
    made = [word for file, word in REPORTS.items() if (folder / file).exists()]
    return (FINISHED if made else UNFINISHED), ", ".join(made)


def _sweep(folder: Path) -> tuple[str, str]:
    if (folder / "sweep.json").is_file():
        return FINISHED, f"{len(json.loads((folder / 'sweep.json').read_text())['trials'])} trials"
    return UNFINISHED, f"{sum(1 for _ in folder.glob('trials/*/config.json'))} trials trained"


STATES = {
    DATA.what: _dataset,
    SCORE.what: _model,
    FLOW.what: _model,
    EQUATION.what: _equation,
    REPORT.what: _report,
    SWEEP.what: _sweep,
}
