"""What there is under an output folder, in every state, and the command that goes on."""

import json
import os
import sys

import pytest

from p2d.config import settings_hash
from p2d.errors import UserError
from p2d.events import note, read_events
from p2d.lock import lock_of, sole_writer
from p2d.pipeline.stage import stage
from p2d.pipeline.status import status
from p2d.runs import DATA, EQUATION, SCORE, SWEEP, output_folder
from p2d.snapshots.simulated import simulate_here
from p2d.tracking.store import Run

from ..snapshots.helpers import small


def states(out):
    return {(r.kind, r.name): r.state for r in status(out).results}


def of(out, name):
    (result,) = status(out, name).results
    return result


def trained(folder, epochs):
    folder.mkdir(parents=True)
    history = [{"epoch": n, "validation_loss": 1.0} for n in range(epochs + 1)]
    (folder / "history.json").write_text(json.dumps(history))


def left_by(out, where, error, monkeypatch, command):
    """A stage that is left by an exception."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/p2d", *command.split()])
    with pytest.raises(type(error)), stage(lambda: Run(), command.split()[0], where, {"alpha": 0.8}):
        raise error


def test_nothing_is_said_to_be_nothing(tmp_path):
    assert "p2d run makes everything" in str(status(tmp_path / "runs"))


def test_results_in_every_state(tmp_path, monkeypatch):
    dataset = simulate_here(small(), DATA.place(tmp_path, "whole_8x8"))
    simulate_here(small(), DATA.place(tmp_path, "cut_8x8"))
    card = DATA.place(tmp_path, "cut_8x8") / "card.json"
    card.write_text(card.read_text()[:40])
    finished, left = SCORE.place(tmp_path, "done"), SCORE.place(tmp_path, "left")
    trained(finished, 7)
    (finished / "config.json").write_text("{}")
    trained(left.with_name(f".left-{settings_hash({})}") / "checkpoint", 3)
    trained(left.with_name(f".left-{settings_hash({})}") / "run" / "checkpoint_1", 4)
    left_by(tmp_path, left, KeyboardInterrupt(), monkeypatch, "train-score whole --name left")
    with sole_writer(EQUATION.place(tmp_path, "whole"), beside=True):
        assert states(tmp_path) == {
            ("dataset", "whole_8x8"): "finished",
            ("dataset", "cut_8x8"): "broken",
            ("score model", "done"): "finished",
            ("score model", "left"): "unfinished",
            ("equation", "whole"): "running",
        }
        running = next(r for r in status(tmp_path).results if r.kind == "equation")
        assert running.by.startswith(f"process {os.getpid()} on ") and running.since.endswith("UTC")
    assert of(tmp_path, "done").detail == "epoch 7"
    assert of(tmp_path, "left").detail == "epoch 4, stopped"
    assert of(tmp_path, "left").command == "p2d train-score whole --name left"
    assert "go on: p2d train-score whole --name left" in str(status(tmp_path))
    assert str(dataset.card.samples) in str(status(tmp_path))
    assert set(status(tmp_path).to_dict()) == {"out", "results", "events"}


def test_the_events_of_a_result_explain_it(tmp_path, monkeypatch):
    where = SWEEP.place(tmp_path, "waves")
    where.mkdir(parents=True)
    left_by(tmp_path, where, UserError("a worker has no memory left"), monkeypatch, "sweep waves")
    note(where / "trials" / "one", "restarted", error="node 10.0.0.2 has died")
    note(SCORE.place(tmp_path, "other"), "started")
    known = status(tmp_path, "waves")
    assert [e["event"] for e in known.events] == ["started", "ended", "restarted"]
    ended = known.events[1]
    assert (ended["state"], ended["error"]) == ("failed", "a worker has no memory left")
    assert ended["versions"]["p2d"]
    assert "node 10.0.0.2 has died" in str(known)
    assert of(tmp_path, "waves").command == "p2d sweep waves"
    with pytest.raises(UserError, match="there is nothing called 'wave'"):
        status(tmp_path, "wave")


def test_a_line_of_events_that_was_cut_is_left_out(tmp_path):
    note(SCORE.place(tmp_path, "one"), "started")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"at": "2026')
    assert [e["result"] for e in read_events(tmp_path)] == ["score/one"]


def test_a_second_stage_of_the_same_result_is_refused_while_the_first_runs(tmp_path):
    where = SCORE.place(tmp_path, "waves")
    first, second = (stage(lambda: Run(), "train-score", where, {}) for _ in range(2))
    with first, pytest.raises(UserError) as caught, second:
        pass
    told = f"{where} is being written by process {os.getpid()} on "
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)
    assert not lock_of(where).exists()
    with stage(lambda: Run(), "train-score", where, {}):
        pass
    lock_of(where).touch()  # as a process leaves it that is killed
    with stage(lambda: Run(), "train-score", where, {}):
        pass


def test_the_output_folder_of_a_result():
    out = SCORE.place("runs", "waves").parent.parent
    for where in (EQUATION.place(out, "waves"), SWEEP.place(out, "waves") / "trials" / "one", SCORE.place(out, "a")):
        assert output_folder(where) == out
