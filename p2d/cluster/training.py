"""Data-parallel training with Ray Train: thin workers around training/loop.py, for the score and for the flow."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Queue

from p2d.cluster import placement, runtime
from p2d.cluster.stream import open_data
from p2d.config import ScoreConfig, fits_unet
from p2d.errors import UserError
from p2d.recipes import build
from p2d.runs import copy_whole, recovered
from p2d.training import loop
from p2d.training.checkpoint import read_state, write_checkpoint
from p2d.training.history import Epoch, History
from p2d.training.job import TrainJob
from p2d.training.task import Data
from p2d.training.workers import Workers

RESTARTS = 3  # of the worker group, each from its last checkpoint
START_TIMEOUT_S = "180"
# Called with an epoch and, of epochs worth a picture, a folder that holds the model (else None).
OnEpoch = Callable[[Epoch, Path | None], None]


def train(job: TrainJob, on_epoch: OnEpoch) -> None:
    """Train a score model or a flow into the job's folder, going on from its newest checkpoint if it was interrupted.

    Args:
        job: what to train; with `here`, `on_epoch` gets the model of every epoch.
        on_epoch: called in this process after every epoch.

    Raises:
        UserError: a grid that the U-Net cannot take, more workers than the machine holds, or whatever the training
            itself finds wrong with its input. Of a training that breaks down, the last good model is kept, in
            FOLDER_stopped, and the message says so.
    """
    if isinstance(job.config, ScoreConfig):
        grid = job.dataset.card.grid
        for name, size, edge in zip(("height", "width"), grid.shape, grid.edges, strict=True):
            fits_unet(name, size, job.config.downsampling, edge)
    runtime.start()
    runtime.refuse_unshared(job.folder)
    batch = min(job.config.batch_size, job.training_snapshots)
    workers = placement.choose_training_workers(job.source.workers, batch)
    if workers > batch:
        raise UserError(f"workers = {workers} is more than the {batch} snapshots of a batch; give {batch} or fewer")
    folder = job.folder
    job = dataclasses.replace(
        job,
        dataset=dataclasses.replace(job.dataset, folder=runtime.shared_folder(job.dataset.folder)),
        folder=runtime.shared_folder(folder),
        score=runtime.shared_folder(job.score) if job.score else None,
        threads=placement.choose_threads(job.source.cpus_per_worker, workers),
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made, mistake = _train_here(job, on_epoch) if job.here and workers == 1 else _train_on(workers, job, on_epoch)
    kept = ""
    if made is not None:
        last = History.load(made).last.number
        if mistake is None:
            copy_whole(made, folder)
        elif last:
            stopped = folder.with_name(f"{folder.name}_stopped")
            copy_whole(made, stopped)
            kept = f"; the model of epoch {last} is kept in {stopped}"
    shutil.rmtree(job.storage, ignore_errors=True)
    if mistake is not None:
        raise UserError(mistake + kept)


def _train_here(job: TrainJob, on_epoch: OnEpoch) -> tuple[Path | None, str | None]:
    """Train in this process: the newest checkpoint, and the user's mistake that has ended it, if one has."""
    newest = recovered(job.storage / "checkpoint")

    def report(epoch: Epoch, state: dict[str, Any]) -> None:
        write_checkpoint(newest, job.description, state["average"], state)
        on_epoch(epoch, newest)

    before = newest if newest.exists() else None
    if before is not None:  # reported once more, as it may have been lost with the process that was killed
        on_epoch(History.load(before).last, before)
    mistake = None
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _learn(job, Workers(), job.beside, device, before, report)
    except UserError as error:
        mistake = str(error)
    return (newest if newest.exists() else None), mistake


def _train_on(workers: int, job: TrainJob, on_epoch: OnEpoch) -> tuple[Path | None, str | None]:
    """Train with Ray Train: the newest checkpoint, and the user's mistake that has ended it, if one has."""
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_TIMEOUT_S)
    inbox = Queue(actor_options={"num_cpus": 0})
    mistakes: list[str] = []
    listener = threading.Thread(target=_listen, args=(inbox, on_epoch, mistakes), daemon=True)
    listener.start()
    gpu = placement.gpus() > 0
    claimed = job.source.cpus_per_worker or 1  # by default they need not all be on one node
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job, "inbox": inbox},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": placement.cpu_share(workers * job.beside, claimed), "GPU": int(gpu)},
        ),
        # Ray goes on from the newest checkpoint of a run of the same name.
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=str(job.storage),
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise UserError(f"training stopped: {cause(error)}; --debug shows where") from error
    finally:
        inbox.put(None)
        listener.join()
        inbox.shutdown()
    return Path(result.checkpoint.path) if result.checkpoint else None, mistakes[0] if mistakes else None


def cause(error: BaseException) -> str:
    """The last line of an error's text that names an exception: what went wrong on the worker."""
    lines = [line.strip() for line in str(error).splitlines() if re.match(r"\s*[\w.]+(Error|Exception)\b", line)]
    return lines[-1] if lines else str(error).strip().splitlines()[0]


def _listen(inbox: Queue, on_epoch: OnEpoch, mistakes: list[str]) -> None:
    """Pass on what the first worker sends, until None: an epoch and its model, or a user's mistake as text."""
    for message in iter(inbox.get, None):
        if isinstance(message, str):
            mistakes.append(message)
        else:
            on_epoch(*message)


def _work(settings: dict[str, Any]) -> None:
    """What a worker of Ray Train does: learn, and report."""
    job, inbox = settings["job"], settings["inbox"]
    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    before = ray.train.get_checkpoint()
    start = Path(before.path) if before is not None else None
    beside = context.get_local_world_size() * job.beside
    try:
        _learn(job, workers, beside, get_device(), start, _reporter(job, workers, inbox))
    except UserError as error:
        # Every worker has met it and returns: a restart would meet it again.
        if workers.rank == 0:
            inbox.put(str(error))


def _learn(
    job: TrainJob, workers: Workers, beside: int, device: torch.device, before: Path | None, report: loop.Report
) -> None:
    """Open the data, build the task, and train it, going on from a checkpoint if there is one.

    Args:
        beside: processes that share this machine's memory.
    """
    torch.set_num_threads(job.threads)
    data = _open_on_all(job, workers, beside)
    task = build(job.config, data, job.dataset.card.grid, job.dataset.scaling, device, job.score)
    start = read_state(before) if before is not None else None
    loop.fit(task, data, job.config, workers, report, start)


def _open_on_all(job: TrainJob, workers: Workers, beside: int) -> Data:
    """The data, or on every worker the UserError of the first that has one: the others must not wait for it."""
    data, mistake = None, None
    try:
        data = open_data(job, workers, beside)
    except UserError as error:
        mistake = str(error)
    mistake = workers.first_message(mistake)
    if data is None or mistake is not None:
        raise UserError(str(mistake))
    return data


def _reporter(job: TrainJob, workers: Workers, inbox: Queue) -> loop.Report:
    """Report of an epoch: metrics to the driver, a checkpoint to Ray's storage, both from the first worker."""

    def report(epoch: Epoch, state: dict[str, Any]) -> None:
        if workers.rank:
            ray.train.report(epoch.to_dict())
            return
        model = job.storage / f"shown-{epoch.number:04d}" if job.here or _is_worth_a_picture(job, epoch) else None
        if model:
            write_checkpoint(model, job.description, state["average"])
        inbox.put((epoch, model))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            write_checkpoint(path, job.description, state["average"], state)
            ray.train.report(epoch.to_dict(), checkpoint=ray.train.Checkpoint.from_directory(path))

    return report


def _is_worth_a_picture(job: TrainJob, epoch: Epoch) -> bool:
    """Epochs 1, 2, 4, 8, ... and the last: early on there is most to see."""
    number, last = epoch.number, job.config.passes
    ended = number == last or loop.is_reached(job.config, epoch.validation_loss)
    return number > 0 and (number & (number - 1) == 0 or ended)
