"""Share the CPUs and GPUs of a cluster out, by its nodes, so that nothing waits for a CPU that never comes free."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ray
from ray._private.state import available_resources_per_node, state
from ray.autoscaler.sdk import request_resources

from p2d.errors import UserError
from p2d.progress import say

CPUS_OF_A_WORKER = 8  # of a training: threads of one process wait for each other less than processes do
SETTLE_S = 3.0  # in which what an earlier stage has claimed comes free
GROW_TIMEOUT_S = 900.0  # of an autoscaler: machines are rented, and their images loaded


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of a node that are free."""

    cpus: float
    gpus: int = 0


@dataclass(frozen=True)
class Machines:
    """The nodes of a cluster that take work, and the CPUs and GPUs that its autoscaler may bring it to (0: none)."""

    nodes: tuple[Node, ...]
    most_cpus: float = 0
    most_gpus: float = 0

    @property
    def kind(self) -> str:
        """'GPUs' where there are some, otherwise 'CPUs'."""
        return "GPUs" if any(node.gpus for node in self.nodes) or self.most_gpus else "CPUs"

    def slots(self, threads: int = 1) -> tuple[int, ...]:
        """How many processes each node holds: one a GPU, or one for so many CPUs, one at least where it has any."""
        if self.kind == "GPUs":
            return tuple(node.gpus for node in self.nodes)
        if threads <= 1:
            return tuple(max(1, int(node.cpus)) if node.cpus else 0 for node in self.nodes)
        return tuple(int(node.cpus) // threads for node in self.nodes)

    def counts(self, processes: int, threads: int = 1) -> tuple[int, ...]:
        """Processes of each node: with GPUs node after node, the fullest first; without, where most CPUs are left."""
        slots, counts = self.slots(threads), [0] * len(self.nodes)
        for _ in range(processes):
            free = [i for i, slot in enumerate(slots) if counts[i] < slot]
            if self.kind == "GPUs":
                chosen = max(free, key=lambda i: (counts[i] > 0, slots[i]))
            else:
                chosen = max(free, key=lambda i: self.nodes[i].cpus / (counts[i] + 1))
            counts[chosen] += 1
        return tuple(counts)

    def share(self, processes: int, threads: int = 0) -> tuple[int, float]:
        """Threads of each of so many processes, as wished or (0) the CPUs of its node shared out, and CPUs to claim.

        A node's processes leave one of its CPUs (or half of what it has) for Ray's tasks: with every CPU claimed, a
        task that feeds the workers waits for ever.
        """
        counts = self.counts(processes, threads)
        used = [(node, count) for node, count in zip(self.nodes, counts, strict=True) if count]
        each = threads or max(1, min(int(node.cpus) // count for node, count in used))
        return each, min([float(each), *(max(node.cpus - 1, node.cpus / 2) / count for node, count in used)])


@dataclass(frozen=True)
class Placing:
    """How a training is placed: at least and at most so many workers, each of these threads, and what each claims."""

    least: int
    workers: int
    threads: int
    cpus: float
    gpus: int
    strategy: str


def choose_training(
    machines: Machines, least: int, most: int, threads: int, batch: int, beside: int = 1
) -> tuple[Placing, str]:
    """The workers of a training: as wished, or (0) one a GPU, or one for every CPUS_OF_A_WORKER CPUs of a node.

    Args:
        least: workers that do; as many as `most` of a training whose number is fixed, 0 for any.
        most: workers; 0 for what there is.
        threads: of each worker; 0 for its share of the node.
        batch: snapshots of a global batch, of which each worker needs one.
        beside: trainings of this kind at a time.

    Returns:
        The placing, and a line for the user, '' where there is nothing to say.

    Raises:
        UserError: more than there is, or than there are snapshots in a batch.
    """
    kind, slots = machines.kind, machines.slots(threads)
    if max(least, most) > batch:
        raise UserError(f"workers = {most} is more than the {batch} snapshots of a batch; give {batch} or fewer")
    if max(least, 1) > sum(slots):
        raise UserError(_too_many(machines, max(least, 1), threads))
    useful, unused = sum(slots), ""
    if kind == "CPUs":
        useful = sum(
            min(slot, max(1, int(node.cpus) // CPUS_OF_A_WORKER))
            for slot, node in zip(slots, machines.nodes, strict=True)
        )
    elif not most and batch < useful:
        unused = f"{batch} of {useful} GPUs train, as a batch has {batch} snapshots; a larger --batch-size takes more"
    workers = most or min(useful, batch)
    each, cpus = machines.share(min(workers * beside, sum(slots)), threads)
    # Where no number is asked for, a training on several nodes goes on with those that are left when one dies.
    fewest = least if most else 1 if len(machines.nodes) > 1 else workers
    strategy = "PACK" if kind == "GPUs" else "SPREAD"
    return Placing(fewest, workers, each, cpus, int(kind == "GPUs"), strategy), unused


def _too_many(machines: Machines, workers: int, threads: int) -> str:
    total = sum(machines.slots())
    if machines.kind == "CPUs" and threads > 1 and workers <= total:
        nodes = ", ".join(f"{node.cpus:g}" for node in machines.nodes)
        return (
            f"{workers} workers of {threads} CPUs are more than the nodes here hold, of {nodes} CPUs; "
            "give fewer --workers or --cpus-per-worker"
        )
    here = f"{total} {machines.kind if total > 1 else machines.kind[:-1]} here can hold"
    return f"workers = {workers} is more than the {here}; give {total} or fewer, or 0"


def machines(settle_s: float = SETTLE_S) -> Machines:
    """What of Ray's cluster is free, or all of it where nothing is, as its work may end.

    Args:
        settle_s: seconds in which what an earlier stage has claimed may come free; 0: all, free or not.
    """
    until, limits = time.monotonic() + settle_s, state.get_max_resources_from_cluster_config() or {}
    while True:
        total = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        free = {name: available_resources_per_node().get(name, {}) for name in total} if settle_s else total
        busy = any(free[name].get(kind, 0) < total[name].get(kind, 0) for name in total for kind in ("CPU", "GPU"))
        if not busy or time.monotonic() >= until:
            break
        time.sleep(0.2)
    idle, everything = (_nodes(resources.values()) for resources in (free, total))
    has_gpus = any(node.gpus for node in everything)
    enough = any(node.gpus for node in idle) if has_gpus else idle
    return Machines(idle if enough else everything, limits.get("CPU", 0), limits.get("GPU", 0))


def _nodes(resources: Iterable[dict[str, float]]) -> tuple[Node, ...]:
    """Those of these nodes that take work; of less than a CPU only where there are no others."""
    nodes = tuple(Node(own.get("CPU", 0.0), int(own.get("GPU", 0))) for own in resources)
    return tuple(n for n in nodes if n.cpus >= 1 or n.gpus) or tuple(n for n in nodes if n.cpus)


def grown(now: Machines, workers: int, threads: int, look: Callable[[], Machines] = machines) -> Machines:
    """The machines once an autoscaler has brought them to hold so many workers; those of now where it need not.

    Raises:
        UserError: it has not in GROW_TIMEOUT_S.
    """
    limit = now.most_gpus if now.kind == "GPUs" else now.most_cpus // max(1, threads)
    if workers <= sum(now.slots(threads)) or limit < workers:
        return now
    each = {"CPU": max(1, threads)} | ({"GPU": 1} if now.kind == "GPUs" else {})
    say(f"asks the cluster for {workers} workers, where {sum(now.slots(threads))} fit, and waits for it to grow")
    request_resources(bundles=[each] * workers)
    until = time.monotonic() + GROW_TIMEOUT_S
    try:
        while time.monotonic() < until:
            if sum((now := look()).slots(threads)) >= workers:
                return now
            time.sleep(2.0)
    finally:
        request_resources(bundles=[])  # what trains keeps its nodes by itself
    raise UserError(f"the cluster has not grown to {workers} workers in {GROW_TIMEOUT_S:.0f} s; give fewer --workers")


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


def cpu_share(workers: int, most: float = 1.0) -> float:
    """CPUs to claim for each worker, `most` if they are there, leaving one (or half of the only one) for Ray's tasks.

    With every CPU claimed, a task that feeds the workers waits for ever.
    """
    return min(most, max(cpus() - 1, 0.5) / workers)
