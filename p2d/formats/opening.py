"""Sources that a user names (files, folders, globs) as stacks of snapshots, by suffix and by their first bytes."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from p2d.errors import UserError, nearest, one_line
from p2d.formats.array_stack import join_species
from p2d.formats.arrays import open_npy, open_npz
from p2d.formats.films import open_films
from p2d.formats.hdf5 import open_hdf5, open_netcdf
from p2d.formats.matlab import open_mat
from p2d.formats.parquets import open_parquet
from p2d.formats.pictures import open_pictures
from p2d.formats.sources import natural
from p2d.formats.stack import Asked, Stack
from p2d.formats.tables import open_text
from p2d.formats.tiff import SUFFIXES as TIFF
from p2d.formats.tiff import open_tiff
from p2d.formats.vtk import open_vti
from p2d.formats.zarrs import open_zarr

Opener = Callable[[list[Path], Asked], list[Stack]]
HEAD_BYTES = 1024
ZARR_MARKS = (".zarray", ".zgroup", "zarr.json")
# First bytes, and what a file is that begins with them.
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive"),
    (rb"(?s:.{512})?\x89HDF\r\n\x1a\n", "HDF5"),
    (rb"MATLAB [5-7]\.\d MAT-file", "a MATLAB file"),
    (rb"CDF[\x01\x02\x05]", "netCDF 3"),
    (rb"PAR1", "parquet"),
    (rb"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+", "a TIFF picture"),
    (rb"GIF8[79]a", "a GIF"),
    (rb"BM(?s:.{12})[\x0c-\x7c]\x00\x00\x00", "a BMP picture"),
    (rb"(?s:.{4})ftyp", "an MP4 film"),
    (rb"RIFF(?s:.{4})AVI ", "an AVI film"),
    (rb"\x1aE\xdf\xa3", "a Matroska film"),
    (rb"\x80[\x02-\x05]", "a Python pickle, which is never loaded"),
    (rb"\x1f\x8b", "gzip-compressed: unpack it first"),
    (rb"%PDF", "a PDF"),
)


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        open: makes stacks of them.
        content: what SIGNATURES may say of them; '' where they begin with nothing of their own.
        sidecar: whether such files often lie beside others, as notes or tables, and count only where nothing else does.
    """

    open: Opener
    content: tuple[str, ...] = ("",)
    sidecar: bool = False


KINDS: dict[str, Kind] = {
    ".npy": Kind(open_npy, ("a NumPy array",)),
    ".npz": Kind(open_npz, ("a zip archive",)),
    ".mat": Kind(open_mat, ("a MATLAB file", "HDF5", "")),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), Kind(open_hdf5, ("HDF5",))),
    **dict.fromkeys((".zarr", ".zarr.zip"), Kind(open_zarr, ("a zip archive",))),
    ".parquet": Kind(open_parquet, ("parquet",)),
    ".vti": Kind(open_vti, ("",)),
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat"), Kind(open_text, ("",), sidecar=True)),
    **dict.fromkeys((".nc", ".nc4", ".cdf", ".netcdf"), Kind(open_netcdf, ("HDF5", "netCDF 3"))),
    ".png": Kind(open_pictures, ("a PNG picture",)),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe"), Kind(open_pictures, ("a JPEG picture",))),
    ".bmp": Kind(open_pictures, ("a BMP picture",)),
    **dict.fromkeys(TIFF, Kind(open_tiff, ("a TIFF picture",))),
    **dict.fromkeys((".mp4", ".m4v"), Kind(open_films, ("an MP4 film",))),
    ".mov": Kind(open_films, ("an MP4 film", "")),
    ".avi": Kind(open_films, ("an AVI film",)),
    **dict.fromkeys((".mkv", ".webm"), Kind(open_films, ("a Matroska film",))),
    ".gif": Kind(open_films, ("a GIF",)),
}


def open_stacks(sources: Sequence[str | Path], asked: Asked) -> list[Stack]:
    """All that the sources hold, in order: stacks of one size with the same species.

    Args:
        sources: files, folders (all that is below, in natural order: a2 before a10), or globs such as 'plates/*.tif'.

    Raises:
        UserError: no such file, nothing in it, a kind that is not read, a file that is not what its name says, is cut
            or cannot be read, or sizes that differ.
    """
    files = [path for source in sources for path in files_of(source)]
    if not files:
        raise UserError("no file is named: give files, folders or globs, such as plates/*.tif")
    stacks = _species_each(files, asked) or _opened(files, asked)
    refuse_mixed(stacks)
    return stacks


def _opened(files: list[Path], asked: Asked) -> list[Stack]:
    stacks: list[Stack] = []
    for suffix, some in groupby(files, suffix_of):
        kind, paths = KINDS[suffix], list(some)
        for path in paths:
            refuse_content(path, suffix)
        try:
            stacks += kind.open(paths, asked)
        except OSError as error:
            raise UserError(f"cannot read {error.filename or paths[0]}: {error.strerror or one_line(error)}") from error
    return stacks


def _species_each(files: list[Path], asked: Asked) -> list[Stack]:
    """The one stack of as many files as species, each of which holds one of them; none where they do not.

    That is so where they are called as species are, or where they make no sense otherwise.
    """
    if not len(files) == len(asked.species) > 1:
        return []
    if [path.name.partition(".")[0] for path in files] != list(asked.species):
        with suppress(UserError):
            return _opened(files, asked)
    with suppress(UserError):
        parts = [_opened([f], replace(asked, species=(name,))) for f, name in zip(files, asked.species, strict=True)]
        return [join_species([part for some in parts for part in some])] if len(parts) == len(files) else []
    return []


def suffix_of(path: Path) -> str:
    """The suffix that tells how to read a file, '' of one that is not read."""
    name = path.name.lower()
    if path.is_dir():
        return ".zarr" if is_zarr(path) and ".zarr" in KINDS else ""
    return max((s for s in KINDS if name.endswith(s)), key=len, default="")


def is_zarr(path: Path) -> bool:
    """Whether a folder is an array or group of Zarr."""
    return any((path / mark).is_file() for mark in ZARR_MARKS)


def files_of(source: str | Path) -> list[Path]:
    """The files (and Zarr folders) that a source means, all of which are read.

    Raises:
        UserError: none, or some that are not.
    """
    text = str(source)
    if "://" in text:
        raise UserError(f"{text} is not on this machine: copy the files here first")
    path = Path(text).expanduser()
    if path.is_dir() and not is_zarr(path):
        return _in_folder(path)
    if path.exists():
        _refuse_suffix(path)
        return [path]
    if any(sign in text for sign in "*?["):
        paths = sorted(map(Path, glob.glob(str(path), recursive=True)), key=lambda p: natural(str(p)))
        if not paths:
            raise UserError(f"no file fits {text}")
        return [one for p in paths for one in files_of(p)]
    raise UserError(_missing(path))


def _missing(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"there is no folder {parent}: {path} cannot be read"
    return f"there is no file {path}{nearest(path.name, (p.name for p in parent.iterdir()))}"


def _refuse_suffix(path: Path) -> None:
    if not suffix_of(path):
        content = content_of(path) if path.is_file() else ""
        holds = f" (it holds {content})" if content else ""
        raise UserError(
            f"{path}{holds}: files called {path.suffix or 'so, without a suffix,'} are not read; read are {_known()}"
        )


def _known() -> str:
    return " ".join(sorted(KINDS))


def _in_folder(folder: Path) -> list[Path]:
    """What is read of all that lies below, in natural order; files of no known kind, and hidden ones, are left out."""
    paths = sorted(_below(folder), key=lambda p: natural(p.relative_to(folder).as_posix()))
    read = [p for p in paths if suffix_of(p)]
    read = [p for p in read if not KINDS[suffix_of(p)].sidecar] or read
    if not paths:
        raise UserError(f"the folder {folder} is empty")
    if not read:
        held = " ".join(sorted({p.suffix or p.name for p in paths})[:8])
        raise UserError(f"the folder {folder} holds no file that is read (it holds {held}); read are {_known()}")
    openers = {KINDS[suffix_of(p)].open for p in read}
    if len(openers) > 1:
        counts = Counter(map(suffix_of, read))
        held = " and ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
        raise UserError(f"the folder {folder} holds {held} files: say which, such as {folder}/*{next(iter(counts))}")
    return read


def _below(folder: Path) -> list[Path]:
    paths: list[Path] = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not is_zarr(path):
            paths += _below(path) if not path.is_symlink() else []
        else:
            paths.append(path)
    return paths


def content_of(path: Path) -> str:
    """What the first bytes of a file say that it is; '' where they say nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise UserError(f"{path} is empty: it has no bytes")
    return next((what for pattern, what in SIGNATURES if re.match(pattern, head)), "")


def refuse_content(path: Path, suffix: str) -> None:
    """Refuse a file that begins as its suffix does not say."""
    if path.is_dir():
        return
    content, expected = content_of(path), KINDS[suffix].content
    if content in expected:
        return
    of_kind = " or ".join(filter(None, expected))
    if content:
        raise UserError(f"{path} holds {content}" + (f"; {suffix} is for {of_kind}" if of_kind else f", not {suffix}"))
    raise UserError(f"{path} is damaged, or not what its name says: it does not begin as {of_kind} does")


def refuse_mixed(stacks: Sequence[Stack]) -> None:
    """Refuse stacks of different sizes or species: all of a dataset are alike."""
    for what, key in (("sizes", _size_text), ("species", _species_text), ("spacings", _spacing_text)):
        example = {key(stack): stack.files[0] for stack in reversed(stacks)}
        counts = Counter(dict.fromkeys(example, 0))
        for stack in stacks:
            counts[key(stack)] += stack.count
        if len(example) > 1:
            some = "; ".join(f"{text} ({count}, such as {example[text]})" for text, count in counts.most_common(5))
            raise UserError(f"the files are of {len(example)} {what}: {some}; import those of one alone")


def _species_text(stack: Stack) -> str:
    return " ".join(stack.about.species)


def _spacing_text(stack: Stack) -> str:
    return f"{stack.about.spacing:.6g} {stack.about.unit}".strip() if stack.about.spacing else "none known"


def _size_text(stack: Stack) -> str:
    species, rows, columns = stack.shape
    return f"{species} species of {rows} x {columns}"
