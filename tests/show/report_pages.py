"""Pages of made-up patterns: whatever there is of them lies under an output folder, as the stages leave it."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from p2d.config import EvaluateConfig, ReportConfig, Source
from p2d.discovery.result import Discovery
from p2d.evaluate.quality import measure_quality
from p2d.pipeline import evaluate, report
from p2d.runs import write_json
from p2d.snapshots import made as derived
from p2d.snapshots.store import Dataset
from p2d.systems.reading import load_system
from p2d.tracking.store import open_tracker

from ..discovery.test_result import discovery
from ..evaluate.helpers import dataset_of, field_of, patterns, quiet_score, write_flow, write_score

CHAOS = load_system("gray_scott").at("chaos")
HEAT = load_system("gray_scott").at("waves")


def states_of(count: int = 12, height: int = 16, width: int = 16) -> np.ndarray:
    """Patterns of concentrations that chaos has."""
    return patterns(count, height, width) * np.float32([[[[1.0]], [[0.4]]]])


def save_equation(out: Path, name: str, found: Discovery) -> Path:
    """As `p2d discover` leaves it."""
    about = {"settings": {"library": "free"}, "learnt_from": {"dataset": name, "systems": []}}
    return found.save(out / "discover" / name, **about)


def write_everything(out: Path, name: str = "tiny", **of_equation) -> Dataset:
    """A dataset with a flow, a score model, an equation, generated patterns, a sweep and an evaluation."""
    states = states_of()
    dataset = dataset_of(states, out / "data" / f"{name}_16x16", CHAOS)
    write_flow(out / "flow" / name, dataset, field_of(CHAOS, states))
    write_score(out / "score" / name, dataset, quiet_score(states))
    save_equation(out, name, discovery(terms=CHAOS.terms, snapshots=8, **of_equation))
    write_generated(out, name, dataset)
    write_sweep(out, name, dataset)
    evaluate(EvaluateConfig(), Source(dataset=name, workers=1), out, lambda: open_tracker(out, False), page=False)
    return dataset


def write_generated(out: Path, name: str, dataset: Dataset) -> None:
    states = states_of(6)[::-1].copy()
    origin = {"kind": "generated", "learnt_from": dataset.card.dataset_hash}
    labels = derived.generated_labels(len(states), len(states), seed=0)
    card = derived.first_card(origin, origin, dataset.card.species, dataset.card.grid, dataset.scaling, len(states))
    made = derived.make(
        out / "data" / f"{name}_generated_16x16",
        card,
        labels,
        lambda n: derived.samples_of(states, labels[n], card),
        "cpu",
        lambda *_: None,
    )
    ids = dataset.living
    held, train = dataset.states(ids[1::2]), dataset.states(ids[::2])
    quality = measure_quality(states, train, held, species=dataset.card.names, grid=dataset.card.grid)
    quality.save(out / "report" / made.folder.name / "quality.json")


def write_sweep(out: Path, name: str, dataset: Dataset) -> None:
    trials = [
        {
            "trial": f"{alpha}-{sym}",
            "settings": {"alpha": alpha, "sym": sym},
            "state": "FINISHED",
            "error": "",
            "values": {"cosine": 0.1 * float(alpha) + float(sym), "epoch": 4.0},
        }
        for alpha in ("0.5", "0.8")
        for sym in ("0", "0.1")
    ]
    folder = out / "sweep" / name
    write_json(folder / "settings.json", {"dataset_hash": dataset.card.dataset_hash})
    write_json(folder / "sweep.json", {"metric": "cosine", "best": trials[-1], "trials": trials, "seconds": {}})


def write_page(out: Path, dataset: str = "tiny", **settings) -> Path:
    """The page of what there is."""
    return report(ReportConfig(dataset=dataset, **settings), out, lambda: open_tracker(out, False)).where


class Read(HTMLParser):
    """What a page holds.

    Attributes:
        words: all text, but for scripts and styles.
        tables: by caption, rows of the texts of their cells.
        sections: keys, in their order.
        elements: name and attributes of each.
        data: what its script reads.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.words, self.elements, self.tables, self.sections = "", [], {}, []
        self.data: dict = {}
        self.within: list[str] = []
        self.script = ""
        self.feed(file.read_text(encoding="utf-8"))
        self.data = json.loads(self.script)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "caption":
            self.tables[""] = []
        if tag == "tr" and "" in self.tables:
            self.tables[""].append([])
        if tag in ("td", "th") and "" in self.tables:
            self.tables[""][-1].append("")
        self.within.append(f"json {tag}" if attributes.get("type") == "application/json" else tag)
        if tag in ("img", "meta", "input"):
            self.within.pop()

    def handle_endtag(self, tag):
        self.within.pop()
        if tag == "caption":
            self.caption = self.last
        if tag == "table" and "" in self.tables:
            self.tables[self.caption] = self.tables.pop("")

    def handle_data(self, text):
        if self.within[-1:] == ["json script"]:
            self.script = text
        elif self.within[-1:] not in (["script"], ["style"]):
            self.words += text
            self.last = text
            if any(part in ("td", "th") for part in self.within) and self.tables.get(""):
                self.tables[""][-1][-1] += text

    def of(self, name: str) -> list[dict[str, str]]:
        """The attributes of all elements of a name."""
        return [attributes for tag, attributes in self.elements if tag == name]
