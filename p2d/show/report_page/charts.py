"""Charts of curves: what uPlot needs to know of each, as JSON that the page's script reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from p2d.show.report_page.html import Html, element

DIGITS = 6  # of numbers in the page


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        values: None, or nan, where there is none.
        colour: the number of a colour of the page; -1 for grey.
        line, points: how it is drawn.
    """

    label: str
    values: Sequence[float | None]
    colour: int = 0
    line: bool = True
    points: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart of curves over one axis.

    Attributes:
        name: of the chart, which is unique in the page.
        x, y: labels of the axes, with units.
        at: values of the axis, which rise.
        log_x, log_y: logarithmic axes.
        square: as high as wide.
        whole: the axis counts, so that marks are whole numbers.
    """

    name: str
    title: str
    x: str
    y: str
    at: Sequence[float]
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    square: bool = False
    whole: bool = False
    note: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        curves = [{**asdict(curve), "values": rounded(curve.values)} for curve in self.series]
        own = {key: getattr(self, key) for key in ("x", "y", "log_x", "log_y", "square", "whole")}
        return {**own, "at": rounded(self.at), "series": curves}

    def html(self) -> Html:
        """Where it is drawn."""
        about = f"Chart: {self.title}; {self.y} over {self.x}; {', '.join(curve.label for curve in self.series)}"
        place = element("div", class_="plot", data_chart=self.name, role="img", aria_label=about)
        heading = element("figcaption", element("strong", self.title), f" {self.note}" if self.note else None)
        return element("figure", heading, place, class_="chart square" if self.square else "chart")


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Numbers with as many digits as a chart shows, None where they are not finite."""
    return [
        None if value is None or not math.isfinite(value) else float(f"{float(value):.{DIGITS}g}") for value in values
    ]


def scatter(name: str, title: str, x: tuple[str, np.ndarray], others: dict[str, np.ndarray], most: int = 900) -> Chart:
    """Numbers against others [N] of the same unit, of which some are drawn, beside the line where both are the same."""
    label, values = x
    some = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    some = some[np.argsort(values[some], kind="stable")]
    at = values[some]
    curves = [Series(key, v[some].tolist(), n, line=False, points=True) for n, (key, v) in enumerate(others.items())]
    same = Series("equal", at.tolist(), -1, dashed=True)
    return Chart(name, title, label, "found", at.tolist(), (same, *curves), square=True)


def as_json(values: Any) -> Html:
    """JSON that may stand in a page."""
    return Html(json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))
