"""The `p2d` command: a table of stages. Only settings are imported here, so that --help answers at once."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

import tyro

from p2d import config, log, signals
from p2d.commands import Command, Common, Field, Place, Screen, benchmark, parse, show_commands, stage
from p2d.commands import completion as completion_script
from p2d.config import bench, option
from p2d.config.base import MACHINE, OUTPUT, Show
from p2d.errors import UserError, one_line, unwritable

FAULTY, USER_MISTAKE = 1, 2  # exit codes
# The original scripts' names of options, whose defaults .github/ORIGINAL.md compares. Where a dataset is a command's
# first word, --dataset names it too.
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
    "--plot-channel": "--show",
    "--wb": "--tracking",
}
SHORT_OF = {  # where a command means another thing by one
    "sample": {"-n": "--num-samples"},
    "plan": {"--samples": "--num-samples"},
    "rollout": {"-n": "--steps", "-m": "--from", "--model": "--from", "--dataset": "--from"},
}
# Fields of a command that are of no config.
SHOW: Field = ("show", Show, "")
SCORE: Field = ("score", Annotated[str, option(help="score model, by name or path")])
QUICK_HELP = "within a minute: few snapshots and their equation, no models; a whole run makes its own dataset beside it"
QUICK: Field = ("quick", Annotated[bool, option(help=QUICK_HELP)], False)
REPAIR_HELP = "simulate missing and damaged shards again, and no others"
REPAIR: Field = ("repair", Annotated[bool, option(help=REPAIR_HELP)], False)
PORT: Field = (
    "port",
    Annotated[int, MACHINE, option(help="of this machine's loopback; the next one for reports")],
    5000,
)
BROWSER: Field = ("browser", Annotated[bool, OUTPUT, option(help="open the desktop's browser, if there is one")], True)
SHELL: Field = (
    "shell",
    Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional, option(help="which one")],
    "bash",
)
NAME_HELP = "a system of the catalogue, or a TOML file; all when empty"
NAME: Field = ("name", Annotated[str, tyro.conf.Positional, option(help=NAME_HELP)], "")
OF_RESULTS_HELP = "of results, to see what has happened to them; all results when empty"
OF_RESULTS: Field = ("name", Annotated[str, tyro.conf.Positional, option(help=OF_RESULTS_HELP)], "")


def run(given: Any) -> None:
    """All stages: a table of what was made, or the summary."""
    from p2d import pipeline
    from p2d.show.summary import run_text

    evaluation, outcomes = pipeline.run(given.config, given.common.folder, given.common.tracker(), given.quick)
    text = run_text(evaluation, outcomes, given.common.folder)
    print(json.dumps(evaluation.to_dict()) if given.common.json else text)


def plan(given: Any) -> None:
    """What a run would come to, as a table."""
    from p2d.pipeline.plan import plan as plan_run

    planned = plan_run(given.config)
    print(json.dumps(planned.to_dict()) if given.screen.json else planned)


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


def info(given: Any) -> None:
    """The card and the findings, and where the contact sheet is."""
    from p2d import pipeline

    known = pipeline.info(given.dataset, given.place.folder)
    print(json.dumps(known.to_dict()) if given.place.json else known)


def status(given: Any) -> None:
    """A table of the results, with the events of those that are named."""
    from p2d.pipeline.status import status as read_status

    known = read_status(given.place.path, given.name)
    print(json.dumps(known.to_dict()) if given.place.json else known)


def systems(given: Any) -> None:
    """The catalogue, or one system of it or of a file."""
    from p2d.show.systems import print_systems, systems_json
    from p2d.systems.reading import catalogue, load_system

    named = [load_system(given.name)] if given.name else list(catalogue().values())
    if given.screen.json:
        print(json.dumps(systems_json(named)))
    else:
        print_systems(named)


def completion(given: Any) -> None:
    """The script, as it is or in JSON."""
    script = completion_script(COMMANDS, given.shell)
    print(json.dumps({"shell": given.shell, "script": script}) if given.screen.json else script)


def ui(given: Any) -> None:
    """MLflow's page and the reports, until Ctrl-C."""
    from p2d.tracking.ui import serve

    serve(given.place.path, given.port, given.place.json, given.browser)


TABLE = (
    Command(
        "run",
        str(config.RunConfig.__doc__),
        (QUICK, ("config", config.RunConfig), ("common", Common)),
        run,
        package="pipeline",
    ),
    Command("plan", str(config.PlanConfig.__doc__), (("config", config.PlanConfig), ("screen", Screen)), plan),
    Command(
        "systems",
        "List the systems of the catalogue, or describe one: species, equation, presets, and whether each moves.",
        (NAME, ("screen", Screen)),
        systems,
        package="systems",
    ),
    stage("simulate", "p2d discover {given.config.dataset_name}", ("config", config.SimulateConfig), package="systems"),
    stage(
        "import",
        "p2d discover {made.where.name}",
        ("config", config.ImportConfig),
        function="import_files",
        package="formats",
    ),
    stage("export", "p2d import {made.where}", ("config", config.ExportConfig), place=Place, package="formats"),
    Command(
        "info",
        "Say what a dataset is: its card, what its snapshots show and what that means, and a contact sheet of them.",
        (("dataset", config.DatasetName), ("place", Place)),
        info,
        package="snapshots",
    ),
    Command(
        "verify",
        "Re-read a whole dataset and name every shard that is missing, cut, altered or foreign; exit code 1 if any is.",
        (("dataset", config.DatasetName), ("place", Place), REPAIR),
        verify,
        package="snapshots",
    ),
    stage(
        "train-score",
        "p2d train-flow {given.source.dataset}",
        ("source", config.TrainSource),
        ("config", config.ScoreConfig),
        SHOW,
        package="score",
    ),
    stage(
        "train-flow",
        "p2d evaluate {given.source.dataset}",
        ("source", config.FlowSource),
        ("config", config.FlowConfig),
        package="flow",
    ),
    stage("sample", "p2d discover {made.where.name}", SCORE, ("config", config.SampleConfig), package="score"),
    stage(
        "denoise",
        "p2d discover {made.where.name}",
        ("source", config.TrainSource),
        ("config", config.DenoiseConfig),
        SHOW,
        package="score",
    ),
    stage(
        "discover",
        "p2d evaluate {given.source.dataset}",
        ("source", config.Source),
        ("config", config.DiscoverConfig),
        package="discovery",
    ),
    stage("evaluate", "p2d ui", ("source", config.Source), ("config", config.EvaluateConfig), package="evaluate"),
    stage("report", "p2d ui", ("config", config.ReportConfig), package="show"),
    stage("rollout", "p2d ui", ("source", config.RolloutSource), ("config", config.RolloutConfig), package="evaluate"),
    stage(
        "sweep",
        "p2d ui, or p2d evaluate {given.source.dataset} --flow {made.where}/best",
        ("source", config.FlowSource),
        ("config", config.SweepConfig),
        SHOW,
        package="cluster",
    ),
    Command(
        "status",
        "Say what is finished, running (by whom, since when), unfinished or broken, and which command goes on.",
        (OF_RESULTS, ("place", Place)),
        status,
    ),
    Command(
        "ui",
        "Open the reports and the MLflow page of the runs under the output folder, on this machine, until Ctrl-C.",
        (PORT, BROWSER, ("place", Place)),
        ui,
    ),
    Command(
        "completion",
        "Print a script that completes names of commands and options in a shell: source <(p2d completion bash)",
        (SHELL, ("screen", Screen)),
        completion,
    ),
    benchmark("simulate", bench.BenchSimulateConfig, Screen),
    benchmark("score", bench.BenchScoreConfig),
    benchmark("denoise", bench.BenchDenoiseConfig),
    benchmark("flow", bench.BenchFlowConfig),
    benchmark("discover", bench.BenchDiscoverConfig),
    benchmark("growth", bench.BenchGrowthConfig),
    benchmark("verdicts", bench.BenchVerdictsConfig),
)
COMMANDS = {command.name: command for command in TABLE}
GROUPS = {
    "everything": "run plan",
    "snapshots": "systems simulate import export info verify",
    "what is learnt from them": "discover train-flow train-score sample denoise sweep",
    "what it is worth": "evaluate rollout report",
    "to look at": "status ui completion",
}
START = """\
p2d finds the dynamics of a pattern from snapshots of it, which need no time order.

  p2d run --quick         the first equation, from 24 simulated snapshots, within a minute
  p2d run                 the whole way: equation, flow, score model and new patterns, within ten minutes
  p2d ui                  the results in the browser, until Ctrl-C

From snapshots of your own, as images, films, arrays or tables:
  p2d import plates/*.tif --species activator inhibitor --edges open
  p2d discover plates     their equation with error bars, or why it cannot be told

  p2d systems             the systems that can be simulated
  p2d status              what is finished, and how to go on with what is not
  p2d --help              all commands; p2d COMMAND --help lists the options of one
Results are put under the folder runs, or where --out says."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user's mistake ends with one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    with signals.handling():
        try:
            with log.of_command(arguments) as own:
                _perform(arguments, debug)
                if debug and own.path:
                    print(f"p2d: log {own.path}", file=sys.stderr)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if not (signals.stopping() or isinstance(error, KeyboardInterrupt)):
                raise
            print(f"p2d: {signals.STOPPED}", file=sys.stderr)
            sys.exit(signals.exit_code())


def _perform(arguments: list[str], debug: bool) -> None:
    try:
        for length in (2, 1):
            command = COMMANDS.get(" ".join(arguments[:length]))
            if command is not None:
                command.perform(parse(command, arguments[length:], {**SHORT, **SHORT_OF.get(command.name, {})}))
                return
        show_commands(COMMANDS, arguments, GROUPS, START)
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone: there is nobody to tell
    except Exception as error:
        file = log.write_failure(error)
        if debug or signals.stopping():
            raise
        if isinstance(error, UserError):
            reason = str(error)
        elif reason := unwritable(error):
            reason = f"{reason}; mend that, and the same command goes on from here"
        elif file:
            print(f"p2d: failed: {one_line(error)}; the log {file} tells where", file=sys.stderr)
            sys.exit(FAULTY)
        else:
            raise
        print(f"p2d: {reason}", file=sys.stderr)
        sys.exit(USER_MISTAKE)


def job(stage: str) -> None:
    """A stage as a script of its own, which takes the stage's options."""
    main([stage, *sys.argv[1:]])


if __name__ == "__main__":
    main()
