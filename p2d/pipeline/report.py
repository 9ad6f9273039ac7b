"""The page that shows all that there is of a dataset, OUT/report/NAME/index.html."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.config import ReportConfig, settings_hash
from p2d.config.stored import Json
from p2d.discovery.result import Discovery
from p2d.evaluate.course import Rollout
from p2d.evaluate.evaluation import Evaluation
from p2d.evaluate.quality import Quality
from p2d.events import read_events
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.runs import DATA, EQUATION, FLOW, REPORT, SCORE, SWEEP, read_json, short_name
from p2d.show.view import View
from p2d.snapshots.store import Dataset, evenly, find_dataset, open_dataset
from p2d.training.checkpoint import read_config
from p2d.training.history import History

if TYPE_CHECKING:
    from p2d.flow.model import Flow
    from p2d.show.report_page.material import Generated, Material

PAGE = "index.html"
STATES = 8  # held-out snapshots that rates are compared at
GENERATED = 128  # patterns whose spectra are compared


@dataclass(frozen=True)
class _Sources:
    """Where all that is shown lies; None of what there is not.

    Attributes:
        evaluated: summary.json of an evaluation.
        generated: the dataset of generated patterns.
        rollouts, sweeps: files by name.
    """

    dataset: Dataset
    name: str
    equation: Path | None
    flow: Path | None
    score: Path | None
    evaluated: Path | None
    generated: Path | None
    rollouts: dict[str, Path]
    sweeps: dict[str, Path]

    @property
    def settings(self) -> dict[str, Json]:
        """Of everything that was made."""
        card = self.dataset.card
        made: dict[str, Json] = {"the dataset": {**card.settings, **_plain(card.origin)}}
        if self.equation:
            made["the equation"] = read_json(self.equation).get("settings", {})
        for kind, folder in (("flow", self.flow), ("score", self.score)):
            if folder:
                config = read_config(folder, kind)
                made[f"the {kind}{' model' * (kind == 'score')}"] = {**config["settings"], **_plain(config["data"])}
        return made

    def hash(self, config: ReportConfig, drawn_with: str) -> str:
        """What decides what the page shows, and what it is made with."""
        files = [self.equation, self.evaluated, *self.rollouts.values(), *self.sweeps.values()]
        models = [folder / "history.json" for folder in (self.flow, self.score) if folder]
        texts = [_timeless(file.read_text()) for file in (*files, *models) if file]
        generated = open_dataset(self.generated).card.dataset_hash if self.generated else ""
        own = {**config.identity(), "dataset": self.dataset.card.dataset_hash, "generated": generated}
        return settings_hash(own | {"texts": hashlib.sha256("".join([*texts, drawn_with]).encode()).hexdigest()})


def _timeless(text: str) -> str:
    """A JSON file without how long the stages took, which the page's own time would change."""
    values = json.loads(text)
    return json.dumps(
        {key: value for key, value in values.items() if key != "seconds"} if isinstance(values, dict) else values
    )


def _plain(values: Json) -> Json:
    """Without tables that are shown elsewhere, or mean nothing to a reader."""
    return {key: value for key, value in values.items() if key not in ("survey", "grid", "scaling", "species")}


def report(config: ReportConfig, out: Path, track: Tracker) -> Outcome:
    """Write the page of a dataset: whatever there is of it, on one page.

    Raises:
        UserError: no such dataset, model or equation.
    """
    from p2d.show.report_page import writing  # on use: pictures take long to import

    sources = _find(config, out)
    view = View(sources.dataset.card.species, sources.dataset.card.grid, config.show)
    file = REPORT.place(out, sources.name) / PAGE
    inputs = sources.hash(config, writing.assets())
    if writing.inputs_of(file) == inputs:
        return Outcome("report", False, file, {"page": str(file)})
    start = time.monotonic()
    with stage(track, "report", file.parent, config.to_dict()) as child:
        writing.write_page(file, _material(config, sources, view, out), inputs)
        child.artifact(file)
    return Outcome("report", True, file, {"page": str(file)}, time.monotonic() - start)


def _find(config: ReportConfig, out: Path) -> _Sources:
    dataset = find_dataset(config.dataset, out)
    short = short_name(dataset.folder.name)
    name = config.name or short
    summary = REPORT.place(out, name) / "summary.json"
    rolled = {known: REPORT.place(out, known) / "rollout" / "rollout.json" for known in REPORT.names(out)}
    own_hash = dataset.card.dataset_hash
    return _Sources(
        dataset=dataset,
        name=name,
        equation=EQUATION.find_or_own(out, config.equation, short),
        flow=FLOW.find_or_own(out, config.flow, short),
        score=SCORE.find_or_own(out, config.score, short),
        evaluated=summary if _is_of(summary, own_hash) else None,
        generated=_generated(out, own_hash),
        rollouts={known: file for known, file in rolled.items() if _is_of(file, own_hash)},
        sweeps={known: file for known in SWEEP.names(out) if (file := _sweep(out, known, own_hash)) is not None},
    )


def _is_of(file: Path, dataset_hash: str) -> bool:
    """Whether a result is there, and is of this dataset."""
    if not file.is_file():
        return False
    inputs = read_json(file).get("inputs", {})
    return inputs.get("dataset_hash") == dataset_hash


def _sweep(out: Path, name: str, dataset_hash: str) -> Path | None:
    folder = SWEEP.place(out, name)
    settings, file = folder / "settings.json", folder / "sweep.json"
    if not (settings.is_file() and file.is_file()):
        return None
    return file if read_json(settings).get("dataset_hash") == dataset_hash else None


def _generated(out: Path, dataset_hash: str) -> Path | None:
    """The first dataset of patterns that a score model of this dataset has made up."""
    for name in DATA.names(out):
        card = DATA.place(out, name) / "card.json"
        origin = read_json(card).get("origin", {}) if card.is_file() else {}
        if origin.get("kind") == "generated" and origin.get("learnt_from") == dataset_hash:
            return card.parent
    return None


def _material(config: ReportConfig, sources: _Sources, view: View, out: Path) -> Material:
    """Read what there is, and measure what the page shows beside it."""
    from p2d.evaluate.metrics import known_system
    from p2d.evaluate.short_rollout import roll_out_shortly
    from p2d.flow.model import Flow
    from p2d.show.report_page.material import Material

    dataset = sources.dataset
    living = dataset.living
    held_ids = dataset.split(config.holdout)[1] if len(living) > 1 else living
    states = dataset.states(held_ids[:STATES])
    discovery = Discovery.load(sources.equation) if sources.equation else None
    flow = Flow.load(sources.flow).on(dataset.card.grid) if sources.flow else None
    folders = {"score": sources.score, "flow": sources.flow}
    return Material(
        name=sources.name,
        dataset=dataset,
        view=view,
        states=states,
        sheet=dataset.states(_sheet_ids(dataset)),
        velocities=_velocities(dataset, discovery, flow, held_ids[:STATES], states),
        evaluation=Evaluation.load(sources.evaluated) if sources.evaluated else None,
        discovery=discovery,
        truth=known_system(dataset),
        histories={kind: History.load(folder) for kind, folder in folders.items() if folder},
        objective=read_config(sources.flow, "flow")["settings"]["objective"] if sources.flow else "",
        denoised=_denoised(sources.score, states, dataset) if len(states) else [],
        short=roll_out_shortly(dataset, held_ids, discovery, flow) if len(living) > 1 else None,
        generated=_made_up(sources, dataset, held_ids, out),
        rollouts={name: Rollout.load(file) for name, file in sources.rollouts.items()},
        sweeps={name: read_json(file, "trials", "best", "metric") for name, file in sources.sweeps.items()},
        settings=sources.settings,
        events=list(_events(sources, out)),
    )


def _sheet_ids(dataset: Dataset) -> np.ndarray:
    from p2d.show.dataset import chosen_for_sheet

    return chosen_for_sheet(dataset)


def _velocities(
    dataset: Dataset, discovery: Discovery | None, flow: Flow | None, ids: np.ndarray, states: np.ndarray
) -> dict[str, np.ndarray]:
    """Rates at these states by 'true', 'flow' and 'equation', as far as there are any; nan where they are not known."""
    from p2d.evaluate.passes import Fields
    from p2d.snapshots.conditions import Conditions

    across = tuple(discovery.conditions) if discovery else ()
    conditions = Conditions.of_dataset(dataset, across, ids) if across else None
    equation = (discovery.system, discovery.operator) if discovery and any(discovery.terms.values()) else None
    if not len(ids):
        return {}
    fields = Fields(dataset, flow, equation, conditions)
    cells = dataset.card.grid.inside(fields.reach)
    return {name: np.where(cells, rates, np.nan) for name, rates in fields.velocities(ids, states).items()}


def _denoised(score: Path | None, states: np.ndarray, dataset: Dataset) -> list[tuple[float, np.ndarray, np.ndarray]]:
    if score is None:
        return []
    from p2d.score.model import ScoreModel
    from p2d.show.pictures import denoised_states

    return denoised_states(ScoreModel.load(score), states[0], dataset.scaling)


def _made_up(sources: _Sources, dataset: Dataset, held_ids: np.ndarray, out: Path) -> Generated | None:
    """Generated patterns, with the spectra of theirs and of held-out ones where the sizes are the same."""
    if sources.generated is None:
        return None
    from p2d.evaluate import quality
    from p2d.show.report_page.material import Generated

    made, grid = open_dataset(sources.generated), dataset.card.grid
    states = made.states(evenly(made.sample_ids, GENERATED))
    held = dataset.states(evenly(held_ids, GENERATED))
    spectra = {}
    if states.shape[-2:] == held.shape[-2:]:
        named = {"held out": held, "generated": states}
        spectra = {name: quality.spectra(own, grid).mean(axis=0) for name, own in named.items()}
    file = REPORT.place(out, made.folder.name) / "quality.json"
    measured = Quality.load(file) if file.is_file() and "quality" in read_json(file) else None
    return Generated(made.folder.name, states, held, measured, spectra)


def _events(sources: _Sources, out: Path) -> Iterator[dict[str, Any]]:
    """What happened to what is shown, the oldest first."""
    folders = [sources.dataset.folder, sources.generated, sources.flow, sources.score]
    files = [*sources.rollouts.values(), *sources.sweeps.values()]
    places = [*filter(None, folders), *(file.parent for file in files), REPORT.place(out, sources.name)]
    places += [sources.equation.parent] if sources.equation else []
    own = [str(where).removeprefix(f"{out}/") + "/" for where in places]
    for event in read_events(out):
        if any(f"{event.get('result', '')}/".startswith(where) for where in own):
            yield json.loads(json.dumps(event))
