"""Work shared out over the threads of this process."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # map, or one over workers, in order


def in_threads(task: Callable[[Item], Result], items: Iterable[Item], threads: int = 0) -> Iterator[Result]:
    """What a task makes of each item, in their order; a few are under way at a time, in threads.

    Args:
        threads: 0 for two a CPU, for reading, decoding and hashing, which run without Python's lock.
    """
    threads = threads or 2 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[Result]] = deque()
        for item in items:
            under_way.append(pool.submit(task, item))
            if len(under_way) >= 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def each_on_one_thread(task: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """The same in so many threads, each with one thread of torch, so that their number changes nothing.

    Of several threads a convolution has other last digits, and less than their speed.
    """
    with torch_threads(1):
        yield from in_threads(task, items, threads)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch has so many threads while the block runs."""
    import torch  # on use: the command line must start without it

    kept = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(kept)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch, and the algebra of numpy and scipy, have one thread while the block runs.

    On small arrays several wait for each other, and beside other work on the machine many times as long.
    """
    from threadpoolctl import threadpool_limits  # on use, as torch

    with torch_threads(1), threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def single_threaded(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, which algebra libraries are told by the environment before they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
