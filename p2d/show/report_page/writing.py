"""The page put together: sections in their order, each only where there is something to show, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from p2d.runs import whole
from p2d.show.figures import VALUES
from p2d.show.report_page import charts, citations, comparing, equation, given, learning, moving, record
from p2d.show.report_page.charts import Chart
from p2d.show.report_page.html import Html, Part, element, joined, section, typeset
from p2d.show.report_page.material import Material
from p2d.show.report_page.pictures import colours_of

HERE = Path(__file__).parent
NOTHING_FETCHED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_page(file: Path, material: Material, inputs: str = "") -> None:
    """Write the page of a material.

    Args:
        inputs: a hash of what it was made from, by which `inputs_of` knows it again.
    """
    with whole(file) as temporary:
        temporary.write_text(page(material, inputs), encoding="utf-8")


def inputs_of(file: Path) -> str:
    """The hash of what a page was made from; '' without a page."""
    if not file.is_file():
        return ""
    return (
        file.read_text(encoding="utf-8", errors="replace").partition('name="p2d-inputs" content="')[2].partition('"')[0]
    )


def assets() -> str:
    """All that the page is made with beside Python: scripts and styles."""
    return "".join((HERE / name).read_text() for name in ("page.css", "page.js"))


def page(material: Material, inputs: str = "") -> Html:
    """The page as HTML."""
    drawn: list[Chart] = []
    moves: dict[str, object] = {}
    sections = list(_sections(material, drawn, moves))
    data = {
        "charts": {chart.name: chart.to_dict() for chart in drawn},
        "animation": moves,
        "colours": colours_of(VALUES, 256).ravel().tolist() if moves else [],
    }
    title = f"{material.name}: from patterns to dynamics"
    head = [
        element("meta", charset="utf-8"),
        "\n",
        element("meta", name="p2d-inputs", content=inputs),
        "\n",
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=NOTHING_FETCHED),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        _style((HERE / "uplot" / "uPlot.min.css").read_text() + (HERE / "page.css").read_text()),
    ]
    body = [
        element("header", _top(material, [(key, name) for key, name, _ in sections]), class_="top"),
        element("main", *(section(key, name, *parts) for key, name, parts in sections)),
        element("footer", element("p", "Made by p2d. Charts by uPlot, MIT licence, Leon Sorokin.")),
        element("script", charts.as_json(data), type="application/json", id="page-data"),
        _script((HERE / "uplot" / "uPlot.iife.min.js").read_text() + "\n" + (HERE / "page.js").read_text()),
    ]
    shown = element("body", *body, data_species=material.view.shown[0], class_="one" if _alone(material) else None)
    return joined(Html("<!doctype html>\n"), element("html", element("head", *head), "\n", shown, lang="en"), "\n")


def _alone(material: Material) -> bool:
    return len(material.view.species) == 1


def _style(text: str) -> Html:
    return Html(f"<style>{text}</style>")


def _script(text: str) -> Html:
    return Html(f"<script>{text}</script>")


def _top(material: Material, sections: list[tuple[str, str]]) -> Html:
    """Name, verdict in a few words, where things are, which species is shown, and light or dark."""
    discovery = material.discovery
    toggle = element("button", "Dark", type="button", id="theme", aria_label="light or dark")
    name = element("h1", material.name, " ", equation.badge(discovery) if discovery else None)
    links = [element("a", title, href=f"#{key}") for key, title in sections]
    chosen: list[Part] = []
    if not _alone(material):
        buttons = [
            element("button", species.name, type="button", data_species=s, aria_pressed="false")
            for s, species in enumerate(material.view.species)
        ]
        label = element("span", "Pictures show", id="shown")
        chosen = [element("div", label, *buttons, class_="choice", role="group", aria_labelledby="shown")]
    return joined(
        element("div", name, toggle, class_="title"),
        element("div", element("nav", *links, aria_label="Sections"), *chosen, class_="beneath"),
    )


def _charted(charts_made: list[Chart], drawn: list[Chart]) -> Html:
    """Charts, which the page's script then knows of."""
    drawn += charts_made
    return element("div", *(chart.html() for chart in charts_made), class_="charts")


def _sections(
    material: Material, drawn: list[Chart], moves: dict[str, object]
) -> Iterator[tuple[str, str, list[Part]]]:
    """Key, title and parts of each section that has something to show; notes its charts and its animation."""
    yield "equation", "The equation", list(_equation(material))
    if rates := list(_rates(material, drawn)):
        yield "rates", "Rates, held out", rates
    yield "data", "What was given", [given.contact_sheet(material), given.known(material)]
    panels, own = comparing.panels(material)
    if panels:
        drawn += own
        yield "velocity", "What changes where", [panels]
    parts, own, settings = moving.section_parts(material)
    if material.short is not None or own:
        drawn += own
        moves |= settings
        yield "rollout", "Carried on in time", parts
    if material.generated is not None:
        patterns, own = learning.generated(material, material.generated)
        drawn += own
        yield "generated", "Generated patterns", [patterns]
    if material.denoised:
        curves = learning.denoised_curves(material)
        yield "denoised", "Denoised", [learning.denoised(material), _charted(curves, drawn)]
    if material.sweeps:
        yield "sweep", "Sweeps", [learning.sweep(name, made) for name, made in material.sweeps.items()]
    if material.histories:
        curves = learning.losses(material)
        yield "losses", "How the models learnt", [_charted(curves, drawn), *learning.loss_words(material)]
    yield "record", "How it was made", _record(material)
    yield "cite", "Whom to cite", [citations.citations(material)]


def _equation(material: Material) -> Iterator[Part]:
    discovery = material.discovery
    if discovery is None:
        yield element("p", f"No equation was looked for yet: p2d discover {material.name} does.", class_="lead")
        return
    yield element("p", equation.headline(discovery), class_="lead")
    if contradicted := equation.contradiction(discovery, material.velocities):
        yield element("p", typeset(contradicted), class_="lead contradicted")
    yield equation.equations(discovery, material.truth)
    count = f"From {discovery.snapshots} snapshot{'s' * (discovery.snapshots != 1)}"
    unit = f", {discovery.units_text}" if discovery.units_text else ""
    pointed = "Point at a term, or tap it, for its interval; brackets hold the error of the last digits."
    yield element("p", f"{count}{unit}. {pointed}", class_="note")
    yield equation.verdict(discovery)
    if discovery.terms:
        yield equation.coefficients(discovery, material.truth)


def _rates(material: Material, drawn: list[Chart]) -> Iterator[Part]:
    if material.evaluation:
        yield comparing.measures(material.evaluation)
        yield comparing.ensembles(material.evaluation)
    scatters = list(comparing.scatters(material))
    if scatters:
        yield _charted(scatters, drawn)


def _record(material: Material) -> list[Part]:
    spent = record.times(material)
    stages = [element("details", element("summary", "Time of each stage"), record.facts(spent))] if spent else []
    return [
        element("h3", "Commands"),
        record.commands(material),
        element("h3", "Data and versions"),
        record.hashes(material),
        *stages,
        record.settings(material),
    ]
