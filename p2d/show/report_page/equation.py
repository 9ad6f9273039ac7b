"""The equation with its error bars, and what is known of it, in words."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import numpy as np

from p2d.discovery.result import Discovery
from p2d.discovery.verdict import KNOWN, LEAST_P, STABLE, Claims
from p2d.show.report_page.html import Html, Part, element, joined, table, typeset
from p2d.systems import expressions
from p2d.systems.system import System
from p2d.systems.writing import number_text

WIDE = 160  # of an error bar, in pixels
LISTED = 3  # other sets of terms
SIGNS = {ast.Add: " + ", ast.Sub: " − "}


def term_html(term: str, names: Iterable[str]) -> Html:
    """A term as it is set: 'u v²' of 'u*v**2', '∇²u' of 'lap(u)'."""
    return Html("") if term == "1" else _set(expressions.parse(term, tuple(names)))


def _set(node: ast.expr) -> Html:
    match node:
        case ast.Name(id=name):
            first, _, index = name.partition("_")
            return joined(element("var", first), element("sub", index) if index else None)
        case ast.Constant(value=value):
            return joined(f"{value:g}" if isinstance(value, int | float) else str(value))
        case ast.UnaryOp(op=op, operand=inner):
            return joined("−" if isinstance(op, ast.USub) else "", _set(inner))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return joined(_factor(left), "\u2009", _factor(right))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return joined(_factor(left), "/", _atom(right))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return joined(_atom(left), element("sup", _set(right)))
        case ast.BinOp(left=left, op=op, right=right):
            return joined(_set(left), SIGNS[type(op)], _set(right))
        case ast.Call(args=args):
            return _function(expressions.function(node), args)
    raise ValueError(f"{ast.unparse(node)} is no term")


def _function(name: str, args: list[ast.expr]) -> Html:
    if name == "lap":
        inner = args[0]
        if expressions.function(inner) == "lap":
            return joined("∇", element("sup", "4"), _atom(inner.args[0]))  # type: ignore[attr-defined]
        return joined("∇", element("sup", "2"), _atom(inner))
    if name == "grad" and ast.unparse(args[0]) == ast.unparse(args[1]):
        return joined("|∇", _atom(args[0]), "|", element("sup", "2"))
    if name == "grad":
        return joined("∇", _atom(args[0]), "·∇", _atom(args[1]))
    if name == "d":
        return joined("∂", element("sub", element("var", ast.unparse(args[1]))), _atom(args[0]))
    return joined(name, "(", *map(_set, args), ")")


def _factor(node: ast.expr) -> Html:
    """In brackets where it is a sum."""
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
    return joined("(", _set(node), ")") if is_sum else _set(node)


def _atom(node: ast.expr) -> Html:
    """In brackets where it is more than a name, a number or a function."""
    return _set(node) if isinstance(node, ast.Name | ast.Constant | ast.Call) else joined("(", _set(node), ")")


def species_html(name: str) -> Html:
    """The name of a species as it is set."""
    return _set(ast.Name(name))


def _rate(species: str) -> Html:
    return joined("∂", element("sub", element("var", "t")), species_html(species))


def number_html(value: float, error: float) -> Html:
    """A number with the error of its last digits in brackets, powers of ten as such."""
    return element("span", typeset(number_text(value, error)), class_="number")


def interval_text(discovery: Discovery, species: str, term: str) -> str:
    """The 90 % interval of a coefficient; '' of one that is fixed."""
    low, high = sorted(discovery.intervals[species][term])
    return f"{low:.4g} to {high:.4g}" if high > low else ""


def equations(discovery: Discovery, truth: System | None) -> Html:
    """The equations, a line a species; each term tells its interval when it is pointed at, or tapped."""
    names = (*discovery.terms, *discovery.conditions)
    lines = []
    for species, own in discovery.terms.items():
        parts: list[Part] = []
        for n, (term, value) in enumerate(own.items()):
            sign = ("−" if n == 0 else " − ") if value < 0 else ("" if n == 0 else " + ")
            number = number_html(abs(value), discovery.errors[species][term])
            tip = element("span", *_tip(discovery, species, term, truth), class_="tip", role="tooltip")
            label = joined(number, "\u2009" if term != "1" else "", term_html(term, names))
            whole = element("button", label, type="button", class_="term", aria_expanded="false")
            parts.append(element("span", sign, element("span", whole, tip, class_="holder"), class_="summand"))
        left = element("span", _rate(species), " = ", class_="left")
        lines.append(element("div", left, element("span", *(parts or ["0"]), class_="right"), class_="line"))
    return element("div", *lines, class_="equation")


def _tip(discovery: Discovery, species: str, term: str, truth: System | None) -> Iterator[Part]:
    value, error = discovery.terms[species][term], discovery.errors[species][term]
    yield element("b", typeset(f"{value:.5g}"), f" ± {error:.2g}" if error else "")
    interval = interval_text(discovery, species, term)
    yield element(
        "span", typeset(f"90 % interval {interval}") if interval else "fixed: it sets the unit of time, or is given"
    )
    if discovery.frequency:
        share = discovery.frequency[species].get(term)
        yield element("span", f"kept in {share:.0%} of resampled ensembles") if share is not None else None
    if truth is not None:
        true = truth.terms.get(species, {}).get(term, 0.0)
        yield element("span", typeset(f"true value {true:.5g}") if true else "not in the true system")


def coefficients(discovery: Discovery, truth: System | None) -> Html:
    """The coefficients as a table with their intervals, relative to the true ones or to themselves."""
    names = (*discovery.terms, *discovery.conditions)
    bars = {
        (species, term): _deviations(discovery, species, term, truth)
        for species, own in discovery.terms.items()
        for term in own
    }
    reach = max((max(map(abs, bar)) for bar in bars.values() if bar), default=0.0)
    reach = min(max(reach, 1e-6), 1.0)
    rows = []
    for (species, term), bar in bars.items():
        true = truth.terms.get(species, {}).get(term, 0.0) if truth else None
        interval = interval_text(discovery, species, term) or "fixed"
        number = number_html(discovery.terms[species][term], discovery.errors[species][term])
        row: list[Part] = [
            joined(_rate(species), ": ", term_html(term, names) or "constant"),
            number,
            typeset(interval),
        ]
        row += [] if truth is None else [typeset(f"{true:.5g}") if true else "absent"]
        rows.append([*row, _bar(bar, reach) if bar else "—"])
    beside = "true value" if truth else "value found"
    scale = (
        f"interval around the {beside}, ± {reach:.2g} of it"
        if reach < 0.01
        else (f"interval around the {beside}, ± {reach:.1%}")
    )
    head = ["term", "coefficient", "90 % interval", *([] if truth is None else ["true"]), scale]
    return table(head, rows, "Coefficients", "coefficients")


def _deviations(discovery: Discovery, species: str, term: str, truth: System | None) -> tuple[float, ...]:
    """Value and ends of the interval, relative to the true value less 1; () of a term that is not there, or fixed."""
    value = discovery.terms[species][term]
    true = truth.terms.get(species, {}).get(term, 0.0) if truth else value
    low, high = discovery.intervals[species][term]
    if not true or (low == high and truth is None):
        return ()
    return (*sorted((low / true - 1, high / true - 1)), value / true - 1)


def _bar(bar: tuple[float, ...], reach: float) -> Html:
    low, high, middle = (WIDE / 2 * (1 + max(-1.0, min(1.0, end / reach)) * 0.94) for end in bar)
    axis = element("line", x1=WIDE / 2, x2=WIDE / 2, y1=0, y2=20, class_="axis")
    line = element("line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1=10, y2=10, class_="reach")
    dot = element("circle", cx=f"{middle:.1f}", cy=10, r=3.5)
    about = f"from {bar[0]:+.2%} to {bar[1]:+.2%}"
    return element(
        "svg", axis, line, dot, viewBox=f"0 0 {WIDE} 20", width=WIDE, height=20, role="img", aria_label=about
    )


def verdict(discovery: Discovery) -> Html:
    """What is known, in words: velocity, terms, the direction of time, its unit, and what speaks against them."""
    claims = discovery.claims
    words = [_statement(discovery)] if discovery.statement else list(_claims(claims, discovery))
    words.append(("unit of time", discovery.unit_of_time, None))
    cards = [
        element("div", element("h3", name), element("p", typeset(text)), class_="card" + _mood(is_good))
        for name, text, is_good in words
    ]
    doubts = {str(doubt) for doubt in claims.doubts}
    warnings = [
        element(
            "li",
            element("strong", f"{doubt.text}."),
            *(f" {more[:1].upper()}{more[1:]}." for more in (doubt.meaning, doubt.advice) if more),
        )
        for doubt in claims.doubts
    ]
    notes = [element("li", typeset(line)) for line in discovery.remarks if line not in doubts]
    parts: list[Part] = [element("div", *cards, class_="cards")]
    if warnings:
        parts += [element("h3", "What speaks against it"), element("ul", *warnings, class_="warnings")]
    if notes:
        parts += [element("h3", "To be known as well"), element("ul", *notes, class_="notes")]
    return joined(*parts)


def _mood(is_good: bool | None) -> str:
    return "" if is_good is None else " good" if is_good else " bad"


def _statement(discovery: Discovery) -> tuple[str, str, bool | None]:
    name, colon, rest = discovery.statement.partition(":")
    return (name, rest.strip(), None) if colon else ("what is known", name, None)


def _claims(claims: Claims, discovery: Discovery) -> Iterator[tuple[str, str, bool | None]]:
    known = claims.velocity_known
    if claims.velocity is None:
        text = "How far it is from the true one cannot be told."
    else:
        most = f"{claims.velocity:.0e}" if claims.velocity < KNOWN else f"{claims.velocity:.2g}"
        bound = f"1 − cosine with the true velocity is at most {most}, with 95 % confidence"
        text = f"{bound}; {KNOWN:g} is asked for."
        if claims.doubted:
            text = f"{bound}, were it not for what speaks against it."
    yield ("velocity known" if known else "velocity not known"), text, known
    yield _terms(claims, sum(map(len, discovery.terms.values())))
    if claims.p_value is not None:
        agrees = claims.p_value >= LEAST_P
        name = "held-out averages agree" if agrees else "held-out averages disagree"
        yield name, f"Averages that the fit has not used stay as they are with p = {claims.p_value:.2g}.", agrees


def _terms(claims: Claims, count: int) -> tuple[str, str, bool | None]:
    if claims.terms_known:
        share = "all resampled ensembles" if claims.fewest >= 1 else f"{claims.fewest:.0%} of the resampled ensembles"
        return "terms known", f"No other set of terms fits, and each of the {count} is kept in {share}.", True
    if claims.alternatives:
        others = "; ".join(map(str, claims.alternatives[:LISTED]))
        count = len(claims.alternatives)
        fits = f"{count} other sets fit as well, such as with" if count > 1 else "Another set fits as well, with"
        return "terms not known", f"{fits} {others}. Another condition, or more snapshots, would decide.", False
    if claims.velocity is not None and claims.fewest < STABLE:
        text = f"Only {claims.stable:.0%} of the resampled ensembles have just these. More snapshots would decide."
        return "terms not known", text, False
    return "terms not known", "Something speaks against them; see below.", False


def badge(discovery: Discovery) -> Html:
    """The verdict in a few words, in the colour of how good it is."""
    claims, words = discovery.claims, discovery.short_verdict
    is_good = None if discovery.statement or not claims.velocity_known else claims.terms_known
    mood = " bad" if not discovery.statement and not claims.velocity_known else " good" if is_good else ""
    return element("span", words, class_="badge" + mood)


def contradiction(discovery: Discovery, velocities: dict[str, np.ndarray]) -> str:
    """Of a velocity that is claimed, and is not the true one, which is known; '' of others."""
    if not discovery.claims.velocity_known or not {"true", "equation"} <= velocities.keys():
        return ""
    found, true = (np.nan_to_num(velocities[key]).astype(np.float64).ravel() for key in ("equation", "true"))
    size = float(np.sqrt((found @ found) * (true @ true)))
    cosine = float(found @ true) / size if size else 0.0
    if cosine >= 1 - KNOWN:
        return ""
    return f"The true system is known here, and contradicts this: the cosine with its rates is {cosine:.3f}."


def headline(discovery: Discovery) -> str:
    """One sentence on what the equation may be used for."""
    claims = discovery.claims
    if discovery.statement:
        return f"{discovery.statement.partition(':')[0].capitalize()}: see what that means below."
    if claims.terms_known:
        return "The snapshots tell the dynamics, and the terms they are made of."
    if claims.velocity_known:
        return "The snapshots tell how every pattern changes, but not by which terms alone."
    return "The equation is not known. This is the best fit, and not to be taken for the dynamics."
