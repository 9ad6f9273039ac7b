"""What all tests share: one thread of torch each, one Ray cluster of two CPUs, and one S3 server, for those in need.

The tests run in two processes or more. All files that start Ray run in the first, and share its cluster; of the others
each runs in one process, so that what its tests share is made once.
"""

import functools
import importlib
import itertools
import logging
import os
import re
import sys
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

# Set before anything starts Ray or MLflow.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a process a CPU already; set before numpy is imported
# And of the S3 server, which takes any.
os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "not-to-be-shown", "AWS_REGION": "us-east-1"}


ROOT = Path(__file__).parent.parent
PROCESSES = 4  # at most: each of them imports torch


def pytest_xdist_auto_num_workers(config):
    """One process a CPU, two to four; this one alone for some files or tests, which importing twice would hold up."""
    if any("::" in argument or Path(argument).is_file() for argument in config.args):
        return 0
    return min(max(os.cpu_count() or 1, 2), PROCESSES)


def pytest_xdist_make_scheduler(config, log):
    return RayOrFile(config, log)


@functools.cache
def group_of(file):
    """What runs in one process, one after the other: all files that start Ray, some that share fixtures, or a file.

    Read off the text, as xdist does not see marks where pytest makes names of tests by itself.
    """
    text = (ROOT / file).read_text()
    if re.search(r"\bmark\.ray\b|\bcluster\b[,)]", text):
        return "ray"
    named = re.search(r"\bmark\.xdist_group\(\"(\w+)\"\)", text)
    return named[1] if named else file


class RayOrFile(LoadScopeScheduling):
    """Hands out groups of files."""

    def _split_scope(self, nodeid):
        return group_of(nodeid.partition("::")[0])


def starts_ray(item):
    return "cluster" in item.fixturenames or item.get_closest_marker("ray") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What starts Ray is slow and comes first, as it takes longest; then files with other slow tests."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (group_of(item.path.relative_to(ROOT)) != "ray", item.path not in slow))
    for item in items:
        if starts_ray(item):
            item.add_marker(pytest.mark.ray)
            item.add_marker(pytest.mark.slow)


def ray_runs():
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@pytest.fixture(autouse=True)
def ray_is_marked(request):
    """A test that starts Ray in this process must say so, by the fixture `cluster` or its mark."""
    before = ray_runs()
    yield
    assert before or not ray_runs() or starts_ray(request.node), "mark this test pytest.mark.ray: it has started Ray"


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


@pytest.fixture
def no_ray(monkeypatch):
    """Stages do everything in this process; that it comes to the same is what tests/cluster is about."""
    from .cluster.without import without_ray

    without_ray(monkeypatch.setattr)


@pytest.fixture(scope="module")
def few_patterns():
    """`p2d run` draws 8 patterns in 4 steps, and not its own number, which are most of its time."""
    from p2d.config import SampleConfig

    run = importlib.import_module("p2d.pipeline.run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SampleConfig", functools.partial(SampleConfig, num_samples=8, steps=4))
        yield


@pytest.fixture(scope="session")
def s3_options():
    """How the bucket 'bucket' of an S3 server on loopback is reached: the query of its URIs."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    S3FileSystem(endpoint_override=f"http://{host}:{port}", allow_bucket_creation=True).create_dir("bucket")
    yield f"endpoint_override={host}:{port}&scheme=http"
    server.stop()


_folders = itertools.count()


@pytest.fixture
def s3_folder(s3_options):
    """A folder on an S3 server that is a test's own."""
    from p2d.places import place

    return place(f"s3://bucket/folder-{next(_folders)}?{s3_options}")


@pytest.fixture(params=["file system", "S3"])
def anywhere(request):
    """A folder that is a test's own: on the file system, and on an S3 server."""
    return request.getfixturevalue("tmp_path" if request.param == "file system" else "s3_folder")
