"""Work shared out over the threads of this process, with the same result for any number of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """What a function gives for each item, in their order, worked out in so many threads; few are in flight.

    Each has one thread of torch: of several threads a convolution has other last digits, and less than their speed.
    """
    with one_torch_thread(), ThreadPoolExecutor(max(1, threads)) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(ahead) > threads:
                    yield ahead.popleft().result()
                ahead.append(pool.submit(function, item))
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """torch has one thread while the block runs."""
    import torch  # on use: the command line must start without it

    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(kept)
