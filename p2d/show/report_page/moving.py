"""The equation carried on in time, beside the true system or the data: an animation that can be stopped and moved."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from p2d.evaluate.short_rollout import ShortRollout
from p2d.show.report_page.charts import Chart, Series, rounded
from p2d.show.report_page.html import Html, Part, element, joined
from p2d.show.report_page.material import Material
from p2d.show.report_page.pictures import colour_bar, of_species, picture, shrunk, size_text, sprite
from p2d.show.view import View

SIDE = 128  # cells of a frame
MOST_PIXELS = 6e6  # of all frames, above which they are smaller


def animation(short: ShortRollout, view: View) -> tuple[Html, dict[str, Any]]:
    """Frames side by side, a column for each kind of dynamics, with what the page's script needs to play them."""
    count = len(short.times)
    pixels = count * len(short.frames) * len(view.species) * math.prod(view.grid.shape)
    side = int(min(SIDE, max(view.grid.shape) * min(1.0, math.sqrt(MOST_PIXELS / pixels))))
    columns = math.ceil(math.sqrt(count))
    groups, size = [], (1, 1)
    for s in range(len(view.species)):
        limits = _limits(short, view, s)
        kinds = []
        for kind, frames in short.frames.items():
            fields = shrunk(view.known(frames[:, s]), side)
            size = fields.shape[-2:]
            image = element("img", src=sprite(fields, limits, columns), alt="", class_="sprite", hidden=True)
            about = f"{view.label(s)} carried on by the {kind}" if kind != "data" else f"{view.label(s)} in the data"
            canvas = element("canvas", width=size[1], height=size[0], role="img", aria_label=about)
            lost = "" if np.isfinite(frames).all() else " (blows up)"
            kinds.append(element("div", element("div", f"{kind}{lost}", class_="head"), image, canvas, class_="kind"))
        panel = element("div", *kinds, class_="kinds", style=f"--columns:{len(kinds)}")
        groups.append(joined(panel, colour_bar(limits, view.label(s))))
    label = short.clock.label
    slider = element(
        "input", type="range", min=0, max=count - 1, value=0, step=1, aria_label=f"frame, by {label}", class_="scrub"
    )
    controls = element(
        "div",
        element("button", "Play", type="button", class_="play", aria_pressed="false"),
        slider,
        element("output", short.clock.text(0), class_="when number"),
        class_="controls",
    )
    note = f"Held-out snapshot {short.sample}, {size_text(view, size)}. Space plays and stops, arrow keys move a frame."
    body = element("figure", of_species(view, groups), controls, element("figcaption", note), id="animation")
    settings = {"columns": columns, "size": list(size), "times": [short.clock.text(time) for time in short.times]}
    return body, settings


def _limits(short: ShortRollout, view: View, s: int) -> tuple[float, float]:
    """Of the colours: those of what is true, or of the start, as what is found may go anywhere."""
    first = next(iter(short.frames.values()))
    return view.limits(first[:, s] if len(short.frames) > 1 else first[:1, s])


def space_time(short: ShortRollout, view: View) -> Html:
    """Fields of one dimension over time, as pictures side by side: time runs down."""
    groups = []
    for s in range(len(view.species)):
        limits = _limits(short, view, s)
        kinds = []
        for kind, frames in short.frames.items():
            rows = view.known(frames[:, s]).reshape(len(frames), -1)
            about = f"{view.label(s)} by the {kind} over {view.axis} (across) and time (down)"
            image = picture(rows, limits, about, class_="field stack")
            kinds.append(element("div", element("div", kind, class_="head"), image, class_="kind"))
        panel = element("div", *kinds, class_="kinds", style=f"--columns:{len(kinds)}")
        groups.append(joined(panel, colour_bar(limits, view.label(s))))
    across, end = f"{view.axis}, {size_text(view, view.grid.shape)}", short.clock.text(short.times[-1])
    note = f"Across: {across}. Down: time, from 0 to {end}. Held-out snapshot {short.sample}."
    return element("figure", of_species(view, groups), element("figcaption", note))


def beside_truth(short: ShortRollout) -> str:
    """How well the displacement goes along with the true one, in a sentence."""
    if not short.cosine:
        return ""
    half = short.cosine[len(short.cosine) // 2]
    true = "that of the data" if "data" in short.frames else "the true one"
    return (
        f"The displacement from the start has a cosine of {half:.4f} with {true} half-way, and of "
        f"{short.cosine[-1]:.4f} at the end."
    )


def measured(material: Material) -> list[Chart]:
    """What `p2d rollout` has measured: distance to the data, and memory of the start."""
    charts = []
    for number, (name, rolled) in enumerate(material.rollouts.items()):
        at = rolled.clock.of(rolled.times)

        def curves(key: str, rolled: Any = rolled) -> tuple[Series, ...]:
            padded = {
                kind: [*rounded(getattr(course, key)), *[None] * (len(rolled.times) - len(getattr(course, key)))]
                for kind, course in rolled.courses.items()
            }
            return tuple(Series(kind, values, n) for n, (kind, values) in enumerate(padded.items()))

        title = f"{name}: energy distance to the data, over its floor"
        charts.append(Chart(f"kept-{number}", title, rolled.clock.label, "floors", at, curves("ratio"), log_y=True))
        title = f"{name}: correlation with the start"
        charts.append(Chart(f"memory-{number}", title, rolled.clock.label, "correlation", at, curves("correlation")))
    return charts


def section_parts(material: Material) -> tuple[list[Part], list[Chart], dict[str, Any]]:
    """All of it: HTML, charts, and settings of the animation."""
    short, view = material.short, material.view
    parts: list[Part] = []
    settings: dict[str, Any] = {}
    if short is not None:
        if view.is_line:
            parts.append(space_time(short, view))
        else:
            body, settings = animation(short, view)
            parts.append(body)
        if text := beside_truth(short):
            parts.append(element("p", text))
        if not view.grid.is_closed:
            parts.append(
                element("p", "Nothing is known beyond open edges and masks: it is carried on as if there were walls.")
            )
    charts = measured(material)
    return [*parts, element("div", *(chart.html() for chart in charts), class_="charts")], charts, settings
