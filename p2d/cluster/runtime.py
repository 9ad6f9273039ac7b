"""Start or join Ray."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import ray
import ray.data
from ray._private import services, utils, worker
from ray._private.grpc_utils import init_grpc_channel
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from p2d import log, signals
from p2d.errors import UserError
from p2d.places import as_remote, place
from p2d.progress import say
from p2d.runs import output_folder, whole

OBJECT_STORE_BYTES = 256 * 2**20  # what passes through it are manifests and small sums
ANSWER_TIMEOUT_S = 3.0  # of a cluster's head to a first call
CHECK_TIMEOUT_S = 60.0  # of all nodes to a task that looks for a file
resources: dict[str, int] = {}  # nodes, CPUs and GPUs of the cluster when this process joined it
has_dashboard = True  # unless this process has started Ray without


def start(cpus: int | None = None, dashboard: bool = False) -> None:
    """Join the cluster of RAY_ADDRESS (inside a job it is set), or start Ray on this machine; once a process.

    Args:
        cpus: that Ray on this machine believes to have; those it has when None.
        dashboard: start it too, on loopback alone.

    Raises:
        UserError: no Ray answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        return
    # Ours is the progress on the screen. Ray Data may have been imported, with its own settings, before this.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # One thread each: as many workers as CPUs, and every one would start a thread a CPU.
    settings: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}},
    }
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets any busy process slow a run down tenfold
    settings["address"] = answering_address()
    if settings["address"] == "local":
        settings |= {
            "num_cpus": cpus,
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    with _silent_core(), _own_handlers():
        try:
            context = ray.init(**settings)
        except ConnectionError as error:
            raise UserError(f"cannot join the Ray of RAY_ADDRESS = {settings['address']}: {_cause(error)}") from error
    log.take_over("ray", "ray.data", "ray.train", "ray.tune")
    totals = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    resources.update(nodes=nodes, cpus=int(totals.get("CPU", 0)), gpus=int(totals.get("GPU", 0)))
    global has_dashboard
    has_dashboard = settings.get("include_dashboard", True)
    if url := getattr(context, "dashboard_url", None):
        say(f"Ray's dashboard: http://{url}")


def answering_address() -> str:
    """The cluster of RAY_ADDRESS, whose head has answered, as ray.init takes it; 'local' where none is given.

    Raises:
        UserError: nothing answers there, or something else than Ray; Ray itself would wait for minutes.
    """
    given = os.environ.get("RAY_ADDRESS") or "local"
    if given == "local":
        return given
    address = given.removeprefix("ray://")
    if given == "auto":
        try:
            address = services.canonicalize_bootstrap_address_or_die(given)
        except ConnectionError as error:
            raise UserError("RAY_ADDRESS = auto, but no Ray runs here; unset it, or give HOST:PORT") from error
    host, _, port = address.rpartition(":")
    if "/" in address or not (host and port.isdigit()):
        raise UserError(f"RAY_ADDRESS = {given} is not possible: it must be HOST:PORT, ray://HOST:PORT, auto or local")
    channel = None
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_TIMEOUT_S).close()
        channel = init_grpc_channel(address)
        grpc.channel_ready_future(channel).result(ANSWER_TIMEOUT_S)
    except (OSError, grpc.FutureTimeoutError) as error:
        raise UserError(f"no Ray answers at RAY_ADDRESS = {_told(given, address)}; start it, or unset it") from error
    finally:
        if channel:
            channel.close()
    return given if given.startswith("ray://") else address


def _told(given: str, address: str) -> str:
    return given if given.endswith(address) else f"{given} ({address})"


def _cause(error: BaseException) -> str:
    """Why Ray could not be joined, in a line: its exceptions hold the tracebacks of those before."""
    if "Token" in str(error.__cause__):
        return "it asks for a token; give RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH if it is not the usual one"
    return str(error).strip().splitlines()[-1]


@contextmanager
def _silent_core() -> Iterator[None]:
    """No standard error while Ray starts: its C++ core tells its log level there, past Python's logging."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep our handlers of signals while Ray starts.

    Its Python sets one of SIGTERM that ends with another exit code, and its C++ core, as it connects, one that prints a
    stack and aborts; a signal waits until ours is back.
    """
    if not signals.are_handled():
        yield
        return
    connect, set_handler = worker.connect, utils.set_sigterm_handler

    def connect_blocked(*values: Any, **options: Any) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.GRACE)
        try:
            connect(*values, **options)
        finally:
            signals.restore()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.GRACE)

    worker.connect, utils.set_sigterm_handler = connect_blocked, lambda handler: None
    try:
        yield
    finally:
        worker.connect, utils.set_sigterm_handler = connect, set_handler


def shared_folder(path: Path) -> Path:
    """An absolute path that workers can use as it is."""
    return path if as_remote(path) is not None else Path(os.path.abspath(path.expanduser()))


def refuse_unshared(where: Path) -> None:
    """Refuse an output folder that a node of the cluster does not see; once, and at no cost on a single node.

    Args:
        where: of a result.

    Raises:
        UserError: names the node and the folder.
    """
    _refuse_unshared(output_folder(shared_folder(where)))


@functools.cache
def _refuse_unshared(folder: Path) -> None:
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if _works(node)}
    if len(nodes) > 1:
        check_shared(folder, nodes, _nodes_that_see)


def _works(node: dict[str, Any]) -> bool:
    """Whether a node is alive and takes work; a head without CPUs, as on Kubernetes, takes none."""
    return node["Alive"] and any(node["Resources"].get(kind, 0) for kind in ("CPU", "GPU"))


def check_shared(folder: Path, nodes: dict[str, str], seen_by: Callable[[Path, list[str]], list[str]]) -> None:
    """Hold a fresh file in a folder against what nodes see.

    Args:
        nodes: their addresses by their ids.
        seen_by: of these ids, those of the nodes that see a file.

    Raises:
        UserError: the first node that does not.
    """
    marker = folder / f".seen-{uuid.uuid4().hex}"
    try:
        with whole(marker) as empty:
            empty.touch()
        seeing = seen_by(marker, list(nodes))
    finally:
        marker.unlink(missing_ok=True)
    for node, address in nodes.items():
        if node not in seeing:
            raise UserError(f"--out must be a folder that all nodes see: node {address} does not see {folder}")


def _sees(file: str) -> bool:
    """Whether this machine sees a file; an object store that refuses it shows none."""
    try:
        return place(file).exists()
    except OSError:
        return False


def _nodes_that_see(marker: Path, nodes: list[str]) -> list[str]:
    see = ray.remote(num_cpus=0, max_retries=0)(_sees)
    tasks = {
        see.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(str(marker)): node
        for node in nodes
    }
    done, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=CHECK_TIMEOUT_S)
    seeing = []
    for task in done:
        try:
            if ray.get(task):
                seeing.append(tasks[task])
        except ray.exceptions.RayError:  # the node has gone since: it takes no work either
            seeing.append(tasks[task])
    return seeing
