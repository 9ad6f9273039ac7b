"""VTK XML image data (.vti), as Ready writes it: one snapshot a file, an array for each species.

"VTK File Formats", section "XML File Formats": values in text, in base64, or raw behind all else, plain or in blocks of
zlib.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

import numpy as np

from p2d.errors import UserError
from p2d.formats.containers import Container
from p2d.formats.reading import reading
from p2d.formats.sources import MOST_SNAPSHOT_BYTES, Index, Source
from p2d.formats.stack import About, Asked, Stack

MOST_BYTES = 2**29
MOST_BLOCKS = 2**20
TYPES = {"Float32": "f4", "Float64": "f8"} | {
    f"{sign}Int{bits}": f"{'u' if sign else 'i'}{bits // 8}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMPRESSORS = {"": False, "vtkZLibDataCompressor": True}


@dataclass(frozen=True, eq=False)
class Image:
    """What a file holds.

    Attributes:
        arrays: by name, each [components, rows, columns].
        spacing: along x, y.
        about: what Ready says of them: parameters of its rule, whether edges join.
    """

    arrays: dict[str, np.ndarray]
    spacing: tuple[float, float]
    about: About


@dataclass(frozen=True)
class VtkSource(Source):
    """An array of a file, which is read whole."""

    def values(self, index: Index) -> np.ndarray:
        """See Source."""
        return read_image(self.path, self.size).arrays[self.name][index]


def open_vti(files: list[Path], asked: Asked) -> list[Stack]:
    """Each file as a stack of one snapshot; its arrays are the species where none are named."""
    return [_stack(path, asked) for path in files]


def _stack(path: Path, asked: Asked) -> Stack:
    size = path.stat().st_size
    image = read_image(str(path), size)
    names = ("species", "y", "x")
    arrays: dict[str, Source] = {
        name: VtkSource(str(path), size, name, values.shape, values.dtype.str, names)
        for name, values in image.arrays.items()
    }
    width, height = image.spacing
    notes = () if math.isclose(width, height) else (f"cells are {width:g} wide and {height:g} high: give --spacing",)
    about = replace(image.about, spacing=0.0 if notes else width, notes=notes)
    container = Container(str(path), arrays, about=about)
    own = replace(asked, axes="")
    if not asked.arrays and not (asked.species and set(asked.species) <= set(arrays)):
        own = replace(own, arrays=tuple(arrays))
    return container.stack(own)


@lru_cache(maxsize=2)
def read_image(path: str, size: int) -> Image:
    """The arrays of a .vti file, of so many bytes.

    Raises:
        UserError: not such a file, cut or damaged, or a field of three dimensions.
    """
    if size > MOST_BYTES:
        raise UserError(f"{path} has {size} bytes; .vti files are read up to {MOST_BYTES}")
    with reading(path):
        return _image(path, Path(path).read_bytes())


def _image(path: str, content: bytes) -> Image:
    head, appended = _parts(content)
    root = _tree(path, head)
    grid = root.find("ImageData")
    if root.tag != "VTKFile" or grid is None:
        raise UserError(f"{path} is no VTK image data: it holds {root.get('type', root.tag)}")
    extent = np.array(_attribute(grid, "WholeExtent").split(), int).reshape(3, 2)
    pieces = grid.findall("Piece")
    if len(pieces) != 1:
        raise UserError(f"{path} holds {len(pieces)} pieces; images of one are read")
    points = (extent[:, 1] - extent[:, 0] + 1).tolist()
    spacing = [float(value) for value in grid.get("Spacing", "1 1 1").split()]
    decode = _Decoder(root, grid, appended)
    arrays: dict[str, np.ndarray] = {}
    for kind, shape in (("PointData", points), ("CellData", [max(n - 1, 1) for n in points])):
        for item in pieces[0].findall(f"{kind}/DataArray"):
            if item.get("type") in TYPES:
                name = item.get("Name") or f"array{len(arrays)}"
                arrays[name] = _plane(path, name, decode, item, shape)
    if not arrays:
        raise UserError(f"{path} holds no array of numbers")
    return Image(arrays, (spacing[0], spacing[1]), _about(root, arrays))


def _about(root: Element, arrays: dict[str, np.ndarray]) -> About:
    rule = root.find("RD/rule")
    if rule is None:
        return About()
    values = {param.get("name", ""): (param.text or "").strip() for param in rule.findall("param")}
    values.pop("timestep", None)
    conditions = {name: float(text) for name, text in values.items() if name.isidentifier() and NUMBER.fullmatch(text)}
    components = len(next(iter(arrays.values()))) if len(arrays) == 1 else 0
    species = tuple(ascii_lowercase[:components]) if components > 1 else ()  # as formulas of Ready call them
    return About(species, edges=("periodic", "periodic") if rule.get("wrap") == "1" else None, conditions=conditions)


def _plane(path: str, name: str, decode: _Decoder, item: Element, shape: list[int]) -> np.ndarray:
    columns, rows, depth = shape
    if depth != 1:
        raise UserError(
            f"{path}: {name} is a field of {columns} x {rows} x {depth}: fields of three dimensions are not read; "
            "store one plane of it"
        )
    components = int(item.get("NumberOfComponents", "1"))
    count = components * rows * columns
    if min(components, rows, columns) < 1 or 8 * count > MOST_SNAPSHOT_BYTES:
        raise UserError(f"{path}: {name} claims {components} x {rows} x {columns} values, which is not possible")
    values = decode(item, count)
    if len(values) != count:
        raise UserError(f"{path}: {name} is cut: it holds {len(values)} values of {count}")
    return np.ascontiguousarray(values.reshape(rows, columns, components).transpose(2, 0, 1))


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """The XML, and what is appended: behind '_', which may be anything."""
    begin = content.find(b"<AppendedData")
    if begin < 0:
        return content, b""
    mark = content.index(b"_", content.index(b">", begin))
    end = content.rindex(b"</AppendedData")
    return content[:mark] + content[end:], content[mark + 1 : end]


def _tree(path: str, text: bytes) -> Element:
    """XML as a tree. Types and entities that it declares are refused: they could name files, or grow without end."""
    from xml.parsers import expat

    def refuse(*_: Any) -> None:
        raise UserError(f"{path} declares XML types or entities, which are not read")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    parser.Parse(text, True)
    return builder.close()


def _attribute(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise ValueError(f"{element.tag} has no {name}")
    return value


class _Decoder:
    """Turns the content of a DataArray into numbers."""

    def __init__(self, root: Element, grid: Element, appended: bytes) -> None:
        self.order = ">" if root.get("byte_order") == "BigEndian" else "<"
        self.header = np.dtype(self.order + TYPES[root.get("header_type", "UInt32")])
        self.packed = COMPRESSORS[root.get("compressor", "")]
        self.appended = appended
        element = root.find("AppendedData")
        self.encoding = element.get("encoding", "base64") if element is not None else ""

    def __call__(self, item: Element, count: int) -> np.ndarray:
        """So many numbers."""
        dtype, form = np.dtype(self.order + TYPES[_attribute(item, "type")]), item.get("format", "ascii")
        if form == "ascii":
            words = (item.text or "").split()
            return np.array(words[: count + 1], dtype.newbyteorder("=")) if words else np.empty(0, dtype)
        if form == "binary":
            content = self._decoded((item.text or "").encode(), count * dtype.itemsize, base64_text=True)
        else:
            rest = self.appended[int(_attribute(item, "offset")) :]
            content = self._decoded(rest, count * dtype.itemsize, self.encoding == "base64")
        return np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype).astype(
            dtype.newbyteorder("=")
        )

    def _decoded(self, content: bytes, size: int, base64_text: bool) -> bytes:
        """The bytes of an array that has so many."""
        stream = _Stream(content, base64_text)
        if not self.packed:
            length = int(np.frombuffer(stream.take(self.header.itemsize), self.header)[0])
            return stream.rest(self.header.itemsize, min(length, size))
        first = np.frombuffer(stream.take(3 * self.header.itemsize), self.header)
        blocks = int(first[0])
        if blocks > MOST_BLOCKS:
            raise ValueError(f"it claims {blocks} blocks")
        head = (3 + blocks) * self.header.itemsize
        sizes = np.frombuffer(stream.take(head), self.header)[3:].tolist()
        packed, unpacked = stream.behind(head, sum(sizes)), b""
        for end, length in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
            if (left := size - len(unpacked)) > 0:
                unpacked += zlib.decompressobj().decompress(packed[end - length : end], left)
        return unpacked


@dataclass(frozen=True)
class _Stream:
    """Bytes as they are, or as base64 in which the header of a packed array is encoded on its own."""

    content: bytes
    base64_text: bool

    def take(self, length: int) -> bytes:
        """The first bytes."""
        data = self._from(0, length)
        if len(data) < length:
            raise ValueError("it ends early")
        return data[:length]

    def rest(self, begin: int, length: int) -> bytes:
        """Behind so many bytes, encoded together with them."""
        return self._from(0, begin + length)[begin:]

    def behind(self, begin: int, length: int) -> bytes:
        """Behind so many bytes, encoded apart from them."""
        return self._from(-(-begin // 3) * 4 if self.base64_text else begin, length)[:length]

    def _from(self, start: int, length: int) -> bytes:
        if not self.base64_text:
            return self.content[start : start + length]
        text = self._text[start : start + -(-length // 3) * 4]
        return base64.b64decode(text[: len(text) // 4 * 4], validate=True)

    @property
    def _text(self) -> bytes:
        return self.content.lstrip()
