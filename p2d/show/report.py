"""The figures of a report: snapshots, denoised ones, velocities beside the true one, and losses."""

from __future__ import annotations

from pathlib import Path

from p2d.evaluate.report import Report, Subject
from p2d.score.model import ScoreModel
from p2d.show import curves, figures, pictures
from p2d.show.view import View

PICTURED_SNAPSHOTS = 3
VALIDATION_LABELS = {
    "score": "held-out noise prediction loss",
    "stationarity": "rms z of held-out observables",
    "continuity": "held-out continuity residual",
}


def draw_report(folder: Path, subject: Subject, report: Report, view: View) -> None:
    """Draw what there is into a folder."""
    evaluation, name = report.evaluation, subject.name
    shown = report.states[: figures.SEVERAL]
    figures.draw_states(folder / "snapshots.png", shown, view, f"{name}, held-out snapshots")
    if subject.score is not None:
        state, model = report.states[0], ScoreModel.load(subject.score)
        panels = pictures.denoised_states(model, state, subject.dataset.scaling)
        figures.draw_denoised(folder / "denoised.png", state, panels, view, name)
    if report.velocities:
        measured = {"flow": evaluation.flow, "equation": evaluation.equation}
        cosines = {key: of.field.cosine for key, of in measured.items() if of and of.field.cosine is not None}
        some = slice(0, PICTURED_SNAPSHOTS)
        velocities = {key: velocity[some] for key, velocity in report.velocities.items()}
        figures.draw_velocities(folder / "velocity.png", report.states[some], velocities, cosines, view, name)
    if report.histories:
        labels = {"score": VALIDATION_LABELS["score"], "flow": VALIDATION_LABELS.get(subject.objective, "")}
        curves.draw_losses(folder / "losses.png", report.histories, labels, name)
