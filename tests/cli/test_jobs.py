"""The job scripts call the same stages, as plain scripts; under `ray job submit` see tests/cluster/test_jobs.py."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SETTINGS = ["--num-samples", "8", "--height", "16", "--width", "16", "--steps", "50", "--no-tracking"]


@pytest.mark.slow
def test_a_job_script_runs_as_a_plain_script(tmp_path):
    command = [sys.executable, ROOT / "jobs/simulate.py", *SETTINGS, "--json", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 8


@pytest.mark.parametrize("script", sorted(p.stem for p in (ROOT / "jobs").glob("*.py")))
def test_every_job_script_has_the_help_of_its_stage(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / f"jobs/{script}.py"), run_name="__main__")
    stage = {"pipeline": "run"}.get(script, script.replace("_", "-"))
    assert stop.value.code in (0, None) and f"p2d {stage}" in capsys.readouterr().out
