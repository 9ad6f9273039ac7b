"""Where things go under the output folder: found by name or by path, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2d.errors import UserError, nearest

# What a killed process leaves beside what it was writing: a hidden name with one of these endings.
UNFINISHED, ASIDE = ".tmp", ".old"


@dataclass(frozen=True)
class Kind:
    """A kind of result, each under its name in a folder of the output folder.

    Attributes:
        what: the word for one.
        folder: of the output folder, where they are.
        made_by: the command that makes one.
        mark: the file that tells one from any other folder; '' where every folder may be one.
        is_file: the result is that file, and not its folder.
    """

    what: str
    folder: str
    made_by: str
    mark: str = ""
    is_file: bool = False

    def place(self, out: str | Path, name: str) -> Path:
        """Where the one of this name is, or would be."""
        folder = Path(out) / self.folder / name
        return folder / self.mark if self.is_file else folder

    def holds(self, path: Path) -> bool:
        """Whether there is one in this very place."""
        return path.is_file() if self.is_file else recovered(path).is_dir() and (path / self.mark).exists()

    def names(self, out: str | Path) -> list[str]:
        """Names of those under the output folder."""
        folder = Path(out) / self.folder
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [name for name in there if not name.startswith(".") and self.holds(self.place(out, name))]

    def find(self, out: str | Path, name: str) -> Path:
        """The one of this name under the output folder, or at this path, or of this name without its size.

        Raises:
            UserError: there is none (lists those that there are), or there are several.
        """
        path = Path(name)
        for candidate in (self.place(out, name), path, *((path / self.mark,) if self.is_file else ())):
            if self.holds(candidate):
                return candidate
        names = self.names(out)
        same = [known for known in names if short_name(known) == name]
        if len(same) == 1:
            return self.place(out, same[0])
        if same:
            raise UserError(f"several {self.what}s are called {name!r}: {', '.join(same)}; name one of them")
        close = nearest(name, dict.fromkeys([*names, *map(short_name, names)]))
        held = f"which holds {', '.join(names)}" if names else "which is empty"
        raise UserError(
            f"there is no {self.what} {name!r}{close}, neither as a {'file' if self.is_file else 'folder'} nor under "
            f"{Path(out) / self.folder} ({held}); {self.made_by} makes one"
        )

    def find_or_own(self, out: str | Path, name: str, own: str) -> Path | None:
        """The one of this name; where none is asked for, a dataset's own, if it is there.

        Raises:
            UserError: one is asked for, and is not there.
        """
        if name:
            return self.find(out, name)
        return self.place(out, own) if self.holds(self.place(out, own)) else None


DATA = Kind("dataset", "data", "p2d simulate")
SCORE = Kind("score model", "score", "p2d train-score", "config.json")
FLOW = Kind("flow model", "flow", "p2d train-flow", "config.json")
EQUATION = Kind("equation", "discover", "p2d discover", "equation.json", is_file=True)
REPORT = Kind("report", "report", "p2d evaluate")
SWEEP = Kind("sweep", "sweep", "p2d sweep")


KINDS = (DATA, SCORE, FLOW, EQUATION, REPORT, SWEEP)


def output_folder(where: Path) -> Path:
    """The output folder that a result lies under; its own folder, if it lies under none."""
    folders = [kind.folder for kind in KINDS]
    return next((part.parent for part in where.parents if part.name in folders), where.parent)


def short_name(dataset_name: str) -> str:
    """A dataset's name without its size: 'waves' for 'waves_128x128'."""
    return re.sub(r"_\d+x\d+$", "", dataset_name)


def make_output_folder(path: Path) -> Path:
    """The output folder, made where it is not there.

    Raises:
        UserError: it cannot be made, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the output folder {path}: {error.strerror}; take another --out") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to the output folder {path}; take another --out")
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file, and its folder, so that a reader sees the old one or the new one, never a part.

    Yields:
        Where to write: beside the file, which it becomes when the block ends. If the block fails, nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: several workers may write one file, as when a shard is made twice.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with whole(file) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder so that the old one goes only when the new one is whole.

    Yields:
        An empty folder beside it, which takes its place when the block ends. If the block fails, the old one stays and
        nothing else. Killed at any point, it leaves the old one or the new one, which `recovered` puts in its place.
    """
    temporary, aside = _beside(recovered(folder))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            _flush(file)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(aside)
    if temporary.exists():  # else a reader has found the folder missing, and has put it in its place
        temporary.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def copy_whole(source: Path, folder: Path) -> None:
    """Copy a folder whole or not at all."""
    with whole_folder(folder) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def recovered(folder: Path) -> Path:
    """The folder, which a process that was killed while it put a new one in its place may have left beside it.

    The old one is put aside when the new one is whole, and not before.
    """
    temporary, aside = _beside(folder)
    if aside.exists() and folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        (temporary if temporary.exists() else aside).rename(folder)
    return folder


def remove_unfinished(folder: Path) -> None:
    """Remove the files in a folder that killed processes were writing; nobody may be writing there."""
    for left in folder.glob(f".*{UNFINISHED}"):
        left.unlink(missing_ok=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    """The new folder in the making, and the old one put aside."""
    return folder.parent / f".{folder.name}{UNFINISHED}", folder.parent / f".{folder.name}{ASIDE}"


def _flush(file: Path) -> None:
    """What was written to a file is on the disk: otherwise its new name may be there before it is."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
