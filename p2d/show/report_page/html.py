"""HTML made of parts: text is escaped, parts are not."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

MINUS = "\N{MINUS SIGN}"
VOID = ("br", "hr", "img", "input", "meta")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Part = str | None | Iterable["Part"]


def joined(*parts: Part) -> Html:
    """Parts behind each other; plain text is escaped, None is nothing."""
    out = []
    for part in parts:
        if isinstance(part, Html):
            out.append(str(part))
        elif isinstance(part, str):
            out.append(html.escape(part))
        elif part is not None:
            out.append(str(joined(*part)))
    return Html("".join(out))


def element(name: str, /, *parts: Part, **attributes: str | int | float | bool | None) -> Html:
    """An element, such as element("td", "1 < 2", class_="number"); 'aria_label' is aria-label."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{html.escape(str(value))}"')
    start = f"<{name}{''.join(written)}>"
    return Html(start if name in VOID else f"{start}{joined(*parts)}</{name}>")


def typeset(text: str) -> Html:
    """Plain text with powers such as u^2 and 6e-04 set as such, and signs of numbers as minus signs."""
    text = re.sub(r"(?<=[\d)])e([-+]?)0*(\d+)\b", lambda e: f"·10^{e[1].strip('+')}{e[2]}", text)
    parts = re.split(r"\^(-?\d+)", re.sub(r"(?<![\w)^])-(?=\.?\d)", MINUS, text))
    return joined(element("sup", part.replace("-", MINUS)) if n % 2 else part for n, part in enumerate(parts))


def table(head: Sequence[Part], rows: Iterable[Sequence[Part]], caption: str = "", class_: str = "") -> Html:
    """A table that scrolls by itself where it is too wide; the first cell of a row is its heading."""
    body = [
        element("tr", *(element("td" if n else "th", cell, scope=None if n else "row") for n, cell in enumerate(row)))
        for row in rows
    ]
    top = [element("thead", element("tr", *(element("th", cell, scope="col") for cell in head)))] if head else []
    parts = [element("caption", caption)] if caption else []
    inner = element("table", *parts, *top, element("tbody", *body), class_=class_ or None)
    return element("div", inner, class_="wide", tabindex=0, role="region", aria_label=caption or "table")


def facts(rows: Iterable[tuple[str, Part]]) -> Html:
    """Names and what they are."""
    return element("dl", *((element("dt", name), element("dd", value)) for name, value in rows), class_="facts")


def section(key: str, title: str, *parts: Part) -> Html:
    """A section with its heading."""
    heading = element("h2", title, id=f"{key}-title")
    return element("section", heading, *parts, id=key, aria_labelledby=f"{key}-title")
