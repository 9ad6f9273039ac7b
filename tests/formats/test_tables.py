"""Text: grids and tables with coordinates, whatever separates the numbers."""

import numpy as np
import pytest

from p2d.formats.opening import open_stacks
from p2d.formats.stack import Asked

from .helpers import mutated, opened, refused, same_or_refused

GRID = np.random.default_rng(0).random((20, 20)).round(6)
NUMBERS = ",".join(map(str, range(20)))


def text(grid, separator=",", decimal="."):
    return "\n".join(separator.join(f"{value:.6f}".replace(".", decimal) for value in row) for row in grid)


@pytest.mark.parametrize(
    "written",
    [
        text(GRID),
        text(GRID, "\t").replace("\n", "\t\n") + "\t\n",
        "# a comment\n\n" + text(GRID, "  ") + "\n",
        text(GRID, ";", ","),
        text(GRID, " ", ","),
        ","
        + ",".join(map(str, range(20)))
        + "\n"
        + "\n".join(f"{n},{r}" for n, r in enumerate(text(GRID).split("\n"))),
        NUMBERS + "\n" + text(GRID),
        "\ufeff" + text(GRID).replace("\n", "\r\n"),
    ],
    ids=["commas", "tabs", "spaces", "semicolons", "decimal commas", "pandas", "column numbers", "windows"],
)
def test_grids(tmp_path, written):
    (tmp_path / "a.csv").write_text(written, encoding="utf-8", newline="")
    np.testing.assert_array_equal(opened(tmp_path / "a.csv").read(0, 1)[0, 0], GRID)


def test_many_grids_are_many_snapshots(tmp_path):
    for n in range(11):
        np.savetxt(tmp_path / f"s{n}.txt", GRID + n)
    stacks = open_stacks([tmp_path], Asked(species=("c",)))
    assert [round(s.read(0, 1)[0, 0, 0, 0] - GRID[0, 0]) for s in stacks] == list(range(11))


def test_a_grid_of_unequal_sides_is_asked_for(tmp_path):
    np.savetxt(tmp_path / "a.txt", GRID[:15])
    assert "15 x 20" in refused(tmp_path / "a.txt") and "--axes, such as HW or NW" in refused(tmp_path / "a.txt")
    assert opened(tmp_path / "a.txt", axes="TW").count == 15
    assert opened(tmp_path / "a.txt", axes="YX").shape == (1, 15, 20)


def test_tables_with_coordinates_in_any_order_of_rows(tmp_path):
    t, y, x = (
        a.reshape(-1) for a in np.meshgrid(np.arange(3) * 0.1, np.arange(4) * 2.0, np.arange(5) * 2.0, indexing="ij")
    )
    u, v = np.random.default_rng(1).random((2, 60))
    rows = np.stack([x, v, t, u, y], 1)
    shuffled = np.random.default_rng(2).permutation(60)
    np.savetxt(tmp_path / "a.csv", rows[shuffled], delimiter=",", header="x,v,t,u,y", comments="")
    stack = opened(tmp_path / "a.csv", species=("u", "v"))
    np.testing.assert_array_equal(stack.read(1, 3), np.stack([u, v]).reshape(2, 3, 4, 5).swapaxes(0, 1)[1:])
    assert stack.about.spacing == 2 and np.allclose(stack.times, [0, 0.1, 0.2]) and not stack.runs.any()
    assert opened(tmp_path / "a.csv", arrays=("v",), species=("b",)).about.species == ("b",)
    assert "did you mean 'v'" in refused(tmp_path / "a.csv", arrays=("vv",))
    np.savetxt(tmp_path / "b.csv", rows[1:], delimiter=",", header="x,v,t,u,y", comments="")
    assert "59 rows make no full grid of 3 x 4 x 5" in refused(tmp_path / "b.csv")


def test_a_profile_has_a_column_for_each_species(tmp_path):
    profile = np.random.default_rng(1).random((30, 3))
    np.savetxt(tmp_path / "a.dat", profile, header="x u v")
    (tmp_path / "b.csv").write_text("u,v\n" + text(profile[:, 1:]))
    assert opened(tmp_path / "b.csv").shape == (2, 1, 30)
    profile[:, 0] = np.arange(30) * 0.5
    np.savetxt(tmp_path / "a.dat", profile, header="x u v")
    stack = opened(tmp_path / "a.dat")
    np.testing.assert_array_equal(stack.read(0, 1)[0, :, 0], profile[:, 1:].T)
    assert stack.about.species == ("u", "v") and stack.about.spacing == 0.5


@pytest.mark.parametrize(
    "content, told",
    [
        (b"1,2\n3\n", "number of columns changed"),
        (b"\xff\xfe\x00", "is no text"),
        (b"a few words\nand more\n", "no table of numbers"),
        (b"# nothing\n", "no numbers"),
        (b"t,u\n1,2\n2,3\n", "none for x or y"),
        (b"x,y,z,u\n1,2,3,4\n", "only planes"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, content, told):
    (tmp_path / "a.csv").write_bytes(content)
    assert told in refused(tmp_path / "a.csv")


def test_mutated_text(tmp_path):
    for n in range(60):
        content = mutated(
            ("x,y,u\n" + "\n".join(f"{n % 5},{n // 5},0.{n}" for n in range(25))).encode(), np.random.default_rng(n)
        )
        same_or_refused(tmp_path / "a.csv", content)
