"""Places on object stores (s3://, gs://, az://): the part of pathlib's interface that p2d uses, over pyarrow.fs.

`place` turns what a user writes into a Path or a Remote, and code that keeps to their common methods works on both: in
this package an argument of type Path may be a Remote. What is written goes through p2d/runs.py, which puts files whole.
Only S3 has been tried against a server.

Credentials come from the store's own chain (for S3: AWS_* variables, ~/.aws, the machine's role), on every node. They
are no part of a place, a message, or what workers are sent.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote

from p2d.errors import UserError, refuse_unknown

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileInfo, FileSystem

S3, GOOGLE, AZURE, LOCAL = ("s3",), ("gs", "gcs"), ("az", "abfs", "abfss"), ("file",)
SCHEMES = (*S3, *GOOGLE, *AZURE, *LOCAL)
OPTIONS = {**dict.fromkeys(S3, ("endpoint_override", "scheme", "region")), **dict.fromkeys(AZURE, ("account",))}
COPY_BYTES = 16 * 2**20
CONNECT_S, ATTEMPTS, GIVE_UP_S = 5, 3, 15  # a store that does not answer is told in seconds
# What a store's own error says, and what is told of it; the first that fits.
TROUBLES = (
    (r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist", errno.ENOENT, "there is no such bucket"),
    (
        r"NETWORK_CONNECTION|UNAVAILABLE|CURL|curl|timed? ?out|resolve",
        errno.EHOSTUNREACH,
        "the store does not answer: check the network, and AWS_ENDPOINT_URL of a store that is not Amazon's",
    ),
    (
        r"ACCESS_DENIED|SIGNATURE|INVALID_ACCESS_KEY|TOKEN|Credential|authenticat|PERMISSION_DENIED|Forbidden|Unauthor",
        errno.EACCES,
        "access is refused: check the store's credentials (for s3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "~/.aws, or the machine's role) and what they may do there",
    ),
)


@dataclass(frozen=True)
class Stat:
    """Size in bytes, and when it was put, in nanoseconds since 1970 by the store's clock."""

    st_size: int
    st_mtime_ns: int

    @property
    def st_mtime(self) -> float:
        """In seconds."""
        return self.st_mtime_ns / 1e9


@dataclass(frozen=True, order=True)
class Remote:
    """A file or folder of an object store.

    It reads as a Path does and raises what a Path raises: FileNotFoundError, PermissionError, OSError, each with a
    reason in plain words. A folder is there as long as something is in it.

    Attributes:
        scheme: 's3', 'gs', 'az', ...
        key: bucket and path in it, without slashes at its ends.
        options: the query of its URI, such as 'endpoint_override=localhost:9000&scheme=http'.
        listed: of a file that `iterdir` gives, what it was then: `stat` need not ask for each.
    """

    scheme: str
    key: str
    options: str = ""
    listed: Stat | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_uri(cls, uri: str) -> Remote:
        """The place of a URI.

        Raises:
            UserError: one without a bucket, with credentials, with '..', or with an unknown option.
        """
        scheme, _, rest = uri.partition("://")
        path, _, options = rest.partition("?")
        user, at, host = path.partition("/")[0].rpartition("@")
        if at and (":" in user or scheme not in AZURE):
            raise UserError(
                f"a {scheme}:// place must not hold credentials; they come from the environment (for s3 "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), ~/.aws, or the machine's role"
            )
        parts = [part for part in path.split("/") if part]
        if not parts or path.startswith("/"):
            raise UserError(f"{uri} names no bucket; a place is {scheme}://BUCKET/PATH")
        if at:  # CONTAINER@ACCOUNT.dfs.core.windows.net
            parts[0], options = user, f"account={host.partition('.')[0]}"
        for name, _ in parse_qsl(options, keep_blank_values=True):
            refuse_unknown(f"option of {scheme}://{path}", name, OPTIONS.get(scheme, ()))
        return cls(scheme, parts[0], options).joinpath(*parts[1:])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}" + (f"?{self.options}" if self.options else "")

    def as_uri(self) -> str:
        """Its URI, which `place` reads."""
        return str(self)

    as_posix = as_uri

    # Names

    def joinpath(self, *names: str) -> Remote:
        """A place below this one."""
        parts = [part for name in names for part in str(name).split("/") if part not in ("", ".")]
        if ".." in parts:
            raise UserError(f"{'/'.join(names)!r} would leave {self}; give a name without '..'")
        return Remote(self.scheme, "/".join([self.key, *parts]), self.options)

    __truediv__ = joinpath

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket, and all names of the way."""
        return tuple(self.key.split("/"))

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return Path(self.name).stem

    @property
    def parent(self) -> Remote:
        """The folder that it is in; a bucket is its own."""
        return Remote(self.scheme, self.key.rpartition("/")[0] or self.key, self.options)

    @property
    def parents(self) -> tuple[Remote, ...]:
        """The folders that it is in, the innermost first."""
        ends = range(len(self.parts) - 1, 0, -1)
        return tuple(Remote(self.scheme, "/".join(self.parts[:end]), self.options) for end in ends)

    @property
    def bucket(self) -> Remote:
        """Where all of it lies."""
        return Remote(self.scheme, self.key.partition("/")[0], self.options)

    def with_name(self, name: str) -> Remote:
        """The place of another name beside this one."""
        return self.parent / name

    def relative_to(self, other: Remote) -> str:
        """The part below another place."""
        if not self.key.startswith(f"{other.key}/"):
            raise ValueError(f"{self} is not below {other}")
        return self.key.removeprefix(f"{other.key}/")

    def resolve(self) -> Remote:
        """Itself: it is the same on every machine."""
        return self

    expanduser = resolve

    def is_absolute(self) -> bool:
        """Always."""
        return True

    # What is there

    @property
    def filesystem(self) -> FileSystem:
        """Of pyarrow, for which `key` is the path."""
        return _filesystem(self.scheme, self.bucket.key, self.options, os.getpid())

    def _info(self) -> FileInfo:
        with _in_plain_words(self):
            return self.filesystem.get_file_info(self.key)

    def exists(self) -> bool:
        """Whether a file or a folder is there."""
        return self._info().type.name != "NotFound"

    def is_file(self) -> bool:
        """Whether a file is there."""
        return bool(self._info().is_file)

    def is_dir(self) -> bool:
        """Whether files are below it."""
        return self._info().type.name == "Directory"

    def stat(self) -> Stat:
        """Size and time of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.listed:
            return self.listed
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return Stat(info.size, info.mtime_ns)

    def iterdir(self) -> Iterator[Remote]:
        """Files and folders in it, in the order of names, as they are now; none where it is not there."""
        for info in self._below(recursive=False):
            stat = Stat(info.size, info.mtime_ns) if info.is_file else None
            yield replace(self._place_of(info), listed=stat)

    def glob(self, pattern: str) -> Iterator[Remote]:
        """Those below it whose path fits a pattern such as '*.png' or 'trials/*/config.json'."""
        first, _, rest = pattern.partition("/")
        inside = map(self._place_of, self._below(recursive=False))
        fitting = (p for p in inside if fnmatch.fnmatchcase(p.name, first))
        return itertools.chain.from_iterable(p.glob(rest) for p in fitting) if rest else fitting

    def rglob(self, pattern: str) -> Iterator[Remote]:
        """Files and folders anywhere below it whose name fits a pattern."""
        below = map(self._place_of, self._below(recursive=True))
        return (p for p in below if fnmatch.fnmatchcase(p.name, pattern))

    def files(self) -> list[Remote]:
        """All files below it, in the order of names."""
        return [self._place_of(info) for info in self._below(recursive=True) if info.is_file]

    def _below(self, recursive: bool) -> list[FileInfo]:
        from pyarrow.fs import FileSelector

        with _in_plain_words(self):
            infos = self.filesystem.get_file_info(FileSelector(self.key, allow_not_found=True, recursive=recursive))
        return sorted(infos, key=lambda info: info.path)

    def _place_of(self, info: FileInfo) -> Remote:
        return Remote(self.scheme, info.path.rstrip("/"), self.options)

    # Reading

    def open(self, mode: str = "rb") -> NativeFile:
        """The file as bytes, which are fetched as they are asked for."""
        if mode != "rb":
            raise ValueError(f"{self} is opened for {mode!r}; it is read as bytes, and written by p2d/runs.py")
        with _in_plain_words(self):
            return self.filesystem.open_input_file(self.key)

    def read_bytes(self) -> bytes:
        """All that the file holds."""
        with _in_plain_words(self), self.filesystem.open_input_stream(self.key) as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """All that the file holds, as text."""
        return self.read_bytes().decode(encoding, errors)

    def fetch(self, file: Path) -> None:
        """Copy it into a local file."""
        with _in_plain_words(self), self.filesystem.open_input_stream(self.key) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)

    # Writing

    def put(self, file: Path) -> None:
        """Put a local file here whole: a reader sees what was there before, until all of it is there."""
        with ThreadPoolExecutor(1) as pool:  # where no signal ends it half way: closed early, a part would be there
            pool.submit(self._put, file).result()

    def _put(self, file: Path) -> None:
        import pyarrow as pa

        content = pa.memory_map(str(file)).read_buffer() if file.stat().st_size else b""
        with _in_plain_words(self), self.filesystem.open_output_stream(self.key) as target:
            target.write(content)  # at once: nothing can fail between two parts but the store, which then keeps none

    def copy_to(self, other: Remote) -> None:
        """Copy a file within the store, whole."""
        with _in_plain_words(self):
            self.filesystem.copy_file(self.key, other.key)

    def rename(self, other: Remote) -> Remote:
        """Give a file another name: a copy, and then the removal of the first."""
        self.copy_to(other)
        self.unlink()
        return other

    def remove_below(self) -> None:
        """Remove all files below it."""
        with suppress(FileNotFoundError), _in_plain_words(self):
            self.filesystem.delete_dir(self.key)

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: there are no folders to make."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            with _in_plain_words(self):
                self.filesystem.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise


def place(text: str | Path) -> Path:
    """Where a user's text leads: a local path, or a Remote.

    Raises:
        UserError: an unknown scheme, or one that is not followed by '://'.
    """
    if not isinstance(text, str):
        return text
    parts = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(/{0,2})", text)
    scheme, slashes = (parts[1].lower(), parts[2]) if parts else ("", "")
    if not scheme or not (slashes or scheme in SCHEMES):  # a colon may be part of a name
        return Path(text).expanduser()
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise UserError(f"unknown scheme {scheme}:{slashes} of a place; known: {known}, or a path without one")
    rest = text[len(scheme) + 1 + len(slashes) :]
    if scheme in LOCAL:
        if slashes != "//" or not rest.startswith("/"):
            raise UserError(f"{text} is no place on this machine; it is written file:///PATH")
        return Path(unquote(rest))
    if slashes != "//":
        meant = "" if "@" in rest else f"; did you mean {scheme}://{rest}?"
        raise UserError(f"{scheme}:{slashes} begins neither a path nor a place on an object store{meant}")
    return cast(Path, Remote.of_uri(f"{scheme}://{rest}"))


def as_remote(where: object) -> Remote | None:
    """A place if it is on an object store; None for a Path."""
    return where if isinstance(where, Remote) else None


def uri(where: Path) -> str:
    """What `place` reads as this place, on any machine that sees it."""
    return str(where.resolve())


def arrow_source(file: Path) -> Path | NativeFile:
    """What pyarrow reads a file from: of one on an object store, the parts that it asks for."""
    store = as_remote(file)
    return file if store is None else store.open()


@functools.lru_cache(maxsize=16)
def _filesystem(scheme: str, bucket: str, options: str, process: int) -> FileSystem:
    """The store of a scheme, made once a process: its threads do not survive a fork."""
    from pyarrow import fs

    if scheme in GOOGLE:
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=GIVE_UP_S))
    if scheme in AZURE:
        account = dict(parse_qsl(options)).get("account") or os.environ.get("AZURE_STORAGE_ACCOUNT")
        if not account:
            raise UserError(f"of {scheme}://{bucket} the account is not known: set AZURE_STORAGE_ACCOUNT")
        return fs.AzureFileSystem(account)
    own: dict[str, str | None] = dict(parse_qsl(options))
    own.setdefault("endpoint_override", os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
    if not own["endpoint_override"] and not any(map(os.environ.get, ("AWS_REGION", "AWS_DEFAULT_REGION"))):
        own.setdefault("region", _region(bucket))
    return fs.S3FileSystem(
        connect_timeout=CONNECT_S,
        request_timeout=GIVE_UP_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request
        **{name: value for name, value in own.items() if value},
    )


def _region(bucket: str) -> str | None:
    """Where Amazon keeps a bucket; None where that is not told."""
    from pyarrow import fs

    try:
        return fs.resolve_s3_region(bucket)
    except OSError:
        return None


@contextmanager
def _in_plain_words(where: Remote) -> Iterator[None]:
    """A store's errors as a file system has them: number, reason, place, and nothing that it may say beside."""
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(where)) from error
    except (OSError, ArrowException) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the local file, or told already
        text = str(error).partition("AWS Error ")[2] or str(error)  # without the key, which may hold any word
        for pattern, number, told in TROUBLES:
            if re.search(pattern, text):
                raise OSError(number, told, str(where)) from error
        code = re.search(r"^([A-Z_]+) during|Status\((\w+)", text)
        kind = next(filter(None, code.groups()), "") if code else type(error).__name__
        raise OSError(errno.EREMOTEIO, f"the store fails ({kind})", str(where)) from error
