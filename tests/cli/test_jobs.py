"""The job scripts call the same stages, as plain scripts and under `ray job submit`."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SETTINGS = ["--num-samples", "8", "--height", "16", "--width", "16", "--steps", "50", "--no-tracking"]


def test_a_job_script_runs_as_a_plain_script(tmp_path):
    command = [sys.executable, ROOT / "jobs/simulate.py", *SETTINGS, "--json", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 8


@pytest.mark.parametrize("script", sorted(p.stem for p in (ROOT / "jobs").glob("*.py")))
def test_every_job_script_has_the_help_of_its_stage(script):
    done = subprocess.run([sys.executable, ROOT / f"jobs/{script}.py", "--help"], capture_output=True, text=True)
    stage = {"pipeline": "run"}.get(script, script.replace("_", "-"))
    assert done.returncode == 0
    assert f"p2d {stage}" in done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(tmp_path):
    """The dashboard's address of a Ray head of its own, ended by its process and not by name."""
    port, dashboard = free_port(), free_port()
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--dashboard-host=127.0.0.1"]
    # The agent that takes jobs has a fixed port by default, which any other cluster on this machine may hold.
    command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--disable-usage-stats", "--block"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield ray, f"http://127.0.0.1:{dashboard}", environment
    process.terminate()
    process.wait(timeout=60)


def test_a_job_runs_on_a_cluster(head, tmp_path):
    ray, address, environment = head
    # A folder of its own, so that only what a job needs is uploaded.
    command = [ray, "job", "submit", "--address", address, "--working-dir", str(ROOT / "jobs"), "--"]
    command += [sys.executable, "simulate.py", *SETTINGS, "--out", str(tmp_path / "runs")]
    for _ in range(30):  # until the dashboard and its job agent are up
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
        if "Failed to connect" not in done.stderr and "No available agent" not in done.stderr:
            break
        time.sleep(1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "runs/data/waves_16x16/card.json").read_text())["complete"]
