"""Seeded faults: a command is disturbed, the same command is run again, and the result must be as if nothing had been.

    python tests/cluster/faults.py --seed 17              replay the fault of a seed
    python tests/cluster/faults.py --seeds 0 200 --jobs 2 those of many, and a table of what they came to

Seeds go through the kinds of faults (breaking.py) of every stage, one after the other, and then again. A seed picks the
moment: the n-th thing that the stage does to its files.
Every run is a child forked off one process that has imported and compiled everything. Ray is left out: what its actors
and workers do, the child does itself.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from breaking import KINDS, UNDONE, Fault, Watched, install
from PIL import Image
from without import without_ray

TIMEOUT = 400  # seconds of a run, which takes one or two on a quiet machine
PIPE_BYTES = 2**20
EPOCHS = 2
SIZE = ["--num-samples", "24", "--height", "32", "--width", "32", "--steps", "1000", "--chunk", "6", "--threads", "1"]
NETWORK = ["--channels", "8", "--warmup", "2", "--compile", "off", "--precision", "float32"]
DATA, SCORE, FLOW, EQUATION = "data", "score", "flow", "discover"  # folders of the output folder
MADE = {  # each stage: its command, what must be there before, and what it makes
    "simulate": (["simulate", "-p", "pulsating_solitons", *SIZE, "--device", "cpu", "--name", "few"], (), DATA),
    "train-score": (["train-score", "few", "--epochs", str(EPOCHS), *NETWORK], (DATA,), SCORE),
    "train-flow": (
        ["train-flow", "few", "--epochs", str(EPOCHS), "--hidden", "8", "--observables", "48"],
        (DATA,),
        FLOW,
    ),
    "discover": (
        ["discover", "few", "--library", "gray-scott", "--bootstrap", "2", "--operator", "5-point"],
        (DATA,),
        EQUATION,
    ),
    "evaluate": (["evaluate", "few"], (DATA, SCORE, FLOW, EQUATION), "report"),
    "sample": (["sample", "--score", "few", "-n", "12", "--steps", "4", "--name", "drawn"], (DATA, SCORE), DATA),
}
# What depends on the clock, wherever it stands in a JSON file.
TIMES = {"seconds", "samples_per_second", "card_hash"}
RECORD = re.compile(r"<section id=\"record\".*?</section>", re.DOTALL)  # of a report page: what events tell
OTHERS = ("events.jsonl", "*.lock", "logs/*")  # no results
SIGNALLED = {"kill": -9, "torn write": -9, "lost rename": -9, "power cut": -9, "SIGTERM": 143, "SIGINT": 130}


@dataclass(frozen=True)
class Run:
    """How a run of a command ended: its exit code (-9: killed), what it said, and the events that were watched."""

    code: int
    said: str
    events: list[tuple[str, str]]


def _steps(run: Run) -> int:
    """Gradient steps and shards that were simulated: the work that may be lost."""
    return sum(name in ("step", "shard") for name, _ in run.events)


@dataclass(frozen=True)
class Verdict:
    """What a seed's fault came to: '' or what is wrong, and the steps or shards that were done again."""

    seed: int
    stage: str
    fault: Fault
    where: str
    wrong: str = ""
    lost: int = 0
    of: int = 0

    def __str__(self) -> str:
        outcome = self.wrong or f"as undisturbed, {self.lost} of {self.of} steps done again"
        picks = f"{self.stage}, {self.fault.kind} at {self.fault.at} ({self.where})"
        return f"seed {self.seed}: {picks}: {outcome}"


def without_drawing() -> None:
    """Let pictures be written, but not drawn: that would be most of the time."""
    from matplotlib.figure import Figure

    def savefig(figure: Any, path: Path, **_: Any) -> None:
        Image.effect_noise((96, 72), 50).save(path, format="png")

    Figure.savefig = savefig  # type: ignore[assignment]


def run(stage: str, out: Path, fault: Fault | None = None) -> Run:
    """Run a stage's command in a child of this process, with a fault if there is one."""
    arguments = [*MADE[stage][0], "-o", str(out), "--no-tracking"]
    (events, log), (said, screen) = os.pipe(), os.pipe()  # pipes: a disk that is full is none of theirs
    for end in (log, screen):
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    child = os.fork()
    if not child:
        _be_the_command(arguments, Watched(out, fault, log), screen)
    for end in (log, screen):
        os.close(end)
    code = _wait(child)
    lines, told = (_drained(end) for end in (events, said))
    return Run(code, told, [tuple(line.split("\t")) for line in lines.splitlines()])  # type: ignore[misc]


def _drained(end: int) -> str:
    """What is in a pipe, to its end."""
    with open(end, errors="replace") as pipe:
        return pipe.read()


def _be_the_command(arguments: list[str], watched: Watched, screen: int) -> None:
    """What the child does; it never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number in (1, 2):
            os.dup2(screen, number)
        install(watched)
        _count_steps(watched)
        from p2d import cli

        cli.main(arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count_steps(watched: Watched) -> None:
    """Every gradient step and every simulated shard is an event, too."""
    from p2d.snapshots import simulated
    from p2d.training import loop

    for module, name, event in ((loop, "set_rate", "step"), (simulated, "simulate_samples", "shard")):
        setattr(module, name, _counted(watched, event, getattr(module, name)))


def _counted(watched: Watched, event: str, really: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        watched.event(event)
        return really(*arguments)

    return counted


def _wait(child: int) -> int:
    """A child's exit code, as subprocess has it; -14 where it had to be stopped, as it took too long."""
    end = time.monotonic() + TIMEOUT
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -14
        time.sleep(0.005)


def contents(folder: Path) -> dict[str, str]:
    """What a result is, file by file: hashes of what they hold but for what the clock says."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    return {n: _meaning(f, folder) for n, f in files.items() if not any(fnmatch(n, other) for other in OTHERS)}


def _meaning(file: Path, folder: Path) -> str:
    """A hash of a file's bytes; without times where it tells them; of a picture its size in pixels."""
    try:
        if file.suffix == ".json":
            return str(_timeless(json.loads(file.read_text().replace(str(folder), "OUT"))))
        if file.suffix == ".pt":
            return str(_timeless(torch.load(file, weights_only=True)))
        if file.suffix == ".html":
            page = RECORD.sub("", file.read_text().replace(str(folder), "OUT"))
            return hashlib.sha256(page.encode()).hexdigest()
        if file.suffix == ".png":
            with Image.open(file) as picture:
                picture.load()
                return str(picture.size)
    except Exception as error:  # damaged in any of many ways: not what it should be
        return repr(error)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES}
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    return [_timeless(one) for one in value] if isinstance(value, list | tuple) else value


class Bench:
    """The undisturbed results, and what each stage needs before it: made once, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.undisturbed: dict[str, Run] = {}
        self.expected: dict[str, dict[str, str]] = {}

    def prepare(self) -> None:
        """Run every stage once without a fault."""
        for stage in MADE:
            out = self.begin(stage, self.folder / f"whole-{stage}")
            self.undisturbed[stage] = run(stage, out)
            if self.undisturbed[stage].code:
                raise SystemExit(f"{stage} fails undisturbed: {self.undisturbed[stage].said}")
            self.expected[stage] = contents(out)
            if MADE[stage][2] in (DATA, SCORE, FLOW, EQUATION) and stage != "sample":
                shutil.copytree(out / MADE[stage][2], self.folder / "whole" / MADE[stage][2])

    def begin(self, stage: str, out: Path) -> Path:
        """An output folder with what a stage needs."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for kind in MADE[stage][1]:
            shutil.copytree(self.folder / "whole" / kind, out / kind)
        return out

    def pick(self, seed: int) -> tuple[str, Fault, str]:
        """The stage, the fault and, in words, the moment of a seed."""
        source = random.Random(seed)
        names = {stage: {name for name, _ in self.undisturbed[stage].events} for stage in MADE}
        pairs = [(s, kind) for s in MADE for kind, hit in KINDS.items() if not hit or names[s] & set(hit)]
        stage, kind = pairs[seed % len(pairs)]
        events = self.undisturbed[stage].events
        concerned = [event for event in events if Fault(kind, 0, 0).concerns(event[0])]
        name = source.choice(sorted({name for name, _ in concerned}))  # or most would be writes of pictures
        at = source.choice([place for place, event in enumerate(concerned) if event[0] == name])
        return stage, Fault(kind, at, seed), " ".join(concerned[at])

    def try_seed(self, seed: int) -> Verdict:
        """Disturb a stage, run it again, and hold the result against the undisturbed one."""
        stage, fault, where = self.pick(seed)
        out = self.begin(stage, self.folder / f"seed-{seed}")
        first = run(stage, out, fault)
        _empty_what_was_full(out)
        wrong = _wrong_end(fault, first)
        runs = [first, run(stage, out)]
        if first.code and not runs[-1].code:
            runs.append(run(stage, out))  # finds nothing to do
        done = sum(map(_steps, runs))
        whole = _steps(self.undisturbed[stage])
        wrong = wrong or self._wrong_result(stage, out, runs[-1]) or _too_much(stage, fault, done - whole, whole)
        if not wrong:
            shutil.rmtree(out)
        return Verdict(seed, stage, fault, where, wrong, done - whole, whole)

    def _wrong_result(self, stage: str, out: Path, again: Run) -> str:
        if again.code:
            return f"the same command ends with {again.code} then: {again.said[-600:]}"
        made, expected = contents(out), self.expected[stage]
        differing = [name for name in expected if made.get(name) != expected[name]]
        left = [name for name in made if name not in expected]
        if differing:
            return f"SILENT CORRUPTION: {', '.join(differing)} differ from the undisturbed run"
        return f"left behind: {', '.join(left)}" if left else ""


def _empty_what_was_full(out: Path) -> None:
    """A full disk leaves empty files, not the links that stood for it."""
    for path in [path for path in out.rglob("*") if path.is_symlink()]:
        path.unlink()
        path.touch()


def _wrong_end(fault: Fault, first: Run) -> str:
    """What is wrong with how a disturbed run ended: its exit code, and one line that says why."""
    wished = (SIGNALLED[fault.kind],) if fault.kind in SIGNALLED else (2, 0)
    lines = [line for line in first.said.splitlines() if line.startswith("p2d: ")]
    if "Traceback" in first.said or first.code not in wished:
        return f"exit code {first.code} instead of {wished[0]}: {first.said[-1500:]}"
    if first.code > 0 and len(lines) != 1:
        return f"{len(lines)} lines of what is wrong instead of one: {first.said[-600:]}"
    return ""


def _too_much(stage: str, fault: Fault, lost: int, whole: int) -> str:
    """What is wrong with the work done again: more than the shard in flight, or one epoch."""
    most = whole // EPOCHS if stage.startswith("train") else 1
    if fault.kind == "power cut" and stage == "simulate":
        most += UNDONE
    return f"{lost} of {whole} shards or steps are done again; at most {most} may be" if lost > most else ""


def disturb(seeds: Iterable[int], jobs: int, folder: Path, tell: Callable[[Verdict], None]) -> list[Verdict]:
    """The verdicts of these seeds, so many at a time."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    start = time.monotonic()
    warm_up()
    print(f"warm after {time.monotonic() - start:.0f} s", flush=True)
    bench = Bench(folder)
    bench.prepare()
    print(f"undisturbed after {time.monotonic() - start:.0f} s", flush=True)
    verdicts = []
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for verdict in pool.imap_unordered(bench.try_seed, seeds):
            tell(verdict)
            verdicts.append(verdict)
    return verdicts


def warm_up() -> None:
    """Import and compile what the children need: by running every stage once in this very process."""
    from p2d import cli

    torch.set_num_threads(1)
    without_ray(setattr)
    without_drawing()
    nowhere = io.StringIO()
    with tempfile.TemporaryDirectory() as out, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for arguments, _, _ in MADE.values():
            cli.main([*arguments, "-o", out, "--no-tracking"])


def table(verdicts: list[Verdict]) -> str:
    """Faults by kind and stage, and what they came to."""
    counts = Counter((verdict.fault.kind, verdict.stage) for verdict in verdicts)
    rows = [f"{'':16}" + "".join(f"{stage:>13}" for stage in MADE)]
    rows += [f"{kind:16}" + "".join(f"{counts[kind, stage]:13}" for stage in MADE) for kind in KINDS]
    corrupt = sum(verdict.wrong.startswith("SILENT") for verdict in verdicts)
    wrong = sum(bool(verdict.wrong) for verdict in verdicts)
    most = {s: max((v.lost for v in verdicts if v.stage == s and not v.wrong), default=0) for s in MADE}
    rows.append(f"{len(verdicts)} faults: silent corruption {corrupt}, wrong otherwise {wrong - corrupt}")
    rows.append("most steps or shards done again: " + ", ".join(f"{stage} {lost}" for stage, lost in most.items()))
    return "\n".join(rows)


def main() -> None:
    """Disturb what is asked for; exit code 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 20), help="from the first up to the second")
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    parser.add_argument("--json", default=os.devnull, help="add the verdicts to this file, a line each")
    given = parser.parse_args()
    seeds = [given.seed] if given.seed is not None else range(*given.seeds)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, open(given.json, "a") as lines:

        def tell(verdict: Verdict) -> None:
            print(json.dumps(asdict(verdict)), file=lines, flush=True)
            if verdict.wrong or len(seeds) == 1:
                print(verdict, flush=True)

        verdicts = disturb(seeds, given.jobs, Path(folder), tell)
    print(f"{table(verdicts)}\n{time.monotonic() - start:.0f} s")
    sys.exit(any(verdict.wrong for verdict in verdicts))


if __name__ == "__main__":
    main()
