"""How many threads work takes."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import p2d
from p2d.discovery import discover
from p2d.threads import one_thread


def of_algebra() -> set[int]:
    """Threads of the libraries under numpy and scipy."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def several():
    """Two threads of each library."""
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(kept)


def test_algebra_and_torch_have_one_thread_for_a_while(several):
    with one_thread():
        assert of_algebra() == {1} and torch.get_num_threads() == 1
    assert of_algebra() == {2} and torch.get_num_threads() == 2


def test_an_equation_is_looked_for_on_one_thread(several, monkeypatch):
    seen = []
    choose = discover.choose_library
    monkeypatch.setattr(
        discover,
        "choose_library",
        lambda *given: seen.append((of_algebra(), torch.get_num_threads())) or choose(*given),
    )
    with pytest.raises(p2d.UserError):
        p2d.discover(np.random.default_rng(0).random((3, 2, 8, 8)))
    assert seen == [({1}, 1)]
