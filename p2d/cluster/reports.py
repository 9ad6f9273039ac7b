"""What a training on Ray Train tells the process that has started it, which follows it and may ask it to stop."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.train import UserCallback
from ray.train.torch import TorchTrainer

from p2d.errors import UserError, unwritable
from p2d.events import note
from p2d.runs import write_json
from p2d.training.history import Epoch

# Called with an epoch and, of epochs worth a picture, a folder that holds the model (else None).
OnEpoch = Callable[[Epoch, Path | None], None]
POLL_S = 0.2
PATIENCE_S, NOTICE_S = 60.0, 20.0  # for a last checkpoint; of a scheduler that ends what does not end by itself


class Reports(UserCallback):
    """Leaves every epoch, and the models worth a picture, in a folder, whichever process dies after that.

    Its methods are called on the controller of Ray Train, which Ray keeps on the machine that starts the training: the
    folder is one of that machine.

    Args:
        is_shown: whether the model of an epoch is wanted too.
        where: the training's result, of which restarts are noted.
    """

    def __init__(self, folder: Path, is_shown: Callable[[Epoch], bool], where: Path) -> None:
        self.folder = folder
        self.where = where
        self.is_shown = is_shown
        self.last = -1

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """An epoch that all workers have reported; one that stops in the middle of the next reports it again."""
        epoch = Epoch.from_dict(metrics[0])
        model = self._model(epoch.number)
        if not model.with_suffix(".json").exists():
            if checkpoint is not None and self.is_shown(epoch):
                checkpoint.to_directory(model)
            write_json(model.with_suffix(".json"), epoch.to_dict())

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """End at once by what no restart would mend: an error raised here ends a training."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError) or unwritable(error):
                raise error
        told = {
            rank: str(error).strip().rpartition("\n")[2] or repr(error) for rank, error in worker_exceptions.items()
        }
        note(self.where, "workers failed", error="; ".join(f"worker {rank}: {why}" for rank, why in told.items()))

    def pass_on(self, on_epoch: OnEpoch) -> None:
        """Call `on_epoch` with the epochs that are new here, in order."""
        for file in sorted(self.folder.glob("[0-9]*.json")):
            if int(file.stem) > self.last:
                epoch = Epoch.from_dict(json.loads(file.read_text()))
                model = self._model(epoch.number)
                self.last = epoch.number
                on_epoch(epoch, model if model.exists() else None)
                shutil.rmtree(model, ignore_errors=True)

    def _model(self, number: int) -> Path:
        return self.folder / f"{number:08d}"


class StopFile:
    """A file that asks the workers of a training to stop, looked for at most once a second."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.next_look = 0.0

    def __call__(self) -> bool:
        """Whether it is there."""
        if time.monotonic() < self.next_look:
            return False
        self.next_look = time.monotonic() + 1.0
        with suppress(OSError):  # an object store that does not answer may do so the next time
            return self.file.exists()
        return False


def fit(trainer: TorchTrainer, reports: Reports, on_epoch: OnEpoch, stop: Path, is_driver: bool) -> None:
    """Run a training to its end, following its reports; an error here ends the training too.

    Args:
        stop: the file that asks for a last checkpoint and an end, which is asked for unless Ctrl-C ends it.
        is_driver: Ray is this process's own to leave, which ends what does not end by itself.

    Raises:
        BaseException: as the training ended, or `on_epoch`, or a signal.
    """
    errors: list[BaseException] = []
    running = threading.Thread(target=_fit, args=(trainer, errors), daemon=True)
    running.start()
    try:
        for _ in _while_alive(running):
            reports.pass_on(on_epoch)
    except BaseException as error:
        asked = isinstance(error, KeyboardInterrupt)
        if not asked or getattr(error, "number", None) == signal.SIGTERM:
            with suppress(OSError):
                write_json(stop, {})
                running.join(NOTICE_S if asked else PATIENCE_S)
        if running.is_alive() and is_driver:
            ray.shutdown()
        raise
    if errors:
        raise errors[0]


def _fit(trainer: TorchTrainer, errors: list[BaseException]) -> None:
    """In a thread of its own, where Ray Train leaves the handlers of signals alone."""
    try:
        trainer.fit()
    except BaseException as error:
        errors.append(error)


def _while_alive(thread: threading.Thread) -> Iterator[None]:
    """Every POLL_S while a thread runs, and once when it has ended."""
    while thread.is_alive():
        thread.join(POLL_S)
        yield
