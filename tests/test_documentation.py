"""README, pages and docstrings show what is there: commands are understood, Python and the notebook run."""

import ast
import contextlib
import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import p2d
from p2d.cli import COMMANDS, SHORT, SHORT_OF, main
from p2d.commands import PARAMETERS, options, parse
from p2d.flow.velocity import LocalField
from p2d.score.model import ScoreModel
from p2d.training.checkpoint import write_checkpoint

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md")), ROOT / "jobs/README.md"]
PAGES.append(ROOT / "p2d/systems/catalogue/README.md")
PACKAGES = sorted(file.parent.name for file in ROOT.glob("p2d/*/__init__.py"))
# Programs with options of their own.
OTHERS = ("ray ", "mlflow ", "kubectl ", "sbatch ", "pip ", "pytest ", "export ", "python ")
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
SOURCES = {name: (ROOT / f"p2d/{name}/__init__.py").read_text() for name in PACKAGES}
TEXTS |= {f"p2d.{name}": ast.get_docstring(ast.parse(source)) for name, source in SOURCES.items()}
TEXTS |= {"p2d": inspect.getdoc(p2d)}
TEXTS |= {f"p2d.{name}": inspect.getdoc(getattr(p2d, name)) or "" for name in p2d.__all__}
MINE = re.search(r"```toml\n(.*?)```", TEXTS["p2d/systems/catalogue/README.md"], flags=re.DOTALL)[1]


def blocks(text: str) -> list[str]:
    """The indented and fenced blocks of a text, unindented, without lines that go on in the next."""
    found = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    found += [inspect.cleandoc(block) for block in re.findall(r"(?:^    .*\n?|^\n(?=    ))+", text, flags=re.MULTILINE)]
    return [re.sub(r" *\\\n *", " ", block) for block in found]


def commands(text: str) -> list[tuple[str, ...]]:
    """The commands of p2d that blocks show, as words: those of job scripts and behind && too."""
    made = []
    for line in (line for block in blocks(text) for line in block.splitlines()):
        shown = re.search(r"(?:^|&& )p2d (.+)", line)
        script = re.search(r"(?:python|slurm\.sh) jobs/(\w+)\.py(.*)", line)
        if shown:
            made.append(tuple(shlex.split(shown[1], comments=True)))
        elif script:
            stage = "run" if script[1] == "pipeline" else script[1].replace("_", "-")
            made.append((stage, *shlex.split(script[2], comments=True)))
    return [words for words in made if words]


def python_blocks(text: str) -> list[str]:
    return [block for block in blocks(text) if re.match(r"(import|from) ", block)]


def parted(words: tuple[str, ...]) -> tuple[str, list[str]]:
    """The name of the command that these words begin with, and what it is given."""
    length = 2 if words[0] == "bench" else 1
    return " ".join(words[:length]), list(words[length:])


def script(name: str):
    """A script of .github as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f".github/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SHOWN = sorted({words for text in TEXTS.values() for words in commands(text)})
EXAMPLES = [(name, n, block) for name, text in TEXTS.items() for n, block in enumerate(python_blocks(text))]


def understand(words: tuple[str, ...]) -> None:
    name, given = parted(words)
    parse(COMMANDS[name], given, {**SHORT, **SHORT_OF.get(name, {})})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples run: with models, a system file and a dataset of the names that they use."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "mine.toml").write_text(MINE)
    data = {"affine": {"scale": 2.0, "shift": -1.0}, "grid": [128, 128]}
    flow = {"kind": "flow", "settings": {"hidden": [4], "radius": 1.0}, "data": data}
    write_checkpoint(folder / "runs/flow/waves", flow, LocalField((4,)).state_dict())
    score = {"kind": "score", "settings": {"channels": [4], "alpha": [0.5, 0.99], "sampling": 0.25}, "data": data}
    write_checkpoint(folder / "runs/score/waves", score, ScoreModel((4,), (0.5, 0.99)).state_dict())
    p2d.simulate("waves", num_samples=64, steps=1, out=folder / "runs")
    return folder


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_every_command_that_is_shown_is_understood(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if "--help" not in words:
        understand(words)


@pytest.mark.parametrize("name", sorted({parted(words)[0] for words in SHOWN}))
def test_the_help_of_every_command_that_is_shown_answers(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    assert not end.value.code and "--" in capsys.readouterr().out


def test_an_option_that_is_not_there_would_be_noticed():
    with pytest.raises(p2d.UserError, match="unknown option '--colour'"):
        understand(commands("    p2d simulate --colour red   # of a page\n")[0])


def known_options() -> set[str]:
    """The options of all commands, by all their names."""
    shown = {option for command in COMMANDS.values() for option in options(command.form)}
    return shown | set(SHORT) | set(PARAMETERS) | {alias for own in SHORT_OF.values() for alias in own} | {"--help"}


def test_every_option_that_is_named_is_one_of_a_command():
    results = {"--only", "--quick", "--out"}  # of .github/results.py
    known = known_options() | results
    for name, text in TEXTS.items():
        own = re.sub(rf"`({'|'.join(OTHERS)})[^`]*`", "", text)
        for line in own.splitlines():
            if name.endswith("ORIGINAL.md"):  # whose first column has those of the original
                line = line.split(" | ", 1)[-1]
            if line.strip().startswith(OTHERS):
                continue
            unknown = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", line)) - known
            assert not unknown, f"{name}: {line}"


def test_every_command_that_is_named_is_one():
    for name, text in TEXTS.items():
        for words in re.findall(r"`p2d ([a-z][a-z -]*)", text):
            first = " ".join(words.split()[: 2 if words.startswith("bench ") else 1])
            assert first in COMMANDS or first == "bench", f"{name}: p2d {words}"


def test_every_file_and_extra_that_is_named_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"
        for path in re.findall(r"(?<![\w/.])(?:p2d|jobs|tests|\.github|\.ci)/[\w/.]*\w", text):
            assert (ROOT / path).exists(), f"{page}: {path}"
        assert set(re.findall(r"pip install -e \"?\.\[(\w+)\]", text)) <= set(extras)


def test_every_picture_is_shown():
    shown = " ".join(TEXTS.values())
    for picture in (ROOT / ".github").glob("*.png"):
        assert picture.name in shown, picture


def test_docstrings_of_packages_fit_a_terminal():
    for name in PACKAGES:
        lines = TEXTS[f"p2d.{name}"].splitlines()
        assert len(lines) <= 41 and max(map(len, lines), default=0) <= 120, name


@pytest.mark.parametrize(
    "name, block",
    [
        pytest.param(name, block, id=f"{name} {n}", marks=[pytest.mark.slow] * ("p2d.simulate" in block))
        for name, n, block in EXAMPLES
    ],
)
def test_the_python_that_is_shown_runs(name, block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block, name, "exec"), {})
    if "p2d.discover" in block:
        assert re.search(r"dv/dt = .* lap\(v\) - .* v \+ .* u v\^2", printed.getvalue())


@pytest.mark.slow
def test_the_example_on_own_data_leads_from_files_to_the_equation_and_its_figure(tmp_path):
    section = TEXTS[".github/OWN_DATA.md"].split("## An example\n")[1]
    for words in commands(section)[:4]:
        command = [sys.executable, "-m", "p2d.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
    assert "velocity known" in done.stdout and "u v^2" in done.stdout and "lengths in um" in done.stdout
    assert (tmp_path / "runs/discover/plates/equation.png").is_file()


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_those_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = json.loads((ROOT / ".github/notebook.ipynb").read_text())
    made = script("notebook").executed(shown)
    for old, new in zip(shown["cells"], made["cells"], strict=True):
        kinds = [[output["output_type"] for output in cell.get("outputs", ())] for cell in (old, new)]
        assert kinds[0] == kinds[1], "".join(old["source"])
    texts = ["".join(o.get("text", "")) for cell in made["cells"] for o in cell.get("outputs", ())]
    assert any(re.search(r"dv/dt = .* lap\(v\) - .* v \+ .* u v\^2\nvelocity known", text) for text in texts)


@pytest.mark.parametrize("quick", [False, True])
def test_the_commands_that_measure_the_results_are_understood(quick):
    results = script("results")
    for name, section in results.SECTIONS.items():
        if section.words:
            size = (section.quick if quick else section.size).split()
            understand(("bench", *section.words.split(), *["waves"] * section.dataset, *size))
        if f"## {section.heading}\n" in TEXTS[".github/RESULTS.md"]:
            assert f"`p2d bench {section.words}" in TEXTS[".github/RESULTS.md"] or not section.words, name


def test_a_section_of_the_results_is_replaced_and_the_others_stay():
    put = script("results").put
    page = "# Results\n\n## One\n\n1\n\n## Two\n\n2\n"
    assert put(page, "One", "## One\n\n3\n") == "# Results\n\n## One\n\n3\n\n## Two\n\n2\n"
    assert put(page, "Two", "## Two\n\n4\n") == "# Results\n\n## One\n\n1\n\n## Two\n\n4\n"
    assert put(page, "Three", "## Three\n") == page + "\n## Three\n"
