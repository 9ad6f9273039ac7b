"""What is wrong with a command line is told in one line: what, the value, what would be right."""

import pytest
import tyro

from p2d.cli import TABLE, main
from p2d.commands import options
from p2d.config import FlowConfig, ScoreConfig

MISTAKES = {
    "unknown option": (
        "train-score --epoch 5",
        "unknown option '--epoch' of p2d train-score (did you mean '--epochs'?)",
    ),
    "with its value": ("train-score waves --epoch=5", "unknown option '--epoch' of p2d train-score (did you mean"),
    "underscores": ("train-score --batch_sise 5", "unknown option '--batch_sise' of p2d train-score (did you mean"),
    "of a stage of run": ("run --flow.hiden 8", "(did you mean '--flow.hidden'?)"),
    "negated": ("train-score --no-augmen", "(did you mean '--no-augment'?)"),
    "as it was typed": ("train-score -p waves", "unknown option '-p' of p2d train-score\n"),
    "not of this command": ("simulate -m waves", "unknown option '-m' of p2d simulate\n"),
    "before a required one": ("sample --scor waves", "unknown option '--scor' of p2d sample (did you mean '--score'?)"),
    "of a benchmark": ("bench flow --seed 3", "unknown option '--seed' of p2d bench flow (did you mean '--seeds'?)"),
    "of no command": ("--vresion", "unknown option '--vresion' of p2d\n"),
    "a word too many": ("discover waves spots", "unknown argument 'spots' of p2d discover\n"),
    "unknown command": (
        "discovr",
        "unknown p2d command 'discovr' (did you mean 'discover'?); known: run, plan, systems, simulate",
    ),
    "unknown benchmark": ("bench scor", "unknown p2d bench command 'scor' (did you mean 'score'?); known: simulate"),
    "no whole number": ("train-score waves --epochs many", "epochs = many is not possible: it must be a whole number"),
    "half a number": ("train-score --epochs 1.5", "epochs = 1.5 is not possible: it must be a whole number"),
    "after a sign": ("train-score --epochs=many", "epochs = many is not possible: it must be a whole number"),
    "by its short form": ("train-score -n many --json", "epochs = many is not possible: it must be a whole number"),
    "no number": ("train-flow --learning_rate high", "learning_rate = high is not possible: it must be a number"),
    "or nothing": ("simulate --dt fast", "dt = fast is not possible: it must be a number"),
    "one of several": ("train-score --channels 8 x -b 2", "channels = 8 x is not possible: it must be whole numbers"),
    "unknown choice": (
        "train-score --optimizer adam",
        "unknown optimizer 'adam' (did you mean 'adamw'?); known: muon, adamw",
    ),
    "no value": ("train-score --epochs", "--epochs of p2d train-score needs a whole number"),
    "no value before the next": ("train-score --epochs --json", "--epochs of p2d train-score needs a whole number"),
    "missing option": ("sample -n 4", "p2d sample needs --score; p2d sample --help tells what that is"),
    "missing dataset": ("verify", "p2d verify needs DATASET; p2d verify --help tells what that is"),
    "two datasets": ("discover waves -m spots", "two datasets are named, 'waves' and 'spots'; name one"),
    "two datasets after it": ("discover -m spots waves", "two datasets are named, 'waves' and 'spots'; name one"),
    "two datasets by option": ("discover -m waves --dataset=spots", "two datasets are named, "),
    "a dataset without a name": ("discover --json -m", "--dataset needs the name of a dataset, or its path"),
    "an option for a dataset": ("verify --dataset --json", "--dataset needs the name of a dataset, or its path"),
}


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    screen = capsys.readouterr()
    assert stop.value.code == 2 and screen.out == ""
    assert screen.err.startswith("p2d: ") and screen.err.count("\n") == 1, screen.err
    return screen.err


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, told = MISTAKES[case]
    assert told in refused(capsys, *arguments.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [row.name for row in TABLE if row.takes_dataset])
@pytest.mark.parametrize("form", ["nothing", "--json nothing", "-m nothing", "--model=nothing", "--dataset nothing"])
def test_a_dataset_is_the_first_word_or_an_option(command, form, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "there is no dataset 'nothing'" in refused(capsys, *command.split(), *form.split())


def test_a_dataset_named_twice_is_one(tmp_path, capsys):
    told = refused(capsys, "discover", "nothing", "-m", "nothing", "-o", str(tmp_path / "runs"))
    assert "there is no dataset 'nothing'" in told


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", ".hidden", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_made(name, tmp_path, capsys):
    told = refused(capsys, "simulate", "--num-samples", "4", "--name", name, "-o", str(tmp_path / "runs"))
    assert "no dataset can be called" in told and list((tmp_path / "runs").iterdir()) == []


def test_the_options_of_a_form_are_all_of_them():
    assert {"--epochs", "--batch-size", "--augment", "--no-augment", "--help"} <= set(options(ScoreConfig))
    assert "--kernel-radius" in options(FlowConfig)


def test_without_tyro_s_hook_its_own_words_are_told(monkeypatch, capsys):
    monkeypatch.setattr(tyro, "_errors", None)
    with pytest.raises(SystemExit) as stop:
        main(["train-score", "--epoch", "5"])
    assert stop.value.code == 2 and "--epoch" in capsys.readouterr().err
