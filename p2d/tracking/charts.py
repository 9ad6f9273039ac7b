"""A sweep's chart page: what it opens on is a view that is saved with the experiment, as MLflow's own "Save view" does.

MLflow keeps how its page looks in the browser. A view that is shared, filters, columns and charts, is a tag of the
experiment, and `viewStateShareKey` in the address opens it; those with a name are in the page's list of views too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from p2d.config.sweep import METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
OWN = "p2d-"  # what our keys begin with
MOST = 20  # of our views are kept, as MLflow's page takes no more than 40 in all
NOTE = "mlflow.note.content"  # the description of a run, in Markdown
PATH = "#/experiments/{}/runs?workflowType=machine_learning&viewStateShareKey={}&compareRunsMode=CHART"
SECTION = "p2d-sweep"
TRIALS = "params.objective LIKE '%'"  # flows have one, and the score models below a sweep have none
COMPARED = 100  # runs in a chart


def of_sweep(axes: list[str], metric: str) -> dict[str, Any]:
    """Charts of a sweep's trials: its metric over each of two axes at most, over both, and over all that is varied.

    Args:
        axes: names of the parameters that are varied, the most important one first.
    """
    value = {"key": metric, "type": "METRIC"}
    charts: list[dict[str, Any]] = [
        {"type": "SCATTER", "xaxis": {"key": one, "type": "PARAM"}, "yaxis": value} for one in axes[:2]
    ]
    charts.append({"type": "PARALLEL", "selectedParams": axes, "selectedMetrics": [metric], "showAllRuns": True})
    if len(axes) > 1:
        x, y = ({"key": one, "type": "PARAM"} for one in axes[:2])
        charts.append({"type": "CONTOUR", "xaxis": x, "yaxis": y, "zaxis": value})
    charts.append({"type": "LINE", "metricKey": metric})
    columns = [*(f"params.`{one}`" for one in axes), f"metrics.`{metric}`"]
    return {"charts": charts, "columns": columns, "best": METRICS[metric]}


def state(run: str, shown: dict[str, Any]) -> dict[str, Any]:
    """How MLflow's page looks that shows a run's children so, in the words of its own saved views."""
    own = {"metricSectionId": SECTION, "deleted": False, "isGenerated": False, "runsCountToCompare": COMPARED}
    section = {"uuid": SECTION, "name": "sweep", "display": True, "isReordered": False, "deleted": False}
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run}' AND {TRIALS}",
        "orderByKey": shown["columns"][-1],  # in the order of their start the table would fold them into their parent
        "orderByAsc": shown["best"] == "min",
        "selectedColumns": shown["columns"],
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "compareRunCharts": [{**own, "uuid": f"{SECTION}-{i}", **chart} for i, chart in enumerate(shown["charts"])],
        "compareRunSections": [{**section, "isGenerated": False}],
    }


def save(client: MlflowClient, experiment: str, run: str, name: str, shown: dict[str, Any], at: int) -> None:
    """Save a view of a run's children, link to it in the run's description, and drop the oldest of our views."""
    envelope = {"name": name, "createdAt": at, "updatedAt": at, "state": json.dumps(state(run, shown))}
    client.set_experiment_tag(experiment, f"{TAG}{OWN}{run}", json.dumps(envelope))
    client.set_tag(run, NOTE, f"[{name}]({PATH.format(experiment, OWN + run)})")
    for _, key, _ in views(client, experiment)[MOST:]:
        client.delete_experiment_tag(experiment, TAG + key)


def views(client: MlflowClient, experiment: str) -> list[tuple[int, str, str]]:
    """When our views were saved, their keys and names, the newest first."""
    tags = client.get_experiment(experiment).tags
    own = [(key.removeprefix(TAG), json.loads(value)) for key, value in tags.items() if key.startswith(TAG + OWN)]
    return sorted(((view["createdAt"], key, view["name"]) for key, view in own), reverse=True)
