"""Real signals to real commands in every stage: a line, the right exit code, nothing left running, and it goes on."""

import signal
import sqlite3
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
P2D = [sys.executable, "-m", "p2d.cli"]
LINE = "p2d: stopped; the same command goes on from here"
SIZE = "--num-samples 64 --height 64 --width 64 --steps 3000 --chunk 2"
SCORE = "--channels 8 8 -n 30"
FLOW = "--hidden 8 --observables 48 -n 30"
RUN = "--score.channels 8 8 --score.epochs 30 --flow.hidden 8 --flow.observables 48 --flow.epochs 1"
# What is signalled, and how; when: once a file is there, or (without one) once the stage is announced.
CASES = {
    "simulate": (signal.SIGTERM, f"simulate -p maze {SIZE}", "data/maze_64x64/shard-*"),
    "train-score": (signal.SIGINT, f"train-score waves --name one {SCORE}", "score/.one-*/**/history.json"),
    "train-score, 2 workers": (
        signal.SIGTERM,
        f"train-score waves --name two --workers 2 {SCORE}",
        "score/.two-*/**/history.json",
    ),
    "train-flow": (signal.SIGINT, f"train-flow waves --name one {FLOW}", "flow/.one-*/**/history.json"),
    "discover": (signal.SIGTERM, "discover waves --name one", ""),
    "evaluate": (signal.SIGINT, "evaluate waves --name one", ""),
    "sample": (signal.SIGTERM, "sample --score waves --num-samples 128 --steps 20", ""),
    "rollout": (signal.SIGINT, "rollout --from waves", ""),
    "sweep": (signal.SIGTERM, f"sweep waves --objective stationarity --param flow.seed=1,2 {FLOW}", "sweep/*/trials"),
    "run": (signal.SIGINT, f"run -p life {SIZE} {RUN}", "score/.life-*/**/history.json"),
}


def p2d(words: str, folder, **options):
    return subprocess.Popen([*P2D, *words.split()], cwd=folder, stdout=subprocess.DEVNULL, text=True, **options)


def finish(words: str, folder) -> None:
    process = p2d(words, folder, stderr=subprocess.PIPE)
    _, told = process.communicate(timeout=280)
    assert process.returncode == 0, told


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    finish(f"run {SIZE} {RUN} --score.epochs 1", folder)
    return folder


def tracked(folder) -> dict[str, str]:
    """Status of every tracked run."""
    with sqlite3.connect(folder / "runs/mlflow.db") as store:
        return dict(store.execute("select run_uuid, status from runs").fetchall())


@pytest.mark.parametrize("case", CASES)
def test_a_signal_ends_a_command_in_order_and_it_goes_on(case, prepared):
    number, words, file = CASES[case]
    before, log = tracked(prepared), prepared / "log"
    with log.open("w") as stderr:
        process = p2d(words, prepared, stderr=stderr)
        while not (any((prepared / "runs").glob(file)) if file else f"{words.split()[0]} ->" in log.read_text()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        sent = time.monotonic()
        process.wait(timeout=60)
        seconds = time.monotonic() - sent
    told = log.read_text()
    assert process.returncode == 128 + number, told
    assert told.splitlines()[-1] == LINE and "Traceback" not in told and "***" not in told, told
    assert seconds < 10
    _, left = psutil.wait_procs(started, timeout=5)
    assert [one.cmdline() for one in left if one.status() != psutil.STATUS_ZOMBIE] == []
    after = tracked(prepared)
    assert {status for run, status in after.items() if run not in before} <= {"KILLED", "FINISHED"}
    finish(words, prepared)
    final = tracked(prepared)
    assert set(final.values()) == {"FINISHED"}
    assert {run for run, status in after.items() if status == "KILLED"} <= final.keys()
    assert not list((prepared / "runs").rglob(".*.lock"))
