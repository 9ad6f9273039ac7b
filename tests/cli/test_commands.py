"""The table of commands: every row names a function that takes what the row gives, and ends with what to run next."""

import importlib
import inspect
import json
from typing import get_args, get_type_hints

import pytest

from p2d import pipeline
from p2d.cli import COMMANDS, TABLE, main
from p2d.commands import Command, Common, Place, parse
from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.snapshots.simulated import simulate_here

OTHERS = ("completion", "plan", "run", "status", "systems", "verify", "info", "ui")  # rows with a function of their own
STAGES = [row for row in TABLE if " " not in row.name and row.name not in OTHERS]
BENCHMARKS = [row for row in TABLE if row.name.startswith("bench ")]
TAKE_A_DATASET = [
    "export",
    "info",
    "verify",
    "train-score",
    "train-flow",
    "denoise",
    "discover",
    "evaluate",
    "report",
    "sweep",
]
TAKE_A_DATASET += ["bench score", "bench denoise", "bench flow", "bench discover"]


@pytest.mark.parametrize("row", STAGES, ids=lambda row: row.name)
def test_a_stage_is_called_with_what_its_row_gives(row):
    function = getattr(pipeline, row.function)
    given = {name for name, *_ in row.fields} - {"common"}
    of_others = {"scaling", "page"}  # that other stages give
    tracked = {"track"} if ("common", Common) in row.fields else set()
    assert inspect.signature(function).parameters.keys() - of_others == given | {"out"} | tracked


@pytest.mark.parametrize("row", BENCHMARKS, ids=lambda row: row.name)
def test_a_benchmark_measures_and_prints(row):
    module = importlib.import_module(f"p2d.{row.name.replace(' ', '.')}")
    assert {"config"} <= inspect.signature(module.measure).parameters.keys() <= {"config", "out"}
    if hasattr(module, "print_table"):
        assert list(inspect.signature(module.print_table).parameters) == ["found", "config"]
    else:  # what it measures says itself
        kind = get_type_hints(module.measure)["return"]
        measured = get_args(kind) or (kind,)
        assert all("__str__" in vars(kind) for kind in measured)


def test_these_commands_take_a_dataset_as_their_first_word():
    assert [row.name for row in TABLE if row.takes_dataset] == TAKE_A_DATASET


def test_a_row_is_all_that_a_command_needs(monkeypatch, capsys):
    row = Command("add", "Add two numbers.", (("a", int), ("b", int, 2)), lambda given: print(given.a + given.b))
    monkeypatch.setitem(COMMANDS, "add", row)
    main(["add", "--a", "3"])
    assert capsys.readouterr().out == "5\n"
    with pytest.raises(SystemExit):
        main(["add", "--b", "3"])
    assert capsys.readouterr().err == "p2d: p2d add needs --a; p2d add --help tells what that is\n"


def test_options_of_version_1_set_parameters():
    words = ["--feed", "0.014", "0.018", "--num-samples", "2", "--kill=0.05", "--set", "D_u=0.1"]
    assert parse(COMMANDS["simulate"], words, {}).config.set == ("F=0.014,0.018", "k=0.05", "D_u=0.1")


@pytest.mark.parametrize("terms", ["-u, v", "u, v", ""])
def test_a_value_behind_a_sign_may_begin_as_an_option_does(terms):
    given = parse(COMMANDS["discover"], ["-m", "spots", f"--terms={terms}", "--json"], {"-m": "--dataset"})
    assert (given.source.dataset, given.config.terms, given.common.json) == ("spots", terms, True)


@pytest.fixture
def out(tmp_path):
    """An output folder with a dataset of 8 x 8."""
    config = SimulateConfig(num_samples=2, height=8, width=8, steps=10, device="cpu", threads=1)
    simulate_here(config, tmp_path / "data" / config.dataset_name)
    return tmp_path


def test_a_command_ends_with_what_to_run_next(out, capsys):
    size = ["--num-samples", "2", "--height", "8", "--width", "8", "--steps", "10"]
    main(["simulate", *size, "--no-tracking", "-o", str(out)])
    place = out / "data" / "waves_8x8"
    told = f"simulate: nothing to do, {place} is there\nnext: p2d discover waves_8x8 -o {out}\n"
    assert capsys.readouterr().out == told
    main(["simulate", *size, "--no-tracking", "-o", str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["samples"] == 2


@pytest.mark.parametrize("form", ["waves", "waves_8x8", "{out}/data/waves_8x8", "-m waves", "--dataset=waves"])
def test_a_dataset_is_named_by_name_or_path_as_first_word_or_option(form, out, capsys):
    main(["verify", *form.format(out=out).split(), "-o", str(out)])
    assert capsys.readouterr().out == f"{out}/data/waves_8x8: sound\n"


def test_in_a_job_a_folder_of_the_working_directory_is_refused(monkeypatch, tmp_path):
    assert str(Place(out="runs").path) == "runs"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for out in ("runs", "./x/runs"):
        with pytest.raises(UserError, match=f"out = {out} is not possible: --out must be absolute or a URI in a job"):
            Place(out=out).path  # noqa: B018
    assert Place(out=str(tmp_path)).path == tmp_path
