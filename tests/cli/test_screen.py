"""What a command puts on the screen, and what into its log."""

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from p2d import log, progress
from p2d.cli import COMMANDS, main
from p2d.commands import Command

SIZE = ["--num-samples", "2", "--height", "8", "--width", "8", "--steps", "10"]
SIMULATE = ["simulate", *SIZE, "--threads", "1", "--device", "cpu", "--no-tracking", "-o"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The output folder of a command that had work to do."""
    out = tmp_path_factory.mktemp("runs")
    main([*SIMULATE, str(out)])
    return out


@pytest.mark.slow
def test_lines_are_plain_where_there_is_no_terminal(tmp_path):
    out = tmp_path
    done = subprocess.run(
        [sys.executable, "-m", "p2d.cli", *SIMULATE, out], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    for said in (done.stdout, done.stderr):
        assert "\r" not in said and "\x1b" not in said
    assert done.stderr.splitlines()[0] == f"simulate -> {out}/data/waves_8x8"
    assert "Warning" not in done.stderr and "logs" not in done.stdout + done.stderr


def test_the_log_tells_command_versions_settings_and_what_was_said(simulated):
    (file,) = (simulated / "logs").iterdir()
    told = file.read_text()
    assert told.startswith("command: p2d simulate --num-samples 2 ")
    for part in ("\nbegan: ", "numpy 2.", "\n  num_samples: 2\n", "simulate -> "):
        assert part in told


def test_debug_tells_where_the_log_is_and_a_repeat_has_none(simulated, capsys):
    out = str(simulated)
    main([*SIMULATE, out, "--debug"])
    assert "log" not in capsys.readouterr().err, "nothing was to do"
    main([*SIMULATE, out, "--debug", "--seed", "1", "--name", "another"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("p2d: log ")]
    assert os.path.isfile(line.removeprefix("p2d: log "))


def test_json_is_one_object_and_nothing_else(simulated, capsys):
    main([*SIMULATE, str(simulated), "--json"])
    assert json.loads(capsys.readouterr().out)["samples"] == 2


def fails(given) -> None:
    logging.getLogger("somelibrary").warning("this may be deprecated")
    warnings.warn("and this is slow", stacklevel=1)
    log.open_log(given.folder)
    logging.getLogger("somelibrary").error("and now it fails")
    raise RuntimeError("a fault\nof two lines")


def test_a_failure_is_a_line_and_its_traceback_is_in_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "fail", Command("fail", "Fail.", (), lambda given: fails(given)))
    monkeypatch.setattr("p2d.cli.parse", lambda *_: type("Given", (), {"folder": tmp_path}))
    with pytest.raises(SystemExit) as stop:
        main(["fail"])
    (file,) = tmp_path.iterdir()
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"p2d: failed: a fault of two lines; the log {file} tells where\n"
    told = file.read_text()
    for part in ("this may be deprecated", "and this is slow", "and now it fails", "Traceback", "in fails"):
        assert part in told


def test_a_log_on_a_full_disk_hides_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match="what went wrong"),
        Path("/dev/full").open("w") as full,
        log.of_command(["run"]) as own,
    ):
        log.open_log(tmp_path)
        own.file, _ = full, own.file.close()
        own.write("a line")
        raise ValueError("what went wrong")
    assert own.file is None


def test_old_logs_go(tmp_path):
    for number in range(log.KEPT + 5):
        (tmp_path / f"2000-01-{number:02}.log").touch()
    with log.of_command(["run"]):
        log.open_log(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == log.KEPT and names[0] == "2000-01-06.log" and "_run_" in names[-1]


def test_outside_of_a_command_nothing_is_logged(tmp_path):
    log.open_log(tmp_path)
    log.write("said")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test sets; every line is due."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "LINE_EVERY", 1.0)
    return now


def test_the_time_left_is_of_the_rate_and_not_of_what_came_before(clock, capsys):
    with progress.progress("stage", 10, "parts") as advance:
        for seconds in (150, 152, 154):  # the first after 50 s of beginning, then a part every 2 s
            clock[0] = seconds
            advance(1)
        advance(7)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "stage: 1/10 parts, 50 s",
        "stage: 2/10 parts, 52 s, 16 s left",
        "stage: 3/10 parts, 54 s, 14 s left",
        "stage: 10/10 parts, 54 s",
    ]


def test_passes_of_an_unknown_number_are_counted_one_by_one(clock, capsys):
    with progress.progress("discover", 4, "snapshots", passes=True) as advance:
        for _ in range(4):
            clock[0] += 2
            advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "discover: pass 1, 2/4 snapshots, 2 s",
        "discover: pass 1, 4/4 snapshots, 4 s",
        "discover: pass 2, 2/4 snapshots, 6 s",
        "discover: pass 2, 4/4 snapshots, 8 s",
    ]
