"""Whatever is hit and whenever, the same command run again comes to the undisturbed result; see faults.py."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_faults_of_processes_and_disks_corrupt_nothing():
    command = [sys.executable, str(HERE / "faults.py"), "--seeds", "0", "200", "--jobs", "2"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, f"{made.stdout}{made.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_drivers_actors_workers_controllers_and_nodes_that_are_hit_corrupt_nothing():
    command = [sys.executable, str(HERE / "faults_on_ray.py"), *map(str, range(7))]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, f"{made.stdout}{made.stderr[-2000:]}"
