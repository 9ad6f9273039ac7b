"""`p2d ui`: the runs of a sweep are read off MLflow's page in a real browser, and the server ends with the command.

A picture of the table of runs, of any store, at the address that `p2d ui` prints:

    from tests.cli.test_ui import screenshot
    screenshot("http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning", "runs.png")
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from p2d.errors import UserError
from p2d.tracking.store import open_tracker
from p2d.tracking.ui import serve

TRIALS = {"alpha=0.5 sym=0": (0.5, 0.0), "alpha=0.95 sym=0.1": (0.95, 0.1), "alpha=0.99 sym=0.3": (0.99, 0.3)}
COLUMNS = ("metrics.`cosine`", "metrics.`z_rms`", "params.`alpha`", "params.`sym`")
NAME = "attributes.`Run Name`"  # MLflow's own name of the column
PATIENCE = 60  # seconds; a page is up in five
needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="there is no chromium, or no chromedriver, on this machine",
)


def measured(alpha, sym, step):
    """The metrics of a trial, which no two trials share."""
    return {"cosine": round(0.9 + 0.01 * alpha * step, 4), "z_rms": round(2.5 - alpha - sym * step, 4)}


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with one sweep of three trials."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = open_tracker(folder, True)
    with root.child("sweep waves", {"trials": len(TRIALS)}) as sweep:
        for name, (alpha, sym) in TRIALS.items():
            with sweep.child(name, {"alpha": alpha, "sym": sym}) as trial:
                for step in range(3):
                    trial.metrics(measured(alpha, sym, step), step)
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ui(out, port, *options, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "p2d.cli", "ui", "--port", str(port), "-o", str(out), *options],
        env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has its commands ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def address_in(line):
    return re.search(r"http://\S+", line)[0]


def listening(port):
    """The addresses of this machine at which somebody listens on a port."""
    sockets = psutil.net_connections("inet")
    return {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr.port == port}


@pytest.fixture(scope="module")
def served(out):
    """The port and the address that `p2d ui` prints."""
    port = free_port()
    with ui(out, port) as process:
        try:
            yield port, address_in(process.stdout.readline())
        finally:
            process.terminate()


@contextlib.contextmanager
def browser(width, height):
    """Chromium without a window, which reaches nothing but this machine."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # or root is refused
        "--disable-dev-shm-usage",  # small in containers
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--lang=en",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        # The size of the page, where that of the window would count its frame.
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield driver
    finally:
        driver.quit()


def open_runs(driver, address, columns):
    """Open the table of runs with these columns and without MLflow's assistant, which opens on a first visit."""
    experiment = re.search(r"/experiments/(\d+)/", address)[1]
    remembered = {
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment}"]-ReactComponentState': json.dumps(
            {
                "selectedColumns": columns,
                "columnOrder": [NAME, "runDateAndNestInfo", "duration", *columns],
                "columnWidths": {NAME: 270},  # of the columns in this order only
            }
        ),
    }
    script = "".join(f"localStorage.setItem({json.dumps(k)}, {json.dumps(v)});" for k, v in remembered.items())
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    driver.get(address)


def cells(driver):
    """The texts of the table by row and column; a row lies in two halves, of which the left one does not scroll."""
    texts = driver.execute_script(
        "return [...document.querySelectorAll('.ag-row .ag-cell')].map(cell => ["
        "cell.closest('.ag-row').getAttribute('row-index'), cell.getAttribute('col-id'),"
        "(cell.querySelector('a') || cell).innerText.trim()])"
    )
    rows = {}
    for row, column, text in texts:
        rows.setdefault(row, {})[column] = text
    return {row[NAME]: row for row in rows.values() if NAME in row}


def show_children(driver, parent, columns):
    """Open the row of a run that has children; returns all rows once these are among them."""
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(driver, PATIENCE)
    before = wait.until(lambda _: (rows := cells(driver)) and parent in rows and rows)
    [link] = [a for a in driver.find_elements("css selector", ".ag-row a") if a.text.strip() == parent]
    button = link.find_element("xpath", "ancestor::*[@role='gridcell']//button")
    driver.execute_script("arguments[0].click()", button)  # a mouse would leave a frame around the cell

    def complete(_):
        rows = cells(driver)
        return len(rows) > len(before) and all(all(row.get(c) for c in columns) for row in rows.values()) and rows

    return wait.until(complete)


def screenshot(address, path, expand="sweep waves", columns=COLUMNS, width=1400, height=800):
    """Picture of the table of runs at the address that `p2d ui` prints, with the children of one run.

    Returns:
        The texts of the table: by name of the run, by MLflow's name of the column.
    """
    with browser(width, height) as driver:
        open_runs(driver, address, columns)
        rows = show_children(driver, expand, columns)
        assert driver.save_screenshot(str(path))
    return rows


@needs_chromium
@pytest.mark.slow
def test_the_page_shows_the_runs_of_a_sweep_with_their_metrics(served, tmp_path):
    from PIL import Image

    picture = Path(os.environ.get("P2D_SCREENSHOTS", tmp_path)) / "mlflow.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    rows = screenshot(served[1], picture)
    assert set(rows) == {"sweep waves", *TRIALS}
    for name, (alpha, sym) in TRIALS.items():
        last = measured(alpha, sym, 2)
        shown = [float(rows[name][column]) for column in COLUMNS]
        assert shown == pytest.approx([last["cosine"], last["z_rms"], alpha, sym])
    with Image.open(picture) as image:
        assert image.size == (1400, 800)
        grey = np.asarray(image.convert("L"))
    assert len(np.unique(grey)) > 100  # shades of anti-aliased text
    assert (grey < 128).any(axis=1).sum() > 100  # rows of pixels with something dark: eight lines of text and more


@pytest.mark.slow
def test_the_address_is_that_of_the_runs_and_listens_on_loopback_only(served, out):
    from mlflow import MlflowClient

    port, address = served
    experiment = MlflowClient(f"sqlite:///{out / 'mlflow.db'}").get_experiment_by_name("p2d").experiment_id
    assert address.startswith(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs")
    assert listening(port) == {"127.0.0.1"}


@pytest.mark.slow
def test_of_a_tracking_server_only_the_address_is_printed(served, tmp_path, monkeypatch, capsys):
    port, address = served
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}/")
    serve(tmp_path, free_port())
    assert address_in(capsys.readouterr().out) == address
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_refused(out):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is not free .*--port"):
            serve(out, port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(out, port):
    with pytest.raises(UserError, match=f"port = {port} is not possible"):
        serve(out, port)


@pytest.mark.parametrize("variable", [None, "sqlite:///{}/mlflow.db"])
def test_a_folder_without_runs_is_refused_and_left_empty(tmp_path, monkeypatch, variable):
    if variable is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable.format(tmp_path))
    with pytest.raises(UserError, match=f"no tracked runs in {tmp_path}"):
        serve(tmp_path, free_port())
    assert list(tmp_path.iterdir()) == []


def test_a_tracking_server_that_does_not_answer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"MLflow does not answer at http://127\.0\.0\.1"):
        serve(tmp_path, free_port())


@pytest.mark.slow
def test_a_server_that_cannot_start_is_one_line_with_its_own_reason(out):
    # the program that MLflow starts as its server takes its options from such variables too
    with ui(out, free_port(), UVICORN_LOG_LEVEL="loud") as process:
        told, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told, error.count("\n")) == (2, "", 1), error
    assert error.startswith("p2d: the MLflow server ended by itself: ") and "'loud' is not one of" in error


@pytest.mark.slow
@pytest.mark.parametrize(("when", "ending"), [("it answers", signal.SIGINT), ("it starts", signal.SIGTERM)])
def test_a_signal_ends_the_server_and_all_it_has_started(out, ending, when):
    port = free_port()
    with ui(out, port) as process:
        command = psutil.Process(process.pid)
        if when == "it answers":
            assert process.stdout.readline()
            assert listening(port)
        else:
            while not any("mlflow" in child.cmdline() for child in command.children()):
                assert process.poll() is None  # the test's own limit of time ends this
                time.sleep(0.02)
        started = command.children(recursive=True)
        process.send_signal(ending)
        _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (0, "")
    _, left = psutil.wait_procs(started, timeout=10)  # one that was killed is there until init has taken note
    assert started and left == []
    assert listening(port) == set()
