"""Settings of the report page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from p2d.config.base import Config, DatasetName, Show, option


@dataclass(frozen=True)
class ReportConfig(Config):
    """Write one page that shows all that there is of a dataset: OUT/report/NAME/index.html, which needs no network."""

    dataset: DatasetName
    name: Annotated[str, option(help="name of the report; the dataset's when empty")] = ""
    score: Annotated[str, option(help="score model, by name or path; the dataset's when empty")] = ""
    flow: Annotated[str, option(help="flow model, by name or path; the dataset's when empty")] = ""
    equation: Annotated[str, option(help="discovered equation, by name or path; the dataset's when empty")] = ""
    holdout: Annotated[float, option(help="share of the snapshots that are held out")] = 0.1
    show: Show = ""
