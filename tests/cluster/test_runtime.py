"""Which Ray is joined, and whether its nodes see the output folder: refused in one line, before work starts."""

import socket
import time

import pytest

from p2d.cluster import runtime
from p2d.errors import UserError

NODES = {"a1": "10.0.0.1", "b2": "10.0.0.2"}


@pytest.fixture
def address(monkeypatch):
    """A port where something listens that is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("listening", [True, False], ids=["no Ray", "nothing"])
def test_a_cluster_that_does_not_answer_is_told_in_seconds(monkeypatch, address, scheme, listening):
    assert runtime.ANSWER_TIMEOUT_S < 5
    monkeypatch.setattr(runtime, "ANSWER_TIMEOUT_S", 0.5)
    given = scheme + (address if listening else "127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", given)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray answers at RAY_ADDRESS = {given}; "):
        runtime.answering_address()  # which start asks, in a process that has no Ray yet
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("given", ["http://127.0.0.1:8265", "somewhere", "host:port"])
def test_what_is_no_address_is_told(monkeypatch, given):
    monkeypatch.setenv("RAY_ADDRESS", given)
    with pytest.raises(UserError, match=f"RAY_ADDRESS = {given} is not possible: it must be HOST:PORT"):
        runtime.answering_address()


def test_without_an_address_ray_starts_here(monkeypatch):
    for given in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", given)
        assert runtime.answering_address() == "local"


def test_a_folder_that_a_node_does_not_see_is_refused(tmp_path):
    out = tmp_path / "runs"
    with pytest.raises(UserError) as caught:
        runtime.check_shared(out, NODES, lambda marker, nodes: nodes[:1])
    assert str(caught.value) == f"--out must be a folder that all nodes see: node 10.0.0.2 does not see {out}"
    assert list(out.iterdir()) == []


def test_a_folder_that_all_nodes_see_passes(tmp_path):
    runtime.check_shared(tmp_path, NODES, lambda marker, nodes: nodes if marker.exists() else [])
    assert list(tmp_path.iterdir()) == []
