"""What a command is: a row of the table in cli.py. How its words are read, and what is said of a mistake in them.

tyro tells such mistakes in boxes of many lines. It offers a hook to tell them otherwise, which is not part of its
public interface yet: without the hook, or for a mistake that is not known here, its box is what the user sees.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro

from p2d import help
from p2d.config import DatasetName, option
from p2d.config.base import ARGUMENTS, OUTPUT
from p2d.errors import UserError, nearest, refuse_unknown
from p2d.help import command_list
from p2d.places import place
from p2d.runs import make_output_folder

if TYPE_CHECKING:
    from p2d.pipeline import Tracker

IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in what `ray job submit` runs
BENCH = "bench"  # the first word of the benchmarks' names
DATASET, SET, HELP = "--dataset", "--set", ("--help", "-h")
SAYS = "Pattern to Dynamics: from snapshots of a pattern, without time order, to its dynamics."
# Parameters of Gray-Scott that version 1 had options for: --feed 0.014 0.018 is --set F=0.014,0.018.
PARAMETERS = {"--feed": "F", "--kill": "k", "--diffusion-u": "D_u", "--diffusion-v": "D_v"}
Words = list[tuple[str, list[str]]]  # options and the words behind each; those before all options are behind ''
# What a command is given: a name, a type and, where it may be left out, a default.
Field = tuple[str, Any] | tuple[str, Any, Any]


@dataclass(frozen=True)
class Screen:
    """How a command speaks."""

    group = OUTPUT

    json: Annotated[bool, option(help="print the result as one JSON object on standard output, and nothing else")] = (
        False
    )
    debug: Annotated[bool, option(help="show the traceback of an error, and where the log is")] = False


@dataclass(frozen=True)
class Place(Screen):
    """Where a command finds and puts its files."""

    out: Annotated[str, option("-o", help="output folder, or s3://BUCKET/PATH")] = "runs"

    @property
    def path(self) -> Path:
        """The output folder, there or not.

        Raises:
            UserError: it would be lost with the job that this runs in.
        """
        folder = place(self.out)
        if IN_JOB in os.environ and not folder.is_absolute():
            raise UserError(
                f"out = {self.out} is not possible: --out must be absolute or a URI in a job, as the working directory "
                "is Ray's own copy and is thrown away; give a folder that all nodes see, such as --out /shared/runs"
            )
        return folder

    @property
    def folder(self) -> Path:
        """The output folder, made if need be."""
        return make_output_folder(self.path)


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


@dataclass(frozen=True)
class Command:
    """A row of the table of commands.

    Attributes:
        name: as it is typed after `p2d`.
        says: what it does, in a sentence.
        fields: what it is given.
        perform: does it, given these as attributes.
        function: of p2d.pipeline that does it; '' of what is no stage.
        package: of p2d, whose docstring stands below the options in its help.
    """

    name: str
    says: str
    fields: tuple[Field, ...]
    perform: Callable[[Any], None]
    function: str = ""
    package: str = ""

    @functools.cached_property
    def form(self) -> type:
        """What tyro fills in: a dataclass of the fields, with the options of a config without a prefix."""
        flat = tyro.conf.arg(name="")
        fields = [
            (name, Annotated[kind, flat] if is_dataclass(kind) else kind, *default)
            for name, kind, *default in self.fields
        ]
        return make_dataclass(self.name, fields, kw_only=True, namespace={"__doc__": self.says})

    @property
    def takes_dataset(self) -> bool:
        """Whether its first word is the name of a dataset."""
        kinds = [kind for _, kind, *_ in self.fields]
        inner = [get_type_hints(kind, include_extras=True).get("dataset") for kind in kinds if is_dataclass(kind)]
        return DatasetName in (*kinds, *inner)


def stage(
    name: str, following: str, *fields: Field, package: str, function: str = "", place: type[Place] = Common
) -> Command:
    """The row of a stage: a function of p2d.pipeline is called with its fields.

    Its config's docstring says what it does.

    Args:
        following: the command to run next, with places for what was `given` and `made` (an Outcome).
        package: of p2d, whose docstring tells more of it.
        function: its name, where it is not the stage's.
        place: its options beside those of the fields; with Common, it is tracked.
    """
    function = function or name.replace("-", "_")

    def perform(given: Any) -> None:
        from p2d import pipeline

        settings = {key: getattr(given, key) for key, *_ in fields}
        common = given.common
        tracked = {"track": common.tracker()} if isinstance(common, Common) else {}
        made = getattr(pipeline, function)(**settings, out=common.folder, **tracked)
        if common.json:
            print(json.dumps(made.facts))
            return
        if made.result is not None:
            print(made.result)
        done = f"made {made.where} in {made.seconds:.0f} s" if made.made else f"nothing to do, {made.where} is there"
        out = "" if common.out == "runs" else f" -o {common.out}"
        print(f"{made.stage}: {done}\nnext: {made.following or following.format(given=given, made=made)}{out}")

    says = next(str(kind.__doc__) for key, kind, *_ in fields if key == "config")
    return Command(name, says, (*fields, ("common", place)), perform, function, package)


def benchmark(name: str, config: type, place: type[Screen] = Place) -> Command:
    """The row of a benchmark: the module of p2d.bench that has its name measures, and prints the table.

    Args:
        place: Screen alone where it has no files.
    """

    def perform(given: Any) -> None:
        module = importlib.import_module(f"p2d.bench.{name}")
        found = module.measure(given.config, *((given.place.path,) if isinstance(given.place, Place) else ()))
        is_value = is_dataclass(found) and not isinstance(found, type)
        if given.place.json:
            print(json.dumps(asdict(found) if is_value else found))
        elif is_value:
            print(found)
        else:
            module.print_table(found, given.config)

    return Command(
        f"{BENCH} {name}", str(config.__doc__), (("config", config), ("place", place)), perform, package=BENCH
    )


def parse(command: Command, words: list[str], long: Mapping[str, str]) -> Any:
    """What a command is given, as attributes; asked for help, it is shown, and the command ends.

    Args:
        words: behind its name.
        long: names of options by their other names.

    Raises:
        UserError: it cannot be given that.
    """
    program = f"p2d {command.name}"
    if set(words) & set(HELP):
        print(help.page(program, command.says, command.form, command.package))
        sys.exit()
    given: Words = [("", [])]
    typed = {}
    for word in words:
        if re.match("--?[A-Za-z]", word):  # and no negative number
            own, equals, value = word.partition("=")
            given.append((long.get(own, own), [value] if equals else []))
            typed[given[-1][0]] = own
        else:
            given[-1][1].append(word)
    given = _parameters_set(given)
    if command.takes_dataset:
        given = _dataset_first(given)
    arguments = []
    for name, values in given:
        joined = bool(name and values and values[0].startswith("-"))  # or it would pass for an option
        arguments += [f"{name}={values[0]}", *values[1:]] if joined else [*filter(None, [name]), *values]
    with _telling_in_one_line(program, lambda: options(command.form), given, typed):
        return tyro.cli(command.form, prog=program, args=arguments)


def _parameters_set(given: Words) -> Words:
    """The options of PARAMETERS as one --set of them all."""
    others = [(name, values) for name, values in given if name not in (*PARAMETERS, SET)]
    values = []
    for name, own in given:
        values += [f"{PARAMETERS[name]}={','.join(own)}"] if name in PARAMETERS else own if name == SET else []
    return [*others, (SET, values)] if values else given


def _dataset_first(given: Words) -> Words:
    """A dataset that is named by an option, in its place before all others.

    Raises:
        UserError: the option is without a name, or another dataset is in that place.
    """
    (_, first), *options = given
    names, beside = [], list(first)
    for name, values in options:
        if name == DATASET:
            if not values or not values[0]:
                raise UserError(f"{DATASET} needs the name of a dataset, or its path")
            names.append(values[0])
            beside += values[1:]
    if names and beside:
        names.append(beside.pop(0))
    if len(set(names)) > 1:
        raise UserError(f"two datasets are named, {names[-1]!r} and {names[0]!r}; name one")
    return [("", [*names[:1], *beside]), *((name, values) for name, values in options if name != DATASET)]


def show_commands(commands: Mapping[str, Command], words: list[str], groups: Mapping[str, str], start: str) -> None:
    """What is shown for words that begin with the name of no command: a list of them, or what to do first.

    Args:
        groups: the names of commands under each heading of the list.
        start: what to do first.

    Raises:
        UserError: they begin with another name, or with an option that is not --help.
    """
    program = f"p2d {BENCH}" if words[:1] == [BENCH] else "p2d"
    others = words[program.count(" ") :]
    if others and not others[0].startswith("-"):
        named = [f"p2d {name}".rpartition(" ") for name in (*commands, BENCH)]
        refuse_unknown(f"{program} command", others[0], tuple(name for group, _, name in named if group == program))
    if others and not set(others) & set(HELP):
        raise UserError(f"unknown option {others[0]!r} of {program}{nearest(others[0], HELP)}")
    if program == "p2d" and not words:
        print(start)
        return
    listed = {title: {name: commands[name].says for name in names.split()} for title, names in groups.items()}
    benchmarks = {name.split()[1]: each.says for name, each in commands.items() if name.startswith(f"{BENCH} ")}
    if program != "p2d":
        print(f"usage: {program} NAME [OPTIONS]\n\n{command_list({'': benchmarks})}")
        return
    listed["benchmarks"] = {BENCH: f"Measure a stage on this machine, beside an alternative: {', '.join(benchmarks)}."}
    about = f"usage: p2d COMMAND [OPTIONS]\n\n{SAYS}\n"
    print(f"{about}\n{command_list(listed)}\n\np2d COMMAND --help lists its options; p2d alone says what to do first.")


def completion(commands: Mapping[str, Command], shell: str) -> str:
    """A script by which a shell completes names of commands and options, as tyro writes it."""
    app, benchmarks = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()
    for command in commands.values():
        group, _, name = command.name.rpartition(" ")
        (benchmarks if group else app).command(name=name)(command.form)
    app.command(benchmarks, name=BENCH, help="Measure how fast a stage is on this machine, beside an alternative.")
    with contextlib.redirect_stdout(io.StringIO()) as script, contextlib.suppress(SystemExit):
        app.cli(prog="p2d", description=SAYS, args=["--tyro-print-completion", shell])
    return script.getvalue()


def options(form: type) -> list[str]:
    """The options of what tyro fills in, as its help lists them."""
    return [name for one in help.options(form) if one.group is not ARGUMENTS for name in one.names] + [HELP[0]]


def _telling_in_one_line(
    program: str, known: Callable[[], Iterable[str]], given: Words | None = None, typed: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[None]:
    """While the block parses, a mistake is a UserError.

    Args:
        program: the words that are parsed follow these, such as 'p2d train-score'.
        known: options that could have been meant where one is unknown.
        given: what is parsed.
        typed: how the user wrote options that it has by other names.
    """

    def unknown(tokens: list[str]) -> UserError:
        # The option that there is not, as words beside it may be its values; without one, a word too many.
        token = next((token for token in tokens if token.startswith("-")), tokens[0]).partition("=")[0]
        token = (typed or {}).get(token, token)
        what = "option" if token.startswith("-") else "argument"
        near = nearest(token, known()) if token.startswith("--") else ""
        return UserError(f"unknown {what} {token!r} of {program}{near}")

    def tell(event: Any) -> None:
        match type(event).__name__:
            case "UnrecognizedArgs":
                raise unknown(event.tokens)
            case "MissingArgs" if event.unrecognized_tokens:  # a required option may be among them, misspelt
                raise unknown(event.unrecognized_tokens)
            case "MissingArgs":
                missing = " and ".join(_shown(one.arg) for one in event.missing_arguments)
                raise UserError(f"{program} needs {missing}; {program} --help tells what that is")
            case "InvalidChoice":
                near, choices = nearest(event.value, event.choices), ", ".join(event.choices)
                raise UserError(f"unknown {_setting(event.argument)} {event.value!r}{near}; known: {choices}")
            case "BadValue":
                raise UserError(f"{_shown(event.argument)} of {program} needs {_kind(event.argument)}")
            case "InstantiationFailure" if event.argument is not None:
                shown, setting = _shown(event.argument), _setting(event.argument)
                value = " ".join(v for name, values in given or () if name.replace("_", "-") == shown for v in values)
                raise UserError(f"{setting} = {value} is not possible: it must be {_kind(event.argument)}")

    hook = getattr(getattr(tyro, "_errors", None), "on_parse_error", None)
    return hook(tell) if hook else contextlib.nullcontext()


def _shown(argument: Any) -> str:
    """'--batch-size', 'DATASET'."""
    return argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[0]


def _setting(argument: Any) -> str:
    """'batch_size', as mistakes that a config finds name it."""
    return _shown(argument).lstrip("-").replace("-", "_")


def _kind(argument: Any) -> str:
    """The kind of value that an argument takes, in words."""
    metavar = argument.lowered.metavar or ""
    kind = "whole number" if "INT" in metavar else "number" if "FLOAT" in metavar else "value"
    return f"{kind}s" if "..." in metavar else f"a {kind}"
