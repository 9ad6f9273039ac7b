"""Tracking with MLflow: one run a pipeline, a child run a stage. A null tracker takes `if tracking` out of the code."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

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


def serve(out: Path, port: int) -> None:
    """Serve the MLflow page of the store on loopback until it is stopped; prints the address of the table of runs.

    A tracking server, named by MLFLOW_TRACKING_URI, has a page already: its address is printed, and that is all.

    Raises:
        UserError: there are no runs yet, the store does not answer, the port is taken, or the server ends by itself.
    """
    uri = store_uri(out)
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not file.is_file():  # MLflow would make an empty one
        raise UserError(f"there are no tracked runs in {file.parent}; p2d run makes some")
    # Without the query, MLflow's page is that of language models, with the runs among much else.
    table = f"#/experiments/{_experiment(uri)}/runs?workflowType=machine_learning"
    if uri.startswith(("http://", "https://")):
        print(f"MLflow shows the runs at {uri.rstrip('/')}/{table}")
        return
    _check_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # What MLflow runs beside the page, judges of language models, would be three more processes.
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://127.0.0.1:{port}"
    answered = False
    with tempfile.TemporaryFile() as told, _signals_to_end() as received:
        # MLflow's command is the parent of the server: in a session of their own both are reached, and by us alone.
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=told, start_new_session=True
        )
        try:
            while server.poll() is None and not received:
                if not answered and (answered := _answers(address)):
                    print(f"MLflow shows the runs of {uri} at {address}/{table}   (Ctrl-C ends it)", flush=True)
                time.sleep(0.2)
        finally:
            _end(server)
        if not received:
            raise UserError(f"the MLflow server ended by itself: {_last_line(told)}")


def _check_free(port: int) -> None:
    if not 0 < port < 65536:
        raise UserError(f"port = {port} is not possible: 1 to 65535 are ports")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or one that has just been left is not free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"port {port} is not free ({error.strerror}); give another --port") from error


def _experiment(uri: str) -> str:
    """The id of the experiment of the runs in this store."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow does not answer at {uri}: {str(error).splitlines()[0]}") from error
    if experiment is None:
        raise UserError(f"there are no tracked runs at {uri}; p2d run makes some")
    return experiment.experiment_id


@contextlib.contextmanager
def _signals_to_end() -> Iterator[list[int]]:
    """The signals to end that have come since; raised as exceptions, one could leave a server that is being started."""
    received: list[int] = []
    endings = [
        ending
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(ending) is not signal.SIG_IGN  # as nohup has it
    ]
    before = {ending: signal.signal(ending, lambda number, _: received.append(number)) for ending in endings}
    try:
        yield received
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a session of processes: politely, and after five seconds by force."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _answers(address: str) -> bool:
    loopback = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine itself
    try:
        with loopback.open(f"{address}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def _last_line(told: IO[bytes]) -> str:
    """The last that a server told of before it ended, without its notes of ending in good order."""
    told.seek(0)
    lines = [line.strip() for line in told.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line and " INFO" not in line), "it did not say why")
