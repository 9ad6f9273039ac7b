"""Share the CPUs and GPUs of a cluster out so that nothing waits for a CPU that never comes free."""

from __future__ import annotations

import ray

from p2d.errors import UserError

CPUS_OF_A_WORKER = 8  # of a training: threads of one process wait for each other less than processes do


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
