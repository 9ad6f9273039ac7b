"""The `p2d` command: one subcommand a stage. Only settings are imported here, so that --help answers at once."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from p2d.config import (
    DenoiseConfig,
    DenoiseSource,
    DiscoverConfig,
    EvaluateConfig,
    FlowConfig,
    FlowSource,
    RolloutConfig,
    RolloutSource,
    RunConfig,
    SampleConfig,
    ScoreConfig,
    SimulateConfig,
    Source,
    SweepConfig,
    TrainSource,
    option,
)
from p2d.config.bench import (
    BenchDenoiseConfig,
    BenchDiscoverConfig,
    BenchFlowConfig,
    BenchScoreConfig,
    BenchSimulateConfig,
)
from p2d.errors import UserError

if TYPE_CHECKING:
    from p2d.pipeline import Outcome, Tracker

FAULTY, USER_MISTAKE = 1, 2  # exit codes
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)  # a full disk, or one that may not be written
FLAT = tyro.conf.arg(name="")  # the options of a config without a prefix
# The original scripts' names of options.
SHORT = {
    "-a": "--alpha",
    "-b": "--batch-size",
    "-g": "--gaussian-weight",
    "-l": "--learning-rate",
    "-m": "--dataset",
    "-n": "--epochs",
    "-o": "--out",
    "-p": "--preset",
    "-s": "--schedule",
    "--model": "--dataset",
    "--wb": "--tracking",
}
SHORT_OF = {  # where a command means another thing by one
    "sample": {"-n": "--num-samples"},
    "rollout": {"-n": "--steps", "-m": "--from", "--model": "--from", "--dataset": "--from"},
}


@dataclass(frozen=True)
class Screen:
    """How a command speaks."""

    json: Annotated[bool, option(help="print the result as one JSON object on standard output")] = False
    debug: Annotated[bool, option(help="show the traceback of an error")] = False


@dataclass(frozen=True)
class Place(Screen):
    """Where a command finds and puts its files."""

    out: Annotated[str, option("-o", help="output folder")] = "runs"

    @property
    def path(self) -> Path:
        """The output folder, there or not."""
        return Path(self.out).expanduser()

    @property
    def folder(self) -> Path:
        """The output folder, made if need be.

        Raises:
            UserError: it cannot be written.
        """
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the output folder {path}: {error.strerror}; take another --out") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to the output folder {path}; take another --out")
        return path


@dataclass(frozen=True)
class Common(Place):
    """Options of every command that makes something."""

    tracking: Annotated[bool, option("--wb", help="track with MLflow, in OUT/mlflow.db or at MLFLOW_TRACKING_URI")] = (
        True
    )

    def tracker(self) -> Tracker:
        """Opens the tracking store, once, when there is something to track."""

        @functools.cache
        def track() -> Any:
            from p2d.tracking.store import open_tracker

            return open_tracker(self.folder, self.tracking)

        return track


def run(config: Annotated[RunConfig, FLAT], common: Annotated[Common, FLAT]) -> None:
    """Everything, sized for a laptop: simulate, train-score, train-flow, discover, evaluate."""
    from p2d import pipeline
    from p2d.show.summary import run_text

    evaluation, outcomes = pipeline.run(config, common.folder, common.tracker())
    print(json.dumps(evaluation.to_dict()) if common.json else run_text(evaluation, outcomes, common.folder))


def simulate(config: Annotated[SimulateConfig, FLAT], common: Annotated[Common, FLAT]) -> None:
    """Simulate Gray-Scott patterns into a dataset of parquet shards."""
    from p2d import pipeline

    outcome = pipeline.simulate(config, common.folder, common.tracker())
    _finish(outcome, common, f"p2d discover -m {config.dataset_name}")


def verify(
    dataset: Annotated[tyro.conf.Positional[str], option(help="dataset: its name under OUT/data, or its path")],
    place: Annotated[Place, FLAT],
    repair: Annotated[bool, option(help="simulate missing and damaged shards again, and no others")] = False,
) -> None:
    """Re-read a whole dataset and name every shard that is missing, cut, altered or foreign; exit code 1 if any is."""
    from p2d import pipeline

    folder, faults = pipeline.verify(dataset, place.path, repair)
    if place.json:
        print(json.dumps({"dataset": str(folder), "faults": [vars(fault) for fault in faults]}))
    else:
        print("\n".join(map(str, faults)) or f"{folder}: sound")
    if faults:
        sys.exit(FAULTY)


def train_score(
    source: Annotated[TrainSource, FLAT],
    config: Annotated[ScoreConfig, FLAT],
    common: Annotated[Common, FLAT],
    plot_channel: Annotated[int, option(help="species shown in pictures: 0 is u, 1 is v")] = 1,
) -> None:
    """Train a score model on a dataset: denoising score matching at one signal level, or over a range."""
    from p2d import pipeline

    outcome = pipeline.train_score(config, source, common.folder, common.tracker(), plot_channel)
    _finish(outcome, common, f"p2d train-flow -m {source.dataset}")


def train_flow(
    source: Annotated[FlowSource, FLAT], config: Annotated[FlowConfig, FLAT], common: Annotated[Common, FLAT]
) -> None:
    """Train a flow on a dataset: a velocity field that keeps the ensemble as it is."""
    from p2d import pipeline

    outcome = pipeline.train_flow(config, source, common.folder, common.tracker())
    if not common.json and "verdict" in outcome.facts:
        print(outcome.facts["verdict"])
    _finish(outcome, common, f"p2d evaluate -m {source.dataset}")


def sample(
    score: Annotated[str, option(help="score model, by name or path")],
    config: Annotated[SampleConfig, FLAT],
    common: Annotated[Common, FLAT],
) -> None:
    """Generate new patterns by the reverse process, into a dataset, and hold them against held-out snapshots."""
    from p2d import pipeline

    outcome = pipeline.sample(score, config, common.folder, common.tracker())
    _finish(outcome, common, f"p2d discover -m {outcome.where.name}")


def denoise(
    source: Annotated[DenoiseSource, FLAT],
    config: Annotated[DenoiseConfig, FLAT],
    common: Annotated[Common, FLAT],
    plot_channel: Annotated[int, option(help="species shown in pictures: 0 is u, 1 is v")] = 1,
) -> None:
    """Denoise a dataset, with a score model that is trained on its noisy snapshots alone."""
    from p2d import pipeline

    outcome = pipeline.denoise(source, config, common.folder, common.tracker(), plot_channel)
    _finish(outcome, common, f"p2d discover -m {outcome.where.name}")


def discover(
    source: Annotated[Source, FLAT], config: Annotated[DiscoverConfig, FLAT], common: Annotated[Common, FLAT]
) -> None:
    """Find the equation that keeps the snapshots' ensemble as it is, in closed form."""
    from p2d import pipeline

    outcome = pipeline.discover(config, source, common.folder, common.tracker())
    _finish(outcome, common, f"p2d evaluate -m {source.dataset}")


def evaluate(
    source: Annotated[Source, FLAT], config: Annotated[EvaluateConfig, FLAT], common: Annotated[Common, FLAT]
) -> None:
    """Measure what was learnt on held-out snapshots: cosines, stationarity z-scores, figures."""
    from p2d import pipeline

    outcome = pipeline.evaluate(config, source, common.folder, common.tracker())
    _finish(outcome, common, "p2d ui")


def rollout(
    source: Annotated[RolloutSource, FLAT], config: Annotated[RolloutConfig, FLAT], common: Annotated[Common, FLAT]
) -> None:
    """Carry snapshots on in time by a flow, beside the true system: animation, panels, does the ensemble stay?"""
    from p2d import pipeline

    outcome = pipeline.rollout(source, config, common.folder, common.tracker())
    _finish(outcome, common, "p2d ui")


def sweep(
    source: Annotated[FlowSource, FLAT], config: Annotated[SweepConfig, FLAT], common: Annotated[Common, FLAT]
) -> None:
    """Train a flow at every point of a sweep, over signal levels and symmetry weights by default; keep the best."""
    from p2d import pipeline
    from p2d.show.summary import print_sweep

    outcome = pipeline.sweep(config, source, common.folder, common.tracker())
    if not common.json:
        print_sweep(outcome.facts)
    _finish(outcome, common, f"p2d ui, or p2d evaluate -m {source.dataset} --flow {outcome.where / 'best'}")


def ui(
    port: Annotated[int, option(help="port on this machine's loopback")] = 5000,
    out: Annotated[str, option("-o", help="output folder")] = "runs",
) -> None:
    """Open the MLflow page of the runs under the output folder, on this machine only, until Ctrl-C."""
    from p2d.tracking.ui import serve

    serve(Path(out), port)


def _finish(outcome: Outcome, common: Common, following: str) -> None:
    """Say what was made, where, and what to run next."""
    if common.json:
        print(json.dumps(outcome.facts))
        return
    if outcome.result is not None:
        print(outcome.result)
    done = (
        f"made {outcome.where} in {outcome.seconds:.0f} s"
        if outcome.made
        else f"nothing to do, {outcome.where} is there"
    )
    place = "" if common.out == "runs" else f" -o {common.out}"
    print(f"{outcome.stage}: {done}\nnext: {following}{place}")


def _tell(found: dict[str, Any], screen: Screen, print_table: Callable[[], None]) -> None:
    """What a benchmark found, as JSON or as a table."""
    if screen.json:
        print(json.dumps(found))
    else:
        print_table()


def bench_simulate(
    config: Annotated[BenchSimulateConfig, FLAT],
    screen: Annotated[Screen, FLAT],
) -> None:
    """Time the simulation kernels beside a convolution in PyTorch, preset by preset, and one actor beside two."""
    from p2d.bench import simulate as benchmark

    found = benchmark.bench(config)
    _tell(found, screen, lambda: benchmark.print_table(found, config))


def bench_score(
    config: Annotated[BenchScoreConfig, FLAT],
    place: Annotated[Place, FLAT],
) -> None:
    """Train the score network beside a U-Net at full resolution, for the same wall time."""
    from p2d.bench import score as benchmark
    from p2d.snapshots.store import find_dataset

    found = benchmark.bench(config, find_dataset(config.dataset, place.path))
    _tell(found, place, lambda: benchmark.print_table(found, config))


def bench_denoise(
    config: Annotated[BenchDenoiseConfig, FLAT],
    place: Annotated[Place, FLAT],
) -> None:
    """Denoise snapshots with no clean data, beside a network with clean targets and a Gaussian filter."""
    from p2d.bench import denoise as benchmark
    from p2d.snapshots.store import find_dataset

    found = benchmark.bench(config, find_dataset(config.dataset, place.path))
    _tell(found, place, lambda: benchmark.print_table(found))


def bench_flow(
    config: Annotated[BenchFlowConfig, FLAT],
    place: Annotated[Place, FLAT],
) -> None:
    """Train flows of several seeds and numbers of snapshots, and measure how well they recover the true velocity."""
    from p2d.bench import flow as benchmark
    from p2d.snapshots.store import find_dataset

    found = benchmark.bench(config, find_dataset(config.dataset, place.path))
    told = {"runs": found, "rank_correlation": benchmark.rank_correlation(found)}
    _tell(told, place, lambda: benchmark.print_table(found))


def bench_discover(
    config: Annotated[BenchDiscoverConfig, FLAT],
    place: Annotated[Place, FLAT],
) -> None:
    """Time the discovery of an equation; or --study: how well it does, by system, snapshots and noise."""
    from p2d.bench import discover as benchmark
    from p2d.snapshots.store import find_dataset

    if config.study:
        found: Any = benchmark.study(config, place.folder)
    else:
        found = benchmark.bench(config, find_dataset(config.dataset, place.path))
    _tell(dataclasses.asdict(found), place, lambda: print(found))


COMMANDS: dict[str, Callable[..., Any]] = {
    "run": run,
    "simulate": simulate,
    "verify": verify,
    "train-score": train_score,
    "train-flow": train_flow,
    "sample": sample,
    "denoise": denoise,
    "discover": discover,
    "evaluate": evaluate,
    "rollout": rollout,
    "sweep": sweep,
    "ui": ui,
}
BENCHMARKS: dict[str, Callable[..., Any]] = {
    "simulate": bench_simulate,
    "score": bench_score,
    "denoise": bench_denoise,
    "flow": bench_flow,
    "discover": bench_discover,
}


def _app() -> tyro.extras.SubcommandApp:
    app, benchmarks = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()
    for commands, place in ((COMMANDS, app), (BENCHMARKS, benchmarks)):
        for name, command in commands.items():
            place.command(name=name)(command)
    app.command(benchmarks, name="bench", help="Measure how fast a stage is on this machine, beside an alternative.")
    return app


def _long_form(argument: str, command: str) -> str:
    name, equals, value = argument.partition("=")
    long = {**SHORT, **SHORT_OF.get(command, {})}
    return long.get(name, name) + equals + value


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user's mistake ends with one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        _app().cli(
            prog="p2d",
            description="Pattern to Dynamics: from snapshots of a pattern, without time order, to its dynamics.",
            args=[_long_form(a, arguments[0]) for a in arguments],
        )
    except UserError as error:
        if debug:
            raise
        print(f"p2d: {error}", file=sys.stderr)
        sys.exit(USER_MISTAKE)
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone: there is nobody to tell
    except OSError as error:
        if debug or error.errno not in UNWRITABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"p2d: {place}{error.strerror}; mend that, and the same command goes on from here", file=sys.stderr)
        sys.exit(USER_MISTAKE)
    except KeyboardInterrupt:
        print("p2d: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
