"""Tracking with MLflow: one run a pipeline, a child run a stage. A null tracker takes `if tracking` out of the code."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2d.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "p2d"
KEY = "p2d.key"  # tag by which an interrupted run is found again
LARGEST_PARAMETER = 500  # characters that MLflow takes


def store_uri(out: Path) -> str:
    """MLFLOW_TRACKING_URI, or the sqlite database under the output folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.resolve() / 'mlflow.db'}"


@dataclass(frozen=True)
class Run:
    """A run that is being tracked, and of which runs can be children."""

    client: MlflowClient | None = None
    experiment: str = ""
    run_id: str = ""
    key: str = ""

    @contextlib.contextmanager
    def child(self, name: str, parameters: dict[str, Any]) -> Iterator[Run]:
        """A run under this one, FINISHED at the end of the block, FAILED or KILLED when it is left by an exception.

        A run of the same key that was left RUNNING by a killed process is continued.
        """
        if self.client is None:
            yield self
            return
        key = f"{self.key}/{name}"
        from mlflow.exceptions import MlflowException

        try:
            run = Run(self.client, self.experiment, self._find_or_create(key, name), key)
            try:
                run.parameters(parameters)
                yield run
            except BaseException as error:
                # What went wrong must not be hidden by a store that cannot be written for the same reason.
                with contextlib.suppress(MlflowException):
                    self.client.set_tag(run.run_id, "p2d.error", str(error)[:LARGEST_PARAMETER])
                    self.client.set_terminated(
                        run.run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                    )
                raise
            self.client.set_terminated(run.run_id, "FINISHED")
        except MlflowException as error:
            raise UserError(f"MLflow cannot keep the run {name!r}: {str(error).splitlines()[0]}") from error

    def _find_or_create(self, key: str, name: str) -> str:
        assert self.client is not None
        left = self.client.search_runs(
            [self.experiment], filter_string=f"tags.`{KEY}` = '{key}' and attributes.status = 'RUNNING'", max_results=1
        )
        if left:
            return left[0].info.run_id
        tags = {KEY: key, "mlflow.runName": name} | ({"mlflow.parentRunId": self.run_id} if self.run_id else {})
        return self.client.create_run(self.experiment, tags=tags).info.run_id

    def parameters(self, values: dict[str, Any]) -> None:
        """Log parameters; those already logged are kept."""
        if self.client is None:
            return
        from mlflow.entities import Param

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
        self.client.log_batch(self.run_id, metrics=[Metric(k, v, now, step) for k, v in numbers.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, in a folder of its artifacts if one is named."""
        if self.client is not None:
            self.client.log_artifact(self.run_id, str(path), folder)


def open_tracker(out: Path, enabled: bool) -> Run:
    """The root under which runs are tracked; a null one when not enabled.

    Raises:
        UserError: a tracking server that does not answer (names its URI).
    """
    if not enabled:
        return Run()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = store_uri(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return Run(client, experiment.experiment_id)
        # Without a place of their own, artifacts would follow the working directory.
        place = (out.resolve() / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
        return Run(client, client.create_experiment(EXPERIMENT, artifact_location=place))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MLflow does not answer at {uri}: {str(error).splitlines()[0]}; or give --no-tracking"
        ) from error


def serve(out: Path, port: int) -> int:
    """Serve the MLflow page of the store on loopback until it is stopped; prints the address once it answers.

    Returns:
        The server's exit code.

    Raises:
        UserError: there is no store yet, or the port is taken.
    """
    uri = store_uri(out)
    if uri.startswith("sqlite") and not (out / "mlflow.db").is_file():
        raise UserError(f"there are no tracked runs in {out}; p2d run makes some")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"port {port} is taken; give another --port")
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None and not _answers(address):
            time.sleep(0.5)
        if server.poll() is None:
            print(f"MLflow shows the runs of {uri} at {address}   (Ctrl-C ends it)", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False
