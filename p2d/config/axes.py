"""What a sweep varies: settings of the flow, the score model or the data, each with its values or a range of them."""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from p2d.config.base import Config
from p2d.config.learn import FlowConfig, ScoreConfig, TrainSource
from p2d.errors import UserError, nearest

STAGES: dict[str, type[Config]] = {"flow": FlowConfig, "score": ScoreConfig}
DATA = ("snapshots",)  # of the source's settings, those that say what is learnt
DIGITS = 4  # of a number that is drawn from a range
FORM = "KEY=VALUE,VALUE or KEY=LOW..HIGH, such as flow.hidden=16,32 or flow.learning_rate=1e-4..1e-2:log"


@dataclass(frozen=True)
class Axis:
    """A setting, and the values it takes, as the text they are given in; of a range the ends alone.

    Attributes:
        key: 'flow.alpha', 'score.epochs', 'data.snapshots'.
        log: a range is drawn from in the logarithm.
    """

    key: str
    values: tuple[str, ...]
    is_range: bool = False
    log: bool = False

    @property
    def label(self) -> str:
        """The name a person reads: a flow's settings are named without their stage."""
        return self.key.removeprefix("flow.").removeprefix("data.")

    @property
    def told(self) -> str:
        """The values as they are given: '16,32' or '1e-4..1e-2:log'."""
        return "..".join(self.values) + ":log" * self.log if self.is_range else ",".join(self.values)

    @property
    def varies(self) -> bool:
        """Whether trials differ by it."""
        return self.is_range or len(self.values) > 1

    def drawn(self, source: random.Random) -> str:
        """One of the values, or a number of the range."""
        if not self.is_range:
            return source.choice(self.values)
        low, high = map(float, self.values)
        number = math.exp(source.uniform(math.log(low), math.log(high))) if self.log else source.uniform(low, high)
        return self.rounded(number)

    def rounded(self, number: float) -> str:
        """A number of the range as text: whole where the setting is; what is rounded past an end is that end."""
        text = str(round(number)) if _hint(self.key) in (int, int | None) else f"{number:.{DIGITS}g}"
        low, high = map(float, self.values)
        return self.values[0] if float(text) <= low else self.values[1] if float(text) >= high else text


def axis(text: str) -> Axis:
    """An axis from 'KEY=VALUE,VALUE' or 'KEY=LOW..HIGH', ':log' at its end for a logarithmic range.

    Raises:
        UserError: another form, a setting that there is not (with the nearest one), or a value that is not its kind.
    """
    key, equals, told = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise UserError(f"param {text!r} is not understood; give {FORM}")
    ends, colon, scale = told.partition(":")
    if ".." in ends or colon:
        return _range(text, key, ends, scale if colon else "")
    return of_values(key, tuple(value.strip() for value in told.split(",") if value.strip()))


def of_values(key: str, values: tuple[str, ...]) -> Axis:
    """The axis of these values, each once.

    Raises:
        UserError: no values, or one that is not the setting's kind.
    """
    if not values:
        raise UserError(f"{key} has no values to try; give one or more")
    kept: dict[Any, str] = {}
    for value in values:
        kept.setdefault(parse(key, value), value)  # 0.5 and 0.50 are one value
    return Axis(key, tuple(kept.values()))


def _range(text: str, key: str, ends: str, scale: str) -> Axis:
    low, *others = ends.split("..")
    hint = _hint(key)
    if scale not in ("", "log") or hint not in (int, float, int | None) or len(others) != 1 or "" in (low, *others):
        raise UserError(f"param {text!r} is not understood; give {FORM}")
    high = others[0]
    first, last = parse(key, low), parse(key, high)
    if not first < last or (scale and first <= 0):
        raise UserError(f"param {text!r} is no range: it must rise{', from above 0' if scale else ''}")
    return Axis(key, (low.strip(), high.strip()), is_range=True, log=bool(scale))


def parse(key: str, value: str) -> Any:
    """A setting's value from its text; several widths are written 32x32.

    Raises:
        UserError: no such setting, not of its kind, or not finite.
    """
    hint = _hint(key)
    kinds = get_args(hint)
    try:
        if hint is bool:
            return {"true": True, "false": False}[value.lower()]
        if hint is float:
            return _finite(key, value)
        if hint in (int, int | None):
            return int(value)
        if kinds and kinds[-1] is Ellipsis:
            return tuple(_finite(key, part) if kinds[0] is float else int(part) for part in value.split("x"))
    except (ValueError, KeyError) as error:
        kind = getattr(hint, "__name__", str(hint)) if not kinds else f"{kinds[0].__name__}"
        raise UserError(f"{key} = {value!r} is not possible: it must be of kind {kind}") from error
    return value


def _finite(key: str, value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise UserError(f"{key} = {value} is not possible: it must be finite")
    return number


@functools.cache
def _hints() -> dict[str, Any]:
    """The type of every setting that can be varied."""
    hints = {f"{s}.{n}": hint for s, config in STAGES.items() for n, hint in get_type_hints(config).items()}
    hints |= {f"data.{name}": hint for name, hint in get_type_hints(TrainSource).items() if name in DATA}
    del hints["flow.objective"]
    return hints


def _hint(key: str) -> Any:
    """The type of a setting.

    Raises:
        UserError: there is no such setting; names the nearest.
    """
    hints = _hints()
    if key in hints:
        return hints[key]
    stage, _, name = key.partition(".")
    beside = [f"{s}.{name or stage}" for s in (*STAGES, "data")]  # the right name under another stage, or under none
    there = next((k for k in beside if k in hints), None)
    told = f" (did you mean {there!r}?)" if there else nearest(key, hints)
    raise UserError(f"there is no setting {key!r}{told}; settings are flow.NAME, score.NAME and data.snapshots")


def settings_of(stage: str, point: dict[str, str]) -> dict[str, Any]:
    """The settings of a stage ('flow', 'score' or 'data') at a point: a value for each key."""
    return {key.partition(".")[2]: parse(key, value) for key, value in point.items() if key.startswith(f"{stage}.")}
