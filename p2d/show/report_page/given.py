"""What was given: the snapshots, and what is known and seen of them."""

from __future__ import annotations

import numpy as np

from p2d.show.dataset import info_rows
from p2d.show.report_page.html import Html, Part, element, facts, joined
from p2d.show.report_page.material import Material
from p2d.show.report_page.pictures import colour_bar, of_species, picture, shrunk, size_text
from p2d.show.view import View
from p2d.snapshots.survey import Survey

RARE = 0.5  # % of the values at each end, which have no colours of their own where they take half of them
SHEET, FEWER = 18, 6  # pictures of the contact sheet, and of each of many species
SIDE, SMALLER = 128, 64  # cells of a picture


def known(material: Material) -> Html:
    """The card in words, and the findings of an import."""
    rows: list[tuple[str, Part]] = [(name, text) for name, text in info_rows(material.dataset) if text]
    parts: list[Part] = [facts(rows)]
    origin = material.dataset.card.origin
    if "survey" in origin:
        parts.append(_findings(Survey.from_dict(origin["survey"])))
    return joined(*parts)


def _findings(survey: Survey) -> Html:
    told = [finding for finding in survey.findings if finding.kind != "size"]
    serious = [
        element(
            "li",
            element("strong", f"{finding.text}."),
            f" So {finding.meaning}." if finding.meaning else None,
            f" What to do: {finding.advice}." if finding.advice else None,
        )
        for finding in told
        if finding.advice
    ]
    plain = [element("li", str(finding)) for finding in told if not finding.advice]
    parts: list[Part] = []
    if serious:
        parts += [element("h3", "What the import found that matters"), element("ul", *serious, class_="warnings")]
    if plain:
        parts += [element("h3", "What else it found"), element("ul", *plain, class_="notes")]
    return joined(*parts)


def contact_sheet(material: Material) -> Html:
    """Snapshots side by side, on one scale a species; of one dimension as rows of one picture."""
    view, states = material.view, material.sheet
    return of_species(view, [sheet(states, view, s, "snapshot") for s in range(len(view.species))])


def sheet(states: np.ndarray, view: View, s: int, what: str, scale: np.ndarray | None = None) -> Html:
    """States [N, C, H, W] of a species side by side.

    Args:
        what: they are, in the texts of pictures.
        scale: values that set the limits of the colours; the states' own when None.
    """
    fields = view.known(states[:, s])
    limits, ends = _limits(view, states[:, s] if scale is None else scale[:, s])
    if view.is_line:
        rows = fields.reshape(len(fields), -1)
        about = f"{len(rows)} {what}s of {view.label(s)}, a row each, along {view.axis}"
        stack = picture(rows, limits, about, class_="field stack")
        note = f"{len(rows)} {what}s, a row each{ends}; across: {view.axis}, {size_text(view, view.grid.shape)}"
        return element("figure", stack, colour_bar(limits, view.label(s)), element("figcaption", note))
    few = len(view.species) > 3
    shown = shrunk(fields[: FEWER if few else SHEET], SMALLER if few else SIDE)
    images = [picture(f, limits, f"{what} {n + 1} of {view.label(s)}") for n, f in enumerate(shown)]
    note = f"{len(shown)} {what}s of {size_text(view, shown.shape)}, on one scale{ends}"
    grid = element("div", *images, class_="sheet")
    return element("figure", grid, colour_bar(limits, view.label(s)), element("figcaption", note))


def _limits(view: View, values: np.ndarray) -> tuple[tuple[float, float], str]:
    """Limits of the colours, and what has to be said of them: that they leave out a few values far away."""
    low, high = view.limits(values)
    first, last = np.nanpercentile(view.known(values), (RARE, 100 - RARE)).tolist()
    if last - first > (high - low) / 2 or last <= first:
        return (low, high), ""
    return (first, last), f", whose ends leave out {RARE:g} % of the values each ({low:.3g} to {high:.3g} in all)"
