"""Places of results by name and by path, and writing: after a failure or a kill, the old or the new is there, whole."""

import itertools
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from p2d.errors import UserError
from p2d.places import Remote
from p2d.runs import (
    DATA,
    EQUATION,
    FLOW,
    REPORT,
    SCORE,
    SWEEP,
    copy_whole,
    fetched,
    make_output_folder,
    read_json,
    recovered,
    remove,
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
        write_json(place / (kind.mark or "card.json"), {})
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
def test_one_is_found_by_name_and_by_path(kind, anywhere, tmp_path, monkeypatch):
    place = made(kind, anywhere, "waves")
    monkeypatch.chdir(tmp_path)
    names = ["waves", str(place), *([str(place.relative_to(tmp_path))] if anywhere == tmp_path else [])]
    if kind.is_file:
        names.append(str(place.parent))
    for name in names:
        assert kind.find(anywhere, name).resolve() == place
    assert kind.names(anywhere) == ["waves"]


def test_a_name_under_the_output_folder_comes_before_a_path(tmp_path, monkeypatch):
    place = made(DATA, tmp_path / "runs", "waves")
    (tmp_path / "waves").mkdir()
    monkeypatch.chdir(tmp_path)
    assert DATA.find(tmp_path / "runs", "waves") == place


def test_an_equation_may_be_a_file_of_any_name(anywhere):
    write_json(anywhere / "mine.json", {})
    assert EQUATION.find(anywhere, str(anywhere / "mine.json")) == anywhere / "mine.json"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_what_is_not_there_is_told_with_the_nearest_the_others_and_what_makes_one(kind, anywhere):
    for name in ("waves", "spots"):
        made(kind, anywhere, name)
    with pytest.raises(UserError) as caught:
        kind.find(anywhere, "wavse")
    told = str(caught.value)
    assert told.startswith(f"there is no {kind.what} 'wavse' (did you mean 'waves'?), neither as a ")
    assert f"nor under {anywhere / kind.folder} (which holds spots, waves); {kind.made_by} makes one" in told
    with pytest.raises(UserError, match=r"'wavse', neither as .* \(which is empty\)"):
        kind.find(anywhere / "elsewhere", "wavse")


def test_a_folder_without_its_mark_is_no_model(anywhere):
    write_json(SCORE.place(anywhere, "begun") / "history.json", {})
    assert SCORE.names(anywhere) == []
    with pytest.raises(UserError, match="there is no score model 'begun'"):
        SCORE.find(anywhere, "begun")


def test_a_dataset_is_found_without_its_size_unless_there_are_several(anywhere):
    place = made(DATA, anywhere, "waves_8x8")
    assert DATA.find(anywhere, "waves") == place
    made(DATA, anywhere, "waves_16x16")
    with pytest.raises(UserError, match="several datasets are called 'waves': waves_16x16, waves_8x8; name one"):
        DATA.find(anywhere, "waves")


def test_the_nearest_is_told_by_its_short_name(anywhere):
    made(DATA, anywhere, "waves_128x128")
    with pytest.raises(UserError, match=r"no dataset 'wavse' \(did you mean 'waves'\?\)"):
        DATA.find(anywhere, "wavse")


def test_where_none_is_named_a_dataset_s_own_is_taken_if_it_is_there(anywhere):
    assert FLOW.find_or_own(anywhere, "", "waves") is None
    own, other = made(FLOW, anywhere, "waves"), made(FLOW, anywhere, "other")
    assert FLOW.find_or_own(anywhere, "", "waves") == own
    assert FLOW.find_or_own(anywhere, "other", "waves") == other
    with pytest.raises(UserError, match="no flow model 'third'"):
        FLOW.find_or_own(anywhere, "third", "waves")


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


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(anywhere):
    file = anywhere / "new" / "numbers.txt"
    with whole(file) as temporary:
        temporary.write_text("old")
        assert not file.exists()
    with pytest.raises(RuntimeError), whole(file) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [p.name for p in file.parent.iterdir()] == ["numbers.txt"]


def test_two_writers_of_one_file_do_not_meet(anywhere):
    file = anywhere / "numbers.txt"
    with whole(file) as first, whole(file) as second:
        first.write_text("one")
        second.write_text("two")
    assert file.read_text() == "one", "the last to end"
    assert list(anywhere.iterdir()) == [file]


def test_a_file_is_on_the_disk_under_its_name_before_the_next_one_is_written(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("os.fsync", lambda opened: flushed.append(os.path.realpath(f"/proc/self/fd/{opened}")))
    with whole(tmp_path / "card.json") as temporary:
        temporary.touch()
    assert flushed == [str(temporary), str(tmp_path)]
    flushed.clear()
    with whole_folder(tmp_path / "model") as made:
        (made / "weights").touch()
    assert flushed == [str(made / "weights"), str(tmp_path)]


def test_a_json_file_that_cannot_be_made_leaves_the_old_one(anywhere):
    file = anywhere / "new" / "settings.json"
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
        for name in ("a", "config.json"):
            (temporary / name).write_text(text)


def read(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.iterdir())]


def test_a_folder_takes_the_place_of_the_old_one(anywhere):
    folder = anywhere / "models" / "waves"
    for text in ("old", "new"):
        write(folder, text)
        assert read(folder) == [text, text]
    assert [p.name for p in folder.parent.iterdir()] == ["waves"]


def test_a_folder_that_fails_half_way_leaves_the_old_one_and_nothing_else(anywhere):
    folder = anywhere / "waves"
    write(folder, "old")
    with pytest.raises(RuntimeError), whole_folder(folder) as temporary:
        (temporary / "a").write_text("new")
        assert read(folder) == ["old", "old"]
        raise RuntimeError
    assert read(folder) == ["old", "old"]
    assert [p.name for p in anywhere.iterdir()] == ["waves"]


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


def killed_at(number, patch):
    """Kill what is done on an object store before the change of this number."""
    changes = itertools.count()

    def changing(method):
        def change(self, *arguments, **options):
            if next(changes) == number:
                raise Killed
            return method(self, *arguments, **options)

        return change

    for name in ("put", "copy_to", "unlink", "remove_below"):
        patch.setattr(Remote, name, changing(getattr(Remote, name)))
    return changes


def test_killed_before_any_change_of_an_object_store_the_old_or_the_new_folder_is_found_whole(s3_folder, monkeypatch):
    states = []
    for number in itertools.count():
        folder = SCORE.place(s3_folder, f"waves{number}")
        write(folder, "old")
        with monkeypatch.context() as patch:
            changes = killed_at(number, patch)
            with suppress(Killed):
                write(folder, "new")
        if next(changes) <= number:
            break
        assert SCORE.find(s3_folder, folder.name) == folder
        states.append(read(folder)[0])
        assert read(folder) == [states[-1]] * 2
        write(folder, "again")
        assert read(folder) == ["again", "again"]
        assert not [left for left in folder.parent.iterdir() if left.name.startswith(".")]
    assert states == sorted(states, reverse=True), "once it is the new one, it stays so"
    assert set(states) == {"old", "new"}


@pytest.mark.parametrize("second", [False, True])
def test_killed_before_any_change_a_first_folder_is_not_there_or_whole(second, s3_folder, monkeypatch):
    for number in range(4):
        folder = SCORE.place(s3_folder, f"waves{number}")
        with monkeypatch.context() as patch, suppress(Killed):
            killed_at(number, patch)
            write(folder, "new")
        assert SCORE.names(s3_folder) == []
        if second:
            write(folder, "again")
            assert read(SCORE.find(s3_folder, folder.name)) == ["again", "again"]
            remove(folder)


def test_a_folder_on_an_object_store_needs_the_file_that_is_put_last(s3_folder):
    with pytest.raises(ValueError, match=r"needs a config\.json"), whole_folder(s3_folder) as temporary:
        (temporary / "a").touch()
    assert not s3_folder.files()


def test_a_folder_and_a_file_are_fetched(anywhere):
    write(anywhere / "waves", "model")
    with fetched(anywhere / "waves") as folder, fetched(anywhere / "waves" / "a") as file:
        assert read(folder) == ["model", "model"]
        assert (file.name, file.read_text()) == ("a", "model")
    assert folder.exists() == (folder == anywhere / "waves")
    remove(anywhere / "waves")
    assert not (anywhere / "waves").exists()
    remove(anywhere / "waves")


def test_an_old_folder_alone_is_put_back(tmp_path):
    folder = tmp_path / "waves"
    write(folder, "old")
    folder.rename(tmp_path / ".waves.old")
    assert read(recovered(folder)) == ["old", "old"]
    assert [p.name for p in tmp_path.iterdir()] == ["waves"]


def test_a_folder_that_was_never_there_is_not_made_of_a_part(tmp_path):
    (tmp_path / ".waves.tmp").mkdir()
    assert not recovered(tmp_path / "waves").exists()


def test_a_copy_is_whole_and_the_source_stays(anywhere):
    source, folder = anywhere / "source", anywhere / "place" / "best"
    write(source, "model")
    write(folder, "before")
    write_json(folder / "more.json", {"gone": "with the old one"})
    copy_whole(source, folder)
    assert read(folder) == read(source) == ["model", "model"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"other": 1}', "[" * 100_000, '{"a": "\\ud800', "\x00"])
def test_json_that_is_not_what_was_written_is_damaged(text, tmp_path):
    file = tmp_path / "result.json"
    write_json(file, {"values": [1], "other": 2})
    assert read_json(file, "values") == {"values": [1], "other": 2}
    file.write_text(text)
    with pytest.raises(UserError, match=r"result.json is damaged .*; remove it, and run what made it again"):
        read_json(file, "values")
