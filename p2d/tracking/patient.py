"""What is written to MLflow, in a few calls that may come late: a store that is gone for a while loses nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from p2d.places import place
from p2d.progress import say
from p2d.runs import fetched
from p2d.tracking import charts, models

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "p2d.key"  # tag by which an interrupted run is found again
PROCESS = "p2d.process"  # tag of the process that a run is open in
LARGEST_BATCH = 1000  # metrics that MLflow takes in one call
RETRY_S = 30.0  # between two attempts to reach a store that is gone
# A store that says so is there, and refuses: MLflow's other errors are those of one that is not.
REFUSALS = (
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
)


@dataclass(frozen=True)
class Store:
    """MLflow itself: every call can be repeated, and made later than it was meant."""

    client: MlflowClient
    experiment: str
    process: str

    def open(self, key: str, name: str, parent: str, retry: bool, tags: dict[str, str], at: int) -> str:
        """The id of a new run, or of the newest of this key if it has not come to its end (or `retry`)."""
        newest = self.client.search_runs([self.experiment], filter_string=f"tags.`{KEY}` = '{key}'", max_results=1)
        if newest and (retry or newest[0].info.status in ("RUNNING", "KILLED")):
            run = newest[0].info.run_id
            self.client.set_tag(run, PROCESS, self.process)
            self.client.update_run(run, status="RUNNING")
            return run
        tags = tags | {KEY: key, PROCESS: self.process, "mlflow.runName": name}
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        return self.client.create_run(self.experiment, start_time=at, tags=tags).info.run_id

    def parameters(self, run: str, values: dict[str, str]) -> None:
        """Those that the run has are kept."""
        from mlflow.entities import Param

        known = self.client.get_run(run).data.params
        self.client.log_batch(run, params=[Param(k, v) for k, v in values.items() if k not in known])

    def tags(self, run: str, values: dict[str, str]) -> None:
        """What runs are searched by."""
        from mlflow.entities import RunTag

        self.client.log_batch(run, tags=[RunTag(k, v) for k, v in values.items()])

    def metrics(self, run: str, values: dict[str, float], step: int, at: int) -> None:
        """Numbers at a step."""
        from mlflow.entities import Metric

        self.client.log_batch(run, metrics=[Metric(k, v, at, step) for k, v in values.items()])

    def samples(self, run: str, taken: list[tuple[int, dict[str, float]]]) -> None:
        """Numbers by time: of the machine, which knows no steps."""
        from mlflow.entities import Metric

        numbers = [Metric(k, v, at, 0) for at, values in taken for k, v in values.items()]
        for start in range(0, len(numbers), LARGEST_BATCH):
            self.client.log_batch(run, metrics=numbers[start : start + LARGEST_BATCH])

    def dataset(self, run: str, described: dict[str, str], context: str) -> None:
        """A dataset that a run has used, see datasets.py."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.client.log_inputs(run, [DatasetInput(Dataset(**described), [InputTag("mlflow.data.context", context)])])

    def model(self, run: str, model: dict[str, Any], at: int) -> None:
        """A model that a run has made, see models.py."""
        models.log(self.client, self.experiment, run, models.Logged(**model), at)

    def view(self, run: str, name: str, shown: dict[str, Any], at: int) -> None:
        """A view of a run's children that MLflow's page opens by a link in the run's description, see charts.py."""
        charts.save(self.client, self.experiment, run, name, shown, at)

    def artifact(self, run: str, path: str, folder: str | None) -> None:
        """A file; one that has been removed since is left out."""
        if place(path).is_file():
            with fetched(place(path)) as local:
                self.client.log_artifact(run, str(local), folder)

    def end(self, run: str, status: str, error: str, at: int) -> None:
        """FINISHED, FAILED or KILLED, with what went wrong."""
        if error:
            self.client.set_tag(run, "p2d.error", error)
        self.client.set_terminated(run, status, at)


@dataclass(eq=False)
class Patient:
    """A store whose calls are kept in a file, in their order, while it is gone, and made when it is back.

    Attributes:
        store: to be written to.
        uri: of the store, for people.
        file: where calls are kept; it is there only while some are.
    """

    store: Store
    uri: str
    file: Path
    kept: IO[str] | None = None
    opened: dict[str, str] = field(default_factory=dict)  # ids of runs, by those they had while the store was gone
    retry_at: float = 0.0

    @property
    def is_server(self) -> bool:
        """Whether the store has pages of its own."""
        return self.uri.startswith("http")

    def write(self, call: str, **values: Any) -> str:
        """Make a call of the store, now or later.

        Returns:
            What `open` gives: the id of a run, for the time being one of our own.

        Raises:
            MlflowException: the store is there, and refuses.
        """
        if self.kept is None or time.monotonic() >= self.retry_at:
            try:
                self.hand_over()
                values = {k: self.opened.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
                return getattr(self.store, call)(**values) or ""
            except Exception as error:
                if not is_gone(error):
                    raise
                self.retry_at = time.monotonic() + RETRY_S
                if self.kept is None:
                    self.kept = _held(self.file)
                    say(
                        f"warning: MLflow does not answer at {self.uri}; the work goes on, and what is tracked is kept "
                        f"in {self.file} until it is back"
                    )
        assert self.kept is not None
        own = f"late-{uuid.uuid4().hex}" if call == "open" else ""
        self.kept.write(json.dumps([call, values, own]) + "\n")
        self.kept.flush()
        return own

    def hand_over(self) -> None:
        """Make the calls that were kept; what the store refuses is told and dropped.

        Raises:
            Exception: the store is gone (again); what it has not taken stays in the file.
        """
        if self.kept is None:
            return
        self.kept.seek(0)
        lines = self.kept.read().splitlines()
        try:
            while lines:
                call, values, own = json.loads(lines[0])
                try:
                    made = getattr(self.store, call)(**values)
                    if own:
                        self.opened[own] = made
                        lines = [line.replace(own, made) for line in lines]
                except Exception as error:
                    if is_gone(error):
                        raise
                    say(f"warning: MLflow refuses what was kept for it: {str(error).splitlines()[0]}")
                lines.pop(0)
        finally:
            self.kept.seek(0)
            self.kept.truncate()
            self.kept.writelines(f"{line}\n" for line in lines)
            self.kept.flush()
        self.file.unlink()
        self.kept.close()
        self.kept = None
        say(f"MLflow is back at {self.uri}: what was kept is written")

    def close(self) -> None:
        """Hand over what was kept, or say where it stays."""
        try:
            self.hand_over()
        except Exception:
            say(
                f"warning: MLflow has not come back at {self.uri}; what was tracked stays in {self.file}, and the next "
                "p2d command that tracks there writes it"
            )


def is_gone(error: BaseException) -> bool:
    """Whether this is the error of a store that does not answer, and not of one that refuses."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, OSError) or (isinstance(error, MlflowException) and error.error_code not in REFUSALS)


def kept_file(folder: Path, uri: str, process: str) -> Path:
    """Where a process keeps its calls to a store. A URI may hold a password, so its hash stands for it."""
    return folder / f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:8]}-{process}.jsonl"


def hand_over_left(store: Store, uri: str, shown: str, folder: Path) -> None:
    """Make the calls that dead processes have kept for this store; those of living ones are theirs."""
    for file in sorted(folder.glob(kept_file(folder, uri, "*").name)):
        with _if_free(file) as kept:
            if kept is not None:
                Patient(store, shown, file, kept).close()


def _held(file: Path) -> IO[str]:
    """The open file, locked for as long as this process lives."""
    kept = file.open("a+")
    fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return kept


@contextmanager
def _if_free(file: Path) -> Iterator[IO[str] | None]:
    """The open file, or None if a process holds it."""
    try:
        kept = _held(file)
    except OSError:
        yield None
        return
    with kept:
        yield kept
