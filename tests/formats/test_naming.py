"""Runs and times from the names of files."""

import numpy as np
import pytest

from p2d.errors import UserError
from p2d.formats.naming import naming_note, runs_of


def test_a_regular_expression_names_runs_and_times():
    files = ["a/plate7_0.5h.tif", "a/plate9_0.5h.tif", "a/plate7_1.5h.tif"]
    runs, times = runs_of(files, r"plate(?P<run>\d+)_(?P<time>[\d.]+)h")
    assert runs.tolist() == [0, 1, 0] and times.tolist() == [0.5, 0.5, 1.5]


def test_the_first_group_is_the_run_where_none_is_named():
    runs, times = runs_of(["x3_b.png", "x1_c.png", "x3_d.png"], r"x(\d)")
    assert runs.tolist() == [0, 1, 0] and times is None
    runs, times = runs_of(["9 x.png", "4 y.png"], r"(?P<time>\d) (\w)")
    assert runs.tolist() == [0, 1] and times.tolist() == [9, 4]


def test_a_time_alone_makes_all_files_one_run():
    runs, times = runs_of(["7.png", "3.png"], r"(?P<time>\d)")
    assert runs.tolist() == [0, 0] and times.tolist() == [7, 3]


@pytest.mark.parametrize(
    ("regex", "told"),
    [
        (r"run(\d", "no regular expression"),
        (r"run\d", "no group"),
        (r"run(\d)x", "run1.png does not fit"),
        (r"(?P<run>r)(?P<time>un)", "'un', which is no number"),
    ],
)
def test_mistakes_are_told(regex, told):
    with pytest.raises(UserError, match=told):
        runs_of(["run1.png"], regex)


@pytest.mark.parametrize(
    ("files", "runs", "times"),
    [
        (["run3_t010.png", "run3_t020.png", "run4_t010.png"], [0, 0, 1], [10, 20, 10]),
        (["plate_a_frame_0012.tif", "plate_b_frame_0012.tif", "plate_a_frame_0013.tif"], [0, 1, 0], [12, 12, 13]),
        (["a/t1.png", "a/t2.png", "b/t1.png", "b/t2.png"], [0, 0, 1, 1], [1, 2, 1, 2]),
        (["step-5 time=2.5.png", "step-5 time=3.png"], [0, 0], [2.5, 3]),
    ],
)
def test_plain_names_tell(files, runs, times):
    told_runs, told_times = runs_of(files)
    assert told_runs.tolist() == runs and told_times.tolist() == times
    (note,) = naming_note(files, told_runs, told_times)
    assert f"{len(files)} files are of {max(runs) + 1} run" in note and f"time {times[0]:g}" in note


@pytest.mark.parametrize(
    "files",
    [
        ["a.png", "b.png"],
        ["a1.png", "a2.png"],  # a number alone may be of a plate as of a frame
        ["plate1.png", "plate2.png"],  # t within a word
        ["a_t1.png", "b_t1.png"],  # no two of one run
        ["a_t1.png", "a_t01.png"],  # the same time twice
        ["a_t1.png", "a_t2.png", "c.png"],
        ["a_t1.png"],
    ],
)
def test_what_is_not_plain_is_left_open(files):
    assert runs_of(files) == (None, None) and naming_note(files, None, None) == ()


def test_numbers_follow_the_order_of_files():
    runs, _ = runs_of([f"r{n % 3}_t{n}.png" for n in range(9)])
    assert np.array_equal(runs, np.arange(9) % 3)
