"""The stages as functions: the same for the `p2d` command, for jobs and for `p2d run`.

Results go to OUT/data, score, flow, discover, sweep and report, each under its name; a later stage
takes the name or a path. Finished work is kept: the same command again does nothing over. A result
made with other settings is refused; take another --name.

A command may be stopped at any time. Ctrl-C ends it in seconds with exit code 130, SIGTERM with 143
and, in a training, a checkpoint in the middle of the epoch. The same command goes on from there,
also after kill -9, a full disk or a lost node: results are written whole or not at all. A mistake
in the input ends with one line and exit code 2.

    p2d status            # what is finished, running, unfinished or broken, and what goes on
    p2d status waves      # what happened to it: starts, ends, restarts, machines
    p2d plan --num-samples 10_000_000 --grid 256 --nodes 64 --cpus 32    # what a run would need
    p2d run --dataset plates    # all stages of a dataset that is there
"""

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
