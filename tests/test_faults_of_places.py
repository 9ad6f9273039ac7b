"""A store that refuses or fails: what was there stays, and one line says what to mend and shows no secret."""

import re
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from p2d.cli import main
from p2d.errors import UserError
from p2d.places import place
from p2d.runs import make_output_folder, whole, write_json
from p2d.snapshots.files import read_table
from p2d.snapshots.simulated import simulate_here
from tests.snapshots.helpers import small

LARGE = 12 * 2**20  # bytes that are put in parts
REFUSED = (403, "<Error><Code>AccessDenied</Code><Message>key testing, secret not-to-be-shown</Message></Error>")
FAILED = (500, "<Error><Code>InternalError</Code><Message>try again</Message></Error>")


@pytest.fixture
def faulty(s3_options, s3_folder):
    """A folder of the S3 server behind one that answers some requests itself: those of `faults`, {pattern: answer}."""
    server = s3_options.partition("&")[0].removeprefix("endpoint_override=")
    faults, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.body()
            asked.append(f"{self.command} {self.path}")
            for pattern, (status, text) in faults.items():
                if re.search(pattern, asked[-1]):
                    return self.reply(status, {"Content-Type": "application/xml"}, text.encode())
            request = urllib.request.Request(f"http://{server}{self.path}", body or None, method=self.command)
            for name, value in self.headers.items():
                if name.lower() not in ("host", "content-length", "transfer-encoding", "connection", "expect"):
                    request.add_header(name, value)
            try:
                with urllib.request.urlopen(request) as response:
                    return self.reply(response.status, dict(response.headers), response.read())
            except urllib.error.HTTPError as error:
                return self.reply(error.code, dict(error.headers), error.read())

        def body(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def reply(self, status, headers, body):
            self.send_response(status)
            is_head = self.command == "HEAD"
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if is_head else str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(b"" if is_head else body)

        def log_message(self, *_):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    folder = place(f"s3://{s3_folder.key}?endpoint_override=127.0.0.1:{proxy.server_port}&scheme=http")
    yield folder, faults, asked
    proxy.shutdown()


def test_access_that_is_refused_is_told_in_one_line_without_a_secret(faulty, capsys):
    folder, faults, _ = faulty
    faults["^PUT"] = REFUSED
    start = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--num-samples", "2", "--no-tracking", "-o", str(folder)])
    told = capsys.readouterr().err
    assert time.monotonic() - start < 10
    assert ended.value.code == 2
    assert re.fullmatch(r"p2d: cannot write to the output folder s3://.*: access is refused: check the .*\n", told)
    assert "not-to-be-shown" not in told
    assert "testing" not in told


@pytest.mark.slow
def test_a_put_that_fails_half_way_leaves_what_was_there(faulty):
    folder, faults, asked = faulty
    file = folder / "large"
    with whole(file) as temporary:
        temporary.write_bytes(b"a" * LARGE)
    faults["^PUT.*partNumber=2"] = FAILED
    with pytest.raises(OSError, match="the store fails"), whole(file) as temporary:
        temporary.write_bytes(b"b" * LARGE)
    assert any("partNumber=1" in one for one in asked)
    assert file.read_bytes() == b"a" * LARGE
    faults.clear()
    with whole(file) as temporary:
        temporary.write_bytes(b"b" * LARGE)
    assert file.read_bytes() == b"b" * LARGE


@pytest.mark.slow
def test_a_read_that_fails_is_told_with_the_file(faulty):
    folder, faults, _ = faulty
    dataset = simulate_here(small(), folder / "waves")
    name = dataset.card.shards[1]["name"]
    faults[rf"^GET.*{name}"] = FAILED
    with pytest.raises(UserError, match=rf"{name}.* cannot be read"):
        read_table(dataset.folder / name)
    with pytest.raises(OSError, match=r"the store fails \(INTERNAL_FAILURE\)"):
        (dataset.folder / name).read_bytes()
    faults.clear()
    assert simulate_here(small(), folder / "waves").card.dataset_hash == dataset.card.dataset_hash


def test_a_store_that_may_not_be_listed_is_told(faulty):
    folder, faults, _ = faulty
    write_json(folder / "data" / "x.json", {})
    assert make_output_folder(folder) == folder
    faults["^GET.*list-type"] = REFUSED
    with pytest.raises(PermissionError, match="access is refused"):
        list(folder.iterdir())
