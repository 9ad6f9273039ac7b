"""Start or join Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data

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
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets any busy process slow a run down tenfold
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


def shared_folder(path: Path) -> Path:
    """An absolute path that workers can use as it is."""
    return Path(os.path.abspath(path.expanduser()))
