"""Real signals to real commands that use Ray: a line, the right exit code, nothing left running, and they go on.

Stages of one process are signalled in cluster/faults.py, at any moment.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from p2d.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
P2D = [sys.executable, "-m", "p2d.cli"]
LINE = "p2d: stopped; the same command goes on from here"
SIZE = "--num-samples 64 --height 64 --width 64 --steps 5000 --chunk 2"
FEW = "--num-samples 24 --height 64 --width 64 --steps 3000 --chunk 8"
SCORE = "--channels 8 8 -n 6"
RUN = "--score.channels 8 8 --score.epochs 6 --flow.hidden 8 --flow.observables 48 --flow.epochs 1"
# What is signalled, and how; when: once a file is there, or (without one) once the stage is announced; the case whose
# result it needs.
CASES = {
    "simulate": (signal.SIGTERM, f"simulate {SIZE} --actors 2", "data/waves_64x64/shard-*", ""),
    "train-score": (
        signal.SIGTERM,
        f"train-score waves --workers 2 {SCORE}",
        "score/.waves-*/**/history.json",
        "simulate",
    ),
    "discover": (signal.SIGTERM, "discover waves", "", "simulate"),
    "sample": (signal.SIGTERM, "sample --score waves --num-samples 128 --steps 20", "", "train-score"),
    "sweep": (
        signal.SIGTERM,
        "sweep waves --objective stationarity --scheduler none "
        "--param flow.hidden=8 --param flow.epochs=6 --param flow.seed=1,2",
        "sweep/*/trials",
        "simulate",
    ),
    "run": (signal.SIGINT, f"run --name other {FEW} {RUN}", "score/.other-*/**/history.json", ""),
}
finished = set()


def p2d(words: str, folder, **options):
    return subprocess.Popen([*P2D, *words.split()], cwd=folder, stdout=subprocess.DEVNULL, text=True, **options)


def finish(case: str, folder) -> None:
    """Run a case's command to its end, once, after those that it needs."""
    if case and case not in finished:
        _, words, _, needed = CASES[case]
        finish(needed, folder)
        with contextlib.chdir(folder):
            main(words.split())
        finished.add(case)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("signals")


def tracked(folder) -> dict[str, str]:
    """Status of every tracked run."""
    file = folder / "runs/mlflow.db"
    if not file.exists():
        return {}
    with sqlite3.connect(file) as store:
        return dict(store.execute("select name || ' ' || run_uuid, status from runs").fetchall())


def running(mark: str) -> list[str]:
    """Commands of all processes, whoever is their parent by now, that inherited a mark in their environment."""
    commands = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("P2D_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                commands.append(" ".join(process.cmdline()))
    return commands


@pytest.mark.parametrize("case", CASES)
def test_a_running_command_that_gets_a_signal_ends_in_order_and_goes_on(case, folder, cluster):
    number, words, file, needed = CASES[case]
    finish(needed, folder)
    before, log, mark = tracked(folder), folder / "log", uuid.uuid4().hex
    with log.open("w") as stderr:
        process = p2d(words, folder, stderr=stderr, env={**os.environ, "P2D_MARK": mark})
        while not (any((folder / "runs").glob(file)) if file else f"{words.split()[0]} ->" in log.read_text()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        process.send_signal(number)
        sent = time.monotonic()
        process.wait(timeout=60)
        seconds = time.monotonic() - sent
    told = log.read_text()
    assert process.returncode == 128 + number, told
    assert told.splitlines()[-1] == LINE and "Traceback" not in told and "***" not in told, told
    assert seconds < 10
    while (left := running(mark)) and time.monotonic() - sent < 15:
        time.sleep(0.2)
    assert left == []
    after = tracked(folder)
    assert {status for run, status in after.items() if run not in before} <= {"KILLED", "FINISHED"}
    if case == "run":  # which is the last one, and goes on as its stages do
        return
    finish(case, folder)
    assert {run: status for run, status in tracked(folder).items() if status != "FINISHED"} == {}
    assert not list((folder / "runs").rglob(".*.lock"))
