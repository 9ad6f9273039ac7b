"""Tracking with MLflow: one run a pipeline, a child run a stage. A null tracker takes `if tracking` out of the code."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2d import signals
from p2d.errors import UserError
from p2d.places import as_remote
from p2d.progress import say
from p2d.runs import whole
from p2d.systems.kernels import cache_folder
from p2d.tracking import charts, datasets, machine, models, source
from p2d.tracking.patient import PROCESS, Patient, Store, hand_over_left, kept_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from p2d.snapshots.store import Dataset

EXPERIMENT = "p2d"
# Without the query, MLflow's page is that of language models, with the runs among much else.
TABLE = "#/experiments/{}/runs?workflowType=machine_learning"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # or the page asks for it
SERVER = r"(https?|postgresql|mysql|mssql)\b|databricks"  # what a tracking URI of one begins with
LARGEST_PARAMETER = 500  # characters that MLflow takes
DONE = b"done"  # what a process tells its guard at its end


def store_uri(out: Path) -> str:
    """MLFLOW_TRACKING_URI, or the sqlite database under the output folder.

    Raises:
        UserError: the output folder is on an object store, where no database can be, and no server is named.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if as_remote(out) is not None and not re.match(SERVER, named or ""):
        given = f"MLFLOW_TRACKING_URI is {named}" if named else "MLFLOW_TRACKING_URI is not set"
        raise UserError(
            f"runs of {out} are tracked by an MLflow server, and {given}: set it to the server's http:// address, or "
            "give --no-tracking"
        )
    return named or f"sqlite:///{out.resolve() / 'mlflow.db'}"


@dataclass(frozen=True)
class Run:
    """A run that is being tracked, and of which runs can be children."""

    store: Patient | None = None
    run_id: str = ""
    key: str = ""
    samples: machine.Samples | None = field(default=None, compare=False)

    @contextlib.contextmanager
    def child(self, name: str, parameters: dict[str, Any]) -> Iterator[Run]:
        """A run under this one, FINISHED at the end of the block, FAILED or KILLED when it is left by an exception.

        A run of the same key that was interrupted, or left RUNNING by a killed process, is continued. What the machine
        does meanwhile is kept with it.
        """
        run = self.start(name, parameters)
        try:
            if run.store is None:
                yield run
            else:
                with machine.watched() as samples:
                    run = replace(run, samples=samples)
                    yield run
        except BaseException as error:
            # What went wrong must not be hidden by a store that cannot be written for the same reason.
            with contextlib.suppress(UserError, OSError):
                stopped = signals.stopping() or isinstance(error, KeyboardInterrupt)
                run.end("KILLED" if stopped else "FAILED", str(error))
            raise
        run.end()

    def start(self, name: str, parameters: dict[str, Any], key: str = "", retry: bool = False) -> Run:
        """Open a run under this one, or go on with that of the same key if it has not come to its end.

        Args:
            name: that a person reads.
            key: by which it is known under this one; its name when empty.
            retry: go on with one that has come to its end too.

        Raises:
            UserError: the store refuses it.
        """
        if self.store is None:
            return self
        key = f"{self.key}/{key or name}"
        opened = {"key": key, "name": name, "parent": self.run_id, "retry": retry, "tags": source.tags()}
        run_id = self._write(f"the run {name!r}", "open", **opened, at=_now())
        run = Run(self.store, run_id, key)
        run.parameters(parameters)
        return run

    def end(self, status: str = "FINISHED", error: str = "") -> None:
        """Close the run as FINISHED, FAILED or KILLED, with what went wrong."""
        self._write_samples()
        why = "" if status == "FINISHED" else error[:LARGEST_PARAMETER]
        self._write(f"the run of {self.key!r}", "end", run=self.run_id, status=status, error=why, at=_now())

    def parameters(self, values: dict[str, Any]) -> None:
        """Log parameters; those already logged are kept."""
        told = {k: str(v)[:LARGEST_PARAMETER] for k, v in values.items()}
        self._write(f"the parameters of {self.key!r}", "parameters", run=self.run_id, values=told)

    def metrics(self, values: dict[str, Any], step: int = 0) -> None:
        """Log the numbers among these values at a step."""
        numbers = _numbers(values)
        self._write(f"the metrics of {self.key!r}", "metrics", run=self.run_id, values=numbers, step=step, at=_now())
        self._write_samples()

    def _write_samples(self) -> None:
        taken = [self.samples.popleft() for _ in range(len(self.samples))] if self.samples else []
        if taken:
            self._write(f"the system metrics of {self.key!r}", "samples", run=self.run_id, taken=taken)

    def tags(self, values: dict[str, str]) -> None:
        """Tag the run."""
        self._write(f"the tags of {self.key!r}", "tags", run=self.run_id, values=values)

    def dataset(self, dataset: Dataset, context: str = datasets.TRAINING) -> None:
        """Note a dataset as an input of the run, with what it is to it, and tag the run with what it is of."""
        if self.store is None:
            return
        described = datasets.described(dataset)
        with _told():
            self._write(
                f"{described['name']} of {self.key!r}", "dataset", run=self.run_id, described=described, context=context
            )
        self.tags(datasets.tags_of(dataset))

    def model(self, name: str, path: Path, dataset: Dataset, metrics: dict[str, Any], registered: str = "") -> None:
        """Keep a model with the run, as MLflow loads and serves it.

        Args:
            path: checkpoint folder, or equation.json.
            dataset: that it was learnt from.
            metrics: what is known of it; numbers are kept.
            registered: its name in the registry, where it becomes the best one.
        """
        if self.store is None:
            return
        learnt_from = dataset.folder.name, dataset.card.dataset_hash
        model = models.Logged(name, str(path), models.example_of(dataset), _numbers(metrics), learnt_from, registered)
        with _told():
            self._write(f"the model of {self.key!r}", "model", run=self.run_id, model=asdict(model), at=_now())

    def view(self, name: str, shown: dict[str, Any]) -> None:
        """Have MLflow's page show the children of this run so, by a link in its description; where that is, is told."""
        if self.store is None:
            return
        with _told():
            self._write(f"the view {name!r}", "view", run=self.run_id, name=name, shown=shown, at=_now())
            page = charts.PATH.format(self.store.store.experiment, charts.OWN + self.run_id)
            say("  its charts: " + (f"{self.store.uri.rstrip('/')}/{page}" if self.store.is_server else "p2d ui"))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, in a folder of its artifacts if one is named."""
        self._write(f"{path.name} of {self.key!r}", "artifact", run=self.run_id, path=str(path), folder=folder)

    def _write(self, what: str, call: str, **values: Any) -> str:
        """Make a call of the store; one that it refuses is told in one line."""
        if self.store is None:
            return ""
        from mlflow.exceptions import MlflowException

        try:
            return self.store.write(call, **values)
        except MlflowException as error:
            raise UserError(f"MLflow cannot keep {what}: {str(error).splitlines()[0]}") from error


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What an older server cannot keep is told, and does not end the work: it lies under the output folder anyway."""
    try:
        yield
    except UserError as error:
        say(f"warning: {error}")


def _now() -> int:
    return int(time.time() * 1000)


def _be_quiet() -> None:
    """Settings that MLflow reads when it is imported: its troubles are told by exceptions alone."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds; MLflow's 120 would be six minutes of silence
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which belongs to --json


def open_tracker(out: Path, enabled: bool) -> Run:
    """The root under which runs are tracked; a null one when not enabled.

    Raises:
        UserError: a tracking server that does not answer (names its URI).
    """
    if not enabled:
        return Run()
    uri = store_uri(out)
    with _answering(uri, "; or give --no-tracking") as client:
        own = _experiment(client, uri, out)
        store, shown = Store(client, own, _guarded(uri)), without_password(uri)
        if uri.startswith("http"):
            say(f"MLflow: {shown.rstrip('/')}/{TABLE.format(own)}")
        # An object store cannot append, and what others could write would not be safe to hand over.
        kept = out if as_remote(out) is None else cache_folder() / "mlflow"
        kept.mkdir(parents=True, exist_ok=True)
        hand_over_left(store, uri, shown, kept)
    patient = Patient(store, shown, kept_file(kept, uri, store.process))
    atexit.register(patient.close)
    return Run(patient)


def _experiment(client: MlflowClient, uri: str, out: Path) -> str:
    """The id of our experiment, made if need be."""
    known = client.get_experiment_by_name(EXPERIMENT)
    if known:
        return known.experiment_id
    # Without a place of their own, artifacts would follow the working directory.
    place = (out.resolve() / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
    return client.create_experiment(EXPERIMENT, artifact_location=place, tags=KIND)


def without_password(uri: str) -> str:
    """A store's address as it may be shown."""
    scheme, mark, rest = uri.partition("://")
    return scheme + mark + rest.rpartition("@")[2] if mark else uri


@contextlib.contextmanager
def _answering(uri: str, advice: str = "") -> Iterator[MlflowClient]:
    """A client of a store; one that does not answer is told in one line, with advice."""
    _be_quiet()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        _make_tables(uri)
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"MLflow does not answer at {without_password(uri)}: {reason}{advice}") from error


def _make_tables(uri: str) -> None:
    """Make a new sqlite database whole or not at all: one that is left half made is of no use to anybody."""
    from mlflow import MlflowClient

    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and "?" not in uri and not file.exists():
        with whole(file) as temporary:
            MlflowClient(tracking_uri=f"sqlite:///{temporary.resolve()}").search_experiments(max_results=1)


@functools.cache
def _guarded(uri: str) -> str:
    """A name for this process, whose runs are closed by a guard if it is killed and cannot do so itself."""
    process = uuid.uuid4().hex
    command = [sys.executable, "-m", "p2d.tracking.store", uri, process]
    # In a session of its own, so that what kills this process's group leaves it.
    guard = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    atexit.register(_dismiss, guard)
    return process


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        guard.communicate(DONE)


def _guard(uri: str, process: str) -> None:
    """Wait for the end of the process at the other end of standard input; if it was killed, close its runs."""
    if sys.stdin.buffer.read() == DONE:
        return
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return
    left = f"tags.`{PROCESS}` = '{process}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment.experiment_id], filter_string=left, max_results=1000):
        client.set_tag(run.info.run_id, "p2d.error", "the process was killed")
        client.set_terminated(run.info.run_id, "KILLED")


def pages_of(uri: str) -> tuple[str, list[tuple[int, str, str]]]:
    """The id of the experiment of the runs in this store, and its views of sweeps, see charts.py."""
    with _answering(uri) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise UserError(f"there are no tracked runs at {uri}; p2d run makes some")
        return experiment.experiment_id, charts.views(client, experiment.experiment_id)


if __name__ == "__main__":
    _guard(*sys.argv[1:])
