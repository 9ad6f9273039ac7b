"""Models logged to MLflow: a folder with an MLmodel around our own files, its page, and its name in the registry."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.places import place
from p2d.runs import EQUATION, fetched

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

    from p2d.snapshots.store import Dataset
    from p2d.tracking.served import Served

LOADER = "p2d.tracking.served"  # its name stands in every MLmodel: loading one imports it
LEFT_OUT = ("state.pt", "pictures")  # of a checkpoint: what training goes on from, and what is drawn of it
REQUIRED = ("p2d", "torch", "numpy")  # told to MLflow, which would start pip to find out
LARGEST_EXAMPLE = 32  # rows and columns
BEST = "best"  # the alias of the version that a sweep has chosen


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
            name, digest = model.dataset
            numbers = [Metric(k, v, at, 0, entry.model_id, name, digest, run) for k, v in model.metrics.items()]
            client.log_batch(run, metrics=numbers)
            client.finalize_logged_model(entry.model_id, LoggedModelStatus.READY)
    if model.registered:
        _register(client, run, entry.model_id, model.registered)


def write(folder: Path, path: Path, served: Served, example: list[Any], model_id: str, run: str) -> None:
    """Write a folder that MLflow loads: an MLmodel, what it requires, an example, and our files."""
    import mlflow.pyfunc
    from mlflow.models import Model

    with _own_files(path) as files, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(files),
            mlflow_model=Model(model_id=model_id, run_id=run),
            signature=signature_of(served),
            input_example=np.asarray(example, np.float32),
            pip_requirements=requirements(),
            metadata={"kind": served.kind},
        )


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
            wanted.append(f"{package}=={metadata.version(package)}")
        except metadata.PackageNotFoundError:  # as p2d in the working directory of a job
            wanted.append(package)
    return wanted


@contextlib.contextmanager
def _own_files(path: Path) -> Iterator[Path]:
    """A folder with what a prediction needs of a checkpoint or an equation."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / path.stem
        if path.is_file():
            files.mkdir()
            shutil.copy(path, files / EQUATION.mark)
        else:
            shutil.copytree(path, files, ignore=shutil.ignore_patterns(*LEFT_OUT))
        yield files


def registered_name(kind: str, name: str) -> str:
    """A name in the registry, which takes no slash and no colon."""
    return re.sub(r"[/:]", "-", f"p2d-{kind}-{name}")


def _register(client: MlflowClient, run: str, model_id: str, name: str) -> None:
    """Make a model the newest version under a name, and the best one."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    same = [v for v in client.search_model_versions(f"name = '{name}'") if v.source == source]
    version = same[0] if same else client.create_model_version(name, source, run, model_id=model_id)
    client.set_registered_model_alias(name, BEST, version.version)
