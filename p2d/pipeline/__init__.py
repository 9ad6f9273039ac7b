"""The stages as functions: the same for the `p2d` command, the jobs and `p2d run`. Finished work is found and kept."""

from p2d.pipeline.discover import discover
from p2d.pipeline.evaluate import evaluate
from p2d.pipeline.exporting import export
from p2d.pipeline.generate import denoise, sample
from p2d.pipeline.importing import import_files
from p2d.pipeline.info import Info, info
from p2d.pipeline.learn import train_flow, train_score
from p2d.pipeline.report import report
from p2d.pipeline.rollout import rollout
from p2d.pipeline.run import run
from p2d.pipeline.simulate import simulate, verify
from p2d.pipeline.stage import Outcome, Tracker
from p2d.pipeline.status import Status, status
from p2d.pipeline.sweep import sweep

__all__ = [
    "Info",
    "Outcome",
    "Status",
    "Tracker",
    "denoise",
    "discover",
    "evaluate",
    "export",
    "import_files",
    "info",
    "report",
    "rollout",
    "run",
    "sample",
    "simulate",
    "status",
    "sweep",
    "train_flow",
    "train_score",
    "verify",
]
