"""Rates that were found, beside the true ones: numbers, cell by cell, and as pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2d.evaluate.evaluation import BASELINES, Evaluation, FieldMeasures
from p2d.show.figures import VELOCITIES
from p2d.show.report_page.charts import Chart, Series, scatter
from p2d.show.report_page.html import Html, Part, element, joined, table, typeset
from p2d.show.report_page.material import Material
from p2d.show.report_page.pictures import colour_bar, of_species, picture, reach_of, shrunk, size_text

PICTURED = 3  # snapshots
SIDE = 128  # cells of a picture
NAMES = {"true": "true rate", "flow": "flow", "equation": "equation"}


def measures(evaluation: Evaluation) -> Html:
    """The numbers of summary.json on held-out snapshots: a column for the equation, the flow and the true system."""
    columns: dict[str, FieldMeasures] = {}
    if evaluation.equation:
        columns["equation"] = evaluation.equation.field
    if evaluation.flow:
        columns["flow"] = evaluation.flow.field
    if evaluation.truth:
        columns["true system"] = evaluation.truth
    keys = list(dict.fromkeys(key for field in columns.values() for key in field.cosines))
    rows: list[list[Part]] = []
    for key in keys:
        name = "cosine with the true rate" + (f", {key.removeprefix('cosine_')}" if key != "cosine" else "")
        values = [field.cosines.get(key) for field in columns.values()]
        if any(value is not None for value in values):
            rows.append([name, *("" if value is None else f"{value:.5f}" for value in values)])
    rows.append(["rates of 40 averages, rms of z (1: as chance has it)", *(f"{f.z_rms:.2f}" for f in columns.values())])
    rows.append(["the largest |z|", *(f"{f.z_max:.2f}" for f in columns.values())])
    head = ["", *columns]
    return table(head, rows, f"On {evaluation.held_out} held-out snapshots", "numbers") if columns else Html("")


def ensembles(evaluation: Evaluation) -> Html:
    """Does the ensemble stay what it is: distances over their floors, in words."""
    lines: list[str] = []
    fresh = evaluation.equation.fresh if evaluation.equation else None
    if fresh:
        text = f"From fresh starts the equation makes patterns whose averages are {fresh} ({fresh.steps} steps); "
        lines.append(f"{text}1 floor is the distance of as many of the data's own snapshots.")
    kept = evaluation.flow.preservation if evaluation.flow else None
    if kept:
        own = kept.ratios.get("recovered")
        others = ", ".join(
            f"{BASELINES[key]} {value:.2g}"
            for key, value in kept.ratios.items()
            if key in BASELINES and value is not None
        )
        after = "blows up" if own is None else f"is {own:.2f} floors away from the data"
        lines.append(f"Carried on by the flow for {kept.steps} steps the ensemble {after} ({others}).")
    if evaluation.flow and evaluation.flow.verdict:
        lines.append(f"The flow: {evaluation.flow.verdict}.")
    return joined(element("p", typeset(line)) for line in lines)


def scatters(material: Material) -> Iterator[Chart]:
    """Found rates over true ones, a chart a species; of unknown truth the equation's over the flow's."""
    fields, view = material.velocities, material.view
    others = [key for key in ("equation", "flow") if key in fields]
    reference = "true" if "true" in fields else "flow"
    compared = [key for key in others if key != reference]
    if reference not in fields or not compared:
        return
    cells = np.isfinite(fields[reference][0, 0])
    for s, species in enumerate(view.species):
        values = {key: fields[key][:, s][..., cells].ravel() for key in (reference, *compared)}
        size = _rms(values[reference]) or 1.0
        scaled = {
            key: v * size / max(_rms(v), 1e-30) if key == "flow" or reference == "flow" else v
            for key, v in values.items()
        }
        about = f"{NAMES[reference]} of {view.rate_label(s)}"
        yield scatter(
            f"rates-{s}",
            f"Rate of {species.name}, cell by cell",
            (about, scaled[reference]),
            {NAMES[key]: scaled[key] for key in compared},
        )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def panels(material: Material) -> tuple[Html, list[Chart]]:
    """Snapshots beside rates there: pictures, or curves where the fields have one dimension."""
    view, fields = material.view, material.velocities
    if not fields:
        return Html(""), []
    if view.is_line:
        charts = [chart for s in range(len(view.species)) for chart in _curves(material, s)]
        return joined(chart.html() for chart in charts), charts
    return of_species(view, [_pictures(material, s) for s in range(len(view.species))]), []


def _pictures(material: Material, s: int) -> Html:
    view, fields = material.view, material.velocities
    some = slice(0, PICTURED)
    states = shrunk(view.known(material.states[some, s]), SIDE)
    limits = view.limits(material.states[some, s])
    reference = next(iter(fields.values()))[some, s]
    scale, reach = _scale(reference, view), reach_of(reference, view)
    label = view.rate_label(s)
    columns = [
        (
            "snapshot",
            [picture(f, limits, f"{view.label(s)} of held-out snapshot {n + 1}") for n, f in enumerate(states)],
        )
    ]
    for key, field in fields.items():
        own = field[some, s]
        own = shrunk(view.known(own * scale / max(_scale(own, view), 1e-30)), SIDE)
        about = f"{label} by the {NAMES[key]}" if key != "true" else f"true {label}"
        images = [picture(f, reach, f"{about}, snapshot {n + 1}", VELOCITIES) for n, f in enumerate(own)]
        columns.append((NAMES[key] + _cosine_text(material, key, s), images))
    head = [element("div", name, class_="head") for name, _ in columns]
    cells = [images[n] for n in range(len(states)) for _, images in columns]
    grid = element("div", *head, *cells, class_="panels", style=f"--columns:{len(columns)}")
    bars = element("div", colour_bar(limits, view.label(s)), colour_bar(reach, label, VELOCITIES), class_="bars")
    size = size_text(view, states.shape)
    scaled = f"; all fields are scaled to the root mean square of the {NAMES[next(iter(fields))]}"
    note = size + scaled * (len(fields) > 1)
    return element("figure", grid, bars, element("figcaption", note))


def _cosine_text(material: Material, key: str, s: int) -> str:
    """Its cosine with the true rate of a species on all held-out snapshots, where that is known."""
    evaluation = material.evaluation
    measured = {"flow": evaluation.flow, "equation": evaluation.equation}.get(key) if evaluation else None
    value = measured.field.cosines.get(f"cosine_{material.view.species[s].name}") if measured else None
    return "" if value is None else f", cosine {value:.4f}"


def _scale(field: np.ndarray, view: object) -> float:
    known = view.known(field)  # type: ignore[attr-defined]
    return float(np.sqrt(np.nanmean(np.square(known, dtype=np.float64)))) or 1.0


def _curves(material: Material, s: int) -> Iterator[Chart]:
    view, fields = material.view, material.velocities
    line = view.known(material.states[0, s]).ravel()
    at = (view.step * np.arange(line.size)).tolist()
    x = f"{view.axis} ({view.length_unit})"
    yield Chart(
        f"state-{s}",
        f"A held-out snapshot of {view.species[s].name}",
        x,
        view.label(s),
        at,
        (Series(view.species[s].name, line.tolist(), s),),
    )
    scale = _scale(next(iter(fields.values()))[0, s], view)
    curves = []
    for n, (key, field) in enumerate(fields.items()):
        own = view.known(field[0, s]).ravel() * scale / max(_scale(field[0, s], view), 1e-30)
        curves.append(Series(NAMES[key], own.tolist(), n, dashed=n > 0))
    yield Chart(
        f"rate-{s}",
        "Its rate of change",
        x,
        view.rate_label(s),
        at,
        tuple(curves),
        note="all scaled to one root mean square",
    )
