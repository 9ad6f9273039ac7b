"""The job scripts under `ray job submit`, on a head of Ray that asks for a token, as jobs/README.md starts it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from p2d import pipeline
from p2d.config import DiscoverConfig, SimulateConfig, Source
from p2d.discovery.result import Discovery
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.tracking.store import Run

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "jobs/README.md").read_text()
SMALL = "--num-samples 24 --height 64 --width 64 --steps 3000 --chunk 8 --score.epochs 1 --score.channels 8 8"
SMALL += " --flow.epochs 1 --flow.hidden 8 --flow.observables 48"
pytestmark = [pytest.mark.slow, pytest.mark.ray]
REACHED_S = 60.0  # within which a head's dashboard takes jobs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def line_of_readme(start: str) -> list[str]:
    """The words of the first line of jobs/README.md that starts so, without its comment."""
    return re.search(rf"^    ({re.escape(start)}.*?)(?: +#.*)?$", README, flags=re.MULTILINE)[1].split()


class Head:
    """A head of Ray with the environment that reaches it."""

    def __init__(self, folder: Path) -> None:
        (folder / "token").write_text(secrets.token_hex(32))
        self.address = f"http://127.0.0.1:{free_port()}"
        self.environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        self.environment |= {"RAY_API_SERVER_ADDRESS": self.address, "RAY_worker_niceness": "0"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # Sockets' paths are short, so that the folder of sessions is not the test's.
        self.sessions = tempfile.mkdtemp(prefix="p2d-head-", dir="/tmp")
        command = [*line_of_readme("ray start --head"), "--num-cpus=2", f"--temp-dir={self.sessions}", "--block"]
        # Ports that any other cluster on this machine may hold.
        ports = ("port", "ray-client-server-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
        command += [f"--{name}={free_port()}" for name in ports]
        command += [f"--dashboard-port={self.address.rpartition(':')[2]}", "--disable-usage-stats"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=self.environment, cwd=self.sessions, **quiet)

    def submit(self, job: str) -> subprocess.CompletedProcess:
        """A job as jobs/README.md submits one, of a line of the shell: several stages cost the start of one job."""
        words = line_of_readme("ray job submit")
        command = [*words[: words.index("--") + 1], "bash", "-c", job]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=500)

    def wait(self) -> None:
        """Until it takes jobs."""
        until = time.monotonic() + REACHED_S
        while subprocess.run(["ray", "job", "list"], env=self.environment, capture_output=True).returncode:
            assert time.monotonic() < until and self.process.poll() is None
            time.sleep(0.5)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        shutil.rmtree(self.sessions, ignore_errors=True)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    head = Head(tmp_path_factory.mktemp("head"))
    try:
        head.wait()
        yield head
    finally:
        head.end()


def test_a_mistake_is_one_line_and_its_exit_code_comes_back(head, tmp_path):
    uploaded = "echo uploaded $(du -sk . | cut -f 1) $(ls -A)"
    other = f"python jobs/simulate.py --no-such --out {tmp_path}"
    done = head.submit(f"{uploaded}; {other}; echo code $?; python jobs/discover.py waves --out runs")
    # Of a job that fails Ray tells the exit code, and the log a second time; its own is 1.
    assert done.returncode == 1 and "Job entrypoint command failed with exit code 2" in done.stdout, done.stdout
    log = done.stdout.split("Status message")[0].splitlines()
    told = [line for line in log if line.startswith("p2d: ")]
    assert len(told) == 2 and "code 2" in log, done.stdout
    assert "unknown option '--no-such' of p2d simulate" in told[0] and "absolute" in told[1]
    assert "usage" not in done.stdout and "Traceback" not in done.stdout
    size, *names = next(line for line in log if line.startswith("uploaded ")).split()[1:]
    code = sum(f.stat().st_size for folder in ("p2d", "jobs") for f in (ROOT / folder).rglob("*") if f.suffix != ".pyc")
    assert int(size) * 1024 < 2 * code and {"p2d", "jobs"} <= set(names), (size, names)  # whole blocks of a disk
    assert not {".git", ".github", "tests", "runs"} & set(names), names


@pytest.mark.timeout(600)
def test_stages_run_as_jobs_and_make_what_the_plain_commands_make(head, no_ray, tmp_path):
    out, own = tmp_path / "job", tmp_path / "own"
    scripts = {
        "pipeline": SMALL,
        "discover": "waves",  # made already
        "sweep": "waves --objective stationarity --scheduler none --param flow.hidden=4 "
        "--param flow.observables=48 --param flow.epochs=1",
    }
    chain = " && ".join(f"python jobs/{script}.py {words} --out {out}" for script, words in scripts.items())
    done = head.submit(chain)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing to do") == 1, done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) < 2000 and not re.search(r"[\r\b]|\x1b\[[0-9;]*[A-HJK]", done.stdout)
    config = SimulateConfig(num_samples=24, height=64, width=64, steps=3000, chunk=8)
    dataset = simulate_here(config, own / "data/waves_64x64")
    assert open_dataset(out / "data/waves_64x64").card.dataset_hash == dataset.card.dataset_hash
    (trial,) = json.loads((out / "sweep/waves_stationarity/sweep.json").read_text())["trials"]
    assert trial["state"] == "FINISHED"
    pipeline.discover(DiscoverConfig(), Source("waves_64x64"), own, Run)
    equations = [Discovery.load(folder / "discover/waves/equation.json") for folder in (out, own)]
    terms = [{(s, t): c for s, row in each.terms.items() for t, c in row.items()} for each in equations]
    assert terms[0] == pytest.approx(terms[1], rel=1e-9)  # in one process the sums may be taken in another order
