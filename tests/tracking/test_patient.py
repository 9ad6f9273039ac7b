"""A store that is gone for a while: the work goes on, and what was tracked is there in the end, in its order."""

import json

import pytest
from mlflow.exceptions import MlflowException

from p2d.errors import UserError
from p2d.tracking import patient
from p2d.tracking.patient import Patient, hand_over_left, kept_file
from p2d.tracking.store import Run, without_password

URI = "http://127.0.0.1:9"
GONE = MlflowException("API request failed: connection refused")


class Server:
    """Keeps the calls it is made; `error` is what it answers instead."""

    def __init__(self):
        self.calls, self.error = [], None

    def __getattr__(self, call):
        def answer(**values):
            if self.error:
                raise self.error
            self.calls.append((call, values))
            return f"run-{len(self.calls)}" if call == "open" else None

        return answer

    def of(self, call, key):
        return [values[key] for name, values in self.calls if name == call]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(patient, "RETRY_S", 0.0)
    return Server()


@pytest.fixture
def root(server, tmp_path) -> Run:
    return Run(Patient(server, URI, kept_file(tmp_path, URI, "me")))


def test_what_is_tracked_while_the_store_is_gone_is_written_when_it_is_back(root, server, tmp_path, capsys):
    with root.child("train", {"alpha": 0.8}) as run:
        run.metrics({"loss": 3.0}, step=0)
        server.error = GONE
        run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.5}, step=2)
        assert len(next(tmp_path.glob("*.jsonl")).read_text().splitlines()) == 2
        server.error = None
        run.metrics({"loss": 1.0}, step=3)
    assert server.of("metrics", "step") == [0, 1, 2, 3]
    assert [values["loss"] for values in server.of("metrics", "values")] == [3.0, 2.0, 1.5, 1.0]
    assert server.of("end", "status") == ["FINISHED"]
    assert not list(tmp_path.iterdir())
    told = capsys.readouterr().err
    assert told.count("warning") == 1 and "MLflow is back" in told


def test_runs_that_begin_while_it_is_gone_are_opened_later_under_their_parents(root, server):
    with root.child("run waves", {}) as outer:
        server.error = OSError("connection reset")
        with outer.child("train", {"alpha": 0.8}) as inner, inner.child("trial", {}) as trial:
            trial.metrics({"loss": 1.0})
        server.error = None
        inner.metrics({"late": 1.0})
    assert server.of("open", "key") == ["/run waves", "/run waves/train", "/run waves/train/trial"]
    opened = [f"run-{n + 1}" for n, (call, _) in enumerate(server.calls) if call == "open"]
    assert server.of("open", "parent") == ["", *opened[:2]]
    assert server.of("metrics", "run") == [opened[2], opened[1]]
    assert server.of("end", "run") == [opened[2], opened[1], opened[0]]


def test_a_store_that_stays_gone_leaves_a_file_that_the_next_command_hands_over(root, server, tmp_path, capsys):
    with root.child("train", {}) as run:
        server.error = GONE
        run.metrics({"loss": 1.0}, step=1)
    root.store.close()
    file = kept_file(tmp_path, URI, "me")
    assert str(file) in capsys.readouterr().err.splitlines()[-1]
    assert [json.loads(line)[0] for line in file.read_text().splitlines()] == ["metrics", "samples", "end"]
    server.error = None
    hand_over_left(server, URI, URI, tmp_path)  # its process lives: it is still the one to do so
    assert server.of("end", "status") == []
    root.store.kept.close()
    hand_over_left(server, "http://127.0.0.1:10", URI, tmp_path)  # another store's are not touched
    assert file.exists()
    hand_over_left(server, URI, URI, tmp_path)
    assert (server.of("metrics", "step"), server.of("end", "status")) == ([1], ["FINISHED"])
    assert not file.exists()


def test_a_store_that_is_gone_again_half_way_keeps_the_rest(root, server, tmp_path):
    with root.child("train", {}) as run:
        server.error = GONE
        for step in range(4):
            run.metrics({"loss": 1.0}, step=step)
        server.error = None

        class Two(list):
            def append(self, call):
                if len(self) == 4:  # open, parameters, and two of the metrics
                    raise GONE
                super().append(call)

        server.calls = Two(server.calls)
        run.metrics({"loss": 1.0}, step=4)
        assert server.of("metrics", "step") == [0, 1]
        server.calls = list(server.calls)
    assert server.of("metrics", "step") == [0, 1, 2, 3, 4]
    assert not list(tmp_path.iterdir())


def test_a_store_that_refuses_is_told_in_one_line(root, server):
    with root.child("train", {}) as run:
        server.error = MlflowException("no such run", error_code=5)
        server.error.error_code = "RESOURCE_DOES_NOT_EXIST"
        with pytest.raises(UserError, match="MLflow cannot keep the metrics of '/train': no such run"):
            run.metrics({"loss": 1.0})
        server.error = None


def test_an_unreachable_store_is_asked_at_intervals_only(root, server, monkeypatch):
    monkeypatch.setattr(patient, "RETRY_S", 60.0)
    with root.child("train", {}) as run:
        server.error = GONE
        run.metrics({"loss": 1.0}, step=0)
        server.error = None
        run.metrics({"loss": 1.0}, step=1)
        assert server.of("metrics", "step") == []
        run.store.close()
        assert server.of("metrics", "step") == [0, 1]


@pytest.mark.parametrize("uri", ["http://me:secret@host:5000", "http://host:5000"])
def test_a_password_is_not_shown(uri):
    assert without_password(uri) == "http://host:5000"
    assert "secret" not in str(kept_file(patient.Path("out"), uri, "me"))
