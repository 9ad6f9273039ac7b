"""Data-parallel training with Ray Train: thin workers around training/loop.py, for the score and for the flow."""

from __future__ import annotations

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

from p2d.cluster import runtime
from p2d.cluster.stream import open_data
from p2d.config import FlowConfig, ScoreConfig, TrainSource, fits_unet, settings_hash
from p2d.errors import UserError
from p2d.recipes import tasks
from p2d.runs import copy_whole, recovered
from p2d.snapshots.store import Dataset, open_dataset
from p2d.training import loop
from p2d.training.checkpoint import read_history, read_state, write_checkpoint
from p2d.training.identity import describe
from p2d.training.task import Data
from p2d.training.workers import Workers

KINDS: dict[str, type[ScoreConfig] | type[FlowConfig]] = {"score": ScoreConfig, "flow": FlowConfig}
RESTARTS = 3  # of the worker group, each from its last checkpoint
START_TIMEOUT_S = "180"
# Called with the metrics of an epoch and, of epochs worth a picture, a folder that holds the model (else None).
OnEpoch = Callable[[dict[str, float], Path | None], None]


def train(
    config: ScoreConfig | FlowConfig,
    source: TrainSource,
    dataset: Dataset,
    folder: Path,
    on_epoch: OnEpoch,
    score: Path | None = None,
    here: bool = False,
    beside: int = 1,
) -> None:
    """Train a score model or a flow into `folder`, going on from its newest checkpoint if it was interrupted.

    Args:
        config: of the model and its training.
        source: share held out, number of workers.
        dataset: what to learn from.
        folder: where the finished checkpoint goes.
        on_epoch: called in this process after every epoch.
        score: folder of the score model, for the continuity objective.
        here: a single worker is this very process, and `on_epoch` gets the model of every epoch.
        beside: trainings that run at a time, and share the machine's CPUs.

    Raises:
        UserError: a grid that the U-Net cannot take, more workers than the machine holds, or whatever the training
            itself finds wrong with its input. Of a training that breaks down, the last good model is kept, in
            FOLDER_stopped, and the message says so.
    """
    if isinstance(config, ScoreConfig):
        for name, size in zip(("height", "width"), dataset.card.grid, strict=True):
            fits_unet(name, size, config.downsampling)
    description = describe(config, source, dataset, score)
    runtime.start()
    batch = min(config.batch_size, len(dataset.split(source.holdout, source.snapshots)[0]))
    workers = runtime.training_workers(source.workers, batch)
    if workers > batch:
        raise UserError(f"workers = {workers} is more than the {batch} snapshots of a batch; give {batch} or fewer")
    threads = runtime.threads(source.cpus_per_worker, workers)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Ray goes on from the newest checkpoint of a run of the same name: the name stands for the settings.
    storage = runtime.shared_folder(folder.parent / f".{folder.name}-{settings_hash(description)}")
    job = {
        "config": config.to_dict(),
        "holdout": source.holdout,
        "snapshots": source.snapshots,
        "memory": source.memory,
        "description": description,
        "dataset": str(runtime.shared_folder(dataset.folder)),
        "score": str(runtime.shared_folder(score)) if score else None,
        "threads": threads,
        "cpus": source.cpus_per_worker or 1,  # to claim: by default they need not all be on one node
        "shown": str(storage / "shown"),
        "beside": beside,
        "show_all": here,
    }
    made, mistake = (
        _run_here(job, storage, on_epoch) if here and workers == 1 else _run(job, workers, storage, on_epoch)
    )
    kept = ""
    if made is not None:
        learnt = read_history(made)[-1]["epoch"]
        if mistake is None:
            copy_whole(made, folder)
        elif learnt:
            stopped = folder.with_name(f"{folder.name}_stopped")
            copy_whole(made, stopped)
            kept = f"; the model of epoch {learnt:.0f} is kept in {stopped}"
    shutil.rmtree(storage, ignore_errors=True)
    if mistake is not None:
        raise UserError(mistake + kept)


def _run_here(job: dict[str, Any], storage: Path, on_epoch: OnEpoch) -> tuple[Path | None, str | None]:
    """Train in this process: the newest checkpoint, and the user's mistake that has ended it, if one has."""
    newest = recovered(storage / "checkpoint")

    def report(metrics: dict[str, float], state: dict[str, Any]) -> None:
        write_checkpoint(newest, job["description"], state["average"], state)
        on_epoch(metrics, newest)

    before = newest if newest.exists() else None
    if before is not None:  # told once more, as it may have been lost with the process that was killed
        on_epoch(read_history(before)[-1], before)
    mistake = None
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _learn(job, Workers(), device, before, lambda _: report, job["beside"])
    except UserError as error:
        mistake = str(error)
    return (newest if newest.exists() else None), mistake


def _run(job: dict[str, Any], workers: int, storage: Path, on_epoch: OnEpoch) -> tuple[Path | None, str | None]:
    """Train with Ray Train: the newest checkpoint, and the user's mistake that has ended it, if one has."""
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_TIMEOUT_S)
    inbox = Queue(actor_options={"num_cpus": 0})
    mistakes: list[str] = []
    listener = threading.Thread(target=_listen, args=(inbox, on_epoch, mistakes), daemon=True)
    listener.start()
    gpu = runtime.gpus() > 0
    trainer = TorchTrainer(
        _work,
        train_loop_config={**job, "inbox": inbox},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": runtime.cpu_share(workers * job["beside"], job["cpus"]), "GPU": int(gpu)},
        ),
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=str(storage),
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
    """Pass on what the first worker says, until None: metrics and model of an epoch, or a user's mistake as text."""
    for said in iter(inbox.get, None):
        if isinstance(said, str):
            mistakes.append(said)
        else:
            metrics, model = said
            on_epoch(metrics, Path(model) if model else None)


def _work(job: dict[str, Any]) -> None:
    """What a worker of Ray Train does: learn, and report."""
    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    before = ray.train.get_checkpoint()
    start = Path(before.path) if before is not None else None
    try:
        beside = context.get_local_world_size() * job["beside"]
        _learn(job, workers, get_device(), start, lambda target: _reporter(job, workers, target), beside)
    except UserError as error:
        # Every worker has met it and returns: a restart would meet it again.
        if workers.rank == 0:
            job["inbox"].put(str(error))


def _learn(
    job: dict[str, Any],
    workers: Workers,
    device: torch.device,
    before: Path | None,
    reporter: Callable[[float], loop.Report],
    beside: int,
) -> None:
    """Open the data, build the task, and train it, going on from a checkpoint if there is one.

    Args:
        reporter: makes the report of an epoch, given the loss that ends the training early.
        beside: processes that share this machine's memory.
    """
    torch.set_num_threads(job["threads"])
    config = KINDS[job["description"]["kind"]].from_dict(job["config"])
    dataset = open_dataset(job["dataset"])
    data = _opened(dataset, job, config.passes, workers, beside)
    score = Path(job["score"]) if job["score"] else None
    task, schedule = tasks.build(config, data, dataset.card.affine["scale"], device, score)
    start = read_state(before) if before is not None else None
    loop.fit(task, data, schedule, workers, reporter(schedule.target_loss), start)


def _opened(dataset: Dataset, job: dict[str, Any], epochs: int, workers: Workers, beside: int) -> Data:
    """The data, or on every worker the UserError of the first that has one: the others must not wait for it."""
    data, mistake = None, None
    try:
        data = open_data(dataset, job["holdout"], epochs, job["memory"], workers, beside, job["snapshots"])
    except UserError as error:
        mistake = str(error)
    mistake = workers.first_said(mistake)
    if data is None or mistake is not None:
        raise UserError(str(mistake))
    return data


def _reporter(job: dict[str, Any], workers: Workers, target: float) -> loop.Report:
    """Report of an epoch: metrics to the driver, a checkpoint to Ray's storage, both from the first worker."""
    epochs = KINDS[job["description"]["kind"]].from_dict(job["config"]).passes

    def report(metrics: dict[str, float], state: dict[str, Any]) -> None:
        if workers.rank:
            ray.train.report(metrics)
            return
        epoch = int(metrics["epoch"])
        # Pictures at epochs 1, 2, 4, 8, ... and the last: early on there is most to see.
        ended = epoch == epochs or metrics["validation_loss"] <= target
        worth_it = job["show_all"] or (epoch and (epoch & (epoch - 1) == 0 or ended))
        shown = Path(f"{job['shown']}-{epoch:04d}") if worth_it else None
        if shown:
            write_checkpoint(shown, job["description"], state["average"])
        job["inbox"].put((metrics, str(shown) if shown else ""))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            write_checkpoint(path, job["description"], state["average"], state)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))

    return report
