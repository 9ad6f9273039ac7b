"""The MLflow page of the tracked runs, on this machine's loopback alone."""

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
from pathlib import Path
from typing import IO

from p2d.errors import UserError
from p2d.tracking.store import TABLE, experiment_id, store_uri, without_password


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
    table = TABLE.format(experiment_id(uri))
    if uri.startswith(("http://", "https://")):
        print(f"MLflow shows the runs at {without_password(uri).rstrip('/')}/{table}")
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
