"""Some runs, and some frames of each."""

import numpy as np
import pytest
from PIL import Image

from p2d.errors import UserError
from p2d.formats.pictures import open_pictures
from p2d.formats.stack import Asked


@pytest.fixture
def files(tmp_path):
    """Three runs of four frames; the value of all pixels is 10 times the run plus the frame."""
    files = [tmp_path / f"run{run}_t{frame}.png" for frame in range(4) for run in range(3)]
    for file in files:
        run, frame = int(file.stem[3]), int(file.stem[6])
        Image.fromarray(np.full((2, 3), 10 * run + frame, np.uint8)).save(file)
    return files


@pytest.mark.parametrize(
    ("trajectories", "times", "values", "runs"),
    [
        ("1:", "", [10, 20, 11, 21, 12, 22, 13, 23], [1, 2] * 4),
        ("", "1::2", [1, 11, 21, 3, 13, 23], [0, 1, 2] * 2),
        ("2", "0:2", [20, 21], [2, 2]),
    ],
)
def test_runs_and_frames(files, trajectories, times, values, runs):
    (stack,) = open_pictures(files, Asked(trajectories=trajectories, times=times))
    assert stack.read(0, stack.count)[:, 0, 0, 0].tolist() == values == [int(v) for v in 10 * stack.runs + stack.times]
    assert stack.runs.tolist() == runs
    assert stack.read(1, 2)[0, 0, 0, 0] == values[1]
    assert len(stack.files) == stack.count and stack.files[1] == stack.name_of(1)


def test_single_snapshots_are_runs(files):
    (stack,) = open_pictures(files[:3], Asked(trajectories="1:"))  # one of each run: their names tell nothing
    assert stack.count == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"trajectories": "3:"}, "takes none of the 3"),
        ({"times": "4"}, "takes none of the 4"),
        ({"times": "a"}, "must be"),
    ],
)
def test_nothing_is_refused(files, asked, told):
    with pytest.raises(UserError, match=told):
        open_pictures(files, Asked(**asked))


def test_frames_of_no_run_are_refused(files):
    with pytest.raises(UserError, match="holds single snapshots, and no runs of several frames"):
        open_pictures(files[:1], Asked(times="0:1"))
