"""Whatever is hit and whenever, the same command run again comes to the undisturbed result; see faults.py."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kind_of_fault_in_every_stage_corrupts_nothing():
    command = [sys.executable, str(HERE / "faults.py"), "--seeds", "0", "54", "--jobs", "2"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, f"{made.stdout}{made.stderr[-2000:]}"
