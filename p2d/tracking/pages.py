"""The report pages of an output folder, read-only, on this machine's loopback alone."""

from __future__ import annotations

import contextlib
import functools
import html
import mimetypes
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from p2d.runs import REPORT, is_name

PAGE = "index.html"
LOOPBACK = ("127.0.0.1", "localhost")
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>p2d reports</title>
<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}
body{font:1.1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}
</style><h1>p2d reports</h1>"""


def names(out: Path) -> list[str]:
    """Names of the reports that have a page."""
    return [name for name in REPORT.names(out) if (REPORT.place(out, name) / PAGE).is_file()]


def file_of(out: Path, path: str) -> Path | None:
    """The file that the path of an address leads to: a page, or what lies beside it; None for all else.

    A page's folder is closed: no '..', no hidden file, and no link leads out of it.
    """
    name, *parts = unquote(path).removeprefix("/").split("/")
    if not is_name(name) or any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    folder = REPORT.place(out, name).resolve()
    file = folder.joinpath(*filter(None, parts)).resolve()
    file = file / PAGE if file == folder else file
    return file if (folder / PAGE).is_file() and file.is_relative_to(folder) and file.is_file() else None


def index(out: Path) -> str:
    """A page that leads to all others."""
    links = "".join(f'<li><a href="/{quote(name)}/">{html.escape(name)}</a></li>' for name in names(out))
    return f"{HEAD}<ul>{links}</ul></html>"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, and nothing else."""

    def __init__(self, *request: Any, out: Path) -> None:
        self.out = out
        super().__init__(*request)

    def do_GET(self) -> None:
        """The list of pages, a page, or a file beside it."""
        path = urlsplit(self.path).path
        if self.headers.get("Host", "").rpartition(":")[0] not in LOOPBACK:  # a name of others that leads here
            self.send_error(HTTPStatus.FORBIDDEN)
        elif path == "/":
            self._answer(index(self.out).encode(), "text/html; charset=utf-8")
        elif (file := file_of(self.out, path)) is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif file.name == PAGE and not path.endswith(("/", PAGE)):  # or its links would lead beside it
            self.send_response(HTTPStatus.MOVED_PERMANENTLY)
            self.send_header("Location", f"{path}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._answer(file.read_bytes(), f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)

    do_HEAD = do_GET

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        headers |= {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The screen is not for every answer."""


@contextlib.contextmanager
def served(out: Path, port: int) -> Iterator[str]:
    """Serve the pages while the block runs.

    Args:
        port: of loopback, or any if it is not free.

    Yields:
        The address of their list; of the page itself where there is one only.
    """
    handler = functools.partial(_Handler, out=out)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        own = names(out)
        yield f"http://127.0.0.1:{server.server_port}/{quote(own[0]) + '/' if len(own) == 1 else ''}"
    finally:
        server.shutdown()
        server.server_close()
