"""The report pages on loopback: what they lead to, and that nothing else does."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from p2d.errors import UserError
from p2d.tracking import pages, ui


@pytest.fixture
def out(tmp_path):
    """Two reports with a page, one without, and things that are nobody's business."""
    for name in ("waves", "of mine & <others>"):
        (tmp_path / "report" / name / "training").mkdir(parents=True)
        (tmp_path / "report" / name / "index.html").write_text(f"<h1>{len(name)}</h1>")
        (tmp_path / "report" / name / "training" / "losses.png").write_bytes(b"\x89PNG")
        (tmp_path / "report" / name / ".hidden").write_text("secret")
    (tmp_path / "report" / "unfinished").mkdir()
    (tmp_path / "report" / "unfinished" / "summary.json").write_text("secret")
    (tmp_path / "report" / "secret").write_text("secret")
    (tmp_path / "mlflow.db").write_text("secret")
    (tmp_path / "report" / "waves" / "link").symlink_to(tmp_path / "mlflow.db")
    (tmp_path / "report" / "out").symlink_to(tmp_path)
    return tmp_path


def ask(address, path, method="GET", **headers):
    """Status, body and headers of an answer; the path goes out as it is."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def test_the_pages_and_what_lies_beside_them_are_read(out):
    with pages.served(out, 0) as address:
        status, body, _ = ask(address, "/")
        assert status == 200 and b'href="/waves/"' in body
        assert b"of mine &amp; &lt;others&gt;" in body and b'href="/of%20mine%20%26%20%3Cothers%3E/"' in body
        assert b"unfinished" not in body
        status, body, headers = ask(address, "/waves/")
        assert (status, body, headers["Content-Type"]) == (200, b"<h1>5</h1>", "text/html; charset=utf-8")
        assert ask(address, "/waves/index.html?x=1")[1] == b"<h1>5</h1>"
        assert ask(address, "/of%20mine%20%26%20%3Cothers%3E/")[1] == b"<h1>18</h1>"
        status, body, headers = ask(address, "/waves/training/losses.png")
        assert (status, body, headers["Content-Type"]) == (200, b"\x89PNG", "image/png")
        status, _, headers = ask(address, "/waves")
        assert (status, headers["Location"]) == (301, "/waves/")
        status, body, headers = ask(address, "/waves/", "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", "10")


@pytest.mark.parametrize(
    "path",
    [
        "/../mlflow.db",
        "/waves/../../mlflow.db",
        "/waves/%2e%2e/%2e%2e/mlflow.db",
        "/waves/..%2f..%2fmlflow.db",
        "/waves//etc/passwd",
        "/waves/%00",
        "/waves/.hidden",
        "/waves/link",
        "/waves/training",
        "/out/mlflow.db",
        "/secret",
        "/unfinished/",
        "/unfinished/summary.json",
        "//etc/passwd",
        "/..",
        "/%2e%2e/report/secret",
        "/nothing/",
    ],
)
def test_nothing_else_is(out, path):
    with pages.served(out, 0) as address:
        status, body, _ = ask(address, path)
        assert status == 404 and b"secret" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_can_only_be_read(out, method):
    with pages.served(out, 0) as address:
        assert ask(address, "/waves/", method)[0] == 501
    assert (out / "report" / "waves" / "index.html").read_text() == "<h1>5</h1>"


def test_another_site_s_name_for_this_machine_is_refused(out):
    with pages.served(out, 0) as address:
        assert ask(address, "/waves/", Host="evil.example:80")[0] == 403
        assert ask(address, "/waves/", Host=f"localhost:{urlsplit(address).port}")[0] == 200


def test_it_listens_on_loopback_and_takes_another_port_if_one_is_taken(out):
    with pages.served(out, 0) as first:
        port = urlsplit(first).port
        with pages.served(out, port) as second:
            assert urlsplit(second).hostname == "127.0.0.1" and urlsplit(second).port != port


def test_one_page_alone_is_opened_itself(out):
    (out / "report" / "of mine & <others>" / "index.html").unlink()
    with pages.served(out, 0) as address:
        assert urlsplit(address).path == "/waves/"
        assert ask(address, "/waves/")[0] == 200


def test_without_tracked_runs_the_reports_are_served_alone(out, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (out / "mlflow.db").unlink()
    answers = []

    def seen(text, **_):
        answers.append(ask(json.loads(text)["report"], "/waves/")[1])
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", seen)
    with pytest.raises(KeyboardInterrupt):
        ui.serve(out, 0, as_json=True)
    assert answers == [b"<h1>5</h1>"]


def test_with_neither_runs_nor_reports_there_is_nothing_to_open(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="there are no tracked runs"):
        ui.serve(tmp_path, 5000)
