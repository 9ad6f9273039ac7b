"""What all tests share: one thread of torch each, and one Ray cluster of two CPUs for those that need it."""

import os

import pytest

# Set before anything starts Ray or MLflow.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cluster():
    """Ray on this machine, with two CPUs whatever it has."""
    import ray

    from p2d.cluster import runtime

    runtime.start(cpus=2)
    yield
    ray.shutdown()
