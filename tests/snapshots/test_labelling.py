"""Which run, time and conditions each snapshot of others' files has."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from p2d.config import ImportConfig
from p2d.errors import UserError
from p2d.formats.stack import About, Stack
from p2d.snapshots.labelling import list_rows


@dataclass(frozen=True, eq=False)
class Named(Stack):
    names: tuple[str, ...] = ()

    def read(self, first, last):
        raise NotImplementedError

    def name_of(self, row):
        return self.names[row] if len(self.names) == self.count else f"{self.names[0]}, page {row}"

    @property
    def files(self):
        return self.names


def stack(*names, count=0, **known):
    return Named(count or len(names), (1, 4, 4), "float32", names=names, **known)


def rows(*stacks, **settings):
    return list_rows(stacks, ImportConfig(("x",), **settings))


def test_snapshots_of_which_nothing_is_known_are_runs_of_their_own():
    made = rows(stack("a.png", "b.png"), stack("film.avi", count=3, runs=np.zeros(3, int), times=np.arange(3.0)))
    assert made.stack.tolist() == [0, 0, 1, 1, 1] and made.row.tolist() == [0, 1, 0, 1, 2]
    assert made.run.tolist() == [0, 1, 2, 2, 2]
    assert_array_equal(made.time, [np.nan, np.nan, 0, 1, 2])
    assert made.conditions == {"imported": {}} and made.has_runs
    assert not rows(stack("a.png", "b.png")).has_runs


def test_runs_and_times_from_names():
    made = rows(stack("p2/t5.png", "p1/t0.png", "p2/t9.png"), runs_from=r"p(\d)/t(?P<time>\d+)")
    assert made.run.tolist() == [0, 1, 0] and made.time.tolist() == [5, 0, 9]


def test_every_counts_in_each_run_or_over_snapshots():
    film = stack("film.avi", count=7, runs=np.array([0, 0, 0, 0, 1, 1, 1]))
    assert rows(film, every=2).row.tolist() == [0, 2, 4, 6]
    assert rows(stack(*"abcde"), every=3).row.tolist() == [0, 3]
    sparse = rows(film, every=2, interval="1.5min")
    assert sparse.time.tolist() == [0, 3, 0, 3] and sparse.time_unit == "min"


def test_an_interval_needs_runs():
    with pytest.raises(UserError, match="interval = 3 needs snapshots of one run: say which"):
        rows(stack("a.png", "b.png"), interval="3")


def test_conditions_of_files_of_the_option_and_of_the_table_make_labels(tmp_path):
    (tmp_path / "t.csv").write_text("file,k\nb.png,2\nsub/a.png,1\nc.png,2\n")
    low = stack("x/sub/a.png", "x/b.png", about=About(conditions={"F": 0.5, "T": 1}))
    high = stack("x/c.png", about=About(conditions={"F": 0.25, "T": 2}))
    made = rows(low, high, table=str(tmp_path / "t.csv"), condition=("T=3",))
    assert made.conditions == {
        "F=0.5,T=3,k=1": {"F": 0.5, "T": 3, "k": 1},
        "F=0.5,T=3,k=2": {"F": 0.5, "T": 3, "k": 2},
        "F=0.25,T=3,k=2": {"F": 0.25, "T": 3, "k": 2},
    }
    assert made.label.tolist() == [0, 1, 2]


def test_rows_of_one_condition_come_together_and_runs_stay_apart(tmp_path):
    (tmp_path / "t.csv").write_text("run;time;F\na;0;1\na;0;2\na;5;1\nb;;2\n")
    made = rows(stack("x.npy", count=4), table=str(tmp_path / "t.csv"))
    assert made.row.tolist() == [0, 2, 1, 3] and made.label.tolist() == [0, 0, 1, 1]
    assert made.run.tolist() == [0, 0, 1, 2]  # run a at another condition is another run
    assert_array_equal(made.time, [0, 5, 0, np.nan])


def test_pages_of_several_files_find_their_lines(tmp_path):
    (tmp_path / "t.csv").write_text("file,F\nb.tif,2\na.tif,1\n")

    class Paged(Named):
        def name_of(self, row):
            return f"{self.names[row // 2]}, page {row % 2}"

    paged = Paged(4, (1, 4, 4), "float32", names=("a.tif", "b.tif"))
    made = rows(paged, table=str(tmp_path / "t.csv"))
    assert [list(made.conditions)[n] for n in made.label] == ["F=1", "F=1", "F=2", "F=2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,F\na.png,1\n", "has no line for b.png"),
        ("file,F\na.png,1\nb.png,1\nbb.png,1\n", "line 4: file bb.png: no such file is imported .did you mean 'b.png'"),
        ("file,F\na.png,1\na.png,1\n", "line 3: file a.png: it has a line already"),
        ("F\n1\n", "has 1 lines for 2 snapshots"),
        ("F\n1\nmuch\n", "line 3: F = 'much' is no number"),
        ("F,F\n1,1\n2,2\n", "names of its columns, each once"),
        ("F,k\n1\n2\n", "line 2: 1 values for 2 columns"),
        ("my F\n1\n2\n", "'my F' cannot stand in an equation"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        rows(stack("a.png", "b.png"), table=str(tmp_path / "t.csv"))


def test_times_of_several_units_are_refused():
    stacks = [stack(n, runs=np.zeros(1, int), times=np.zeros(1), about=About(time_unit=n)) for n in ("s", "min")]
    with pytest.raises(UserError, match="count time in min and s"):
        rows(*stacks)
