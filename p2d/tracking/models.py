"""Models logged to MLflow: a folder with an MLmodel around our own files, its page, and its name in the registry."""

from __future__ import annotations

import json
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.places import place
from p2d.runs import EQUATION, fetched

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

    from p2d.snapshots.store import Dataset
    from p2d.tracking.served import Served

LOADER = "p2d.tracking.served"  # its name stands in every MLmodel: loading one imports it
DATA = "data"  # where they lie beside the MLmodel
LEFT_OUT = ("state.pt", "pictures")  # of a checkpoint: what training goes on from, and what is drawn of it
VERSIONS = "mlflow.modelVersions"  # where a model's page finds its registered names
REQUIRED = ("p2d", "mlflow", "torch", "numpy")  # told to MLflow, which would start pip to find out
LARGEST_EXAMPLE = 32  # rows and columns
BEST = "best"  # the alias of the version that a sweep has chosen
MODEL = f"models:/{{}}@{BEST}"  # what MLflow calls it


@dataclass(frozen=True)
class Logged:
    """What is said of a model that is logged.

    Attributes:
        name: on the page of models.
        path: our own files, a checkpoint folder or an equation.json.
        example: a snapshot [1, C, H, W], as nested lists.
        metrics: of its last epoch, or of its fit.
        dataset: name and digest of what it was learnt from.
        registered: the name in the registry whose alias BEST it takes; '' for none.
    """

    name: str
    path: str
    example: list[Any]
    metrics: dict[str, float]
    dataset: tuple[str, str]
    registered: str = ""


def log(client: MlflowClient, experiment: str, run: str, model: Logged, at: int) -> None:
    """Log a model as an output of a run, and register it if it is to be; what is there of it already is kept.

    One that has been removed since is left out.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

    if not place(model.path).exists():
        return
    made = f"source_run_id = '{run}' AND name = '{model.name}'"
    known = client.search_logged_models([experiment], made, max_results=1)
    with fetched(place(model.path)) as local:
        from p2d.tracking.served import load

        served = load(local)
        params = {k: str(v) for k, v in served.defaults.items()}
        entry = known[0] if known else client.create_logged_model(experiment, model.name, run, {}, params, served.kind)
        if entry.status != LoggedModelStatus.READY:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / "model", local, served, model.example, entry.model_id, run)
                client.log_model_artifacts(entry.model_id, str(Path(folder) / "model"))
            client.log_outputs(run, [LoggedModelOutput(entry.model_id, step=0)])
            numbers = [_measured(client, run, key, value, at) for key, value in model.metrics.items()]
            client.log_batch(run, metrics=[Metric(*one, entry.model_id, *model.dataset, run) for one in numbers])
            client.finalize_logged_model(entry.model_id, LoggedModelStatus.READY)
    if model.registered:
        _register(client, run, entry, model.registered)


def _measured(client: MlflowClient, run: str, key: str, value: float, at: int) -> tuple[str, float, int, int]:
    """A number of a model: the last of its run's own, which is told again and not added, or this one."""
    history = client.get_metric_history(run, key)
    if not history:
        return key, value, at, 0
    last = max(history, key=lambda metric: metric.step)
    return key, last.value, last.timestamp, last.step


def write(folder: Path, path: Path, served: Served, example: list[Any], model_id: str, run: str) -> None:
    """Write a folder that MLflow loads: an MLmodel, what it requires, an example, and our files.

    MLflow's own save_model reads the metadata of every package that is installed to check what is required: seconds.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    _copy_own(path, folder / DATA)
    version = platform.python_version()
    texts = {
        "requirements.txt": "\n".join(requirements()) + "\n",
        "python_env.yaml": f"python: {version}\ndependencies:\n- -r requirements.txt\n",
        "input_example.json": json.dumps(example),
        "serving_input_example.json": json.dumps({"inputs": example}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    model = Model(model_id=model_id, run_id=run, signature=signature_of(served), metadata={"kind": served.kind})
    model.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "ndarray",
    }
    add_to_model(model, LOADER, data=DATA, python_env="python_env.yaml")
    model.model_size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    model.save(str(folder / "MLmodel"))


def example_of(dataset: Dataset) -> list[Any]:
    """A living snapshot [1, C, H, W] as nested lists; of a large one some cells, unless it can have no other size."""
    states = dataset.states(dataset.living[:1])
    return (states if dataset.card.grid.mask else states[..., :LARGEST_EXAMPLE, :LARGEST_EXAMPLE]).tolist()


def signature_of(served: Served) -> ModelSignature:
    """Arrays of the same shape in and out, and the parameters with their defaults."""
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    fields = Schema([TensorSpec(np.dtype(np.float32), served.shape)])
    kinds = {name: DataType.string if isinstance(v, str) else DataType.double for name, v in served.defaults.items()}
    params = [ParamSpec(name, kinds[name], value) for name, value in served.defaults.items()]
    return ModelSignature(fields, fields, ParamSchema(params) if params else None)  # type: ignore[arg-type]


def requirements() -> list[str]:
    """What a model needs, in the versions of this process."""
    wanted = []
    for package in REQUIRED:
        try:
            public = metadata.version(package).partition("+")[0]  # 2.13.0+cpu is on no index
            wanted.append(f"{package}=={public}")
        except metadata.PackageNotFoundError:  # as p2d in the working directory of a job
            wanted.append(package)
    return wanted


def _copy_own(path: Path, folder: Path) -> None:
    """What a prediction needs of a checkpoint or an equation."""
    if path.is_file():
        folder.mkdir(parents=True)
        shutil.copy(path, folder / EQUATION.mark)
    else:
        shutil.copytree(path, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))


def registered_name(kind: str, name: str) -> str:
    """A name in the registry, which takes no slash and no colon."""
    return re.sub(r"[/:]", "-", f"p2d-{kind}-{name}")


def _register(client: MlflowClient, run: str, entry: LoggedModel, name: str) -> None:
    """Make a model the newest version under a name, and the best one."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Not as models:/ID, which MLflow would look for in the store of its own settings.
    source = entry.artifact_location
    same = [v for v in client.search_model_versions(f"name = '{name}'") if v.source == source]
    version = same[0] if same else client.create_model_version(name, source, run, model_id=entry.model_id)
    client.set_registered_model_alias(name, BEST, version.version)
    client.set_logged_model_tags(entry.model_id, {VERSIONS: json.dumps([{"name": name, "version": version.version}])})
