"""What models have learnt: generated patterns, denoised snapshots, spectra, sweeps, and how trainings went."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

import numpy as np

from p2d.config.stored import Json
from p2d.config.sweep import METRICS
from p2d.evaluate.quality import Quality
from p2d.show.report import VALIDATION_LABELS
from p2d.show.report_page.charts import Chart, Series
from p2d.show.report_page.given import sheet
from p2d.show.report_page.html import Html, Part, element, joined, table, typeset
from p2d.show.report_page.material import Generated, Material
from p2d.show.report_page.pictures import colour_bar, colours_of, of_species, picture, shrunk
from p2d.show.sweep_figures import Trial, trial_cell, trial_levels
from p2d.show.view import View

COMPARED = 6  # patterns of each kind side by side
SIDE = 128
SHORT = {VALIDATION_LABELS["stationarity"]: "rms z", VALIDATION_LABELS["continuity"]: "residual"}
BRIGHT = 0.5  # luminance of a colour, above which what is written on it is dark
LUMINANCE = np.array([0.3, 0.6, 0.1]) / 255
MOST_CELLS = 144  # of a table of a sweep
SHORTEST = 3  # epochs of a chart
LEAST_RATIO = 10  # of losses on a logarithmic axis
LISTED = 12  # trials, where they are no table


def generated(material: Material, made: Generated) -> tuple[Html, list[Chart]]:
    """Generated patterns beside held-out ones, with their distances and floors, and spectra."""
    view = material.view
    groups = []
    for s in range(len(view.species)):
        real = sheet(made.held[:COMPARED], view, s, "held-out snapshot", made.held)
        new = sheet(made.states[:COMPARED], view, s, "generated pattern", made.held)
        pair = [element("div", element("h3", name), own) for name, own in (("Held out", real), ("Generated", new))]
        groups.append(element("div", *pair, class_="two"))
    parts: list[Part] = [of_species(view, groups)]
    if made.quality:
        parts.append(_distances(made.quality))
    charts = list(spectra(made.spectra, view)) if made.spectra else []
    return joined(parts, element("div", *(chart.html() for chart in charts), class_="charts")), charts


def _distances(quality: Quality) -> Html:
    rows: list[list[Part]] = []
    if quality.spectrum:
        rows.append(["power spectrum", *quality.spectrum.cells, "", ""])
    rows.append(["energy distance", *quality.energy_distance.cells, "", ""])
    rows += [[typeset(f"mean of {name}"), *moment.cells] for name, moment in quality.moments.items()]
    head = ["distance to held-out snapshots", "generated", "floor", "ratio", "mean", "held-out mean"]
    about = "The floor is the distance of as many training snapshots; means differ in standard deviations."
    near = element("p", str(quality.nearest)[:1].upper() + str(quality.nearest)[1:] + ".") if quality.nearest else None
    return joined(table(head, rows, "Are they alike?", "numbers"), element("p", about, class_="note"), near)


def spectra(powers: dict[str, np.ndarray], view: View) -> Iterator[Chart]:
    """Power over wavenumbers, a chart a species."""
    unit = view.length_unit.removesuffix("s")
    for s in range(len(view.species)):
        count = next(iter(powers.values())).shape[-1]
        at = (np.arange(1, count) / (100 * view.step)).tolist()
        curves = tuple(
            Series(name, [value if value > 0 else None for value in power[s, 1:].tolist()], n)
            for n, (name, power) in enumerate(powers.items())
        )
        title = f"Power spectrum of {view.species[s].name}"
        yield Chart(f"spectrum-{s}", title, f"wavenumber (cycles / {unit})", "power", at, curves, log_y=True)


def denoised(material: Material) -> Html:
    """A held-out snapshot with noise added, and what the score model makes of it."""
    view, clean = material.view, material.states[0]
    groups = []
    for s in range(len(view.species)):
        if view.is_line:
            return Html("")
        limits = view.limits(clean[s])

        def shown(name: str, field: np.ndarray, s: int = s, limits: tuple[float, float] = limits) -> Html:
            image = picture(shrunk(view.known(field), SIDE), limits, f"{view.label(s)}: {name}")
            return element("div", image, element("div", name, class_="head"))

        panels = [shown("snapshot", clean[s])]
        for alpha, noisy, mean in material.denoised:
            before, after = (float(np.sqrt(np.nanmean(view.known(x[s] - clean[s]) ** 2))) for x in (noisy, mean))
            pair = shown(f"noise {before:.2g} (alpha {alpha:g})", noisy[s]), shown(f"error {after:.2g}", mean[s])
            panels.append(element("div", *pair, class_="pair"))
        groups.append(joined(element("div", *panels, class_="denoised"), colour_bar(limits, view.label(s))))
    note = "A snapshot, which the score model has not seen, and pairs of it with noise and denoised: root mean squares."
    return element("figure", of_species(view, groups), element("figcaption", note))


def denoised_curves(material: Material) -> list[Chart]:
    """The same in one dimension."""
    view, clean = material.view, material.states[0]
    if not view.is_line or not material.denoised:
        return []
    alpha, noisy, mean = material.denoised[len(material.denoised) // 2]
    at = (view.step * np.arange(clean[0].size)).tolist()
    charts = []
    for s in range(len(view.species)):
        named = {"noisy": noisy[s], "denoised": mean[s], "snapshot": clean[s]}
        curves = tuple(
            Series(name, view.known(field).ravel().tolist(), -1 if name == "noisy" else n)
            for n, (name, field) in enumerate(named.items())
        )
        title = f"{view.species[s].name} denoised, at alpha {alpha:g}"
        charts.append(Chart(f"denoised-{s}", title, f"{view.axis} ({view.length_unit})", view.label(s), at, curves))
    return charts


def losses(material: Material) -> list[Chart]:
    """Training and validation losses over epochs."""
    charts = []
    labels = {"score": VALIDATION_LABELS["score"], "flow": VALIDATION_LABELS.get(material.objective, "")}
    for kind, history in material.histories.items():
        for metric, label in (("training_loss", "training loss"), ("validation_loss", labels[kind])):
            curve = history.curve(metric)
            if len(curve) > SHORTEST:
                at, values = zip(*curve, strict=True)
                name = f"{kind}-{metric.replace('_', '-')}"
                one = Series(label, values, 0, points=True)
                log = min(values) > 0 and max(values) > LEAST_RATIO * min(values)
                charts.append(
                    Chart(
                        name, f"{kind}: {label}", "epoch", SHORT.get(label, "loss"), at, (one,), log_y=log, whole=True
                    )
                )
    return charts


def loss_words(material: Material) -> list[Part]:
    """Of trainings of so few epochs that numbers do."""
    lines: list[Part] = []
    for kind, history in material.histories.items():
        curve = history.curve("validation_loss")
        if 0 < len(curve) <= SHORTEST:
            what = VALIDATION_LABELS["score"] if kind == "score" else VALIDATION_LABELS.get(material.objective, "loss")
            told = ", ".join(f"{value:.4g}" for _, value in curve)
            lines.append(element("p", f"The {kind}'s {what}, from epoch {curve[0][0]} on: {told}."))
    return lines


def sweep(name: str, made: Json) -> Html:
    """A sweep as a table in the colours of its metric, or its best trials where that would be too large."""
    metric, best = made["metric"], METRICS[made["metric"]]
    every = list(made["best"]["settings"])
    labels = [key for key in every if len({trial["settings"][key] for trial in made["trials"]}) > 1] or every
    trials = [
        Trial({key: trial["settings"][key] for key in labels}, trial["values"], trial["state"])
        for trial in made["trials"]
    ]
    top = made["best"]
    told = ", ".join(f"{key} {value}" for key, value in top["settings"].items() if key in labels)
    words = element("p", f"Best of {len(trials)}: {told}, with {metric} {top['values'][metric]:.4g}.")
    across = trial_levels(trials, labels[0])
    down = trial_levels(trials, labels[1]) if len(labels) > 1 else [""]
    if len(across) * len(down) > min(MOST_CELLS, 2 * len(trials)):
        return joined(element("h3", name), words, _ranked(trials, labels, metric, best))
    cells = [[trial_cell(trials, {labels[0]: x} | ({labels[1]: y} if y else {}), metric) for x in across] for y in down]
    finite = [value for value, _ in chain.from_iterable(cells) if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    rows = [
        [y or metric, *(_shaded(value, text, low, high, best) for value, text in row)]
        for y, row in zip(down, cells, strict=True)
    ]
    corner = f"{labels[1]} ↓  {labels[0]} →" if len(labels) > 1 else labels[0]
    return joined(element("h3", name), words, table([corner, *across], rows, f"{metric}, by setting", "heat"))


def _shaded(value: float, text: str, low: float, high: float, best: str) -> Html:
    if not math.isfinite(value):
        return element("span", text, class_="none")
    share = (value - low) / (high - low) if high > low else 1.0
    colours = colours_of("viridis")
    shade = colours[round((share if best == "max" else 1 - share) * (len(colours) - 1))]
    ink = "#111" if shade @ LUMINANCE > BRIGHT else "#fff"
    red, green, blue = shade.tolist()
    return element("span", text, class_="cell", style=f"background:rgb({red},{green},{blue});color:{ink}")


def _ranked(trials: list[Trial], labels: list[str], metric: str, best: str) -> Html:
    known = [trial for trial in trials if math.isfinite(trial.value(metric))]
    known.sort(key=lambda trial: trial.value(metric), reverse=best == "max")
    rows = [[*(trial.settings[key] for key in labels), f"{trial.value(metric):.4g}"] for trial in known[:LISTED]]
    return table([*labels, metric], rows, f"The best {len(rows)} of {len(trials)} trials", "numbers")
