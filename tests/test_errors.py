"""What comes from a disk that is full is told apart from a fault of the program, whoever raises it, and however."""

import errno
import os
import resource
import sqlite3

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from p2d.errors import UserError, unwritable

LARGEST = 2**17  # bytes that a file may have here: what is written below is larger
NOISE = np.random.default_rng(0).random((300, 300))
TOLD = {os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG)}


def by_sqlite(file):
    raise sqlite3.OperationalError("database or disk is full")


def picture(file):
    figure = Figure()
    figure.figimage(NOISE)
    figure.savefig(file, format="png")


WRITERS = {
    "a picture": picture,
    "weights": lambda file: save_file({"w": torch.ones(2**16)}, file),
    "a state": lambda file: torch.save({"w": torch.ones(2**16)}, file),
    "a shard": lambda file: pq.write_table(pa.table({"x": NOISE.ravel()}), file),
    "a card": lambda file: file.write_text("{}" * LARGEST),
    "a database": by_sqlite,
}


@pytest.fixture
def full_disk():
    """No file may grow beyond LARGEST, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def reason(error):
    return unwritable(error).rpartition(": ")[2]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_recognised(writer, full_disk, tmp_path):
    with pytest.raises(Exception) as caught:
        WRITERS[writer](tmp_path / "file")
    assert reason(caught.value) in TOLD
    # and as the cause of another, as a remote worker's traceback, and as Ray hands the error of a worker on
    outer = RuntimeError("it failed")
    outer.__cause__ = caught.value
    assert reason(outer) in TOLD
    as_text = RuntimeError(f"ray::work()\n  File 'x.py', line 1\n{type(caught.value).__name__}: {caught.value}\n")
    assert reason(as_text) in TOLD
    of_worker = RuntimeError("task failed")
    of_worker.cause = caught.value
    assert reason(of_worker) in TOLD


def test_the_file_is_named():
    error = PermissionError(errno.EACCES, "Permission denied", "/runs/card.json")
    assert unwritable(error) == "/runs/card.json: Permission denied"
    assert unwritable(RuntimeError(f"PermissionError: {error}")) == "/runs/card.json: Permission denied"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("loss is nan"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        RuntimeError("[Errno 2] No such file: 'x'"),
        UserError("[Errno 28] No space left on device"),
    ],
)
def test_other_errors_are_left_alone(error):
    assert unwritable(error) == ""
