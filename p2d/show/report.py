"""The figures of a report: snapshots, denoised ones, velocities beside the true one, and losses."""

from __future__ import annotations

from pathlib import Path

from p2d.evaluate.report import Report, Subject
from p2d.score.model import ScoreModel
from p2d.show import figures, pictures

PICTURED_SNAPSHOTS = 3
VALIDATION_LABELS = {
    "score": "held-out noise prediction loss",
    "stationarity": "rms z of held-out observables",
    "continuity": "held-out continuity residual",
}


def draw_report(folder: Path, subject: Subject, report: Report, channel: int) -> None:
    """Draw what there is into a folder; of the species of this channel."""
    evaluation, name, species = report.evaluation, subject.name, subject.dataset.card.names
    figures.snapshots(folder / "snapshots.png", report.states, channel, name, species)
    if subject.score is not None:
        model, scaling = ScoreModel.load(subject.score), subject.dataset.scaling
        pictures.denoised(folder / "denoised.png", model, report.states[0], scaling, channel, name, species)
    if report.velocities:
        measured = {"flow": evaluation.flow, "equation": evaluation.equation}
        cosines = {key: of.field.cosine for key, of in measured.items() if of and of.field.cosine is not None}
        some = slice(0, PICTURED_SNAPSHOTS)
        velocities = {key: velocity[some] for key, velocity in report.velocities.items()}
        figures.velocities(folder / "velocity.png", report.states[some], velocities, cosines, channel, name, species)
    if report.histories:
        labels = {"score": VALIDATION_LABELS["score"], "flow": VALIDATION_LABELS.get(subject.objective, "")}
        figures.losses(folder / "losses.png", report.histories, labels, name)
