"""The record: the commands that made it, settings, hashes and versions."""

from __future__ import annotations

import json
from typing import Any

from p2d.config.stored import Json
from p2d.show.report_page.html import Html, Part, element, facts, joined
from p2d.show.report_page.material import Material


def commands(material: Material) -> Html:
    """Those that made what is shown, the oldest first, each once."""
    typed = dict.fromkeys(event["command"] for event in _events(material) if event.get("command"))
    if not typed:
        return element("p", "They were not noted.")
    return element("pre", "\n".join(typed), class_="commands", tabindex=0)


def times(material: Material) -> list[tuple[str, Part]]:
    """How long each stage took, by its events."""
    ended = {(e.get("stage"), e["result"]): e for e in _events(material) if e.get("event") == "ended"}
    return [
        (event["stage"], f"{event['seconds']:g} s, {event.get('state', '')} {event['at']}")
        for event in ended.values()
        if "stage" in event and "seconds" in event
    ]


def hashes(material: Material) -> Html:
    """Of the data and the code."""
    card = material.dataset.card
    made = ", ".join(f"{name} {version}" for name, version in card.software.items())
    last: Json = next((event["versions"] for event in reversed(material.events) if event.get("versions")), {})
    rows: list[tuple[str, Part]] = [
        ("dataset", str(material.dataset.folder)),
        ("hash of the dataset", element("code", card.dataset_hash)),
        ("snapshots made with", made),
        ("results made with", ", ".join(f"{name} {version}" for name, version in last.items())),
    ]
    return facts([(name, text) for name, text in rows if text])


def settings(material: Material) -> Html:
    """All settings, a table each that opens."""
    return joined(
        element("details", element("summary", f"Settings of {name}"), facts(_flat(values)))
        for name, values in material.settings.items()
        if values
    )


def _flat(values: Json, before: str = "") -> list[tuple[str, Part]]:
    rows: list[tuple[str, Part]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", _text(value)))
    return rows


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _events(material: Material) -> list[Json]:
    """What happened to what is shown, without the making of pages."""
    return [event for event in material.events if event.get("stage") != "report"]
