"""What a person sees who opens `p2d ui`: charts of a sweep, datasets and models in MLflow, and the report beside it.

With P2D_SCREENSHOTS set, the pictures go to that folder.
"""

import json
import os
import time
from pathlib import Path

import pytest

from p2d.tracking import charts, models
from p2d.tracking.store import Run, open_tracker
from tests.cli.test_ui import PATIENCE, browser, free_port, needs_chromium, ui
from tests.evaluate.helpers import dataset_of, linear_field, patterns, write_flow

pytestmark = [pytest.mark.slow, needs_chromium]
ALPHA, SYM = (0.5, 0.8, 0.95, 0.99), (0.0, 0.03, 0.1, 0.3)
LINEAR = linear_field([0.1, -0.2], [[0.3, 0.0, 0.5, 0.0], [0.0, -0.4, 0.0, 1.0]])


def cosine(alpha, sym, epoch):
    return alpha**2 * (1 - sym) * (1 - 0.5 / (epoch + 1))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """An output folder with a tracked sweep, the best of which is registered, and a report."""
    out = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = open_tracker(out, enabled=True)
    dataset = dataset_of(patterns(8, 24, 40), out / "data" / "waves_24x40")
    write_flow(out / "best", dataset, LINEAR)
    with root.child("sweep waves", {"objective": "continuity"}) as run:
        run.dataset(dataset)
        run.view("waves: cosine of 16 trials", charts.of_sweep(["alpha", "sym"], "cosine"))
        trial = Run()
        for alpha in ALPHA:
            for sym in SYM:
                settings = {"alpha": alpha, "sym": sym, "objective": "continuity"}
                trial = run.start(f"alpha={alpha} sym={sym}", settings)
                trial.dataset(dataset)
                for epoch in range(3):
                    trial.metrics({"cosine": cosine(alpha, sym, epoch)}, epoch)
                trial.end()
        trial.model(
            "flow-waves",
            out / "best",
            dataset,
            {"cosine": cosine(0.99, 0.3, 2)},
            models.registered_name("flow", "waves"),
        )
    (out / "report" / "waves").mkdir(parents=True)
    (out / "report" / "waves" / "index.html").write_text("<title>waves</title><h1>The report of waves</h1>")
    return out


@pytest.fixture(scope="module")
def addresses(swept):
    """What `p2d ui --json` prints."""
    port = free_port()
    with ui(swept, port, "--json") as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture
def opened(tmp_path):
    """Opens an address until its text holds some words; gives the browser, and keeps a picture."""
    folder = Path(os.environ.get("P2D_SCREENSHOTS", tmp_path))
    with browser(1500, 1000) as driver:
        seen = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": seen})

        def open_page(address, *words, name):
            if address:
                driver.get(address)
            deadline = time.monotonic() + PATIENCE
            while missing := [word for word in words if word not in text(driver)]:
                assert time.monotonic() < deadline, f"{missing} not in {text(driver)[:2000]}"
                time.sleep(0.2)
            folder.mkdir(parents=True, exist_ok=True)
            time.sleep(1)  # charts move into their places
            driver.save_screenshot(str(folder / f"{name}.png"))
            return driver

        yield open_page


def text(driver):
    return driver.execute_script("return document.body.innerText")


def points(driver):
    """Where the points of the first chart are, by what is said of them: numbers of its two axes."""
    return driver.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data"
        ".filter(trace => trace.type && trace.type.startsWith('scatter')).map(t => [t.x, t.y]))"
    )


def test_a_sweep_s_page_opens_on_alpha_against_cosine(addresses, opened):
    [(name, address)] = addresses["sweeps"].items()
    assert name == "waves: cosine of 16 trials"
    driver = opened(address, "alpha vs. cosine", "Parallel Coordinates", "16 matching runs", name="sweep_charts")
    words = text(driver)
    assert words.index("alpha vs. cosine") < words.index("sym vs. cosine")
    first = points(driver)[0]
    shown = sorted((float(x), float(y)) for xs, ys in first for x, y in zip(xs, ys, strict=True))
    expected = sorted((a, cosine(a, s, 2)) for a in ALPHA for s in SYM)
    assert [x for x, _ in shown] == [x for x, _ in expected]
    assert [y for _, y in shown] == pytest.approx([y for _, y in expected])


def test_the_run_of_a_sweep_links_to_its_charts(addresses, opened):
    [address] = addresses["sweeps"].values()
    run = address.partition("viewStateShareKey=p2d-")[2].partition("&")[0]
    page = addresses["mlflow"].partition("?")[0]
    driver = opened(f"{page}/{run}", "waves: cosine of 16 trials", "waves_24x40", name="sweep_run")
    link = driver.find_element("link text", "waves: cosine of 16 trials")
    driver.get(link.get_attribute("href"))
    opened("", "alpha vs. cosine", name="sweep_linked")


def test_the_table_of_runs_has_datasets_and_models(addresses, opened):
    driver = opened(addresses["mlflow"], "sweep waves", "waves_24x40", name="runs")
    experiment = addresses["mlflow"].partition("/runs")[0]
    opened(f"{experiment}/models?workflowType=machine_learning", "flow-waves", "waves_24x40", name="models")
    server = addresses["mlflow"].partition("#")[0]
    opened(f"{server}#/models/p2d-flow-waves", "Version 1", "best", name="registered")
    assert not [entry for entry in driver.get_log("browser") if "Uncaught" in entry["message"]]


def test_the_report_is_beside_it(addresses, opened):
    driver = opened(addresses["report"], "The report of waves", name="report")
    assert driver.title == "waves"
