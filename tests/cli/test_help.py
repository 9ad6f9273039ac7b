"""What p2d says of itself: what to do first, the list of commands, and the options of each in groups."""

import ast
import re
from pathlib import Path

import pytest

from p2d import cli
from p2d.cli import COMMANDS, GROUPS, TABLE, main

PACKAGE = Path(cli.__file__).parent


def shown(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code in (None, 0)
    return capsys.readouterr().out


def headings(page: str) -> list[str]:
    return [block.partition("\n")[0] for block in page.split("\n\n") if re.search(r"^  (-|[A-Z])", block, re.M)]


def test_p2d_alone_says_in_fifteen_lines_what_to_do_first(capsys):
    main([])
    said = capsys.readouterr().out
    assert said.count("\n") <= 15 and "p2d run --quick" in said.split("\n\n")[1]
    commands = re.findall(r"^  p2d ([a-z]+)", said, re.M)
    assert set(commands) <= set(COMMANDS)


def test_the_list_has_every_command_once(capsys):
    main(["--help"])
    listed = re.findall(r"^  ([a-z-]+) ", capsys.readouterr().out, re.M)
    assert sorted(listed) == sorted([name for name in COMMANDS if " " not in name] + ["bench"])
    assert sorted(" ".join(GROUPS.values()).split()) == sorted(name for name in COMMANDS if " " not in name)
    main(["bench"])
    assert "usage: p2d bench NAME" in capsys.readouterr().out


def test_options_stand_in_groups_with_forms_and_defaults(capsys):
    page = shown(capsys, "train-score")
    assert headings(page) == ["arguments", "data", "model", "training", "machine", "output"]
    of = dict(zip(headings(page), [b for b in page.split("\n\n") if re.search(r"^  (-|[A-Z])", b, re.M)], strict=True))
    assert "  -n, --epochs N " in of["training"] and "(default: 16)" in of["training"]
    assert "--workers" in of["machine"] and "--channels N ..." in of["model"] and "--holdout X" in of["data"]
    assert "--augment, --no-augment" in of["data"] and "DATASET" in of["arguments"]


def test_stages_of_a_run_have_headings_of_their_own(capsys):
    page = shown(capsys, "run")
    titles = [title.partition(":")[0] for title in headings(page)]
    assert titles == ["data", "machine", "score", "flow", "discover", "output"]
    assert "--flow.objective stationarity | continuity" in page and "--score.augment, --score.no-augment" in page


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_page_names_every_option_and_fits_the_screen(row, capsys):
    page = shown(capsys, *row.name.split())
    assert page.startswith(f"usage: p2d {row.name} ")
    ours = page.partition("\n" + "-" * 50)[0]
    assert all(len(line) <= 100 for line in ours.splitlines())
    assert "None" not in ours and "()" not in ours


@pytest.mark.parametrize("row", [row for row in TABLE if row.package], ids=lambda row: row.name)
def test_a_page_ends_with_what_its_package_says(row, capsys):
    said = ast.get_docstring(ast.parse((PACKAGE / row.package / "__init__.py").read_text())) or ""
    assert shown(capsys, *row.name.split()).rstrip().endswith(said.rstrip())
