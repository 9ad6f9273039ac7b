"""Start or join Ray, and share its CPUs out so that nothing waits for a CPU that never comes free."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data

from p2d.errors import UserError

CPUS_OF_A_WORKER = 8  # of a training: threads of one process wait for each other less than processes do
OBJECT_STORE_BYTES = 256 * 2**20  # what passes through it are manifests and small sums


def start(cpus: int | None = None, dashboard: bool = False) -> None:
    """Join the cluster of RAY_ADDRESS (inside a job it is set), or start Ray on this machine; once a process.

    Args:
        cpus: that Ray on this machine believes to have; those it has when None.
        dashboard: start it too, on loopback alone.
    """
    if ray.is_initialized():
        return
    # Ours is the progress on the screen. Ray Data may have been imported, with its own settings, before this.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # One thread each: as many workers as CPUs, and every one would start a thread a CPU.
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}}
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _silent_core():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(runtime_env=environment, **quiet)
            return
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=OBJECT_STORE_BYTES,
            runtime_env=environment,
            **quiet,
        )


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


def cpus() -> int:
    """CPUs of the cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def gpus() -> int:
    """GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def worker_count(wished: int, at_most: int, what: str) -> int:
    """Number of workers: as wished, or (0) one a CPU but no more than there is work for.

    Raises:
        UserError: more than the machine can hold.
    """
    if wished > cpus():
        raise UserError(f"{what} = {wished} is more than the {cpus()} CPUs here can hold; give {cpus()} or fewer, or 0")
    return min(wished or cpus(), max(at_most, 1))


def choose_training_workers(wished: int, at_most: int) -> int:
    """Number of training processes: as wished, or (0) one a GPU, or one for every CPUS_OF_A_WORKER CPUs.

    Raises:
        UserError: more than the machine can hold.
    """
    if not gpus():
        return worker_count(wished or max(1, cpus() // CPUS_OF_A_WORKER), at_most, "workers")
    if wished > gpus():
        raise UserError(f"workers = {wished} is more than the {gpus()} GPUs here; give {gpus()} or fewer, or 0")
    return min(wished or gpus(), max(at_most, 1))


def choose_threads(wished: int, workers: int) -> int:
    """CPU threads of each worker: as wished, or (0) the CPUs shared out.

    Raises:
        UserError: more than there are CPUs.
    """
    if wished * workers > cpus():
        raise UserError(
            f"{workers} workers of {wished} CPUs are more than the {cpus()} CPUs here; "
            "give fewer --workers or --cpus-per-worker"
        )
    return wished or max(1, cpus() // workers)


def cpu_share(workers: int, most: float = 1.0) -> float:
    """CPUs to claim for each worker, `most` if they are there, leaving one (or half of the only one) for Ray's tasks.

    With every CPU claimed, a task that feeds the workers waits for ever.
    """
    return min(most, max(cpus() - 1, 0.5) / workers)


def shared_folder(path: Path) -> Path:
    """An absolute path that workers can use as it is."""
    return Path(os.path.abspath(path.expanduser()))
