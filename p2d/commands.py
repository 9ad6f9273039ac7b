"""What a row of the table of commands is: a name, what it is given, and what it does with that."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro

from p2d.config import DatasetName, option
from p2d.runs import make_output_folder

if TYPE_CHECKING:
    from p2d.pipeline import Outcome, Tracker

FLAT = tyro.conf.arg(name="")  # the options of a config without a prefix
# What a command is given: a name, a type and, where it may be left out, a default.
Field = tuple[str, Any] | tuple[str, Any, Any]


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
    """

    name: str
    says: str
    fields: tuple[Field, ...]
    perform: Callable[[Any], None]

    @functools.cached_property
    def form(self) -> type:
        """What tyro fills in: a dataclass of the fields, with the options of a config without a prefix."""
        fields = [
            (name, Annotated[kind, FLAT] if is_dataclass(kind) else kind, *default)
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
    name: str,
    says: str,
    *fields: Field,
    following: Callable[[Any, Outcome], str],
) -> Command:
    """The row of a stage: the function of p2d.pipeline that has its name is called with its fields.

    Args:
        following: the command to run next, given the fields and the outcome.
    """

    def perform(given: Any) -> None:
        from p2d import pipeline

        settings = {field[0]: getattr(given, field[0]) for field in fields}
        common = given.common
        function = getattr(pipeline, name.replace("-", "_"))
        outcome = function(**settings, out=common.folder, track=common.tracker())
        if common.json:
            print(json.dumps(outcome.facts))
            return
        if outcome.result is not None:
            print(outcome.result)
        done = f"made {outcome.where} in {outcome.seconds:.0f} s"
        kept = f"nothing to do, {outcome.where} is there"
        place = "" if common.out == "runs" else f" -o {common.out}"
        print(f"{outcome.stage}: {done if outcome.made else kept}\nnext: {following(given, outcome)}{place}")

    return Command(name, says, (*fields, ("common", Common)), perform)


def benchmark(name: str, says: str, config: type, place: type[Screen] = Place) -> Command:
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

    return Command(f"bench {name}", says, (("config", config), ("place", place)), perform)
