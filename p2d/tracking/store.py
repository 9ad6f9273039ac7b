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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2d.errors import UserError
from p2d.places import as_remote
from p2d.runs import fetched

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "p2d"
KEY = "p2d.key"  # tag by which an interrupted run is found again
PROCESS = "p2d.process"  # tag of the process that a run is open in
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

    client: MlflowClient | None = None
    experiment: str = ""
    run_id: str = ""
    key: str = ""
    process: str = ""

    @contextlib.contextmanager
    def child(self, name: str, parameters: dict[str, Any]) -> Iterator[Run]:
        """A run under this one, FINISHED at the end of the block, FAILED or KILLED when it is left by an exception.

        A run of the same key that was interrupted, or left RUNNING by a killed process, is continued.
        """
        run = self.start(name, parameters)
        try:
            yield run
        except BaseException as error:
            # What went wrong must not be hidden by a store that cannot be written for the same reason.
            with contextlib.suppress(UserError):
                run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", str(error))
            raise
        run.end()

    def start(self, name: str, parameters: dict[str, Any], key: str = "", retry: bool = False) -> Run:
        """Open a run under this one, or go on with that of the same key if it has not come to its end.

        Args:
            name: that a person reads.
            key: by which it is known under this one; its name when empty.
            retry: go on with one that has come to its end too.

        Raises:
            UserError: the store cannot be written.
        """
        if self.client is None:
            return self
        key = f"{self.key}/{key or name}"
        with _telling(f"the run {name!r}"):
            run = Run(self.client, self.experiment, self._find_or_create(key, name, retry), key, self.process)
            run.parameters(parameters)
        return run

    def end(self, status: str = "FINISHED", error: str = "") -> None:
        """Close the run as FINISHED, FAILED or KILLED, with what went wrong."""
        if self.client is None:
            return
        with _telling(f"the run of {self.key!r}"):
            if status != "FINISHED":
                self.client.set_tag(self.run_id, "p2d.error", error[:LARGEST_PARAMETER])
            self.client.set_terminated(self.run_id, status)

    def _find_or_create(self, key: str, name: str, retry: bool) -> str:
        assert self.client is not None
        newest = self.client.search_runs([self.experiment], filter_string=f"tags.`{KEY}` = '{key}'", max_results=1)
        if newest and (retry or newest[0].info.status in ("RUNNING", "KILLED")):
            run_id = newest[0].info.run_id
            self.client.set_tag(run_id, PROCESS, self.process)
            self.client.update_run(run_id, status="RUNNING")
            return run_id
        tags = {KEY: key, PROCESS: self.process, "mlflow.runName": name}
        tags |= {"mlflow.parentRunId": self.run_id} if self.run_id else {}
        return self.client.create_run(self.experiment, tags=tags).info.run_id

    def parameters(self, values: dict[str, Any]) -> None:
        """Log parameters; those already logged are kept."""
        if self.client is None:
            return
        from mlflow.entities import Param

        with _telling(f"the parameters of {self.key!r}"):
            there = self.client.get_run(self.run_id).data.params
            new = [Param(k, str(v)[:LARGEST_PARAMETER]) for k, v in values.items() if k not in there]
            self.client.log_batch(self.run_id, params=new)

    def metrics(self, values: dict[str, Any], step: int = 0) -> None:
        """Log the numbers among these values at a step."""
        if self.client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        with _telling(f"the metrics of {self.key!r}"):
            self.client.log_batch(self.run_id, metrics=[Metric(k, v, now, step) for k, v in numbers.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, in a folder of its artifacts if one is named."""
        if self.client is None:
            return
        with _telling(f"{path.name} of {self.key!r}"), fetched(path) as local:
            self.client.log_artifact(self.run_id, str(local), folder)


def _be_quiet() -> None:
    """Settings that MLflow reads when it is imported: its troubles are told by exceptions alone."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")


def open_tracker(out: Path, enabled: bool) -> Run:
    """The root under which runs are tracked; a null one when not enabled.

    Raises:
        UserError: a tracking server that does not answer (names its URI).
    """
    if not enabled:
        return Run()
    uri = store_uri(out)
    with _answering(uri, "; or give --no-tracking") as client:
        out.mkdir(parents=True, exist_ok=True)
        known = client.get_experiment_by_name(EXPERIMENT)
        # Without a place of their own, artifacts would follow the working directory.
        place = (out.resolve() / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
        own = known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=place)
        return Run(client, own, process=_guarded(uri))


@contextlib.contextmanager
def _answering(uri: str, advice: str = "") -> Iterator[MlflowClient]:
    """A client of a store; one that does not answer is told in one line, with advice."""
    _be_quiet()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow does not answer at {uri}: {str(error).splitlines()[0]}{advice}") from error


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Tell a store that cannot be written in one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise UserError(f"MLflow cannot keep {what}: {str(error).splitlines()[0]}") from error


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


def experiment_id(uri: str) -> str:
    """The id of the experiment of the runs in this store."""
    with _answering(uri) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise UserError(f"there are no tracked runs at {uri}; p2d run makes some")
    return experiment.experiment_id


if __name__ == "__main__":
    _guard(*sys.argv[1:])
