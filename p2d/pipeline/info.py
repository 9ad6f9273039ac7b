"""What a dataset is: its card, what its snapshots show, and a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.runs import REPORT, short_name
from p2d.show.view import ALL, View
from p2d.snapshots.store import Dataset, evenly, find_dataset
from p2d.snapshots.survey import Stored, Survey, survey

SHEET = "contact.png"  # in the folder of the dataset's report
LOOKED_AT = 256  # snapshots


@dataclass(frozen=True)
class Info:
    """What is told of a dataset."""

    dataset: Dataset
    survey: Survey
    sheet: Path

    def to_dict(self) -> dict[str, Any]:
        """As --json prints it: the card without its shards, the findings, and where the contact sheet is."""
        card = {key: value for key, value in self.dataset.card.to_dict().items() if key not in ("shards", "ensembles")}
        return {
            "dataset": str(self.dataset.folder),
            "card": card,
            "survey": self.survey.to_dict(),
            "contact_sheet": str(self.sheet),
        }

    def __str__(self) -> str:
        from p2d.show.dataset import info_text  # on use: pictures take long to import

        found = "\n".join(str(finding) for finding in self.survey.findings if finding.kind != "size")
        return f"{info_text(self.dataset)}\n\n{found}\n\ncontact sheet: {self.sheet}"


def info(name: str, out: Path) -> Info:
    """Tell what a dataset is; the contact sheet is drawn into OUT/report/NAME where it is not, or is of an older one.

    Raises:
        UserError: no such dataset, or one that cannot be read.
    """
    from p2d.show.dataset import chosen_for_sheet, draw_contact_sheet  # on use: pictures take long to import

    dataset = find_dataset(name, out)
    sheet = REPORT.place(out, short_name(dataset.folder.name)) / SHEET
    drawn_of = (dataset.folder / "card.json").stat().st_mtime_ns
    if not sheet.exists() or sheet.stat().st_mtime_ns < drawn_of:
        view = View(dataset.card.species, dataset.card.grid, ALL)
        draw_contact_sheet(sheet, dataset.states(chosen_for_sheet(dataset)), view, dataset.folder.name)
    return Info(dataset, survey_of(dataset), sheet)


def survey_of(dataset: Dataset) -> Survey:
    """What an import told of the snapshots; of a dataset that was made otherwise they are looked at now."""
    card = dataset.card
    if "survey" in card.origin:
        return Survey.from_dict(card.origin["survey"])
    ids = evenly(dataset.living if len(dataset.living) else dataset.sample_ids, LOOKED_AT)
    runs, times = dataset.runs(ids), dataset.times(ids)
    several = runs if len(np.unique(runs)) < len(ids) else None
    stored = Stored(edges_known=True, count=card.samples)
    return survey(dataset.states(ids), card.names, card.grid, several, times, stored)
