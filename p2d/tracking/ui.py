"""The MLflow page of the tracked runs and the report pages, on this machine's loopback alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from p2d.errors import UserError
from p2d.places import as_remote
from p2d.tracking import charts, pages
from p2d.tracking.store import TABLE, pages_of, store_uri, without_password

PAUSE_S = 0.2
LISTED = 5  # sweeps whose address is printed, at most
DESKTOPS = ("DISPLAY", "WAYLAND_DISPLAY")  # without one, a browser would be one of text


@dataclass
class Addresses:
    """Where the pages are: of MLflow's table of runs, of the charts of its newest sweeps, and of the reports."""

    mlflow: str = ""
    sweeps: dict[str, str] = field(default_factory=dict)
    report: str = ""


def serve(out: Path, port: int, as_json: bool = False, browser: bool = True) -> None:
    """Serve the pages of an output folder on loopback until it is stopped; prints their addresses.

    These are MLflow's page of the store, and the report pages, at the next port. A tracking server, named by
    MLFLOW_TRACKING_URI, has a page already: then its address is printed, and only the reports are served.

    Args:
        as_json: print the addresses as one JSON object.
        browser: open the report, or MLflow's page, in the browser of the desktop, if there is one.

    Raises:
        UserError: there are neither runs nor reports yet, the store does not answer, the port is taken, or the server
            ends by itself.
    """
    uri = store_uri(out)
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    has_reports = as_remote(out) is None and bool(pages.names(out))
    has_runs = not uri.startswith("sqlite:///") or file.is_file()  # MLflow would make an empty one
    if not has_runs and not has_reports:
        raise UserError(f"there are no tracked runs in {file.parent}; p2d run makes some")
    is_remote = uri.startswith(("http://", "https://"))
    own = f"http://127.0.0.1:{port}"
    server = without_password(uri).rstrip("/") if is_remote else own
    addresses = _of_store(uri, server) if has_runs else Addresses()
    if has_runs and not is_remote:
        _check_free(port)

    def tell() -> None:
        """Of MLflow's page, when it answers."""
        if as_json:
            print(json.dumps(asdict(addresses)), flush=True)
        elif has_runs:
            print(f"MLflow shows the runs at {addresses.mlflow}   (Ctrl-C ends it)", flush=True)
            print("".join(f"  {name}: {address}\n" for name, address in addresses.sweeps.items()), end="", flush=True)
        if not has_reports:
            show(addresses.mlflow)

    def show(address: str) -> None:
        if browser and sys.stdout.isatty() and (sys.platform == "darwin" or any(map(os.environ.get, DESKTOPS))):
            webbrowser.open(address)

    with contextlib.ExitStack() as stack:
        if has_reports:
            addresses.report = stack.enter_context(pages.served(out, port + 1))
            if not as_json:
                print(f"the report is at {addresses.report}", flush=True)
            show(addresses.report)
        if has_runs and not is_remote:
            _serve_store(uri, own, tell)
        else:
            tell()
            if has_reports:
                received = stack.enter_context(_signals_to_end())
                while not received:
                    time.sleep(PAUSE_S)


def _of_store(uri: str, server: str) -> Addresses:
    """The addresses of a store's pages."""
    experiment, views = pages_of(uri)
    sweeps = {name: f"{server}/{charts.PATH.format(experiment, key)}" for _, key, name in views[:LISTED]}
    return Addresses(f"{server}/{TABLE.format(experiment)}", sweeps)


def _serve_store(uri: str, address: str, tell: Callable[[], None]) -> None:
    """MLflow's own server, until it is stopped.

    Args:
        tell: called when it answers.
    """
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    # What MLflow runs beside the page, judges of language models, would be three more processes.
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    answered = False
    with tempfile.TemporaryFile() as told, _signals_to_end() as received:
        # MLflow's command is the parent of the server: in a session of their own both are reached, and by us alone.
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=told, start_new_session=True
        )
        try:
            while server.poll() is None and not received:
                if not answered and (answered := _answers(address)):
                    tell()
                time.sleep(PAUSE_S)
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
