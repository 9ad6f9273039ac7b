"""A function of many items, worked out over the cluster by Ray tasks: results in order, few of them in flight.

Tasks and not Ray Data, as such passes are many and short: a worker that has served one pass serves the next, with what
it has imported and opened, where each execution of Ray Data starts its actors anew (seconds).
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ray

from p2d.cluster import placement, runtime
from p2d.errors import UserError
from p2d.threads import Mapper, each_on_one_thread, torch_threads

AHEAD = 2  # tasks a CPU: one is done while the next one's item travels
_function: dict[str, Any] = {}  # of the last pass that this worker process has served, by the pass's name


def choose_mapper(workers: int, folder: Path | None = None) -> Mapper:
    """A map over workers: tasks of the cluster where there is one or several workers are asked for, else threads here.

    Args:
        workers: 0 for as many as there are CPUs.
        folder: of a result, whose output folder all nodes of a cluster must see.

    Raises:
        UserError: a node does not, or no cluster answers.
    """
    if workers > 1 or (workers == 0 and os.environ.get("RAY_ADDRESS")):
        runtime.start()
        if folder is not None:
            runtime.refuse_unshared(folder)
        return over_tasks(workers)
    return lambda function, items: each_on_one_thread(function, items, workers or os.cpu_count() or 1)


def over_tasks(workers: int = 0) -> Mapper:
    """A map over tasks of one CPU each, so many at once, in a Ray that has been started; a single item is done here.

    Raises:
        UserError: what a task has met, or more workers than the cluster can hold.
    """
    count = placement.worker_count(workers, placement.cpus(), "workers")

    def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        items = iter(items)
        first = list(itertools.islice(items, 2))
        if len(first) < 2:
            yield from each_on_one_thread(function, first, 1)
            return
        name, shared = uuid.uuid4().hex, ray.put(function)
        task = ray.remote(num_cpus=1)(_call)
        ahead: deque[Any] = deque()
        for item in itertools.chain(first, items):
            if len(ahead) >= (count if workers else AHEAD * count):
                yield _result(ahead.popleft())
            ahead.append(task.remote(name, [shared], item))
        while ahead:
            yield _result(ahead.popleft())

    return each


def _call(name: str, shared: list[Any], item: Any) -> tuple[Any, str | None]:
    """In a worker: the result for an item and the user's mistake, one of which is None."""
    if name not in _function:
        _function.clear()
        _function[name] = ray.get(shared[0])
    try:
        with torch_threads(1):
            return _function[name](item), None
    except UserError as error:
        return None, str(error)


def _result(reference: Any) -> Any:
    result, mistake = ray.get(reference)
    if mistake is not None:
        raise UserError(mistake)
    return result
