"""Places of results by name and by path, and writing: after a failure or a kill, the old or the new is there, whole."""

import json
from pathlib import Path

import pytest

from p2d.errors import UserError
from p2d.runs import (
    DATA,
    EQUATION,
    FLOW,
    REPORT,
    SCORE,
    SWEEP,
    copy_whole,
    make_output_folder,
    recovered,
    remove_unfinished,
    short_name,
    whole,
    whole_folder,
    write_json,
)

KINDS = [DATA, SCORE, FLOW, EQUATION]


def made(kind, out: Path, name: str) -> Path:
    place = kind.place(out, name)
    if kind.is_file:
        write_json(place, {})
    else:
        place.mkdir(parents=True)
        (place / (kind.mark or "card.json")).write_text("{}")
    return place


# Names


def test_every_kind_has_its_place():
    places = [kind.place("runs", "waves").as_posix() for kind in (DATA, SCORE, FLOW, EQUATION, REPORT, SWEEP)]
    assert places == [
        "runs/data/waves",
        "runs/score/waves",
        "runs/flow/waves",
        "runs/discover/waves/equation.json",
        "runs/report/waves",
        "runs/sweep/waves",
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_one_is_found_by_name_and_by_path(kind, tmp_path, monkeypatch):
    place = made(kind, tmp_path, "waves")
    monkeypatch.chdir(tmp_path)
    names = ["waves", str(place), str(place.relative_to(tmp_path))]
    if kind.is_file:
        names.append(str(place.parent))
    for name in names:
        assert kind.find(tmp_path, name).resolve() == place
    assert kind.names(tmp_path) == ["waves"]


def test_a_name_under_the_output_folder_comes_before_a_path(tmp_path, monkeypatch):
    place = made(DATA, tmp_path / "runs", "waves")
    (tmp_path / "waves").mkdir()
    monkeypatch.chdir(tmp_path)
    assert DATA.find(tmp_path / "runs", "waves") == place


def test_an_equation_may_be_a_file_of_any_name(tmp_path):
    write_json(tmp_path / "mine.json", {})
    assert EQUATION.find(tmp_path, str(tmp_path / "mine.json")) == tmp_path / "mine.json"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_what_is_not_there_is_told_with_the_nearest_the_others_and_what_makes_one(kind, tmp_path):
    for name in ("waves", "spots"):
        made(kind, tmp_path, name)
    with pytest.raises(UserError) as caught:
        kind.find(tmp_path, "wavse")
    told = str(caught.value)
    assert told.startswith(f"there is no {kind.what} 'wavse' (did you mean 'waves'?), neither as a ")
    assert f"nor under {tmp_path / kind.folder} (which holds spots, waves); {kind.made_by} makes one" in told
    with pytest.raises(UserError, match=r"'wavse', neither as .* \(which is empty\)"):
        kind.find(tmp_path / "elsewhere", "wavse")


def test_a_folder_without_its_mark_is_no_model(tmp_path):
    SCORE.place(tmp_path, "begun").mkdir(parents=True)
    assert SCORE.names(tmp_path) == []
    with pytest.raises(UserError, match="there is no score model 'begun'"):
        SCORE.find(tmp_path, "begun")


def test_a_dataset_is_found_without_its_size_unless_there_are_several(tmp_path):
    place = made(DATA, tmp_path, "waves_8x8")
    assert DATA.find(tmp_path, "waves") == place
    made(DATA, tmp_path, "waves_16x16")
    with pytest.raises(UserError, match="several datasets are called 'waves': waves_16x16, waves_8x8; name one"):
        DATA.find(tmp_path, "waves")


def test_the_nearest_is_told_by_its_short_name(tmp_path):
    made(DATA, tmp_path, "waves_128x128")
    with pytest.raises(UserError, match=r"no dataset 'wavse' \(did you mean 'waves'\?\)"):
        DATA.find(tmp_path, "wavse")


def test_where_none_is_named_a_dataset_s_own_is_taken_if_it_is_there(tmp_path):
    assert FLOW.find_or_own(tmp_path, "", "waves") is None
    own, other = made(FLOW, tmp_path, "waves"), made(FLOW, tmp_path, "other")
    assert FLOW.find_or_own(tmp_path, "", "waves") == own
    assert FLOW.find_or_own(tmp_path, "other", "waves") == other
    with pytest.raises(UserError, match="no flow model 'third'"):
        FLOW.find_or_own(tmp_path, "third", "waves")


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("waves_128x128", "waves"),
        ("u_skate_64x32", "u_skate"),
        ("waves+life_8x8", "waves+life"),
        ("mine", "mine"),
        ("a_8x8_b", "a_8x8_b"),
        ("x_16x", "x_16x"),
    ],
)
def test_the_short_name_is_the_name_without_its_size(name, short):
    assert short_name(name) == short


NO_NAMES = [
    "../x",
    "..",
    ".",
    "",
    "/tmp/x",
    "a/b",
    "a\\b",
    ".hidden",
    "a\0b",
    "a\nb",
    "\ud800",
    "x" * 201,
    "\u00fc" * 101,
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_named_stays_in_its_folder(name, tmp_path):
    for kind in (*KINDS, REPORT, SWEEP):
        with pytest.raises(UserError, match=f"no {kind.what} can be called .*; take another --name") as refused:
            kind.place(tmp_path, name)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_path_that_is_no_name_is_read_and_lends_its_last_part(tmp_path, monkeypatch):
    hidden = tmp_path / "sweep" / ".best"
    write_json(hidden / FLOW.mark, {})
    assert FLOW.find(tmp_path, str(hidden)) == hidden
    monkeypatch.chdir(hidden)
    assert FLOW.find(tmp_path, ".") == hidden
    for name in ("x" * 300, "a\0b", f"there/{'x' * 300}"):
        with pytest.raises(UserError, match="flow model"):
            FLOW.find(tmp_path, name)


def test_a_folder_of_a_strange_name_is_not_among_the_names(tmp_path):
    made(DATA, tmp_path, "waves")
    (tmp_path / "data" / "two\nlines").mkdir()
    assert DATA.names(tmp_path) == ["waves"]


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path):
    assert make_output_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot make the output folder .*file/runs: Not a directory; take another"):
        make_output_folder(tmp_path / "file" / "runs")


# Files


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    file = tmp_path / "new" / "numbers.txt"
    with whole(file) as temporary:
        temporary.write_text("old")
        assert not file.exists()
    with pytest.raises(RuntimeError), whole(file) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [p.name for p in file.parent.iterdir()] == ["numbers.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    file = tmp_path / "numbers.txt"
    with whole(file) as first, whole(file) as second:
        first.write_text("one")
        second.write_text("two")
    assert file.read_text() == "one", "the last to end"
    assert list(tmp_path.iterdir()) == [file]


def test_a_json_file_that_cannot_be_made_leaves_the_old_one(tmp_path):
    file = tmp_path / "new" / "settings.json"
    write_json(file, {"a": [1, 2.5, None]})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": [1, 2.5, None]}
    assert [p.name for p in file.parent.iterdir()] == ["settings.json"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    with whole(tmp_path / "killed") as temporary:
        temporary.write_text("half")
        left = temporary.with_name(temporary.name.replace("killed", "before"))
        left.write_text("half")
    (tmp_path / ".lock").touch()
    remove_unfinished(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"killed", ".lock"}


# Folders


def write(folder: Path, text: str) -> None:
    with whole_folder(folder) as temporary:
        for name in ("a", "b"):
            (temporary / name).write_text(text)


def read(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.iterdir())]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "models" / "waves"
    for text in ("old", "new"):
        write(folder, text)
        assert read(folder) == [text, text]
    assert [p.name for p in folder.parent.iterdir()] == ["waves"]


def test_a_folder_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    folder = tmp_path / "waves"
    write(folder, "old")
    with pytest.raises(RuntimeError), whole_folder(folder) as temporary:
        (temporary / "a").write_text("new")
        assert read(folder) == ["old", "old"]
        raise RuntimeError
    assert read(folder) == ["old", "old"]
    assert [p.name for p in tmp_path.iterdir()] == ["waves"]


class Killed(BaseException):
    """Takes the place of a kill: what follows is not done."""


@pytest.mark.parametrize("before", ["first rename", "second rename", "removal"])
def test_killed_at_any_point_the_old_or_the_new_folder_is_found_whole(before, tmp_path, monkeypatch):
    folder = made(SCORE, tmp_path, "waves")
    (folder / "config.json").write_text("old")
    rename, renames = Path.rename, []

    def stop(self, target):
        renames.append(target)
        if len(renames) == ["first rename", "second rename"].index(before) + 1:
            raise Killed
        return rename(self, target)

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed), whole_folder(folder) as temporary:
        (temporary / "config.json").write_text("new")
        if before == "removal":
            patch.setattr("p2d.runs.shutil.rmtree", die)
        else:
            patch.setattr(Path, "rename", stop)
    assert folder.exists() == (before != "second rename")
    assert SCORE.find(tmp_path, "waves") == folder
    assert read(folder) == ["old" if before == "first rename" else "new"]
    with whole_folder(folder) as temporary:
        (temporary / "config.json").write_text("again")
    assert read(folder) == ["again"]
    assert [p.name for p in folder.parent.iterdir()] == ["waves"]


def test_an_old_folder_alone_is_put_back(tmp_path):
    folder = tmp_path / "waves"
    write(folder, "old")
    folder.rename(tmp_path / ".waves.old")
    assert read(recovered(folder)) == ["old", "old"]
    assert [p.name for p in tmp_path.iterdir()] == ["waves"]


def test_a_folder_that_was_never_there_is_not_made_of_a_part(tmp_path):
    (tmp_path / ".waves.tmp").mkdir()
    assert not recovered(tmp_path / "waves").exists()


def test_a_copy_is_whole_and_the_source_stays(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "place" / "best"
    write(source, "model")
    write(folder, "before")
    (folder / "more").write_text("gone with the old one")
    copy_whole(source, folder)
    assert read(folder) == read(source) == ["model", "model"]
