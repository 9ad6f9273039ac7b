"""Seeded faults on a real Ray of several nodes: who is hit, how and when follows from the seed.

    python tests/cluster/faults_on_ray.py 3    replay the fault of a seed

The command is a process of its own that joins a cluster of three nodes. A driver that is hit ends, and the same command
is run again; whoever else is hit, the command goes on by itself. Either way the result must be the undisturbed one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from faults import contents
from ray.cluster_utils import Cluster

TIMEOUT = 240  # seconds of a command
SIMULATE = ["simulate", "-p", "maze", "--num-samples", "24", "--height", "96", "--width", "96", "--steps", "40000"]
SIMULATE += ["--chunk", "2", "--device", "cpu", "--name", "few"]  # twelve shards of half a second or more each
TRAIN = ["train-score", "few", "--workers", "2", "--epochs", "8", "--channels", "8", "--precision", "float32"]
STAGES = {"simulate": SIMULATE, "train-score": TRAIN}
KILLED = {"actor": "ray::MapWorker", "worker": "ray::RayTrainWorker", "controller": "ray::TrainController"}
VICTIMS = {"simulate": ("driver", "actor", "node"), "train-score": ("driver", "worker", "controller", "node")}
SIGNALS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}  # and the exit codes of a driver that they hit


@dataclass(frozen=True)
class Hit:
    """Who is hit with what: once `after` shards or checkpoints are there, and `delay` seconds later."""

    stage: str
    victim: str
    number: signal.Signals
    after: int
    delay: float

    @classmethod
    def of(cls, seed: int) -> Hit:
        """What a seed picks; victims come in turn, so that few seeds hit each of them."""
        source = random.Random(seed)
        every = [(stage, victim) for stage, victims in VICTIMS.items() for victim in victims]
        stage, victim = every[seed % len(every)]
        number = source.choice(list(SIGNALS)) if victim == "driver" else signal.SIGKILL
        return cls(stage, victim, signal.Signals(number), source.randrange(1, 5), source.random())


class Bench:
    """A cluster, the undisturbed results, and folders for the disturbed ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=2) for _ in range(2)]
        self.expected: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        """End the cluster."""
        self.cluster.shutdown()

    def command(self, stage: str, out: Path) -> subprocess.Popen[str]:
        """The stage's command, begun."""
        arguments = [sys.executable, "-m", "p2d.cli", *STAGES[stage], "--no-tracking", "-o", str(out)]
        environment = {**os.environ, "RAY_ADDRESS": self.cluster.address}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(arguments, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]

    def prepare(self, stage: str) -> None:
        """The undisturbed result of a stage, and of those before."""
        for name in STAGES:
            if name not in self.expected:
                whole = self.begin(name, self.folder / f"whole-{name}")
                process = self.command(name, whole)
                _, said = process.communicate(timeout=TIMEOUT)
                assert process.returncode == 0, said
                self.expected[name] = contents(whole)
            if name == stage:
                return

    def begin(self, stage: str, out: Path) -> Path:
        """An output folder with what a stage needs."""
        if stage != "simulate":
            shutil.copytree(self.folder / "whole-simulate" / "data", out / "data")
        return out

    def disturb(self, seed: int) -> str:
        """Hit somebody and run the command to its end: '' or what is wrong."""
        hit = Hit.of(seed)
        self.prepare(hit.stage)
        out = self.begin(hit.stage, self.folder / f"seed-{seed}")
        process = self.command(hit.stage, out)
        seen: dict[str, int] = {}
        wait_for(lambda: len(_progress(hit.stage, out, seen)) >= hit.after or process.poll() is not None)
        time.sleep(hit.delay)
        self._strike(hit, process)
        wait_for(lambda: _progress(hit.stage, out, seen) and process.poll() is not None)
        said = process.communicate()[1]
        wished = SIGNALS[hit.number] if hit.victim == "driver" else 0
        if process.returncode != wished or "Traceback" in said:
            return f"{hit}: exit code {process.returncode} instead of {wished}: {said[-2000:]}"
        kept = dict(seen)
        again = self.command(hit.stage, out)
        said = again.communicate()[1]
        if again.returncode:
            return f"{hit}: the same command ends with {again.returncode} then: {said[-2000:]}"
        made = contents(out)
        expected = self.expected[hit.stage]
        differing = [name for name in made.keys() | expected if made.get(name) != expected.get(name)]
        if differing:
            return f"{hit}: SILENT CORRUPTION: {', '.join(sorted(differing))} are not as undisturbed"
        redone = [name for name, when in kept.items() if _progress(hit.stage, out, {}).get(name, when) != when]
        return f"{hit}: made again: {', '.join(redone)}" if redone else ""

    def _strike(self, hit: Hit, process: subprocess.Popen[str]) -> None:
        if hit.victim == "driver":
            process.send_signal(hit.number)
        elif hit.victim == "node":
            self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)
            self.nodes.append(self.cluster.add_node(num_cpus=2))
        else:
            with suppress(psutil.NoSuchProcess):
                wait_for(lambda: _workers(KILLED[hit.victim]), 60)[0].kill()


def _workers(name: str) -> list[psutil.Process]:
    """Ray's workers that do this, of the clusters that this process has started."""
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    return [p for p in psutil.process_iter(["cmdline"]) if p.pid in mine and name in " ".join(p.info["cmdline"] or [])]


def _progress(stage: str, out: Path, seen: dict[str, int]) -> dict[str, int]:
    """The shards or checkpoints that are there or have been, and when each was written."""
    pattern = "data/few/shard-*.parquet" if stage == "simulate" else "score/.few-*/**/checkpoint_*"
    for path in out.glob(pattern):
        with suppress(FileNotFoundError):
            seen[path.name] = path.stat().st_mtime_ns
    return seen


def wait_for(what: Callable[[], object], seconds: float = TIMEOUT):  # type: ignore[no-untyped-def]
    """What a function returns, once that is true."""
    end = time.monotonic() + seconds
    while not (result := what()):
        if time.monotonic() > end:
            raise TimeoutError("waited too long")
        time.sleep(0.05)
    return result


def main() -> None:
    """Hit what the given seeds pick; exit code 1 where anything is wrong."""
    any_wrong = False
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            for seed in map(int, sys.argv[1:]):
                start = time.monotonic()
                wrong = bench.disturb(seed)
                any_wrong |= bool(wrong)
                print(seed, Hit.of(seed), wrong or "as undisturbed", f"{time.monotonic() - start:.0f} s", flush=True)
        finally:
            bench.close()
    sys.exit(any_wrong)


if __name__ == "__main__":
    main()
