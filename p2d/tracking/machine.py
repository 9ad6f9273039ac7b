"""What the machine does while a run is open, as MLflow's system metrics: one thread samples, and writes nothing.

The samples are written by whoever writes the run's other numbers, so that no thread speaks to a store, and none is
written of a run that has ended. On a cluster they are those of the machine of the command.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

PREFIX = "system/"  # MLflow shows what is called so on a page of its own
SECONDS = 10.0  # between two samples
PAUSE = 0.2  # seconds after which a thread that nobody needs is gone
Sample = tuple[int, dict[str, float]]  # milliseconds since 1970, and numbers by name
Samples = deque[Sample]


@contextlib.contextmanager
def watched() -> Iterator[Samples]:
    """Samples of this machine that come in while the block runs, the last at its end: to be taken off as written."""
    samples: Samples = deque()
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in ("false", "0"):
        yield samples
        return
    _sampler.add(samples)
    try:
        yield samples
    finally:
        _sampler.remove(samples)


class _Sampler:
    """One thread for all runs that are open; it ends when there are none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.watching: list[Samples] = []
        self.monitors: list[Any] = []
        self.running = False

    def add(self, samples: Samples) -> None:
        """Begin to hand samples to one more."""
        with self.lock:
            self.monitors = self.monitors or _monitors()
            self.watching.append(samples)
            if not self.running:
                self.running = True
                threading.Thread(target=self.run, daemon=True, name="system metrics").start()

    def remove(self, samples: Samples) -> None:
        """Hand it a last one, and no more."""
        with self.lock:
            self.watching = [other for other in self.watching if other is not samples]
            samples.append(_taken(self.monitors))

    def run(self) -> None:
        """Sample at intervals, MLflow's own setting, until nobody watches."""
        seconds = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or SECONDS)
        due = time.monotonic() + seconds
        while True:
            time.sleep(min(seconds, PAUSE))
            with self.lock:
                self.running = bool(self.watching)
                if not self.running:
                    return
                if time.monotonic() >= due:
                    due += seconds
                    taken = _taken(self.monitors)
                    for samples in self.watching:
                        samples.append(taken)


_sampler = _Sampler()


def _monitors() -> list[Any]:
    """MLflow's own monitors: of processors and memory, disks, the network, and of GPUs where nvidia-ml-py is there."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):  # there is no GPU, or nothing to ask it by
        monitors.append(GPUMonitor())
    return monitors


def _taken(monitors: list[Any]) -> Sample:
    numbers = {}
    for monitor in monitors:
        with contextlib.suppress(Exception):  # a number less is no reason to end a run
            monitor.collect_metrics()
            numbers.update(monitor.aggregate_metrics())
        monitor.clear_metrics()
    return int(time.time() * 1000), {PREFIX + name: float(value) for name, value in numbers.items()}
