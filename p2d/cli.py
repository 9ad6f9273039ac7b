"""The `p2d` command: a table of stages. Only settings are imported here, so that --help answers at once."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from p2d.commands import Command, Common, Field, Place, Screen, benchmark, stage
from p2d.config import (
    DatasetName,
    DenoiseConfig,
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
from p2d.config.base import one_of
from p2d.config.bench import (
    BenchDenoiseConfig,
    BenchDiscoverConfig,
    BenchFlowConfig,
    BenchScoreConfig,
    BenchSimulateConfig,
)
from p2d.errors import UserError
from p2d.mistakes import options, told_in_one_line
from p2d.systems.reading import catalogue, load_system

FAULTY, USER_MISTAKE = 1, 2  # exit codes
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)  # a full disk, or one that may not be written
DATASET = "--dataset"  # where a dataset is a command's first word, another way to name it
# The original scripts' names of options.
SHORT = {
    "-a": "--alpha",
    "-b": "--batch-size",
    "-g": "--gaussian-weight",
    "-l": "--learning-rate",
    "-m": DATASET,
    "-n": "--epochs",
    "-o": "--out",
    "-p": "--preset",
    "-s": "--schedule",
    "--model": DATASET,
    "--wb": "--tracking",
}
SHORT_OF = {  # where a command means another thing by one
    "sample": {"-n": "--num-samples"},
    "rollout": {"-n": "--steps", "-m": "--from", "--model": "--from", DATASET: "--from"},
}
# Parameters of Gray-Scott that version 1 had options for: --feed 0.014 0.018 is --set F=0.014,0.018.
PARAMETERS = {"--feed": "F", "--kill": "k", "--diffusion-u": "D_u", "--diffusion-v": "D_v"}
SET = "--set"
# Fields of a command that are of no config.
CHANNEL: Field = ("plot_channel", Annotated[int, option(help="species shown in pictures: 0 is u, 1 is v")], 1)
SCORE: Field = ("score", Annotated[str, option(help="score model, by name or path")])
REPAIR_HELP = "simulate missing and damaged shards again, and no others"
REPAIR: Field = ("repair", Annotated[bool, option(help=REPAIR_HELP)], False)
PORT: Field = ("port", Annotated[int, option(help="port on this machine's loopback")], 5000)
NAME_HELP = "a system of the catalogue, or a TOML file; all when empty"
NAME: Field = ("name", Annotated[tyro.conf.Positional[str], option(help=NAME_HELP)], "")
OUT: Field = ("out", Annotated[str, option("-o", help="output folder")], "runs")


def run(given: Any) -> None:
    """All stages: a table of what was made, or the summary."""
    from p2d import pipeline
    from p2d.show.summary import run_text

    evaluation, outcomes = pipeline.run(given.config, given.common.folder, given.common.tracker())
    text = run_text(evaluation, outcomes, given.common.folder)
    print(json.dumps(evaluation.to_dict()) if given.common.json else text)


def verify(given: Any) -> None:
    """Faults on standard output; exit code 1 if there are any."""
    from p2d import pipeline

    folder, faults = pipeline.verify(given.dataset, given.place.path, given.repair)
    if given.place.json:
        print(json.dumps({"dataset": str(folder), "faults": [vars(fault) for fault in faults]}))
    else:
        print("\n".join(map(str, faults)) or f"{folder}: sound")
    if faults:
        sys.exit(FAULTY)


def systems(given: Any) -> None:
    """The catalogue, or one system of it or of a file."""
    from p2d.show.systems import print_systems, systems_json

    named = [load_system(given.name)] if given.name else list(catalogue().values())
    if given.screen.json:
        print(json.dumps(systems_json(named)))
    else:
        print_systems(named)


def ui(given: Any) -> None:
    """MLflow's page, until Ctrl-C."""
    from p2d.tracking.ui import serve

    serve(Path(given.out), given.port)


TABLE = (
    Command(
        "run",
        "Everything, sized for a laptop: simulate, train-score, train-flow, discover, evaluate.",
        (("config", RunConfig), ("common", Common)),
        run,
    ),
    Command(
        "systems",
        "List the systems of the catalogue, or describe one: species, equation, presets, and whether each moves.",
        (NAME, ("screen", Screen)),
        systems,
    ),
    stage(
        "simulate",
        "Simulate a system's patterns into a dataset of parquet shards.",
        ("config", SimulateConfig),
        following=lambda given, made: f"p2d discover {given.config.dataset_name}",
    ),
    Command(
        "verify",
        "Re-read a whole dataset and name every shard that is missing, cut, altered or foreign; exit code 1 if any is.",
        (("dataset", DatasetName), ("place", Place), REPAIR),
        verify,
    ),
    stage(
        "train-score",
        "Train a score model on a dataset: denoising score matching at one signal level, or over a range.",
        ("source", TrainSource),
        ("config", ScoreConfig),
        CHANNEL,
        following=lambda given, made: f"p2d train-flow {given.source.dataset}",
    ),
    stage(
        "train-flow",
        "Train a flow on a dataset: a velocity field that keeps the ensemble as it is.",
        ("source", FlowSource),
        ("config", FlowConfig),
        following=lambda given, made: f"p2d evaluate {given.source.dataset}",
    ),
    stage(
        "sample",
        "Generate new patterns by the reverse process, into a dataset, and hold them against held-out snapshots.",
        SCORE,
        ("config", SampleConfig),
        following=lambda given, made: f"p2d discover {made.where.name}",
    ),
    stage(
        "denoise",
        "Denoise a dataset, with a score model that is trained on its noisy snapshots alone.",
        ("source", TrainSource),
        ("config", DenoiseConfig),
        CHANNEL,
        following=lambda given, made: f"p2d discover {made.where.name}",
    ),
    stage(
        "discover",
        "Find the equation that keeps the snapshots' ensemble as it is, in closed form.",
        ("source", Source),
        ("config", DiscoverConfig),
        following=lambda given, made: f"p2d evaluate {given.source.dataset}",
    ),
    stage(
        "evaluate",
        "Measure what was learnt on held-out snapshots: cosines, stationarity z-scores, figures.",
        ("source", Source),
        ("config", EvaluateConfig),
        following=lambda given, made: "p2d ui",
    ),
    stage(
        "rollout",
        "Carry snapshots on in time by a flow, beside the true system: animation, panels, does the ensemble stay?",
        ("source", RolloutSource),
        ("config", RolloutConfig),
        following=lambda given, made: "p2d ui",
    ),
    stage(
        "sweep",
        "Train a flow at every point of a sweep, over signal levels and symmetry weights by default; keep the best.",
        ("source", FlowSource),
        ("config", SweepConfig),
        following=lambda given, made: f"p2d ui, or p2d evaluate {given.source.dataset} --flow {made.where / 'best'}",
    ),
    Command(
        "ui",
        "Open the MLflow page of the runs under the output folder, on this machine only, until Ctrl-C.",
        (PORT, OUT),
        ui,
    ),
    benchmark(
        "simulate",
        "Time a system's kernels beside the same text in PyTorch and JAX, preset by preset, and one actor beside two.",
        BenchSimulateConfig,
        Screen,
    ),
    benchmark(
        "score",
        "Train the score network beside a U-Net at full resolution, for the same wall time.",
        BenchScoreConfig,
    ),
    benchmark(
        "denoise",
        "Denoise snapshots with no clean data, beside a network with clean targets and a Gaussian filter.",
        BenchDenoiseConfig,
    ),
    benchmark(
        "flow",
        "Train flows of several seeds and numbers of snapshots, and measure how well they recover the true velocity.",
        BenchFlowConfig,
    ),
    benchmark(
        "discover",
        "Time the discovery of an equation; or --study: how well it does, by system, snapshots and noise.",
        BenchDiscoverConfig,
    ),
)
COMMANDS = {command.name: command for command in TABLE}
BENCH = "bench"  # the first word of the benchmarks' names


def _app() -> tyro.extras.SubcommandApp:
    """All commands, for the pages that list them."""
    app, benchmarks = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()
    for command in TABLE:
        group, _, name = command.name.rpartition(" ")
        (benchmarks if group else app).command(name=name)(command.form)
    app.command(benchmarks, name=BENCH, help="Measure how fast a stage is on this machine, beside an alternative.")
    return app


def _perform(arguments: list[str]) -> None:
    """Find the command, parse what it is given, and do it.

    Raises:
        UserError: there is no such command, or it cannot be given that.
    """
    for length in (2, 1):
        command = COMMANDS.get(" ".join(arguments[:length]))
        if command is not None:
            command.perform(_parse(command, arguments[length:]))
            return
    program = f"p2d {BENCH}" if arguments[:1] == [BENCH] else "p2d"
    words = arguments[program.count(" ") :]
    if words and not words[0].startswith("-"):
        named = [f"p2d {name}".rpartition(" ") for name in (*COMMANDS, BENCH)]
        one_of(f"{program} command", words[0], tuple(name for group, _, name in named if group == program))
    with told_in_one_line(program, arguments, lambda: ["--help"]):
        _app().cli(
            prog="p2d",
            description="Pattern to Dynamics: from snapshots of a pattern, without time order, to its dynamics.",
            args=arguments,
        )


def _parse(command: Command, arguments: list[str]) -> Any:
    """What a command is given, as attributes."""
    long = {**SHORT, **SHORT_OF.get(command.name, {})}
    program, translated, typed = f"p2d {command.name}", [], {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        translated.append(long.get(name, name) + equals + value)
        typed[long.get(name, name)] = name
    translated = _parameters_set(translated)
    if command.takes_dataset:
        translated = _dataset_first(translated)
    with told_in_one_line(program, translated, lambda: options(command.form), typed):
        return tyro.cli(command.form, prog=program, args=translated)


def _parameters_set(arguments: list[str]) -> list[str]:
    """The options of PARAMETERS, each with the values behind it, as one --set of them all."""
    others: list[str] = []
    given: list[str] = []
    name = ""  # of the option that values belong to
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if name in PARAMETERS:
                given.append(f"{PARAMETERS[name]}={value}")
            elif name == SET:
                given += [value] if equals else []
            else:
                others.append(word)
        elif name in PARAMETERS:
            given[-1] += word if given[-1].endswith("=") else f",{word}"
        else:
            (given if name == SET else others).append(word)
    return [*others, SET, *given] if given else arguments


def _dataset_first(arguments: list[str]) -> list[str]:
    """A dataset that is named by an option, in its place before all others.

    Raises:
        UserError: the option is without a name, or another dataset is in that place.
    """
    names, others, words = [], [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option != DATASET:
            others.append(word)
            continue
        value = value if equals else next(words, "")
        if not value or value.startswith("-"):
            raise UserError(f"{DATASET} needs the name of a dataset, or its path")
        names.append(value)
    if names and others and not others[0].startswith("-"):
        names.append(others.pop(0))
    if len(set(names)) > 1:
        raise UserError(f"two datasets are named, {names[-1]!r} and {names[0]!r}; name one")
    return names[:1] + others


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user's mistake ends with one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        _perform(arguments)
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


def job(stage: str) -> None:
    """A stage as a script of its own, which takes the stage's options."""
    main([stage, *sys.argv[1:]])


if __name__ == "__main__":
    main()
