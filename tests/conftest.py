"""What all tests share: one thread of torch each, one Ray cluster of two CPUs, and one S3 server, for those in need."""

import itertools
import logging
import os

import pytest

# Set before anything starts Ray or MLflow.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("RAY_ADDRESS", None)
# And of the S3 server, which takes any.
os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "not-to-be-shown", "AWS_REGION": "us-east-1"}


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
