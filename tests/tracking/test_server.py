"""A tracking server that keeps the files too: what is logged through it is loaded through it."""

import subprocess
import sys
import time
import urllib.request

import mlflow.pyfunc
import pytest
from mlflow import MlflowClient
from numpy.testing import assert_allclose

from p2d.tracking import charts, served
from p2d.tracking.store import open_tracker
from tests.cli.test_ui import PATIENCE, free_port
from tests.evaluate.helpers import dataset_of, linear_field, patterns, write_flow

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path):
    """Its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "files"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*command, "--workers", "1"], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 2 * PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield address
        process.terminate()


def test_a_run_with_its_dataset_model_and_view_goes_through_it(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    dataset = dataset_of(patterns(4, 16, 16), tmp_path / "data" / "few_16x16")
    write_flow(tmp_path / "flow", dataset, linear_field([0.1, 0.0], [[0.3, 0, 0.5, 0], [0, -0.4, 0, 1.0]]))
    with open_tracker(tmp_path / "out", enabled=True).child("sweep few", {"objective": "stationarity"}) as run:
        run.dataset(dataset)
        run.metrics({"z_rms": 1.5}, 3)
        run.view("few: z_rms of 2 trials", charts.of_sweep(["hidden"], "z_rms"))
        run.model("flow-few", tmp_path / "flow", dataset, {"z_rms": 1.5}, "p2d-flow-few")
    page = next(line for line in capsys.readouterr().err.splitlines() if "its charts" in line)
    assert f"{server}/#/experiments/" in page and run.run_id in page
    client = MlflowClient(server)
    kept = client.get_run(run.run_id)
    assert kept.info.status == "FINISHED" and len(kept.outputs.model_outputs) == 1
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "z_rms")] == [(3, 1.5)]
    assert (tmp_path / "files").is_dir() and not (tmp_path / "out" / "mlartifacts").exists()
    x = patterns(2, 8, 8)
    velocity = mlflow.pyfunc.load_model("models:/p2d-flow-few@best").predict(x)
    assert_allclose(velocity, served.load(tmp_path / "flow").predict(x))
