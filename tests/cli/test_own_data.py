"""The page on own data: its example runs as it stands, from files to figure, and its other commands are understood."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from p2d.cli import COMMANDS, SHORT, SHORT_OF
from p2d.commands import parse

PAGE = (Path(__file__).parent.parent.parent / ".github/OWN_DATA.md").read_text()
EXAMPLE = PAGE.split("## An example\n")[1].split("\n## ")[0]


def commands(text):
    """The commands that a text shows, as words."""
    lines = re.findall(r"^    (p2d .*)$", text, flags=re.MULTILINE) + re.findall(r"`(p2d \S+ [^`]*)`", text)
    return [shlex.split(line, comments=True)[1:] for line in lines if "--help" not in line]


@pytest.mark.parametrize("words", commands(PAGE), ids=" ".join)
def test_the_commands_of_the_page_are_understood(words):
    command = COMMANDS[words[0]]
    parse(command, words[1:], {**SHORT, **SHORT_OF.get(command.name, {})})


@pytest.mark.slow
def test_the_example_leads_from_files_to_the_equation_and_its_figure(tmp_path):
    for words in commands(EXAMPLE.split("\n`p2d info")[0]):
        command = [sys.executable, "-m", "p2d.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
    assert "velocity known" in done.stdout and "u v^2" in done.stdout
    assert "lengths in um" in done.stdout
    assert (tmp_path / "runs/discover/plates/equation.png").is_file()
    assert len(list((tmp_path / "plates").iterdir())) > 0
