"""Places on object stores, held against a Path of the same files, and what is told of a store that refuses."""

import errno
import os
import pickle
import socket
import time
from pathlib import Path

import pytest

from p2d.errors import UserError
from p2d.places import Remote, place, uri
from p2d.runs import make_output_folder, whole

FILES = {"card.json": "{}", "b/one.parquet": "one", "b/two.parquet": "two", "b/c/.hidden.png": "", "d.e.txt": "ü"}


def below(folder, root):
    """Paths below a root, of Paths or Remotes."""
    names = [path.relative_to(root) for path in folder]
    return sorted(name if isinstance(name, str) else name.as_posix() for name in names)


def filled(folder):
    for name, text in FILES.items():
        with whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder


# Texts


@pytest.mark.parametrize("text", ["runs", "/abs/runs", "a:b/c", "C:\\runs", "s3/x", "x.s3:y"])
def test_a_path_is_a_path(text):
    assert place(text) == Path(text)
    assert place(Path(text)) == Path(text)


def test_the_home_folder_is_a_path_and_a_file_uri_too(tmp_path):
    assert place("~/runs") == Path.home() / "runs"
    assert place("file:///a%20b/runs") == Path("/a b/runs")
    assert place(tmp_path.as_uri()) == tmp_path
    assert uri(Path("runs")) == str(Path.cwd() / "runs")


@pytest.mark.parametrize("text", ["s3://bucket/runs", "gs://bucket/a/b", "az://container/x", "S3://bucket//runs/"])
def test_a_uri_is_a_place_on_an_object_store(text):
    remote = place(text)
    assert isinstance(remote, Remote)
    assert str(remote) == uri(remote) == text.lower().replace("bucket//runs/", "bucket/runs")
    assert place(str(remote)) == place(remote) == pickle.loads(pickle.dumps(remote)) == remote


def test_the_options_of_a_store_stay_behind_all_its_places():
    remote = place("s3://bucket/runs?endpoint_override=localhost:9000&scheme=http") / "data" / "waves"
    assert str(remote) == "s3://bucket/runs/data/waves?endpoint_override=localhost:9000&scheme=http"
    assert str(place("abfs://box@acc.dfs.core.windows.net/x") / "y") == "abfs://box/x/y?account=acc"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("foo://bucket/x", r"unknown scheme foo:// of a place; known: s3://, .*, or a path without one"),
        ("foo:/x", "unknown scheme foo:/"),
        ("s3:/bucket/x", r"neither a path nor .*; did you mean s3://bucket/x\?"),
        ("s3:bucket", r"did you mean s3://bucket\?"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("file:/x", "written file:///PATH"),
        ("file://x", "written file:///PATH"),
        ("s3://bucket/a/../../other", r"without '\.\.'"),
        ("s3://bucket/x?endpoint=y", r"unknown option of s3://bucket/x 'endpoint' \(did you mean 'endpoint_override'"),
        ("gs://bucket/x?region=y", "unknown option of gs"),
    ],
)
def test_what_is_neither_is_refused(text, says):
    with pytest.raises(UserError, match=says):
        place(text)


@pytest.mark.parametrize("text", ["s3://key:secret@bucket/x", "s3:/key:secret@bucket", "az://key:secret@box/x"])
def test_credentials_in_a_place_are_refused_and_not_shown(text):
    with pytest.raises(UserError) as refused:
        place(text)
    assert "secret" not in str(refused.value)


# Both are read by the same names


def test_names_are_those_of_a_path():
    remote, path = place("s3://bucket/a/b.c.txt"), Path("/bucket/a/b.c.txt")
    for part in ("name", "stem", "suffix"):
        assert getattr(remote, part) == getattr(path, part)
    assert remote.parent == place("s3://bucket/a")
    assert remote.with_name("d") == place("s3://bucket/a/d") == place("s3://bucket") / "a" / "d"
    assert remote.parent.parent.parent == place("s3://bucket")


def test_a_folder_reads_as_one_of_a_path(tmp_path, s3_folder):
    remote, local = filled(s3_folder), filled(tmp_path)
    for folder in ("", "b", "none"):
        for pattern in ("*", "*.parquet", ".*", "b/*.parquet", "*/*", "b/*/.h*"):
            assert below((remote / folder).glob(pattern), remote) == below((local / folder).glob(pattern), local)
        assert below((remote / folder).rglob("*"), remote) == below((local / folder).rglob("*"), local)
        assert (remote / folder).is_dir() == (local / folder).is_dir()
    assert below(remote.iterdir(), remote) == below(local.iterdir(), local)
    for name in (*FILES, "b", "none"):
        for asked in ("exists", "is_file", "is_dir"):
            assert getattr(remote / name, asked)() == getattr(local / name, asked)()


def test_a_file_reads_as_one_of_a_path(anywhere):
    file = filled(anywhere) / "d.e.txt"
    assert file.read_text(encoding="utf-8") == "ü"
    with file.open("rb") as opened:
        assert opened.read() == "ü".encode()
    assert file.stat().st_size == 2
    assert abs(file.stat().st_mtime - time.time()) < 60
    file.rename(file.with_name("other"))
    assert not file.exists()
    assert file.with_name("other").read_bytes() == "ü".encode()


def test_what_is_not_there_is_told_as_of_a_path(anywhere):
    file = anywhere / "none"
    for read in (file.read_bytes, file.read_text, file.stat, file.unlink, lambda: file.open("rb")):
        with pytest.raises(FileNotFoundError) as missing:
            read()
        assert missing.value.errno == errno.ENOENT
        assert str(missing.value.filename) == str(file)
    file.unlink(missing_ok=True)


def test_remotes_are_read_only_but_for_what_is_put_whole(s3_folder):
    with pytest.raises(ValueError, match="read as bytes"):
        (s3_folder / "x").open("w")
    with pytest.raises(TypeError):
        os.fspath(s3_folder)


# Stores that refuse


def test_an_endpoint_is_taken_from_the_environment(s3_folder, monkeypatch):
    filled(s3_folder)
    endpoint = s3_folder.options.partition("&")[0].removeprefix("endpoint_override=")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    assert place(str(s3_folder).partition("?")[0] + "/card.json").read_text() == "{}"


def test_a_bucket_that_is_not_there_is_told_in_one_line(s3_options):
    with pytest.raises(UserError, match=r"cannot write to .* s3://no-bucket/runs\?.*: there is no such bucket"):
        make_output_folder(place(f"s3://no-bucket/runs?{s3_options}"))


def test_an_output_folder_is_left_as_it_was(s3_folder):
    assert make_output_folder(s3_folder) == s3_folder
    assert not s3_folder.files()


def test_a_store_that_does_not_answer_is_told_in_seconds():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(UserError, match="the store does not answer: check the network, and AWS_ENDPOINT_URL"):
        make_output_folder(place(f"s3://bucket/runs?endpoint_override=127.0.0.1:{port}&scheme=http"))
    assert time.monotonic() - start < 10
