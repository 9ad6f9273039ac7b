"""Where things go under the output folder: found by name or by path, written whole or not at all.

On a file system that is done by names: what is written has a hidden one, and takes its own when it is whole and on the
disk. On an object store a put is whole in itself, and a folder is whole when its config.json, put last, is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from p2d.errors import UserError, nearest, one_line
from p2d.places import Remote, as_remote, place

# What a killed process leaves beside what it was writing: a hidden name with one of these endings.
UNFINISHED, ASIDE = ".tmp", ".old"
LAST = "config.json"  # of the files of a folder on an object store
LONGEST_PART, LONGEST_NAME = 255, 200  # bytes that file systems take; those of a name, which endings are added to


def is_name(name: str) -> bool:
    """Whether a folder may be called so: no path, nothing hidden, nothing that does not print."""
    return name.isprintable() and not re.search(r"[/\\]|^\.|^$", name) and len(name.encode()) <= LONGEST_NAME


def refuse_no_name(name: str, what: str) -> None:
    """Refuse a name that cannot be a folder's of its own.

    Raises:
        UserError: it is a path, hidden, empty, too long, or does not print.
    """
    if not is_name(name):
        raise UserError(
            f"no {what} can be called {_shown(name)}: a name is no path, does not begin with a dot, and has 1 to "
            f"{LONGEST_NAME} bytes; take another --name"
        )


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


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
        """Where the one of this name is, or would be.

        Raises:
            UserError: the name would lead elsewhere, or is none of a folder.
        """
        refuse_no_name(name, self.what)
        folder = place(out) / self.folder / name
        return folder / self.mark if self.is_file else folder

    def holds(self, path: Path) -> bool:
        """Whether there is one in this very place."""
        return path.is_file() if self.is_file else recovered(path).is_dir() and (path / self.mark).exists()

    def names(self, out: str | Path) -> list[str]:
        """Names of those under the output folder."""
        folder = place(out) / self.folder
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [name for name in there if is_name(name) and self.holds(self.place(out, name))]

    def find(self, out: str | Path, name: str) -> Path:
        """The one of this name under the output folder, or at this path, or of this name without its size.

        Raises:
            UserError: there is none (lists those that there are), or there are several.
        """
        path = place(name)
        if not name.isprintable() or max(map(len, map(os.fsencode, path.parts)), default=0) > LONGEST_PART:
            raise UserError(f"no {self.what} can be called {_shown(name)}; give its name or its path")
        path = path if path.name.strip(".") else path.resolve()  # what is named after it is not called '.' or '..'
        own = [self.place(out, name)] if is_name(name) else []
        for candidate in (*own, path, *((path / self.mark,) if self.is_file else ())):
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
            f"{place(out) / self.folder} ({held}); {self.made_by} makes one"
        )

    def find_or_own(self, out: str | Path, name: str, own: str) -> Path | None:
        """The one of this name; where none is asked for, a dataset's own, if it is there.

        Raises:
            UserError: one is asked for, and is not there.
        """
        if name:
            return self.find(out, name)
        return self.place(out, own) if self.holds(self.place(out, own)) else None


DATA = Kind("dataset", "data", "p2d simulate or p2d import")
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
    if (store := as_remote(path)) is not None:
        _refuse_unwritable(store)
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the output folder {path}: {error.strerror}; take another --out") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to the output folder {path}; take another --out")
    return path


def _refuse_unwritable(folder: Remote) -> None:
    """Refuse a folder of an object store in which a file cannot be put and removed."""
    probe = folder / f".{uuid.uuid4().hex}{UNFINISHED}"
    try:
        with whole(cast(Path, probe)) as empty:
            empty.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to the output folder {folder}: {error.strerror}; or take another --out"
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file, and its folder, so that a reader sees the old one or the new one, never a part.

    Yields:
        Where to write: a local file, which it becomes when the block ends. If the block fails, nothing is left.
    """
    if (store := as_remote(path)) is not None:
        with _scratch() as folder:
            yield folder / path.name
            store.put(folder / path.name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: several workers may write one file, as when a shard is made twice.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with whole(file) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def read_json(file: Path, *entries: str) -> dict[str, Any]:
    """A JSON file that holds a table, with these entries among others.

    Raises:
        UserError: it is damaged.
    """
    try:
        values = json.loads(file.read_text())
        if not isinstance(values, dict) or not values.keys() >= set(entries):
            raise ValueError(f"no table with {', '.join(entries) or 'entries'}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({one_line(error)}); remove it, and run what made it again") from error
    return values


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder so that the old one goes only when the new one is whole.

    Yields:
        An empty local folder, which takes its place when the block ends. If the block fails, the old one stays and
        nothing else. Killed at any point, it leaves the old one or the new one, which `recovered` puts in its place.
    """
    if (store := as_remote(folder)) is not None:
        with _scratch() as made:
            yield made
            _put_folder(made, store)
        return
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
    _flush_names(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _put_folder(made: Path, folder: Remote) -> None:
    """Put a folder on an object store whole.

    There is no renaming of folders there. So a new one is put beside an old one that is whole; when it is whole itself,
    `recovered` copies it into its place file by file, and whoever comes to the folder after a kill goes on with that.
    Until the last file is copied the new one is whole beside it; until the first one is, the old one in its place.
    """
    own = sorted(filter(Path.is_file, made.rglob("*")), key=lambda file: (file == made / LAST, file))
    if own[-1:] != [made / LAST]:
        raise ValueError(f"{folder} needs a {LAST}, which is put last")
    _recover_remote(folder)
    is_new = not (folder / LAST).is_file()
    target = folder if is_new else _beside_remote(folder)
    remove(cast(Path, target))
    for file in own:
        (target / file.relative_to(made).as_posix()).put(file)
    if not is_new:
        recovered(cast(Path, folder))
        for left in folder.files():
            if not (made / left.relative_to(folder)).exists():
                left.unlink(missing_ok=True)


def copy_whole(source: Path, folder: Path) -> None:
    """Copy a folder whole or not at all."""
    with fetched(source) as local, whole_folder(folder) as temporary:
        shutil.copytree(local, temporary, dirs_exist_ok=True)


@contextmanager
def fetched(where: Path) -> Iterator[Path]:
    """A file or folder as a local one of its name, for what can read no other; a copy of one on an object store."""
    if (store := as_remote(where)) is None:
        yield where
        return
    with _scratch() as folder:
        local = folder / store.name
        if store.is_file():
            store.fetch(local)
        else:
            local.mkdir()
            for file in store.files():
                target = local / file.relative_to(store)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.fetch(target)
        yield local


def remove(folder: Path) -> None:
    """Remove a folder, if it is there; on an object store its last file first, so that it never passes for whole."""
    if (store := as_remote(folder)) is not None:
        (store / LAST).unlink(missing_ok=True)
        store.remove_below()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def recovered(folder: Path) -> Path:
    """The folder, which a process that was killed while it put a new one in its place may have left beside it.

    The old one is put aside when the new one is whole, and not before.
    """
    if (store := as_remote(folder)) is not None:
        _recover_remote(store)
        return folder
    temporary, aside = _beside(folder)
    if aside.exists() and folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        (temporary if temporary.exists() else aside).rename(folder)
    return folder


def _recover_remote(folder: Remote) -> None:
    """Copy the new folder that is whole beside this one, if there is one, into its place; nothing else is removed."""
    beside = _beside_remote(folder)
    if not (beside / LAST).is_file():
        return
    with suppress(FileNotFoundError):  # another process has copied all of it, and removes it
        for file in sorted(beside.files(), key=lambda file: file == beside / LAST):
            file.copy_to(folder / file.relative_to(beside))
        remove(cast(Path, beside))


def remove_unfinished(folder: Path) -> None:
    """Remove the files in a folder that killed processes were writing; nobody may be writing there."""
    if as_remote(folder) is not None:  # which shows nothing that is not whole
        return
    for left in folder.glob(f".*{UNFINISHED}"):
        left.unlink(missing_ok=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    """The new folder in the making, and the old one put aside."""
    return folder.parent / f".{folder.name}{UNFINISHED}", folder.parent / f".{folder.name}{ASIDE}"


def _beside_remote(folder: Remote) -> Remote:
    return folder.with_name(f".{folder.name}{UNFINISHED}")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A local folder while the block runs."""
    with tempfile.TemporaryDirectory(prefix="p2d-") as folder:
        yield Path(folder)


def _flush(file: Path) -> None:
    """What was written to a file is on the disk: otherwise its new name may be there before it is."""
    opened = os.open(file, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _flush_names(folder: Path) -> None:
    """A new name is on the disk before what is written next: no shard survives a power cut that its card does not."""
    with suppress(OSError):  # some network folders cannot
        _flush(folder)
