"""The figure of an evaluation: velocities beside the true one. All else is on the report page, see report_page/."""

from __future__ import annotations

from pathlib import Path

from p2d.evaluate.report import Report, Subject
from p2d.show import figures
from p2d.show.view import View

PICTURED_SNAPSHOTS = 3
VALIDATION_LABELS = {
    "score": "held-out noise prediction loss",
    "stationarity": "rms z of held-out observables",
    "continuity": "held-out continuity residual",
}


def draw_report(folder: Path, subject: Subject, report: Report, view: View) -> None:
    """Draw velocities into a folder, where there are any."""
    if not report.velocities:
        return
    evaluation = report.evaluation
    measured = {"flow": evaluation.flow, "equation": evaluation.equation}
    cosines = {key: of.field.cosine for key, of in measured.items() if of and of.field.cosine is not None}
    some = slice(0, PICTURED_SNAPSHOTS)
    velocities = {key: velocity[some] for key, velocity in report.velocities.items()}
    figures.draw_velocities(folder / "velocity.png", report.states[some], velocities, cosines, view, subject.name)
